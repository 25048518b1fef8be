"""One run from a configuration: train, choose the epoch on development data, test once, write it all down."""

import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from callbacks.averaging import ExponentialAverage
from callbacks.evaluation import Evaluation, write_predictions
from callbacks.figures import write_figures
from callbacks.health import AdversaryHealth
from callbacks.interference import Interference
from callbacks.interruption import Interrupted, Interruption
from callbacks.progress import Progress
from callbacks.resuming import LastCheckpoint
from callbacks.schedule import AdversarialSchedule
from callbacks.summary import print_summary
from datamodules.datamodule import SpeechDataModule
from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS
from experiments import novelty
from experiments.allocation import keep_freed_memory
from experiments.calibration import calibration
from experiments.commands import BAD_INPUT
from experiments.config import Config, Matmul, Precision, TrainerSettings, save
from experiments.files import (
    BEST,
    LAST,
    SECONDS_TO_END,
    check_links,
    held,
    make_folder,
    read_json,
    understood,
    write_json,
)
from experiments.loggers import MetricsFile, log_results, logged
from experiments.records import CheckpointFiles, environment, last_checkpoint, read_checkpoint, resumed_from
from experiments.sweep import member
from experiments.teachers import read_teachers
from lightning_modules import processes
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.heads import Head

SHOWN_RECONSTRUCTIONS = 4
SPLITS = ("dev", "test")

ACCELERATORS: dict[str, tuple[type[Accelerator], ...]] = {
    "auto": (CUDAAccelerator, MPSAccelerator, CPUAccelerator),
    "gpu": (CUDAAccelerator, MPSAccelerator),
    "cuda": (CUDAAccelerator,),
    "mps": (MPSAccelerator,),
    "cpu": (CPUAccelerator,),
}
"""What ``trainer.accelerator`` may be, and what it stands for, in order."""


def train(
    config: Config,
    callbacks: Sequence[Callback] = (),
    resume: Path | None = None,
    interruption: Interruption | None = None,
) -> Path:
    """Trains, and evaluates the epoch that was best on development data; prints the run folder last.

    All processes of a distributed run call this; only the first one writes and prints.

    Args:
        config: What ``load`` reads.
        callbacks: The caller's own, called after those of the experiment.
        resume: An unfinished run of this configuration, to go on with; without, a new one is begun.
        interruption: Hears signals, if somebody has it listen.

    Returns:
        The run folder.

    Raises:
        InputError: Something in the configuration, the corpora or the machine cannot be used, or another process is
            making the run.
        Interrupted: A signal asked to stop; what was trained is saved.
    """
    interruption = interruption or Interruption()
    prepare_machine(config.trainer)
    data = make_data(config)
    module = make_module(config, data)
    if config.model.features.normalise == "training":
        module.features.fit(data.training_utterances())
    module.learn_from(*read_teachers(config, data))
    if config.trainer.compile:
        module.compile_for_training()
    _check_monitor(config.trainer.monitor, module, data)
    _check_adaptation(config)

    name = config.run or f"{datetime.now():%Y%m%d-%H%M%S}-fold{config.split.fold}-seed{config.seed}"
    folder = resume or Path(config.output, config.experiment, name)
    if resume:
        check_links(resume)
    last = last_checkpoint(folder) if resume else None
    training = _training_callbacks(config, module.total_steps)
    metrics = MetricsFile(folder / "metrics.csv")
    saving = LastCheckpoint(folder / LAST, config.trainer.checkpoint_minutes, metrics, interruption)
    checkpoints = [_best_checkpoint((folder / BEST).parent, config.trainer.monitor), saving]
    trainer = make_trainer(config, [Evaluation(data.labels.emotions), *training, *callbacks, *checkpoints])
    _check_batches(data, trainer)
    here = environment(data.collection, config.trainer.teachers)
    with ExitStack() as stack:
        loggers: list[Logger] = []
        if trainer.is_global_zero:
            if not resume:
                make_folder(folder)
            stack.enter_context(held(folder))
            identity = _begin(config, data, folder, here, resumed=resume is not None)
            loggers = stack.enter_context(logged(config, folder, metrics, identity))
        trainer.loggers = loggers
        stack.enter_context(_ending_together(trainer))
        with interruption.kept(), resumed_from(last):
            trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)

        # Processes that started at another second have another name in mind.
        folder = Path(trainer.strategy.broadcast(str(folder)))
        checkpoint = read_checkpoint(folder / BEST)
        evaluation = score(config, module, data, checkpoint, config.trainer.test)
        faults = _from_all_processes(data.faults)
        if trainer.is_global_zero:
            results = {
                "experiment": config.experiment,
                "seed": config.seed,
                "fold": config.split.fold,
                "synthetic": data.synthetic,
                "best_epoch": checkpoint["epoch"],
                "parameters": module.parameter_count,
                "labelled": len(data.pools[0]),
                "device": _device_name(trainer.strategy.root_device),
                "train_seconds": saving.seconds,
                "unreadable_files": faults,
                **_scores(evaluation),
                "calibration": calibration(evaluation.predictions),
            }
            _write(config, module, data, folder, loggers, evaluation, results, checkpoint["state_dict"])
        processes.leave()
    if trainer.is_global_zero:
        print_summary(results, data.report)
        print(folder, flush=True)
    return folder


