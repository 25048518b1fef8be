"""What other toolkits are measured with: their processes and environments, and the rows made of their figures."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from packaging.requirements import Requirement

from datamodules.dataset import SpeechDataset
from experiments.bench import environments, peer, toolkits
from experiments.bench.core import Bench
from experiments.bench.environments import PINNED, READY, REQUIREMENTS, PeerError, peer_python, pins
from experiments.bench.peer import Contender, Peer, best
from experiments.bench.peers.network import network
from experiments.bench.rows import epoch_vs_peer, loader_vs_peers
from experiments.config import load
from experiments.run import make_data
from lightning_modules.settings import AdversarySettings, DecoderSettings, HeadSettings
from tests import runs, trees
from tests.small import LABELS, model

RATE = 16000
PEERS = ("autrainer", "speechbrain")
NO_ADVERSARY = AdversarySettings(weight=0)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.write_all(tmp_path_factory.mktemp("corpora"))


def bench(folder: Path, root: Path | None = None, *settings: str, repeats: int = 2) -> Bench:
    return Bench(root, folder, quick=True, repeats=repeats, settings=settings)


def small(root: Path, folder: Path) -> Bench:
    """Small corpora, a small model, and nothing decoded beforehand."""
    places = [setting for setting in runs.places(root, folder) if not setting.startswith("data.root")]
    return bench(folder, root, *runs.SMALL, *places, "data.crop_s=0.3", "data.decoded_gb=0")


def files(folder: Path, seconds: float = 0.5, number: int = 4) -> list[str]:
    generator = np.random.default_rng(0)
    paths = [str(folder / f"{index}.flac") for index in range(number)]
    for path in paths:
        soundfile.write(path, generator.normal(0, 0.1, round(seconds * RATE)), RATE, subtype="PCM_16")
    return paths


class Fake:
    """Stands in for a process: it gives the figures it was made with, and fails when there are no more."""

    def __init__(self, values: list[float], details: dict[str, Any] | None = None) -> None:
        self.values = list(values)
        self.details = details or {}
        self.closed = False

    def measure(self) -> float:
        if not self.values:
            raise PeerError("fake failed: no more figures")
        return self.values.pop(0)

    def close(self) -> None:
        self.closed = True


def contender(name: str, values: list[float], turns: int = 3, **details: Any) -> Contender:
    made = Contender(name, lambda: cast(Peer, Fake(values, details)))
    for turn in range(turns):
        made.turn(counts=turn > 0)
    return made


def failing(error: str) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise PeerError(error)

    return fail


@pytest.mark.parametrize("whole", [False, True])
def test_a_plain_dataset_reads_the_segment_that_is_wanted(tmp_path: Path, whole: bool) -> None:
    from experiments.bench.peers.plain import Segments

    (file,) = files(tmp_path, number=1)
    speech, _ = soundfile.read(file, dtype="float32")
    read = Segments([(file, 0.1, 0.25)], RATE, whole)[0]
    np.testing.assert_array_equal(read.numpy(), speech[1600:5600])


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Peer]:
    """Starts a script of a few lines in the place of a peer's."""
    package = tmp_path / "scripts" / "peers"
    package.mkdir(parents=True)
    shutil.copy(REQUIREMENTS / "turns.py", package)
    monkeypatch.setattr(peer, "SCRIPTS", package.parent)

    def start(script: str) -> Peer:
        (package / "fake.py").write_text(f"from .turns import Turns\nturns = Turns()\n{script}\n")
        return Peer(sys.executable, "fake", {"task": "loader"}, tmp_path)

    return start


def test_a_process_that_fails_says_why(fake: Callable[[str], Peer]) -> None:
    process = fake("turns.next(turns.job)\nturns.next({'value': 3})\nraise ValueError('it broke')\n")
    assert process.details == {"task": "loader"}
    assert process.measure() == 3
    for _ in range(2):
        with pytest.raises(PeerError, match=r"^fake failed: ValueError: it broke$"):
            process.measure()
    process.close()
    assert process._process.returncode == 1


