"""Each reader against its corpus's format, and how corpora are found."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.corpora import CORPORA, MissingCorpusError, all_missing, find_root, make_reader
from datamodules.corpora.base import (
    COMMON_EMOTIONS,
    Fault,
    Reader,
    Scale,
    Utterance,
    audio_files,
    common_emotion,
    directories,
    read_lines,
)
from datamodules.errors import InputError
from tests import fakes


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def read(name: str, root: Path, **options: Any) -> dict[str, Utterance | Fault]:
    """What a reader finds, by path."""
    found = list(make_reader(name, options).read(root))
    assert len({one.path for one in found}) == len(found)
    return {one.path: one for one in found}


def utterances(found: Iterable[Utterance | Fault]) -> list[Utterance]:
    return [one for one in found if isinstance(one, Utterance)]


# What all share


def test_scale() -> None:
    ratings = np.array([1.0, 2.0, 5.0])
    np.testing.assert_allclose(Scale(1, 5).to_unit(ratings), [0, 0.25, 1])
    np.testing.assert_allclose(Scale(1, 5, reversed=True).to_unit(ratings), [1, 0.75, 0])
    for scale in (Scale(1, 7), Scale(-1, 1, reversed=True)):
        np.testing.assert_allclose(scale.from_unit(scale.to_unit(ratings)), ratings)


@pytest.mark.parametrize(
    ("word", "common"), [("Angry", "anger"), (" fearful ", "fear"), ("surprised", "surprise"), ("Wehmut", "wehmut")]
)
def test_common_emotion(word: str, common: str) -> None:
    assert common_emotion(word) == common


def test_common_names_are_their_own() -> None:
    assert [common_emotion(name) for name in COMMON_EMOTIONS] == list(COMMON_EMOTIONS)


@pytest.mark.parametrize(
    "data",
    [
        "Jörg\nZoë\n".encode(),
        "Jörg\r\nZoë\r\n".encode(),
        "Jörg\nZoë".encode("utf-8-sig"),
        "Jörg\nZoë\n".encode("latin-1"),
        "Jörg\r\nZoë\r\n".encode("utf-16"),
    ],
)
def test_lines_in_any_encoding(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "names.txt").write_bytes(data)
    assert read_lines(tmp_path / "names.txt") == ["Jörg", "Zoë"]


def test_separators_inside_of_texts_do_not_end_lines(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a\u2028b\x0bc\nd", encoding="utf-8")
    assert read_lines(tmp_path / "texts.txt") == ["a\u2028b\x0bc", "d"]


def test_walking_is_sorted_and_leaves_out_what_is_hidden_or_no_audio(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.wav", "b/10.FLAC", "a.ogg", "b/._2.wav", ".hidden/3.wav", "notes.txt", "c/d/1.mp3", "wav")
    assert list(audio_files(tmp_path)) == ["a.ogg", "b/10.FLAC", "b/2.wav", "c/d/1.mp3"]
    assert list(directories(tmp_path)) == [".", "b", "c", "c/d"]


def test_walking_follows_links_but_no_loops(tmp_path: Path) -> None:
    touch(tmp_path, "corpus/a/1.wav", "elsewhere/2.wav")
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus/a/up").symlink_to(tmp_path / "corpus")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "corpus/a")
    found = list(audio_files(tmp_path / "corpus"))
    assert found[:1] == ["a/1.wav"]
    assert "linked/2.wav" in found
    assert len(found) < 5


@pytest.mark.parametrize("reader", CORPORA.values(), ids=CORPORA)
def test_every_reader_declares_itself(reader: type[Reader]) -> None:
    assert CORPORA[reader.name] is reader
    assert all(isinstance(text, str) and text for text in (reader.licence, reader.how_to_get, reader.language))
    assert isinstance(reader.labelled, bool)


@pytest.mark.parametrize("name", sorted(set(CORPORA) - {"table"}))
def test_options_are_known_by_their_names(name: str) -> None:
    reader = make_reader(name)
    assert type(reader)(**reader.options()).options() == reader.options()


def test_unknown_corpus_and_option() -> None:
    with pytest.raises(InputError, match=r"no corpus 'ravdes'[\s\S]*did you mean 'ravdess'"):
        make_reader("ravdes")
    with pytest.raises(InputError, match=r"'ravdess' has no option 'sing'[\s\S]*song"):
        make_reader("ravdess", {"sing": True})
    with pytest.raises(InputError, match=r"'nemo' has no option 'x'"):
        make_reader("nemo", {"x": 1})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "iemocap",
            {"self_reports": "maybe"},
            r"data\.corpora\.iemocap\.options\.self_reports is 'maybe'\s+give",
        ),
        ("iemocap", {"self_reports": 1}, r"self_reports is 1\s+give true or false"),
        ("iemocap", {"parts": None}, r"parts is None\s+give a list of words"),
        ("msp_podcast", {"test_sets": [1]}, r"test_sets is \[1\]\s+give a list of words, as in \[a, b\]"),
        ("voxceleb1", {"metadata": 5}, r"metadata is 5\s+give a word or a path"),
        ("cremad", {"labels": ["voice"]}, r"labels is \['voice'\]\s+give a word"),
        ("table", {"path": None}, r"path is None\s+give a word or a path"),
    ],
)
def test_options_of_the_wrong_kind(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_reader(name, options)


# RAVDESS


def test_ravdess(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Actor_01/03-01-05-01-02-01-01.wav",
        "Actor_12/03-01-08-02-01-02-12.flac",
        "Actor_02/03-02-04-01-02-01-02.wav",  # song
        "Actor_02/01-01-04-01-02-01-02.wav",  # audio and video
        "Actor_02/._03-01-05-01-02-01-02.wav",
        "Actor_03/03-01-09-01-02-01-03.wav",
        "Actor_03/03-01-05-01-02-01.wav",
        "readme.wav",
        "LICENSE.txt",
    )
    found = read("ravdess", tmp_path)
    assert utterances(found.values()) == [
        Utterance(
            "Actor_01/03-01-05-01-02-01-01.wav",
            speaker="01",
            gender="male",
            session="speech",
            sentence="02",
            label="angry",
            emotion="anger",
        ),
        Utterance(
            "Actor_12/03-01-08-02-01-02-12.flac",
            speaker="12",
            gender="female",
            session="speech",
            sentence="01",
            label="surprised",
            emotion="surprise",
        ),
    ]
    faults = {one.path: one.kind for one in found.values() if isinstance(one, Fault)}
    assert faults == {
        "Actor_03/03-01-09-01-02-01-03.wav": "unknown RAVDESS code",
        "Actor_03/03-01-05-01-02-01.wav": "not a RAVDESS name",
        "readme.wav": "not a RAVDESS name",
    }


def test_ravdess_with_song(tmp_path: Path) -> None:
    touch(tmp_path, "Actor_02/03-02-04-01-02-01-02.wav", "Actor_02/03-01-04-01-02-01-02.wav")
    found = utterances(read("ravdess", tmp_path, song=True).values())
    assert [(one.session, one.label) for one in found] == [("speech", "sad"), ("song", "sad")]


def test_ravdess_emotions(tmp_path: Path) -> None:
    touch(tmp_path, *(f"03-01-0{code}-01-01-01-01.wav" for code in range(1, 9)))
    found = utterances(read("ravdess", tmp_path).values())
    assert [one.label for one in found] == [
        "neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"
    ]  # fmt: skip
    assert [one.emotion for one in found] == [
        "neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"
    ]  # fmt: skip


# nEMO

NEMO_HEADER = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"


@pytest.mark.parametrize("encode", [lambda text: text.encode(), lambda text: text.encode("utf-8-sig")])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_nemo(tmp_path: Path, newline: str, encode: Callable[[str], bytes]) -> None:
    touch(tmp_path, "samples/EB0_surprised_13.flac", "samples/KS0_anger_1.wav", "samples/._KS0_anger_1.wav")
    lines = [
        NEMO_HEADER,
        'EB0_surprised_13.wav\tsurprised\t"Ród smoka\t„ród smoka”\t        EB0\tfemale\t27',
        "KS0_anger_1.wav\tanger\tAch\tach\t        KS0\tmale\t23",
        "",
    ]
    (tmp_path / "data.tsv").write_bytes(encode(newline.join(lines)))
    assert list(read("nemo", tmp_path).values()) == [
        Utterance(
            "samples/EB0_surprised_13.flac",
            speaker="EB0",
            gender="female",
            sentence="13",
            label="surprised",
            emotion="surprise",
        ),
        Utterance(
            "samples/KS0_anger_1.wav", speaker="KS0", gender="male", sentence="1", label="anger", emotion="anger"
        ),
    ]


def test_nemo_faults(tmp_path: Path) -> None:
    touch(tmp_path, *(f"samples/{name}.wav" for name in ("AA0_anger_1", "AA0_anger_2", "AA0_anger_3", "AA0_anger_4")))
    names = ["AA0_anger_1", "AA0_anger_1", "AA0_anger_2", "AA0_anger_3", "AA0_anger_9"]
    emotions = ["anger", "fear", "rage", "anger", "anger"]
    genders = ["male", "male", "male", "?", "male"]
    rows = [
        f"{name}.wav\t{emotion}\tx\tx\tAA0\t{gender}\t30"
        for name, emotion, gender in zip(names, emotions, genders, strict=True)
    ]
    (tmp_path / "data.tsv").write_text("\n".join([NEMO_HEADER, *rows, ""]))
    found = list(make_reader("nemo").read(tmp_path))
    assert [one.path for one in utterances(found)] == ["samples/AA0_anger_1.wav"]
    assert [(one.path, one.kind) for one in found if isinstance(one, Fault)] == [
        ("AA0_anger_1.wav", "listed twice in data.tsv"),
        ("samples/AA0_anger_2.wav", "unknown value in data.tsv"),
        ("samples/AA0_anger_3.wav", "unknown value in data.tsv"),
        ("AA0_anger_9.wav", "missing file"),
        ("samples/AA0_anger_4.wav", "no label"),
    ]


def test_nemo_without_its_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.tsv does not exist"):
        list(make_reader("nemo").read(tmp_path))
    (tmp_path / "data.tsv").write_text("file\temotion\n")
    with pytest.raises(InputError, match="no column file_id, speaker_id, gender"):
        list(make_reader("nemo").read(tmp_path))


# LibriSpeech

SPEAKERS = """\
; Some pipe(|) separated metadata
;ID  |SEX| SUBSET           |MINUTES| NAME
14   | F | train-clean-360  | 25.03 | Some | Name, with | bars
16   | M | dev-other        | 25.11 | Zoë
"""


@pytest.mark.parametrize(
    "data", [SPEAKERS.encode(), SPEAKERS.encode("latin-1"), SPEAKERS.replace("\n", "\r\n").encode()]
)
def test_librispeech(tmp_path: Path, data: bytes) -> None:
    touch(
        tmp_path,
        "train-clean-360/14/208/14-208-0000.flac",
        "dev-other/16/122/16-122-0003.wav",
        "test-clean/99/1/99-1-0000.flac",
        "dev-other/16/122/16-122.trans.txt",
        "dev-other/16/122/._16-122-0003.wav",
        "dev-other/16/122/14-122-0004.flac",
    )
    (tmp_path / "SPEAKERS.TXT").write_bytes(data)
    found = read("librispeech", tmp_path)
    assert utterances(found.values()) == [
        Utterance("dev-other/16/122/16-122-0003.wav", speaker="16", gender="male", session="122", split="development"),
        Utterance("test-clean/99/1/99-1-0000.flac", speaker="99", session="1", split="test"),
        Utterance(
            "train-clean-360/14/208/14-208-0000.flac", speaker="14", gender="female", session="208", split="train"
        ),
    ]
    assert [one.kind for one in found.values() if isinstance(one, Fault)] == ["not a LibriSpeech name"]


def test_librispeech_subsets(tmp_path: Path) -> None:
    fakes.librispeech(tmp_path, speakers=4, utterances=1, subsets=("train-clean-100", "test-other"))
    found = utterances(read("librispeech", tmp_path, subsets="test-other").values())
    assert [(one.speaker, one.gender) for one in found] == [("17", "male"), ("23", "male")]
    with pytest.raises(InputError, match=r"train-clean-360 is not in [\s\S]*there are: test-other, train-clean-100"):
        read("librispeech", tmp_path, subsets=["train-clean-360"])


def test_librispeech_needs_its_speakers(tmp_path: Path) -> None:
    touch(tmp_path, "dev-other/16/122/16-122-0003.flac")
    with pytest.raises(InputError, match=r"SPEAKERS\.TXT does not exist"):
        read("librispeech", tmp_path)
    (tmp_path / "SPEAKERS.TXT").write_text("14 | F | train | 1 | A\n15, F, train\n")
    with pytest.raises(InputError, match=r"line 2 cannot be read: '15, F, train'"):
        read("librispeech", tmp_path)


# Folder


def test_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b/x.wav", "a.flac", "a.txt")
    assert list(read("folder", tmp_path).values()) == [Utterance("a.flac"), Utterance("b/x.wav")]
    with pytest.raises(InputError, match="'a/b' is not a name"):
        make_reader("folder", {"corpus": "a/b"})


# Where corpora are


class MakesItself(Reader):
    """A corpus that needs no download."""

    name = "makes_itself"
    folders = ("synthetic",)
    how_to_get = "it makes itself"

    def prepare(self, root: Path) -> None:
        root.mkdir()

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        return iter(())


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SER_AAE_"):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_environment")
class TestFindRoot:
    def test_order_of_places(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        reader = CORPORA["ravdess"]
        for name in ("own", "variable", "data/ravdess", "shared/RAVDESS"):
            (tmp_path / name).mkdir(parents=True)
        monkeypatch.setenv("SER_AAE_DATA", str(tmp_path / "shared"))
        assert find_root(reader) == tmp_path / "shared/RAVDESS"
        assert find_root(reader, None, str(tmp_path / "data")) == tmp_path / "data/ravdess"
        assert find_root(reader, None, str(tmp_path / "data/ravdess")) == tmp_path / "data/ravdess"
        monkeypatch.setenv("SER_AAE_RAVDESS_ROOT", str(tmp_path / "variable"))
        assert find_root(reader, None, str(tmp_path / "data")) == tmp_path / "variable"
        assert find_root(reader, str(tmp_path / "own"), str(tmp_path / "data")) == tmp_path / "own"

    @pytest.mark.parametrize("spelt", ["MSP-IMPROV", "msp_improv", "MspImprov", "msp improv"])
    def test_a_folder_is_found_however_it_is_spelt(self, spelt: str, tmp_path: Path) -> None:
        for name in (spelt, ".msp_improv", "msp-improvised", "other"):
            (tmp_path / name).mkdir()
        (tmp_path / "MSP--IMPROV").touch()
        assert find_root(CORPORA["msp_improv"], None, str(tmp_path)) == tmp_path / spelt
        assert find_root(CORPORA["msp_improv"], None, str(tmp_path / spelt)) == tmp_path / spelt
        with pytest.raises(MissingCorpusError):
            find_root(CORPORA["msp_improv"], None, str(tmp_path / "other"))

    def test_wrong_setting_is_not_replaced_by_another_place(self, tmp_path: Path) -> None:
        (tmp_path / "ravdess").mkdir()
        with pytest.raises(MissingCorpusError, match=r"typo \(its root setting\)"):
            find_root(CORPORA["ravdess"], str(tmp_path / "typo"), str(tmp_path))

    def test_missing_names_all_places_and_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SER_AAE_DATA", "/nowhere")
        with pytest.raises(MissingCorpusError) as caught:
            find_root(CORPORA["nemo"], None, str(tmp_path))
        assert caught.value.places == [
            f"{tmp_path}/nemo (data.root)",
            "/nowhere/nemo (SER_AAE_DATA)",
        ]
        assert "https://github.com/amu-cai/nEMO" in str(caught.value)
        assert "SER_AAE_NEMO_ROOT" in str(caught.value)

    def test_several_missing_make_one_message(self) -> None:
        missing = []
        for name in ("ravdess", "nemo"):
            with pytest.raises(MissingCorpusError) as caught:
                find_root(CORPORA[name])
            missing.append(caught.value)
        assert all_missing(missing[:1]) is missing[0]
        message = str(all_missing(missing))
        for expected in ("2 corpora", "ravdess", "zenodo.org", "nemo", "github.com", "data.root"):
            assert expected in message

    def test_table_lies_where_its_option_says(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("path\n")
        reader = make_reader("table", {"path": str(tmp_path / "t.csv")})
        assert find_root(reader) == tmp_path
        (tmp_path / "audio").mkdir()
        assert find_root(reader, str(tmp_path / "audio")) == tmp_path / "audio"

    def test_corpus_that_makes_itself_has_a_place_to_do_so(self, tmp_path: Path) -> None:
        assert find_root(MakesItself, made_in=tmp_path) == tmp_path / "synthetic"
        assert find_root(MakesItself, str(tmp_path / "new")) == tmp_path / "new"
        (tmp_path / "data/synthetic").mkdir(parents=True)
        assert find_root(MakesItself, None, str(tmp_path / "data"), tmp_path) == tmp_path / "data/synthetic"
        with pytest.raises(MissingCorpusError):
            find_root(CORPORA["ravdess"], made_in=tmp_path)
