"""Small data that rows make themselves, so that they need no corpus."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from datamodules.datamodule import SpeechDataModule
from datamodules.settings import AuxiliarySettings, CorpusSettings, DataSettings
from datamodules.splits import SplitSettings
from experiments.bench.core import Bench

SAMPLE_RATE = 16_000
CLASSES = {"angry": "anger", "happy": "happiness"}
SPEAKERS = 6
SECONDS = 3.0
TABLE = "labels.csv"


def labelled(bench: Bench) -> Path:
    """A labelled corpus of noise, described by a table: a data module needs one; made unless it is there."""
    root = bench.scratch / "labelled"
    if root.is_dir():
        return root
    draft = root.with_name("labelled-draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    rng = np.random.default_rng(0)
    with (draft / TABLE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "speaker", "emotion"])
        for speaker in range(SPEAKERS):
            for name, emotion in CLASSES.items():
                path = f"{speaker}-{name}.flac"
                soundfile.write(draft / path, rng.normal(0, 0.1, round(SECONDS * SAMPLE_RATE)), SAMPLE_RATE)
                table.writerow([path, speaker, emotion])
    draft.rename(root)  # the last: a corpus is whole or not there
    return root


def mixed(bench: Bench, corpus: str, where: CorpusSettings, quota: int, role: str, **settings: Any) -> SpeechDataModule:
    """A data module, set up, whose batches hold one labelled utterance of noise and ``quota`` of another corpus.

    Args:
        bench: Knows the scratch folder.
        corpus: The other corpus's name.
        where: Where it is, and its reader.
        quota: Its utterances in a batch.
        role: Its role, ``speaker`` or ``unlabelled``.
        settings: Of the data; see ``DataSettings``.
    """
    own = CorpusSettings(root=str(labelled(bench)), reader="table", options={"path": TABLE})
    data = SpeechDataModule(
        DataSettings(
            cache=str(bench.scratch / "cache"),
            corpora={"noise": own, corpus: where},
            labelled=["noise"],
            auxiliary=[AuxiliarySettings(corpus, role, quota, hash_content=False)],
            classes={name: [emotion] for name, emotion in CLASSES.items()},
            quota=1,
            decoded_gb=0,  # as for a corpus that is too large to be decoded once
            **settings,
        ),
        SplitSettings(protocol="speaker_groups", folds=3),
        SAMPLE_RATE,
        seed=0,
    )
    data.prepare_data()
    data.setup()
    return data