def _begin(config: Config, data: SpeechDataModule, folder: Path, here: dict[str, Any], resumed: bool) -> str:
    """Writes down what is known before the first step; returns the name of the W&B run.

    Raises:
        InputError: The corpora are not those that the run was begun with.
    """
    file = folder / "environment.json"
    if not resumed:
        save(config, folder / "config.yaml")
        write_json(folder / "data_report.json", data.report)
    new = {"wandb": member.run_id() or secrets.token_hex(4), "resumed": []}
    known = read_json(file) if resumed and file.exists() else here | new
    with understood(file):
        changed = [name for name, sha256 in here["manifests"].items() if known["manifests"].get(name) != sha256]
        identity: str = known["wandb"]
        if not (isinstance(identity, str) and re.fullmatch(r"[\w-]+", identity)):
            raise ValueError(f"its wandb is {identity!r}")
        if not isinstance(known["resumed"], list):
            raise TypeError("its resumed is no list")
    if changed:
        raise InputError(
            f"{folder} cannot go on: since it was begun, {', '.join(changed)} has changed",
            "Bring back what was there, or begin a new run.",
        )
    if resumed:
        known["resumed"].append({name: here[name] for name in ("command", "git", "machine", "packages")})
        write_json(folder / "data_report.json", data.report)
    write_json(file, known)
    return identity


def evaluate(config: Config, folder: Path) -> dict[str, Any]:
    """Scores a run's best checkpoint again, and prints the scores and whether they are those of the run.

    The test set is scored even where the run itself did without (``trainer.test``).

    Args:
        config: The run's configuration, where wanted with other settings of the trainer or other places of the corpora.
        folder: The run folder, in which nothing is changed.

    Returns:
        ``dev`` and ``test`` scores, and ``identical``: whether those that the run has too equal them to the last digit.

    Raises:
        InputError: The run is not complete, its corpora are not there, or the model does not fit its checkpoint.
    """
    known = read_json(folder / "results.json")
    checkpoint = read_checkpoint(folder / BEST)
    prepare_machine(config.trainer)
    data = make_data(config)
    evaluation = score(config, make_module(config, data), data, checkpoint)
    scores = _scores(evaluation)
    identical = all(scores[split] == known[split] for split in scores if split in known)
    with understood(folder):
        _tell({**known, **scores}, identical, folder, data)
    processes.leave()
    return {**scores, "identical": identical}


def make_novelty(config: Config, folder: Path) -> None:
    """Writes what novelty is told by into the folder of a run that was made without, and prints where.

    Args:
        config: The run's configuration, where wanted with other places of the corpora.
        folder: The run folder.

    Raises:
        InputError: As ``evaluate``.
    """
    read_json(folder / "results.json")
    checkpoint = read_checkpoint(folder / BEST)
    prepare_machine(config.trainer)
    data = make_data(config)
    module = make_module(config, data)
    evaluation = score(config, module, data, checkpoint, test=False)
    found = novelty.describe(module, checkpoint["state_dict"], data, evaluation.predictions["dev"].code)
    _keep_novelty(folder, found)
    processes.leave()


