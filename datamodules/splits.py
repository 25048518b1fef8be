"""Speaker-independent splits into training, development and test.

Folds are made of the speakers of labelled utterances, and never of utterances. They depend on those speakers' ids,
genders and sessions alone, so the same corpus and labels give the same folds on every machine.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import InputError

TRAIN, DEVELOPMENT, TEST = "train", "development", "test"
SIDES = (TRAIN, DEVELOPMENT, TEST)
ADAPTATION = "adaptation"

Codes = tuple[NDArray[np.int32], list[str]]
"""A column of strings: an index into the values for each row, -1 where the row has none."""


@dataclass
class SplitSettings:
    """How the labelled corpora are divided.

    Every protocol but the last is applied to each labelled corpus by itself, and the sides are put together.

    Attributes:
        protocol: `speaker_groups` (each group of speakers is the test set once), `leave_one_speaker_out`,
            `leave_one_session_out`, `corpus` (the corpus's own split) or `cross_corpus` (train and develop on some
            corpora, test on all of the others).
        folds: Number of groups, for `speaker_groups` and `cross_corpus`; the other protocols know theirs.
        fold: Which fold is held out, from 0.
        test_corpora: The corpora that `cross_corpus` tests on.
        development: Where development speakers come from. `next`: those that follow the test speakers, in order and
            round the end. `same_session`: those who share a session with a test speaker; with `leave_one_session_out`
            the held-out session itself is divided into development and test speakers.
        development_speakers: How many of them, taken in order and with the genders in turn; the others are trained on.
            If None: all of the next fold, all who share the session, one of a held-out session. Where a corpus's own
            split has no development side, so many speakers of its training side become one.
        order: `sorted` (the customary order: ids compared with their numbers as numbers) or `shuffled` (by `seed`).
        seed: Of the order alone, so that folds stay when the seed of training changes.
        balance_gender: Deal the speakers to the groups gender by gender, instead of cutting the order into pieces.
        unknown_speakers: What is done with utterances of unknown speakers, each of whom may be any of the known ones.
            `stop`, `train` (they are trained on, or stay out where the corpus's own split has them elsewhere) or
            `leave_out`. A corpus that `cross_corpus` tests on stands on one side only, unknown speakers included; with
            adaptation speakers it does not, and unless they stop the run, they stay out.
        adaptation_speakers: How many speakers of each of the `test_corpora`, taken in order and with the genders in
            turn, are set apart for unlabelled training. They are not tested, whether or not their speech is used.
    """

    protocol: str = "speaker_groups"
    folds: int = 5
    fold: int = 0
    test_corpora: list[str] = field(default_factory=list)
    development: str = "next"
    development_speakers: int | None = None
    order: str = "sorted"
    seed: int = 0
    balance_gender: bool = False
    unknown_speakers: str = "stop"
    adaptation_speakers: int = 0


@dataclass(frozen=True)
class CorpusColumns:
    """The labelled rows of one corpus, as much of them as a split needs to know.

    Attributes:
        corpus: Name of the corpus.
        rows: The caller's numbers of these rows (N,), which the split gives back.
        speaker: Corpus-qualified ids.
        gender: `female` or `male`.
        session: The corpus's sessions.
        split: The corpus's own split, one of `SIDES`.
    """

    corpus: str
    rows: NDArray[np.int64]
    speaker: Codes
    gender: Codes
    session: Codes
    split: Codes


@dataclass(frozen=True)
class Split:
    """Rows of the three sides, and of the speakers set apart, ascending.

    Attributes:
        train: Rows to learn from.
        development: Rows to choose the epoch and the settings by.
        test: Rows that are scored once, at the end.
        adaptation: Rows of adaptation speakers, which are on no side.
        report: Protocol, fold and number of folds; for each side the numbers of utterances, of utterances of unknown
            speakers, of female, male and other speakers, and the speakers' ids, and the same under `adaptation` if
            speakers are set apart; under `left_out` how many utterances stayed out for which reason. Plain values that
            JSON can hold.
    """

    train: NDArray[np.int64]
    development: NDArray[np.int64]
    test: NDArray[np.int64]
    adaptation: NDArray[np.int64]
    report: dict[str, Any]

    def keeping(self, train: NDArray[np.int64]) -> "Split":
        """The same speakers, where only these training rows keep their labels; `lost_labels` counts the others."""
        changed = {"utterances": train.size, "lost_labels": self.train.size - train.size}
        return replace(self, train=train, report=self.report | {TRAIN: self.report[TRAIN] | changed})


def make_split(corpora: Sequence[CorpusColumns], settings: SplitSettings) -> Split:
    """Divide the labelled rows into training, development and test.

    A speaker is on one side only, except where a corpus's own split is at fault: call `guard` with the result, and with
    the auxiliary corpora on the training side.

    Args:
        corpora: The labelled corpora.
        settings: Protocol and fold.

    Returns:
        The rows of the three sides.

    Raises:
        InputError: A setting is not among its choices, the fold does not exist, there are fewer speakers than folds, a
            corpus lacks the speakers, sessions or split that the protocol needs, unknown speakers would have to be
            placed by guessing, or a side would be empty.
    """
    _check_settings(corpora, settings)
    rows: dict[str, list[NDArray[np.int64]]] = {side: [] for side in _PLACES}
    counts = {side: Counter[str]() for side in _PLACES}
    ids: dict[str, list[str]] = {side: [] for side in _PLACES}
    left_out = Counter[str]()
    for columns in corpora:
        speakers = _Speakers.of(columns)
        side_of_row, reasons = _divide(columns, speakers, settings)
        left_out += reasons
        for number, side in enumerate(_PLACES):
            here = side_of_row == number
            rows[side].append(columns.rows[here])
            present = np.unique(speakers.of_row[here])
            known = present[present >= 0].tolist()
            ids[side] += [speakers.ids[speaker] for speaker in known]
            counts[side].update(speakers.gender[speaker] or "other" for speaker in known)
            counts[side]["unknown_speaker"] += int((here & (speakers.of_row < 0)).sum())
    joined = {side: np.sort(np.concatenate(rows[side])) for side in _PLACES}
    empty = [side for side in SIDES if not joined[side].size]
    if empty:
        raise InputError(
            f"{_where(settings)}: nothing is left for {' and '.join(empty)} in {', '.join(c.corpus for c in corpora)}",
            "Choose another protocol; where a corpus's own split has no development side, set "
            "split.development_speakers.",
        )
    report: dict[str, Any] = {
        "protocol": settings.protocol,
        "fold": settings.fold,
        "folds": fold_count(corpora, settings),
        "left_out": dict(left_out),
    }
    for side in _PLACES if settings.adaptation_speakers else SIDES:
        names = ("female", "male", "other", "unknown_speaker")
        report[side] = {
            "utterances": joined[side].size,
            **{name: counts[side][name] for name in names},
            "speakers": sorted(ids[side], key=natural_key),
        }
    return Split(joined[TRAIN], joined[DEVELOPMENT], joined[TEST], joined[ADAPTATION], report)


def fold_count(corpora: Sequence[CorpusColumns], settings: SplitSettings) -> int:
    """How many folds there are: `split.fold` may be 0 to this minus one.

    Args:
        corpora: The labelled corpora.
        settings: The protocol; its fold is not looked at.

    Returns:
        The number of folds that all of the corpora have.

    Raises:
        InputError: As for `make_split`, but for what depends on the fold.
    """
    _check_settings(corpora, settings)
    if settings.protocol == "corpus":
        return 1
    trained = [columns for columns in corpora if columns.corpus not in settings.test_corpora]
    return min(len(_groups(_Speakers.of(columns), settings)) for columns in trained)


def natural_key(text: str) -> tuple[list[str | tuple[int, str]], str]:
    """A sorting key under which numbers inside of `text` compare as numbers: "2" before "10", and "03" stays "03"."""
    # A number is compared by its length without leading zeros, then by its digits: no limit on how long it may be.
    parts = re.split("([0-9]+)", text)
    numbers = [(len(digits.lstrip("0")), digits.lstrip("0")) for digits in parts[1::2]]
    key: list[str | tuple[int, str]] = [parts[0]]
    for number, following in zip(numbers, parts[2::2], strict=True):
        key += [number, following]
    return key, text


_PLACES = (*SIDES, ADAPTATION)
_TRAIN, _DEVELOPMENT, _TEST, _ADAPTATION = range(4)  # places in _PLACES
_EXAMPLES = 5
_CHOICES = {
    "protocol": ("speaker_groups", "leave_one_speaker_out", "leave_one_session_out", "corpus", "cross_corpus"),
    "development": ("next", "same_session"),
    "order": ("sorted", "shuffled"),
    "unknown_speakers": ("stop", "train", "leave_out"),
}


@dataclass(frozen=True)
class _Speakers:
    """The speakers of one corpus who have rows, in natural order; elsewhere they are named by their place in `ids`."""

    corpus: str
    ids: list[str]
    gender: list[str | None]
    sessions: list[list[str]]
    of_row: NDArray[np.int64]  # (N,), -1 where the speaker is unknown

    @classmethod
    def of(cls, columns: CorpusColumns) -> "_Speakers":
        codes, values = columns.speaker
        present = sorted(codes_present(columns.speaker), key=lambda code: natural_key(values[code]))
        # One place more than there are values: there the code -1, an unknown speaker, finds its -1.
        place = np.full(len(values) + 1, -1, dtype=np.int64)
        place[present] = np.arange(len(present))
        of_row = place[codes]
        genders = _values_by_speaker(of_row, len(present), columns.gender)
        return cls(
            corpus=columns.corpus,
            ids=[values[code] for code in present],
            gender=[found[0] if found else None for found in genders],
            sessions=_values_by_speaker(of_row, len(present), columns.session),
            of_row=of_row,
        )


def codes_present(column: Codes) -> list[int]:
    """Codes of the strings that occur, ascending."""
    codes, values = column
    return np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(values))).tolist()


def _values_by_speaker(of_row: NDArray[np.int64], speakers: int, column: Codes) -> list[list[str]]:
    """The different values that each speaker's rows have in a column."""
    codes, values = column
    known = (of_row >= 0) & (codes >= 0)
    found: list[list[str]] = [[] for _ in range(speakers)]
    for pair in np.unique(of_row[known] * len(values) + codes[known]).tolist():
        speaker, code = divmod(pair, len(values))
        found[speaker].append(values[code])
    return found


def _check_settings(corpora: Sequence[CorpusColumns], settings: SplitSettings) -> None:
    for name, choices in _CHOICES.items():
        value = getattr(settings, name)
        if value not in choices:
            raise InputError(f"split.{name}={value} is not known", f"It can be {', '.join(choices)}.")
    if settings.development_speakers is not None and settings.development_speakers < 1:
        raise InputError(
            f"split.development_speakers={settings.development_speakers} leaves nobody to choose the epoch by",
            "Give 1 or more, or null for the protocol's own choice.",
        )
    if settings.development == "same_session" and not settings.protocol.startswith("leave_one_"):
        raise InputError(
            f"split.development=same_session does not go with split.protocol={settings.protocol}",
            "It belongs to leave_one_speaker_out and leave_one_session_out.",
        )
    if settings.adaptation_speakers < 0 or (settings.adaptation_speakers and settings.protocol != "cross_corpus"):
        raise InputError(
            f"split.adaptation_speakers={settings.adaptation_speakers} does not go with "
            f"split.protocol={settings.protocol}",
            "Give 0, or 1 or more with split.protocol=cross_corpus.",
        )
    names = [columns.corpus for columns in corpora]
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"the labelled corpora are [{', '.join(names)}]: a split needs at least one, and each of them once",
            "Set data.labelled; what split.test_corpora names need not be there.",
        )
    if settings.protocol != "cross_corpus":
        if settings.test_corpora:
            raise InputError(
                f"split.test_corpora={settings.test_corpora} does not go with split.protocol={settings.protocol}",
                "Give split.protocol=cross_corpus, or split.test_corpora=[].",
            )
        return
    unknown = [name for name in settings.test_corpora if name not in names]
    if unknown or not settings.test_corpora or set(names) <= set(settings.test_corpora):
        raise InputError(
            f"split.test_corpora={settings.test_corpora}: cross_corpus tests on some of the labelled corpora and "
            f"trains on the others; they are {', '.join(names)}",
            "Name some of them, not all.",
        )


