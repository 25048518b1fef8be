"""What a run folder holds, and how it is written."""

import errno
import json
import math
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from datamodules.collection import Collection
from datamodules.errors import InputError
from experiments import records
from experiments.files import make_folder, read_json, replacing
from experiments.files import write_json as write
from experiments.records import CheckpointFiles, HostileCheckpointError, environment, read_checkpoint


def test_a_run_folder_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo" / "first"
    make_folder(folder)
    (folder / "results.json").touch()
    with pytest.raises(InputError, match="already exists"):
        make_folder(folder)
    make_folder(folder, new=False)
    assert [file.name for file in folder.iterdir()] == ["results.json"]


def test_json_comes_back(tmp_path: Path) -> None:
    content = {"uar": 0.1 + 0.2, "ccc": {"activation": None}, "confusion": [[1, 2]], "name": "Zażółć"}
    write(tmp_path / "results.json", content)
    assert read_json(tmp_path / "results.json") == content
    assert "Zażółć" in (tmp_path / "results.json").read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_json_holds_no_nan(tmp_path: Path) -> None:
    write(tmp_path / "results.json", {"uar": 0.5})
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "results.json", {"uar": math.nan})
    assert read_json(tmp_path / "results.json") == {"uar": 0.5}


@pytest.mark.parametrize("content", [b'{"uar": ', b"\xff\xfe\x00", b""])
def test_damaged_json_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_json(tmp_path / "results.json")


def test_what_was_there_survives_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    file.write_bytes(b"before")

    def fill() -> None:
        with replacing(file) as stream:
            stream.write(b"half of")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    assert caught.value.filename == str(file)
    assert file.read_bytes() == b"before"
    with replacing(file) as stream:
        stream.write(b"after")
        stream.flush()
        assert file.read_bytes() == b"before"
    assert file.read_bytes() == b"after"
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_checkpoints_come_back(tmp_path: Path) -> None:
    checkpoint = {"state_dict": {"weight": torch.arange(3.0)}, "epoch": 4}
    file = tmp_path / "checkpoints" / "best.ckpt"
    CheckpointFiles().save_checkpoint(checkpoint, str(file))
    found = read_checkpoint(file)
    assert found["epoch"] == 4
    assert torch.equal(found["state_dict"]["weight"], torch.arange(3.0))
    assert CheckpointFiles().load_checkpoint(file)["epoch"] == 4
    assert [path.name for path in file.parent.iterdir()] == ["best.ckpt"]


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "epoch": Path("/")}, tmp_path / "best.ckpt")
    with pytest.raises(HostileCheckpointError, match=r"asks for pathlib\.PosixPath, and was not opened"):
        read_checkpoint(tmp_path / "best.ckpt")


@pytest.fixture
def collection() -> Collection:
    return cast(Collection, SimpleNamespace(manifests=[SimpleNamespace(corpus="a", sha256="00ff")]))


def test_the_environment_can_be_written_down(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["/bin/python3", "-m", "experiments", "train", "demo", "run=a b"])
    monkeypatch.setattr(records, "PACKAGES", ("torch", "no-such-package"))
    found = environment(collection)
    assert json.loads(json.dumps(found)) == found
    assert found["command"] == "python -m experiments train demo 'run=a b'"
    assert found["packages"] == {"torch": torch.__version__, "no-such-package": None}
    assert found["manifests"] == {"a": "00ff"}
    assert found["machine"]["threads"] == torch.get_num_threads()


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_of_the_code_is_known(
    tmp_path: Path, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "experiments" / "records.py"
    code.parent.mkdir()
    code.touch()
    monkeypatch.setattr(records, "__file__", str(code))

    def found() -> Any:
        return environment(collection)["git"]

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert found() is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "of somebody else's")
    assert found() is None, "the code is not in this repository"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "ours")
    assert found() == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    code.write_text("# changed")
    assert found()["dirty"] is True
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found() is None, "there is no git"
