import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import packing
from datamodules.building import build_manifest
from datamodules.collection import Collection
from datamodules.corpora import make_reader
from datamodules.decoding import decode_corpus
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from datamodules.packing import Pack, pack_corpus
from datamodules.speech import BadAudioError, Files
from experiments.__main__ import main
from tests import fakes
from tests.runs import SMALL, train

RATE = 16_000


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """A table of segments of a stereo and a 48 kHz file, whose rows are mixed, and of a FLAC file as a whole."""
    root = tmp_path / "corpus"
    stereo = np.stack([fakes.speech("left", seconds=2.0), fakes.speech("right", seconds=2.0)], axis=1)
    fakes.write(root / "stereo.wav", stereo)
    fakes.write(root / "rate.wav", fakes.speech("rate", seconds=2.0, rate=48_000), rate=48_000)
    fakes.write(root / "whole.flac", fakes.speech("whole", seconds=2.0))
    rows = ["path,start,end", "stereo.wav,0.2,0.9", "rate.wav,0.2,0.9", "whole.flac,,", "stereo.wav,1.0,1.8"]
    (root / "table.csv").write_text("\n".join([*rows, "rate.wav,1.0,1.8"]) + "\n")
    reader = make_reader("table", {"path": str(root / "table.csv")})
    return build_manifest(reader, root, tmp_path / "cache", hash_content=True, workers=1)


@pytest.fixture
def pack(manifest: Manifest, tmp_path: Path) -> Path:
    """Shards so small that there are several."""
    folder = pack_corpus(manifest, tmp_path / "packs", 50_000)
    assert folder is not None
    return folder


def test_a_pack_gives_what_the_files_give(manifest: Manifest, pack: Path) -> None:
    opened = Pack(pack)
    assert opened.manifest.sha256 == manifest.sha256
    assert opened.manifest.faults == manifest.faults
    spans = Collection([opened.manifest]).spans(np.arange(len(manifest)))
    assert spans == Collection([manifest]).spans(np.arange(len(manifest)))
    files, packed = Files(manifest.root, RATE), opened.source(RATE)
    expected = [files.read(span, skip, 0.3) for span in spans for skip in (0.0, 0.2)]
    shutil.rmtree(manifest.root)
    for speech, one in zip(
        [packed.read(span, skip, 0.3) for span in spans for skip in (0.0, 0.2)], expected, strict=True
    ):
        np.testing.assert_array_equal(speech, one)


def test_files_are_kept_byte_for_byte_and_once(manifest: Manifest, pack: Path) -> None:
    shards = sorted(pack.glob("shard-*.bin"))
    assert len(shards) > 1
    files = ["stereo.wav", "rate.wav", "whole.flac"]
    assert b"".join(shard.read_bytes() for shard in shards) == b"".join(
        (manifest.root / name).read_bytes() for name in files
    )


def test_a_shard_ends_with_the_file_that_fills_it(manifest: Manifest, tmp_path: Path) -> None:
    size = (manifest.root / "stereo.wav").stat().st_size
    for shard_bytes, shards in ((1, 3), (size, 3), (size + 1, 2), (10**9, 1)):
        folder = pack_corpus(manifest, tmp_path / str(shard_bytes), shard_bytes)
        assert folder is not None
        assert len([*folder.glob("shard-*.bin")]) == shards


def test_checksums_are_those_of_the_files(pack: Path) -> None:
    import hashlib

    lines = (pack / packing.SUMS).read_text().splitlines()
    assert {line.split("  ")[1] for line in lines} == {
        file.name for file in pack.iterdir() if file.name not in (packing.SUMS, packing.DESCRIPTION)
    }
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((pack / name).read_bytes()).hexdigest() == digest


