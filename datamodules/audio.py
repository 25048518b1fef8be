"""The one place that imports torchaudio: `from datamodules.audio import torchaudio`.

torchaudio's transforms are plain PyTorch, but importing the package loads a native extension that was built for one
CUDA version. Beside a CPU torch the loader misses that CUDA's libraries (`OSError`); beside a torch for another CUDA
version torchaudio refuses to start (`RuntimeError`). The extension is not needed here, so in these two cases the
package is imported once more with a stand-in for it that says "not available", a state in which
torchaudio works.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

__all__ = ["torchaudio"]

_PACKAGE = "torchaudio"
_EXTENSION = "torchaudio._extension"


def _import_torchaudio() -> ModuleType:
    """Import torchaudio, without its native extension where that does not fit the installed torch.

    Returns:
        The module `torchaudio`.

    Raises:
        ModuleNotFoundError: torchaudio is not installed.
        Exception: Whatever else its import raises for a reason other than the native extension.
    """
    try:
        return importlib.import_module(_PACKAGE)
    except (OSError, RuntimeError) as error:
        if not _raised_by_extension(error):
            raise
        _forget_half_imported()
        sys.modules[_EXTENSION] = _extension_stand_in(error)
        return importlib.import_module(_PACKAGE)


def _raised_by_extension(error: BaseException) -> bool:
    """Whether `error` passed through torchaudio's extension package on its way here."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__", "").startswith(_EXTENSION):
            return True
        traceback = traceback.tb_next
    return False


def _forget_half_imported() -> None:
    """Drop what the failed import left behind, so that the second one runs every module from its start."""
    for name in [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]:
        del sys.modules[name]


def _extension_stand_in(reason: Exception) -> ModuleType:
    """A module that answers all that torchaudio asks of its extension package, always with "not available"."""

    def fail_if_no_align(function: Callable[..., object]) -> Callable[..., NoReturn]:
        @functools.wraps(function)
        def unavailable(*_args: object, **_kwargs: object) -> NoReturn:
            raise RuntimeError(f"{function.__name__} needs torchaudio's native extension, which did not load: {reason}")

        return unavailable

    module = ModuleType(_EXTENSION, "Stands in for the native extension, which does not fit the installed torch.")
    module.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        _load_lib=lambda _library: False,
        fail_if_no_align=fail_if_no_align,
    )
    return module


if TYPE_CHECKING:
    import torchaudio
else:
    torchaudio = _import_torchaudio()
