"""A run becomes a folder that anyone can use, with the scores of the run and a true card; nothing is overwritten."""

import errno
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
import yaml  # type: ignore[import-untyped]
from safetensors.torch import load_file, save_file

from datamodules.errors import InputError
from experiments.__main__ import main
from experiments.config import load_run
from experiments.export import writing
from experiments.export.card import model_card
from experiments.export.reading import read_export
from experiments.export.spread import study_of
from experiments.files import digest, read_json, write_json
from experiments.predict import load
from experiments.run import make_data
from experiments.study.record import record_of, write_records
from tests import fakes, runs

FILES = {"README.md", "config.json", "model.onnx", "model.safetensors", "novelty.safetensors"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.iemocap(root / "IEMOCAP_full_release")
    return root


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.train("iemocap_joint", root, tmp_path_factory.mktemp("run"), "data.auxiliary=[]", "model.window_s=0.5")


@pytest.fixture(scope="module")
def records(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of the run's settings, of which the last was tested worse."""
    records = tmp_path_factory.mktemp("records")
    record = record_of("mine", "full", {}, load_run(run, ["trainer.precision=auto"]), run)
    wrong = {
        speaker: np.roll(np.diag(np.sum(rows, axis=1)), 1, axis=1).tolist()
        for speaker, rows in record.confusion_by_speaker.items()
    }
    of_seeds = [replace(record, seed=seed) for seed in range(2)]
    write_records(records / "mine" / "records.jsonl", [*of_seeds, replace(record, seed=2, confusion_by_speaker=wrong)])
    return records


@pytest.fixture(scope="module")
def exported(run: Path, records: Path) -> Path:
    assert main(["export", str(run), f"records={records}"]) == 0
    return run / "export"


@pytest.fixture
def changed(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "changed"))


def test_it_predicts_as_the_run_does(run: Path, exported: Path) -> None:
    speech = np.random.default_rng(0).normal(scale=0.1, size=24_000)
    found, expected = (load(place, accelerator="cpu")(speech, 16_000) for place in (exported, run))
    assert found.probabilities == expected.probabilities
    assert found.dimensions == expected.dimensions
    assert found.novelty == expected.novelty
    assert 0 <= found.novelty <= 1
    assert (
        read_json(exported / "config.json")["temperature"]
        == read_json(run / "results.json")["calibration"]["temperature"]
    )
    raw = load(exported, accelerator="cpu", calibrate=False)(speech, 16_000)
    assert raw.probabilities != found.probabilities
    assert raw.probabilities == load(run, accelerator="cpu", calibrate=False)(speech, 16_000).probabilities


def test_the_folder_holds_what_inference_needs(exported: Path, root: Path) -> None:
    assert {path.name for path in exported.iterdir()} == FILES
    for path in exported.iterdir():
        assert str(root.parent).encode() not in path.read_bytes(), f"{path.name} tells of this machine"
    config = read_json(exported / "config.json")
    assert config["outputs"] == ["emotion", "dimensions", "code"]
    assert [one["name"] for one in config["labels"]["classes"]] == ["neutral", "happy", "sad", "angry"]
    assert config["labels"]["classes"][1]["emotions"] == ["happiness", "excitement"]
    scale = {"low": 1, "high": 5, "reversed": False}
    assert config["labels"]["dimensions"][1] == {"name": "valence", "low": 0, "high": 1, "corpora": {"iemocap": scale}}
    assert config["onnx"]["largest_difference"] <= 1e-4
    assert config["onnx"]["recordings"] == 8
    assert {name.split(".")[0] for name in load_file(exported / "model.safetensors")} == {
        "encoder",
        "features",
        "heads",
    }


def test_scores_are_those_of_the_run(exported: Path, run: Path) -> None:
    model = read_export(exported)
    assert model.sample_rate == 16000
    assert not model.module.training
    data = make_data(load_run(run))
    data.trainer = None
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    rows = [line.split(",") for line in (run / "predictions_dev.csv").read_text().splitlines()]
    columns = [rows[0].index(f"probability_{name}") for name in model.classes]
    columns += [rows[0].index(f"{name}_prediction") for name in model.dimensions]
    known = np.array([[float(row[column]) for column in columns] for row in rows[1:]])
    found, in_onnx = [], []
    for batch in data.val_dataloader():
        valid = (batch.row >= 0).numpy()
        with torch.inference_mode():
            scores = model.module(batch.waveform, batch.length)
        found.append(torch.cat([scores["emotion"], scores["dimensions"]], dim=1).numpy()[valid])
        fed = {"waveform": batch.waveform.numpy(), "lengths": batch.length.numpy()}
        in_onnx.append(np.concatenate(session.run(["emotion", "dimensions"], fed), axis=1)[valid])
    np.testing.assert_allclose(np.concatenate(found), known, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(in_onnx), known, atol=1e-4)


def test_the_card_can_be_read_by_a_hub_and_says_what_the_run_was(exported: Path, run: Path) -> None:
    card = (exported / "README.md").read_text()
    _, front, text = card.split("---\n", maxsplit=2)
    read = yaml.safe_load(front)
    assert read["license"] == "other"
    assert read["language"] == ["en"]
    assert read["datasets"] == ["iemocap"]
    uar = read_json(run / "results.json")["test"]["uar"]
    assert read["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(uar, abs=1e-4)
    assert f"{uar:.3f}" in text
    for words in (
        "IEMOCAP release agreement",
        "fold 0 of 5",
        "Article 5(1)(f)",
        "Acted speech (iemocap)",
        "CCC of valence",
    ):
        assert words in text, words
    spread = re.search(r"study `mine` has 3 runs.*single runs from (0\.\d+) to (0\.\d+)", text)
    assert spread is not None, "what the records of the study say is missing"
    assert float(spread[2]) == pytest.approx(uar, abs=1e-3)
    assert float(spread[1]) < float(spread[2])


def test_a_run_of_no_study_says_so(exported: Path, run: Path, tmp_path: Path) -> None:
    config = load_run(run)
    assert study_of(run, config, tmp_path) is None
    report, results = read_json(run / "data_report.json"), read_json(run / "results.json")
    card = model_card(read_json(exported / "config.json"), config, results, report, None)
    assert "This is one run" in card


def test_the_card_runs_as_it_stands(
    exported: Path, changed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(changed)
    soundfile.write("speech.wav", np.random.default_rng(0).standard_normal((24000, 2)) / 10, 16000)
    snippets = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    told = []
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), {})
        told.append(capsys.readouterr().out)
    assert len(told) == 2
    assert [line.split()[0] for line in told[0].splitlines()][:2] == ["neutral", "happy"]
    assert [line.split()[0] for line in told[0].splitlines()][-1] == "dominance"
    figures = [np.array(re.findall(r"[\d.]+$", text, re.MULTILINE), float) for text in told]
    np.testing.assert_allclose(figures[0], figures[1], atol=2e-3)
    soundfile.write("speech.wav", np.zeros(800), 8000)
    with pytest.raises(SystemExit, match="resample"):
        exec(compile(snippets[0], "README.md", "exec"), {})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    """The graph of before, since to make it again takes seconds."""
    onnx = (exported / "model.onnx").read_bytes()
    monkeypatch.setattr(writing, "to_onnx", lambda module, about: onnx)


@pytest.mark.usefixtures("quick")
def test_an_export_is_replaced_and_what_others_wrote_is_not(
    run: Path, changed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(changed / "config.json")
    (changed / "model.onnx").unlink()  # whatever became of the rest
    assert main(["export", str(run), f"out={changed}", f"records={tmp_path}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(changed)
    assert {path.name for path in changed.iterdir()} == FILES
    assert digest(changed / "config.json") != before
    assert [path.name for path in tmp_path.iterdir()] == ["changed"], "drafts were left"

    (changed / "README.md").write_text("mine")
    refused(["export", str(run), f"out={changed}"], "README.md was not exported, or was changed since", capsys)
    (changed / "notes.txt").write_text("mine")
    refused(["export", str(run), f"out={changed}"], "holds notes.txt, which was not exported", capsys)
    refused(["export", str(run), f"out={run}"], "which was not exported", capsys)
    refused(["export", str(run), f"out={run / 'results.json'}"], "is no folder", capsys)
    assert (changed / "README.md").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert main(["export", str(run), f"out={tmp_path / 'empty'}", f"records={tmp_path}"]) == 0
    assert read_export(tmp_path / "empty").classes


@pytest.mark.usefixtures("quick")
def test_it_is_written_completely_or_not_at_all(
    run: Path, changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, content: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(writing, "write_json", full)
    before = {path.name: digest(path) for path in changed.iterdir()}
    for out in (changed, tmp_path / "new"):
        refused(["export", str(run), f"out={out}"], "the disk is full", capsys)
    assert {path.name: digest(path) for path in changed.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["changed"]


@pytest.mark.usefixtures("quick")
def test_a_graph_that_differs_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(writing, "TOLERANCE", 1e-12)
    refused(["export", str(run), f"out={tmp_path / 'out'}"], "differs from PyTorch by", capsys)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["export", str(tmp_path)], "is no run folder", capsys)
    refused(["export", str(run), "epochs=3"], "export has no setting 'epochs=3'", capsys)
    unfinished = Path(shutil.copytree(run, tmp_path / "unfinished", ignore=shutil.ignore_patterns("results.json")))
    refused(["export", str(unfinished)], "results.json does not exist", capsys)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    refused(["export", str(run)], "needs the package onnxruntime", capsys)


def test_a_damaged_export_is_told(changed: Path) -> None:
    good = read_json(changed / "config.json")

    def read_changed(**changes: object) -> None:
        write_json(changed / "config.json", {**good, **changes})
        read_export(changed)

    def said(**changes: object) -> str:
        with pytest.raises(InputError, match=str(changed)) as caught:
            read_changed(**changes)
        return str(caught.value)

    assert "has version 2, and this program reads version 1" in said(version=2)
    assert "is not the config.json of a model" in said(format="other")
    assert "model cannot be read" in said(model={"mels": 3})
    assert "model.window_s is -1, and not 0.1 or more" in said(model={**good["model"], "window_s": -1})
    assert "${" in said(model={**good["model"], "heads": {"emotion": {"task": "${oc.env:HOME}"}}})
    with pytest.raises(InputError, match="unknown task 'mood'"):
        read_changed(model={**good["model"], "heads": {"mood": {}}})
    assert "no head that predicts" in said(model={**good["model"], "heads": {}})
    assert "labels cannot be read" in said(labels={"classes": [1], "dimensions": []})
    assert "promises" in said(labels={**good["labels"], "classes": good["labels"]["classes"][:3]})
    huge = {**good["model"]["encoder"], "channels": [10**6, 10**6]}
    assert "promises" in said(model={**good["model"], "encoder": huge})
    deep = {**good["model"]["encoder"], "layers": [10**9]}
    assert "fewer layers" in said(model={**good["model"], "encoder": deep})
    with (changed / "model.safetensors").open("ab") as stream:
        stream.write(b"0")
    assert "another checksum" in said()
    assert "cannot be read" in said(files={"model.safetensors": digest(changed / "model.safetensors")})
    save_file({"encoder.project.bias": torch.zeros(2)}, changed / "model.safetensors")
    assert "fewer layers" in said(files={"model.safetensors": digest(changed / "model.safetensors")})
    (changed / "model.safetensors").unlink()
    assert "does not exist" in said()
    (changed / "config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        read_export(changed)


def refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Expects a command to end with exit code 2 and one message."""
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
