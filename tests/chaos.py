"""Kills trainings at random moments, has them go on, and counts those that end as if nothing had been.

``make chaos [ARGS="runs=<number> seed=<number> output=<folder>"]``: each run is killed with SIGKILL, with all that it
started, once or twice, and begun again with ``resume=auto``. In the end its scores, predictions, losses and weights are
compared, bit for bit, with those of a run that nobody interrupted.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from datamodules.errors import InputError
from experiments.commands import finish, own_settings
from experiments.comparison import compare
from experiments.files import LAST
from tests import fakes, runs

SETTINGS = (
    *runs.SMALL,
    "wandb.enabled=false",
    "split.folds=3",
    "data.auxiliary.0.quota=2",
    "data.auxiliary.1.quota=2",
    "data.evaluation_batch=2",
    "data.steps=6",
    "trainer.epochs=6",
    "trainer.threads=1",
)
KINDS = {
    "one process": (),
    "one process, two workers": ("data.workers=2",),
    "two processes": ("trainer.devices=2",),
    "two processes, a worker each": ("trainer.devices=2", "data.workers=1"),
}
MOMENTS = ("start-up", "steps and scores", "a checkpoint being written", "report")
POLL_S = 0.0005


@dataclass
class Place:
    """Where runs of a kind are made, and how long the parts of one take."""

    root: Path
    output: Path
    settings: tuple[str, ...]
    start_s: float = 0
    end_s: float = 0

    def command(self, name: str, minutes: float) -> list[str]:
        own = [f"run={name}", "resume=auto", f"trainer.checkpoint_minutes={minutes}"]
        places = runs.places(self.root, self.output)
        return [sys.executable, "-m", "experiments", "train", "ravdess_cat", *SETTINGS, *places, *self.settings, *own]

    def folder(self, name: str) -> Path:
        return self.output / "ravdess_cat" / name


def start(place: Place, name: str, minutes: float) -> "subprocess.Popen[bytes]":
    log = (place.output / f"{name}.log").open("ab")
    return subprocess.Popen(
        place.command(name, minutes), stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
    )


def whole(place: Place, minutes: float) -> None:
    """Makes the run that nobody interrupts, and takes its times."""
    began = time.monotonic()
    process = start(place, "whole", minutes)
    folder = place.folder("whole")
    last = folder / "metrics.csv"
    while process.poll() is None:
        if not place.start_s and last.exists():
            place.start_s = time.monotonic() - began
        time.sleep(0.01)
    if process.returncode:
        raise RuntimeError((place.output / "whole.log").read_text())
    place.end_s = time.monotonic() - began


def moment_comes(place: Place, name: str, moment: str, draw: random.Random) -> Iterator[bool]:
    """Yields, each time it is asked, whether the moment to kill has come."""
    began, folder = time.monotonic(), place.folder(name)
    if moment == "start-up":
        until = began + draw.uniform(0.1, place.start_s)
        while True:
            yield time.monotonic() >= until
    if moment == "a checkpoint being written":
        draft, wanted, seen, there = folder / LAST.with_name(f".{LAST.name}.draft"), draw.randint(1, 20), 0, False
        while True:
            exists = draft.exists()
            seen += exists and not there
            there = exists
            yield there and seen >= wanted
    if moment == "steps and scores":
        until = began + draw.uniform(place.start_s, place.end_s)
        while True:
            yield time.monotonic() >= until
    while not (folder / "metrics.csv").exists() or json_lines(folder / "metrics.csv") < 12:
        yield False
    until = time.monotonic() + draw.uniform(0, 3)
    while True:
        yield time.monotonic() >= until


def json_lines(file: Path) -> int:
    """Rows of a table that is being written."""
    return file.read_text().count("\n") - 1


def kill(process: "subprocess.Popen[bytes]", come: Iterator[bool]) -> bool:
    """Kills a run and all that it started; whether it was still there."""
    while process.poll() is None:
        if next(come):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(POLL_S)
    return False


def stage(folder: Path) -> str:
    """What a run that was killed had come to."""
    if not folder.exists():
        return "nothing was there yet"
    if (folder / "predictions_test.csv").exists():
        return "test scores were being written"
    if not (folder / "metrics.csv").exists():
        return "before the first scores"
    if (folder / LAST).exists():
        step = torch.load(folder / LAST, weights_only=True)["global_step"]
        return "trained to the end" if step == 36 else "between two checkpoints"
    return "before the first checkpoint"


def differing(folder: Path, other: Path) -> list[str]:
    """What of two runs is not the same."""
    found = compare(folder, other)
    return [] if found.identical else [f"{what} {told}" for what, told in found.rows() if told != "identical"]


def chaos(count: int, seed: int, output: Path) -> int:
    """Kills ``count`` runs; returns how many did not end as if nothing had been."""
    draw = random.Random(seed)
    root = output / "corpora"
    fakes.ravdess(root / "ravdess", actors=6)
    fakes.librispeech(root / "LibriSpeech")
    places: dict[tuple[str, float], Place] = {}
    kills: Counter[str] = Counter()
    wrong = 0
    for number in range(count):
        kind, moment = list(KINDS)[number % len(KINDS)], MOMENTS[number // len(KINDS) % len(MOMENTS)]
        minutes = draw.choice([1e-9, 100.0])
        if moment == "a checkpoint being written":
            minutes = 1e-9
        if (kind, minutes) not in places:
            where = output / f"{len(places)}"
            where.mkdir(parents=True)
            places[kind, minutes] = Place(root, where, KINDS[kind])
            whole(places[kind, minutes], minutes)
        place, name, told = places[kind, minutes], f"run{number}", []
        for _ in range(draw.randint(1, 2)):
            if kill(start(place, name, minutes), moment_comes(place, name, moment, draw)):
                told.append(stage(place.folder(name)))
                kills[told[-1]] += 1
        process = start(place, name, minutes)
        if process.wait():
            text = f"exit code {process.returncode}: {place.output / name}.log"
        else:
            text = ", ".join(differing(place.folder(name), place.folder("whole"))) or "identical"
        wrong += text != "identical"
        print(f"{number + 1:3d}  {kind}; {moment}; {', '.join(told) or 'it had ended before'}: {text}", flush=True)
    print(f"{count - wrong} of {count} runs ended identical, after {kills.total()} kills:")
    for found, times in kills.most_common():
        print(f"  {times:3d}  {found}")
    return wrong


def main() -> int:
    """Command line: ``runs=50 seed=0 output=<a temporary folder>``."""
    own, others = own_settings(sys.argv[1:], {"runs": "50", "seed": "0", "output": ""})

    def run() -> int:
        if others or not (own["runs"].isdecimal() and own["seed"].isdecimal()):
            raise InputError(" ".join(sys.argv[1:]), "Give runs=<number> seed=<number> output=<folder>.")
        with tempfile.TemporaryDirectory() as temporary:
            return 1 if chaos(int(own["runs"]), int(own["seed"]), Path(own["output"] or temporary)) else 0

    return finish(run)


if __name__ == "__main__":
    sys.exit(main())
