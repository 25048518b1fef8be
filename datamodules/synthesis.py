"""Speech with a given prosody, voice quality and recording channel, spoken by eSpeak NG.

eSpeak NG (GPL) is reached through the package `espeakng-loader`, which brings the library and its data. It is imported
only when speech is made: an extra that the demo needs, not a part of this library. eSpeak hands over its samples, no
sound card is involved. Pitch, range and rate are its own parameters; voice quality and channel are added with numpy.
"""

import ctypes
import io
import multiprocessing
import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from datamodules.errors import InputError

SAMPLE_RATE = 16_000
"""Of the finished recordings, in Hz."""

Samples = NDArray[np.float64]
_REMEDY = (
    "install it with `pip install espeakng-loader` (wheels for Linux, macOS and Windows), or choose another corpus"
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one sentence is spoken and recorded.

    Args:
        text: What is said.
        voice: eSpeak's voice and variant, as in `en-us+f3`.
        pitch: Semitones by which the lower end of the pitch range is above the variant's own.
        span: Octaves (log2 of the factor) by which the pitch range is wider than the variant's own.
        rate: Words a minute.
        tract: Factor on all resonances; above 1 is a shorter vocal tract. Pitch and rate stay as asked for.
        tilt: Slope added to the spectrum, in dB per octave; negative is duller.
        breath: Level of the breath noise below the voice, in dB (negative).
        roughness: Depth of a fast irregular beat of the amplitude, 0 to 1.
        level: Root mean square of the recording, in dB of full scale.
        snr: Level of speech above the room's noise, in dB.
        colour: Decibels of the ripples in the frequency response of microphone and room, from broad to fine.
        seed: Of the breath, the beat and the room's noise.
    """

    text: str
    voice: str
    pitch: float
    span: float
    rate: float
    tract: float
    tilt: float
    breath: float
    roughness: float
    level: float
    snr: float
    colour: tuple[float, ...]
    seed: int


class Espeak:
    """eSpeak NG in this process. Its state is global: have one per process.

    The state also outlives an utterance (flutter and noise go on where they stopped): the same utterances in the same
    order from a fresh process give the same samples, in another order they do not.

    Raises:
        InputError: espeakng-loader is not installed, or its library does not load or start on this machine.
    """

    # From eSpeak's public header, speak_lib.h: output mode, options, parameters and flags.
    _SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
    _BUFFER = 1000  # milliseconds a callback
    _RATE, _PITCH, _RANGE = 1, 3, 4
    _POSITION_CHARACTER, _UTF8 = 1, 1
    _LONGEST_PATH = 150  # it keeps 160 characters of the path of its data
    _Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def __init__(self) -> None:
        self._library, data = _load()
        self._variants = Path(data, "voices", "!v")
        if len(os.fsencode(data)) > self._LONGEST_PATH:
            folder = mkdtemp(prefix="espeak-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            data = str(Path(folder, "espeak-ng-data"))
            Path(data).symlink_to(self._variants.parents[1], target_is_directory=True)
        self.sample_rate: int = self._library.espeak_Initialize(
            self._SYNCHRONOUS, self._BUFFER, os.fsencode(data), self._DONT_EXIT
        )
        if self.sample_rate <= 0:
            raise InputError(f"eSpeak NG does not start with its data in {self._variants.parents[1]}", _REMEDY)
        self._chunks = chunks = list[NDArray[np.int16]]()

        def receive(samples: Any, count: int, _events: int | None) -> int:
            if samples and count > 0:
                chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        self._callback = self._Callback(receive)  # kept: eSpeak holds only a bare pointer to it
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, pitch: float, span: float, rate: float) -> Samples:
        """Speaks a text.

        Args:
            text: What is said.
            voice: eSpeak's voice and variant.
            pitch: As in `Delivery`; at most an octave either way is heard.
            span: As in `Delivery`; at most an octave more is heard.
            rate: Words a minute; at least 80 and at most 450 are heard.

        Returns:
            Samples, shape (time,), in [-1, 1], at `self.sample_rate`.

        Raises:
            InputError: eSpeak does not have this voice, or said nothing.
        """
        variant = voice.partition("+")[2]  # eSpeak passes over one that it does not have
        known = not variant or (self._variants / variant).is_file()
        if not known or self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise InputError(f"eSpeak NG has no voice {voice!r}", "update it with `pip install -U espeakng-loader`")
        parameters = {
            self._RATE: np.clip(rate, 80, 450),
            self._PITCH: np.clip(50 + 50 * pitch / 12, 0, 99),  # eSpeak's table: 0 an octave below, 100 an octave above
            self._RANGE: np.clip(50 * 2**span, 0, 99),
        }
        for parameter, value in parameters.items():
            self._library.espeak_SetParameter(parameter, round(float(value)), 0)
        self._chunks.clear()
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, self._POSITION_CHARACTER, 0, self._UTF8, None, None)
        if not any(chunk.any() for chunk in self._chunks):
            raise InputError(f"eSpeak NG made no sound of {text!r} with voice {voice!r}", _REMEDY)
        return np.concatenate(self._chunks) / 32768.0


def _load() -> tuple[ctypes.CDLL, str]:
    """Loads the library; returns it and the folder of its data."""
    try:
        import espeakng_loader  # lazily: GPL, and only the demo needs it

        return ctypes.CDLL(espeakng_loader.get_library_path()), espeakng_loader.get_data_path()
    except ImportError as error:
        raise InputError(
            "the demo's speech needs the package espeakng-loader, which is not installed", _REMEDY
        ) from error
    except (OSError, RuntimeError) as error:
        raise InputError(f"eSpeak NG does not load on this machine: {error}", _REMEDY) from error


def perform(delivery: Delivery, espeak: Espeak) -> Samples:
    """One utterance, spoken and recorded.

    Returns:
        Samples, shape (time,), in (-1, 1), at `SAMPLE_RATE`.
    """
    rng = np.random.default_rng(delivery.seed)
    # The resonances are moved by playing the samples faster; pitch and rate are asked for lower by as much.
    pitch, rate = delivery.pitch - 12 * np.log2(delivery.tract), delivery.rate / delivery.tract
    voice = espeak.say(delivery.text, delivery.voice, pitch, delivery.span, rate)
    voice = _roughen(voice, delivery.roughness, espeak.sample_rate, rng)
    voice = _breathe(voice, delivery.breath, espeak.sample_rate, rng)
    voice = _filter_and_resample(voice, delivery, espeak.sample_rate * delivery.tract)
    return _record(voice, delivery.level, delivery.snr, rng)


def _roughen(voice: Samples, depth: float, sample_rate: int, rng: np.random.Generator) -> Samples:
    """Beats the amplitude at 25 to 40 Hz, irregularly: the range of modulation that is heard as roughness."""
    knots = np.arange(0, len(voice) + 1000, 1000)
    hertz = np.interp(np.arange(len(voice)), knots, rng.uniform(25, 40, len(knots)))
    beat = np.sin(2 * np.pi * np.cumsum(hertz) / sample_rate)
    return np.asarray(voice * (1 + depth * beat))


def _breathe(voice: Samples, level: float, sample_rate: int, rng: np.random.Generator) -> Samples:
    """Adds noise that follows the voice's envelope and rises by 6 dB per octave (a first difference of white noise)."""
    window = sample_rate // 50
    total = np.cumsum(np.pad(np.abs(voice), (window - window // 2, window // 2)))
    envelope = (total[window:] - total[:-window]) / window
    return np.asarray(voice + 10 ** (level / 20) * envelope * np.diff(rng.standard_normal(len(voice) + 1)))


def _filter_and_resample(voice: Samples, delivery: Delivery, sample_rate: float) -> Samples:
    """Spectral tilt, channel colour and the change to `SAMPLE_RATE`, all in the Fourier domain."""
    grid = np.geomspace(60, SAMPLE_RATE / 2, 256)
    decibels = delivery.tilt * np.log2(grid / 1000)
    for ripple, height in enumerate(delivery.colour, 1):
        decibels += height * np.cos(np.pi * ripple * np.linspace(0, 1, len(grid)))
    before = _quick_length(len(voice) + 2048)  # silence at the end, so that nothing wraps round
    after = _quick_length(round(before * SAMPLE_RATE / sample_rate / 2)) * 2
    spectrum = np.fft.rfft(voice, before)
    spectrum *= np.interp(np.fft.rfftfreq(before, 1 / sample_rate), grid, 10 ** (decibels / 20))
    spectrum = np.pad(spectrum, (0, max(0, after // 2 + 1 - len(spectrum))))[: after // 2 + 1]
    return np.asarray(np.fft.irfft(spectrum, after)[: len(voice) * after // before])


def _quick_length(least: int) -> int:
    """The next length whose prime factors are small: Fourier transforms of other lengths take many times longer."""
    length = least
    while True:
        rest = length
        for prime in (2, 3, 5, 7, 11):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def _record(voice: Samples, level: float, snr: float, rng: np.random.Generator) -> Samples:
    """Sets the level, leaves a moment around the speech, and adds the room's noise (falling by 3 dB per octave)."""
    voice = voice / np.sqrt(np.mean(voice**2)) * 10 ** (level / 20)
    voice = np.pad(voice, tuple(rng.integers(SAMPLE_RATE // 20, SAMPLE_RATE // 4, 2)))
    length = _quick_length(len(voice))
    spectrum = np.fft.rfft(rng.standard_normal(length))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 50), length)[: len(voice)]
    recording = voice + noise / np.sqrt(np.mean(noise**2)) * 10 ** ((level - snr) / 20)
    return np.asarray(recording / max(1.0, np.abs(recording).max() / 0.98))


def record_all(sessions: Sequence[Sequence[tuple[Path, Delivery]]]) -> Iterator[None]:
    """Speaks and writes many utterances as 16-bit FLAC, several sessions at a time.

    A session is what one fresh process speaks, in order: the samples then do not depend on how many run side by side.

    Args:
        sessions: For each session the files to write and how to speak them.

    Yields:
        Once for each session that is finished.

    Raises:
        InputError: eSpeak NG cannot be used here.
        OSError: A file cannot be written.
    """
    with _cancelling(ThreadPoolExecutor(min(len(sessions), _processors()))) as pool:
        for done in as_completed([pool.submit(_record_in_fresh_process, session) for session in sessions]):
            done.result()
            yield


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _cancelling(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """On the way out, also by an error, what has not begun is dropped."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _record_in_fresh_process(session: Sequence[tuple[Path, Delivery]]) -> None:
    # "spawn": a forked child could inherit locks of the caller's threads.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        process.submit(_record_session, session).result()


def _record_session(session: Sequence[tuple[Path, Delivery]]) -> None:
    espeak = Espeak()
    for file, delivery in session:
        encoded = io.BytesIO()  # written by Python, so that a full disk is an OSError that says so
        soundfile.write(encoded, perform(delivery, espeak), SAMPLE_RATE, subtype="PCM_16", format="FLAC")
        file.write_bytes(encoded.getvalue())
