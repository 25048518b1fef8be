"""The corpora of an experiment: where they are, what they hold, and their speech, from files or packs."""

import difflib
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from datamodules.building import build_manifest, check_usable
from datamodules.collection import Collection
from datamodules.corpora import CORPORA, MissingCorpusError, all_missing, find_root, make_reader
from datamodules.corpora.base import Reader
from datamodules.decoding import decode_corpus
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from datamodules.packing import Pack
from datamodules.settings import AuxiliarySettings, CorpusSettings, DataSettings
from datamodules.speech import Files, Source


class Gathering:
    """Gathers the corpora of an experiment.

    Args:
        settings: See ``DataSettings``.
        divided: The corpora that are trained on with labels, developed on or tested on.
        auxiliary: The others, for training only.

    Attributes:
        readers: Of all corpora, by name.
    """

    def __init__(self, settings: DataSettings, divided: Sequence[str], auxiliary: Sequence[AuxiliarySettings]) -> None:
        self.settings = settings
        self.divided = divided
        self.auxiliary = auxiliary
        names = [*divided, *(one.corpus for one in auxiliary)]
        self.readers = {name: self._reader(name) for name in dict.fromkeys(names)}

    def settings_of(self, corpus: str) -> CorpusSettings:
        """Those of a corpus, or what they are by themselves."""
        return self.settings.corpora.get(corpus, CorpusSettings())

    def build(self, rebuild: bool = False) -> Collection:
        """The corpora of the experiment, from their manifests or packs; makes manifests that are not there.

        Raises:
            InputError: A corpus is missing (all that are, in one message), empty, or has too many bad files.
        """
        roots = self.roots()
        # A corpus may play two parts: it is hashed if one of them wants it.
        hashed = {one.corpus for one in self.auxiliary if one.hash_content}
        hashed |= {*self.divided}
        manifests = []
        for name, reader in self.readers.items():
            if name in self.packs:
                self.packs[name].check(reader, name in hashed)
                manifest = self.packs[name].manifest
                check_usable(manifest, self.settings.max_bad_fraction)
            else:
                manifest = build_manifest(
                    reader,
                    roots[name],
                    Path(self.settings.cache),
                    hash_content=name in hashed,
                    max_bad_fraction=self.settings.max_bad_fraction,
                    rebuild=rebuild,
                )
            manifests.append(manifest)
        return Collection(manifests)

    @cached_property
    def packs(self) -> dict[str, Pack]:
        """The corpora that are read from packs.

        Raises:
            InputError: A pack that is named is none, or is damaged, or the folder of packs has none of the corpora.
        """
        folder = Path(self.settings.packed).expanduser() if self.settings.packed else None
        packs = {}
        for name in self.readers:
            if own := self.settings_of(name).packed:
                packs[name] = Pack(Path(own))
            elif folder and os.path.lexists(folder / name):
                packs[name] = Pack(folder / name)
        if folder and not any(os.path.lexists(folder / name) for name in self.readers):
            raise InputError(
                f"data.packed: {folder} has no pack of {', '.join(self.readers)}", "`make pack` writes packs."
            )
        return packs

    def roots(self) -> dict[str, Path]:
        """Folders of the corpora that are not read from packs.

        Raises:
            InputError: A corpus is missing (all that are, in one message), or a pack that is named is none.
        """
        cache = Path(self.settings.cache)
        roots, missing = {}, []
        for name, reader in self.readers.items():
            if name in self.packs:
                continue
            try:
                roots[name] = find_root(reader, self.settings_of(name).root, self.settings.root, made_in=cache)
            except MissingCorpusError as error:
                missing.append(error)
        if missing:
            raise self._explained(missing)
        return roots

    def source(self, manifest: Manifest, sample_rate: int, decode: bool) -> Source:
        """The speech of a corpus.

        Args:
            manifest: Its manifest.
            sample_rate: The wanted one, in Hz.
            decode: Whether all of it is decoded, once, to the cache.
        """
        if manifest.corpus in self.packs:
            source: Source = self.packs[manifest.corpus].source(sample_rate)
        else:
            source = Files(manifest.root, sample_rate)
        if not decode:
            return source
        return decode_corpus(manifest, source, sample_rate, Path(self.settings.cache))

    def _reader(self, corpus: str) -> Reader:
        settings = self.settings_of(corpus)
        if not settings.reader:
            return make_reader(corpus, settings.options)
        return make_reader(settings.reader, settings.options | {"corpus": corpus})

    def _explained(self, missing: list[MissingCorpusError]) -> InputError:
        """One error for all that is missing, and which of it could be done without."""
        together = all_missing(missing)
        names = {error.corpus for error in missing} - {*self.divided}
        if not names:
            return together
        left = [one for one in self.auxiliary if one.corpus not in names]
        entries = ", ".join(f"{{corpus: {one.corpus}, role: {one.role}, quota: {one.quota}}}" for one in left)
        setting = shlex.quote(f"data.auxiliary=[{entries}]") if entries else "data.auxiliary=[]"  # as for the shell
        without = f"{', '.join(sorted(names))} is auxiliary speech; to train without it: {setting}"
        return InputError(together.problem, f"{together.remedy};\n  {without}")


def check_corpora(corpora: Mapping[str, CorpusSettings], used: Sequence[str]) -> None:
    """Refuses settings of corpora that do not exist, and exclusions that would not happen.

    Args:
        corpora: Settings by corpus, as ``data.corpora`` has them.
        used: The corpora of the experiment.

    Raises:
        InputError: There is one.
    """
    for name, settings in corpora.items():
        if name in used:
            continue
        known = [*CORPORA, *used]
        if name not in known and not settings.reader:
            near = difflib.get_close_matches(name, known, 3)
            raise InputError(
                f"data.corpora.{name}: there is no corpus of that name",
                f"Did you mean: {', '.join(near)}?" if near else f"There are: {', '.join(dict.fromkeys(known))}.",
            )
        if settings.exclude_speakers:
            raise InputError(
                f"data.corpora.{name}.exclude_speakers: the experiment does not use {name}",
                f"It uses: {', '.join(dict.fromkeys(used))}.",
            )
