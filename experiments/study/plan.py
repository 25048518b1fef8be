"""What a study consists of, read from its YAML, and the runs that it asks for, in the order that they are made."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from datamodules.errors import InputError
from datamodules.settings import DataSettings
from datamodules.yaml_text import read_yaml_text
from experiments.config import Config, check_interpolations, load
from experiments.files import DAMAGED, find_yaml
from experiments.study.record import Point, settings_hash

FOLDER = Path(__file__).parents[1] / "studies"
SYSTEMS = FOLDER / "systems.yaml"
"""What the systems of all studies are; a study names those that it compares."""

ON_ONE_THREAD = "trainer.threads=1"
"""How runs of studies compute: sums are always added in the same order, so that figures do not depend on how many cores
a CPU has, nor on how many runs share them."""


@dataclass
class SystemPlan:
    """One of the systems that a study compares.

    Attributes:
        label: What tables call it; in a study, empty means as in ``systems.yaml``.
        settings: By dotted key, on top of the experiment's; a study's come after those of ``systems.yaml``.
        features: openSMILE's feature set for a linear SVM, instead of a model of ours.
        teachers: Systems of the study whose runs teach its own by ``model.consistency``: all their seeds of the same
            experiment, fold and point; where labels are hidden, those from which the same ones are.
        per_speaker: Normalises those features speaker by speaker, test speakers included: a transductive system,
            which is shown in a column of its own beside the system of the name that is given here.
        seeds: Of its runs; none means the study's.
        folds: Likewise.
        experiments: Likewise.
        curves: Curves that it is run along; of the study's ``curves``.
    """

    label: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    features: str = ""
    per_speaker: str = ""
    teachers: list[str] = field(default_factory=list)
    seeds: list[int] | None = None
    folds: list[int] | None = None
    experiments: list[str] | None = None
    curves: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> list[str]:
        """What a system on features is given beside settings of the configuration; nothing for models of ours."""
        if not self.features:
            return []
        return [f"features={self.features}", *["per_speaker=true"] * bool(self.per_speaker)]


@dataclass
class CurvePlan:
    """A quantity that systems are run along.

    Attributes:
        label: Name of the axis.
        points: Each some settings by dotted key, the first of which is the quantity on the axis. Where a system sets
            the same, its setting counts.
        seeds: Seeds of points, by their number; for all others the system's count.
    """

    label: str = ""
    points: list[dict[str, Any]] = field(default_factory=list)
    seeds: dict[int, list[int]] = field(default_factory=dict)


@dataclass
class Study:
    """A study.

    Attributes:
        name: Its name.
        title: What it is about, for the head of its report.
        experiments: The experiments that each system is run on.
        folds: Folds of them.
        seeds: Seeds, where a system does not name its own.
        main: The system whose gain is in question.
        reference: The system that all others are compared with.
        systems: In the order of tables and runs: what stands first is complete first.
        curves: By name.
    """

    name: str = ""
    title: str = ""
    experiments: list[str] = field(default_factory=list)
    folds: list[int] = field(default_factory=lambda: [0])
    seeds: list[int] = field(default_factory=lambda: [0])
    main: str = "full"
    reference: str = "single_task"
    systems: dict[str, SystemPlan] = field(default_factory=dict)
    curves: dict[str, CurvePlan] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run that a study asks for; ``teachers`` are the runs that it is taught by."""

    study: str
    experiment: str
    system: str
    point: Point
    fold: int
    seed: int
    plan: SystemPlan
    teachers: tuple["Run", ...] = ()

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """As of a ``Record``, where an experiment that is given as a file has a name."""
        return Path(self.experiment).stem, self.system, json.dumps(self.point, sort_keys=True), self.fold, self.seed

    @property
    def name(self) -> str:
        """Of its folder."""
        short = [(key, value) for key, value in self.point.items() if not isinstance(value, dict | list)]
        point = "".join(f"-{key.rpartition('.')[2]}={value}" for key, value in short)
        return f"{self.system}{point}-fold{self.fold}-seed{self.seed}".replace("/", "_").replace(" ", "")

    @property
    def settings(self) -> list[str]:
        """``key=value``, fold and seed included: what whoever repeats the run has to give."""
        settings = {**self.point, **self.plan.settings, "split.fold": self.fold, "seed": self.seed}
        return [f"{key}={_inline(value)}" for key, value in settings.items()]

    @property
    def of_system(self) -> tuple[str, str, str]:
        """What its settings depend on, fold and seed apart."""
        return self.key[:3]

    def settings_hash(self, config: Config | None = None) -> str:
        """Hash of what it is, its teachers included; its configuration need not be read again where it is at hand."""
        teachers = [(teacher.settings_hash(), teacher.seed) for teacher in self.teachers]
        return settings_hash(config or self.config(), self.plan.arguments, teachers)

    def config(self, extra: tuple[str, ...] = ()) -> Config:
        """Its configuration.

        Args:
            extra: Further ``key=value`` settings, such as where the corpora are.

        Raises:
            InputError: A setting is wrong, or the run would not be tested.
        """
        config = load(self.experiment, [*self.settings, *extra])
        if not config.trainer.test:
            raise InputError(
                f"the study {self.study}: {self.system} has trainer.test=false",
                "Records are made of test scores: leave it out.",
            )
        return config


