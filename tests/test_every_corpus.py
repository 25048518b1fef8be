"""What experiments find in trees with faults: every figure is counted by hand, from the descriptions of `trees`."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.__main__ import main
from experiments.config import load
from tests import runs, trees

AUDIO = {
    "empty file": 1,
    "truncated or damaged": 2,  # one was cut off, the header of the other promises too much
    "silent": 1,
    "NaN or infinite samples": 1,
    "too short": 1,
}

CORPORA: dict[str, dict[str, Any]] = {
    "iemocap": {
        "utterances": 120 - 8,
        "faults": AUDIO | {"missing file": 1, "no label": 1},
        "speakers": {"female": 5, "male": 5, "unknown": 0, "total": 10, "utterances_without": 0},
        # Two of each actor's turns, but those spoilt (neutral), without audio and without label (both angry).
        "classes": {"neutral": 20 - 6, "happy": 20, "sad": 20, "angry": 20 - 2},
        # Four turns of each actor: of the six codes in a circle, each begins four further than the one before.
        "left_out": {"xxx": 6, "fru": 6, "fea": 7, "sur": 7, "dis": 7, "oth": 7},
    },
    "msp_improv": {
        "utterances": 216 - 8,
        "faults": AUDIO | {"missing file": 1, "no label": 1},
        "speakers": {"female": 6, "male": 6, "unknown": 0, "total": 12, "utterances_without": 0},
        "classes": {"neutral": 48 - 6, "happy": 48, "sad": 48, "angry": 48 - 2},
        "left_out": {"X": 12, "O": 12},
    },
    "msp_podcast": {
        "utterances": 80 + 3 - 7,
        "faults": AUDIO | {"missing file": 1, "listed twice in Labels/labels_consensus.csv": 1},
        # Five utterances of an unknown speaker in each split, and the unlisted.
        "speakers": {"female": 8, "male": 4, "unknown": 0, "total": 12, "utterances_without": 4 * 5 + 3},
        "classes": {"neutral": 16 - 6, "happy": 16, "sad": 16, "angry": 16 - 1},
        "left_out": {"X": 16},
    },
    "cremad": {
        "utterances": 120 - 6,
        "faults": AUDIO,
        "speakers": {"female": 5, "male": 5, "unknown": 0, "total": 10, "utterances_without": 0},
        "classes": {"neutral": 20 - 6, "happy": 20, "sad": 20, "angry": 20, "fearful": 20, "disgust": 20},
        "left_out": {},
    },
    "emodb": {
        "utterances": 140 - 6,
        "faults": AUDIO | {"unknown EmoDB code": 1},
        "speakers": {"female": 5, "male": 5, "unknown": 0, "total": 10, "utterances_without": 0},
        "classes": {"neutral": 14, "happy": 20, "sad": 20, "angry": 20, "fearful": 20, "disgust": 20, "bored": 20},
        "left_out": {},
    },
}

IEMOCAP = ("Ses01F Ses01M", "Ses02F Ses02M", "Ses03F Ses03M Ses04F Ses04M Ses05F Ses05M")
IMPROV = ("F01 M01", "F02 M02", "F03 F04 F05 F06 M03 M04 M05 M06")
PODCAST = ("201 202 203", "101 102 103", "1 2 3")

# Test, development and training: speakers, and utterances.
SIDES: dict[str, tuple[tuple[str, str, str], tuple[int, int, int]]] = {
    # Eight turns with a class of each actor; in each of the first two sessions two are lost, four in the others.
    "iemocap_cat": (IEMOCAP, (14, 14, 44)),
    # Twelve turns with ratings.
    "iemocap_dim": (IEMOCAP, (22, 22, 68)),
    "iemocap_joint": (IEMOCAP, (22, 22, 68)),
    # Sixteen turns with a class, of eighteen.
    "improv_cat": (IMPROV, (30, 30, 124)),
    "improv_dim": (IMPROV, (34, 34, 140)),
    # Four utterances of each of three speakers; those of an unknown one count in training alone.
    "podcast_cat": (PODCAST, (12 - 1, 12 - 2, 16 - 4)),
    "podcast_dim": (PODCAST, (15 - 1, 15 - 2, 20 - 4)),
    "cremad_cat": (("1001 1002", "1003 1004", "1005 1006 1007 1008 1009 1010"), (22, 22, 70)),
    "emodb_cat": (("03", "08 10", "09 11 12 13 14 15 16"), (13, 26, 95)),
}

ACROSS = {
    "iemocap_to_improv": (["iemocap/Ses01F", "iemocap/Ses01M"], (184, 14, 58)),
    "improv_to_iemocap": (["msp_improv/F01", "msp_improv/M01"], (72, 30, 154)),
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.write_all(tmp_path_factory.mktemp("corpora"))


def report(experiment: str, corpora: Path, output: Path, *settings: str) -> dict[str, Any]:
    assert main(["manifest", experiment, *runs.SMALL, *runs.places(corpora, output), *settings]) == 0
    found: dict[str, Any] = json.loads((output / experiment / "data_report.json").read_text())
    return found


@pytest.mark.parametrize("experiment", ["iemocap_cat", "improv_cat", "podcast_cat", "cremad_cat", "emodb_cat"])
def test_corpora_with_faults_are_what_they_are(experiment: str, corpora: Path, tmp_path: Path) -> None:
    found = report(experiment, corpora, tmp_path)
    (corpus,) = set(found["corpora"]) - {"librispeech"}
    of_corpus, expected = found["corpora"][corpus], CORPORA[corpus]
    assert {kind: one["count"] for kind, one in of_corpus["faults"]["kinds"].items()} == expected["faults"]
    for name in ("utterances", "speakers", "classes", "left_out"):
        assert of_corpus[name] == expected[name], name


@pytest.mark.parametrize("experiment", SIDES)
def test_sides_of_experiments(experiment: str, corpora: Path, tmp_path: Path) -> None:
    found = report(experiment, corpora, tmp_path)
    (corpus,) = set(found["corpora"]) - {"librispeech"}
    speakers, utterances = SIDES[experiment]
    for number, side in enumerate(("test", "development", "train")):
        assert found["split"][side]["speakers"] == [f"{corpus}/{name}" for name in speakers[number].split()]
        assert found["split"][side]["utterances"] == utterances[number]


@pytest.mark.parametrize(
    ("experiment", "utterances"),
    [
        ("iemocap_cat", 6 * 4),  # of six training speakers, four turns each of rarer codes
        ("improv_cat", 8 * 2),  # of eight, one without agreement and one of another emotion
        ("podcast_cat", 3 + 1),  # of three and an unknown one, one without agreement
        ("iemocap_to_improv", 8 * 4),
        ("improv_to_iemocap", 10 * 2),
    ],
)
def test_turns_without_a_class_are_unlabelled_speech(
    experiment: str, utterances: int, corpora: Path, tmp_path: Path
) -> None:
    found = report(experiment, corpora, tmp_path)
    trained = load(experiment).data.labelled[0]
    assert found["auxiliary"] == [
        {"corpus": "librispeech", "role": "speaker", "utterances": 12, "quota": 4},
        {"corpus": "librispeech", "role": "unlabelled", "utterances": 12, "quota": 2},
        {"corpus": trained, "role": "unlabelled", "utterances": utterances, "quota": 2},
    ]


@pytest.mark.parametrize("experiment", ACROSS)
def test_sides_across_corpora(experiment: str, corpora: Path, tmp_path: Path) -> None:
    found = report(experiment, corpora, tmp_path)
    development, utterances = ACROSS[experiment]
    assert found["split"]["development"]["speakers"] == development
    assert tuple(found["split"][side]["utterances"] for side in ("test", "development", "train")) == utterances
    trained = "iemocap" if experiment == "iemocap_to_improv" else "msp_improv"
    for side, corpus in (("train", {trained}), ("test", {"iemocap", "msp_improv"} - {trained})):
        assert {name.partition("/")[0] for name in found["split"][side]["speakers"]} == corpus


def test_unknown_speakers_of_a_podcast_stay_on_the_training_side(corpora: Path, tmp_path: Path) -> None:
    split = report("podcast_cat", corpora, tmp_path)["split"]
    assert [split[side]["unknown_speaker"] for side in ("train", "development", "test")] == [4, 0, 0]
    # Of Test2 sixteen with a class; of development and Test1 four each.
    assert split["left_out"] == {"not in the corpus's own split": 16, "unknown speaker": 8}


def test_leaving_one_speaker_out_the_other_of_the_session_develops(corpora: Path, tmp_path: Path) -> None:
    settings = ["split.protocol=leave_one_speaker_out", "split.development=same_session"]
    split = report("iemocap_cat", corpora, tmp_path, *settings, "split.fold=3")["split"]
    assert (split["test"]["speakers"], split["development"]["speakers"]) == (["iemocap/Ses02M"], ["iemocap/Ses02F"])
    assert (split["folds"], split["train"]["utterances"]) == (10, 72 - 14)


def test_a_recording_under_two_speakers_is_told_and_stops_a_run_that_divides_them(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    duplicates = report("iemocap_cat", corpora, tmp_path)["duplicates"]
    assert (duplicates["groups"], duplicates["across_speakers"]) == (2, 1)
    settings = ["split.protocol=leave_one_speaker_out", "split.development=same_session", "split.fold=8"]
    assert main(["manifest", "iemocap_cat", *runs.SMALL, *runs.places(corpora, tmp_path), *settings]) == 2
    told = capsys.readouterr().err
    assert "Ses05F_impro01_F002.wav" in told
    assert "Ses05F_impro01_M002.wav" in told


def test_both_corpora_rate_activation_upwards(corpora: Path, tmp_path: Path) -> None:
    found = report("iemocap_to_improv", corpora, tmp_path)["corpora"]
    scales = {name: found[name]["dimensions"]["activation"]["scale"] for name in ("iemocap", "msp_improv")}
    assert scales["iemocap"] == {"low": 1, "high": 5, "reversed": False}
    assert scales["msp_improv"] == {"low": 1, "high": 5, "reversed": True}
