"""The run folder: what is written there, so that a result can be traced and had again."""

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from datamodules.collection import Collection
from datamodules.errors import InputError

PACKAGES = ("torch", "torchaudio", "lightning", "torchmetrics", "wandb", "omegaconf", "soundfile", "numpy", "pyarrow")


def make_folder(output: str, experiment: str, run: str) -> Path:
    """Makes the folder of a new run.

    Raises:
        InputError: It exists: results are never overwritten.
    """
    folder = Path(output) / experiment / run
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise InputError(
            f"the run folder {folder} already exists",
            "Give the run another name with run=<name>, or remove the folder.",
        ) from error
    return folder


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON through a temporary file in the same folder, so that a reader never sees half of it."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Reads what ``write_json`` wrote.

    Raises:
        InputError: The file is missing or damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", "Give the folder of a finished run.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return content


def environment(collection: Collection) -> dict[str, Any]:
    """Versions, code, machine, command and manifests that a result depends on."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git(),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "cuda": torch.version.cuda,
        },
        "manifests": {manifest.corpus: manifest.sha256 for manifest in collection.manifests},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit of the code, and whether files differ from it; none outside of a repository."""

    def ask(*words: str) -> str:
        answer = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=30
        )
        return answer.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
