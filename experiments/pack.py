"""Packs the corpora of an experiment into few large files each."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import InputError
from experiments.config import load

FOLDER = "pack"
SIZE = "shard_gb"
SHARD_GB = 1.0


def pack(experiment: str, settings: Sequence[str] = ()) -> Path:
    """Packs every corpus of an experiment; says where, and how to train from there.

    Args:
        experiment: Name of an experiment that ships, or the path of a YAML file.
        settings: ``pack=<folder>``, where wanted ``shard_gb=<size of a shard>``, and settings of the experiment.

    Returns:
        The folder of the packs.

    Raises:
        InputError: A setting or a corpus cannot be used, or the folder cannot be written.
    """
    folder, shard_bytes, others = _own(settings)
    config = load(experiment, others)
    if config.data.packed or any(one.packed for one in config.data.corpora.values()):
        raise InputError("packs are made of the corpora themselves, not of packs", "leave the settings packed out")
    # Only now: what is wrong with the settings is told before anything heavy is imported.
    from datamodules.datamodule import SpeechDataModule
    from datamodules.packing import pack_corpus

    data = SpeechDataModule(
        config.data, config.split, config.model.features.sample_rate, config.seed, config.model.tasks
    )
    for manifest in data.gathering.build(config.data.rebuild).manifests:
        place = pack_corpus(manifest, folder, shard_bytes)
        told = "is there already" if place is None else f"holds {len(manifest)} utterances"
        print(f"{manifest.corpus}: {folder / manifest.corpus} {told}", flush=True)
    arguments = shlex.join([f"data.packed={folder}", *others])
    print(f"next: make train EXP={experiment} ARGS={shlex.quote(arguments)}", flush=True)
    return folder


def _own(settings: Sequence[str]) -> tuple[Path, int, list[str]]:
    """Folder and bytes of a shard, and the settings of the experiment."""
    given = {FOLDER: "", SIZE: str(SHARD_GB)}
    others = []
    for setting in settings:
        key, _, value = setting.partition("=")
        if key in given:
            given[key] = value
        else:
            others.append(setting)
    if not given[FOLDER]:
        raise InputError(f"the folder for the packs is missing: {FOLDER}", f"Give {FOLDER}=<folder>.")
    try:
        shard_bytes = round(float(given[SIZE]) * 1e9)
    except (ValueError, OverflowError):
        shard_bytes = 0
    if shard_bytes < 1:
        raise InputError(f"{SIZE} is {given[SIZE]}", "Give a size in GB above 0.")
    return Path(given[FOLDER]).expanduser().resolve(), shard_bytes, others
