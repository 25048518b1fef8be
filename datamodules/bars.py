"""Progress bars on the terminal; in a file or a log there is none."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


def bar_of_utterances(wanted: bool = True) -> Progress:
    """Makes a bar of utterances, of which there may be an unknown number; none unless it is wanted."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not (wanted and console.is_terminal),
    )


def bar_of_bytes() -> Progress:
    """Makes a bar of bytes; elsewhere than on a terminal only the lines that are printed above it are seen."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
