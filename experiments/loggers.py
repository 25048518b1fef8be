"""Where a run is logged: metrics.csv always, Weights & Biases online or offline."""

import csv
import io
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from callbacks.interruption import AGAIN, Interrupted
from datamodules.errors import InputError
from experiments.account import why_offline
from experiments.config import Config, to_dict
from experiments.files import read_scores, replacing
from experiments.sweep import member

ARTIFACT = ("*.yaml", "*.json", "*.csv", "*.safetensors", "figures/*.png", "checkpoints/best.ckpt")


class MetricsFile(Logger):
    """Scores and losses as a CSV file, a row each time that something is logged; always whole, whenever one looks.

    Args:
        path: The file. What is there is gone on from as far as ``cut`` keeps it, and otherwise replaced.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: list[dict[str, Any]] = []
        self._saved = 0

    @property
    def name(self) -> str:
        """None: the folder is the run's."""
        return ""

    @property
    def version(self) -> str:
        """Likewise."""
        return ""

    def __len__(self) -> int:
        return len(self._rows)

    def cut(self, rows: int) -> None:
        """Goes on from the first rows of the file."""
        if rows:
            with self.path.open(encoding="utf-8", newline="") as stream:
                self._rows = list(csv.DictReader(stream))[:rows]

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row."""
        self._rows.append({**metrics, "step": step})

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Does nothing: they are in the run's ``config.yaml``."""

    def save(self) -> None:
        """Writes the file, if there is a new row."""
        if len(self._rows) == self._saved:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, sorted({name for row in self._rows for name in row}), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        with replacing(self.path) as stream:
            stream.write(text.getvalue().encode())
        self._saved = len(self._rows)


class _Wandb(WandbLogger):
    """W&B's logger, without whose process a training goes on.

    Some schedulers tell all processes of a job to end, W&B's too: by the time that the training has saved it is gone.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs scores and losses."""
        with suppress(ConnectionError):
            super().log_metrics(metrics, step)

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """Logs figures."""
        with suppress(ConnectionError):
            super().log_image(key, images, step, **kwargs)


@contextmanager
def logged(config: Config, folder: Path, metrics: MetricsFile, identity: str) -> Iterator[list[Logger]]:
    """The loggers of a run, to be used on one process; the W&B run ends, well or failed, with the block.

    Args:
        config: Of the run.
        folder: Its folder.
        metrics: Its file of scores and losses.
        identity: Of the W&B run: one that is known there is gone on with.

    Raises:
        InputError: W&B is set up wrongly, or refuses the run.
    """
    if not config.wandb.enabled:
        yield [metrics]
        return
    import wandb

    try:
        settings = wandb.setup().settings  # what its variables and files say
    except ValueError as error:
        raise InputError(
            f"W&B cannot use its settings: {error}", "Correct the WANDB_ variables, or give wandb.enabled=false."
        ) from error
    if settings.mode == "disabled":
        yield [metrics]
        return
    why = why_offline(settings)
    if why:
        print(f"W&B: offline, because {why}; `wandb sync {folder}/wandb/offline-run-*` uploads the run.", flush=True)
    trial = member.run_id() is not None  # then it has its place, and W&B warns of another
    try:
        run = wandb.init(
            name=f"{config.experiment}/{folder.name}",
            dir=folder,
            id=None if trial else identity,
            resume="allow",
            project=None if trial else config.wandb.project,
            entity=None if trial else config.wandb.entity,
            group=config.wandb.group,
            tags=config.wandb.tags,
            config=to_dict(config),
            mode="offline" if why else "online",
            # Online it tells the run's address, and what goes wrong; offline there is nothing to tell.
            settings=wandb.Settings(silent=bool(why), stop_fn=_stop),
        )
    except wandb.Error as error:
        raise InputError(
            f"W&B refuses the run (wandb.project={config.wandb.project}, wandb.entity={config.wandb.entity}): {error}",
            "Give a project and an entity that the account may write to, or wandb.enabled=false.",
        ) from error
    # As Lightning does for the runs that it opens: all curves over the optimiser's steps.
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    try:
        yield [metrics, _Wandb(experiment=run)]
    except BaseException as error:
        code, again = 1, isinstance(error, Interrupted) and error.code == AGAIN
        if isinstance(error, Interrupted) and again and member.is_stopped_for_good():
            error.code, code, again = 0, 0, False  # others were better: it has not failed, and does not go on
        _end(run, code, again)
        raise
    _end(run)


def _end(run: Any, code: int = 0, again: bool = False) -> None:
    """Ends a W&B run, which may go on again."""
    import wandb

    try:
        if again:
            run.mark_preempting()  # a sweep hands the run out again
        run.finish(exit_code=code)
    except ConnectionError:
        print("W&B: its process ended first; what it had not written yet is in the run folder alone", file=sys.stderr)
        with suppress(ConnectionError):  # else it would try at the end of this process
            wandb.teardown(exit_code=code)


def log_results(loggers: list[Logger], folder: Path, config: Config, results: dict[str, Any]) -> None:
    """Hands the final scores and the run's files to W&B."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            with suppress(ConnectionError):
                _log_results(logger, folder, config, results)


def _log_results(logger: WandbLogger, folder: Path, config: Config, results: dict[str, Any]) -> None:
    import wandb

    for split in ("dev", "test"):
        for name in ("uar", "accuracy", "ccc"):
            if name in results.get(split, {}):
                logger.experiment.summary[f"final/{split}/{name}"] = results[split][name]
    if member.run_id():
        # Sweeps are sorted by it, and what counts of a trial is its best epoch, not its last.
        best = max(read_scores(folder, config.trainer.monitor).values())
        logger.experiment.summary[config.trainer.monitor] = best
    artifact = wandb.Artifact(f"{config.experiment}-{logger.version}", type="run")
    for pattern in ARTIFACT:
        for file in sorted(folder.glob(pattern)):
            # The run's files change no more: they are taken from where they are, and not copied first.
            artifact.add_file(str(file), name=str(file.relative_to(folder)), policy="immutable")
    logger.experiment.log_artifact(artifact)


def _stop() -> None:
    """Stops the run where W&B's server asks for it: as others do, and not, as by itself, by what looks like ctrl-C."""
    handled = signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM if handled else signal.SIGINT)
