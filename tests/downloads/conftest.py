"""A site on this machine that offers corpora, and the command that fetches them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import experiments.data
from datamodules import download, repository
from datamodules.corpora.base import Download, Repository
from datamodules.corpora.nemo import Nemo
from datamodules.corpora.ravdess import Ravdess
from experiments.__main__ import main
from tests import fakes
from tests.downloads.offers import PATH, Bar, Told, commit, zipped
from tests.downloads.site import Site, md5, serve


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


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> Bar:
    shown = Bar()
    monkeypatch.setattr(experiments.data, "bar_of_bytes", lambda: shown)
    return shown


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