def score(
    config: Config,
    module: AdversarialAutoencoder,
    data: SpeechDataModule,
    checkpoint: dict[str, Any],
    test: bool = True,
) -> Evaluation:
    """Scores a checkpoint on development and test data; the test set is read here and nowhere else.

    Args:
        config: The run's configuration.
        module: Its model.
        data: Its data.
        checkpoint: Weights to score.
        test: Whether the test set is scored, too.

    Returns:
        The scores, with the predictions behind them.

    Raises:
        InputError: The checkpoint is of another model.
    """
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise InputError(
            f"the checkpoint does not fit the model: {error}",
            "Give no settings of the model, the run knows its own; if another version of this program made the run, "
            "its environment.json names the commit.",
        ) from error
    scales = {one.corpus: {name: one.scale(name) for name in DIMENSIONS} for one in data.collection.manifests}
    evaluation = Evaluation(data.labels.emotions, collect=True, scales=scales)
    # Not the trainer that trained: its last average of the weights would take the place of the checkpoint's.
    trainer = make_trainer(config, [evaluation])
    with _ending_together(trainer):
        trainer.validate(module, datamodule=data, verbose=False)
        if test and config.model.adaptation.wanted:
            module.adapt(data.adaptation_utterances)
        if test:
            trainer.test(module, datamodule=data, verbose=False)
    return evaluation


@contextmanager
def _ending_together(trainer: Trainer) -> Iterator[None]:
    """Ends the processes that this one started with it, and this one with the exit code of one that could not go on."""
    try:
        yield
    except BaseException as error:
        started: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
        if isinstance(error, RuntimeError | Interrupted):  # another one may have failed first, or be about to end
            until = time.monotonic() + SECONDS_TO_END
            while any(one.poll() is None for one in started) and time.monotonic() < until:
                time.sleep(0.1)
        for one in started:
            one.kill()
        if isinstance(error, RuntimeError) and any(one.returncode == BAD_INPUT for one in started):
            raise SystemExit(BAD_INPUT) from error  # it has told why
        raise


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    """Of each split that was scored."""
    return {split: evaluation.scores(split) for split in SPLITS if split in evaluation.predictions}


def make_data(config: Config) -> SpeechDataModule:
    """The data of a configuration, split and checked."""
    data = SpeechDataModule(
        config.data, config.split, config.model.features.sample_rate, config.seed, config.model.tasks
    )
    data.prepare_data()
    data.setup()
    return data


