"""Archives that are not what they should be."""

import hashlib
import io
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.downloads.offers import (
    Data,
    Offer,
    error,
)


def zip_of(*members: zipfile.ZipInfo | str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that comes twice
        target.writestr("Actor_01/03-01-01-01-01-01-01.wav", "first")
        for member in members:
            target.writestr(member, "planted")
    return packed.getvalue()


def zip_link(name: str, mode: int = stat.S_IFLNK) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (mode | 0o777) << 16
    return member


def tar_of(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        first = tarfile.TarInfo("Actor_01/03-01-01-01-01-01-01.wav")
        first.size = 5
        archive.addfile(first, io.BytesIO(b"first"))
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        member.size = 7 if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(b"planted"))
    return packed.getvalue()


def damaged(method: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as target:
        target.writestr("x.wav", hashlib.shake_256(b"noise").digest(5000))
    content = packed.getvalue()
    return content[:60] + bytes(byte ^ 255 for byte in content[60:90]) + content[90:]


def tar_with_nul() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"path": "Actor_01/\0x.wav"}
        archive.addfile(member)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (damaged(zipfile.ZIP_DEFLATED), "cannot be unpacked"),
        (damaged(zipfile.ZIP_BZIP2), "cannot be unpacked"),
        (damaged(zipfile.ZIP_LZMA), "cannot be unpacked"),
        (zip_of(f"{'a' * 300}.wav"), "cannot be unpacked"),
        (tar_with_nul(), "cannot be unpacked"),
        (zip_of("../planted"), "'../planted' is a path outside"),
        (zip_of("a/../../planted"), "is a path outside"),
        (zip_of("..\\planted"), "is a path outside"),
        (zip_of(zip_link("planted")), "'planted' is a link"),
        (zip_of(zip_link("planted", stat.S_IFIFO)), "'planted' is a device"),
        (tar_of("../planted"), "'../planted' is a path outside"),
        (tar_of("planted", tarfile.SYMTYPE, "/etc"), "'planted' is a link"),
        (tar_of("planted", tarfile.LNKTYPE, "Actor_01/03-01-01-01-01-01-01.wav"), "'planted' is a link"),
        (tar_of("planted", tarfile.CHRTYPE), "'planted' is a device"),
        (tar_of("planted", tarfile.FIFOTYPE), "'planted' is a device"),
        (zip_of("Actor_01/03-01-01-01-01-01-01.wav/planted"), "cannot be unpacked"),
        (zip_of("twice", "twice"), "cannot be unpacked"),
        (tar_of("whole")[:100], "cannot be unpacked"),
        (zip_of()[:60] + b"!" + zip_of()[61:], "cannot be unpacked"),
        (b"no archive", "cannot be unpacked"),
        (b"", "cannot be unpacked"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_archive_that_is_not_unpacked(content: bytes, told: str, offer: Offer, data: Data, tmp_path: Path) -> None:
    offer(content, audio=1)
    root = tmp_path / "a" / "b"
    message = error(data("ravdess", f"data.root={root}"))
    assert told in message
    assert not (root / "ravdess").exists()
    assert [entry.name for entry in root.iterdir()] == [".ravdess.download"]
    planted = [file for file in tmp_path.rglob("*") if file.name == "planted" or file.is_symlink()]
    assert planted == []


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_an_archive_with_an_absolute_path(
    pack: Callable[[str], bytes], offer: Offer, data: Data, tmp_path: Path
) -> None:
    offer(pack(str(tmp_path / "planted")), audio=1)
    assert "is a path outside" in error(data("ravdess", f"data.root={tmp_path / 'root'}"))
    assert not (tmp_path / "planted").exists()
