"""VoxCeleb 1 and 2: the trees that people have, the tables that circulate, and what is left out."""

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from datamodules import building
from datamodules.building import build_manifest
from datamodules.corpora import find_root, make_reader
from datamodules.corpora.base import Fault, Utterance
from datamodules.datamodule import SpeechDataModule
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from datamodules.settings import AuxiliarySettings, DataSettings
from datamodules.splits import SplitSettings
from tests import fakes

VIDEO, OTHER = "1zcIwhmdeo4", "_YimahVgI1A"


def build(name: str, root: Path, cache: Path, hash_content: bool = True, **more: Any) -> Manifest:
    options = more.pop("options", {})
    more = {"workers": 1, "progress": False} | more
    return build_manifest(make_reader(name, options), root, cache, hash_content=hash_content, **more)


def read(name: str, root: Path, **options: Any) -> list[Utterance | Fault]:
    return list(make_reader(name, options).read(root))


def utterances(found: Iterable[Utterance | Fault]) -> list[Utterance]:
    return [one for one in found if isinstance(one, Utterance)]


def faults(found: Iterable[Utterance | Fault]) -> list[tuple[str, str]]:
    return [(one.path, one.reason) for one in found if isinstance(one, Fault)]


def by_speaker(found: Iterable[Utterance | Fault]) -> dict[str | None, tuple[str | None, str | None, int]]:
    """Gender, split and number of utterances of each speaker."""
    count = Counter((one.speaker, one.gender, one.split) for one in utterances(found))
    return {speaker: (gender, split, number) for (speaker, gender, split), number in count.items()}


GENDERS_1 = {
    "id10001": ("male", "train", 4),
    "id10002": ("male", "train", 4),
    "id10003": ("female", "train", 4),
    "id10270": ("female", "test", 4),
}
GENDERS_2 = {"id00012": ("male", "train", 4), "id00015": ("female", "train", 4), "id00017": ("male", "test", 4)}


# Trees


@pytest.mark.parametrize(
    "holders",
    [
        {"dev": "wav", "test": "wav"},
        {"dev": "vox1_dev_wav/wav", "test": "vox1_test_wav/wav"},
        {"dev": "dev/wav", "test": "test/wav"},
        {"dev": "VoxCeleb1/train/wav", "test": "VoxCeleb1/test/wav"},
        {"dev": ".", "test": "."},
    ],
)
def test_voxceleb1_as_people_unpack_it(tmp_path: Path, holders: dict[str, str]) -> None:
    found = read("voxceleb1", fakes.voxceleb1(tmp_path, holders))
    assert faults(found) == []
    assert by_speaker(found) == GENDERS_1
    dev = "" if holders["dev"] == "." else holders["dev"] + "/"
    assert found[0] == Utterance(
        f"{dev}id10001/{VIDEO}/00001.wav", speaker="id10001", gender="male", session=VIDEO, split="train"
    )
    # By speaker, video and number, wherever they lie.
    assert [one.path.split("/")[-3:] for one in found] == [
        [speaker, video, f"{number:05}.wav"] for speaker in GENDERS_1 for video in (VIDEO, OTHER) for number in (1, 2)
    ]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize(
    "holders",
    [
        {"dev": "dev/aac", "test": "aac"},
        {"dev": "vox2_dev_aac/dev/aac", "test": "vox2_test_aac/aac"},
        {"dev": "wav", "test": "wav"},
    ],
)
def test_voxceleb2_as_people_unpack_and_convert_it(tmp_path: Path, holders: dict[str, str], suffix: str) -> None:
    found = read("voxceleb2", fakes.voxceleb2(tmp_path, holders, suffix=suffix))
    assert faults(found) == []
    assert by_speaker(found) == GENDERS_2