def _divide(
    columns: CorpusColumns, speakers: _Speakers, settings: SplitSettings
) -> tuple[NDArray[np.int8], Counter[str]]:
    """The side of each row of a corpus, an index into `_PLACES` or -1, and how many stay out for which reason."""
    if columns.corpus in settings.test_corpora:
        return _test_on(speakers, settings)
    if settings.protocol == "corpus":
        return _own_split(columns, speakers, settings)
    sides = _hold_out(speakers, settings)
    side_of_row = np.where(speakers.of_row < 0, np.int8(_TRAIN), sides[speakers.of_row])
    return _place_unknown(side_of_row, speakers, settings, vouched_for=False)


def _test_on(speakers: _Speakers, settings: SplitSettings) -> tuple[NDArray[np.int8], Counter[str]]:
    """All of a corpus for test, but for adaptation speakers."""
    side_of_row = np.full(speakers.of_row.shape, _TEST, dtype=np.int8)
    wanted = settings.adaptation_speakers
    if not wanted:
        return side_of_row, Counter()
    if wanted >= len(speakers.ids):
        raise InputError(
            f"split.adaptation_speakers={wanted} leaves nobody to test on: {speakers.corpus} has {len(speakers.ids)} "
            "speakers",
            "Choose fewer.",
        )
    chosen = _genders_in_turn(_ordered(speakers, settings), speakers)[:wanted]
    side_of_row[np.isin(speakers.of_row, chosen)] = _ADAPTATION
    return _place_unknown(side_of_row, speakers, settings, vouched_for=False)


