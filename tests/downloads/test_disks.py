"""Disks without room, and places that cannot be written."""

import errno
import io
import os
import resource
import zipfile
from pathlib import Path

import pytest

from datamodules.corpora.base import Download
from datamodules.corpora.ravdess import Ravdess
from tests.downloads.offers import (
    PART,
    PATH,
    Data,
    Offer,
    error,
    limit_disk,
    plant,
    tarred,
)
from tests.downloads.site import Site, md5


def test_the_disk_has_no_room_for_the_file(
    site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(archive)
    limit_disk(monkeypatch, len(archive) - 1)
    message = error(data("ravdess", f"data.root={tmp_path}"))
    assert "the disk is full" in message
    assert "0 MB are needed, 0 MB are free" in message
    assert not (tmp_path / PART).exists()
    limit_disk(monkeypatch, len(archive))
    assert data("ravdess", f"data.root={tmp_path}").code == 0


def test_what_is_written_over_needs_no_room(
    site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(archive)
    site.ranges = False
    plant(tmp_path / PART, bytes(1000))
    limit_disk(monkeypatch, len(archive) - 1000)
    assert data("ravdess", f"data.root={tmp_path}").code == 0


@pytest.mark.parametrize("kind", ["zip", "zip of several", "tar"])
def test_an_archive_that_grows_beyond_the_disk(
    kind: str, site: Site, offer: Offer, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb").mkdir()
    (tmp_path / "bomb" / "03-01-01-01-01-01-01.wav").write_bytes(bytes(3_000_000))
    packed = io.BytesIO()
    several = 3 if kind == "zip of several" else 1
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(several):
            target.writestr(f"03-01-01-01-01-01-0{number + 1}.wav", bytes(3_000_000 // several))
    offer(tarred(tmp_path / "bomb", ".") if kind == "tar" else packed.getvalue(), audio=1)
    root = tmp_path / "corpora"
    limit_disk(monkeypatch, 2_000_000)
    message = error(data("ravdess", f"data.root={root}"))
    assert "the disk is full" in message
    assert "3 MB are needed, 2 MB are free" in message
    assert not list((root / ".ravdess.download" / "new").iterdir()), "nothing was unpacked"
    site.requests.clear()
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        source = Download(site.url + PATH, md5(site.files[PATH]), "x", 1)
        patch.setattr(Ravdess, "downloads", {"ravdess": source})
        assert data("ravdess", f"data.root={root}").code == 0
    assert site.requests == [], "the archive was kept"


def test_writing_fails(site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    """No file of this process may grow beyond a size: the system itself refuses to write."""
    offer(archive)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        message = error(data("ravdess", f"data.root={tmp_path}"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the disk is full" in message
    assert "data.root=<folder>" in message
    there = (tmp_path / PART).stat().st_size
    assert 0 < there <= 100_000
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert site.ranges_of(PATH) == [None, f"bytes={there}-"]


def test_a_folder_that_cannot_be_made(offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    (tmp_path / "file").touch()
    assert "give a folder that you may write to" in error(data("ravdess", f"data.root={tmp_path / 'file'}"))


@pytest.mark.parametrize("kind", ["long name", "loop", "file"])
def test_a_place_that_cannot_be(
    kind: str, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    offer(archive)
    root, place = tmp_path / "root", tmp_path / "root" / "ravdess"
    root.mkdir()
    if kind == "long name":
        root = tmp_path / ("a" * 300)
    elif kind == "loop":
        place.symlink_to("ravdess")
    else:
        place.touch()
    told = "File name too long" if kind == "long name" else f"{place} is in the way"
    assert told in error(data("ravdess", f"data.root={root}"))
    assert site.requests == []


@pytest.mark.parametrize("folder", ["root", "root/ravdess"])
def test_a_place_that_cannot_be_read(
    folder: str, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    offer(archive)
    (tmp_path / "root" / "ravdess").mkdir(parents=True)
    (tmp_path / folder).chmod(0)
    everything = os.geteuid() == 0  # is allowed to this user
    if everything:
        os.seteuid(65534)
    try:
        message = error(data("ravdess", f"data.root={tmp_path / 'root'}"))
    finally:
        if everything:
            os.seteuid(0)
        (tmp_path / folder).chmod(0o700)
    assert "Permission denied" in message
    assert site.requests == []


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_mount_point(
    number: int, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(archive)
    place = tmp_path / "ravdess"
    place.mkdir()

    def refuse(file: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), str(file), None, str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    message = error(data("ravdess", f"data.root={tmp_path}"))
    assert f"{place} is a mount point" in message
    assert "make a folder on that disk" in message
    assert site.requests == []
