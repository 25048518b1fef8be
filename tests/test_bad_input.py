"""What cannot be used: exit code 2 and one message with the value, where it came from, and the remedy."""

import builtins
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.interruption import INTERRUPTED
from experiments.__main__ import main
from tests import fakes, runs, trees

ROOT = Path(__file__).parents[1]
EXPERIMENT = "ravdess_cat"
FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.write_all(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def finished(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder."""
    return runs.train("ravdess_single_task", corpora, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused, and returns its message."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        return only_message(captured.err)

    return run


def only_message(stderr: str) -> str:
    assert "Traceback" not in stderr
    message = stderr.strip()
    assert message.startswith("error: ")
    assert stderr.count("error: ") == 1
    assert "\n  " in message, "a remedy"
    return message


@pytest.mark.parametrize("command", ["train", "manifest"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ravdes_cat"], ["unknown experiment 'ravdes_cat'", "Did you mean: ravdess_cat", "demo", "nemo_cat"]),
        (["mine.yaml"], ["the experiment file mine.yaml does not exist"]),
        ([EXPERIMENT, "data.quotta=3"], ["'data.quotta=3' on the command line", "Did you mean: data.quota"]),
        ([EXPERIMENT, "data.quota=many"], ["'data.quota=many' on the command line", "Integer", "has now: 32"]),
        ([EXPERIMENT, "data.quota=0"], ["data.quota is 0", "Give 1 or more"]),
        ([EXPERIMENT, "--data.quota=3"], ["unknown option '--data.quota=3'", "data.quota=3"]),
        ([EXPERIMENT, "data.quota"], ["cannot read the setting 'data.quota'", "key=value"]),
    ],
)
def test_a_wrong_command(command: str, arguments: list[str], told: list[str], refused: Callable[..., str]) -> None:
    message = refused(command, *arguments)
    assert [part for part in told if part not in message] == []


@pytest.mark.parametrize(
    "arguments", [["train", "ravdes_cat"], ["train", EXPERIMENT, "data.quotta=3"], ["evaluate", "nowhere"]]
)
def test_the_answer_comes_before_anything_heavy_is_imported(arguments: list[str]) -> None:
    script = (
        "import sys; from experiments.__main__ import main; code = main(sys.argv[1:]); "
        "print(code, sorted({'torch', 'lightning', 'wandb', 'matplotlib', 'pyarrow'} & set(sys.modules)))"
    )
    done = python("-c", script, *arguments)
    assert done.stdout == "2 []\n"
    only_message(done.stderr)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_program_exits_with_2(tmp_path: Path, corpora: Path) -> None:
    (tmp_path / EXPERIMENT / "taken").mkdir(parents=True)
    (tmp_path / EXPERIMENT / "taken" / "notes.txt").touch()
    settings = [*runs.SMALL, *runs.places(corpora, tmp_path), "run=taken"]
    done = python("-m", "experiments", "train", EXPERIMENT, *settings)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"the run folder {tmp_path / EXPERIMENT / 'taken'} already exists" in only_message(done.stderr)
    assert "run=<name>" in done.stderr
    assert [path.name for path in (tmp_path / EXPERIMENT / "taken").iterdir()] == ["notes.txt"]


def test_missing_corpora_are_told_together(tmp_path: Path, refused: Callable[..., str]) -> None:
    settings = [f"data.cache={tmp_path / 'cache'}", f"output={tmp_path / 'runs'}"]
    message = refused("train", "ravdess_to_nemo", f"data.root={tmp_path}", *settings)
    for corpus, folder, address in (
        ("ravdess", "ravdess|Audio_Speech_Actors_01-24", "zenodo.org"),
        ("nemo", "nemo", "nEMO"),
        ("librispeech", "LibriSpeech", "openslr.org"),
    ):
        assert f"{corpus}: looked for {tmp_path}/" in message
        assert f"{tmp_path / folder} (data.root)" in message
        assert address in message
    assert "SER_AAE_DATA" in message
    assert message.splitlines()[-1].endswith("librispeech is auxiliary speech; to train without it: data.auxiliary=[]")
    assert "looked for: nowhere" in refused("train", "ravdess_single_task", *settings)
    assert list(tmp_path.iterdir()) == []


def test_missing_auxiliary_corpora_can_be_left_out(tmp_path: Path, refused: Callable[..., str]) -> None:
    fakes.ravdess(tmp_path / "ravdess", actors=1, statements=1)
    message = refused("train", EXPERIMENT, *runs.places(tmp_path, tmp_path / "runs"))
    assert "librispeech" in message
    assert "data.auxiliary=[]" in message
    assert not (tmp_path / "runs").exists()


def test_a_root_that_is_named_must_be_there(corpora: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    settings = [*runs.places(corpora, tmp_path), f"data.corpora.ravdess.root={tmp_path / 'gone'}"]
    assert f"{tmp_path / 'gone'} (its root setting)" in refused("train", EXPERIMENT, *settings)


def test_an_empty_corpus(corpora: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "ravdess").mkdir()
    settings = [*runs.places(corpora, tmp_path / "runs"), f"data.corpora.ravdess.root={tmp_path / 'ravdess'}"]
    message = refused("train", EXPERIMENT, *settings)
    assert "no utterance was found" in message
    assert str(tmp_path / "ravdess") in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["data.classes={happy: [joyful]}"], ["'joyful' (in class 'happy')", "ravdess", "happiness"]),
        (["data.classes={happy: []}"], ["classes.happy is empty"]),
        (["data.labelled=[]"], ["data.labelled names no corpus", "ravdess"]),
        (["data.labelled=[ravdes]"], ["there is no corpus 'ravdes'", "'ravdess'"]),
        (["split.fold=6"], ["split.fold=6 does not exist", "6 folds", "from 0 to 5"]),
        (["split.fold=-1"], ["split.fold=-1 does not exist", "from 0 to 5"]),
        (["split.folds=24"], ["split.folds=24", "the 7 speakers of ravdess", "from 2 to 7"]),
        (["split.protocol=by_chance"], ["split.protocol=by_chance", "speaker_groups"]),
        (["split.protocol=corpus"], ["ravdess has no split of its own", "speaker_groups"]),
        (["split.protocol=cross_corpus", "split.test_corpora=[]"], ["split.test_corpora=[]"]),
        (["data.auxiliary.0.quota=0"], ["data.auxiliary.0.quota is 0", "1 or more"]),
        (["data.auxiliary=[{role: speaker}]"], ["there is no corpus ''"]),
        (["data.auxiliary=[{corpus: librispeech, role: singer}]"], ["unknown role 'singer'", "unlabelled"]),
        (["data.corpora.librispeech.options={subsets: [dev-other]}"], ["librispeech", "dev-other"]),
        (["data.corpora.ravdess.options={colour: blue}"], ["no option 'colour'"]),
        (["trainer.devices=3"], ["data.quota", "cannot be shared evenly by 3 processes", "Choose a quota"]),
        (
            ["trainer.accelerator=gpu"],
            ["trainer.accelerator is 'gpu'", "finds no such GPU", "Use trainer.accelerator"],
        ),
        (["trainer.accelerator=gpux"], ["trainer.accelerator is 'gpux'", "auto, gpu, cuda"]),
        (["trainer.precision=bf16"], ["trainer.precision is 'bf16'", "auto, 32-true, bf16-mixed, 16-mixed"]),
        (["trainer.monitor=dev/ua"], ["trainer.monitor is 'dev/ua'", "dev/uar, dev/accuracy, dev/recall/neutral"]),
        (["trainer.monitor=dev/ccc"], ["trainer.monitor is 'dev/ccc'"]),
        (["trainer.monitor=test/uar"], ["trainer.monitor is 'test/uar'"]),
        (["model.heads={emotion: {weight: 0}}"], ["trainer.monitor is 'dev/uar'", "head emotion or dimensions"]),
        (["model.features.normalise=loudly"], ["loudly", "utterance"]),
        (["model.features.high_hz=20000"], ["20000"]),
        (["model.encoder.normalisation=layer"], ["layer"]),
        (["model.adversary.prior=uniform"], ["model.adversary.prior", "'uniform'", "gaussian, mixture"]),
        (["model.heads.mood={weight: 1}"], ["model.heads.mood", "unknown task 'mood'", "emotion"]),
        (["model.heads.emotion.reads=[soul]"], ["model.heads.emotion.reads", "'soul'"]),
        (["model.heads={emotion: {weight: 0}}", "model.categorical=1"], ["model.categorical"]),
    ],
    ids=lambda value: value[0] if value and "=" in value[0] else "",
)
def test_settings_that_do_not_fit(
    settings: list[str], told: list[str], corpora: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    message = refused("train", EXPERIMENT, *runs.SMALL, "data.root=x", *runs.places(corpora, tmp_path), *settings)
    assert [part for part in told if part not in message] == []
    assert list(tmp_path.iterdir()) == [], "a run folder was made"


def test_options_of_the_demo(tmp_path: Path, refused: Callable[..., str]) -> None:
    message = refused(
        "train", "demo", *runs.SMALL, *runs.places(tmp_path, tmp_path), "data.corpora.demo.options.voices=99"
    )
    assert "voices=99" in message


@pytest.mark.parametrize("command", ["train", "manifest"])
def test_an_output_that_is_no_folder(command: str, corpora: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "file").touch()
    message = refused(command, EXPERIMENT, *runs.SMALL, *runs.places(corpora, tmp_path / "file"))
    assert f"the folder {tmp_path / 'file' / EXPERIMENT}" in message
    assert "output=<folder>" in message


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "file",
    [
        ".environment.json.draft",
        ".metrics.csv.draft",
        ".best.ckpt.draft",
        ".last.ckpt.draft",
        "predictions_dev.csv",
        "confusion_dev.png",
        ".results.json.draft",
    ],
)
def test_a_full_disk(
    file: str, corpora: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    divert(monkeypatch, file)
    message = refused("train", EXPERIMENT, *runs.SMALL, *runs.places(corpora, tmp_path), "wandb.enabled=false")
    assert message.startswith("error: the disk is full")
    assert "Free some space, or set output and data.cache to folders on another disk;" in message
    if file.endswith(".draft"):
        assert file.removeprefix(".").removesuffix(".draft") in message
    assert not list(tmp_path.rglob("*.draft"))
    assert not list(tmp_path.rglob("results.json")), "the run looks complete"


def divert(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Lets every file of that name be written to a device that is full."""
    real = builtins.open

    def diverted(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        written = not isinstance(file, int) and Path(os.fsdecode(file)).name == name and set(mode) & set("wxa+")
        return real(FULL if written else file, mode, *rest, **options)

    monkeypatch.setattr(builtins, "open", diverted)
    monkeypatch.setattr(io, "open", diverted)


def test_a_run_that_is_no_run(tmp_path: Path, finished: Path, refused: Callable[..., str]) -> None:
    assert "is no run folder" in refused("evaluate", tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text((finished / "config.yaml").read_text())
    assert "results.json does not exist" in refused("evaluate", tmp_path)
    (tmp_path / "results.json").write_text("{")
    assert "results.json is damaged" in refused("evaluate", tmp_path)
    (tmp_path / "results.json").write_text((finished / "results.json").read_text())
    assert "best.ckpt does not exist" in refused("evaluate", tmp_path)


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "pickle", "other"])
def test_a_damaged_checkpoint(damage: str, tmp_path: Path, finished: Path, refused: Callable[..., str]) -> None:
    for name in ("config.yaml", "results.json"):
        (tmp_path / name).write_text((finished / name).read_text())
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir()
    whole = (finished / "checkpoints" / "best.ckpt").read_bytes()
    content = {"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"no checkpoint"}
    if damage in content:
        checkpoint.write_bytes(content[damage])
    else:
        torch.save({"pickle": Path, "other": {"weights": torch.zeros(1)}}[damage], checkpoint)
    message = refused("evaluate", tmp_path)
    assert str(checkpoint) in message
    assert len(message.splitlines()) == 2


def test_a_checkpoint_of_another_model(finished: Path, refused: Callable[..., str]) -> None:
    message = refused("evaluate", finished, "model.encoder.channels=[4,6]")
    assert "the checkpoint does not fit the model" in message
    assert "there is no setting" in refused("evaluate", finished, "model.encode.channels=[4,6]")


def test_an_evaluation_without_its_corpora(finished: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    message = refused("evaluate", finished, f"data.root={tmp_path}")
    assert f"{tmp_path / 'ravdess|Audio_Speech_Actors_01-24'} (data.root)" in message


def test_ctrl_c_before_training(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.__main__.load", interrupted)
    assert main(["train", EXPERIMENT]) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EBUSY, "Input/output error", "config.yaml")

    monkeypatch.setattr("experiments.__main__.load", broken)
    with pytest.raises(OSError, match=r"config\.yaml"):
        main(["train", EXPERIMENT])