def studies() -> list[str]:
    """Names of the studies that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path != SYSTEMS)


def read_study(name: str) -> Study:
    """Reads a study.

    Args:
        name: Of a study that ships, or the path of a YAML file.

    Raises:
        InputError: There is no such study, or something in it is wrong.
    """
    path = find_yaml("study", name, FOLDER, studies())
    shared = _read(SYSTEMS, dict[str, SystemPlan])
    study: Study = _read(path, Study)
    study.name = study.name or path.stem
    for system, plan in study.systems.items():
        known = shared.get(system)
        if known is None and not (plan.settings or plan.features or plan.label):
            raise InputError(
                f"{path}: systems.{system} is not described",
                f"Give it settings or features, or one of the names in {SYSTEMS}: {', '.join(shared)}.",
            )
        if known is not None:
            plan.label = plan.label or known.label
            plan.settings = known.settings | plan.settings
            plan.features = plan.features or known.features
            plan.per_speaker = plan.per_speaker or known.per_speaker
            plan.teachers = plan.teachers or known.teachers
        plan.label = plan.label or system
        for curve in plan.curves:
            if curve not in study.curves:
                raise InputError(
                    f"{path}: systems.{system}.curves: no curve {curve!r}", f"There are: {_some(study.curves)}."
                )
        for teacher in plan.teachers:
            if teacher not in study.systems or study.systems[teacher].teachers or study.systems[teacher].features:
                raise InputError(
                    f"{path}: systems.{system}.teachers: {teacher!r} is no system of the study that can teach",
                    "Name one that is neither taught itself nor on openSMILE's features.",
                )
    for role in ("main", "reference"):
        if getattr(study, role) not in study.systems:
            raise InputError(
                f"{path}: {role} is {getattr(study, role)!r}, which is none of the study's systems",
                f"There are: {_some(study.systems)}.",
            )
    if not study.experiments:
        raise InputError(f"{path} names no experiments", "Give experiments: [<name>, …].")
    for run in {run.of_system: run for run in runs(study)}.values():
        run.config()  # what is wrong is told now, and not after hours
    return study


def runs(study: Study) -> Iterator[Run]:
    """The runs of a study: system by system as they stand there, the fold changing before the seed.

    Raises:
        InputError: A system that is to teach has no run that can.
    """
    data: dict[tuple[str, str, str], DataSettings] = {}  # to read a configuration takes time
    untaught = {system: list(_runs(study, system, plan)) for system, plan in study.systems.items()}

    def hides(run: Run) -> tuple[float, int] | None:
        if run.of_system not in data:
            data[run.of_system] = run.config().data
        known = data[run.of_system]
        return (known.labelled_share, known.labelled_by(run.seed)) if known.labelled_share < 1 else None

    for system, plan in study.systems.items():
        for run in untaught[system]:
            yield replace(run, teachers=tuple(_teachers(run, hides, untaught))) if plan.teachers else run


def _runs(study: Study, system: str, plan: SystemPlan) -> Iterator[Run]:
    for curve, number, point in points(study, plan):
        seeds = plan.seeds if plan.seeds is not None else study.seeds
        if curve is not None:
            seeds = curve.seeds.get(number, seeds)
        for seed in seeds:
            for experiment in plan.experiments or study.experiments:
                for fold in plan.folds if plan.folds is not None else study.folds:
                    yield Run(study.name, experiment, system, point, fold, seed, plan)


def _teachers(
    run: Run, hides: Callable[[Run], tuple[float, int] | None], everyone: Mapping[str, Sequence[Run]]
) -> Iterator[Run]:
    hidden = hides(run)
    for system in run.plan.teachers:
        found = [
            one
            for one in everyone[system]
            if (one.experiment, one.point, one.fold) == (run.experiment, run.point, run.fold)
            and (hidden is None or hides(one) == hidden)
        ]
        if not found:
            raise InputError(
                f"the study {run.study}: {run.name} is to be taught by {system}, which is not run there",
                f"Run {system} on the same experiments, folds and points, and with labels hidden, on the same seeds.",
            )
        yield from found


def points(study: Study, plan: SystemPlan) -> Iterator[tuple[CurvePlan | None, int, Point]]:
    """The points that a system is run at, each with its curve and its number there; without a curve a single one."""
    if not plan.curves:
        yield None, 0, {}
    for name in plan.curves:
        for number, point in enumerate(study.curves[name].points):
            yield study.curves[name], number, point


def _read(path: Path, schema: Any) -> Any:
    text = read_yaml_text(path)
    try:
        found = OmegaConf.load(io.StringIO(text))
        check_interpolations(found, str(path))
        if schema is Study:
            return _checked(OmegaConf.merge(OmegaConf.structured(Study), found))
        plans = cast(Mapping[str, Any], found)
        return {name: _checked(OmegaConf.merge(OmegaConf.structured(SystemPlan), plan)) for name, plan in plans.items()}
    except (YAMLError, OmegaConfBaseException, OSError, *DAMAGED) as error:  # the last but one: of a single number
        first, *_ = str(error).splitlines() or [type(error).__name__]
        key = getattr(error, "full_key", None)
        raise InputError(f"{path}: {f'{key}: ' if key else ''}{first}", "Repair the file.") from error


def _checked(merged: Any) -> Any:
    plain = OmegaConf.to_object(merged)
    OmegaConf.structured(plain)  # lists are looked into only then
    return plain


def _inline(value: Any) -> str:
    """A value as it is written after ``key=``: JSON is YAML, strings alone need no quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def _some(names: Any) -> str:
    return ", ".join(names) or "none"
