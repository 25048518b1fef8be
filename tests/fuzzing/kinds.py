"""The kinds of input that strangers hand out: how each is made whole, broken, and read as the product reads it."""

from collections.abc import Mapping

import datamodules.audio  # noqa: F401 - what loads late would be taken for what a case does
from tests.fuzzing import audio, caches, corpora, runs, settings
from tests.fuzzing.kind import Kind, Simple


def _by_name(*kinds: Kind) -> Mapping[str, Kind]:
    return {kind.name: kind for kind in kinds}


KINDS = _by_name(
    Simple("audio", audio.write_audio, audio.break_audio),
    corpora.Annotations(),
    Simple("tables", corpora.write_tables, corpora.break_table),
    Simple("yaml", settings.write_yaml, settings.break_yaml),
    Simple("manifests", caches.write_manifests, caches.break_manifest),
    Simple("packs", caches.write_packs, caches.break_pack),
    Simple("decoded", caches.write_decoded, caches.break_decoded),
    Simple("checkpoints", runs.write_runs, runs.break_checkpoint),
    Simple("runs", runs.write_runs, runs.break_run),
)
