"""The LightningDataModule: corpora to manifests, splits, pools and loaders."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batch import LABELLED, SPEAKER, UNLABELLED, Batch, Labels
from datamodules.cells import Integers, Rows
from datamodules.collection import Subset
from datamodules.corpora import CORPORA
from datamodules.dataset import Collate, SpeechDataset
from datamodules.decoding import decoded_bytes
from datamodules.errors import InputError
from datamodules.exclusion import excluded
from datamodules.gathering import Gathering, check_corpora
from datamodules.guard import guard
from datamodules.labelling import Labelling
from datamodules.manifest import Manifest
from datamodules.pool import Indices, Lookup, Pool
from datamodules.processes import ASKED, available_cores, ignore
from datamodules.report import check_classes, data_report
from datamodules.ring import CollateInRing, Ring
from datamodules.sampler import QuotaBatchSampler, WholeSetSampler
from datamodules.settings import DataSettings
from datamodules.shares import auxiliary_share, labelled_share
from datamodules.speech import Source
from datamodules.splits import CorpusColumns, Split, SplitSettings, make_split
from datamodules.vocabulary import GENDERS

_log = logging.getLogger(__name__)

_MOST_WORKERS = 8
_READ_AHEAD = 4
"""Batches that each worker reads ahead: as many as even out that files take longer or shorter."""

ROLES = {"speaker": SPEAKER, "unlabelled": UNLABELLED}


class EpochLoader(DataLoader[Any]):
    """A loader that starts the next epoch of its sampler each time it is iterated.

    Lightning tells samplers the epoch only after it made the iterator, when workers have begun to draw.
    """

    def __init__(self, sampler: QuotaBatchSampler, step: int, **kwargs: Any) -> None:
        super().__init__(batch_sampler=sampler, **kwargs)
        self.quotas = sampler
        self.step = step

    def __iter__(self) -> Any:
        self.quotas.epoch, self.quotas.start = divmod(self.step, self.quotas.steps)
        self.step += self.quotas.steps - self.quotas.start
        return super().__iter__()


class SpeechDataModule(LightningDataModule):
    """Speaker-independent emotion data, mixed with speaker corpora and unlabelled speech.

    Args:
        settings: See ``DataSettings``.
        split: See ``SplitSettings``.
        sample_rate: Of the speech that batches hold, in Hz.
        seed: Of the order, of the crops and of what ``labelled_share`` and ``auxiliary_share`` choose.
        tasks: What the labelled corpora are to teach, "emotion" and "dimensions" among them: an utterance that has
            neither of those wanted carries no label.

    Attributes:
        collection: All utterances of all corpora, after ``setup``.
        split: Rows of the collection on each side, after ``setup``; to train on, those that keep their labels.
        labels: What the training data can teach, after ``setup``.
        report: The data report, after ``setup``.
        synthetic: Whether any labelled corpus is synthesised.
    """

    def __init__(
        self,
        settings: DataSettings,
        split: SplitSettings,
        sample_rate: int,
        seed: int,
        tasks: Iterable[str] = ("emotion",),
    ) -> None:
        super().__init__()
        self.settings = settings
        self.split_settings = split
        self.sample_rate = sample_rate
        self.seed = seed
        self.tasks = frozenset(tasks)
        self.faults: list[str] = []
        self._read = 0
        names = [*settings.labelled, *split.test_corpora, *(auxiliary.corpus for auxiliary in settings.auxiliary)]
        if not settings.labelled:
            raise InputError("data.labelled names no corpus", f"Choose from: {', '.join(CORPORA)}.")
        for setting in ("quota", "crop_s", "evaluation_batch"):
            if getattr(settings, setting) <= 0:
                raise InputError(f"data.{setting} is {getattr(settings, setting)}", "Choose a number above 0.")
        for auxiliary in settings.auxiliary:
            if auxiliary.role not in ROLES:
                raise InputError(
                    f"data.auxiliary: {auxiliary.corpus} has the unknown role {auxiliary.role!r}",
                    f"Choose from: {', '.join(ROLES)}.",
                )
            if auxiliary.corpus in split.test_corpora and not split.adaptation_speakers:
                raise InputError(
                    f"data.auxiliary: {auxiliary.corpus} is tested on (split.test_corpora)",
                    "Take it out of one of the two, or let so many of its speakers be trained on, without labels, and "
                    "not tested: split.adaptation_speakers=2.",
                )
        check_corpora(settings.corpora, names)
        divided = [*settings.labelled, *split.test_corpora]
        used = [one for one in settings.auxiliary if settings.auxiliary_share > 0 or one.corpus in divided]
        # A batch holds its parts in this order, see `Batch.sizes`.
        self.auxiliary = sorted(used, key=lambda one: ROLES[one.role])
        self.gathering = Gathering(settings, divided, self.auxiliary)
        self.synthetic = any(self.gathering.readers[name].synthetic for name in divided)

    def prepare_data(self) -> None:
        """Finds the corpora and builds their manifests, unless they are there.

        Raises:
            InputError: A corpus is missing (all that are, in one message), empty, or has too many bad files.
        """
        # Lightning calls this again before it trains: what is in use is not built anew.
        if not hasattr(self, "collection"):
            self.gathering.build(self.settings.rebuild)

    @cached_property
    def sources(self) -> list[Source]:
        """The speech of each corpus of the collection, after ``setup``; decodes what is to be decoded once."""
        decoded = self.report["decoded"]
        return [
            self.gathering.source(manifest, self.sample_rate, decode=manifest.corpus in decoded)
            for manifest in self.collection.manifests
        ]

    def setup(self, stage: str | None = None) -> None:
        """Opens the manifests, splits, checks that no side leaks into another, and makes indices of labels.

        Raises:
            InputError: The split or the class map does not fit the corpora, a speaker or a recording stands on two
                sides, or an auxiliary corpus has nothing to fill its quota.
        """
        if hasattr(self, "collection"):
            return
        settings = self.settings
        self.collection = self.gathering.build()
        labelled = [*settings.labelled, *self.split_settings.test_corpora]
        manifests = [self.collection.manifests[self.collection.corpora.index(name)] for name in labelled]
        check_classes(settings.classes, manifests)
        self._check_votes(manifests)
        self.labelling = Labelling(
            self.collection, settings.classes, settings.agreeing_raters, rated="dimensions" in self.tasks
        )
        rows, left_out = self._included()

        usable = {name: self.labelling.labelled(np.asarray(rows[name])) for name in labelled}
        for name in labelled:
            if not len(usable[name]):
                raise InputError(
                    f"no utterance of {name} has a label that this experiment learns",
                    f"Look at data.classes, data.agreeing_raters and data.corpora.{name}.exclude_speakers; "
                    "a head for dimensions needs a corpus that rates them.",
                )
        split = make_split([self._columns(name, rows) for name, rows in usable.items()], self.split_settings)
        classes = self.labelling.emotion(split.train)
        chosen_by = settings.labelled_by(self.seed)
        kept = labelled_share(self.collection, split.train, classes, settings.labelled_share, chosen_by)
        self.split: Split = split.keeping(kept)
        adaptation = {
            name: self._of_adaptation_speakers(np.asarray(rows[name])) for name in self.split_settings.test_corpora
        }
        self.adaptation_pool = Pool(np.concatenate([*adaptation.values(), np.empty(0, np.int64)]), UNLABELLED)
        auxiliary = self._auxiliary_rows({**rows, **adaptation}, usable, np.setdiff1d(split.train, kept))
        heard = {**auxiliary, **adaptation}
        guard(
            {
                "train": [*self._side(self.split.train), *(self.collection.subset(*one) for one in heard.items())],
                "development": self._side(self.split.development),
                "test": self._side(self.split.test),
            }
        )
        self._make_pools(auxiliary)
        self.report = data_report(self.collection.manifests, settings.classes, settings.agreeing_raters)
        self.report |= {
            "split": self.split.report,
            "excluded_speakers": left_out,
            "decoded": self._decoded(),
            "auxiliary": [
                {"corpus": one.corpus, "role": one.role, "utterances": len(pool), "quota": one.quota}
                for one, pool in zip(self.auxiliary, self.pools[1:], strict=True)
            ],
        }

    def _decoded(self) -> dict[str, float]:
        """The corpora whose speech is decoded once, and how many GB it takes."""
        sizes = {
            one.corpus: decoded_bytes(one, self.sample_rate, self.settings.decoded_gb * 1e9)
            for one in self.collection.manifests
        }
        return {corpus: round(size / 1e9, 3) for corpus, size in sizes.items() if size is not None}

    def _check_votes(self, labelled: list[Manifest]) -> None:
        """Checks that the labelled corpora tell the votes that settings count."""
        settings = self.settings
        without = [manifest.corpus for manifest in labelled if not manifest.has_votes]
        if settings.agreeing_raters > 0 and without:
            raise InputError(
                f"data.agreeing_raters is {settings.agreeing_raters}, but {', '.join(without)} tells no raters' votes",
                "Set data.agreeing_raters=0, or leave corpora without votes out.",
            )
        if settings.soft_labels and (not settings.classes or "emotion" not in self.tasks):
            raise InputError(
                "data.soft_labels needs data.classes and the head emotion, which learns them",
                "Set data.soft_labels=false.",
            )
        if settings.soft_labels and len(without) == len(labelled):
            raise InputError(
                f"data.soft_labels needs raters' votes, and {', '.join(without)} tells none",
                "Set data.soft_labels=false.",
            )

    def _included(self) -> tuple[dict[str, Rows], dict[str, Any]]:
        """The utterances of each corpus without excluded speakers, and a report of these."""
        rows: dict[str, Rows] = {}
        report = {}
        for corpus, manifest in zip(self.collection.corpora, self.collection.manifests, strict=True):
            rows[corpus] = every = self.collection.rows(corpus)
            entries = self.gathering.settings_of(corpus).exclude_speakers
            if entries:
                found = excluded(corpus, entries, sorted(manifest.words("speaker")))
                rows[corpus] = every.start + manifest.without("speaker", found)
                report[corpus] = {"speakers": found, "utterances": len(every) - len(rows[corpus])}
        return rows, report

    def _auxiliary_rows(
        self, rows: Mapping[str, Rows], labelled: Mapping[str, Integers], lost: Integers
    ) -> dict[str, Rows]:
        """The utterances that each auxiliary corpus brings.

        Args:
            rows: The utterances of each corpus; of one that is tested on, those of speakers set apart.
            labelled: Those that carry a label, of each corpus that is split.
            lost: Those of training that do not keep theirs.
        """
        found: dict[str, Rows] = {}
        for name in dict.fromkeys(one.corpus for one in self.auxiliary):
            every = rows[name]
            if name in self.split_settings.test_corpora:
                found[name] = every
            elif name in labelled:
                without = np.setdiff1d(np.asarray(every), labelled[name])
                found[name] = self._unlabelled(name, without, np.intersect1d(lost, labelled[name]))
            else:
                found[name] = auxiliary_share(name, every, self.settings.auxiliary_share, self.seed)
        self.auxiliary = [one for one in self.auxiliary if len(found[one.corpus]) or not one.if_any]
        for name in [one.corpus for one in self.auxiliary if one.corpus in labelled and not len(found[one.corpus])]:
            raise InputError(
                f"data.auxiliary: {name} is labelled, and its training speakers have no utterance without a label",
                "Take it out of data.auxiliary, or give its entry if_any: true; below a data.labelled_share of 1, what "
                "loses its label is of use there.",
            )
        return {one.corpus: found[one.corpus] for one in self.auxiliary}

    def _of_adaptation_speakers(self, rows: Integers) -> Integers:
        """Those rows of a corpus tested on that are of speakers set apart, whatever label they would carry."""
        chosen = self.collection.values("speaker", [self.split.adaptation])
        codes, speakers = self.collection.strings("speaker", rows)
        kept: Integers = rows[np.array([*np.isin(speakers, chosen), False])[codes]]
        return kept

    def _unlabelled(self, corpus: str, rows: Integers, lost: Integers) -> Integers:
        """Those rows of a labelled corpus, none of them labelled, that are known to be of no speaker held out.

        Training rows that ``lost`` their label join them.
        """
        held_out = np.concatenate([self.split.development, self.split.test])
        _, heard = self.collection.strings("speaker", held_out)
        codes, speakers = self.collection.strings("speaker", rows)
        free = [speaker not in heard for speaker in speakers]
        keep = np.array([*free, self.split_settings.unknown_speakers == "train"])[codes]  # the last: of an unknown one
        if self.split_settings.protocol == "corpus":
            sides, words = self.collection.strings("split", rows)
            keep &= np.array([*(word == "train" for word in words), False])[sides]
        kept: Integers = np.union1d(rows[keep], lost)
        return kept

    def _columns(self, corpus: str, rows: Integers) -> CorpusColumns:
        strings = partial(self.collection.strings, rows=rows)
        return CorpusColumns(corpus, rows, strings("speaker"), strings("gender"), strings("session"), strings("split"))

    def _side(self, rows: Integers) -> list[Subset]:
        """What the guard compares, corpus by corpus."""
        return [self.collection.subset(corpus, rows) for corpus in self.collection.corpora]

    def _make_pools(self, auxiliary: dict[str, Rows]) -> None:
        with_speaker = [auxiliary[one.corpus] for one in self.auxiliary if ROLES[one.role] == SPEAKER]
        speakers = self.collection.values("speaker", [self.split.train, *with_speaker])
        indices = {
            "speaker": Indices(self.collection, "speaker", speakers),
            "gender": Indices(self.collection, "gender", GENDERS),
        }
        self.pools = [self._pool(self.split.train, indices)]
        for one in self.auxiliary:
            rows = auxiliary[one.corpus]
            if ROLES[one.role] == SPEAKER and not any(
                self.collection.values(column, [rows]) for column in ("speaker", "gender")
            ):
                raise InputError(
                    f"data.auxiliary: {one.corpus} knows neither speakers nor genders", "Give it the role unlabelled."
                )
            self.pools.append(self._auxiliary_pool(rows, ROLES[one.role], indices))
        self.development_pool = self._pool(self.split.development, indices)
        self.test_pool = self._pool(self.split.test, indices)
        taught = self.pools[0].labels(np.arange(len(self.split.train)))
        counts = np.bincount(taught["emotion"][taught["emotion"] >= 0], minlength=len(self.settings.classes))
        self.labels = Labels(
            emotions=tuple(self.settings.classes),
            emotion_counts=tuple(counts.tolist()),
            speakers=len(speakers),
            corpora=tuple(self.collection.corpora),
            soft=self.settings.soft_labels,
        )
        absent = [name for name, count in zip(self.labels.emotions, counts, strict=True) if count == 0]
        if absent:
            raise InputError(
                f"data.classes: no training utterance has the class {', '.join(absent)}",
                "Take it out of data.classes or choose another split.",
            )
        if "dimensions" in self.tasks and np.isnan(taught["dimensions"]).all():
            raise InputError(
                f"no training utterance of {', '.join(self.settings.labelled)} is rated in any dimension",
                "Set model.heads.dimensions.weight=0.",
            )

    def _pool(self, rows: Integers, indices: Mapping[str, Indices]) -> Pool:
        """Labelled utterances: there are so few that their labels are held."""
        held: dict[str, NDArray[Any]] = {
            "corpus": self.collection.corpus_index(rows),
            **{name: index(rows) for name, index in indices.items()},
            "emotion": self.labelling.emotion(rows),
            "dimensions": self.labelling.dimensions(rows),
        }
        if self.settings.soft_labels:
            held["votes"] = self.labelling.votes(rows)
        return Pool(rows, LABELLED, held)

    def _auxiliary_pool(self, rows: Rows, part: int, indices: Mapping[str, Indices]) -> Pool:
        """Other speech: there may be so much that nothing is held of each utterance."""
        looked_up: dict[str, Lookup] = {"corpus": self.collection.corpus_index}
        if part == SPEAKER:
            looked_up |= indices
        return Pool(rows, part, looked_up=looked_up)

    @property
    def quotas(self) -> list[int]:
        """Utterances of each pool in the global batch."""
        return [self.settings.quota, *(one.quota for one in self.auxiliary)]

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.settings.steps or -(-len(self.split.train) // self.settings.quota)

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless supply of mixed batches, ``steps_per_epoch`` at a time."""
        rank, world_size, step = self._place()
        names = ["data.quota", *(f"data.auxiliary: {one.corpus}" for one in self.auxiliary)]
        sampler = QuotaBatchSampler(
            names, [len(pool) for pool in self.pools], self.quotas, self.steps_per_epoch, self.seed, rank, world_size
        )
        dataset = SpeechDataset(self.collection, self.sources, self.pools, self.sample_rate, self.settings.crop_s)
        width = round(self.settings.crop_s * self.sample_rate)
        loading: dict[str, Any] = {"collate_fn": Collate(width), **self._loading(persistent=True)}
        if loading["num_workers"]:
            ring = Ring(loading["num_workers"], _READ_AHEAD, sum(self.quotas) // world_size, width)
            loading["collate_fn"] = CollateInRing(loading["collate_fn"], ring)
        return EpochLoader(sampler, step, dataset=dataset, **loading)

    def val_dataloader(self) -> DataLoader[Any]:
        """The development set, each utterance whole and once."""
        return self._whole(self.development_pool)

    def test_dataloader(self) -> DataLoader[Any]:
        """The test set, each utterance whole and once."""
        return self._whole(self.test_pool)

    def training_utterances(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Waveforms (batch, samples) and lengths (batch,) of the labelled training set, once: for statistics."""
        return _speech(self._whole(self.pools[0]))

    def adaptation_utterances(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The same of the speakers of tested corpora who are set apart, all of them in each process."""
        return _speech(self._whole(self.adaptation_pool, (0, 1)))

    def whole(self, pool: Pool, positions: Integers) -> DataLoader[Any]:
        """Some utterances of a pool, each whole and once, all of them in this process."""
        return self._whole(Pool(pool.rows(positions), pool.part, pool.labels(positions)), (0, 1))

    def _whole(self, pool: Pool, place: tuple[int, int] | None = None) -> DataLoader[Any]:
        rank, world_size = place or self._place()[:2]
        rows = pool.rows(np.arange(len(pool)))
        ends, starts = (self.collection.numbers(f"speech_{edge}", rows) for edge in ("end", "start"))
        sampler = WholeSetSampler(ends - starts, self.settings.evaluation_batch, rank, world_size)
        dataset = SpeechDataset(self.collection, self.sources, [pool], self.sample_rate, self.settings.crop_s)
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=Collate(), **self._loading(persistent=False))

    def _place(self) -> tuple[int, int, int]:
        if self.trainer is None:
            return 0, 1, 0
        return (
            self.trainer.global_rank,
            self.trainer.world_size,
            self.trainer.fit_loop.epoch_loop.batch_progress.total.ready,
        )

    def _loading(self, persistent: bool) -> dict[str, Any]:
        device = "cpu" if self.trainer is None else self.trainer.strategy.root_device.type
        workers = self.settings.workers
        if workers < 0:
            # A CPU that trains has no core to spare; a GPU's process needs one of its own.
            processes = 1 if self.trainer is None else self.trainer.num_devices
            workers = 0 if device == "cpu" else max(1, min(_MOST_WORKERS, available_cores() // processes - 1))
        return {
            "num_workers": workers,
            "persistent_workers": persistent and workers > 0,
            "prefetch_factor": _READ_AHEAD if workers else None,
            # They read on while the main process saves; its end they notice by themselves.
            "worker_init_fn": _leave_signals if workers else None,
            "pin_memory": device == "cuda",
        }

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Counts files that could not be read, in the main process.

        Raises:
            InputError: There are more than ``max_bad_fraction`` of all that was read, or so many beside each other that
                a training batch could not be filled.
        """
        self._read += len(batch)
        for fault in batch.faults:
            if fault not in self.faults:
                _log.warning("left out: %s", fault)
                self.faults.append(fault)
        # Not raised where the file is read: that may be in a worker, whose errors come with its traceback.
        if self.trainer is not None and self.trainer.training and (batch.row < 0).any():
            raise InputError(
                f"{SpeechDataset.RETRIES} utterances in a row could not be read, the first: {batch.faults[0]}",
                "Repair or remove the files; are all of the corpus's disks there?",
            )
        # As if a thousand had been read at the least: the share of a few says nothing.
        if len(self.faults) > self.settings.max_bad_fraction * max(self._read, 1000):
            shown = "\n    ".join(self.faults[:5])
            raise InputError(
                f"{len(self.faults)} of {self._read} utterances could not be read, the first:\n    {shown}",
                "Repair or remove the files, or raise data.max_bad_fraction.",
            )
        return batch


def _leave_signals(worker: int) -> None:
    ignore(*ASKED)


def _speech(batches: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in batches:
        there = batch.row >= 0
        yield batch.waveform[there], batch.length[there]
