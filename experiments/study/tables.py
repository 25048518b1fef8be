"""Tables of a study, made from its records alone."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.files import check_ours, replacing
from experiments.study import statistics
from experiments.study.plan import ON_ONE_THREAD, CurvePlan, Run, Study, SystemPlan, points, runs
from experiments.study.record import Record
from experiments.study.statistics import Results
from experiments.study.table import NONE, PACKAGES, Table, latex, markdown

MARKS = {"tables.md": "\n## commands\n", "tables.tex": "    \\bottomrule\n"}
"""The files of tables, each with what it always holds."""

_MEASURES = {statistics.uar: "UAR", statistics.mean_concordance: "mean CCC"}

_TESTED = (
    "A seed's score is pooled over the test utterances of all its folds; only seeds whose folds are all done count. "
    "Gains are tested by swapping the systems' results speaker by speaker, two-sided"
)


@dataclass(frozen=True)
class Tested:
    """What has been run of a system on an experiment, at one point of a curve or beside all curves.

    Attributes:
        run: The first of the runs that the study asks for.
        wanted: How many it asks for.
        records: Those that are done.
        counted: Those of the seeds whose folds are all done.
    """

    run: Run
    wanted: int
    records: list[Record]
    counted: list[Record]

    @cached_property
    def results(self) -> Results | None:
        """Test results, of classes where there are any and else of dimensions; none before a seed is complete."""
        if not self.counted:
            return None
        make = statistics.of_classes if self.counted[0].labels else statistics.of_dimensions
        return make(self.counted)

    @cached_property
    def outdated(self) -> bool:
        """Whether a run was made with other settings than the study asks for now."""
        return bool(self.records) and {one.settings for one in self.records} != {self.run.settings_hash()}


@dataclass(frozen=True)
class Comparison:
    """A system beside another one.

    Attributes:
        gain: Difference of the mean scores.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Of the permutation test, corrected by Holm for all comparisons of its table.
    """

    gain: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Provenance:
    """Where the records of a system come from.

    Attributes:
        settings: Hashes of the settings.
        commits: Of the code.
        devices: That trained.
        hours: Of training.
        outdated: Whether a run was made with other settings than the study asks for now.
    """

    settings: list[str]
    commits: list[str]
    devices: list[str]
    hours: float
    outdated: bool


def tested(study: Study, records: Sequence[Record]) -> list[Tested]:
    """What has been run of each system on each experiment and at each point, in the order of the study.

    Args:
        study: The study.
        records: Its records; those of runs that it does not ask for are left out.
    """
    done = {record.key: record for record in records}
    wanted: dict[tuple[str, str, str], dict[tuple[int, int], Run]] = {}
    for run in runs(study):
        wanted.setdefault(run.key[:3], {})[run.fold, run.seed] = run
    return [_tested(list(group.values()), done) for group in wanted.values()]


def _tested(wanted: list[Run], done: dict[tuple[str, str, str, int, int], Record]) -> Tested:
    missing = {run.seed for run in wanted if run.key not in done}
    records = [done[run.key] for run in wanted if run.key in done]
    return Tested(wanted[0], len(wanted), records, [record for record in records if record.seed not in missing])


def compare(pairs: Sequence[tuple[Results | None, Results | None]]) -> list[Comparison | None]:
    """Compares systems, as one family of tests.

    Args:
        pairs: A system and the one that it is compared with; either may be missing.

    Returns:
        Of each pair; none where one is missing, or was tested on other speakers than the other.
    """
    known = [(one, other) if one and other and statistics.comparable(one, other) else None for one, other in pairs]
    ps = iter(statistics.holm([statistics.permutation_p(*pair) for pair in known if pair]))
    return [
        Comparison(_mean(pair[0]) - _mean(pair[1]), *statistics.gain_interval(*pair), next(ps)) if pair else None
        for pair in known
    ]


def beside_curves(found: Sequence[Tested], experiment: str) -> list[Tested]:
    """The systems on an experiment that have rows of their own: not on a curve, not normalised speaker by speaker."""
    return [
        one for one in found if one.run.experiment == experiment and not one.run.point and not one.run.plan.per_speaker
    ]


def experiments(found: Sequence[Tested]) -> list[str]:
    """Names of the experiments that were asked for."""
    return list(dict.fromkeys(one.run.experiment for one in found))


def main_table(study: Study, found: Sequence[Tested], experiment: str) -> Table:
    """All systems on an experiment beside the reference, a row each.

    Args:
        study: The study.
        found: As ``tested`` gives it.
        experiment: Name of the experiment.
    """
    systems = beside_curves(found, experiment)
    normalised = {
        one.run.plan.per_speaker: [_score(one.results)]
        for one in found
        if one.run.experiment == experiment and one.run.plan.per_speaker
    }
    reference = next((one.results for one in systems if one.run.system == study.reference), None)
    comparisons = compare([(one.results, None if one.results is reference else reference) for one in systems])
    rows = [
        [
            _label(one),
            *_scored(one.results),
            *_compared(comparison),
            *(normalised.get(one.run.system, [NONE]) if normalised else []),
            *_effort(one),
        ]
        for one, comparison in zip(systems, comparisons, strict=True)
    ]
    scores = [_measure(systems), "std", "95 % interval", "gain", "p", *["per-speaker normalisation"] * bool(normalised)]
    note = (
        f"{_TESTED}; gain over {study.systems[study.reference].label}, p corrected by Holm for the gains of the table. "
        "Mean and standard deviation over seeds, 95 % intervals by a bootstrap over test speakers."
    )
    if normalised:
        note += " Per-speaker normalisation: the score where features are normalised by all speech of the test speaker."
    header = ["system", *scores, "parameters", "runs", "seconds per run"]
    return Table(f"{experiment}: systems", header, rows, f"{note} Seconds: median of the trainings.")


def recall_table(found: Sequence[Tested], experiment: str) -> Table | None:
    """Recall of each class, a row each system; none without classes."""
    systems = [one for one in beside_curves(found, experiment) if one.counted and one.counted[0].labels]
    if not systems:
        return None
    rows = [[_label(one), *_each(statistics.of_classes(one.counted), statistics.recalls)] for one in systems]
    note = "Pooled over the test utterances of a seed's folds; mean over seeds."
    return Table(f"{experiment}: recall by class", ["system", *systems[0].counted[0].labels], rows, note)


def dimension_table(found: Sequence[Tested], experiment: str) -> Table | None:
    """CCC of each dimension, a row each system; none without dimensions."""
    results = [
        (one, statistics.of_dimensions(one.counted))
        for one in beside_curves(found, experiment)
        if one.counted and one.counted[0].moments_by_speaker
    ]
    if not results:
        return None
    rows = [[_label(one), *_each(each, statistics.concordance)] for one, each in results]
    note = "Concordance correlation coefficient, pooled over the test utterances of a seed's folds; mean over seeds."
    return Table(f"{experiment}: CCC by dimension", ["system", *results[0][1].names], rows, note)


def fold_table(found: Sequence[Tested], experiment: str) -> Table:
    """Test and development score of each fold that has runs, a row each system."""
    systems = beside_curves(found, experiment)
    folds = sorted({record.fold for one in systems for record in one.records})
    rows = [[_label(one), *(_fold(one, fold) for fold in folds)] for one in systems]
    note = f"{_measure(systems)} on test speakers, and in brackets on development speakers; mean over the seeds done."
    return Table(f"{experiment}: folds", ["system", *(f"fold {fold}" for fold in folds)], rows, note)


def curve_table(study: Study, found: Sequence[Tested], experiment: str, name: str) -> Table | None:
    """A curve, a row each point; none where no system is run along it on the experiment.

    Args:
        study: The study.
        found: As ``tested`` gives it.
        experiment: Name of the experiment.
        name: Of the curve.
    """
    curve = study.curves[name]
    lines = along(study, found, experiment, name)
    if not lines:
        return None
    header = [curve.label or name, *(study.systems[system].label for system in lines)]
    rows = [
        [_quantity(curve, number), *(_with_deviation(line[number]) for line in lines.values())]
        for number in range(len(curve.points))
    ]
    measure = _measure([one for line in lines.values() for one in line])
    note = f"{measure}: mean ± standard deviation over seeds (their number)."
    if {study.main, study.reference} <= lines.keys():
        both = zip(lines[study.main], lines[study.reference], strict=True)
        comparisons = compare([(one.results, other.results) for one, other in both])
        header += ["gain", "p"]
        rows = [[*row, *_compared(comparison)] for row, comparison in zip(rows, comparisons, strict=True)]
        main, reference = (study.systems[system].label for system in (study.main, study.reference))
        note += (
            f" {_TESTED}; gain of {main} over {reference} with its 95 % interval, p corrected by Holm for all points."
        )
    return Table(f"{experiment}: {curve.label or name}", header, rows, note)


def along(study: Study, found: Sequence[Tested], experiment: str, name: str) -> dict[str, list[Tested]]:
    """Points of a curve, in its order, by system."""
    at = {(one.run.system, one.run.key[2]): one for one in found if one.run.experiment == experiment}
    lines = {}
    for system, plan in study.systems.items():
        if name in plan.curves and experiment in (plan.experiments or study.experiments):
            keys = [Run(study.name, experiment, system, point, 0, 0, plan).key for point in study.curves[name].points]
            lines[system] = [at[system, key[2]] for key in keys]
    return lines


def provenance(found: Sequence[Tested]) -> dict[str, Provenance]:
    """Where the records come from, by the name of the system; only of systems with runs."""
    groups: dict[str, list[Tested]] = {}
    for one in found:
        if one.records:
            groups.setdefault(one.run.system, []).append(one)
    return {system: _provenance(group) for system, group in groups.items()}


def _provenance(group: list[Tested]) -> Provenance:
    records = [record for one in group for record in one.records]
    return Provenance(
        settings=sorted({record.settings for record in records}),
        commits=sorted({record.commit for record in records}),
        devices=sorted({record.device for record in records}),
        hours=sum(record.train_seconds for record in records) / 3600,
        outdated=any(one.outdated for one in group),
    )


def provenance_table(study: Study, found: Sequence[Tested]) -> Table:
    """Where the records come from, a row each system."""
    known = provenance(found)
    rows = [
        [
            _name(study.systems[system]) + " (outdated)" * one.outdated,
            ", ".join(one.settings),
            ", ".join(re.sub(r"^(.{10})[^+]*", r"\1", commit) or "unknown" for commit in one.commits),
            ", ".join(one.devices),
            f"{one.hours:.2f}",
        ]
        for system, one in known.items()
    ]
    total = ["all", "", "", "", f"{sum(one.hours for one in known.values()):.2f}"]
    note = (
        "Settings: hashes of all that have an effect, fold and seed apart. A commit with + had files that differed "
        "from it. Devices: with a CPU's instructions and the precision, on which figures depend, where they are known. "
        "Outdated: a run was made with other settings than the study asks for now."
    )
    return Table("provenance", ["system", "settings", "commits", "devices", "hours"], [*rows, total], note)


def tables(study: Study, records: Sequence[Record]) -> list[Table]:
    """All tables of a study.

    Raises:
        InputError: Records of a system contradict each other.
    """
    found = tested(study, records)
    return [*filter(None, _of_experiments(study, found)), provenance_table(study, found)]


def _of_experiments(study: Study, found: list[Tested]) -> Iterator[Table | None]:
    for experiment in experiments(found):
        systems = beside_curves(found, experiment)
        if systems:
            yield main_table(study, found, experiment)
        if any(one.records for one in systems):
            yield recall_table(found, experiment)
            yield dimension_table(found, experiment)
            yield fold_table(found, experiment)
        for curve in study.curves:
            yield curve_table(study, found, experiment, curve)


def commands(study: Study) -> list[tuple[str, str]]:
    """What to call: the whole study first, and then a run of each system that is trained; ``<…>`` is to be filled in.

    Returns:
        What is run, and the line for the shell. Systems on openSMILE's features are run by the whole study only.
    """
    lines = [("all that is missing", f"make study STUDY={shlex.quote(study.name)}")]
    for system, plan in study.systems.items():
        for experiment in (plan.experiments or study.experiments) if not plan.features else []:
            for curve, number, point in points(study, plan):
                what = [plan.label, experiment, *([f"{curve.label} {_quantity(curve, number)}"] if curve else [])]
                run = Run(study.name, experiment, system, point, 0, 0, plan)
                lines.append((", ".join(what), f'make train EXP={shlex.quote(experiment)} ARGS="{_arguments(run)}"'))
    return lines


def _arguments(run: Run) -> str:
    *settings, _, _ = run.settings
    if run.plan.teachers:
        settings.append(f"trainer.teachers=[<run folders of {', '.join(run.plan.teachers)}>]")
    words = [*map(shlex.quote, settings), "split.fold=<fold>", "seed=<seed>", ON_ONE_THREAD]
    # Make hands them to a shell of its own, whose quotes have to outlast those of the shell that the line is typed in.
    return re.sub(r'([\\"$`])', r"\\\1", " ".join(words))


def write_tables(study: Study, records: Sequence[Record], folder: Path) -> None:
    """Writes all tables, as ``tables.md`` and ``tables.tex``.

    Args:
        study: The study.
        records: Its records.
        folder: Where to; made if it is not there.

    Raises:
        InputError: Records of a system contradict each other.
        OSError: They cannot be written; ``filename`` is set.
    """
    all_tables = tables(study, records)
    calls = "\n".join(f"# {what}\n{line}" for what, line in commands(study))
    pages = {
        "tables.md": "\n".join(
            [f"# {study.title}\n", *map(markdown, all_tables), f"## commands\n\n```sh\n{calls}\n```\n"]
        ),
        "tables.tex": "\n".join([PACKAGES, *(latex(table, study.name) for table in all_tables)]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, mark in MARKS.items():
        check_ours(folder / name, mark)
    for name, text in pages.items():
        with replacing(folder / name) as stream:
            stream.write(text.encode())


def _name(plan: SystemPlan) -> str:
    return f"{plan.label}, per-speaker normalisation" if plan.per_speaker else plan.label


def _label(one: Tested) -> str:
    return _name(one.run.plan) + " (outdated)" * one.outdated


def _measure(systems: Sequence[Tested]) -> str:
    return next((_MEASURES[one.results.score] for one in systems if one.results), "score")


def _mean(results: Results) -> float:
    return statistics.mean_and_deviation(statistics.by_seed(results))[0]


def _score(results: Results | None) -> str:
    return _figure(_mean(results)) if results else NONE


def _scored(results: Results | None) -> list[str]:
    """Mean, standard deviation and interval."""
    if results is None:
        return [NONE] * 3
    mean, deviation = statistics.mean_and_deviation(statistics.by_seed(results))
    low, high = statistics.interval(results)
    return [_figure(mean), NONE if deviation is None else _figure(deviation), f"[{_figure(low)}, {_figure(high)}]"]


def _with_deviation(one: Tested) -> str:
    if one.results is None:
        return f"{len(one.records)}/{one.wanted} runs"
    scores = statistics.by_seed(one.results)
    mean, deviation = statistics.mean_and_deviation(scores)
    spread = "" if deviation is None else f" ± {_figure(deviation)}"
    return f"{_figure(mean)}{spread} ({scores.size})"


def _compared(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return [NONE, NONE]
    gain, low, high = (_figure(value, "+") for value in (comparison.gain, comparison.low, comparison.high))
    return [f"{gain} [{low}, {high}]", "<0.001" if comparison.p < 0.001 else _figure(comparison.p)]


def _effort(one: Tested) -> list[str]:
    """Parameters, runs and seconds."""
    done = f"{len(one.records)}/{one.wanted}"
    if not one.records:
        return [NONE, done, NONE]
    parameters = np.median([record.parameters for record in one.records])
    seconds = np.median([record.train_seconds for record in one.records])
    return [f"{parameters:,.0f}", done, f"{seconds:.0f}"]


def _each(results: Results, scores: statistics.Score) -> list[str]:
    """Of each class or dimension, the mean over passes."""
    return [_figure(value) for value in scores(results.sums.sum(axis=1)).mean(axis=0)]


def _fold(one: Tested, fold: int) -> str:
    records = [record for record in one.records if record.fold == fold]
    if not records:
        return NONE
    make = statistics.of_classes if records[0].labels else statistics.of_dimensions
    development = float(np.mean([record.development for record in records]))
    return f"{_score(make(records))} ({_figure(development)})"


def _quantity(curve: CurvePlan, number: int) -> str:
    return str(next(iter(curve.points[number].values())))


def _figure(value: float, sign: str = "-") -> str:
    """Three decimals, with a minus that is as wide as a plus; nothing for NaN."""
    return NONE if np.isnan(value) else f"{value:{sign}.3f}".replace("-", "−")
