"""One run from a configuration: train, choose the epoch on development data, test once, write it all down."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger, WandbLogger

from callbacks.averaging import ExponentialAverage
from callbacks.evaluation import Evaluation, write_predictions
from callbacks.figures import write_figures
from callbacks.health import AdversaryHealth
from callbacks.progress import Progress
from callbacks.schedule import AdversarialSchedule
from callbacks.summary import print_summary
from datamodules.datamodule import SpeechDataModule
from datamodules.errors import InputError
from experiments import config as configuration
from experiments.config import Config
from experiments.loggers import log_artifact, make_loggers
from experiments.records import environment, make_folder, read_json, write_json
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder

SHOWN_RECONSTRUCTIONS = 4


def train(config: Config) -> Path:
    """Trains, and evaluates the epoch that was best on development data.

    Returns:
        The run folder.

    Raises:
        InputError: Something in the configuration, the corpora or the machine cannot be used.
    """
    _check_devices(config)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    data = make_data(config)
    data.prepare_data()
    data.setup()

    name = config.run or f"{datetime.now():%Y%m%d-%H%M%S}-fold{config.split.fold}-seed{config.seed}"
    folder = make_folder(config.output, config.experiment, name)
    configuration.save(config, folder / "config.yaml")
    write_json(folder / "data_report.json", data.report)
    write_json(folder / "environment.json", environment(data.collection))

    module = make_module(config, data)
    loggers = make_loggers(config, folder)
    evaluation = Evaluation(data.labels.emotions)
    best = ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename="best",
        monitor=config.trainer.monitor,
        mode="max",
        save_last=True,
        enable_version_counter=False,
    )
    trainer = make_trainer(
        config, folder, loggers, [evaluation, *_training_callbacks(config, module.total_steps), best]
    )
    started = time.monotonic()
    trainer.fit(module, datamodule=data)
    train_seconds = time.monotonic() - started

    scores = score(config, module, data, folder, trainer, evaluation)
    results = {
        "experiment": config.experiment,
        "seed": config.seed,
        "fold": config.split.fold,
        "synthetic": data.synthetic,
        "best_epoch": _load_checkpoint(folder)["epoch"],
        "parameters": module.parameter_count,
        "train_seconds": train_seconds,
        "unreadable_files": data.faults,
        **scores,
    }
    write_json(folder / "results.json", results)
    _finish(config, module, data, folder, loggers, evaluation, results)
    return folder


def evaluate(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Scores a run's best checkpoint again.

    Args:
        folder: Run folder.
        overrides: Settings that win over the run's own (of the trainer, or where the corpora are).

    Returns:
        ``dev`` and ``test`` scores, and ``identical``: whether they equal those of the run to the last digit.
    """
    config = configuration.override(configuration.load_resolved(folder / "config.yaml"), overrides)
    _check_devices(config)
    known = read_json(folder / "results.json")
    data = make_data(config)
    data.prepare_data()
    data.setup()
    module = make_module(config, data)
    evaluation = Evaluation(data.labels.emotions)
    trainer = make_trainer(config, folder, [], [evaluation])
    scores = score(config, module, data, folder, trainer, evaluation)
    return {**scores, "identical": all(scores[split] == known[split] for split in scores)}


def score(
    config: Config,
    module: AdversarialAutoencoder,
    data: SpeechDataModule,
    folder: Path,
    trainer: Trainer,
    evaluation: Evaluation,
) -> dict[str, Any]:
    """Scores of the best checkpoint on development and test data; the test set is read here and nowhere else."""
    module.load_state_dict(_load_checkpoint(folder)["state_dict"])
    evaluation.collect = True
    trainer.validate(module, datamodule=data, verbose=False)
    trainer.test(module, datamodule=data, verbose=False)
    return {split: evaluation.scores(split) for split in ("dev", "test")}


def make_data(config: Config) -> SpeechDataModule:
    """The data module of a configuration."""
    return SpeechDataModule(config.data, config.split, config.model.features.sample_rate, config.seed)