def _own_split(
    columns: CorpusColumns, speakers: _Speakers, settings: SplitSettings
) -> tuple[NDArray[np.int8], Counter[str]]:
    """The corpus's own split; where it has no development side, speakers of its training side make one."""
    if settings.fold != 0:
        raise _no_such_fold(columns.corpus, settings, 1)
    codes, values = columns.split
    side_of_row = np.array([*(SIDES.index(value) for value in values), -1], dtype=np.int8)[codes]
    if not (side_of_row >= 0).any():
        raise InputError(
            f"split.protocol=corpus: {columns.corpus} has no split of its own",
            "Use split.protocol=speaker_groups or leave_one_speaker_out.",
        )
    reasons = Counter({"not in the corpus's own split": int((side_of_row < 0).sum())})
    if settings.development_speakers is not None:
        if (side_of_row == _DEVELOPMENT).any():
            raise InputError(
                f"split.development_speakers={settings.development_speakers}: {columns.corpus} has a development side",
                "Give split.development_speakers=null.",
            )
        training = set(speakers.of_row[side_of_row == _TRAIN].tolist()) - {-1}
        candidates = [speaker for speaker in _ordered(speakers, settings) if speaker in training]
        chosen = _development_speakers(candidates, settings.development_speakers, speakers, settings)
        side_of_row[np.isin(speakers.of_row, chosen) & (side_of_row == _TRAIN)] = _DEVELOPMENT
    vouched_for = settings.development_speakers is None
    side_of_row, unknown = _place_unknown(side_of_row, speakers, settings, vouched_for)
    return side_of_row, reasons + unknown


