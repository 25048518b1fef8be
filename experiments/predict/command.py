"""The command ``predict``: from recordings to a table of what a model says of them."""

import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.audit import Segment
from datamodules.bars import bar_of_utterances
from datamodules.errors import InputError, explained
from experiments.claims import release, take
from experiments.commands import number, own_settings, switch
from experiments.predict import load
from experiments.predict.inputs import Stretch, find, stretches
from experiments.predict.output import FORMATS, Key, Output

if TYPE_CHECKING:
    from experiments.predict.recogniser import Recogniser, Row

_DEFAULTS = {
    "audio": "",
    "out": "",
    "root": "",
    "window_s": "30",
    "hop_s": "",
    "batch": "16",
    "code": "false",
    "calibrate": "true",
    "accelerator": "auto",
}
_LONGEST_WINDOW_S = 600
_LARGEST_BATCH = 4096
_SHOWN_ERRORS = 5
_DIGITS = 6
"""Of times in seconds."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for; see the README."""

    audio: Path
    out: Path
    root: Path | None
    window_s: float
    hop_s: float
    batch: int
    code: bool
    calibrate: bool
    accelerator: str


def predict(place: Path, settings: Sequence[str]) -> None:
    """Writes what a model says of recordings, and prints the table last.

    Args:
        place: A run folder, or a checkpoint in one.
        settings: ``audio=<file, folder or table> out=<csv, jsonl or parquet>`` and others, as ``key=value``.

    Raises:
        InputError: A setting cannot be used, there is no model or no recording, or the table is something else's.
    """
    wanted = read_request(settings)
    root, segments = find(wanted.audio, wanted.root)
    recogniser = load(place, accelerator=wanted.accelerator, calibrate=wanted.calibrate)
    from experiments.allocation import keep_freed_memory

    keep_freed_memory()
    for note in recogniser.model.notes:
        print(note, file=sys.stderr, flush=True)
    with explained(f"the table {wanted.out}", wanted.out.parent, "out"), _alone(wanted.out):
        output = Output(wanted.out, _columns(recogniser, wanted.code), _described(recogniser, wanted))
        faults = _write(recogniser, wanted, root, segments, output)
    for fault in faults[:_SHOWN_ERRORS]:
        print(f"  {fault}", file=sys.stderr)
    if len(faults) > _SHOWN_ERRORS:
        print(f"  and {len(faults) - _SHOWN_ERRORS} more: see the column error", file=sys.stderr)
    print(wanted.out, flush=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps other commands from writing the same table."""
    lock = out.with_name(f".{out.name}.lock")
    if (claim := take(lock)) is None:
        raise InputError(f"another process is writing {out}", "Wait until it has ended, or give another out=<file>.")
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        release(claim)


def read_request(settings: Sequence[str]) -> Request:
    """Reads the settings of the command.

    Raises:
        InputError: One is missing, not known or cannot be used.
    """
    own, others = own_settings(settings, _DEFAULTS)
    if others:
        raise InputError(f"unknown setting {others[0]!r}", f"There are: {', '.join(f'{name}=' for name in _DEFAULTS)}")
    for name, what in (("audio", "an audio file, a folder of them, or a table"), ("out", "the table to write")):
        if not own[name]:
            raise InputError(f"{name} is missing", f"Give {name}=<{what}>.")
    out = Path(own["out"]).expanduser()
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"out={out}: unknown kind of table", f"Give a name that ends in {', '.join(FORMATS)}.")
    window_s = number("window_s", own["window_s"], 0.1, _LONGEST_WINDOW_S)
    return Request(
        audio=Path(own["audio"]).expanduser(),
        out=out,
        root=Path(own["root"]).expanduser() if own["root"] else None,
        window_s=window_s,
        hop_s=number("hop_s", own["hop_s"], 0.01, window_s) if own["hop_s"] else window_s / 2,
        batch=int(number("batch", own["batch"], 1, _LARGEST_BATCH, whole=True)),
        code=switch("code", own["code"]),
        calibrate=switch("calibrate", own["calibrate"]),
        accelerator=own["accelerator"],
    )


def _columns(recogniser: "Recogniser", code: bool) -> list[str]:
    size = sum(recogniser.model.settings.code.values()) if code else 0
    emotion = ["emotion"] if recogniser.emotions else []
    codes = [f"code_{number}" for number in range(size)]
    return ["file", "start", "end", *emotion, *recogniser.names, *codes, "error"]


def _described(recogniser: "Recogniser", wanted: Request) -> dict[str, Any]:
    """What rows depend on."""
    model = recogniser.model
    return {
        "model_sha256": model.sha256,
        "temperature": model.temperature,
        "novelty": model.novelty is not None,
        "audio": str(wanted.audio.resolve()),
        "root": str(wanted.root.resolve()) if wanted.root else None,
        "window_s": wanted.window_s,
        "hop_s": wanted.hop_s,
        "code": wanted.code,
    }


def _write(
    recogniser: "Recogniser", wanted: Request, root: Path, segments: Sequence[Segment], output: Output
) -> list[str]:
    """Writes the rows that are not there yet; returns what went wrong with any of them."""
    there, faults = output.written(), []
    before, count = there.total(), 0
    with bar_of_utterances() as bar:
        task = bar.add_task("Predicting", total=len(segments))

        def missing() -> Iterator[Stretch]:
            for number, of_segment in enumerate(stretches(root, segments, wanted.window_s, wanted.hop_s), 1):
                for one in of_segment:
                    if not _taken(there, (one.file, _time(one.start), None if one.end is None else _time(one.end))):
                        yield one
                bar.update(task, completed=number)

        for rows in recogniser.rows(missing(), wanted.batch):
            output.add([_cells(row, recogniser, wanted.code, output.columns) for row in rows])
            count += len(rows)
            faults += [f"{row.file}, {_time(row.start):g} s: {row.error}" for row in rows if row.error]
    output.finish()
    kept = f", {before} were there" if before else ""
    print(f"{count} rows written{kept}; {len(faults)} of them with an error", file=sys.stderr, flush=True)
    return faults


def _taken(there: Counter[Key], key: Key) -> bool:
    if not there[key]:
        return False
    there[key] -= 1
    return True


def _time(seconds: float) -> float:
    return round(seconds, _DIGITS)


def _cells(row: "Row", recogniser: "Recogniser", code: bool, columns: Sequence[str]) -> dict[str, Any]:
    """A row by column; what is not known is none."""
    cells: dict[str, Any] = dict.fromkeys(columns)
    cells |= {"file": row.file, "start": _time(row.start), "error": row.error or None}
    cells["end"] = None if row.end is None else _time(row.end)
    if (found := row.found) is not None:
        if recogniser.emotions:
            cells["emotion"] = found.emotion
        cells |= {f"probability_{name}": value for name, value in found.probabilities.items()}
        cells |= found.dimensions
        cells["novelty"] = None if math.isnan(found.novelty) else found.novelty
        if code:
            cells |= {f"code_{number}": value for number, value in enumerate(found.code.tolist())}
    return cells
