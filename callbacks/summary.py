"""What a run found, on one screen."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

SPLITS = {"dev": "development", "test": "test"}


def print_summary(results: Mapping[str, Any], report: Mapping[str, Any] | None, console: Console | None = None) -> None:
    """Print the data and the results of a run as tables.

    Args:
        results: As in results.json.
        report: As in data_report.json: ``corpora`` (each with ``hours``, ``utterances`` and ``speakers``, the latter by
            gender and in ``total``) and ``split`` (``train``, ``development`` and ``test``, each with ``utterances``
            and the names of the ``speakers``); without it only the results are printed.
        console: Where to print; standard output if it is left out.
    """
    console = console or Console()
    if report is not None:
        console.print(_data(report))
    # Not all that is compared with trainings goes by epochs.
    best = "" if results["best_epoch"] is None else f"best epoch {results['best_epoch']}, "
    console.print(
        f"{results['experiment']}, fold {results['fold']}, seed {results['seed']}: {best}"
        f"{results['parameters']:,} parameters, {results['train_seconds']:.0f} s of training",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_scores(results))
    if results["synthetic"]:
        console.print("SYNTHETIC speech: these scores say nothing about real emotion.", style="bold yellow")


def _data(report: Mapping[str, Any]) -> Table:
    table = _table("hours", "utterances", "speakers")
    for name, corpus in report["corpora"].items():
        table.add_row(name, f"{corpus['hours']:.2f}", str(corpus["utterances"]), str(corpus["speakers"]["total"]))
    table.add_section()
    for side in ("train", "development", "test"):
        of_side = report["split"][side]
        table.add_row(f"labelled, {side}", "", str(of_side["utterances"]), str(len(of_side["speakers"])))
    return table


def _scores(results: Mapping[str, Any]) -> Table:
    splits = [split for split in SPLITS if split in results]
    table = _table(*(SPLITS[split] for split in splits))

    def row(label: str, *path: str) -> None:
        values = [_dig(results[split], *path) for split in splits]
        if any(value is not None for value in values):
            table.add_row(label, *("–" if value is None else f"{value:.3f}" for value in values))

    row("UAR", "uar")
    row("accuracy", "accuracy")
    for group, label in (("recall", "recall"), ("ccc", "CCC")):
        names = dict.fromkeys(name for split in splits for name in results[split].get(group, {}))
        if names:
            table.add_section()
        for name in names:
            row(f"{label}, {name}", group, name)
    corpora = dict.fromkeys(name for split in splits for name in results[split].get("corpora", {}))
    for corpus in corpora:
        table.add_section()
        if len(corpora) > 1:
            row(f"UAR, {corpus}", "corpora", corpus, "uar")
        units = {name: unit for split in splits for name, unit in _own_units(results[split], corpus).items()}
        for name, unit in units.items():
            scale = f"{corpus}: {unit['low']:g} to {unit['high']:g}"
            for score, label in (("ccc", "CCC"), ("rmse", "RMSE")):
                row(f"{label}, {name} ({scale})", "corpora", corpus, "own_units", name, score)
    return table


def _own_units(scores: Mapping[str, Any], corpus: str) -> Mapping[str, Any]:
    units: Mapping[str, Any] = scores.get("corpora", {}).get(corpus, {}).get("own_units", {})
    return units


def _table(*columns: str) -> Table:
    table = Table("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _dig(scores: Mapping[str, Any], *path: str) -> float | None:
    """Return a score of a nested dict, None where it is not there."""
    value: Any = scores
    for key in path:
        value = value.get(key, {})
    return value if isinstance(value, float) else None
