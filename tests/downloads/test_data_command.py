"""`make data`: what is asked for, what is fetched, where it goes, and what comes next."""

import contextlib
import hashlib
import io
import re
import shlex
import shutil
import signal
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from callbacks.interruption import INTERRUPTED
from datamodules.building import build_manifest
from datamodules.corpora import CORPORA, find_root
from datamodules.corpora.base import Download, Repository
from datamodules.corpora.librispeech import LibriSpeech
from datamodules.corpora.ravdess import Ravdess
from experiments.data import downloads, on_application
from tests import fakes
from tests.downloads.offers import CUT, PART, PATH, PROJECT, Data, Offer, contents, error, plant, start, tarred, zipped
from tests.downloads.site import Site, wait_until

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


# Interruptions and other processes


def end(process: subprocess.Popen[str], with_signal: signal.Signals) -> str:
    """Sends a signal, and again where nothing happens: Python sees one that came just before a read only after it.

    Returns:
        What the process said to standard error.
    """
    for _ in range(4):
        process.send_signal(with_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=5)[1]
    raise AssertionError("it went on")


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT])
def test_it_goes_on_after_the_process_was_ended(
    with_signal: signal.Signals, site: Site, offer: Offer, archive: bytes, made: Path, data: Data, tmp_path: Path
) -> None:
    source = offer(archive)
    site.tags[PATH] = '"first"'
    site.held[PATH] = CUT
    with start(source, tmp_path) as process:
        wait_until(lambda: (tmp_path / PART).is_file() and len(site.requests) == 1)
        err = end(process, with_signal)
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
