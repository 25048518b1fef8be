"""The report of a study: one HTML page, made from its records, that needs neither network nor script."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from experiments.files import check_ours, read_json, replacing
from experiments.study import figures, statistics
from experiments.study.figures import Estimate
from experiments.study.plan import Run, Study, runs
from experiments.study.record import Record
from experiments.study.table import NONE, Table
from experiments.study.tables import (
    Tested,
    along,
    beside_curves,
    commands,
    curve_table,
    dimension_table,
    experiments,
    fold_table,
    main_table,
    provenance,
    provenance_table,
    recall_table,
    tested,
)

REPORT = "report.html"

_NUMERIC = re.compile(r"([-\d.,+−–±<>/()\[\] ]|runs)*")
_LONG = 40
_DRAWN = "Full marker: mean over seeds; rings: the seeds; line: 95 % interval by a bootstrap over test speakers."
_SIDES = ("train", "development", "test")


def write_report(study: Study, records: list[Record], runs_folder: Path, folder: Path) -> Path:
    """Writes the report of a study, finished or not.

    Args:
        study: The study.
        records: Its records.
        runs_folder: Where its runs lie, as ``<experiment>/<name of the run>``. Of those that are still there, codes and
            data reports are shown; all else comes from the records.
        folder: Where to; made if it is not there.

    Returns:
        The page, ``report.html``.

    Raises:
        InputError: Records of a system contradict each other, or the data report of a run is damaged.
        OSError: It cannot be written; ``filename`` is set.
    """
    found = tested(study, records)
    main = {name: main_table(study, found, name) for name in experiments(found) if beside_curves(found, name)}
    along_curves = [
        (name, curve, table)
        for name in experiments(found)
        for curve in study.curves
        if (table := curve_table(study, found, name, curve)) is not None
    ]
    sections = {
        "Systems": [part for name, table in main.items() for part in _systems(study, found, name, table)],
        "Classes and dimensions": [part for name in main for part in _details(study, found, name)],
        "Folds": [
            _table(fold_table(found, name)) for name in main if any(one.records for one in beside_curves(found, name))
        ],
        "Curves": [part for curve in along_curves for part in _curve(study, found, *curve)],
        "Codes and data": [part for name in experiments(found) for part in _main_runs(study, name, runs_folder)],
        "Provenance": list(_provenance(study, found, records)),
        "Commands": [_commands(study)],
    }
    finding = [
        *(line for name, table in main.items() for line in _finding(study, found, name, table)),
        *(line for curve in along_curves for line in _finding_along(study, found, *curve)),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    check_ours(folder / REPORT, '<div class="finding">')
    with replacing(folder / REPORT) as stream:
        stream.write(
            _page(study, found, finding, {title: parts for title, parts in sections.items() if parts}).encode()
        )
    return folder / REPORT


def _page(study: Study, found: Sequence[Tested], finding: Sequence[str], sections: Mapping[str, Sequence[str]]) -> str:
    done, wanted = sum(len(one.records) for one in found), sum(one.wanted for one in found)
    state = f"Study {study.name}: {done} of {wanted} runs are done" + "." * (done == wanted)
    if done < wanted:
        state += "; what is shown is of those, and may change with the others."
    links = "\n".join(f'<a href="#{_slug(title)}">{escape(title)}</a>' for title in sections)
    body = "\n".join(
        "\n".join([f'<section id="{_slug(title)}">', f"<h2>{escape(title)}</h2>", *parts, "</section>"])
        for title, parts in sections.items()
    )
    title = escape(study.title or study.name)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{Path(__file__).with_name("report.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="quiet">{escape(state)}</p>
<div class="finding">
{"".join(f"<p>{line}</p>" for line in finding)}
</div>
<nav aria-label="Sections">
{links}
</nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _finding(study: Study, found: Sequence[Tested], experiment: str, table: Table) -> Iterator[str]:
    """The main system beside the reference, in the numbers of the main table."""
    systems = [one.run.system for one in beside_curves(found, experiment)]
    if not {study.main, study.reference} <= set(systems):
        return
    main, reference = (
        dict(zip(table.header, table.rows[systems.index(one)], strict=True)) for one in (study.main, study.reference)
    )
    measure = table.header[1]
    yield (
        f"{escape(experiment)}, {escape(measure)}: {_in_words(main, measure)}; {_in_words(reference, measure)}; "
        f"{_gain(main)}."
    )


def _in_words(cells: Mapping[str, str], measure: str) -> str:
    label = escape(cells["system"])
    if cells[measure] == NONE:
        return f"{label} has no seed yet whose folds are all done"
    spread = "" if cells["std"] == NONE else f" ± {cells['std']}"
    return f"{label} <strong>{cells[measure]}{spread}</strong>, 95 % interval <span>{cells['95 % interval']}</span>"


def _gain(cells: Mapping[str, str]) -> str:
    if cells["gain"] == NONE:
        return "no gain can be told yet"
    p = re.sub("^(?=[0-9])", "=", cells["p"])
    return f"gain <strong>{cells['gain']}</strong>, <span>p {escape(p[0])} {p[1:]}</span>"


def _finding_along(study: Study, found: Sequence[Tested], experiment: str, curve: str, table: Table) -> Iterator[str]:
    """The main system beside the reference at each point of a curve, in the numbers of the curve's table."""
    systems = list(along(study, found, experiment, curve))
    if not {study.main, study.reference} <= set(systems):
        return
    for row in table.rows:
        main, reference = (
            f"{escape(study.systems[one].label)} <strong>{row[1 + systems.index(one)]}</strong>"
            for one in (study.main, study.reference)
        )
        gain = _gain(dict(zip(table.header[-2:], row[-2:], strict=True)))
        point = f"{_measure(table)} at {table.header[0]} = {row[0]}"
        yield f"{escape(experiment)}, {escape(point)}: {main}; {reference}; {gain}."


