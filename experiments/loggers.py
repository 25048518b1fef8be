"""Where a run is logged: metrics.csv always, Weights & Biases online or offline."""

import netrc
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from experiments.config import Config, to_dict


def make_loggers(config: Config, folder: Path) -> list[Logger]:
    """The loggers of a run."""
    loggers: list[Logger] = [CSVLogger(save_dir=folder, name="", version="")]
    if config.wandb.enabled and os.environ.get("WANDB_MODE") != "disabled":
        import wandb

        why = _why_offline()
        if why:
            print(f"W&B: offline, because {why}; `wandb sync {folder}/wandb/offline-run-*` uploads the run later.")
        loggers.append(
            WandbLogger(
                name=f"{config.experiment}/{folder.name}",
                save_dir=folder,
                offline=bool(why),
                project=config.wandb.project,
                entity=config.wandb.entity,
                group=config.wandb.group,
                tags=config.wandb.tags,
                config=to_dict(config),
                settings=wandb.Settings(silent=True),
            )
        )
    return loggers


def log_artifact(loggers: list[Logger], folder: Path, experiment: str) -> None:
    """Hands the run's files to W&B as one artifact."""
    import wandb

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            artifact = wandb.Artifact(f"{experiment}-{logger.version}", type="run")
            for pattern in ("*.yaml", "*.json", "*.csv", "checkpoints/best.ckpt"):
                for file in sorted(folder.glob(pattern)):
                    artifact.add_file(str(file), name=str(file.relative_to(folder)))
            logger.experiment.log_artifact(artifact)


def _why_offline() -> str | None:
    """Why W&B cannot be reached, or none if it can."""
    if os.environ.get("WANDB_MODE") == "offline":
        return "WANDB_MODE is offline"
    address = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if not os.environ.get("WANDB_API_KEY") and not _in_netrc(host):
        return "no account is set up (`wandb login`)"
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return f"{host} cannot be reached ({error})"
    return None


def _in_netrc(host: str) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