def make_module(config: Config, data: SpeechDataModule) -> AdversarialAutoencoder:
    """The model of a configuration, with initial weights from its seed.

    Raises:
        InputError: Settings of the model do not fit each other or the data.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    total_steps = config.trainer.epochs * data.steps_per_epoch
    try:
        return AdversarialAutoencoder(config.model, data.labels, total_steps, config.seed)
    except ValueError as error:
        raise InputError(
            f"the model cannot be built: {error}", "Give other values under model, in the experiment or as key=value."
        ) from error


def make_trainer(config: Config, callbacks: list[Callback]) -> Trainer:
    """Lightning's trainer for a configuration, which logs nothing until it is given loggers."""
    settings = config.trainer
    trainer = Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        precision=cast(Any, settings.precision),
        max_epochs=settings.epochs,
        gradient_clip_val=settings.gradient_clip or None,
        callbacks=[*callbacks, Progress(settings.monitor)],
        plugins=[CheckpointFiles()],
        logger=False,
        # The run folder's files are asked for by name.
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        # The samplers share the work themselves: Lightning's would pad with duplicates.
        use_distributed_sampler=False,
        deterministic="warn" if settings.deterministic else False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # all that is logged is logged by the epoch
    )
    # Lightning's handlers talk to other processes, and save, wherever a signal finds them: ``Interruption`` hears those
    # that count.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def prepare_machine(settings: TrainerSettings) -> None:
    """Checks that the machine has what the trainer asks for, and settles what is left to the machine.

    Args:
        settings: Of the trainer; where the precision is ``auto``, it is changed to what that is here.

    Raises:
        InputError: The machine has not what is asked for, or there is no such thing.
    """
    for name, choices in (("precision", get_args(Precision)), ("matmul", get_args(Matmul))):
        if getattr(settings, name) not in choices:
            raise InputError(f"trainer.{name} is {getattr(settings, name)!r}", f"Choose from: {', '.join(choices)}.")
    wanted = settings.accelerator
    if wanted not in ACCELERATORS:
        raise InputError(f"trainer.accelerator is {wanted!r}", f"Choose from: {', '.join(ACCELERATORS)}.")
    found = next((kind for kind in ACCELERATORS[wanted] if kind.is_available()), None)
    if found is None:
        raise InputError(
            f"trainer.accelerator is {wanted!r}, but PyTorch {torch.__version__} finds no such GPU",
            "Use trainer.accelerator=auto, or install a PyTorch build and a driver for the GPU.",
        )
    if found is not CPUAccelerator and settings.devices > found.auto_device_count():
        raise InputError(
            f"trainer.devices is {settings.devices}, and this machine has {found.auto_device_count()} GPUs",
            "Give as many devices as there are, or trainer.accelerator=cpu.",
        )
    if settings.precision == "auto":
        settings.precision = "bf16-mixed" if _computes_in_bfloat16(found) else "32-true"
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if found is CUDAAccelerator:
        torch.set_float32_matmul_precision(settings.matmul)
    keep_freed_memory()
    # Beside deterministic algorithms PyTorch fills new memory with NaN, to show what is read before it is written: a
    # pass over all that a step makes, and nothing here is.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _computes_in_bfloat16(kind: type[Accelerator]) -> bool:
    """Whether there are instructions for it: to go without is slower than float32."""
    if kind is CUDAAccelerator:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind is CPUAccelerator:
        known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older PyTorch does not tell
        return any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return False


def _check_monitor(monitor: str, module: AdversarialAutoencoder, data: SpeechDataModule) -> None:
    """Checks that the score that chooses the epoch will be there, before the first epoch and not after it."""
    predicted = {head.task.prediction for head in module.heads.values() if isinstance(head, Head) and head.task.predict}
    truths = data.development_pool.labels(np.arange(len(data.development_pool)))
    emotion, dimensions = truths["emotion"], truths["dimensions"]
    there = []
    if "emotion" in predicted and (emotion >= 0).any():
        classes = np.unique(emotion[emotion >= 0])
        there += ["dev/uar", "dev/accuracy", *(f"dev/recall/{data.labels.emotions[index]}" for index in classes)]
    if "dimensions" in predicted and (rated := np.isfinite(dimensions).any(axis=0)).any():
        there += ["dev/ccc", *(f"dev/ccc/{name}" for name, known in zip(DIMENSIONS, rated, strict=True) if known)]
    if monitor not in there:
        raise InputError(
            f"trainer.monitor is {monitor!r}, which is no score of this experiment's heads on its development data",
            f"Choose from: {', '.join(there)}." if there else "Give it a head emotion or dimensions, and data for it.",
        )


def _check_adaptation(config: Config) -> None:
    if config.model.adaptation.wanted and not config.split.adaptation_speakers:
        raise InputError(
            "model.adaptation needs speech of the tested corpora by speakers who are not tested, and there are none",
            "Give split.adaptation_speakers=<number>, which needs split.protocol=cross_corpus.",
        )


def _check_batches(data: SpeechDataModule, trainer: Trainer) -> None:
    """Checks that the quotas can be filled and shared, before there is a run folder."""
    data.trainer = trainer
    data.train_dataloader()


