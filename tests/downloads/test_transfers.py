"""Files over HTTP: cuts, checksums, refusals, redirections, and the bar."""

import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest

from callbacks.interruption import INTERRUPTED
from datamodules import download
from datamodules.corpora.base import Download
from datamodules.corpora.ravdess import Ravdess
from tests.downloads.offers import CUT, PART, PATH, Bar, Data, Offer, contents, error, plant
from tests.downloads.site import Site, answer_with, md5, serve


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


@pytest.mark.parametrize("ranges", [True, False])
def test_the_bar(ranges: bool, bar: Bar, site: Site, offer: Offer, archive: bytes, data: Data, tmp_path: Path) -> None:
    """It knows the size, and counts what was fetched twice once."""
    offer(archive)
    site.ranges = ranges
    site.cuts[PATH] = [CUT, 0]
    assert data("ravdess", f"data.root={tmp_path}").code == 0
    assert bar.last["speech.zip"] == (len(archive), len(archive))
