"""A trained model applied to recordings: that it says what evaluation says, and what becomes of odd and bad files."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from datamodules.errors import InputError
from experiments import novelty
from experiments.__main__ import main
from experiments.calibration import calibrated
from experiments.claims import release, take
from experiments.predict import load
from experiments.predict.command import read_request
from experiments.predict.recogniser import Recogniser
from tests import fakes, runs

Rows = list[dict[str, str]]
LONG = "model.window_s=0.5"
"""Utterances of the small corpora have several windows."""


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess", actors=6)
    fakes.librispeech(root / "LibriSpeech")
    return root


@pytest.fixture(scope="module")
def run(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = ["split.folds=3", "data.auxiliary.0.quota=2", "data.auxiliary.1.quota=2", "data.evaluation_batch=3", LONG]
    heads = "model.heads={emotion: {}, dimensions: {weight: 0}}"
    return runs.train("ravdess_cat", corpora, tmp_path_factory.mktemp("runs"), *small, heads)


@pytest.fixture(scope="module")
def recogniser(run: Path) -> Recogniser:
    return load(run, accelerator="cpu")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as people have them: formats, rates, channels, folders; a long one, bad ones, and what is no audio."""
    root = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)

    def write(name: str, seconds: float, rate: int, channels: int = 1, **options: Any) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        samples = rng.normal(0, 0.1, (round(seconds * rate), channels)).cumsum(axis=0)
        soundfile.write(root / name, 0.5 * samples / np.abs(samples).max(), rate, **options)

    write("b/stereo.flac", 1.0, 44_100, 2)
    write("a.wav", 0.7, 8000)
    write("c.ogg", 0.9, 16_000, format="OGG", subtype="VORBIS")
    write("d.mp3", 1.1, 22_050, 2)
    write("e.aiff", 0.5, 48_000, subtype="PCM_24")
    write("long.wav", 5.3, 16_000)
    write(".hidden.wav", 0.5, 16_000)
    (root / "notes.txt").write_text("no audio")
    (root / "broken.wav").write_bytes(b"RIFF and nothing else")
    (root / "empty.flac").touch()
    soundfile.write(root / "silent.wav", np.zeros(16_000), 16_000)
    whole = (root / "a.wav").read_bytes()
    (root / "cut.wav").write_bytes(whole[: len(whole) // 2])
    return root


def predict(place: Path, audio: Path, out: Path, *settings: str) -> Rows:
    assert main(["predict", str(place), f"audio={audio}", f"out={out}", "accelerator=cpu", *settings]) == 0
    return read_csv(out)


def read_csv(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def probabilities(rows: Rows) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([[float(row[name]) for name in row if name.startswith("probability_")] for row in rows])


def test_a_whole_utterance_gets_what_evaluation_gave_it_and_calibration_comes_after(
    run: Path, corpora: Path, tmp_path: Path
) -> None:
    plain = {row["file"]: row for row in predict(run, corpora / "ravdess", tmp_path / "plain.csv", "calibrate=false")}
    after = {row["file"]: row for row in predict(run, corpora / "ravdess", tmp_path / "after.csv", "batch=5")}
    truth = read_csv(run / "predictions_test.csv") + read_csv(run / "predictions_dev.csv")
    assert len(truth) > 10
    assert probabilities([plain[row["id"]] for row in truth]) == pytest.approx(probabilities(truth), abs=1e-5)
    temperature = json.loads((run / "results.json").read_text())["calibration"]["temperature"]
    assert temperature != 1
    expected = calibrated(probabilities(truth), temperature)
    assert probabilities([after[row["id"]] for row in truth]) == pytest.approx(expected, abs=1e-5)
    assert [after[row["id"]]["emotion"] for row in truth] == [row["prediction"] for row in truth]


def test_every_recording_of_a_folder_gets_its_rows_in_order(run: Path, recordings: Path, tmp_path: Path) -> None:
    rows = predict(run, recordings, tmp_path / "out.csv", "window_s=2", "hop_s=1.5")
    long = [(float(row["start"]), float(row["end"])) for row in rows if row["file"] == "long.wav"]
    assert long == [(0, 2), (1.5, 3.5), (3, 5), (3.3, 5.3)]
    errors = {row["file"]: row["error"].partition(":")[0] for row in rows if row["error"]}
    assert errors == {
        "broken.wav": "unreadable",
        "cut.wav": "truncated or damaged",
        "empty.flac": "empty file",
        "silent.wav": "silent",
    }
    good = [row["file"] for row in rows if not row["error"]]
    assert good == ["a.wav", "c.ogg", "d.mp3", "e.aiff", *["long.wav"] * 4, "b/stereo.flac"]
    assert probabilities([row for row in rows if not row["error"]]).sum(axis=1) == pytest.approx(1)
    assert all(0 <= float(row["novelty"]) <= 1 for row in rows if not row["error"])
    assert all(row["probability_calm"] == row["novelty"] == "" for row in rows if row["error"])


def test_windows_are_predicted_as_recordings_of_their_own(run: Path, recordings: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(recordings / "long.wav", dtype="int16")
    (tmp_path / "cut").mkdir()
    soundfile.write(tmp_path / "cut" / "first.wav", samples[: 2 * rate], rate)
    soundfile.write(tmp_path / "cut" / "last.wav", samples[-2 * rate :], rate)
    windows = predict(run, recordings / "long.wav", tmp_path / "long.csv", "window_s=2")
    alone = predict(run, tmp_path / "cut", tmp_path / "alone.csv")
    assert probabilities([windows[0], windows[-1]]) == pytest.approx(probabilities(alone), abs=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_what_was_interrupted_goes_on_and_what_has_ended_stays(
    run: Path, recordings: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["predict", str(run), f"audio={recordings}", "accelerator=cpu", "window_s=2", "batch=1", "code=true"]
    assert main([*command, f"out={tmp_path / 'whole'}.{suffix}"]) == 0
    out = tmp_path / f"out.{suffix}"
    rows = Recogniser.rows

    def die(self: Recogniser, *arguments: Any) -> Iterator[Any]:
        for number, some in enumerate(rows(self, *arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield some

    with monkeypatch.context() as patch:
        patch.setattr(Recogniser, "rows", die)
        assert main([*command, f"out={out}"]) == 130
    began = tmp_path / f"{out.name}.rows.jsonl" if suffix == "parquet" else out
    with began.open("ab") as stream:
        stream.write(b"half a r")  # as a process leaves it that is killed while it writes
    assert main([*command, f"out={out}"]) == 0
    assert out.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    stamp = out.stat().st_mtime_ns
    assert main([*command, f"out={out}"]) == 0
    assert out.stat().st_mtime_ns == stamp
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [f"{name}.{suffix}{end}" for name in ("out", "whole") for end in ("", ".json")]
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_recordings_that_came_later_are_added(run: Path, recordings: Path, tmp_path: Path, suffix: str) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    folder, out = tmp_path / "audio", tmp_path / f"out.{suffix}"
    folder.mkdir()
    for name in ("a.wav", "c.ogg"):
        shutil.copy(recordings / name, folder)
        assert main(["predict", str(run), f"audio={folder}", f"out={out}", "accelerator=cpu"]) == 0
    table = (pyarrow.parquet.read_table if suffix == "parquet" else pyarrow.csv.read_csv)(out)
    assert table.column("file").to_pylist() == ["a.wav", "c.ogg"]


def test_only_one_command_writes_a_table(
    run: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = take(tmp_path / ".out.csv.lock")
    assert claim is not None
    command = ["predict", str(run), f"audio={recordings / 'a.wav'}", f"out={tmp_path / 'out.csv'}", "accelerator=cpu"]
    assert main(command) == 2
    assert "another process is writing" in capsys.readouterr().err
    release(claim)
    assert main(command) == 0


def test_other_settings_or_something_else_in_its_place_are_refused(
    run: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, command = tmp_path / "out.csv", ["predict", str(run), f"audio={recordings / 'a.wav'}", "accelerator=cpu"]
    out.write_text("mine")
    assert main([*command, f"out={out}"]) == 2
    assert out.read_text() == "mine"
    assert f"{out} is there already" in capsys.readouterr().err
    out.unlink()
    (tmp_path / "out.csv.json").write_text('{"mine": 1}')
    assert main([*command, f"out={out}"]) == 2
    assert "was not written by this command" in capsys.readouterr().err
    assert not out.exists()
    (tmp_path / "out.csv.json").unlink()
    assert main([*command, f"out={out}"]) == 0
    assert main([*command, f"out={out}", "code=true"]) == 2
    assert "was begun with code=False, and now it is True" in capsys.readouterr().err
    out.write_text(out.read_text() + "more\n")
    assert main([*command, f"out={out}"]) == 2
    assert "is not as the last command left it" in capsys.readouterr().err
    assert out.read_text().endswith("more\n")


def test_a_table_names_files_and_parts_of_them(run: Path, recordings: Path, tmp_path: Path) -> None:
    text = "file,start,end,valence\nlong.wav,0 days 00:00:01.500000,0 days 00:00:03.000000,7\nlong.wav,1.5,3,\n"
    (recordings / "table.csv").write_text(f"{text}b/stereo.flac,,NaT,1\nnot-there.wav,,,\nlong.wav,90,91,\n")
    try:
        rows = predict(run, recordings / "table.csv", tmp_path / "out.csv")
    finally:
        (recordings / "table.csv").unlink()
    assert [(row["file"], row["start"], row["end"]) for row in rows] == [
        ("long.wav", "1.5", "3.0"),
        ("long.wav", "1.5", "3.0"),
        ("b/stereo.flac", "0.0", "1.0"),
        ("not-there.wav", "0.0", ""),
        ("long.wav", "90.0", "91.0"),
    ]
    assert probabilities(rows[:1]) == pytest.approx(probabilities(rows[1:2]), abs=1e-5)
    assert [row["error"].partition(":")[0] for row in rows] == ["", "", "", "missing file", "segment"]


def test_a_table_does_not_leave_its_folder_unless_it_is_told_to(
    run: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "tables" / "table.tsv"
    table.parent.mkdir()
    table.write_text(f"path\n{recordings / 'a.wav'}\n")
    command = ["predict", str(run), f"audio={table}", f"out={tmp_path / 'out.csv'}", "accelerator=cpu"]
    assert main(command) == 2
    assert "leaves the corpus root" in capsys.readouterr().err
    assert main([*command, f"root={recordings}"]) == 0
    assert [row["file"] for row in read_csv(tmp_path / "out.csv")] == ["a.wav"]


def test_samples_get_what_their_file_gets(recogniser: Recogniser, recordings: Path) -> None:
    for name in ("a.wav", "b/stereo.flac", "d.mp3", "e.aiff"):
        samples, rate = soundfile.read(recordings / name, dtype="float32", always_2d=True)
        (row,) = recogniser.files(recordings / name)
        assert row.found is not None
        found = recogniser(samples.T, rate)
        assert found.probabilities == pytest.approx(row.found.probabilities, abs=1e-5)
        assert found.code == pytest.approx(row.found.code, abs=1e-4)
        assert found.emotion in found.probabilities
    whole = recogniser((samples[:, 0] * 32767).astype(np.int16), rate)
    assert whole.probabilities == pytest.approx(found.probabilities, abs=1e-2)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(16_000, np.float32), 16_000, "silent"),
        (np.full(16_000, np.nan, np.float32), 16_000, "NaN"),
        (np.ones(100, np.float32), 16_000, "too short"),
        (np.ones((2, 3, 4)), 16_000, "samples are"),
        (np.array([]), 16_000, "samples are"),
        (np.ones(16_000), 0, "a sample rate of 0 Hz"),
    ],
)
def test_samples_without_speech_are_refused_and_audinterface_gets_no_numbers(
    recogniser: Recogniser, samples: Any, rate: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        recogniser(samples, rate)
    assert np.isnan(recogniser.process(samples, rate)).all()


def test_audinterface_and_audformat_users_are_served(recogniser: Recogniser, recordings: Path) -> None:
    audinterface = pytest.importorskip("audinterface")
    audformat = pytest.importorskip("audformat")
    feature = audinterface.Feature(recogniser.names, process_func=recogniser.process)
    index = audformat.segmented_index(["long.wav", "a.wav"], ["0.5s", "0s"], ["2.5s", None])
    table = feature.process_index(index, root=str(recordings))
    ours = recogniser.index(index, root=recordings)
    assert list(ours.columns) == list(table.columns) == recogniser.names
    assert ours.index.equals(index)
    assert ours.to_numpy() == pytest.approx(table.to_numpy(), abs=1e-5)
    files = recogniser.index(audformat.filewise_index(["a.wav", "broken.wav"]), root=recordings)
    assert files.iloc[0].to_numpy() == pytest.approx(ours.iloc[1].to_numpy(), abs=1e-5)
    assert files.iloc[1].isna().all()


def test_a_run_without_calibration_and_novelty_is_calibrated_and_can_be_given_the_other(
    run: Path, corpora: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    shutil.copytree(run, old)
    results = json.loads((old / "results.json").read_text())
    temperature = results.pop("calibration")["temperature"]
    (old / "results.json").write_text(json.dumps(results))
    before = (old / novelty.FILE).read_bytes()
    (old / novelty.FILE).unlink()
    (row,) = predict(old, recordings / "a.wav", tmp_path / "out.csv")
    assert row["novelty"] == ""
    assert f"`make novelty RUN={old}` sees to it" in capsys.readouterr().err
    assert load(old, accelerator="cpu").model.temperature == pytest.approx(temperature, rel=1e-6)
    assert main(["novelty", str(old)]) == 0
    assert (old / novelty.FILE).read_bytes() == before
    last = load(old / "checkpoints" / "last.ckpt", accelerator="cpu")
    assert (last.model.temperature, last.model.novelty) == (1.0, None)


def test_a_model_of_dimensions_tells_those_that_were_rated(corpora: Path, tmp_path: Path) -> None:
    folder = runs.train("demo_dim", tmp_path / "demo", tmp_path / "runs")
    results = json.loads((folder / "results.json").read_text())
    assert results["calibration"] is None
    root = next((tmp_path / "demo").rglob("*.wav"), None) or next((tmp_path / "demo").rglob("*.flac"))
    truth = {row["id"]: row for row in read_csv(folder / "predictions_test.csv")}
    audio = next(file for file in root.parents if (file / next(iter(truth))).exists())
    rows = {row["file"]: row for row in predict(folder, audio, tmp_path / "out.csv")}
    for name, row in truth.items():
        for dimension in ("activation", "valence", "dominance"):
            assert float(rows[name][dimension]) == pytest.approx(float(row[f"{dimension}_prediction"]), abs=1e-5)
    assert "emotion" not in rows[name]
    results["dev"]["ccc"]["dominance"] = None
    (folder / "results.json").write_text(json.dumps(results))
    assert load(folder, accelerator="cpu").names == ["activation", "valence", "novelty"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["out=x.csv"], "audio is missing"),
        (["audio=x"], "out is missing"),
        (["audio=x", "out=x.txt"], "unknown kind of table"),
        (["audio=x", "out=x.csv", "window_s=0"], "window_s is '0'"),
        (["audio=x", "out=x.csv", "window_s=nan"], "window_s is 'nan'"),
        (["audio=x", "out=x.csv", "hop_s=31"], "hop_s is '31'"),
        (["audio=x", "out=x.csv", "batch=1.5"], "batch is '1.5'"),
        (["audio=x", "out=x.csv", "code=yes"], "code is 'yes'"),
        (["audio=x", "out=x.csv", "window=3"], "unknown setting 'window=3'"),
    ],
)
def test_a_wrong_setting_is_told(settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_request(settings)


def test_what_is_no_model_or_no_audio_is_told(
    run: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / "results.json").write_text('{"dev": [1]}')
    for place, audio, message in (
        (tmp_path / "nothing", recordings, "does not exist"),
        (tmp_path / "empty", recordings, "is no run folder"),
        (recordings / "a.wav", recordings, "is not in the folder checkpoints of a run"),
        (run, tmp_path / "nothing", "does not exist"),
        (run, tmp_path / "empty", "there is no audio file"),
        (run, recordings / "a.wav", "a.wav: File exists"),
        (tmp_path / "damaged", recordings, "results.json is damaged"),
    ):
        out = recordings / "a.wav" / "out.csv" if "exists" in message and audio.is_file() else tmp_path / "out.csv"
        assert main(["predict", str(place), f"audio={audio}", f"out={out}", "accelerator=cpu"]) == 2
        told = capsys.readouterr().err
        assert message in told
        assert "Traceback" not in told
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(InputError, match="accelerator is 'cuda', but PyTorch"):
        load(run, accelerator="cuda")
    with pytest.raises(InputError, match="accelerator is 'tpu'"):
        load(run, accelerator="tpu")


def test_a_checkpoint_of_another_model_is_told(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["state_dict"]["heads.emotion.output.bias"] = torch.zeros(3)
    torch.save(checkpoint, file)
    with pytest.raises(InputError, match="does not fit the model"):
        load(tmp_path / "run", accelerator="cpu")