def test_manifest_with_every_fault_of_audio(tmp_path: Path) -> None:
    root = fakes.voxceleb1(tmp_path / "voxceleb1", numbers=(1, 2, 3, 4))
    files = sorted(root.rglob("*.wav"))
    planted = fakes.plant_all(files)
    fakes.duplicate(files[-1], root / "vox1_dev_wav/wav/id10003" / VIDEO / "00009.wav")  # under two speakers
    manifest = build("voxceleb1", root, tmp_path / "cache", max_bad_fraction=0.5)
    unusable = {str(file.relative_to(root)): kind for file, kind in planted.items() if kind}
    assert {fault.path: fault.kind for fault in manifest.faults} == unusable
    assert len(unusable) == 6
    assert len(manifest) == 4 * 2 * 4 - 6 + 1
    rows = [manifest.row(index) for index in range(len(manifest))]
    assert {row["path"] for row in rows}.isdisjoint(unusable)
    assert {(row["speaker"], row["gender"], row["split"]) for row in rows} == {
        ("voxceleb1/id10001", "male", "train"),
        ("voxceleb1/id10002", "male", "train"),
        ("voxceleb1/id10003", "female", "train"),
        ("voxceleb1/id10270", "female", "test"),
    }
    assert {row["session"] for row in rows} == {VIDEO, OTHER}
    assert {row["emotion"] for row in rows} == {row["label"] for row in rows} == {None}
    assert len({row["content_hash"] for row in rows}) == len(rows) - 1
    assert not manifest.labelled


def test_both_corpora_in_one_folder(tmp_path: Path) -> None:
    fakes.voxceleb1(tmp_path / "VoxCeleb", {"dev": "wav", "test": "wav"})
    fakes.voxceleb2(tmp_path / "VoxCeleb", {"dev": "wav", "test": "wav"})
    for name, speakers in (("voxceleb1", GENDERS_1), ("voxceleb2", GENDERS_2)):
        reader = make_reader(name)
        found = list(reader.read(find_root(reader, None, str(tmp_path))))
        assert faults(found) == []
        assert by_speaker(found) == speakers


