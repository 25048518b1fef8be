"""`results.json` and the tables made of it: what is written down of a bench, and what is kept of an earlier one."""

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import experiments
from datamodules.collection import Collection
from datamodules.errors import InputError
from datamodules.processes import available_cores
from experiments.bench.core import Bench, Figure, Measurement, Row
from experiments.bench.rows import ROWS
from experiments.files import read_json, replacing, write_json
from experiments.records import environment

RESULTS = "results.json"
TABLE = "table.md"
FLOORS = ("datamodules", "lightning_modules", "callbacks", "experiments")
MEASURED, SKIPPED, FAILED = "measured", "skipped", "failed"

HEADER = ("row", "figure", "bar", "met", "ours", "counterpart", "compared")


def machine() -> dict[str, Any]:
    """The machine, the versions and the code that figures depend on, as ``environment`` of a run, and more of it."""
    found = environment(Collection([]))
    del found["manifests"]
    found["machine"] |= {
        "cpu": _line_of(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": available_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
    }
    return found | {"code": _code()}


def _line_of(file: Path, key: str) -> str | None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)


def _code() -> str:
    """Hash of the code and the experiments as they are, committed or not."""
    top = Path(experiments.__file__).parents[1]
    digest = hashlib.sha256()
    for floor in FLOORS:
        for file in sorted(top.joinpath(floor).rglob("*")):
            if file.suffix in {".py", ".yaml", ".txt"}:  # the last: versions of the peers
                digest.update(f"{file.relative_to(top)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


class Results:
    """The record of a bench, written anew after each row.

    Rows of an earlier bench stay if it was measured on the same machine, by the same code, with the same settings.

    Args:
        bench: What is measured with.
        here: What ``machine`` returns.

    Attributes:
        dropped: Why the rows of an earlier bench are not kept; none if they are, or there is none.
    """

    def __init__(self, bench: Bench, here: dict[str, Any]) -> None:
        self.folder = bench.output
        self.content: dict[str, Any] = {
            "quick": bench.quick,
            "repeats": bench.repeats,
            "settings": list(bench.settings),
            "environment": here,
        }
        self.dropped: str | None = None
        file = self.folder / RESULTS
        if not file.exists():
            return
        try:
            earlier = read_json(file)
        except InputError as error:
            self.dropped = error.problem
            return
        self.dropped = self._difference(earlier)
        if self.dropped is None:
            self.content |= {name: earlier[name] for name in ROWS if name in earlier}

    def _difference(self, earlier: dict[str, Any]) -> str | None:
        now, before = self.content["environment"], earlier.get("environment", {})
        if now["code"] != before.get("code"):
            commits = [(one.get("git") or {}).get("commit", "none")[:12] for one in (before, now)]
            return f"the code is another (commit {commits[0]}, now {commits[1]})"
        for name in ("machine", "python", "packages"):
            if now[name] != before.get(name):
                return f"{name} is another: {before.get(name)}, now {now[name]}"
        for name in ("quick", "repeats", "settings"):
            if self.content[name] != earlier.get(name):
                return f"{name} was {earlier.get(name)}, and is {self.content[name]}"
        return None

    def add(self, row: Row, record: dict[str, Any]) -> None:
        """Takes a row's record, in the place of an earlier one, and writes everything."""
        self.content[row.name] = {"what": row.what, **record}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / RESULTS, self.content)
        with replacing(self.folder / TABLE) as stream:
            stream.write(self.markdown().encode())

    def table(self) -> list[tuple[str, ...]]:
        """Cells below ``HEADER``, a line for each figure of all rows that there are."""
        lines: list[tuple[str, ...]] = []
        for name in ROWS:
            if (found := self.content.get(name)) is None:
                continue
            if found["status"] != MEASURED:
                lines.append((name, found["status"], found["bar"], "", "", "", found["reason"]))
                continue
            lines.append(_cells(name, found, found["what"]))
            lines += [_cells(f"{name}: {also}", figure, "") for also, figure in found["also"].items()]
        return lines

    def markdown(self) -> str:
        """The table, with the machine above it."""
        here = self.content["environment"]
        cpu, count, memory = (here["machine"][name] for name in ("cpu", "cores", "memory_gb"))
        git = here["git"] or {"commit": "unknown", "dirty": False}
        packages = ", ".join(f"{name} {here['packages'][name]}" for name in ("torch", "lightning", "soundfile"))
        gpus = "".join(f", {gpu}" for gpu in here["machine"]["gpus"])
        lines = [
            f"{cpu}, {count} cores{gpus}, {memory:g} GB; Python {here['python']}, {packages}; "
            f"commit {git['commit'][:12]}{' and changes to it' if git['dirty'] else ''}",
            "",
            *(["**A smoke test: the figures say nothing.**", ""] if self.content["quick"] else []),
            f"| {' | '.join(HEADER)} |",
            f"|{'---|' * len(HEADER)}",
            *(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in self.table()),
        ]
        return "\n".join(lines) + "\n"


def measured(row: Row, found: Measurement) -> dict[str, Any]:
    """The record of a row that was measured."""
    main = Figure(found.figure.value, found.figure.ours, found.figure.counterpart, found.figure.bar or row.bar).record()
    also = {name: figure.record() for name, figure in found.also.items()}
    all_met = all(one["met"] is not False for one in (main, *also.values()))
    return {"status": MEASURED, **main, "also": also, "all_met": all_met, "details": found.details}


def not_measured(row: Row, status: str, reason: str) -> dict[str, Any]:
    """The record of a row that was skipped or that failed."""
    return {"status": status, "reason": reason, "figure": None, "bar": str(row.bar), "met": None}


def _cells(name: str, figure: dict[str, Any], what: str) -> tuple[str, ...]:
    met = {True: "yes", False: "no", None: ""}[figure["met"]]
    sides = [_side(figure[side]) for side in ("ours", "counterpart")]
    return name, f"{figure['figure']:.4g}", figure["bar"] or "", met, *sides, what


def _side(side: dict[str, Any]) -> str:
    median, low, high = (f"{side[name]:.4g}" for name in ("median", "min", "max"))
    spread = f" ({low} to {high})" if low != high else ""
    return f"{median} {side['unit']}{spread}: {side['what']}"
