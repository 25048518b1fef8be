"""The registry of corpora, and where to find them on disk.

To add a corpus: write its reader in a file of its own and add its line here.
"""

import difflib
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.corpora.audformat_database import AudformatDatabase
from datamodules.corpora.base import Reader
from datamodules.corpora.cremad import Cremad
from datamodules.corpora.demo import Demo, DemoSpeakers, DemoUnlabelled
from datamodules.corpora.emodb import Emodb
from datamodules.corpora.folder import Folder
from datamodules.corpora.iemocap import Iemocap
from datamodules.corpora.librispeech import LibriSpeech
from datamodules.corpora.msp_improv import MspImprov
from datamodules.corpora.msp_podcast import MspPodcast
from datamodules.corpora.nemo import Nemo
from datamodules.corpora.ravdess import Ravdess
from datamodules.corpora.table import Table
from datamodules.corpora.voxceleb import VoxCeleb1, VoxCeleb2
from datamodules.errors import InputError

CORPORA: dict[str, type[Reader]] = {
    "demo": Demo,
    "demo_speakers": DemoSpeakers,
    "demo_unlabelled": DemoUnlabelled,
    "iemocap": Iemocap,
    "msp_improv": MspImprov,
    "msp_podcast": MspPodcast,
    "cremad": Cremad,
    "emodb": Emodb,
    "ravdess": Ravdess,
    "nemo": Nemo,
    "librispeech": LibriSpeech,
    "voxceleb1": VoxCeleb1,
    "voxceleb2": VoxCeleb2,
    "audformat": AudformatDatabase,
    "folder": Folder,
    "table": Table,
}


def make_reader(name: str, options: Mapping[str, Any] | None = None) -> Reader:
    """Makes a corpus's reader from its name and its options.

    Raises:
        InputError: If there is no such corpus or option.
    """
    if name not in CORPORA:
        near = difflib.get_close_matches(name, CORPORA, 1)
        guess = f"did you mean '{near[0]}'? " if near else ""
        raise InputError(f"there is no corpus '{name}'", f"{guess}there are: {', '.join(CORPORA)}")
    reader = CORPORA[name]
    known = inspect.signature(reader).parameters
    given = dict(options or {})
    for option, value in given.items():
        if option not in known:
            remedy = f"its options are: {', '.join(known)}" if known else "it has no options"
            raise InputError(f"corpus '{name}' has no option '{option}'", remedy)
        # A single name is a list of one: subsets=train-clean-100.
        if isinstance(known[option].default, tuple) and isinstance(value, str):
            given[option] = (value,)
        if wanted := _wanted_instead(given[option], known[option].default):
            raise InputError(f"data.corpora.{name}.options.{option} is {value!r}", f"give {wanted}")
    return reader(**given)


def _wanted_instead(value: Any, default: Any) -> str | None:
    """What an option must be, if its value is not of the kind of its default."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, str):
        return None if isinstance(value, str) else "a word or a path; one that looks like a number needs quotes"
    if isinstance(default, tuple):
        words = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
        return None if words else "a list of words, as in [a, b]; those that look like numbers need quotes"
    return None


class MissingCorpusError(InputError):
    """A corpus's root folder was not found.

    Attributes:
        corpus: Its name.
        places: Everything that was looked at.
        how_to_get: One sentence.
    """

    def __init__(self, corpus: str, places: Sequence[str], how_to_get: str) -> None:
        self.corpus, self.places, self.how_to_get = corpus, list(places), how_to_get
        looked = ", ".join(self.places) or "nowhere, since no folder is configured"
        super().__init__(
            f"corpus '{corpus}' was not found; looked for: {looked}",
            f"to get it: {how_to_get}; then set data.root, SER_AAE_DATA or {_variable(corpus)}",
        )


def all_missing(missing: Sequence[MissingCorpusError]) -> InputError:
    """Makes one error of all the corpora that were not found."""
    if len(missing) == 1:
        return missing[0]
    lines = [f"{len(missing)} corpora were not found:"]
    for error in missing:
        lines.append(f"  {error.corpus}: looked for {', '.join(error.places) or 'nothing'}")
        lines.append(f"    to get it: {error.how_to_get}")
    return InputError("\n".join(lines), "then set data.root or SER_AAE_DATA to the folder that holds them")


def find_root(
    reader: Reader | type[Reader],
    configured: str | None = None,
    data_root: str | None = None,
    made_in: Path | None = None,
) -> Path:
    """Finds a corpus's root folder.

    Looks at, in this order: the corpus's own setting, the variable `SER_AAE_<CORPUS>_ROOT`, where the reader's options
    say it is, then `data.root` and the variable `SER_AAE_DATA`, each of which is the corpus's folder or holds it. Names
    of folders are compared without regard to capitals and to what stands between their words.

    Args:
        reader: The reader or its class.
        configured: The corpus's own setting; it must exist when it is given.
        data_root: The setting `data.root`.
        made_in: Folder in which a corpus that makes itself may do so when it is found nowhere.

    Raises:
        MissingCorpusError: If it is in none of these places.
    """
    corpus = reader.corpus if isinstance(reader, Reader) else reader.name
    makes_itself = (reader if isinstance(reader, type) else type(reader)).prepare is not Reader.prepare
    for explicit, source in ((configured, "its root setting"), (os.environ.get(_variable(corpus)), _variable(corpus))):
        if explicit:
            root = Path(explicit).expanduser()
            if root.is_dir() or (makes_itself and not root.exists()):
                return root
            # A place that was named on purpose and is wrong is never replaced by another one.
            raise MissingCorpusError(corpus, [f"{root} ({source})"], _how_to_get(reader))
    if isinstance(reader, Reader) and (own := reader.own_root()):
        return own
    places = []
    for holder, source in ((data_root, "data.root"), (os.environ.get("SER_AAE_DATA"), "SER_AAE_DATA")):
        if not holder or not reader.folders:
            continue
        base = Path(holder).expanduser()
        if found := _folder(base, reader.folders):
            return found
        spelt = {_letters(folder): folder for folder in reversed(reader.folders)}
        places.append(f"{base / '|'.join(reversed(spelt.values()))} ({source})")
    if makes_itself and made_in is not None:
        return made_in / (reader.folders[0] if reader.folders else corpus)
    raise MissingCorpusError(corpus, places, _how_to_get(reader))


def _how_to_get(reader: Reader | type[Reader]) -> str:
    for name in reader.downloads:
        return f"make data CORPUS={name}, or {reader.how_to_get}"
    return reader.how_to_get


def _folder(base: Path, names: Sequence[str]) -> Path | None:
    """The first of the named folders that lies in `base`, however it is spelt, or else `base` if it has such a name."""
    if not base.is_dir():
        return None
    visible = [entry for entry in sorted(base.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]
    there = {_letters(entry.name): entry for entry in reversed(visible)}
    for name in names:
        if (base / name).is_dir():
            return base / name
        if found := there.get(_letters(name)):
            return found
    return base if _letters(base.resolve().name) in map(_letters, names) else None


def _letters(name: str) -> str:
    """What is left of a folder's name where people write it in capitals or not, with `-`, `_` or nothing between."""
    return re.sub(r"[\W_]", "", name).lower()


def _variable(corpus: str) -> str:
    return f"SER_AAE_{corpus.upper().replace('-', '_').replace('.', '_')}_ROOT"
