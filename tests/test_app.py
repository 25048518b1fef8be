"""The page on which a model is tried: what it says, whom it serves, how it ends; in a browser if there is one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import soundfile

from datamodules.errors import InputError
from experiments.__main__ import main
from experiments.app.listening import MOST_WINDOWS, Heard, listen
from experiments.predict import load
from experiments.predict.recogniser import Recogniser
from tests import fakes, runs

CHROMIUM = shutil.which("chromium")
RATE = 16_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.iemocap(root / "IEMOCAP_full_release")
    return runs.train("iemocap_joint", root, tmp_path_factory.mktemp("run"), "data.auxiliary=[]", "model.window_s=0.5")


@pytest.fixture(scope="module")
def recogniser(run: Path) -> Recogniser:
    return load(run, accelerator="cpu")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of sound, of which the fourth is silent."""
    path = tmp_path_factory.mktemp("speech") / "speech.flac"
    soundfile.write(path, sound(5.0, silent=slice(3 * RATE, 4 * RATE)), RATE)
    return path


def sound(seconds: float, silent: slice = slice(0)) -> np.ndarray[Any, np.dtype[np.float64]]:
    samples = np.random.default_rng(0).normal(0, 1, round(seconds * RATE)).cumsum()
    samples *= 0.5 / np.abs(samples).max()
    samples[silent] = 0
    return samples


def test_a_recording_is_told_as_predict_tells_it(recogniser: Recogniser, speech: Path) -> None:
    heard = listen(recogniser, speech, 2.0, 0.5)
    (row,) = recogniser.files(speech)
    assert heard.seconds == 5.0
    assert row.found is not None
    assert heard.whole.probabilities == row.found.probabilities
    assert heard.whole.dimensions == row.found.dimensions
    assert heard.whole.novelty == row.found.novelty


def test_over_time_there_are_windows_and_none_of_silence(recogniser: Recogniser, speech: Path) -> None:
    shares: list[float] = []
    heard = listen(recogniser, speech, 1.0, 0.5, shares.append)
    assert [(row.start, row.end) for row in heard.windows] == [(0.5 * n, 0.5 * n + 1) for n in range(9)]
    assert [row.start for row in heard.windows if row.found is None] == [3.0]
    assert shares[-1] == 1
    window = list(recogniser.files(speech, window_s=1.0))[2]
    assert window.found is not None
    assert heard.windows[2].found is not None
    assert heard.windows[2].found.probabilities == pytest.approx(window.found.probabilities, abs=1e-6)


