"""Where a run is logged: metrics.csv always, Weights & Biases online or offline."""

import csv
import io
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from lightning.pytorch.loggers import Logger, WandbLogger

from callbacks.interruption import AGAIN, Interrupted
from datamodules.errors import InputError
from experiments.config import Config, to_dict
from experiments.files import replacing

ARTIFACT = ("*.yaml", "*.json", "*.csv", "figures/*.png", "checkpoints/best.ckpt")
SECONDS_TO_ANSWER = 5


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
    why = _why_offline(settings)
    if why:
        print(f"W&B: offline, because {why}; `wandb sync {folder}/wandb/offline-run-*` uploads the run.", flush=True)
    try:
        run = wandb.init(
            name=f"{config.experiment}/{folder.name}",
            dir=folder,
            id=identity,
            resume="allow",
            project=config.wandb.project,
            entity=config.wandb.entity,
            group=config.wandb.group,
            tags=config.wandb.tags,
            config=to_dict(config),
            mode="offline" if why else "online",
            # Online it tells the run's address, and what goes wrong; offline there is nothing to tell.
            settings=wandb.Settings(silent=bool(why)),
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
        yield [metrics, WandbLogger(experiment=run)]
    except BaseException as error:
        if isinstance(error, Interrupted) and error.code == AGAIN:
            run.mark_preempting()  # a sweep hands the run out again
        run.finish(exit_code=1)
        raise
    run.finish()


def log_results(loggers: list[Logger], folder: Path, config: Config, results: dict[str, Any]) -> None:
    """Hands the final scores and the run's files to W&B."""
    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            continue
        import wandb

        for split in ("dev", "test"):
            for name in ("uar", "accuracy", "ccc"):
                if name in results.get(split, {}):
                    logger.experiment.summary[f"final/{split}/{name}"] = results[split][name]
        artifact = wandb.Artifact(f"{config.experiment}-{logger.version}", type="run")
        for pattern in ARTIFACT:
            for file in sorted(folder.glob(pattern)):
                # The run's files change no more: they are taken from where they are, and not copied first.
                artifact.add_file(str(file), name=str(file.relative_to(folder)), policy="immutable")
        logger.experiment.log_artifact(artifact)


def _why_offline(settings: Any) -> str | None:
    """Why W&B cannot be used, or none if it can; asks nothing of the user."""
    import wandb
    from wandb.sdk.lib import wbauth

    if settings.mode in {"offline", "dryrun"}:
        return f"WANDB_MODE is {settings.mode}"
    host = settings.base_url
    try:
        account = wbauth.authenticate_session(host=host, source="ser-aae", prompt=False, update_session=False)
        if account is None:
            return "no account is set up (`wandb login`)"
        # W&B itself would try for long. Any answer is one, also that there is no such page.
        with suppress(HTTPError):
            urllib.request.urlopen(host, timeout=SECONDS_TO_ANSWER).close()
        account.verify()
    except wandb.Error as error:
        return f"the account does not work ({error})"
    except OSError as error:
        return f"{host} cannot be reached ({error})"
    return None
