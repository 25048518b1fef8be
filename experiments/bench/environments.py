"""Environments of their own for the peers, so that no package of theirs replaces one of ours."""

import hashlib
import subprocess
import sys
from pathlib import Path

import experiments
from experiments.bench.core import Bench

REQUIREMENTS = Path(__file__).parent / "peers"
CONSTRAINTS = Path(experiments.__file__).parents[1] / "constraints.txt"
PINNED = ("torch", "torchaudio")
"""What all environments have in our version: peers are compared, and not the versions of PyTorch."""

READY = ".ready"


class PeerError(Exception):
    """A peer cannot be measured: it does not install, or its process fails."""


def pins(constraints: str) -> list[str]:
    """The lines of a constraints file that hold for every peer."""
    return [line for line in constraints.splitlines() if line.partition("==")[0].strip() in PINNED]


def peer_python(peer: str, bench: Bench) -> Path:
    """The Python of a peer's environment, which is made if there is none, or another was asked for when it was made.

    Args:
        peer: Its name; ``peers/<name>.txt`` lists what it needs.
        bench: Where environments are, and who is told.

    Raises:
        PeerError: It does not install.
    """
    folder = bench.output / "environments" / peer
    python = folder / "bin" / "python"
    requirements = REQUIREMENTS / f"{peer}.txt"
    constraints = "".join(f"{line}\n" for line in pins(CONSTRAINTS.read_text(encoding="utf-8")))
    wanted = hashlib.sha256(f"{sys.version}\n{constraints}\n{requirements.read_text(encoding='utf-8')}".encode())
    ready = folder / READY
    if ready.exists() and ready.read_text(encoding="ascii") == wanted.hexdigest():
        return python
    bench.say(f"installing {peer} into {folder}: this takes a few minutes, once")
    _run(peer, [sys.executable, "-m", "venv", "--clear", str(folder)])
    file = folder / "constraints.txt"
    file.write_text(constraints, encoding="utf-8")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    _run(peer, [*pip, "-c", str(file), "-r", str(requirements)])
    _free_torchaudio(python)
    ready.write_text(wanted.hexdigest(), encoding="ascii")  # last: an interrupted installation is done again
    return python


def _run(peer: str, command: list[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        why = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no message")
        raise PeerError(f"{peer} does not install (is there a network?): {why}")


def _free_torchaudio(python: Path) -> None:
    """Takes torchaudio's native extension away where it does not fit PyTorch's build; torchaudio does without it."""
    if subprocess.run([python, "-c", "import torchaudio"], capture_output=True).returncode == 0:
        return
    for library in python.parents[1].glob("lib/python*/site-packages/torchaudio/lib/*.so"):
        library.unlink()