def test_a_process_that_fails_at_the_start_is_told(fake: Callable[[str], Peer]) -> None:
    with pytest.raises(PeerError, match="fake failed: ModuleNotFoundError: No module named 'toolkit'"):
        fake("import toolkit")


def test_a_process_that_is_silent_is_given_up(fake: Callable[[str], Peer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "LIMIT_S", 0.1)
    with pytest.raises(PeerError, match=r"fake did not answer within 0\.1 s"):
        fake("import sys; sys.stdin.read()")


def test_a_process_ends_when_no_one_asks_any_more(fake: Callable[[str], Peer]) -> None:
    process = fake("turns.next({})\nraise ValueError('it went on')")
    process.close()
    assert process._process.returncode == 0


def test_what_a_library_prints_is_no_answer() -> None:
    talk = "import peers.turns as t; turns = t.Turns(); print('noise'); turns.next({'job': turns.job})"
    here = {"PYTHONPATH": str(REQUIREMENTS.parent)}
    job = {"task": "loader"}
    done = subprocess.run(
        [sys.executable, "-c", talk], input=json.dumps(job) + "\n", env=here, text=True, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == {"job": job}
    assert done.stderr == "noise\n"


def test_a_contender_that_fails_is_out_and_the_others_go_on() -> None:
    good, never = contender("good", [1, 4, 6]), Contender("never", failing("never does not install"))
    late = contender("late", [9, 9], turns=3)
    never.turn(counts=True)
    assert good.values == [4, 6]
    assert (never.error, late.error) == ("never does not install", "fake failed: no more figures")
    assert never.record("s") == {"error": "never does not install"}
    assert best([good, never, late], "s", largest=True).what == "good"
    with pytest.raises(PeerError, match="never: never does not install; late: fake failed"):
        best([never, late], "s", largest=True)


def test_the_best_is_the_largest_or_the_smallest_median() -> None:
    both = [contender("steady", [0, 5, 5, 5], 4), contender("wild", [0, 1, 2, 90], 4)]
    assert best(both, "utterances/s", largest=True).what == "steady"
    assert best(both, "s", largest=False).what == "wild"


def test_requirements_are_pinned_but_for_pytorch_which_is_ours() -> None:
    assert {file.stem for file in REQUIREMENTS.glob("*.txt")} == {"autrainer", "lhotse", "speechbrain"}
    for file in REQUIREMENTS.glob("*.txt"):
        wanted = [Requirement(line.partition("#")[0]) for line in file.read_text().splitlines()]
        names = {one.name: str(one.specifier) for one in wanted}
        assert all(not names[pinned] for pinned in PINNED), file
        assert names[file.stem].startswith("==")
        assert (REQUIREMENTS / f"{file.stem}.py").exists()
    ours = dict(line.split("==") for line in pins(environments.CONSTRAINTS.read_text()))
    assert set(ours) == set(PINNED)
    assert ours["torch"] in environments.CONSTRAINTS.read_text()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What would be run to make environments."""
    run: list[list[str]] = []

    def recorded(peer: str, command: list[str]) -> None:
        run.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environments, "_run", recorded)
    monkeypatch.setattr(environments, "_free_torchaudio", lambda python: None)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "lhotse.txt").write_text("lhotse==1\n")
    return run


def test_an_environment_is_made_once_and_again_when_its_requirements_change(
    commands: list[list[str]], tmp_path: Path
) -> None:
    python = peer_python("lhotse", bench(tmp_path))
    assert python == tmp_path / "environments" / "lhotse" / "bin" / "python"
    made, installed = commands
    assert made == [sys.executable, "-m", "venv", "--clear", str(python.parents[1])]
    assert installed[-2:] == ["-r", str(tmp_path / "lhotse.txt")]
    constraints = Path(installed[installed.index("-c") + 1]).read_text()
    assert constraints.split() == pins(environments.CONSTRAINTS.read_text())

    assert peer_python("lhotse", bench(tmp_path)) == python
    assert len(commands) == 2

    (tmp_path / "lhotse.txt").write_text("lhotse==2\n")
    peer_python("lhotse", bench(tmp_path))
    assert len(commands) == 4


def test_an_installation_that_failed_is_tried_again(
    commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(environments, "_run", failing("lhotse does not install"))
        with pytest.raises(PeerError, match="does not install"):
            peer_python("lhotse", bench(tmp_path))
    peer_python("lhotse", bench(tmp_path))
    assert len(commands) == 2
    assert (tmp_path / "environments" / "lhotse" / READY).exists()


def test_why_an_installation_failed_is_told_in_a_line() -> None:
    script = "import sys; print('WARNING: slow'); print('ERROR: no such version'); print('[notice] x'); sys.exit(1)"
    with pytest.raises(PeerError, match=r"^lhotse does not install \(is there a network\?\): ERROR: no such version$"):
        environments._run("lhotse", [sys.executable, "-c", script])


def test_the_loader_row_is_ours_by_the_best_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = iter([[1.0, 300.0, 300.0], [1.0, 90.0, 90.0]])

    def made(*_: Any) -> Callable[[], float]:
        values = iter(next(ours))
        return lambda: next(values)

    peers = [
        Contender("slow", lambda: cast(Peer, Fake([1, 20, 20]))),
        Contender("quick", lambda: cast(Peer, Fake([1, 60, 60], {"versions": {"quick": "2"}}))),
        Contender("absent", failing("absent does not install")),
    ]
    monkeypatch.setattr(loader_vs_peers, "_data", lambda *_: SimpleNamespace(sample_rate=RATE))
    monkeypatch.setattr(loader_vs_peers, "same_segments", lambda *_: ([("a.flac", 0.0, 1.0)], []))
    monkeypatch.setattr(loader_vs_peers, "_ours", made)
    monkeypatch.setattr(loader_vs_peers, "start", lambda *_: peers)
    found = loader_vs_peers.loader_vs_peers(bench(tmp_path))
    assert (found.figure.value, found.also["seeking"].value) == (5, 1.5)
    assert found.figure.counterpart.what == "quick"
    assert found.details["peers"]["absent"] == {"error": "absent does not install"}
    assert found.details["peers"]["quick"]["versions"] == {"quick": "2"}
    assert found.details["peers"]["slow"]["repeats"] == [20, 20]


@pytest.mark.bench
def test_the_loader_row_goes_without_those_that_do_not_install(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_vs_peers, "peer_python", failing("there is no network"))
    found = loader_vs_peers.loader_vs_peers(small(corpora, tmp_path))
    assert found.figure.counterpart.what.startswith("plain Dataset")
    assert found.figure.value > 0
    peers = found.details["peers"]
    assert [name for name, record in peers.items() if "error" in record] == ["lhotse", "SpeechBrain", "autrainer"]
    assert peers["lhotse"] == {"error": "there is no network"}
    assert peers[found.figure.counterpart.what]["versions"]["soundfile"] == soundfile.__version__
    json.dumps(found.details)


def test_segments_are_those_that_our_loader_reads(corpora: Path, tmp_path: Path) -> None:
    settings = small(corpora, tmp_path)
    data = make_data(load("ravdess_cat", [*settings.settings, f"data.root={corpora}"]))
    segments, batches = loader_vs_peers.same_segments(data, steps=2)
    assert [len(batch) for batch in batches] == [loader_vs_peers.BATCH] * 2
    dataset = cast(SpeechDataset, data.train_dataloader().dataset)
    ours = [item for batch in batches for item in dataset.__getitems__(batch)]
    assert len(ours) == len(segments)
    for item, (file, start, duration) in zip(ours, segments, strict=True):
        first = round(start * RATE)
        theirs, _ = soundfile.read(file, start=first, stop=first + round(duration * RATE), dtype="float32")
        np.testing.assert_array_equal(item.waveform, theirs)


def test_segments_as_files_of_their_own_hold_the_same_samples(tmp_path: Path) -> None:
    (file,) = files(tmp_path, number=1)
    names = loader_vs_peers._cut([(file, 0.1, 0.25), (file, 0.2, 0.25)], tmp_path / "default")
    whole, _ = soundfile.read(file, dtype="int16")
    for name, first in zip(names, (1600, 3200), strict=True):
        cut, rate = soundfile.read(tmp_path / "default" / name, dtype="int16")
        assert rate == RATE
        np.testing.assert_array_equal(cut, whole[first : first + 4000])


def test_the_epoch_row_is_the_quicker_toolkit_by_ours(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: dict[tuple[str, bool], dict[str, Any]] = {}

    def started(python: Path, module: str, job: dict[str, Any], folder: Path) -> Any:
        own = job["network"] is None
        jobs[module, own] = job
        assert job["folder"] == str(folder)
        for name, _, duration in [*job["train"], *job["dev"]]:
            assert soundfile.info(folder / "default" / name).duration == pytest.approx(duration)
        if module == "autrainer":
            raise PeerError("autrainer failed: ImportError")
        return Fake([9000, 500, 700] if own else [9000, 5000, 7000], {"parameters": 12})

    monkeypatch.setattr(toolkits, "peer_python", lambda *_: Path("python"))
    monkeypatch.setattr(toolkits, "Peer", started)
    found = epoch_vs_peer.epoch_vs_peer(small(corpora, tmp_path))
    own = found.also["a network of the toolkit's own, of as many parameters"]
    assert found.figure.counterpart.values == [5000, 7000]
    assert own.counterpart.values == [500, 700]
    for figure in (found.figure, own):
        assert figure.value == figure.counterpart.median / figure.ours.median
        assert len(figure.ours.values) == 2
    assert found.details["peers"]["autrainer, our layers"] == {"error": "autrainer failed: ImportError"}
    assert found.details["peers"]["SpeechBrain, our layers"]["parameters"] == 12

    job, others = jobs["speechbrain", False], [jobs["autrainer", False], *(jobs[peer, True] for peer in PEERS)]
    folders = {one.pop("folder") for one in (job, *others)}
    assert len(folders) == 4
    layers = job["network"]
    assert others == [job, *[{**job, "network": None}] * 2]
    assert job["parameters"] == found.details["ours"]["parameters"] > 0
    assert sum(weight.numel() for weight in network(job).parameters()) == job["parameters"]
    assert layers["layers"] == [2, 2]
    assert found.details["ours"]["mega_multiply_adds"] > 0
    assert {emotion for _, emotion, _ in job["train"]} == set(job["classes"])
    assert job["frames"] == 25  # 0.3 s at a hop of 12.5 ms, and the frame at the beginning
    names = [[name for name, *_ in job[side]] for side in ("train", "dev")]
    assert not set(names[0]) & set(names[1])


def test_toolkits_train_our_layers() -> None:
    ours = model(heads={"emotion": HeadSettings()}, decoder=DecoderSettings(weight=0), adversary=NO_ADVERSARY).eval()
    job = {"mels": 24, "classes": LABELS.emotions, "network": toolkits.network_of(ours)}
    theirs = network(job).eval()
    for mine, weight in zip(ours.parameters(), theirs.parameters(), strict=True):
        weight.data.copy_(mine)
    log_mel = torch.randn(3, 24, 40)
    logits = dict(ours._heads())["emotion"](ours.encoder(log_mel, torch.full((3,), 40)))
    torch.testing.assert_close(theirs(log_mel.transpose(1, 2)), logits)
