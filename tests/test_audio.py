"""torchaudio must import beside a CPU torch, a matching CUDA torch and a torch for another CUDA version."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("lightning_modules", "datamodules", "callbacks", "experiments", "tests")

# What the project uses must work, and agree with formulas written out in torch.
CHECK = """
import math
import torch
from datamodules.audio import torchaudio

rate, size, hop, bands = 16_000, 400, 160, 40
waveform = torch.randn(2, rate, generator=torch.Generator().manual_seed(0))
mel = torchaudio.transforms.MelSpectrogram(rate, n_fft=size, hop_length=hop, n_mels=bands)(waveform)

window = torch.hann_window(size)
power = torch.stft(waveform, size, hop, window=window, return_complex=True).abs().square()
edges = torch.linspace(0.0, 2595.0 * math.log10(1.0 + rate / 2 / 700.0), bands + 2)
hertz = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
bins = torch.linspace(0.0, rate / 2, size // 2 + 1)
rising = (bins - hertz[:-2, None]) / (hertz[1:-1] - hertz[:-2])[:, None]
falling = (hertz[2:, None] - bins) / (hertz[2:] - hertz[1:-1])[:, None]
expected = torch.minimum(rising, falling).clamp(min=0.0) @ power
torch.testing.assert_close(mel, expected, rtol=1e-3, atol=1e-2)

tone = torch.sin(2 * math.pi * 1000 * torch.arange(48_000) / 48_000)
resampled = torchaudio.functional.resample(tone, 48_000, rate)
expected = torch.sin(2 * math.pi * 1000 * torch.arange(rate) / rate)
torch.testing.assert_close(resampled[100:-100], expected[100:-100], rtol=0, atol=1e-2)
"""

STAND_IN_USED = """
import sys
assert not torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE
assert sys.modules["torchaudio"] is torchaudio
assert torchaudio._internal is sys.modules["torchaudio._internal"]  # missing where the first import left it behind
import torchaudio.datasets, torchaudio.compliance.kaldi
try:
    torchaudio.functional.forced_align(None, None)
except RuntimeError as error:
    assert "native extension" in str(error), error
else:
    raise AssertionError("a function without its extension must say so")
"""

NO_LIBRARY = """
import torch
def load_library(path):
    raise OSError(f"Could not load this library: {path}")
torch.ops.load_library = load_library
"""

# The extension loads and reports that it was built for CUDA 12.8; torchaudio itself compares that with torch's version.
LOADED_FOR_CUDA_12_8 = """
import torch
from types import SimpleNamespace
loaded = []
torch.ops.load_library = loaded.append
torch.ops._torchaudio = SimpleNamespace(cuda_version=lambda: 12080, is_align_available=lambda: False)
torch.ops.torchaudio = SimpleNamespace(_lfilter_core_loop=None, _overdrive_core_loop=None)
"""


def run(*parts: str, path: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    """Run the parts as one script in a fresh interpreter, with `path` and then the project searched for modules."""
    search = f"import sys; sys.path[:0] = [{str(path)!r}, {str(PROJECT)!r}]"
    command = [sys.executable, "-c", "\n".join((search, *parts))]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def assert_passes(*parts: str) -> None:
    finished = run(*parts)
    assert finished.returncode == 0, finished.stderr


def test_imports_beside_the_installed_torch() -> None:
    assert_passes(CHECK)


def test_imports_where_the_extension_lacks_its_libraries() -> None:
    assert_passes(NO_LIBRARY, CHECK, STAND_IN_USED)


def test_imports_beside_a_torch_for_another_cuda() -> None:
    assert_passes(LOADED_FOR_CUDA_12_8, "torch.version.cuda = '13.0'", CHECK, STAND_IN_USED)


def test_keeps_the_extension_where_it_fits() -> None:
    assert_passes(
        LOADED_FOR_CUDA_12_8,
        "torch.version.cuda = '12.8'",
        CHECK,
        "assert torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE",
        "assert len(loaded) == 2, loaded",
    )


def test_missing_torchaudio_is_raised_as_it_is() -> None:
    finished = run("sys.modules['torchaudio'] = None", "import datamodules.audio")
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")
    assert "torchaudio" in finished.stderr.splitlines()[-1]


@pytest.mark.parametrize("error", ["RuntimeError", "OSError", "ImportError"])
def test_other_errors_are_raised_as_they_are(tmp_path: Path, error: str) -> None:
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise {error}('broken for a reason of its own')\n")
    finished = run("import datamodules.audio", path=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1] == f"{error}: broken for a reason of its own"
    assert "During handling" not in finished.stderr


def test_only_one_file_imports_torchaudio() -> None:
    importers = set()
    for package in PACKAGES:
        for file in (PROJECT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    names = [node.module]
                if any(name.split(".")[0] == "torchaudio" for name in names):
                    importers.add(file.resolve().relative_to(PROJECT).as_posix())
    assert importers == {"datamodules/audio.py"}
