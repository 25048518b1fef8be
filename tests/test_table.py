"""Tables of the user's own: what is read, and what is refused."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.corpora import make_reader
from datamodules.corpora.base import (
    Scale,
    Utterance,
)
from datamodules.errors import InputError


def write_table(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding=encoding, newline="")
    return file


def rows_of(file: Path, **options: Any) -> list[Utterance]:
    reader = make_reader("table", {"path": str(file), **options})
    found = reader.read(reader.own_root() or file.parent)
    return [one for one in found if isinstance(one, Utterance)]


FULL = Utterance(
    "a/1.wav",
    start=0.5,
    end=1.5,
    speaker="03",
    gender="female",
    session="1",
    sentence="007",
    label="Angry",
    emotion="anger",
    activation=0.5,
    valence=0.25,
    dominance=1.0,
    split="development",
)
FULL_TEXT = """\
path,start,end,speaker,gender,session,sentence,emotion,activation,valence,dominance,split,comment
a/1.wav,0.5,1.5,03,F,1,007,Angry,0.5,.25,1,Dev,"one, two"
b.wav,,,,,,,,,,,,
"""


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("t.csv", FULL_TEXT, "utf-8"),
        ("t.csv", FULL_TEXT, "utf-8-sig"),
        ("t.csv", FULL_TEXT.replace("\n", "\r\n"), "utf-8"),
        ("t.csv", FULL_TEXT.replace("one", "Müller"), "latin-1"),
        ("t.csv", FULL_TEXT.replace("one, two", "one").replace(",", ";"), "utf-8"),
        ("t.tsv", FULL_TEXT.replace('"one, two"', "one").replace(",", "\t"), "utf-8"),
        ("t.csv", FULL_TEXT.replace("one, two", "one\n\ntwo"), "utf-8"),
        ("t.csv", FULL_TEXT.replace("03,F", " 03 ,FEMALE "), "utf-8"),
        ("t.csv", FULL_TEXT.replace("a/1", r"a\1"), "utf-8"),
    ],
)
def test_delimited_table(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    assert rows_of(write_table(tmp_path / name, text, encoding)) == [FULL, Utterance("b.wav")]


def test_parquet_table(tmp_path: Path) -> None:
    columns = {
        "path": ["a/1.wav", "b.wav"],
        "start": [0.5, None],
        "end": [1.5, None],
        "speaker": pa.array(["03", None]).dictionary_encode(),
        "gender": ["female", None],
        "session": [1, None],
        "sentence": ["007", None],
        "emotion": ["Angry", None],
        "activation": pa.array([0.5, float("nan")], pa.float32()),
        "valence": [0.25, None],
        "dominance": [1, None],
        "split": ["dev", None],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.parquet") == [FULL, Utterance("b.wav")]


def test_table_with_names_and_ranges_of_its_own(tmp_path: Path) -> None:
    file = write_table(tmp_path / "t.csv", "file,label,arousal\n1.wav,wut,4\n")
    columns = {"path": "file", "emotion": "label", "activation": "arousal"}
    [row] = rows_of(file, columns=columns, ranges={"activation": [5, 1]})
    assert (row.label, row.emotion, row.activation) == ("wut", "wut", 4.0)
    reader = make_reader("table", {"path": str(file), "ranges": {"activation": [5, 1]}})
    assert reader.scale("activation") == Scale(1, 5, reversed=True)
    assert reader.scale("valence") == Scale(0, 1)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("file,emotion\n1.wav,sad\n", {}, r"no column 'path'[\s\S]*it has: file, emotion"),
        ("path,emotoin\n1.wav,sad\n", {"columns": {"emotion": "emotion"}}, r"no column 'emotion'[\s\S]*'emotoin'\?"),
        ("path,valence\n1.wav,0.5\n2.wav,high\n", {}, r"row 3 .*column 'valence': 'high' is not a number"),
        ("path,valence\n1.wav,0.5\n2.wav,3.5\n", {}, r"row 3 .*3\.5 is outside 0 to 1[\s\S]*ranges\.valence=\[1,5\]"),
        (
            "path,v\n1.wav,0\n",
            {"columns": {"valence": "v"}, "ranges": {"valence": [1, 5]}},
            r"column 'v': 0\.0 is outs",
        ),
        ("path,valence\n1.wav,inf\n", {}, "inf is outside"),
        ("path,start\n1.wav,-1\n", {}, "row 2 .*-1.0 is outside 0"),
        ("path,gender\n1.wav,f\n2.wav,robot\n", {}, r"row 3 .*'robot' is not a gender[\s\S]*female"),
        ("path,split\n1.wav,train\n2.wav,trian\n", {}, r"row 3 .*'trian' is not a split[\s\S]*development"),
        ("path,split\n1.wav,train\n,train\n", {}, "row 3 .*path is missing"),
        ("path\n1.wav\n../2.wav\n", {}, r"row 3 .*'\.\./2\.wav' leaves the corpus root"),
        ("path\n/etc/passwd\n", {}, r"row 2 .*'/etc/passwd' leaves the corpus root"),
        ("path\na/../../2.wav\n", {}, "leaves the corpus root"),
        ("path\n..\\2.wav\n", {}, "leaves the corpus root"),
        ("path,speaker\n1.wav,a,b\n", {}, "cannot be read as a table"),
        ("path,path\n1.wav,2.wav\n", {}, "distinct column names"),
        ("", {}, "distinct column names"),
        ("path\n1.wav\n", {"columns": {"arousal": "a"}}, "columns names 'arousal'"),
        ("path\n1.wav\n", {"ranges": {"arousal": [1, 5]}}, "ranges names 'arousal'"),
        ("path\n1.wav\n", {"ranges": {"valence": [1, 1]}}, r"\[1, 1\] is no range"),
    ],
)
def test_table_that_is_refused(tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rows_of(write_table(tmp_path / "t.csv", text), **options)


def test_row_numbers_in_parquet_count_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["1.wav", "2.wav"], "valence": [0.5, 7]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"row 2 \(counted from 1\), column 'valence': 7\.0"):
        rows_of(tmp_path / "t.parquet")


def test_row_numbers_go_on_over_batches(tmp_path: Path) -> None:
    lines = "".join(f"{'x' * 100}{number}.wav,0.5\n" for number in range(40_000))
    with pytest.raises(InputError, match=r"row 40002 .*'oops'"):
        rows_of(write_table(tmp_path / "t.csv", f"path,valence\n{lines}last.wav,oops\n"))


def test_table_that_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a Parquet table"):
        rows_of(write_table(tmp_path / "t.parquet", FULL_TEXT))
    with pytest.raises(InputError, match="UTF-16"):
        rows_of(write_table(tmp_path / "t.csv", FULL_TEXT, "utf-16"))
    with pytest.raises(InputError, match=r"'nowhere\.csv' does not exist"):
        list(make_reader("table", {"path": "nowhere.csv"}).read(tmp_path))
    with pytest.raises(InputError, match="no table is given"):
        make_reader("table")


def test_table_with_a_root_of_its_own(tmp_path: Path) -> None:
    write_table(tmp_path / "labels/t.csv", f"path\na.wav\n{tmp_path}/audio/b.wav\n")
    (tmp_path / "audio").mkdir()
    reader = make_reader("table", {"path": str(tmp_path / "labels/t.csv")})
    assert reader.own_root() == tmp_path / "labels"
    assert [one.path for one in reader.read(tmp_path / "audio")] == ["a.wav", "b.wav"]