def test_the_other_corpus_is_not_taken_for_this_one(tmp_path: Path) -> None:
    fakes.voxceleb2(tmp_path)
    with pytest.raises(InputError, match=r"no folder of a VoxCeleb1 speaker .* such as id00012"):
        read("voxceleb1", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no folder of a VoxCeleb2 speaker \(id0\\d\{4\}\)\n"):
        read("voxceleb2", tmp_path / "empty")


def test_what_is_no_recording(tmp_path: Path) -> None:
    root = fakes.voxceleb1(tmp_path)
    source = next(root.rglob("*.wav"))
    odd = ["loose.wav", "vox1_dev_wav/wav/id10001/00001.wav", f"vox1_dev_wav/wav/id10001/{VIDEO}/more/00001.wav"]
    for path in odd:
        fakes.duplicate(source, root / path)
    fakes.hide_double(root / f"vox1_dev_wav/wav/id10001/{VIDEO}/00001.wav")
    shutil.copytree(root / "vox1_dev_wav/wav/id10001", root / ".trash/id10001")
    for path in ("readme.txt", f"vox1_dev_txt/id10001/{VIDEO}/00001.txt"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    found = read("voxceleb1", root)
    assert sorted(path for path, _ in faults(found)) == sorted(odd)
    assert {reason.partition(":")[0] for _, reason in faults(found)} == {"not a VoxCeleb name"}
    assert by_speaker(found) == GENDERS_1


# Released and converted recordings


def test_released_recordings_alone_are_refused(tmp_path: Path) -> None:
    root = fakes.voxceleb2(tmp_path, suffix=".m4a")
    with pytest.raises(InputError, match=r"all 12 recordings in .* are \.m4a files[\s\S]*ffmpeg ") as caught:
        build("voxceleb2", root, tmp_path / "cache")
    assert f"find {root} -name '*.m4a'" in str(caught.value)


def test_recordings_that_were_not_converted_are_faults(tmp_path: Path) -> None:
    root = fakes.voxceleb2(tmp_path, suffix=".m4a")
    fakes.voxceleb2(tmp_path)  # beside them
    left = [f"dev/aac/id00012/{VIDEO}/00002", f"vox2_test_aac/aac/id00017/{OTHER}/00001"]
    for path in left:
        (root / f"{path}.wav").unlink()
    (root / f"{left[1]}.m4a").rename(root / f"{left[1]}.M4A")
    found = read("voxceleb2", root)
    assert faults(found) == [
        (f"{left[0]}.m4a", "not converted: .m4a files cannot be read"),
        (f"{left[1]}.M4A", "not converted: .m4a files cannot be read"),
    ]
    assert {speaker: count for speaker, (*_, count) in by_speaker(found).items()} == {
        "id00012": 3,
        "id00015": 4,
        "id00017": 3,
    }
    assert {Path(one.path).suffix for one in utterances(found)} == {".wav"}


@pytest.mark.parametrize("converted", ["a_wav", "wav"])  # before the released ones in the order of names, and after
def test_a_recording_in_several_places_is_read_once(tmp_path: Path, converted: str) -> None:
    root = fakes.voxceleb2(tmp_path, suffix=".m4a")
    fakes.voxceleb2(root, {"dev": converted, "test": converted})
    fakes.voxceleb2(root, {"dev": "zz_flac", "test": "zz_flac"}, suffix=".flac")
    found = read("voxceleb2", root)
    assert faults(found) == []
    assert by_speaker(found) == GENDERS_2
    assert {one.path.partition("/")[0] for one in found} == {converted}


# Tables


def table(root: Path, *lines: str, name: str = "vox1_meta.csv", encoding: str = "utf-8", newline: str = "\n") -> None:
    (root / name).write_text(newline.join([*lines, ""]), encoding=encoding, newline="")


@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        (["VoxCeleb1 ID,VGGFace1 ID,Gender,Nationality,Set", "id10001,A,m,x,dev", "id10003,C,f,x,test"], "utf-8-sig"),
        (["VoxCeleb1 ID ,Gender ,Set ", "id10001 ,m ,dev ", "id10003 ,f ,test "], "utf-8"),
        (["VoxCeleb1 ID\t,Gender\t,Set\t", "id10001\t,m\t,dev\t", "id10003\t,f\t,test\t"], "utf-8"),
        (
            [
                '"","VoxCeleb1_ID","Nation","Gender","Set"',
                '"0","id10001","A, B","m","dev"',
                '"1","id10003","","f","test"',
            ],
            "latin-1",
        ),
        (["id\tsex", "id10001\tMale", "id10003\tFEMALE"], "utf-16"),
        (["VoxCeleb ID;Gender;Set", "id10001;m;dev", "", ";;", "id10003;f;test"], "utf-8"),
        (["VoxCeleb1 ID\tVGGFace1 ID\tGender\tSet", "id10001\tJosé\tm\tdev", "id10003\tB\tf\ttest"], "latin-1"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tables_that_circulate(tmp_path: Path, lines: list[str], encoding: str, newline: str) -> None:
    fakes.voxceleb1(tmp_path, {"dev": "wav", "test": "wav"}, numbers=(1,))
    for speaker in ("id10002", "id10270"):
        shutil.rmtree(tmp_path / "wav" / speaker)
    table(tmp_path, *lines, encoding=encoding, newline=newline)
    found = read("voxceleb1", tmp_path)
    assert faults(found) == []
    sets = ("train", "test") if "et" in lines[0] else (None, None)
    assert by_speaker(found) == {"id10001": ("male", sets[0], 2), "id10003": ("female", sets[1], 2)}


def test_odd_rows_of_the_table(tmp_path: Path) -> None:
    root = fakes.voxceleb1(tmp_path, {"dev": "wav", "test": "wav"})
    table(
        root,
        "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet",
        "id10001\tA\tm\tx\tdev",
        "A.R._Rahman\tid10002\tm\tx\tdev",
        "id10003\tC\t?\tx\tval",
        "id10001\tA\tf\tx\ttest",
        "id10270\tE",
        "id11251\tnot there\tf\tx\tdev",
    )
    found = read("voxceleb1", root)
    assert faults(found) == [
        ("vox1_meta.csv", "unknown speaker: 'A.R._Rahman' in line 3"),
        ("vox1_meta.csv", "unknown gender: '?' of id10003 in line 4"),
        ("vox1_meta.csv", "unknown set: 'val' of id10003 in line 4"),
        ("vox1_meta.csv", "listed twice in vox1_meta.csv: id10001, again in line 5"),
        ("vox1_meta.csv", "unknown gender: '' of id10270 in line 6"),
        ("vox1_meta.csv", "unknown set: '' of id10270 in line 6"),
        # Once, and not for each of the speaker's utterances.
        ("wav/id10002/", "no label: not listed in vox1_meta.csv; the speaker stays without gender"),
    ]
    assert by_speaker(found) == {
        "id10001": ("male", "train", 4),
        "id10002": (None, None, 4),
        "id10003": (None, None, 4),
        "id10270": (None, None, 4),
    }


def test_where_the_table_is(tmp_path: Path) -> None:
    root = fakes.voxceleb1(tmp_path / "voxceleb1")
    file = root / "vox1_meta.csv"
    for place in ("meta/vox1_meta.csv", "vox1_dev_wav/VOX1_meta.csv"):
        (root / place).parent.mkdir(exist_ok=True)
        file = file.rename(root / place)
        assert by_speaker(read("voxceleb1", root)) == GENDERS_1
    file = file.rename(tmp_path / "elsewhere.txt")
    with pytest.raises(InputError, match=r"vox1_meta\.csv, which tells the speakers' genders") as caught:
        read("voxceleb1", root)
    for expected in ("robots.ox.ac.uk/~vgg/data/voxceleb/meta/vox1_meta.csv", "voxceleb1.options.genders=false"):
        assert expected in caught.value.remedy
    for metadata in ("../elsewhere.txt", str(file)):
        assert by_speaker(read("voxceleb1", root, metadata=metadata)) == GENDERS_1
    with pytest.raises(InputError, match=r"'typo\.csv' do not exist"):
        read("voxceleb1", root, metadata="typo.csv")


def test_without_the_table(tmp_path: Path) -> None:
    root = fakes.voxceleb1(tmp_path)
    (root / "vox1_meta.csv").unlink()
    assert by_speaker(read("voxceleb1", root, genders=False)) == {
        speaker: (None, split, 4) for speaker, (_, split, _) in GENDERS_1.items()
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a column of the speakers' ids"),
        ("id10001\tA\tm\tx\tdev\n", "needs a column of the speakers' ids"),
        ("VoxCeleb1 ID,Set\nid10001,dev\n", "one of their genders"),
        ("VoxCeleb1 ID,Gender\nid10999,f\n", "lists none of the speakers in"),
        (
            'VoxCeleb1 ID,Gender\nid10001,"m' + "\nid10002,m" * 20_000,
            r"line \d+ cannot be read: field larger[\s\S]*quotation mark",
        ),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    root = fakes.voxceleb1(tmp_path, numbers=(1,))
    (root / "vox1_meta.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read("voxceleb1", root)


def test_manifest_is_made_again_when_the_table_changes(tmp_path: Path) -> None:
    root = fakes.voxceleb1(tmp_path / "voxceleb1", numbers=(1,))
    file = (root / "vox1_meta.csv").rename(tmp_path / "genders.csv")
    options = {"metadata": str(file)}
    before = build("voxceleb1", root, tmp_path / "cache", hash_content=False, options=options)
    assert build("voxceleb1", root, tmp_path / "cache", hash_content=False, options=options).sha256 == before.sha256
    file.write_text(file.read_text().replace("A.J._Buckley\tm", "A.J._Buckley\tfemale"))
    after = build("voxceleb1", root, tmp_path / "cache", hash_content=False, options=options)
    assert after.sha256 != before.sha256
    assert after.row(0)["gender"] == "female"


# Sets


def test_sets(tmp_path: Path) -> None:
    root = fakes.voxceleb2(tmp_path, {"dev": "aac", "test": "aac"})
    assert set(by_speaker(read("voxceleb2", root, sets="test"))) == {"id00017"}
    assert set(by_speaker(read("voxceleb2", root, sets=["dev"]))) == {"id00012", "id00015"}
    assert by_speaker(read("voxceleb2", root, sets=["dev", "test"])) == GENDERS_2
    with pytest.raises(InputError, match=r"no set 'train'[\s\S]*dev, test"):
        make_reader("voxceleb2", {"sets": "train"})


def test_sets_of_the_folders_and_of_neither(tmp_path: Path) -> None:
    root = fakes.voxceleb1(tmp_path)
    (root / "vox1_test_wav/wav/id10270").rename(root / "id10270")
    found = read("voxceleb1", root, sets="dev", genders=False)
    assert set(by_speaker(found)) == {"id10001", "id10002", "id10003"}
    assert faults(found) == [("id10270/", "no label: neither a table nor a folder's name tells dev from test")]


# Large corpora


def test_processes_do_not_change_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fakes.voxceleb2(tmp_path / "voxceleb2", numbers=(1, 2, 3))
    files = sorted(root.rglob("*.wav"))
    for file in files[::5]:
        fakes.empty(file)
    for file in files[2::5]:
        file.rename(file.with_suffix(".m4a"))
    monkeypatch.setattr(building, "_SEGMENTS_PER_CHUNK", {True: 1, False: 1})
    one, two = (
        build("voxceleb2", root, tmp_path / str(workers), False, workers=workers, max_bad_fraction=1)
        for workers in (1, 2)
    )
    # In the order of the corpus, whatever they are.
    assert [fault.path.rpartition(".")[0] for fault in one.faults] == sorted(
        str(file.relative_to(root).with_suffix("")) for file in files[::5] + files[2::5]
    )
    assert Counter(fault.kind for fault in one.faults) == {"empty file": 4, "not converted": 4}
    assert one.sha256 == two.sha256


# In training


def test_auxiliary_corpus_in_one_line(tmp_path: Path) -> None:
    fakes.ravdess(tmp_path / "RAVDESS", actors=3, emotions=("01", "05"), statements=1, rate=16_000)
    fakes.voxceleb2(tmp_path / "VoxCeleb2")
    data = SpeechDataModule(
        DataSettings(
            root=str(tmp_path),
            cache=str(tmp_path / "cache"),
            labelled=["ravdess"],
            auxiliary=[AuxiliarySettings(corpus="voxceleb2", role="speaker", quota=8, hash_content=False)],
            classes={"neutral": ["neutral"], "angry": ["anger"]},
            quota=2,
            crop_s=0.2,
        ),
        SplitSettings(protocol="speaker_groups", folds=3),
        sample_rate=16_000,
        seed=0,
    )
    data.prepare_data()
    data.setup()
    assert data.labels.speakers == 1 + 3
    [batch] = data.train_dataloader()
    assert batch.sizes == (2, 8, 0)
    assert batch.waveform.abs().amax(1).min() > 0.01
    rows = [data.collection.row(row) for row in batch.row.tolist()]
    assert {row["corpus"] for row in rows[2:]} == {"voxceleb2"}
    assert {row["content_hash"] for row in rows[2:]} == {None}
    genders = {"voxceleb2/id00012": "male", "voxceleb2/id00015": "female", "voxceleb2/id00017": "male"}
    expected = [("female", "male").index(genders[row["speaker"]]) for row in rows[2:]]
    assert batch.targets["gender"][2:].tolist() == expected
    assert len({(row["speaker"], int(index)) for row, index in zip(rows, batch.targets["speaker"], strict=True)}) == 4
    assert batch.targets["emotion"][2:].tolist() == [-1] * 8
