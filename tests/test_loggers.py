"""W&B without a network, and what is kept off the terminal."""

import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from lightning.pytorch.loggers import Logger, WandbLogger

from callbacks.interruption import Interrupted
from datamodules.errors import InputError
from experiments import account
from experiments.config import Config
from experiments.hush import hush
from experiments.loggers import MetricsFile, log_results, logged
from tests import runs, trees

KEY = "0123456789" * 4


@pytest.fixture
def config() -> Config:
    return Config(experiment="demo")


def begun(config: Config, folder: Path) -> AbstractContextManager[list[Logger]]:
    return logged(config, folder, MetricsFile(folder / "metrics.csv"), "a1b2")


def only_csv(config: Config, folder: Path) -> bool:
    with begun(config, folder) as made:
        return [type(logger).__name__ for logger in made] == ["MetricsFile"]


def test_everything_lands_in_an_offline_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpora = trees.write_all(tmp_path / "corpora")
    folder = runs.train("ravdess_cat", corpora, tmp_path / "runs", wandb=True)
    assert wandb.run is None, "the run was not finished"
    wandb.teardown()  # as at the end of the program: waits for the process that writes
    printed = capfd.readouterr()
    assert [line for line in printed.out.splitlines() if "wandb" in line.lower() or "W&B" in line] == [
        f"W&B: offline, because WANDB_MODE is offline; `wandb sync {folder}/wandb/offline-run-*` uploads the run."
    ]
    assert printed.err.strip() == "", "noise"

    (offline,) = folder.glob("wandb/offline-run-*")
    figures = {file.stem for file in (folder / "figures").iterdir()}
    media = {file.stem.rsplit("_", 2)[0] for file in (offline / "files/media/images/figures").iterdir()}
    assert media == figures
    (log,) = offline.glob("*.wandb")
    record = log.read_bytes()
    for name in ("dev/uar", "train/loss", "final/test/uar", "final/dev/accuracy", "ravdess_cat/", "adversary/"):
        assert name.encode() in record, name
    for file in ("config.yaml", "results.json", "environment.json", "data_report.json", "metrics.csv"):
        assert f"{folder / file}".encode() in record, file
    assert b"checkpoints/best.ckpt" in record
    assert b"predictions_test.csv" in record


def test_a_failed_run_is_closed(tmp_path: Path, config: Config) -> None:
    def diverge() -> None:
        with begun(config, tmp_path):
            assert wandb.run is not None
            raise InputError("diverged")

    with pytest.raises(InputError, match="diverged"):
        diverge()
    assert wandb.run is None
    wandb.teardown()
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"demo/" in log.read_bytes()


@pytest.mark.parametrize("whole", [True, False])
def test_a_training_outlives_the_process_of_wandb(
    tmp_path: Path, config: Config, whole: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def train() -> None:
        with begun(config, tmp_path) as made:
            children = {
                int(child) for file in Path("/proc/self/task").glob("*/children") for child in file.read_text().split()
            }
            stats = {one: Path(f"/proc/{one}/stat").read_text() for one in children}
            (process,) = (
                one for one, stat in stats.items() if "(wandb-core) " in stat and "(wandb-core) Z" not in stat
            )
            os.kill(process, signal.SIGKILL)
            for step in range(100):
                for logger in made:
                    logger.log_metrics({"loss": 1.0}, step)
            if not whole:
                raise Interrupted(signal.SIGTERM)
            (logger,) = (one for one in made if isinstance(one, WandbLogger))
            logger.log_image("figure", [np.zeros((2, 2, 3), np.uint8)])
            log_results(made, tmp_path, config, {"dev": {"uar": 0.5}})

    wandb.teardown()  # that of other tests
    with nullcontext() if whole else pytest.raises(Interrupted):
        train()
    assert "W&B: its process ended first" in capsys.readouterr().err
    with begun(config, tmp_path / "again") as made:
        assert len(made) == 2


def test_wandb_can_be_switched_off(tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb, "setup", lambda: SimpleNamespace(settings=SimpleNamespace(mode="disabled")))
    assert only_csv(config, tmp_path)
    config.wandb.enabled = False
    monkeypatch.setattr(wandb, "setup", None)
    assert only_csv(config, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_settings_that_wandb_cannot_read(tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb.teardown()
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_MODE", "sometimes")
        with (
            pytest.raises(InputError, match="WANDB_ variables"),
            begun(config, tmp_path),
        ):
            pass
    wandb.teardown()


def test_a_refused_run_is_bad_input(tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise wandb.errors.CommError("permission denied")

    monkeypatch.setattr(wandb, "init", refuse)
    config.wandb.entity = "nobody"
    with (
        pytest.raises(InputError, match=r"wandb.entity=nobody\): permission denied"),
        begun(config, tmp_path),
    ):
        pass


class Refusal(BaseHTTPRequestHandler):
    """A W&B server that does not know the account."""

    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b'{"errors": [{"message": "who are you?"}]}')

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Refusal) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def why_offline(host: str, mode: str = "online") -> str | None:
    return account.why_offline(SimpleNamespace(mode=mode, base_url=host))


@pytest.fixture
def unreachable() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_why_offline(server: str, unreachable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert why_offline(server, mode="offline") == "WANDB_MODE is offline"
    assert why_offline(server) == "no account is set up (`wandb login`)"
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_API_KEY", "short")
        assert "the account does not work" in str(why_offline(server))
        patch.setenv("WANDB_API_KEY", KEY)
        assert f"{unreachable} cannot be reached" in str(why_offline(unreachable))
        assert "who are you?" in str(why_offline(server))
    (tmp_path / "netrc").write_text(f"machine {server.removeprefix('http://')} login user password {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert "who are you?" in str(why_offline(server))


def test_only_what_is_always_said_is_hushed(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            hush()
            hush()
            for message in ("GPU available: False, used: False", "`Trainer.fit` stopped: `max_epochs=2` reached."):
                logger.info(message)
            logger.info("Detected KeyboardInterrupt, attempting graceful shutdown ...")
            logger.warning("GPU available but not used.")
            warnings.warn(
                "`isinstance(treespec, LeafSpec)` is deprecated, use something else", FutureWarning, stacklevel=2
            )
            warnings.warn("the loss is NaN", UserWarning, stacklevel=2)
    finally:
        logger.removeHandler(handler)
    assert capsys.readouterr().err.splitlines() == [
        "Detected KeyboardInterrupt, attempting graceful shutdown ...",
        "GPU available but not used.",
    ]
    assert [str(one.message) for one in warned] == ["the loss is NaN"]
