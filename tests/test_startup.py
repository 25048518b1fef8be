"""What commands import, and when."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "lightning", "torchmetrics", "wandb", "matplotlib", "pyarrow", "numpy"}


def printed(script: str) -> str:
    """What a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["train"]])
def test_help_and_usage_need_nothing_heavy(arguments: list[str]) -> None:
    script = f"""
import sys
from experiments.__main__ import main
try:
    main({arguments})
except SystemExit:
    print(sorted({HEAVY - {"numpy"}} & set(sys.modules)))
"""
    assert printed(script) == "[]"


@pytest.mark.parametrize("wanted", [False, True])
def test_wandb_is_imported_if_it_is_wanted_and_before_pytorch(wanted: bool) -> None:
    script = f"""
import gc, sys
from experiments.importing import importing
with importing(with_wandb={wanted}):
    first = "wandb" in sys.modules, "torch" in sys.modules, gc.isenabled()
    import experiments.run
print(*first, "wandb" in sys.modules, gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
    assert printed(script) == f"{wanted} False False {wanted} True True"


def test_a_later_import_freezes_nothing() -> None:
    script = """
import gc, torch
from experiments.importing import importing
with importing():
    print(gc.isenabled(), gc.get_freeze_count())
"""
    assert printed(script) == "True 0"