def test_a_short_recording_is_one_window(recogniser: Recogniser, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", sound(0.6), RATE)
    heard = listen(recogniser, tmp_path / "short.wav", 2.0, 0.5)
    assert [row.found.probabilities for row in heard.windows if row.found] == [heard.whole.probabilities]


def test_a_long_recording_has_windows_farther_apart_and_is_told_by_the_mean(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, sound(70), RATE)
    heard = listen(recogniser, path, 0.5, 0.05)
    assert len(heard.windows) == MOST_WINDOWS
    assert heard.windows[-1].end == 70
    rows = [row.found.probabilities for row in recogniser.files(path) if row.found is not None]
    assert len(rows) > 1
    assert heard.whole.probabilities == pytest.approx({name: np.mean([row[name] for row in rows]) for name in rows[0]})


@pytest.mark.parametrize(("content", "fault"), [(b"no audio", "unreadable"), (None, "silent")])
def test_what_cannot_be_heard_is_told(
    content: bytes | None, fault: str, recogniser: Recogniser, tmp_path: Path
) -> None:
    path = tmp_path / "bad.wav"
    if content is None:
        soundfile.write(path, np.zeros(RATE), RATE)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^bad\.wav: .*{fault}"):
        listen(recogniser, path, 2.0, 0.5)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("port=70000", "port is '70000'"),
        ("port=1.5", "port is '1.5'"),
        ("window_s=long", "window_s is 'long'"),
        ("hop_s=0", "hop_s is '0'"),
        ("share=true", "unknown setting 'share=true'"),
    ],
)
def test_bad_settings(setting: str, told: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", str(run), setting]) == 2
    assert told in capsys.readouterr().err


def test_without_gradio(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app", str(run), "accelerator=cpu"]) == 2
    assert ".[app]" in capsys.readouterr().err


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    address: str
    temporary: Path

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rpartition(":")[2])


@pytest.fixture(scope="module")
def served(run: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The command, in an environment that would open it to everybody; what was recorded is deleted at its end."""
    temporary = tmp_path_factory.mktemp("app")
    opened = {"GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ALLOWED_PATHS": "/"}
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", "app", str(run), "accelerator=cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | opened | {"TMPDIR": str(temporary), "http_proxy": "http://127.0.0.1:9"},
    )
    assert process.stdout is not None
    served = Served(process, process.stdout.readline().strip(), temporary)
    try:
        yield served
        assert upload(served, speech).is_file()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
    assert not list(temporary.glob("ser-aae-app-*"))


def upload(served: Served, file: Path) -> Path:
    """Sends a file; returns where it lies now."""
    with file.open("rb") as stream:
        sent = requests.post(f"{served.address}gradio_api/upload", files={"files": stream}, timeout=20)
    (place,) = sent.json()
    return Path(place)


def test_only_this_machine_is_served(served: Served, speech: Path) -> None:
    assert served.address.startswith("http://127.0.0.1:")
    assert requests.get(served.address, timeout=20).ok
    with pytest.raises(ConnectionRefusedError):  # an address of this machine that 0.0.0.0 would serve
        socket.create_connection(("127.0.0.2", served.port), timeout=20)
    assert requests.get(served.address, headers={"Host": "elsewhere.example"}, timeout=20).status_code == 400
    assert requests.get(f"{served.address}gradio_api/file={speech}", timeout=20).status_code == 403


def test_files_of_this_machine_cannot_be_named(served: Served, speech: Path) -> None:
    def ask(path: str) -> str:
        sent: Any = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
        call = f"{served.address}gradio_api/call/recognise"
        event = requests.post(call, json=sent, timeout=20).json()["event_id"]
        return requests.get(f"{call}/{event}", timeout=60).text

    uploaded = upload(served, speech)
    assert uploaded.is_relative_to(served.temporary)
    assert ask(str(uploaded)).startswith("event: complete")
    assert ask(str(speech)).startswith("event: error")


def test_a_taken_port(served: Served, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", str(run), "accelerator=cpu", f"port={served.port}"]) == 2
    assert f"port={served.port} is taken" in capsys.readouterr().err


@pytest.fixture(scope="module")
def heard(recogniser: Recogniser, speech: Path) -> Heard:
    return listen(recogniser, speech, 2.0, 0.5)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_a_browser(served: Served, heard: Heard, speech: Path, tmp_path: Path) -> None:
    from playwright.sync_api import Request, expect, sync_playwright

    (tmp_path / "bad.wav").write_bytes(b"no audio")
    soundfile.write(tmp_path / "microphone.wav", sound(2.0), RATE)
    microphone = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path / 'microphone.wav'}",
    ]
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *microphone]
        )
        page = browser.new_context(permissions=["microphone"]).new_page()
        page.on("request", note)
        expect.set_options(timeout=30_000)
        chooser = page.locator("input[type=file]")
        label = page.get_by_test_id("label-output-value")

        page.goto(served.address)
        chooser.set_input_files(speech)
        expect(label).to_have_text(str(heard.whole.emotion))
        for name, value in heard.whole.dimensions.items():
            expect(page.get_by_label(name.capitalize(), exact=True)).to_have_value(f"{value:.2f}".rstrip("0"))
        expect(page.get_by_text("Novelty")).to_contain_text(f"{heard.whole.novelty:.2f}")
        for names in (heard.whole.probabilities, heard.whole.dimensions):
            for name in names:
                expect(page.locator("svg.marks text").get_by_text(name, exact=True)).to_have_count(1)

        page.get_by_label("Clear").click()
        expect(label).to_have_count(0)
        chooser.set_input_files(tmp_path / "bad.wav")
        expect(page.get_by_text("bad.wav: unreadable")).to_be_visible()

        page.reload()
        page.get_by_label("Record audio").click()
        page.locator("button.record-button").click()
        page.wait_for_timeout(2500)
        page.locator("button.stop-button").click()
        expect(label).to_be_visible()
        browser.close()
    assert all(url.startswith((served.address, "data:", "blob:")) for url in asked)
