"""Recordings: headers and bodies of every format that libsndfile writes."""

import random
from pathlib import Path

import soundfile

from datamodules.audit import AuditSettings, Inspection, inspect_segment
from datamodules.collection import Span
from datamodules.errors import InputError
from datamodules.speech import BadAudioError, Files
from tests import fakes
from tests.fuzzing.breaking import BYTES, broken
from tests.fuzzing.kind import Act


def write_audio(seeds: Path) -> None:
    """A file of each format and coding that libsndfile writes."""
    speech = fakes.speech("fuzz", seconds=0.4, rate=16_000)
    for container in sorted(set(soundfile.available_formats()) - {"RAW"}):
        for coding in soundfile.available_subtypes(container):
            file = seeds / f"{container}-{coding}.{container.lower()}"
            try:
                soundfile.write(file, speech, 16_000, subtype=coding, format=container)
                soundfile.info(file)
            except (soundfile.LibsndfileError, TypeError, ValueError):  # RAW, and codings for other rates
                file.unlink(missing_ok=True)


def break_audio(draw: random.Random, seeds: Path, place: Path) -> Act:
    file = place / draw.choice(sorted(seeds.iterdir())).name
    content = (seeds / file.name).read_bytes()
    if draw.random() < 0.05:  # one format's beginning before another's end
        other = draw.choice(sorted(seeds.iterdir())).read_bytes()
        content = content[: draw.choice((12, 40, 100))] + other
    file.write_bytes(broken(content, draw, BYTES))
    span = draw.choice(((0.0, None), (0.0, None), (0.05, 0.2), (0.3, 5.0)))
    settings = AuditSettings(hash_content=draw.random() < 0.7)

    def act() -> None:
        found = inspect_segment(str(place), (file.name, *span), settings)
        # A file may also change after it was inspected.
        start, end = (found.speech_start, found.speech_end) if isinstance(found, Inspection) else (0.0, 0.4)
        try:
            Files(place, 16_000).read(Span(0, 0, file.name, start, end), 0.0, end - start)
        except BadAudioError as error:
            if not isinstance(found, Inspection):
                raise InputError(str(found)) from error

    return act