def make_module(config: Config, data: SpeechDataModule) -> AdversarialAutoencoder:
    """The model of a configuration, with initial weights from its seed.

    Raises:
        InputError: Settings of the model do not fit each other or the data.
    """
    seed_everything(config.seed, workers=True, verbose=False)
    total_steps = config.trainer.epochs * data.steps_per_epoch
    try:
        module = AdversarialAutoencoder(config.model, data.labels, total_steps, config.seed)
    except ValueError as error:
        raise InputError(f"model: {error}") from error
    if config.model.features.normalise == "training":
        module.features.fit(data.training_utterances())
    return module


def make_trainer(config: Config, folder: Path, loggers: list[Logger], callbacks: list[Callback]) -> Trainer:
    """Lightning's trainer for a configuration."""
    settings = config.trainer
    return Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        precision=settings.precision,  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        gradient_clip_val=settings.gradient_clip or None,
        callbacks=[*callbacks, Progress(settings.monitor)],
        logger=loggers,
        default_root_dir=folder,
        # The samplers share the work themselves: Lightning's would pad with duplicates.
        use_distributed_sampler=False,
        deterministic="warn",
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )


def _training_callbacks(config: Config, total_steps: int) -> list[Callback]:
    callbacks: list[Callback] = [AdversarialSchedule(config.schedule, total_steps), AdversaryHealth()]
    if config.trainer.average:
        callbacks.append(ExponentialAverage(config.trainer.average))
    if config.trainer.patience:
        callbacks.append(EarlyStopping(config.trainer.monitor, mode="max", patience=config.trainer.patience))
    return callbacks


def _load_checkpoint(folder: Path) -> dict[str, Any]:
    path = folder / "checkpoints" / "best.ckpt"
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", "Give the folder of a finished run.") from error
    except Exception as error:
        raise InputError(f"the checkpoint {path} cannot be read: {error}") from error
    return checkpoint


def _check_devices(config: Config) -> None:
    wanted = config.trainer.accelerator
    if wanted in {"gpu", "cuda"} and not torch.cuda.is_available():
        raise InputError(
            f"trainer.accelerator is {wanted!r}, but PyTorch {torch.__version__} finds no GPU",
            "Use trainer.accelerator=auto, or install a PyTorch build and a driver for the GPU.",
        )
    if wanted in {"gpu", "cuda"} and config.trainer.devices > torch.cuda.device_count():
        raise InputError(f"trainer.devices is {config.trainer.devices}, but there are {torch.cuda.device_count()} GPUs")


def _finish(
    config: Config,
    module: AdversarialAutoencoder,
    data: SpeechDataModule,
    folder: Path,
    loggers: list[Logger],
    evaluation: Evaluation,
    results: dict[str, Any],
) -> None:
    """Writes predictions and figures, and hands everything to W&B."""
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
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for split in ("dev", "test"):
                for name in ("uar", "accuracy", "ccc"):
                    if name in results[split]:
                        logger.experiment.summary[f"final/{split}/{name}"] = results[split][name]
    log_artifact(loggers, folder, config.experiment)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
    print_summary(results, data.report)


def _reconstructions(module: AdversarialAutoencoder, data: SpeechDataModule) -> tuple[list[Any], list[Any]] | None:
    if module.decoder is None:
        return None
    module.eval()
    batch = next(iter(data.val_dataloader()))
    chosen = slice(None, None, max(1, len(batch) // SHOWN_RECONSTRUCTIONS))
    log_mel, reconstruction, frames = module.reconstruct(batch.waveform[chosen], batch.length[chosen])
    pairs = list(zip(log_mel, reconstruction, frames.tolist(), strict=True))[:SHOWN_RECONSTRUCTIONS]
    return [a[:, :n].numpy() for a, _, n in pairs], [b[:, :n].numpy() for _, b, n in pairs]
