"""What the records of studies tell of a run's settings: results over their folds and seeds."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import InputError
from experiments.config import Config
from experiments.study import statistics
from experiments.study.record import RECORDS, Record, read_records
from experiments.study.running import settings_of_folder


@dataclass(frozen=True)
class Spread:
    """Test results of runs of the same settings.

    Attributes:
        study: That they were made for.
        runs: How many there are.
        folds: How many are done of each seed.
        seeds: Those whose folds are all done.
        measure: ``UAR`` or ``mean CCC``.
        mean: Over the seeds, of each pooled over its folds' test utterances.
        deviation: Standard deviation over the seeds; none of a single one.
        low: Lower end of the 95 % interval, a bootstrap over test speakers.
        high: Upper end.
        speakers: Number of test speakers.
        lowest: Score of the worst single run.
        highest: Of the best one.
        each: Recall of each class or CCC of each dimension, mean over the seeds.
    """

    study: str
    runs: int
    folds: int
    seeds: list[int]
    measure: str
    mean: float
    deviation: float | None
    low: float
    high: float
    speakers: int
    lowest: float
    highest: float
    each: dict[str, float]


def study_of(run: Path, config: Config, records: Path) -> Spread | None:
    """Results of the study that has most runs of a run's experiment and settings; none where there is but one.

    Args:
        run: The run folder.
        config: Its configuration.
        records: Folder of the studies' records.
    """
    settings = {settings_of_folder(run, settled) for settled in ((), ("trainer.precision=auto",))} - {None}
    best: list[Record] = []
    for file in sorted(records.glob(f"*/{RECORDS}")):
        found = [one for one in read_records(file) if one.experiment == config.experiment and one.settings in settings]
        # On several curves, a study holds the same run several times.
        of_study = list({(one.fold, one.seed): one for one in found}.values())
        best = max(best, of_study, key=len)
    if len(best) < 2:
        return None
    folds_of = Counter(one.seed for one in best)
    folds = max(folds_of.values())
    complete = [one for one in best if folds_of[one.seed] == folds]
    make = statistics.of_classes if best[0].labels else statistics.of_dimensions
    try:
        results = make(complete)
    except InputError:  # seeds whose folds are not the same
        return None
    mean, deviation = statistics.mean_and_deviation(statistics.by_seed(results))
    singles = [statistics.by_seed(make([one])).item() for one in best]
    each = statistics.recalls if best[0].labels else statistics.concordance
    return Spread(
        study=best[0].study,
        runs=len(best),
        folds=folds,
        seeds=sorted({one.seed for one in complete}),
        measure="UAR" if best[0].labels else "mean CCC",
        mean=mean,
        deviation=deviation,
        low=statistics.interval(results)[0],
        high=statistics.interval(results)[1],
        speakers=len(results.speakers),
        lowest=min(singles),
        highest=max(singles),
        each=dict(zip(results.names, each(results.sums.sum(axis=1)).mean(axis=0).tolist(), strict=True)),
    )
