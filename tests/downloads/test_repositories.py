"""Corpora in Git repositories, and their files in Git LFS."""

import hashlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from callbacks.interruption import INTERRUPTED
from datamodules import download, repository
from datamodules.building import build_manifest
from datamodules.corpora import make_reader
from datamodules.corpora.base import Repository
from datamodules.corpora.cremad import Cremad
from datamodules.corpora.nemo import Nemo
from tests import fakes
from tests.downloads.offers import Bar, Data, commit, contents, error, plant, start
from tests.downloads.site import Site, wait_until


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