def _systems(study: Study, found: Sequence[Tested], experiment: str, table: Table) -> Iterator[str]:
    yield _table(table)
    normalised = {
        one.run.plan.per_speaker: one for one in found if one.run.experiment == experiment and one.run.plan.per_speaker
    }
    systems = [one for one in beside_curves(found, experiment) if one.results]
    if not systems:
        return
    kinds = ["as they are", "per-speaker normalisation"][: 1 + any(one.run.system in normalised for one in systems)]
    rows = [
        (one.run.plan.label, [_estimate(one), _estimate(normalised.get(one.run.system))][: len(kinds)])
        for one in systems
    ]
    reference = next((_estimate(one) for one in systems if one.run.system == study.reference), None)
    measure = f"{table.header[1]}, {experiment}"
    plot = figures.forest(rows, kinds, measure, reference.value if reference else None)
    alt = f"{measure}, of each system with its interval: the numbers of the table {table.title}."
    dashed = f" Dashed: mean of {study.systems[study.reference].label}." if reference else ""
    yield _figure(figures.svg(plot, f"forest-{_slug(experiment)}", alt), _DRAWN + dashed)


def _details(study: Study, found: Sequence[Tested], experiment: str) -> Iterator[str]:
    """Recalls and CCC, and the confusions of the main system beside those of the reference."""
    yield from map(_table, filter(None, (recall_table(found, experiment), dimension_table(found, experiment))))
    of_system = {one.run.system: one for one in beside_curves(found, experiment)}
    pair = [
        _confusion(one)
        for system in (study.main, study.reference)
        if (one := of_system.get(system)) and one.counted and one.counted[0].labels
    ]
    if pair:
        yield f'<div class="pair">{"".join(pair)}</div>'
        yield (
            '<p class="note">Percentages of the true class, and its utterances n, pooled over the test utterances of '
            "all seeds whose folds are all done.</p>"
        )


def _confusion(one: Tested) -> str:
    results = statistics.of_classes(one.counted)
    counts = results.sums.sum(axis=(0, 1))
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.full_like(counts, np.nan), where=support > 0)
    title = f"{one.run.experiment}: {one.run.plan.label}"
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in results.names)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(map(_shade, row))}<td class="number">{n:.0f}</td></tr>'
        for name, row, n in zip(results.names, shares, support.flat, strict=True)
    )
    return _scrolled(
        title,
        f'<table class="confusion"><caption><span>{escape(title)}</span></caption>'
        f'<thead><tr><th scope="col">truth \\ predicted</th>{head}<th scope="col" class="number">n</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>",
    )


def _shade(share: float) -> str:
    if np.isnan(share):
        return f"<td>{NONE}</td>"
    # Not up to the full colour, so that text is read on all shades, light and dark.
    return f'<td style="background-color: rgb(0 114 178 / {0.75 * share:.3f})">{100 * share:.0f}</td>'


def _curve(study: Study, found: Sequence[Tested], experiment: str, curve: str, table: Table) -> Iterator[str]:
    lines = along(study, found, experiment, curve)
    if any(one.results for line in lines.values() for one in line):
        estimates = [(study.systems[system].label, list(map(_estimate, line))) for system, line in lines.items()]
        points = [row[0] for row in table.rows]
        plot = figures.curves(estimates, points, table.header[0], f"{_measure(table)}, {experiment}")
        alt = f"{_measure(table)} along {table.header[0]}: the numbers of the table {table.title}."
        yield _figure(figures.svg(plot, f"curve-{_slug(experiment)}-{_slug(curve)}", alt), _DRAWN)
    yield _table(table)


def _measure(table: Table) -> str:
    """What a curve's table shows, with which its note begins."""
    return table.note.partition(":")[0]


def _estimate(one: Tested | None) -> Estimate | None:
    if one is None or one.results is None:
        return None
    seeds = statistics.by_seed(one.results)
    mean, _ = statistics.mean_and_deviation(seeds)
    return Estimate(mean, *statistics.interval(one.results), tuple(seeds.tolist()))


