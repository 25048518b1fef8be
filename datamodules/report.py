"""What is in the data: a report of the manifests, as plain values and as tables on the terminal."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from datamodules.arrow import from_integers, to_numpy
from datamodules.cells import take
from datamodules.errors import InputError
from datamodules.manifest import Manifest, codes_of
from datamodules.splits import ADAPTATION, SIDES
from datamodules.vocabulary import DIMENSIONS, GENDERS

ClassMap = Mapping[str, Sequence[str]]
"""Class names of an experiment, each with the common names of the emotions that belong to it."""

_SHOWN = 5
_GROUPS_SHOWN = 20
_SPEAKERS_SHOWN = 8


def check_classes(classes: ClassMap, manifests: Iterable[Manifest]) -> None:
    """Checks that a class map fits the labelled corpora.

    Raises:
        InputError: If an entry names no emotion of any labelled corpus, an emotion is in two classes, or a class is
            empty.
    """
    owner: dict[str, str] = {}
    for name, entries in classes.items():
        if not entries:
            raise InputError(f"classes.{name} is empty", "give it at least one emotion, or remove it")
        for entry in entries:
            if entry in owner:
                owners = f"{owner[entry]} and {name}" if owner[entry] != name else f"{name}, twice"
                raise InputError(f"classes: '{entry}' is in {owners}", "each emotion belongs to one class")
            owner[entry] = name
    pairs = {manifest.corpus: _label_pairs(manifest) for manifest in manifests if manifest.labelled}
    there = {emotion for found in pairs.values() for _, emotion in found if emotion}
    unknown = [entry for entry in owner if entry not in there]
    if unknown:
        lists = "; ".join(
            f"{corpus}: " + ", ".join(sorted({_both(label, emotion) for label, emotion in found if emotion}))
            for corpus, found in pairs.items()
        )
        words = ", ".join(f"'{entry}' (in class '{owner[entry]}')" for entry in unknown)
        raise InputError(f"classes: {words} is no emotion of any labelled corpus", f"there are: {lists or 'none'}")


def _both(label: str | None, emotion: str) -> str:
    return emotion if label in (None, emotion) else f"{emotion} (as {label})"


def _label_pairs(manifest: Manifest) -> dict[tuple[str | None, str | None], int]:
    """How many rows have each pair of own label and common emotion, of those that occur."""
    if manifest.missing("label") and manifest.missing("emotion"):
        return {}
    # None comes first: the code of null is -1.
    labels, emotions = ([None, *manifest.words(name)] for name in ("label", "emotion"))
    counts = Counter[int]()
    for _, batch in manifest.scan(["label", "emotion"]):
        label, emotion = (codes_of(column).astype(np.int64) + 1 for column in batch.columns)
        _count(label * len(emotions) + emotion, counts)
    pairs = {divmod(pair, len(emotions)): rows for pair, rows in sorted(counts.items())}
    return {(labels[label], emotions[emotion]): rows for (label, emotion), rows in pairs.items()}


def _count(values: NDArray[Any], counts: Counter[int]) -> None:
    distinct, often = np.unique(values, return_counts=True)
    counts.update(dict(zip(distinct.tolist(), often.tolist(), strict=True)))


def data_report(
    manifests: Sequence[Manifest], classes: ClassMap | None = None, agreeing_raters: int = 0
) -> dict[str, Any]:
    """Describes corpora in values that JSON can hold.

    Args:
        manifests: The corpora.
        classes: The experiment's class map, if it has one.
        agreeing_raters: How many raters must have named an utterance's emotion.

    Returns:
        `corpora`: for each its facts and `hours`, `speech_hours` (without leading and trailing silence), `utterances`,
        `speakers` by gender, `labels` (own label, common emotion, class and utterances of each), `classes` (utterances
        of each), `left_out` (utterances with a label that the map leaves out, by own label), `disputed` (utterances
        whose emotion fewer raters named than must agree), `voted` (utterances with raters' votes), `dimensions`
        (utterances, mean, deviation and range on [0, 1], the `original` ones, the declared `scale`) and `faults` (how
        many, their share, by kind with the first paths).
        `duplicates`: groups of utterances with exactly the same content, over all corpora whose content is hashed;
        `utterances` is how many could go, `across_speakers` and `across_labels` count the groups that contradict
        themselves; the first groups are listed, those before others.
        `classes`: the map.
    """
    return {
        "corpora": {manifest.corpus: _corpus(manifest, classes, agreeing_raters) for manifest in manifests},
        "duplicates": _duplicates(manifests),
        "classes": {name: list(entries) for name, entries in classes.items()} if classes else None,
    }


def _corpus(manifest: Manifest, classes: ClassMap | None, agreeing_raters: int) -> dict[str, Any]:
    return {
        "reader": manifest.facts["reader"],
        "options": manifest.facts["options"],
        "licence": manifest.facts["licence"],
        "language": manifest.facts["language"],
        "labelled": manifest.labelled,
        "synthetic": manifest.synthetic,
        "root": str(manifest.root),
        "manifest": manifest.sha256,
        "utterances": len(manifest),
        **_times(manifest),
        "speakers": _speakers(manifest),
        "dimensions": {name: found for name in DIMENSIONS if (found := _dimension(manifest, name))},
        "faults": _faults(manifest),
        **_classes(manifest, classes, agreeing_raters),
    }


def _times(manifest: Manifest) -> dict[str, Any]:
    seconds, speech, shortest, longest = 0.0, 0.0, np.inf, 0.0
    rates = Counter[int]()
    for _, batch in manifest.scan(["duration", "speech_start", "speech_end", "sample_rate"]):
        duration, start, end, rate = (to_numpy(column) for column in batch.columns)
        seconds += float(duration.sum())
        speech += float((end - start).sum())
        shortest, longest = min(shortest, float(duration.min())), max(longest, float(duration.max()))
        _count(rate, rates)
    return {
        "hours": seconds / 3600,
        "speech_hours": speech / 3600,
        "seconds": {"shortest": shortest, "longest": longest} if len(manifest) else None,
        "sample_rates": {str(rate): rates[rate] for rate in sorted(rates)},
    }


def _speakers(manifest: Manifest) -> dict[str, int]:
    words = manifest.words("gender")
    # Which pairs of speaker and gender occur; the last of both is null.
    there = np.zeros((len(manifest.words("speaker")) + 1, len(words) + 1), bool)
    without = 0
    for _, batch in manifest.scan(["speaker", "gender"]):
        speaker, gender = (codes_of(column) for column in batch.columns)
        there[speaker, gender] = True
        without += int((speaker < 0).sum())
    known = there[:-1]
    report = {word: int(known[:, words.index(word)].sum()) if word in words else 0 for word in GENDERS}
    report["unknown"] = int(known[:, -1].sum())
    return report | {"total": int(known.any(axis=1).sum()), "utterances_without": without}


def _classes(manifest: Manifest, classes: ClassMap | None, agreeing_raters: int) -> dict[str, Any]:
    owner = {emotion: name for name, emotions in (classes or {}).items() for emotion in emotions}
    counts = Counter[str]()
    labels: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    for (label, emotion), rows in _label_pairs(manifest).items():
        if emotion is None and label is None:
            continue
        name = owner.get(emotion) if emotion else None
        labels.append({"label": label, "emotion": emotion, "class": name, "utterances": rows})
        if name:
            counts[name] += rows
        elif classes:
            word = label or emotion or ""
            left_out[word] = left_out.get(word, 0) + rows
    labels.sort(key=lambda one: (-one["utterances"], one["label"] or ""))
    report: dict[str, Any] = {
        "labels": labels,
        "without_label": len(manifest) - sum(one["utterances"] for one in labels),
        "voted": len(manifest) - manifest.cells.nulls["votes"],
    }
    if classes:
        agreed = counts
        if agreeing_raters and counts:
            codes = manifest.class_codes(classes, agreeing_raters)
            agreed = Counter(dict(zip(classes, np.bincount(codes[codes >= 0], minlength=len(classes)), strict=True)))
        report["classes"] = {name: int(agreed[name]) for name in classes}
        report["left_out"] = left_out
        report["disputed"] = int(counts.total() - agreed.total())
    return report


def _dimension(manifest: Manifest, name: str) -> dict[str, Any] | None:
    if manifest.missing(name):
        return None
    unit = manifest.column(name).astype(np.float64)
    original = manifest.column(f"{name}_original").astype(np.float64)
    unit, original = unit[~np.isnan(unit)], original[~np.isnan(original)]
    scale = manifest.scale(name)
    return {
        "utterances": len(unit),
        **_moments(unit),
        "original": _moments(original),
        "scale": {"low": scale.low, "high": scale.high, "reversed": scale.reversed},
    }


def _moments(values: NDArray[np.float64]) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "lowest": float(values.min()),
        "highest": float(values.max()),
    }


def _faults(manifest: Manifest) -> dict[str, Any]:
    kinds: dict[str, list[dict[str, str]]] = defaultdict(list)
    for fault in manifest.faults:
        kinds[fault.kind].append({"path": fault.path, "reason": fault.reason})
    total = len(manifest) + len(manifest.faults)
    return {
        "count": len(manifest.faults),
        "fraction": len(manifest.faults) / total if total else 0.0,
        "kinds": {
            kind: {"count": len(faults), "first": faults[:_SHOWN]}
            for kind, faults in sorted(kinds.items(), key=lambda item: -len(item[1]))
        },
    }


def _duplicates(manifests: Sequence[Manifest]) -> dict[str, Any]:
    hashed = [manifest for manifest in manifests if not manifest.missing("content_hash")]
    hashes = pa.chunked_array([chunk for m in hashed for chunk in m.arrow("content_hash").chunks], pa.string())
    counts = pc.value_counts(hashes.drop_null())
    repeated = counts.field("values").take(from_integers(np.flatnonzero(to_numpy(counts.field("counts")) > 1)))
    del hashes, counts
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for manifest in hashed if len(repeated) else ():
        for rows, batch in manifest.scan(["content_hash"]):
            places = to_numpy(pc.indices_nonzero(pc.is_in(batch.column(0), repeated)))
            for row in take(rows, places.astype(np.int64)).tolist():
                utterance = manifest.row(row)
                groups[utterance["content_hash"]].append(
                    {name: utterance[name] for name in ("corpus", "path", "start", "speaker", "label")}
                )
    listed: list[dict[str, Any]] = [
        {
            "utterances": utterances,
            "across_speakers": len({one["speaker"] for one in utterances} - {None}) > 1,
            "across_labels": len({one["label"] for one in utterances} - {None}) > 1,
        }
        for utterances in groups.values()
    ]
    listed.sort(key=lambda group: -(group["across_speakers"] + group["across_labels"]))
    return {
        "groups": len(listed),
        "utterances": sum(len(group["utterances"]) - 1 for group in listed),
        "across_speakers": sum(group["across_speakers"] for group in listed),
        "across_labels": sum(group["across_labels"] for group in listed),
        "first": listed[:_GROUPS_SHOWN],
    }


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Prints a data report as tables; with a ``split`` (see ``Split.report``), the sides too."""
    corpora: Mapping[str, Any] = report["corpora"]
    table = _table("Corpora", "corpus", "hours", "speech", "utterances", "speakers", "f", "m", "?", "faults", "licence")
    for name, corpus in corpora.items():
        speakers = corpus["speakers"]
        _row(
            table,
            f"{name} (synthetic)" if corpus["synthetic"] else name,
            f"{corpus['hours']:.2f}",
            f"{corpus['speech_hours']:.2f}",
            corpus["utterances"],
            *(speakers[key] for key in ("total", "female", "male", "unknown")),
            corpus["faults"]["count"],
            corpus["licence"],
        )
    options = [f"{name}: {_options(corpus['options'])}" for name, corpus in corpora.items() if corpus["options"]]
    table.caption = Text("\n".join(options))
    console.print(table)

    table = _table("Emotions", "corpus", "own label", "emotion", "class", "utterances", numbers=(4,))
    for name, corpus in corpora.items():
        for one in corpus["labels"]:
            left_out = "left out" if report["classes"] else "-"
            _row(table, name, one["label"], one["emotion"], one["class"] or left_out, one["utterances"])
        if corpus["labels"] and corpus["without_label"]:
            _row(table, name, None, None, "no emotion", corpus["without_label"])
    _print(table, console)

    table = _table("Classes", "corpus", *(report["classes"] or ()), "all", "left out", "disputed")
    for name, corpus in corpora.items():
        if report["classes"] and corpus["labels"]:
            counts, left_out = corpus["classes"].values(), sum(corpus["left_out"].values())
            _row(table, name, *counts, sum(counts), left_out, corpus["disputed"])
    _print(table, console)

    columns = ("corpus", "dimension", "utterances", "mean", "deviation", "range", "own scale", "own mean")
    table = _table("Dimensions, from 0 to 1", *columns, numbers=(2, 3, 4, 7))
    for name, corpus in corpora.items():
        for dimension, one in corpus["dimensions"].items():
            scale = one["scale"]
            _row(
                table,
                name,
                dimension,
                one["utterances"],
                f"{one['mean']:.3f}",
                f"{one['deviation']:.3f}",
                f"{one['lowest']:.2f} to {one['highest']:.2f}",
                f"{scale['low']:g} to {scale['high']:g}" + (", reversed" if scale["reversed"] else ""),
                f"{one['original']['mean']:.3f}",
            )
    _print(table, console)

    table = _table("Left out because of faults", "corpus", "kind", "utterances", "for example", numbers=(2,))
    for name, corpus in corpora.items():
        for kind, one in corpus["faults"]["kinds"].items():
            example = one["first"][0]
            _row(table, name, kind, one["count"], f"{example['path']} ({example['reason']})")
    _print(table, console)

    table = _table("Excluded speakers", "corpus", "speakers", "utterances")
    for name, one in report.get("excluded_speakers", {}).items():
        _row(table, name, len(one["speakers"]), one["utterances"])
    _print(table, console)

    if split := report.get("split"):
        table = _table("Sides, which share no speaker", "side", "utterances", "f", "m", "speakers", numbers=(1, 2, 3))
        for side in (*SIDES, *([ADAPTATION] if ADAPTATION in split else [])):
            one = split[side]
            shown = [*one["speakers"][:_SPEAKERS_SHOWN], *(["…"] if len(one["speakers"]) > _SPEAKERS_SHOWN else [])]
            lost = one.get("lost_labels", 0)
            utterances = f"{one['utterances']} and {lost} without label" if lost else one["utterances"]
            _row(table, side, utterances, one["female"], one["male"], ", ".join(shown))
        table.caption = f"{split['protocol']}, fold {split['fold']} of {split['folds']}"
        _print(table, console)

    table = _table("Auxiliary speech, to train on", "corpus", "role", "utterances", "in each batch", numbers=(2, 3))
    for one in report.get("auxiliary", ()):
        _row(table, *(one[key] for key in ("corpus", "role", "utterances", "quota")))
    _print(table, console)

    table = _table("Speech that is decoded once, into the cache", "corpus", "GB")
    for name, size in report.get("decoded", {}).items():
        _row(table, name, f"{size:.2f}")
    _print(table, console)

    table = _table("Exact duplicates (kept)", "utterances", "speakers", "labels", "paths", numbers=(0,))
    for group in report["duplicates"]["first"]:
        _row(
            table,
            len(group["utterances"]),
            "two or more!" if group["across_speakers"] else "one",
            "two or more!" if group["across_labels"] else "one",
            "\n".join(f"{one['corpus']}: {one['path']}" for one in group["utterances"][:_SHOWN]),
        )
    hidden = report["duplicates"]["groups"] - len(report["duplicates"]["first"])
    if hidden:
        table.caption = f"and {hidden} more groups"
    _print(table, console)


def _options(options: Mapping[str, Any]) -> str:
    shown = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in options.items()}
    return "; ".join(f"{name} = {value}" for name, value in shown.items())


def _table(title: str, *columns: str, numbers: Sequence[int] | None = None) -> Table:
    """A table with numbers to the right: in the given columns, or in all but the first."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        right = index in numbers if numbers is not None else index > 0 and column != "licence"
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _row(table: Table, *cells: object) -> None:
    # As Text, since paths and labels of the user's may hold what rich takes for markup.
    table.add_row(*(Text("-" if cell is None else str(cell)) for cell in cells))


def _print(table: Table, console: Console) -> None:
    if table.row_count:
        console.print(table)