def _training_callbacks(config: Config, total_steps: int) -> list[Callback]:
    if config.model.consistency.weight > 0 and not (config.trainer.average or config.trainer.teachers):
        raise InputError(
            f"model.consistency.weight is {config.model.consistency.weight:g}, and trainer.average is 0",
            "The average of the weights is the teacher: give trainer.average=0.995 or trainer.teachers=[<run folder>], "
            "or model.consistency.weight=0.",
        )
    callbacks: list[Callback] = [AdversarialSchedule(config.schedule, total_steps), AdversaryHealth()]
    if config.trainer.average:
        callbacks.append(ExponentialAverage(config.trainer.average))
    if config.trainer.gradients:
        callbacks.append(Interference(config.trainer.gradients))
    if config.trainer.patience:
        callbacks.append(EarlyStopping(config.trainer.monitor, mode="max", patience=config.trainer.patience))
    return callbacks


def _best_checkpoint(folder: Path, monitor: str) -> Callback:
    return ModelCheckpoint(folder, BEST.stem, monitor=monitor, mode="max", enable_version_counter=False)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _from_all_processes(faults: list[str]) -> list[str]:
    if not torch.distributed.is_initialized():
        return faults
    gathered: list[list[str]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(gathered, faults)
    return sorted({fault for of_process in gathered for fault in of_process})


def _write(
    config: Config,
    module: AdversarialAutoencoder,
    data: SpeechDataModule,
    folder: Path,
    loggers: list[Logger],
    evaluation: Evaluation,
    results: dict[str, Any],
    weights: dict[str, torch.Tensor],
) -> None:
    """Writes results, predictions, figures and what novelty is told by, and hands everything to W&B."""
    for split, predictions in evaluation.predictions.items():
        write_predictions(
            folder / f"predictions_{split}.csv", predictions, data.collection.lookup, data.labels.emotions
        )
    write_figures(
        folder / "figures",
        predictions=evaluation.predictions,
        classes=data.labels.emotions,
        lookup=data.collection.lookup,
        metrics_csv=folder / "metrics.csv",
        best_epoch=results["best_epoch"],
        reconstructions=_reconstructions(module, data),
        seconds_per_frame=config.model.features.hop_ms / 1000,
        synthetic=data.synthetic,
        loggers=loggers,
    )
    # After the figures: of a model that was adapted to the tested corpora they show that one.
    novelty.write(folder, novelty.describe(module, weights, data, evaluation.predictions["dev"].code))
    # The last of the files: where it is, the run is complete.
    write_json(folder / "results.json", results)
    log_results(loggers, folder, config, results)


def _reconstructions(module: AdversarialAutoencoder, data: SpeechDataModule) -> tuple[list[Any], list[Any]] | None:
    if module.decoder is None:
        return None
    module.eval()
    batch = next(iter(data.val_dataloader()))
    chosen = slice(None, None, max(1, len(batch) // SHOWN_RECONSTRUCTIONS))
    log_mel, reconstruction, frames = module.reconstruct(batch.waveform[chosen], batch.length[chosen])
    pairs = list(zip(log_mel, reconstruction, frames.tolist(), strict=True))[:SHOWN_RECONSTRUCTIONS]
    return [a[:, :n].numpy() for a, _, n in pairs], [b[:, :n].numpy() for _, b, n in pairs]


@rank_zero_only
def _keep_novelty(folder: Path, found: novelty.Novelty) -> None:
    novelty.write(folder, found)
    print(folder / novelty.FILE, flush=True)


@rank_zero_only
def _tell(results: dict[str, Any], identical: bool, folder: Path, data: SpeechDataModule) -> None:
    """Prints the scores, and whether they are those of the run."""
    print_summary(results, None)
    file = folder / "results.json"
    if identical:
        untested = "" if "test" in read_json(file) else " What it says of the test set is not written there."
        print(f"Identical to {file}, to the last digit.{untested}")
        return
    before = read_json(folder / "environment.json").get("manifests", {})
    changed = [one.corpus for one in data.collection.manifests if before.get(one.corpus) != one.sha256]
    why = f" These corpora have changed: {', '.join(changed)}." if changed else ""
    print(f"NOT identical to {file}.{why}")