def _place_unknown(
    side_of_row: NDArray[np.int8], speakers: _Speakers, settings: SplitSettings, vouched_for: bool
) -> tuple[NDArray[np.int8], Counter[str]]:
    """Leave unknown speakers on one side only.

    Args:
        side_of_row: The sides (N,), where unknown speakers have the side that they would be on.
        speakers: The corpus's speakers.
        settings: What to do with unknown speakers.
        vouched_for: Whether the corpus itself says that they are on that side.

    Returns:
        The sides, and how many rows are left out.
    """
    unknown = (speakers.of_row < 0) & (side_of_row >= 0)
    if settings.unknown_speakers == "stop":
        sides = np.unique(side_of_row[unknown])
        if sides.size == 0 or (vouched_for and sides.size == 1):
            return side_of_row, Counter()
        raise InputError(
            f"{unknown.sum()} utterances of {speakers.corpus} have no speaker, and each of them may be of a speaker on "
            f"another side (split.protocol={settings.protocol})",
            "Give split.unknown_speakers=leave_out, or split.unknown_speakers=train if you know them to be others.",
        )
    drop = unknown if settings.unknown_speakers == "leave_out" else unknown & (side_of_row != _TRAIN)
    return np.where(drop, np.int8(-1), side_of_row), Counter({"unknown speaker": int(drop.sum())})


