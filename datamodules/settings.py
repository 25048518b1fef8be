"""Settings of the data: plain dataclasses, free of heavy imports, so that a wrong key is answered at once."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class CorpusSettings:
    """Where one corpus is and how it is read.

    Attributes:
        root: Its folder; none means that it is looked for in the environment and under ``data.root``.
        reader: Its reader where that has another name: ``table`` or ``folder`` for a corpus of the user's own.
        options: Arguments of its reader.
        packed: Folder of its pack, which `make pack` wrote; it takes the place of ``root``.
        exclude_speakers: Speakers who are left out entirely, for example because they also speak in another corpus:
            ids as the corpus gives them, or ``file:<path>`` of a text file with one id a line (``#`` begins a comment).
    """

    root: str | None = None
    reader: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    packed: str | None = None
    exclude_speakers: list[str] = field(default_factory=list)


@dataclass
class AuxiliarySettings:
    """A corpus that brings speech but no emotion.

    Attributes:
        corpus: Its name. One of the labelled corpora brings those utterances of its training speakers that carry no
            label of the experiment, such as turns on whose emotion the raters did not agree, or that lost it by
            ``data.labelled_share``. A corpus that is tested on brings its speakers whom ``split.adaptation_speakers``
            sets apart.
        role: ``speaker`` (speaker and gender labels are used where they are known) or ``unlabelled`` (none is).
        quota: Utterances in each global batch.
        hash_content: Decodes every file once when the manifest is built, to check it and to find recordings that also
            stand in the development or test set; dear for millions of files.
        if_any: Goes without the corpus where it has nothing to bring, instead of stopping: a labelled one may have no
            utterance without a label, as at the end of a curve over ``labelled_share``.
    """

    corpus: str = ""
    role: str = "unlabelled"
    quota: int = 8
    hash_content: bool = True
    if_any: bool = False


@dataclass
class DataSettings:
    """Corpora and how batches are made of them.

    Attributes:
        root: Folder that corpora are looked for in.
        packed: Folder of packs, which `make pack` wrote; corpora that are there are read from there.
        cache: Folder of manifests, of decoded speech and of the synthetic corpora.
        corpora: Settings of single corpora, by name.
        labelled: Corpora with emotion labels; they are split into training, development and test.
        labelled_share: Share of the labelled training utterances that keep their labels, chosen by ``labelled_seed``
            class by class, one of each at the least; a smaller share is part of a larger one. The others are as
            utterances without a label; development and test keep theirs.
        labelled_seed: Of that choice; none is the run's ``seed``. Runs that differ in their seeds alone keep the same
            labels by it, as they must where one is to teach another.
        auxiliary: Corpora of other speech, for training only.
        auxiliary_share: Share of the utterances of each auxiliary corpus that is used, chosen by ``seed``; a smaller
            share is part of a larger one. Corpora that are labelled or tested on are used in full; with 0 they alone
            are.
        classes: Emotion classes, each with the common emotion names that it takes in; empty for dimensions only.
        soft_labels: The emotion head learns the raters' votes for each class instead of their consensus, where the
            corpus has votes; evaluation is by consensus in any case.
        agreeing_raters: An utterance has its class only if so many raters named its emotion, on all sides of the split;
            0 takes every consensus.
        quota: Labelled utterances in each global batch.
        steps: Batches of an epoch; 0 means that each utterance that keeps its labels comes once.
        crop_s: Length of training crops in seconds.
        evaluation_batch: Utterances of an evaluation batch.
        workers: Processes that read ahead, for each process that trains; -1 chooses: none where a CPU trains, whose
            cores have enough to do, else one a core but for one, and no more than eight.
        decoded_gb: Corpora whose speech takes no more than this as 16-bit samples are decoded once, into the cache,
            unless they are read with ``hash_content=false``; 0 decodes always.
        max_bad_fraction: Unusable files that are tolerated, as a share of a corpus, and of what is read in training.
        rebuild: Builds manifests anew.
    """

    root: str | None = None
    packed: str | None = None
    cache: str = "runs/cache"
    corpora: dict[str, CorpusSettings] = field(default_factory=dict)
    labelled: list[str] = field(default_factory=list)
    labelled_share: float = 1.0
    labelled_seed: int | None = None
    auxiliary: list[AuxiliarySettings] = field(default_factory=list)
    auxiliary_share: float = 1.0
    classes: dict[str, list[str]] = field(default_factory=dict)
    soft_labels: bool = False
    agreeing_raters: int = 0
    quota: int = 32
    steps: int = 0
    crop_s: float = 2.5
    evaluation_batch: int = 32
    workers: int = -1
    decoded_gb: float = 2.0
    max_bad_fraction: float = 0.01
    rebuild: bool = False

    def labelled_by(self, seed: int) -> int:
        """The seed that chooses which labels are kept in a run of this ``seed``."""
        return seed if self.labelled_seed is None else self.labelled_seed
