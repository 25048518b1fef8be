"""What a run leaves so that its result can be traced and had again: checkpoints, and the environment that made it."""

import io
import platform
import re
import shlex
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from datamodules.collection import Collection
from datamodules.errors import InputError
from experiments.files import BEFORE, BEST, LAST, digest, replacing

_RECORDS = ":(exclude,top)docs/studies"
"""What runs of a study are written down in, which is no part of the code that makes them."""

_ASKED_FOR = re.compile(r"(?:GLOBAL|global|class|function) (\S+\.\S+?)(?: was not| whose module|,|$)", re.MULTILINE)
"""How PyTorch names what a pickle asks for and does not get."""

_TO_GO_ON = ("loops", "callbacks", "optimizer_states", "lr_schedulers")
"""What a checkpoint has beside weights, for a training to go on from it."""

PACKAGES = ("torch", "torchaudio", "lightning", "torchmetrics", "wandb", "omegaconf", "soundfile", "numpy", "pyarrow")


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints at once, on the file system that they stay on; of the last ones, two are kept.

    Lightning's own way leads through the system's temporary folder, from where another file system is reached by a
    copy, which may remain half done.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint."""
        # Not into the file: of a full disk, PyTorch would tell something about positions in an archive.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            stream.write(buffer.getbuffer())
            if path.name == LAST.name and path.exists():
                path.replace(path.with_name(BEFORE.name))


class HostileCheckpointError(InputError):
    """A checkpoint asks for more than weights: whoever opened it as a pickle would run what it wants."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint that Lightning wrote; nothing in it is run, and it takes no more memory than it has bytes.

    Raises:
        InputError: The file is missing, damaged or something else.
        HostileCheckpointError: It asks for a function or class that no checkpoint of weights needs.
    """
    try:
        _check_archive(path)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"the checkpoint {path} does not exist", "Give the folder of a finished run.") from error
    except Exception as error:  # unpickling a damaged file may raise anything
        if wanted := _ASKED_FOR.search(str(error)):
            raise HostileCheckpointError(
                f"the checkpoint {path} asks for {wanted[1]}, and was not opened: with it, it could run any program",
                "Do not use it, nor open it with anything else; tell whoever it comes from.",
            ) from error
        what, *_ = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"the checkpoint {path} cannot be read: {what}", "Train again.") from error
    if not (
        isinstance(checkpoint, dict)
        and _are_weights(checkpoint.get("state_dict"))
        and isinstance(checkpoint.get("epoch"), int)
    ):
        raise InputError(f"{path} is no checkpoint of a run", "Give the folder of a finished run.")
    return checkpoint


def _are_weights(state: Any) -> bool:
    return isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(one, torch.Tensor) for name, one in state.items()
    )


def _check_archive(path: Path) -> None:
    """Checks that an archive holds no more than its bytes: PyTorch stores weights as they are, a bomb is compressed."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED for one in members):
        raise ValueError("it is compressed, which PyTorch's checkpoints are not")
    if sum(one.file_size for one in members) > path.stat().st_size:
        raise ValueError("it promises more than it holds")


@contextmanager
def resumed_from(path: Path | None) -> Iterator[None]:
    """Within the block a training goes on from a checkpoint; what it lacks, or says wrongly, is told in one message.

    Args:
        path: The checkpoint; none where a training begins.

    Raises:
        InputError: Lightning cannot restore what the checkpoint says.
    """
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if path is None or not any(frame.filename.endswith("checkpoint_connector.py") for frame in frames):
            raise
        what, *_ = str(error).splitlines() or [type(error).__name__]
        raise InputError(
            f"the training cannot go on from {path}: {type(error).__name__}: {what}",
            "It is of another model or version: remove it to go on from the one before, or train again.",
        ) from error


def last_checkpoint(folder: Path) -> Path | None:
    """What a training goes on from: the last checkpoint of a run that can be read; none where there is none.

    A damaged one is told on standard error and put aside, and the one before it is taken.

    Raises:
        HostileCheckpointError: One is not damaged, but made to do harm: what is beside it is not trusted either.
    """
    for path in (folder / LAST, folder / BEFORE):
        if path.exists():
            try:
                found = read_checkpoint(path)
                if missing := [name for name in _TO_GO_ON if not found.get(name)]:
                    raise InputError(f"the checkpoint {path} has no {missing[0]}", "Train again.")
            except HostileCheckpointError:
                raise
            except InputError as error:
                print(f"going on without it: {error}", file=sys.stderr, flush=True)
                with suppress(FileNotFoundError):  # another process was quicker
                    path.replace(path.with_suffix(".damaged"))
            else:
                return path
    return None


def environment(collection: Collection, teachers: Iterable[str] = ()) -> dict[str, Any]:
    """Versions, code, machine, command, manifests and teachers' checkpoints that a result depends on."""
    return {
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
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
        "teachers": {folder: digest(Path(folder, BEST)) for folder in teachers},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any] | None:
    """Commit of the code, and whether files differ from it; none where the code is in no repository."""
    here = Path(__file__)

    def ask(*words: str) -> str:
        answer = subprocess.run(
            ["git", *words], cwd=here.parent, capture_output=True, text=True, check=True, timeout=30
        )
        return answer.stdout.strip()

    try:
        # An installed copy may lie in the repository of something else.
        ask("ls-files", "--error-unmatch", here.name)
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--", ":/", _RECORDS))}
    except (OSError, subprocess.SubprocessError):
        return None