def _hold_out(speakers: _Speakers, settings: SplitSettings) -> NDArray[np.int8]:
    """The side of each speaker when one fold is held out."""
    groups = _groups(speakers, settings)
    if not 0 <= settings.fold < len(groups):
        raise _no_such_fold(speakers.corpus, settings, len(groups))
    held_out = groups[settings.fold]
    following = groups[settings.fold + 1 :] + groups[: settings.fold]
    test = held_out
    if settings.protocol == "cross_corpus":
        test, candidates, customary = [], [*held_out, *chain(*following)], len(held_out)
    elif settings.development == "next":
        candidates, customary = list(chain(*following)), len(following[0])
    elif settings.protocol == "leave_one_session_out":
        candidates, customary = held_out, 1
    else:
        sessions = set(chain(*(speakers.sessions[speaker] for speaker in held_out)))
        candidates = [speaker for speaker in chain(*following) if sessions.intersection(speakers.sessions[speaker])]
        customary = len(candidates)
    wanted = customary if settings.development_speakers is None else settings.development_speakers
    sides = np.full(len(speakers.ids), _TRAIN, dtype=np.int8)
    sides[test] = _TEST
    sides[_development_speakers(candidates, wanted, speakers, settings)] = _DEVELOPMENT
    needed = (_TRAIN, _DEVELOPMENT, _TEST) if test else (_TRAIN, _DEVELOPMENT)
    missing = [SIDES[side] for side in needed if side not in sides]
    if missing:
        raise InputError(
            f"{_where(settings)}: no speaker of {speakers.corpus} is left for {' and '.join(missing)}",
            "Give more folds (split.folds) or fewer development speakers (split.development_speakers).",
        )
    return sides


def _groups(speakers: _Speakers, settings: SplitSettings) -> list[list[int]]:
    """The folds: for each, the speakers who are held out together."""
    if not speakers.ids:
        raise InputError(
            f"split.protocol={settings.protocol} needs speakers, and {speakers.corpus} has none",
            "Use split.protocol=corpus if the corpus has a split of its own.",
        )
    if "session" in settings.protocol or settings.development == "same_session":
        without = [name for name, sessions in zip(speakers.ids, speakers.sessions, strict=True) if not sessions]
        if without:
            raise InputError(
                f"{_where(settings)} needs sessions, and {speakers.corpus} has none for {_some(without)}",
                "Use split.protocol=speaker_groups or leave_one_speaker_out, with split.development=next.",
            )
    order = _ordered(speakers, settings)
    if settings.protocol == "leave_one_session_out":
        groups = _sessions(speakers, order)
    elif settings.protocol == "leave_one_speaker_out":
        groups = [[speaker] for speaker in order]
    else:
        groups = _cut(speakers, order, settings)
    if len(groups) < 2:
        raise InputError(
            f"{_where(settings)}: {speakers.corpus} has only one speaker or session, so nothing can be held out",
            "Use another protocol or more of the corpus.",
        )
    return groups


