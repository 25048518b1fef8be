"""The data report's figures, and the check of the class map."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from datamodules.building import build_manifest
from datamodules.corpora import make_reader
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from datamodules.report import check_classes, data_report, print_report
from tests import fakes


def build(name: str, root: Path, **options: Any) -> Manifest:
    cache = root.parent / "cache"
    reader = make_reader(name, options)
    return build_manifest(reader, root, cache, hash_content=True, max_bad_fraction=0.5, workers=1, progress=False)


@pytest.fixture
def ravdess(tmp_path: Path) -> Manifest:
    return build("ravdess", fakes.ravdess(tmp_path / "ravdess", actors=3, statements=1))


@pytest.fixture
def nemo(tmp_path: Path) -> Manifest:
    return build("nemo", fakes.nemo(tmp_path / "nemo", speakers=2, sentences=1))


@pytest.fixture
def mine(tmp_path: Path) -> Manifest:
    """A table with ratings from 1 to 5, unknown genders, an emotion of its own, and unlabelled rows."""
    lines: list[dict[str, object]] = [
        {"path": "a.wav", "speaker": "1", "gender": "f", "emotion": "angry", "valence": 1, "activation": 5},
        {"path": "b.wav", "speaker": "1", "gender": "f", "emotion": "Wehmut", "valence": 5, "activation": 3},
        {"path": "c.wav", "speaker": "2", "gender": "", "emotion": "", "valence": 3, "activation": ""},
        {"path": "d.wav", "speaker": "", "gender": "", "emotion": "", "valence": "", "activation": ""},
    ]
    fakes.table(tmp_path / "mine/t.csv", lines)
    options = {"ranges": {"valence": [1, 5], "activation": [5, 1]}, "corpus": "mine"}
    return build("table", tmp_path / "mine", path="t.csv", **options)


CLASSES = {"angry": ["anger"], "low": ["sadness", "neutral", "boredom"]}


def test_corpora(ravdess: Manifest, nemo: Manifest) -> None:
    report = data_report([ravdess, nemo])
    one, two = report["corpora"]["ravdess"], report["corpora"]["nemo"]
    assert (one["utterances"], two["utterances"]) == (24, 12)
    assert one["hours"] == pytest.approx(24 * 0.5 / 3600)
    assert 0 < one["speech_hours"] < one["hours"]
    assert one["speakers"] == {"female": 1, "male": 2, "unknown": 0, "total": 3, "utterances_without": 0}
    assert one["sample_rates"] == {"48000": 24}
    assert one["faults"] == {"count": 0, "fraction": 0.0, "kinds": {}}
    assert (one["options"], two["options"]) == ({"song": False}, {})
    assert (one["synthetic"], one["labelled"], one["licence"]) == (False, True, "CC BY-NC-SA 4.0")
    assert report["duplicates"]["groups"] == 0


def test_report_is_plain_data(ravdess: Manifest, mine: Manifest) -> None:
    report = data_report([ravdess, mine], CLASSES)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_speakers_of_unknown_gender(mine: Manifest) -> None:
    speakers = data_report([mine])["corpora"]["mine"]["speakers"]
    assert speakers == {"female": 1, "male": 0, "unknown": 1, "total": 2, "utterances_without": 1}


def test_classes_and_what_they_leave_out(ravdess: Manifest, mine: Manifest) -> None:
    report = data_report([ravdess, mine], CLASSES)
    one = report["corpora"]["ravdess"]
    assert {"label": "sad", "emotion": "sadness", "class": "low", "utterances": 3} in one["labels"]
    assert {"label": "calm", "emotion": "calm", "class": None, "utterances": 3} in one["labels"]
    assert one["classes"] == {"angry": 3, "low": 6}
    assert one["left_out"] == dict.fromkeys(("calm", "happy", "fearful", "disgust", "surprised"), 3)
    assert one["without_label"] == 0
    two = report["corpora"]["mine"]
    assert (two["classes"], two["left_out"], two["without_label"]) == ({"angry": 1, "low": 0}, {"Wehmut": 1}, 2)
    assert report["classes"] == CLASSES


def test_without_a_class_map_nothing_is_left_out(ravdess: Manifest) -> None:
    report = data_report([ravdess])
    assert report["classes"] is None
    assert "left_out" not in report["corpora"]["ravdess"]


def test_dimensions(mine: Manifest) -> None:
    dimensions = data_report([mine])["corpora"]["mine"]["dimensions"]
    assert set(dimensions) == {"valence", "activation"}
    valence = dimensions["valence"]
    assert (valence["utterances"], valence["mean"], valence["lowest"], valence["highest"]) == (3, 0.5, 0, 1)
    assert valence["original"] == {
        "mean": 3,
        "deviation": pytest.approx((8 / 3) ** 0.5),
        "lowest": 1,
        "highest": 5,
    }
    assert dimensions["activation"]["scale"] == {"low": 1, "high": 5, "reversed": True}
    assert dimensions["activation"]["mean"] == 0.25  # (0 + 0.5) / 2


def test_faults_by_kind(tmp_path: Path) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=2, sentences=2)
    fakes.empty(root / "samples/AK0_fear_1.wav")
    for emotion in ("anger", "fear", "sadness"):
        fakes.silence(root / f"samples/BK0_{emotion}_2.wav")
    faults = data_report([build("nemo", root)])["corpora"]["nemo"]["faults"]
    assert (faults["count"], faults["fraction"]) == (4, 4 / 24)
    assert [(kind, one["count"]) for kind, one in faults["kinds"].items()] == [("silent", 3), ("empty file", 1)]
    assert faults["kinds"]["empty file"]["first"] == [{"path": "samples/AK0_fear_1.wav", "reason": "empty file"}]


def test_duplicates_within_and_across_corpora(tmp_path: Path) -> None:
    root = fakes.ravdess(tmp_path / "ravdess", actors=2, statements=1, repetitions=2)
    # Repeated: the same label and speaker; another label; another speaker; and in another corpus, in another format.
    actor = root / "Actor_01"
    fakes.duplicate(actor / "03-01-01-01-01-01-01.wav", actor / "03-01-01-01-01-02-01.wav")
    fakes.duplicate(actor / "03-01-02-01-01-01-01.wav", actor / "03-01-03-01-01-02-01.wav")
    fakes.duplicate(actor / "03-01-04-01-01-01-01.wav", root / "Actor_02/03-01-04-01-01-01-02.wav")
    fakes.duplicate(actor / "03-01-05-01-01-01-01.wav", tmp_path / "other/x.wav")
    fakes.make_stereo(tmp_path / "other/x.wav")
    manifests = [build("ravdess", root), build("folder", tmp_path / "other", corpus="other")]
    duplicates = data_report(manifests)["duplicates"]
    assert len(manifests[0]) == 32  # they are kept
    counted = {name: duplicates[name] for name in ("groups", "utterances", "across_speakers", "across_labels")}
    assert counted == {"groups": 4, "utterances": 4, "across_speakers": 1, "across_labels": 1}
    groups = {
        frozenset(f"{one['corpus']}/{one['path']}" for one in group["utterances"]): (
            group["across_speakers"],
            group["across_labels"],
        )
        for group in duplicates["first"]
    }
    assert groups == {
        frozenset({"ravdess/Actor_01/03-01-01-01-01-01-01.wav", "ravdess/Actor_01/03-01-01-01-01-02-01.wav"}): (
            False,
            False,
        ),
        frozenset({"ravdess/Actor_01/03-01-02-01-01-01-01.wav", "ravdess/Actor_01/03-01-03-01-01-02-01.wav"}): (
            False,
            True,
        ),
        frozenset({"ravdess/Actor_01/03-01-04-01-01-01-01.wav", "ravdess/Actor_02/03-01-04-01-01-01-02.wav"}): (
            True,
            False,
        ),
        frozenset({"ravdess/Actor_01/03-01-05-01-01-01-01.wav", "other/x.wav"}): (False, False),
    }


def test_printed_report(ravdess: Manifest, mine: Manifest, tmp_path: Path) -> None:
    root = fakes.folder(tmp_path / "talk", files=4)
    fakes.empty(root / "part0/0000.wav")
    fakes.duplicate(root / "part1/0001.wav", root / "part1/[red]copy.wav")
    report = data_report([ravdess, mine, build("folder", root, corpus="talk")], CLASSES)
    report["decoded"] = {"talk": 0.25}
    output = io.StringIO()
    print_report(report, Console(file=output, width=160))
    text = output.getvalue()
    for expected in (
        "Corpora", "ravdess", "CC BY-NC-SA 4.0", "ravdess: song = False",
        "Emotions", "fearful", "left out", "Wehmut", "no emotion",
        "Classes", "Dimensions", "1 to 5, reversed",
        "Left out because of faults", "part0/0000.wav (empty file)",
        "decoded once", "0.25",
        "Exact duplicates", "[red]copy.wav",
    ):  # fmt: skip
        assert expected in text


def test_printed_report_without_labels_has_no_empty_tables(tmp_path: Path) -> None:
    output = io.StringIO()
    report = data_report([build("folder", fakes.folder(tmp_path / "talk"))])
    print_report(report, Console(file=output, width=120))
    assert "Corpora" in output.getvalue()
    for absent in ("Emotions", "Classes", "Dimensions", "faults\n", "duplicates"):
        assert absent not in output.getvalue()


def test_class_map_that_fits(ravdess: Manifest, nemo: Manifest) -> None:
    check_classes({"angry": ["anger"], "low": ["calm", "sadness"]}, [ravdess, nemo])  # nEMO has no calm
    check_classes({}, [ravdess])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"a": ["anger"], "b": ["boredom"]}, r"'boredom' \(in class 'b'\) is no emotion .*\n.*anger \(as angry\)"),
        ({"a": ["angry"]}, r"'angry' \(in class 'a'\) is no emotion .*\n.*anger \(as angry\)"),
        ({"a": ["anger"], "b": ["sadness", "anger"]}, "'anger' is in a and b"),
        ({"a": ["anger", "anger"]}, "'anger' is in a, twice"),
        ({"a": ["anger"], "b": []}, r"classes\.b is empty"),
    ],
)
def test_class_map_that_does_not(ravdess: Manifest, classes: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_classes(classes, [ravdess])


def test_class_map_without_labelled_corpus(tmp_path: Path) -> None:
    manifest = build("folder", fakes.folder(tmp_path / "talk"))
    with pytest.raises(InputError, match="there are: none"):
        check_classes({"a": ["anger"]}, [manifest])
