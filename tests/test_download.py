"""`make data` against a server on this machine: what is fetched, and everything that goes wrong on the way."""

import errno
import hashlib
import io
import os
import re
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.progress import Progress, TaskID

import experiments.data
from datamodules import download, repository
from datamodules.building import build_manifest
from datamodules.corpora import CORPORA, find_root, make_reader
from datamodules.corpora.base import Download, Repository
from datamodules.corpora.cremad import Cremad
from datamodules.corpora.librispeech import LibriSpeech
from datamodules.corpora.nemo import Nemo
from datamodules.corpora.ravdess import Ravdess
from experiments.__main__ import INTERRUPTED, main
from experiments.data import downloads, on_application
from tests import fakes
from tests.site import Site, answer_with, md5, serve, wait_until

PROJECT = Path(__file__).parents[1]
PATH = "/files/speech.zip"
CUT = 3 * download.PIECE
"""After how many bytes connections are cut."""
PART = Path(".ravdess.download/speech.zip.part")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(download, "PAUSE_S", 0.001)
    monkeypatch.setattr(download, "TIMEOUT_S", (1.0, 0.3))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve() as opened:
        yield opened


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen recordings in the layout of RAVDESS, 0.2 MB."""
    return fakes.ravdess(tmp_path_factory.mktemp("made"), actors=2, statements=1, seconds=0.4, rate=16_000)


@pytest.fixture(scope="module")
def archive(made: Path) -> bytes:
    return zipped(made)


def zipped(folder: Path, top: str = "") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for file in sorted(folder.rglob("*")):
            target.write(file, f"{top}{file.relative_to(folder)}")
    return packed.getvalue()


def tarred(folder: Path, top: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as target:
        target.add(folder, top)
    return packed.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Told(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def data(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Runs the command, and returns what it said."""

    def run(*arguments: object) -> Told:
        capsys.readouterr()
        code = main(["data", *map(str, arguments)])
        return Told(code, *capsys.readouterr())

    return run


@pytest.fixture
def offer(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Download]:
    """Lets the site offer RAVDESS."""

    def put(content: bytes, path: str = PATH, checksum: str = "", audio: int = 16, top: str = "") -> Download:
        site.files[path] = content
        source = Download(site.url + path, checksum or md5(content), "https://example.org/ravdess", audio, top)
        monkeypatch.setattr(Ravdess, "downloads", {"ravdess": source})
        return source

    return put


Offer = Callable[..., Download]
Data = Callable[..., Told]


def error(told: Told) -> str:
    """The one message of a command that was refused, without what was told on the way to it."""
    assert told.code == 2
    assert len(re.findall("^error: ", told.err, re.M)) == 1
    assert "Traceback" not in told.err
    message = re.split("^error: ", told.err, flags=re.M)[1]
    assert "\n  " in message, "a remedy"
    return message


# What is fetched


def test_a_corpus(site: Site, offer: Offer, archive: bytes, made: Path, data: Data, tmp_path: Path) -> None:
    offer(archive)
    root = tmp_path / "corpora"
    told = data("ravdess", f"data.root={root}")
    assert told.code == 0
    assert told.out.splitlines() == [
        "ravdess: CC BY-NC-SA 4.0; the terms and how to cite it: https://example.org/ravdess",
        f"{root / 'ravdess'}: 16 recordings",
        f'next: make data CORPUS=librispeech-clean-100 ARGS="data.root={root}"',
        f'next: make train EXP=ravdess_cat ARGS="data.root={root}"',
    ]
    assert told.err == f"Downloading {site.url}{PATH}\n"
    assert [entry.name for entry in root.iterdir()] == ["ravdess"], "nothing else is left"
    assert contents(root / "ravdess") == contents(made)

    found = find_root(Ravdess, data_root=str(root))
    manifest = build_manifest(Ravdess(), found, tmp_path / "cache", hash_content=True, workers=1, progress=False)
    assert (len(manifest), manifest.faults) == (16, [])

    site.requests.clear()
    again = data("ravdess", f"data.root={root}")
    assert again.code == 0
    assert "It is there already: nothing is downloaded." in again.out
    assert f"{root / 'ravdess'}: 16 recordings" in again.out
    assert site.requests == []


