"""Writers of small corpora in the layouts of the real ones, and of the faults that real ones have.

The speech is short, voiced, not silent, and the same on every machine; its pitch and level depend on the emotion, its
timbre on the speaker, so that there is something to learn.
"""

from tests.fakes.acted import (
    CREMAD_EMOTIONS,
    EMODB_EMOTIONS,
    EMODB_SPEAKERS,
    NEMO_EMOTIONS,
    RAVDESS_EMOTIONS,
    cremad,
    emodb,
    nemo,
    ravdess,
)
from tests.fakes.auxiliary import folder, librispeech, voxceleb1, voxceleb2
from tests.fakes.conversations import iemocap, msp_improv
from tests.fakes.faults import (
    duplicate,
    empty,
    hide_double,
    make_stereo,
    plant_all,
    plant_nan,
    promise_bytes,
    resave,
    shorten,
    silence,
    truncate,
)
from tests.fakes.podcast import PODCAST_EMOTIONS, PODCAST_SPLITS, msp_podcast
from tests.fakes.sound import SILENT_ENDS, Samples, speech, write
from tests.fakes.tables import audformat_database, audformat_table, table

__all__ = [
    "CREMAD_EMOTIONS",
    "EMODB_EMOTIONS",
    "EMODB_SPEAKERS",
    "NEMO_EMOTIONS",
    "PODCAST_EMOTIONS",
    "PODCAST_SPLITS",
    "RAVDESS_EMOTIONS",
    "SILENT_ENDS",
    "Samples",
    "audformat_database",
    "audformat_table",
    "cremad",
    "duplicate",
    "emodb",
    "empty",
    "folder",
    "hide_double",
    "iemocap",
    "librispeech",
    "make_stereo",
    "msp_improv",
    "msp_podcast",
    "nemo",
    "plant_all",
    "plant_nan",
    "promise_bytes",
    "ravdess",
    "resave",
    "shorten",
    "silence",
    "speech",
    "table",
    "truncate",
    "voxceleb1",
    "voxceleb2",
    "write",
]
