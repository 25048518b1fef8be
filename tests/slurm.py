"""A project's folder to submit from, and what takes SLURM's place where there is none."""

import json
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("callbacks", "datamodules", "experiments", "lightning_modules", "Makefile")
PACKAGES = ("pyproject.toml", "constraints.txt")


def project(folder: Path) -> Path:
    """Makes a folder of the project with this one's code and an environment like its own, but with runs of its own."""
    for name in SOURCES:
        (folder / name).symlink_to(ROOT / name)
    for name in PACKAGES:  # never newer than the environment: make would install them into the one that runs the tests
        shutil.copyfile(ROOT / name, folder / name)
        os.utime(folder / name, (0, 0))
    program(folder / ".venv" / "bin" / "python", f'exec {sys.executable} "$@"')
    (folder / ".venv" / ".ready").touch()
    return folder


def program(path: Path, script: str) -> Path:
    """Writes a shell script that can be called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(0o755)
    return path


class Sbatch:
    """An ``sbatch`` that writes down what it gets: the first job is 101."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        write = f"import json, sys; open({str(self._calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))"
        count = f"$((100 + $(wc -l < {self._calls})))"
        program(folder / "sbatch", f'{sys.executable} -SEc "{write}" "$@"\necho "{count};mine"')

    @property
    def path(self) -> str:
        """PATH with it."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call."""
        return [json.loads(line) for line in self._calls.read_text().splitlines()] if self._calls.exists() else []
