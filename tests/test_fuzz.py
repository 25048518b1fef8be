"""The fuzzer finds what is planted, the same each time, and nothing else in a handful of cases of each kind."""

import ctypes
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datamodules.errors import InputError
from tests import fuzz
from tests.fuzzing import breaking
from tests.fuzzing.kind import Act, Simple
from tests.fuzzing.kinds import KINDS

CASES = {"audio": 40, "annotations": 20, "tables": 40, "yaml": 8, "manifests": 30, "packs": 30, "decoded": 30}


def planted(*acts: Act) -> Simple:
    """A kind whose cases do, in turn, what is planted; from the third on, nothing."""

    def case(draw: random.Random, seeds: Path, place: Path) -> Act:
        number = int(draw.random() * len(acts))
        return acts[number]

    return Simple("planted", lambda seeds: None, case)


def run(act: Act, output: Path, count: int = 2) -> fuzz.Tally:
    return fuzz.fuzz([planted(act)], count, 0, output, jobs=1)["planted"]


def fault() -> None:
    raise ValueError("planted")


def refuses() -> None:
    raise InputError("a message", "a remedy")


def dies() -> None:
    ctypes.string_at(0)


def grows() -> None:
    bytearray(3 << 30)


def writes_outside() -> None:
    Path("../outside").write_text("x")


def writes_outside_quietly() -> None:
    try:
        Path("../../outside").write_text("x")
    except Exception:  # noqa: BLE001 - as a careless handler would
        return


def starts_a_program() -> None:
    subprocess.run(["true"], check=True)


def fills_a_terminal() -> None:
    raise LongError("x" * 100_000)


class LongError(InputError):
    """One that is shown as it is."""

    def __str__(self) -> str:
        return self.problem


def full() -> None:
    raise OSError(28, "No space left on device", "x")


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (fault, "ValueError"),
        (dies, "its process died by SIGSEGV"),
        (grows, "MemoryError"),
        (writes_outside, "OutOfBoundsError"),
        (writes_outside_quietly, "OutOfBoundsError"),
        (starts_a_program, "OutOfBoundsError"),
        (fills_a_terminal, "OutOfBoundsError"),
    ],
)
def test_a_planted_fault_is_found(act: Act, told: str, tmp_path: Path) -> None:
    tally = run(act, tmp_path)
    assert tally.outcomes == {"finding": 2}
    ((key, numbers),) = tally.findings.items()
    assert key.startswith(told)
    assert sorted(numbers) == [0, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"seeds", "planted-0"}


@pytest.mark.parametrize(("act", "outcome"), [(refuses, "refused"), (full, "refused"), (lambda: None, "used")])
def test_what_the_program_tells_is_no_finding(act: Act, outcome: str, tmp_path: Path) -> None:
    assert run(act, tmp_path).outcomes == {outcome: 2}


def test_a_hang_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "CPU_SECONDS", 0.3)
    monkeypatch.setattr(fuzz, "WALL_SECONDS", 2.0)
    for act in (lambda: time.sleep(100), _turns):
        tally = run(act, tmp_path, count=1)
        assert tally.outcomes == {"finding": 1}
        assert next(iter(tally.findings)).startswith("it hangs")


def _turns() -> None:
    while True:
        pass


def test_a_case_follows_from_seed_kind_and_number(tmp_path: Path) -> None:
    def content(seed: int, number: int) -> bytes:
        draw = random.Random(f"{seed} audio {number}")
        return breaking.broken(bytes(range(256)) * 4, draw, breaking.BYTES)

    assert [content(0, number) for number in range(20)] == [content(0, number) for number in range(20)]
    assert len({content(seed, number) for seed in range(2) for number in range(20)}) > 30


@pytest.mark.parametrize("way", [*dict.fromkeys((*breaking.BYTES, *breaking.TEXT))])
def test_every_way_breaks_something_and_takes_anything(way: breaking.Change) -> None:
    changed = 0
    for number in range(50):
        draw = random.Random(number)
        for content in (b"", b"\n", b"a,b\r\nc,d\n" * 5):
            found = way(content, draw)
            changed += found != content
            assert len(found) < 10_000_000
    assert changed > 20


@pytest.mark.parametrize("kind", CASES)
def test_a_handful_of_cases_finds_nothing(kind: str, tmp_path: Path) -> None:
    tally = fuzz.fuzz([KINDS[kind]], CASES[kind], 1, tmp_path, jobs=1)[kind]
    assert tally.findings == {}
    assert tally.done == CASES[kind]


def test_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "planted", planted(fault))
    assert fuzz.main(["kinds=planted", "count=3", "jobs=1"]) == 1
    told = capsys.readouterr().out
    assert "finding, case=planted:0: ValueError: 'planted'" in told
    assert "3 ×, case=planted:0: ValueError" in told
    for arguments in (["kinds=audios"], ["count=many"], ["colour=blue"], ["case=audio"], ["case=audio:x"]):
        if arguments == ["case=audio"]:
            continue
        assert fuzz.main(arguments) == 2
    assert "there is no kind audios" in capsys.readouterr().err


def test_a_case_can_be_repeated_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "case=tables:3", f"output={tmp_path}"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("used: ", "refused: "))
    assert list((tmp_path / "case").iterdir())


def test_the_watch_lets_a_case_work_in_its_own_folder(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from tests.fuzzing.bounds import Watch, outcome
place = Path(sys.argv[1])
def act():
    (place / "x").write_text("x")
    (place / "x").rename(place / "y")
print(outcome(act, Watch(place)))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.stdout == "used\n", done.stderr