@pytest.mark.parametrize("name", ["a b", "it's", 'say "$HOME"', "a`b\\c!"])
def test_the_next_commands_can_be_pasted(name: str, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    root = tmp_path / name
    (root / "LibriSpeech").mkdir(parents=True)
    (command,) = re.findall("^next: (.*)", data("ravdess", f"data.root={root}").out, re.M)
    bash = ["bash", "-c", f"{command} --dry-run --no-print-directory"]
    typed = subprocess.run(bash, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    assert shlex.split(typed)[-2:] == ["ravdess_cat", f"data.root={root}"]


def test_the_next_commands_bring_what_else_an_experiment_needs(nemo: Path, data: Data, tmp_path: Path) -> None:
    fakes.librispeech(tmp_path / "LibriSpeech", speakers=2, seconds=0.3)
    told = data("nemo", f"data.root={tmp_path}")
    assert re.findall("next: make (.*) ARGS=", told.out) == ["train EXP=nemo_cat"]


def test_where_it_goes(
    offer: Offer, archive: bytes, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(archive)
    monkeypatch.chdir(tmp_path)
    assert 'ARGS="data.root=data"' in data("ravdess").out
    assert (tmp_path / "data" / "ravdess" / "Actor_01").is_dir()
    monkeypatch.setenv("SER_AAE_DATA", str(tmp_path / "all"))
    assert data("ravdess").code == 0
    assert (tmp_path / "all" / "ravdess" / "Actor_01").is_dir()
    monkeypatch.setenv("SER_AAE_RAVDESS_ROOT", str(tmp_path / "own" / "speech"))
    assert data("ravdess").code == 0
    assert (tmp_path / "own" / "speech" / "Actor_01").is_dir()


def test_a_corpus_under_another_of_its_names(
    site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    offer(archive)
    fakes.ravdess(tmp_path / "RAVDESS", actors=2, statements=1, seconds=0.3, rate=16_000)
    assert f"{tmp_path / 'RAVDESS'}: 16 recordings" in data("ravdess", f"data.root={tmp_path}").out
    assert site.requests == []


def test_half_a_corpus_of_the_users_is_left_alone(
    site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    offer(archive)
    fakes.ravdess(tmp_path / "ravdess", actors=1, statements=1, seconds=0.3, rate=16_000)
    before = contents(tmp_path)
    message = error(data("ravdess", f"data.root={tmp_path}"))
    assert f"{tmp_path / 'ravdess'} is there, but holds 8 of 16 recordings" in message
    assert "move it away" in message
    assert contents(tmp_path) == before
    assert site.requests == []


def test_an_empty_folder_is_filled(offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ravdess").symlink_to("elsewhere")
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert (tmp_path / "elsewhere" / "Actor_02").is_dir()


def test_an_archive_that_the_user_brought(site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    brought = tmp_path / "speech.zip"
    brought.write_bytes(archive)
    told = data("ravdess", f"data.root={tmp_path}")
    assert f"Using {brought}" in told.err
    assert site.requests == []
    assert brought.read_bytes() == archive

    shutil.rmtree(tmp_path / "ravdess")
    brought.write_bytes(archive[:-1])
    assert f"{brought} is left alone" in data("ravdess", f"data.root={tmp_path}").err
    assert (tmp_path / "ravdess").is_dir()
    assert brought.stat().st_size == len(archive) - 1


def test_parts_of_a_corpus_share_its_folder(
    site: Site, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers: dict[str, Download | Repository] = {}
    for number, subset in enumerate(("dev-clean", "test-other")):
        folder = fakes.librispeech(tmp_path / subset, speakers=2, subsets=[subset], seconds=0.3)
        site.files[f"/{subset}.tar.gz"] = packed = tarred(folder, "LibriSpeech")
        checksum = f"sha256:{hashlib.sha256(packed).hexdigest()}"
        place = f"{site.url}/{subset}.tar.gz"
        offers[f"librispeech-{number}"] = Download(place, checksum, "https://x", 4, "LibriSpeech", subset)
    monkeypatch.setattr(LibriSpeech, "downloads", offers)
    root = tmp_path / "corpora"
    assert f"{root / 'LibriSpeech' / 'dev-clean'}: 4 recordings" in data("librispeech-0", f"data.root={root}").out
    assert sorted(entry.name for entry in (root / "LibriSpeech").iterdir()) == ["SPEAKERS.TXT", "dev-clean"]
    table = root / "LibriSpeech" / "SPEAKERS.TXT"
    own = table.read_bytes() + b"; mine\n"
    table.write_bytes(own)
    told = data("librispeech-1", f"data.root={root}")
    assert table.read_bytes() == own
    assert "next: make data CORPUS=ravdess " in told.out
    assert told.out.splitlines()[-1] == f'next: make train EXP=ravdess_cat ARGS="data.root={root}"'
    assert [entry.name for entry in root.iterdir()] == ["LibriSpeech"]
    read = list(LibriSpeech().read(root / "LibriSpeech"))
    assert {path.split("/")[0] for path in (one.path for one in read)} == {"dev-clean", "test-other"}
    assert len(read) == 8
    site.requests.clear()
    assert "there already" in data("librispeech-0", f"data.root={root}").out
    assert site.requests == []


def test_only_the_corpus_own_folder_of_an_archive(offer: Offer, made: Path, data: Data, tmp_path: Path) -> None:
    packed = io.BytesIO(zipped(made, top="release/speech/"))
    with zipfile.ZipFile(packed, "a") as target:
        target.writestr("__MACOSX/release/._speech", "x")
        target.writestr("release/speechless/x", "x")
    offer(packed.getvalue(), top="release/speech")
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert contents(tmp_path / "ravdess") == contents(made)


def test_an_archive_without_the_folder(offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive, top="release")
    assert "holds nothing in the folder 'release'" in error(data("ravdess", f"data.root={tmp_path}"))
    assert not (tmp_path / "ravdess").exists()


def test_an_archive_without_the_part(offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    source = offer(archive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ravdess, "downloads", {"ravdess": Download(source.url, source.checksum, "x", 16, part="dev")})
        assert "x offers 0 of 16 recordings now" in error(data("ravdess", f"data.root={tmp_path}"))
    assert not (tmp_path / "ravdess").exists()


def test_recordings_are_counted_before_they_are_put_in_place(
    offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    offer(archive, audio=17)
    message = error(data("ravdess", f"data.root={tmp_path}"))
    assert "https://example.org/ravdess offers 16 of 17 recordings now" in message
    assert not (tmp_path / "ravdess").exists()


def test_an_archive_that_is_said_to_be_compressed(
    site: Site, offer: Offer, made: Path, data: Data, tmp_path: Path
) -> None:
    """Some servers tell the compression of a .tar.gz as that of their answer."""
    path = "/files/speech.tar.gz"
    offer(tarred(made, "."), path)
    site.encodings[path] = "x-gzip"
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert contents(tmp_path / "ravdess") == contents(made)


# What goes wrong on the way


def test_cut_connections(site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    site.tags[PATH] = '"first"'
    site.cuts[PATH] = [CUT] * 2 + [0] * 4 + [CUT]
    told = data("ravdess", f"data.root={tmp_path}")
    assert told.code == 0
    asked = [None, *(f"bytes={start}-" for start in (CUT, *[2 * CUT] * 5, 3 * CUT))]
    assert site.ranges_of(PATH) == asked
    assert told.err.count("the connection was cut; trying again") == 7
    assert (tmp_path / "ravdess" / "Actor_02").is_dir()


def test_it_gives_up_after_some_attempts_that_bring_nothing(
    site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    offer(archive)
    site.cuts[PATH] = [CUT] + [0] * download.ATTEMPTS
    message = error(data("ravdess", f"data.root={tmp_path}"))
    assert f"{site.url}{PATH} cannot be downloaded" in message
    assert f"put it into {tmp_path} and run the same command again" in message
    assert len(site.requests) == 1 + download.ATTEMPTS
    assert (tmp_path / PART).stat().st_size == CUT

    site.requests.clear()
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert site.ranges_of(PATH) == [f"bytes={CUT}-"]


def test_beginning_anew_again_and_again_is_no_progress(
    site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    offer(archive)
    site.ranges = False
    site.cuts[PATH] = [CUT, 2 * CUT] * 20
    assert "the connection was cut" in error(data("ravdess", f"data.root={tmp_path}"))
    assert len(site.requests) == 2 + download.ATTEMPTS


def test_a_server_that_sends_no_parts(site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    site.ranges = False
    site.cuts[PATH] = [CUT]
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert site.ranges_of(PATH) == [None, f"bytes={CUT}-"]


@pytest.mark.parametrize("extra", [b"", b"more"], ids=["complete", "too long"])
def test_nothing_is_missing(extra: bytes, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    plant(tmp_path / PART, archive + extra)
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert site.ranges_of(PATH) == [f"bytes={len(archive + extra)}-", *([None] if extra else [])]


def plant(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


@pytest.mark.parametrize("by", ["tag", "date", "date beside a weak tag"])
def test_a_file_that_has_changed_since(
    by: str, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    offer(bytes(len(archive)), checksum=md5(archive))
    validators = site.tags if by == "tag" else site.dates
    if by == "date beside a weak tag":
        site.tags[PATH] = 'W/"always"'
    validators[PATH] = '"first"' if by == "tag" else "Sun, 22 Nov 2026 10:00:00 GMT"
    site.cuts[PATH] = [CUT] + [0] * download.ATTEMPTS
    error(data("ravdess", f"data.root={tmp_path}"))
    assert (tmp_path / PART).stat().st_size == CUT
    offer(archive)
    validators[PATH] = '"second"' if by == "tag" else "Sun, 22 Nov 2026 11:00:00 GMT"
    site.requests.clear()
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert site.ranges_of(PATH) == [f"bytes={CUT}-"], "all of it came"


def test_a_file_that_has_changed_unseen(site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    plant(tmp_path / PART, b"of another file")
    told = data("ravdess", f"data.root={tmp_path}")
    assert told.code == 0
    assert "fetching all of it again" in told.err
    assert site.ranges_of(PATH) == ["bytes=15-", None]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_wrong_checksum(algorithm: str, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    expected, got = (hashlib.new(algorithm, content).hexdigest() for content in (b"x", archive))
    offer(archive, checksum=f"{algorithm}:{expected}")
    message = error(data("ravdess", f"data.root={tmp_path}"))
    assert f"{site.url}{PATH} is not the file that was published" in message
    assert expected in message
    assert got in message
    assert len(site.requests) == 1
    assert contents(tmp_path / ".ravdess.download").keys() == {"lock"}, "it was deleted"
    assert not (tmp_path / "ravdess").exists()


@pytest.mark.parametrize("left", [0, 15])
def test_a_wrong_checksum_of_what_was_cut(
    left: int, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    """It is fetched a second time only where the fault may be in what an earlier run left."""
    offer(archive, checksum=md5(b"x"))
    if left:
        plant(tmp_path / PART, bytes(left))
    site.cuts[PATH] = [CUT, len(archive)] * 20
    assert "is not the file that was published" in error(data("ravdess", f"data.root={tmp_path}"))
    first = [f"bytes={left}-", f"bytes={left + CUT}-"] if left else [None, f"bytes={CUT}-"]
    assert site.ranges_of(PATH) == first + [None, f"bytes={CUT}-"] * bool(left)


def test_an_interrupted_checksum(
    site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(archive)

    def interrupt(*arguments: object, **options: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pooch.hashes.file_hash", interrupt)
        assert data("ravdess", f"data.root={tmp_path}").code == INTERRUPTED
    assert (tmp_path / PART).read_bytes() == archive
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert site.ranges_of(PATH) == [None, f"bytes={len(archive)}-"]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_final(status: int, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    site.refusals[PATH] = [(status, None)]
    message = error(data("ravdess", f"data.root={tmp_path}"))
    assert f"{site.url}{PATH} cannot be downloaded: the server answered {status}" in message
    assert len(site.requests) == 1


def test_a_busy_server_is_left_alone_for_a_while(
    site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(archive)
    site.refusals[PATH] = [(503, None), (429, "7"), (503, "100000"), (500, "Sun, 22 Nov 2026 10:00:00 GMT")]
    slept: list[float | None] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            slept.append(timeout)
            return False

    monkeypatch.setattr(download, "Event", Event)
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert slept == [0.001, 7, download.LONGEST_PAUSE_S, 0.008]


def test_a_server_that_falls_silent(site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    site.held[PATH] = CUT

    def tell(line: str, real: Any = download.Fetcher.tell) -> None:
        site.held.clear()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download.Fetcher, "tell", lambda self, line: tell(line) if "trying again" in line else None)
        assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert site.ranges_of(PATH) == [None, f"bytes={CUT}-"]


def test_no_server_at_all(offer: Offer, archive: bytes, data: Data, tmp_path: Path, site: Site) -> None:
    source = offer(archive)
    with pytest.MonkeyPatch.context() as patch, serve() as gone:
        closed = gone.url
        patch.setattr(Ravdess, "downloads", {"ravdess": Download(f"{closed}/a.zip", source.checksum, "x", 16)})
        gone.refusals["/a.zip"] = [(503, None)] * 9
        assert "answered 503" in error(data("ravdess", f"data.root={tmp_path}"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ravdess, "downloads", {"ravdess": Download(f"{closed}/a.zip", source.checksum, "x", 16)})
        message = error(data("ravdess", f"data.root={tmp_path}"))
    assert message.startswith(f"{closed}/a.zip cannot be downloaded: Connection refused\n")


def test_a_redirection(site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    source = offer(archive)
    site.moved["/elsewhere.zip"] = PATH
    with pytest.MonkeyPatch.context() as patch:
        moved = Download(f"{site.url}/elsewhere.zip", source.checksum, "x", 16)
        patch.setattr(Ravdess, "downloads", {"ravdess": moved})
        assert data("ravdess", f"data.root={tmp_path}").code == 0


def test_a_redirection_without_end(site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    offer(archive)
    site.moved[PATH] = PATH
    assert "redirects" in error(data("ravdess", f"data.root={tmp_path}"))


@pytest.mark.parametrize("place", ["http://[::1", "ftp://x/y", f"http://{'a' * 70}/x"])
def test_a_redirection_to_nowhere(
    place: str, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path
) -> None:
    offer(archive)
    site.moved[PATH] = place
    message = error(data("ravdess", f"data.root={tmp_path}"))
    assert f"{site.url}{PATH} cannot be downloaded: " in message
    assert len(site.requests) == 1


def offer_of(url: str, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets RAVDESS be at some address."""
    monkeypatch.setattr(Ravdess, "downloads", {"ravdess": Download(f"{url}/speech.zip", md5(content), "x", 16)})


@pytest.mark.usefixtures("site")
def test_a_server_that_closes_without_an_answer(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answer_with(b"") as url:
        offer_of(url, b"", monkeypatch)
        told = data("ravdess", f"data.root={tmp_path}")
    assert "speech.zip cannot be downloaded: the server closed the connection without an answer\n" in error(told)
    assert told.err.count("trying again") == download.ATTEMPTS - 1


@pytest.mark.usefixtures("site")
def test_a_server_without_encryption(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a certificate is no better the next time."""
    with answer_with(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        offer_of(url.replace("http", "https"), b"", monkeypatch)
        told = data("ravdess", f"data.root={tmp_path}")
    assert "SSL" in error(told)
    assert "trying again" not in told.err


@pytest.mark.usefixtures("site")
def test_a_part_that_was_not_asked_for(
    archive: bytes, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s"
    part = head % (b"206 Partial Content", 3, b"Content-Range: bytes 5-7/100\r\n", b"abc")
    with answer_with(part, head % (b"200 OK", len(archive), b"", archive)) as url:
        offer_of(url, archive, monkeypatch)
        told = data("ravdess", f"data.root={tmp_path}")
    assert told.code == 0
    assert "bytes from 5 on were sent instead of 0; trying again" in told.err


class Bar(Progress):
    """A bar that remembers what it showed last."""

    def __init__(self) -> None:
        super().__init__(disable=True)
        self.last: dict[str, tuple[float, float | None]] = {}

    def remove_task(self, task_id: TaskID) -> None:
        (task,) = (one for one in self.tasks if one.id == task_id)
        self.last[task.description] = (task.completed, task.total)
        super().remove_task(task_id)


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> Bar:
    shown = Bar()
    monkeypatch.setattr(experiments.data, "progress_bar", lambda: shown)
    return shown


@pytest.mark.parametrize("ranges", [True, False])
def test_the_bar(ranges: bool, bar: Bar, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    """It knows the size, and counts what was fetched twice once."""
    offer(archive)
    site.ranges = ranges
    site.cuts[PATH] = [CUT, 0]
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert bar.last["speech.zip"] == (len(archive), len(archive))


# A full disk


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


def limit_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free}))


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


# Archives that are not what they should be


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


# Interruptions and other processes

SCRIPT = """
import sys
from datamodules.corpora import CORPORA
from datamodules.corpora.base import Download, Repository
from experiments.__main__ import main
corpus, source, root = sys.argv[1:]
CORPORA[corpus].downloads = {corpus: eval(source)}
sys.exit(main(["data", corpus, f"data.root={root}"]))
"""


def start(source: Download | Repository, root: Path, corpus: str = "ravdess") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SCRIPT, corpus, repr(source), str(root)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_after_the_process_was_ended(
    with_signal: signal.Signals, site: Site, offer: Offer, archive: bytes, made: Path, data: Data, tmp_path: Path
) -> None:
    source = offer(archive)
    site.tags[PATH] = '"first"'
    site.held[PATH] = CUT
    with start(source, tmp_path) as process:
        wait_until(lambda: (tmp_path / PART).is_file() and len(site.requests) == 1)
        process.send_signal(with_signal)
        _out, err = process.communicate(timeout=20)
    site.over.set()
    assert process.returncode == (INTERRUPTED if with_signal == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in err
    assert not (tmp_path / "ravdess").exists()
    there = (tmp_path / PART).stat().st_size
    site.held.clear()
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert site.ranges_of(PATH)[1:] == [f"bytes={there}-" if there else None]
    assert contents(tmp_path / "ravdess") == contents(made)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ravdess"]


def test_unpacking_begins_anew(
    site: Site, offer: Offer, archive: bytes, made: Path, data: Data, tmp_path: Path
) -> None:
    """As a process leaves it that was ended while it unpacked."""
    offer(archive)
    plant(tmp_path / ".ravdess.download" / "speech.zip", archive)
    plant(tmp_path / ".ravdess.download" / "new" / "Actor_01" / "half.wav", b"half")
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert site.requests == []
    assert contents(tmp_path / "ravdess") == contents(made)


def test_two_processes_at_once(site: Site, offer: Offer, archive: bytes, tmp_path: Path) -> None:
    source = offer(archive)
    gate = site.gates[PATH] = threading.Event()
    with start(source, tmp_path) as one:
        wait_until(lambda: site.requests)
        with start(source, tmp_path) as other:
            assert other.stderr is not None
            notice = other.stderr.readline()  # of what it does first
            gate.set()
            said = [process.communicate(timeout=60)[0] for process in (one, other)]
    assert notice.startswith("Waiting for another process that is at work")
    assert (one.returncode, other.returncode) == (0, 0)
    assert [f"{tmp_path / 'ravdess'}: 16 recordings" in out for out in said] == [True, True]
    assert len(site.requests) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["ravdess"]


# Repositories


def commit(folder: Path) -> str:
    """Makes a repository of a folder; returns the commit."""
    who = {f"GIT_{role}_{what}": "x@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*words: str) -> str:
        command = ["git", "-c", "core.autocrlf=false", *words]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **who}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=all")
    git("config", "uploadpack.allowFilter", "true")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    return git("rev-parse", "HEAD")


@pytest.fixture
def nemo(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nEMO in a repository of the site, with a file that is not needed; returns its folder."""
    site.repositories = tmp_path / "site"
    folder = fakes.nemo(site.repositories / "nemo", speakers=2, sentences=1, seconds=0.3, rate=16_000)
    (folder / "video.bin").write_bytes(b"not needed")
    source = Repository(f"{site.url}/nemo", commit(folder), 12, ("samples", "data.tsv"))
    monkeypatch.setattr(Nemo, "downloads", {"nemo": source})
    monkeypatch.setattr(repository, "BATCH", 5)
    return folder


def needed(folder: Path) -> dict[str, bytes]:
    return {path: content for path, content in contents(folder).items() if not path.startswith((".git", "video"))}


def test_a_repository(nemo: Path, data: Data, tmp_path: Path) -> None:
    root = tmp_path / "corpora"
    told = data("nemo", f"data.root={root}")
    assert told.code == 0
    assert f"{root / 'nemo'}: 12 recordings" in told.out
    assert 'make train EXP=nemo_cat ARGS="data.root=' in told.out
    assert contents(root / "nemo") == needed(nemo)
    assert [entry.name for entry in root.iterdir()] == ["nemo"]
    manifest = build_manifest(
        make_reader("nemo"), root / "nemo", tmp_path / "cache", hash_content=True, workers=1, progress=False
    )
    assert (len(manifest), manifest.faults) == (12, [])


def test_a_repository_that_a_killed_git_left(nemo: Path, data: Data, tmp_path: Path) -> None:
    root = tmp_path / "corpora"
    plant(root / ".nemo.download" / "repository.git" / "config.lock", b"")
    plant(root / ".nemo.download" / "repository.git" / "objects" / "pack" / "tmp_pack_x", b"half")
    assert data("nemo", f"data.root={root}").code == 0
    assert contents(root / "nemo") == needed(nemo)


def test_a_git_that_outlives_the_process(nemo: Path, site: Site, tmp_path: Path) -> None:
    """It is waited for: its lock files are its own."""
    root = tmp_path / "corpora"
    gate = site.gates["/nemo/git-upload-pack"] = threading.Event()
    with start(Nemo.downloads["nemo"], root, "nemo") as killed:
        wait_until(lambda: any(request.method == "POST" for request in site.requests))
        killed.kill()
    lock = root / ".nemo.download" / "repository.git" / "shallow.lock"
    lock.touch()
    with start(Nemo.downloads["nemo"], root, "nemo") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Downloading ")
        assert process.stderr.readline().startswith("Waiting for another process")
        assert lock.exists()
        gate.set()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert contents(root / "nemo") == needed(nemo)


@pytest.mark.parametrize(
    ("status", "told"), [(404, "not found"), (401, "terminal prompts disabled"), (403, "returned error: 403")]
)
def test_a_repository_that_is_refused(
    status: int, told: str, nemo: Path, site: Site, data: Data, tmp_path: Path
) -> None:
    path = "/nemo/info/refs"
    site.refusals[path] = [(status, None)] * 9
    answer = data("nemo", f"data.root={tmp_path / 'corpora'}")
    assert f"{site.url}/nemo cannot be downloaded: git fetch: " in error(answer)
    assert told in answer.err
    assert len(site.requests) == 1


def test_a_repository_that_is_cut(nemo: Path, site: Site, data: Data, tmp_path: Path) -> None:
    """Portions that have come are kept, from one attempt and from one call to the next."""
    root = tmp_path / "corpora"
    posts = "/nemo/git-upload-pack"
    reached = 0

    class Refusals(dict[str, list[tuple[int, str | None]]]):
        def __missing__(self, path: str) -> list[tuple[int, str | None]]:
            nonlocal reached
            reached += path == posts
            return [(500, None)] if path == posts and reached > 2 else []

    site.refusals = Refusals()
    message = error(data("nemo", f"data.root={root}"))
    assert f"{site.url}/nemo cannot be downloaded" in message
    assert "clone https://github.com/amu-cai/nEMO" in message
    assert not (root / "nemo").exists()
    packs = {file.name for file in (root / ".nemo.download").rglob("*.pack")}
    assert len(packs) > 1
    site.refusals = Refusals()
    reached = -100
    first = len(site.requests)
    assert data("nemo", f"data.root={root}").code == 0
    assert contents(root / "nemo") == needed(nemo)
    assert len([request for request in site.requests[first:] if request.path == posts]) < 100


def test_another_commit_than_the_published_one(
    nemo: Path, site: Site, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Repository(f"{site.url}/nemo", "1" * 40, 12, ("samples", "data.tsv"))
    monkeypatch.setattr(Nemo, "downloads", {"nemo": source})
    assert "1111" in error(data("nemo", f"data.root={tmp_path / 'corpora'}"))
    assert not (tmp_path / "corpora" / "nemo").exists()


def test_a_link_in_a_repository(site: Site, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.repositories = tmp_path / "site"
    folder = fakes.nemo(site.repositories / "nemo", speakers=1, sentences=1, seconds=0.3, rate=16_000)
    (folder / "samples" / "planted.wav").symlink_to("/etc/hostname")
    source = Repository(f"{site.url}/nemo", commit(folder), 12, ("samples", "data.tsv"))
    monkeypatch.setattr(Nemo, "downloads", {"nemo": source})
    assert "'samples/planted.wav' is a link" in error(data("nemo", f"data.root={tmp_path / 'corpora'}"))


def test_without_git(nemo: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    message = error(data("nemo", f"data.root={tmp_path / 'corpora'}"))
    assert "the program git is missing" in message
    assert "clone https://github.com/amu-cai/nEMO" in message


def test_git_fills_the_disk(nemo: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "programs" / "git"
    plant(program, b"#!/bin/sh\necho 'fatal: write error: No space left on device' >&2\nexit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert "the disk is full" in error(data("nemo", f"data.root={tmp_path / 'corpora'}"))


class Large(NamedTuple):
    """CREMA-D with its recordings in Git LFS."""

    whole: dict[str, bytes]
    objects: dict[str, bytes]


@pytest.fixture
def cremad(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Large:
    site.repositories = tmp_path / "site"
    folder = fakes.cremad(site.repositories / "cremad", actors=2, sentences=("IEO",), seconds=0.3)
    recordings = sorted((folder / "AudioWAV").iterdir())
    shutil.copyfile(recordings[0], folder / "AudioWAV" / "1040_ITH_SAD_X.wav")  # one content under two names
    whole, objects = contents(folder), {}
    for file in (folder / "AudioWAV").iterdir():
        content = file.read_bytes()
        oid = hashlib.sha256(content).hexdigest()
        objects[oid] = content
        file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n")
    site.large["/cremad"] = objects
    paths = ("AudioWAV", "VideoDemographics.csv", "processedResults", "not there")
    source = Repository(f"{site.url}/cremad", commit(folder), len(recordings) + 1, paths, (f"{site.url}/mirror",))
    monkeypatch.setattr(Cremad, "downloads", {"cremad": source})
    monkeypatch.setattr(repository, "BATCH", 5)
    return Large(whole, objects)


def test_large_files(cremad: Large, bar: Bar, site: Site, data: Data, tmp_path: Path) -> None:
    root = tmp_path / "corpora"
    told = data("cremad", f"data.root={root}")
    assert told.code == 0
    assert f"{root / 'CREMA-D'}: {len(cremad.objects) + 1} recordings" in told.out
    assert contents(root / "CREMA-D") == cremad.whole
    size = sum(map(len, cremad.objects.values()))
    assert bar.last[f"{len(cremad.objects)} files"] == (size, size)
    fetched = [request.path for request in site.requests if request.path.startswith("/objects/")]
    assert len(fetched) == len(set(fetched)) == len(cremad.objects)
    assert [entry.name for entry in root.iterdir()] == ["CREMA-D"]


def test_large_files_that_are_interrupted(cremad: Large, site: Site, tmp_path: Path) -> None:
    """Servers that have fallen silent are not waited for."""
    for oid in cremad.objects:
        site.held[f"/objects/cremad/{oid}"] = 100
    with start(Cremad.downloads["cremad"], tmp_path / "corpora", "cremad") as process:
        wait_until(lambda: sum(request.path in site.held for request in site.requests) == download.CONNECTIONS)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _out, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert time.monotonic() - begun < 3
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err


def test_large_files_stay_until_all_are_in_their_place(
    cremad: Large, site: Site, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "corpora"
    copied: list[Path] = []

    def interrupt(source: Path, target: Path, real: Callable[[Path, Path], Path] = shutil.copyfile) -> None:
        if copied:
            raise KeyboardInterrupt
        copied.append(real(source, target))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", interrupt)
        assert data("cremad", f"data.root={root}").code == INTERRUPTED
    site.requests.clear()
    assert data("cremad", f"data.root={root}").code == 0
    assert [request for request in site.requests if request.path.startswith("/objects/")] == []
    assert contents(root / "CREMA-D") == cremad.whole


def test_large_files_of_a_mirror(cremad: Large, site: Site, data: Data, tmp_path: Path) -> None:
    """As when the budget of the repository is spent, told by a status or of each file."""
    site.large["/mirror"] = site.large.pop("/cremad")
    site.refusals["/cremad.git/info/lfs/objects/batch"] = [(403, None)]
    root = tmp_path / "corpora"
    assert data("cremad", f"data.root={root}").code == 0
    assert contents(root / "CREMA-D") == cremad.whole


def test_large_files_that_nobody_has(cremad: Large, site: Site, data: Data, tmp_path: Path) -> None:
    del site.large["/cremad"]
    message = error(data("cremad", f"data.root={tmp_path / 'corpora'}"))
    for name in ("cremad", "mirror"):
        assert f"{site.url}/{name}.git/info/lfs/objects/batch cannot be downloaded: the budget is spent" in message
    assert "with Git LFS" in message


def test_large_files_are_compared_and_kept(cremad: Large, site: Site, data: Data, tmp_path: Path) -> None:
    wrong = sorted(cremad.objects)[-1]
    good = site.large["/cremad"][wrong]
    site.large["/cremad"][wrong] = bytes(len(good))
    root = tmp_path / "corpora"
    message = error(data("cremad", f"data.root={root}"))
    assert f"{site.url}/objects/cremad/{wrong} is not the file that was published" in message
    assert not (root / "CREMA-D").exists()
    kept = {file.name for file in (root / ".cremad.download").iterdir()} & cremad.objects.keys()
    assert kept
    assert wrong not in kept
    site.large["/cremad"][wrong] = good
    site.requests.clear()
    assert data("cremad", f"data.root={root}").code == 0
    fetched = {request.path.rpartition("/")[2] for request in site.requests if request.path.startswith("/objects/")}
    assert fetched == cremad.objects.keys() - kept
    assert contents(root / "CREMA-D") == cremad.whole


# What is asked for, and what is declared


@pytest.mark.parametrize("corpus", on_application())
def test_corpora_on_application(corpus: str, data: Data, tmp_path: Path) -> None:
    told = data(corpus, f"data.root={tmp_path}")
    assert f"{corpus} cannot be downloaded by a command" in error(told)
    assert CORPORA[corpus].how_to_get in told.err
    assert "https://" in told.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ravdes"], ["unknown corpus 'ravdes'", "Did you mean: ravdess?", "nemo", "on application: iemocap"]),
        (["librispeech"], ["unknown corpus 'librispeech'", "Did you mean: librispeech-clean-100,"]),
        (["iemocapp"], ["Did you mean: iemocap"]),
        (["demo"], ["demo cannot be downloaded", "it makes itself"]),
        (["table"], ["table cannot be downloaded", "set its path"]),
        (["ravdess", "data.quota=3"], ["'data.quota=3'", "data.root=<folder>"]),
        (["ravdess", "data.root="], ["'data.root='"]),
        (["ravdess", "--yes"], ["'--yes'"]),
    ],
)
def test_a_wrong_command(arguments: list[str], told: list[str], data: Data) -> None:
    message = error(data(*arguments))
    assert [part for part in told if part not in message] == []


SOURCES = {name: source for name, (_, source) in downloads().items()}


@pytest.mark.parametrize("name", SOURCES)
def test_declarations(name: str) -> None:
    source = SOURCES[name]
    reader = downloads()[name][0]
    assert name.partition("-")[0] == reader.name
    assert reader.folders
    assert source.page.startswith("https://")
    if isinstance(source, Repository):
        assert re.fullmatch("[0-9a-f]{40}", source.commit)
        assert source.page in reader.how_to_get
        assert all(mirror.startswith("https://") for mirror in source.mirrors)
    else:
        assert source.url.startswith("https://")
        assert re.fullmatch("md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", source.checksum)


def test_what_the_makefile_tells() -> None:
    make = shutil.which("make")
    assert make
    done = subprocess.run([make, "data"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    told = re.search(r"one of: (.*); on application only: (.*)\. ", done.stderr)
    assert told
    assert set(told[1].split()) == SOURCES.keys()
    assert set(told[2].split()) == set(on_application())


def test_the_numbers_of_recordings() -> None:
    """Of the published corpora, from their papers and owners' pages."""
    numbers = {"ravdess": 1440, "cremad": 7442, "emodb": 535, "nemo": 4481}
    numbers |= {"librispeech-clean-100": 28539, "librispeech-clean-360": 104014, "librispeech-other-500": 148688}
    numbers |= {"librispeech-dev-clean": 2703, "librispeech-dev-other": 2864}
    numbers |= {"librispeech-test-clean": 2620, "librispeech-test-other": 2939}
    assert {name: source.audio for name, source in SOURCES.items()} == numbers
