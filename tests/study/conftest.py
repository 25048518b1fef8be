"""A study whose runs are made without training."""

from functools import cache
from pathlib import Path

import pytest

from experiments.config import Config, load
from experiments.study import plan, running
from tests import fakes
from tests.study.fake import Fake


@cache
def load_once(experiment: str, settings: tuple[str, ...]) -> Config:
    return load(experiment, settings)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "load", lambda experiment, settings: load_once(experiment, tuple(settings)))


@pytest.fixture
def fake(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(running, "TICK_S", 0.01)
    found = Fake(tmp_path)
    monkeypatch.setattr(running, "command", found.command)
    return found


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess", actors=7, statements=1, rate=16_000)
    return root