def test_decoded_speech_is_the_same_from_a_pack(manifest: Manifest, pack: Path, tmp_path: Path) -> None:
    sources = (Files(manifest.root, RATE), Pack(pack).source(RATE))
    files = [
        decode_corpus(manifest, source, RATE, tmp_path / str(number), progress=False).file
        for number, source in enumerate(sources)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_many_shards_are_open_few_at_a_time(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datamodules import speech

    monkeypatch.setattr(speech, "_OPEN_FILES", 1)
    folder = pack_corpus(manifest, tmp_path / "many", 1)
    assert folder is not None
    packed = Pack(folder).source(RATE)
    for span in Collection([manifest]).spans(np.arange(len(manifest))) * 2:
        np.testing.assert_array_equal(packed.read(span, 0, 0.3), Files(manifest.root, RATE).read(span, 0, 0.3))
        assert len(packed._opened) == 1


@pytest.mark.parametrize("name", ["shard-00001.bin", "rows.index", "manifest.arrow", "manifest.state"])
def test_what_is_cut_off_is_not_opened(pack: Path, name: str) -> None:
    os.truncate(pack / name, (pack / name).stat().st_size - 1)
    with pytest.raises(InputError, match=f"{name} has"):
        Pack(pack)
    (pack / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        Pack(pack)


def test_what_is_cut_off_in_use_is_bad_audio(manifest: Manifest, pack: Path) -> None:
    packed = Pack(pack).source(RATE)
    for shard in pack.glob("shard-*.bin"):
        os.truncate(shard, 10)
    for span in Collection([manifest]).spans(np.arange(len(manifest))):
        with pytest.raises(BadAudioError):
            packed.read(span, 0, 0.3)


def test_a_folder_without_description_is_no_pack(pack: Path) -> None:
    (pack / packing.DESCRIPTION).unlink()
    with pytest.raises(InputError, match="is no pack"):
        Pack(pack)


def test_nothing_is_packed_twice_nor_written_over(manifest: Manifest, pack: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in pack.iterdir()}
    assert pack_corpus(manifest, pack.parent, 1) is None
    assert {file.name: file.stat().st_mtime_ns for file in pack.iterdir()} == before
    (pack / packing.DESCRIPTION).unlink()
    with pytest.raises(InputError, match="is in the way"):
        pack_corpus(manifest, pack.parent, 1)
    assert (pack / packing.INDEX).exists()


def test_a_pack_of_another_state_is_not_written_over(manifest: Manifest, pack: Path, tmp_path: Path) -> None:
    reader = make_reader("table", {"path": str(manifest.root / "table.csv")})
    fakes.write(manifest.root / "whole.flac", fakes.speech("changed", seconds=2.0))
    changed = build_manifest(reader, manifest.root, tmp_path / "cache", hash_content=True, workers=1)
    with pytest.raises(InputError, match="another state"):
        pack_corpus(changed, pack.parent, 1)


def test_an_interruption_leaves_nothing_that_could_be_taken_for_a_pack(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / "packs" / f".{manifest.corpus}.packing"
    leftover.mkdir(parents=True)
    (leftover / "shard-00000.bin").write_bytes(b"of a run that was killed")
    with monkeypatch.context() as patch:
        patch.setattr(packing, "_copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pack_corpus(manifest, tmp_path / "packs", 1)
    assert not (tmp_path / "packs" / manifest.corpus).exists()
    folder = pack_corpus(manifest, tmp_path / "packs", 10**9)
    assert folder is not None
    assert Pack(folder).manifest.sha256 == manifest.sha256


def test_a_full_disk_is_told(manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packing, "_copy", full)
    with pytest.raises(InputError, match="the disk is full"):
        pack_corpus(manifest, tmp_path / "packs", 1)
    assert not [*(tmp_path / "packs").glob(f"{manifest.corpus}*")]


def test_a_file_that_is_gone_is_told(manifest: Manifest, tmp_path: Path) -> None:
    (manifest.root / "rate.wav").unlink()
    with pytest.raises(InputError, match=r"rate\.wav cannot be read"):
        pack_corpus(manifest, tmp_path / "packs", 1)


def test_other_options_are_refused(manifest: Manifest, pack: Path) -> None:
    path = str(manifest.root / "table.csv")
    Pack(pack).check(make_reader("table", {"path": path}), True)
    other = make_reader("table", {"path": path, "columns": {"emotion": "label"}})
    with pytest.raises(InputError, match=r"has the options .* but the experiment wants .*label"):
        Pack(pack).check(other, True)
    with pytest.raises(InputError, match="has the reader table, but the experiment wants folder"):
        Pack(pack).check(make_reader("folder"), True)


def test_a_pack_that_was_not_looked_into_is_refused_where_that_is_wanted(tmp_path: Path) -> None:
    fakes.folder(tmp_path / "corpus")
    reader = make_reader("folder")
    one = build_manifest(reader, tmp_path / "corpus", tmp_path / "cache", hash_content=False, workers=1)
    folder = pack_corpus(one, tmp_path / "packs", 10**9)
    assert folder is not None
    Pack(folder).check(reader, False)
    with pytest.raises(InputError, match="hash_content=false"):
        Pack(folder).check(reader, True)


# Whole runs


def without_seconds(results: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in results.items() if name != "train_seconds"}


def test_training_from_a_pack_without_the_files_gives_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    import torch

    corpora, output = tmp_path / "corpora", tmp_path / "runs"
    fakes.ravdess(corpora / "RAVDESS", actors=8, emotions=("01", "03", "04", "05"), seconds=0.7, rate=16_000)
    fakes.librispeech(corpora / "LibriSpeech", speakers=5, utterances=2)
    four = "data.classes={neutral: [neutral], happy: [happiness], sad: [sadness], angry: [anger]}"
    same = [four, "split.folds=4", "data.decoded_gb=0"]
    plain = train("ravdess_cat", corpora, output, *same)
    places = [f"data.root={corpora}", f"data.cache={corpora / 'cache'}"]
    assert main(["pack", "ravdess_cat", *places, *same, f"pack={tmp_path / 'packs'}"]) == 0
    assert "data.packed=" in capsys.readouterr().out
    shutil.rmtree(corpora)
    for more in ([], ["data.decoded_gb=1"]):
        packed = train("ravdess_cat", corpora, output, *same, f"data.packed={tmp_path / 'packs'}", *more)
        weights = [
            torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (plain, packed)
        ]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        first, second = (json.loads((run / "results.json").read_text()) for run in (plain, packed))
        assert without_seconds(first) == without_seconds(second)
        reports, versions = (
            [json.loads((run / name).read_text()) for run in (plain, packed)]
            for name in ("data_report.json", "environment.json")
        )
        assert versions[0]["manifests"] == versions[1]["manifests"]
        assert {**reports[0], "decoded": 0} == {**reports[1], "decoded": 0}
    assert set(reports[1]["decoded"]) == {"ravdess", "librispeech"}
    assert main(["evaluate", str(packed)]) == 0
    assert "Identical" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "pack=<folder>"),
        (["pack=x", "shard_gb=0"], "shard_gb is 0"),
        (["pack=x", "shard_gb=much"], "shard_gb is much"),
        (["pack=x", "shard_gb=inf"], "shard_gb is inf"),
        (["pack=x", "data.packed=y"], "not of packs"),
        (["pack=x", "data.rot=y"], "data.rot"),
    ],
)
def test_wrong_settings_of_the_command_are_told(
    settings: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "ravdess_cat", *settings]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_packs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "packs").mkdir()
    assert main(["manifest", "ravdess_cat", *SMALL, f"data.packed={tmp_path / 'packs'}"]) == 2
    assert "has no pack of ravdess, librispeech" in capsys.readouterr().err


def test_a_folder_without_packs_is_told_beside_a_pack_of_its_own(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"data.packed={tmp_path / 'typo'}", f"data.corpora.ravdess.packed={pack}"]
    assert main(["manifest", "ravdess_cat", *SMALL, *settings]) == 2
    assert "has no pack of ravdess, librispeech" in capsys.readouterr().err