def _sessions(speakers: _Speakers, order: list[int]) -> list[list[int]]:
    several = [name for name, sessions in zip(speakers.ids, speakers.sessions, strict=True) if len(sessions) > 1]
    if several:
        raise InputError(
            f"split.protocol=leave_one_session_out: {_some(several)} of {speakers.corpus} speak in several sessions, "
            "so sessions do not keep speakers apart",
            "Use split.protocol=speaker_groups or leave_one_speaker_out.",
        )
    sessions = sorted({session for found in speakers.sessions for session in found}, key=natural_key)
    return [[speaker for speaker in order if speakers.sessions[speaker] == [session]] for session in sessions]


def _cut(speakers: _Speakers, order: list[int], settings: SplitSettings) -> list[list[int]]:
    """Groups of speakers whose sizes differ by one at most: pieces of the order, or dealt out gender by gender."""
    folds = settings.folds
    if not 2 <= folds <= len(order):
        raise InputError(
            f"split.folds={folds} does not go with the {len(order)} speakers of {speakers.corpus}",
            f"Give split.folds from 2 to {len(order)}." if len(order) > 1 else "Use a corpus with more speakers.",
        )
    if not settings.balance_gender:
        return [piece.tolist() for piece in np.array_split(order, folds)]
    by_gender = sorted(order, key=lambda speaker: speakers.gender[speaker] or "")
    return [sorted(by_gender[fold::folds], key=order.index) for fold in range(folds)]


def _ordered(speakers: _Speakers, settings: SplitSettings) -> list[int]:
    places = list(range(len(speakers.ids)))
    if settings.order == "sorted":
        return places
    # Hashes and not a random generator: the order survives new versions of numpy, and a speaker more in the corpus
    # leaves the others in their order.
    return sorted(places, key=lambda place: hashlib.sha256(f"{settings.seed} {speakers.ids[place]}".encode()).digest())


def _development_speakers(
    candidates: list[int], wanted: int, speakers: _Speakers, settings: SplitSettings
) -> list[int]:
    """The first `wanted` candidates, genders in turn."""
    if not 1 <= wanted <= len(candidates):
        raise InputError(
            f"{_where(settings)}: {max(wanted, 1)} development speakers are wanted, and {speakers.corpus} has "
            f"{len(candidates)} who could be",
            "Choose split.development_speakers, split.development or split.protocol to fit.",
        )
    return _genders_in_turn(candidates, speakers)[:wanted]


def _genders_in_turn(candidates: list[int], speakers: _Speakers) -> list[int]:
    """The first candidate of each gender, then the second of each, and so on."""
    seen = Counter[str | None]()
    turns = []
    for speaker in candidates:
        turns.append(seen[speakers.gender[speaker]])
        seen[speakers.gender[speaker]] += 1
    by_turn = sorted(range(len(candidates)), key=turns.__getitem__)
    return [candidates[index] for index in by_turn]


def _no_such_fold(corpus: str, settings: SplitSettings, folds: int) -> InputError:
    valid = f"from 0 to {folds - 1}" if folds > 1 else "0"
    return InputError(
        f"split.fold={settings.fold} does not exist: {corpus} has {folds} fold{'s' * (folds > 1)} with "
        f"split.protocol={settings.protocol}",
        f"Give split.fold={valid}." if folds == 1 else f"Give split.fold {valid}.",
    )


def _where(settings: SplitSettings) -> str:
    return f"split.protocol={settings.protocol}, split.fold={settings.fold}, split.development={settings.development}"


def _some(names: list[str]) -> str:
    more = len(names) - _EXAMPLES
    return ", ".join(names[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