def _main_runs(study: Study, experiment: str, runs_folder: Path) -> Iterator[str]:
    """What the folders of the main system's runs show that records do not."""
    wanted = [run for run in runs(study) if (run.system, run.experiment) == (study.main, experiment)]
    if not wanted:
        return
    label = study.systems[study.main].label
    yield f"<h3>{escape(experiment)}: {escape(label)}</h3>"
    there = [run for run in wanted if (runs_folder / experiment / run.name).is_dir()]
    if not there:
        yield (
            f"<p>None of the {len(wanted)} run folders is in <code>{escape(str(runs_folder / experiment))}</code>: "
            "codes and data reports cannot be shown. The commands below make them again.</p>"
        )
        return
    yield f"<p>Run folders that are there: {len(there)} of {len(wanted)}.</p>"
    yield from _codes(there, runs_folder / experiment)
    yield from _data(there, runs_folder / experiment)


def _codes(there: Sequence[Run], folder: Path) -> Iterator[str]:
    """Those of one run: each such figure is as large as the rest of the page."""
    path = next((path for run in there if (path := folder / run.name / "figures/latent_codes.png").exists()), None)
    if path is None:
        yield "<p>No run folder has a figure of latent codes.</p>"
        return
    run = path.parts[-3]
    image = base64.b64encode(path.read_bytes()).decode("ascii")
    alt = f"Latent codes of the run {run} on two principal components, coloured by emotion, speaker and corpus."
    yield _figure(
        f'<div class="paper"><img alt="{escape(alt)}" src="data:image/png;base64,{image}"></div>',
        f"Latent codes of development and test utterances, {run}; those of the other runs are in their folders.",
    )


def _data(there: Sequence[Run], folder: Path) -> Iterator[str]:
    """The corpora, as the first run found them, and the sides of the split, of the first run of each fold."""
    reports: dict[int, tuple[Run, dict[str, Any]]] = {}
    for run in there:
        path = folder / run.name / "data_report.json"
        if run.fold not in reports and path.exists():
            reports[run.fold] = run, read_json(path)
    if not reports:
        yield "<p>No run folder has a data report.</p>"
        return
    _, first = next(iter(reports.values()))
    experiment = there[0].experiment
    yield _table(
        Table(
            f"{experiment}: corpora",
            ["corpus", "utterances", "hours", "of speech", "speakers", "female", "male", "faults", "licence"],
            [_corpus(name, corpus) for name, corpus in first["corpora"].items()],
            "Faults: recordings that were left out, because they cannot be read, are silent or hold no numbers.",
        )
    )
    yield _table(
        Table(
            f"{experiment}: sides of the split",
            ["run", *(f"{side} {what}" for side in _SIDES for what in ("utterances", "speakers"))],
            [
                [run.name, *(cell for side in _SIDES for cell in _side(report["split"][side]))]
                for run, report in reports.values()
            ],
            "Labelled utterances; one run of each fold.",
        )
    )


def _corpus(name: str, corpus: Mapping[str, Any]) -> list[str]:
    speakers = corpus["speakers"]
    return [
        name,
        f"{corpus['utterances']:,}",
        f"{corpus['hours']:.2f}",
        f"{corpus['speech_hours']:.2f}",
        *(str(speakers[which]) for which in ("total", "female", "male")),
        str(corpus["faults"]["count"]),
        corpus["licence"],
    ]


def _side(side: Mapping[str, Any]) -> list[str]:
    return [f"{side['utterances']:,}", str(len(side["speakers"]))]


def _provenance(study: Study, found: Sequence[Tested], records: Sequence[Record]) -> Iterator[str]:
    outdated = [study.systems[system].label for system, one in provenance(found).items() if one.outdated]
    if outdated:
        yield (
            f'<p class="flag">Outdated: runs of {escape(", ".join(outdated))} were made with other settings than the '
            "study asks for now.</p>"
        )
    left = len(records) - sum(len(one.records) for one in found)
    if left:
        yield f"<p>Records of runs that the study does not ask for, which are left out: {left}.</p>"
    yield _table(provenance_table(study, found))


def _commands(study: Study) -> str:
    lines = "\n\n".join(f"# {what}\n{line}" for what, line in commands(study))
    return (
        "<p>In the project's folder; corpora lie in <code>SER_AAE_DATA</code>, or where <code>data.root=…</code> in "
        f'<code>ARGS</code> says.</p>\n<pre tabindex="0"><code>{escape(lines)}</code></pre>'
    )


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.header)
    numeric = [index > 0 and all(map(_NUMERIC.fullmatch, column)) for index, column in enumerate(columns)]
    head = "".join(
        f'<th scope="col"{_class("number" * right)}>{escape(name)}</th>'
        for name, right in zip(table.header, numeric, strict=True)
    )
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(_cell(text, right) for text, right in zip(cells, numeric[1:], strict=True))
        + "</tr>"
        for first, *cells in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        _scrolled(
            table.title,
            f"<table><caption><span>{escape(table.title)}</span></caption>\n<thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}\n</tbody></table>",
        )
        + note
    )


def _cell(text: str, right: bool) -> str:
    return f"<td{_class('number' if right else 'prose' * (len(text) > _LONG))}>{escape(text)}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _scrolled(title: str, content: str) -> str:
    """A wide table scrolls by itself, by keys too, and not the page."""
    return f'<div class="scroll" role="region" aria-label="{escape(title)}" tabindex="0">{content}</div>'


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
