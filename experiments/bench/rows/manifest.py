"""`manifest_rows_per_s`: manifests from audio headers beside a bare parallel loop of `soundfile.info`."""

import io
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import soundfile

from datamodules.building import build_manifest
from datamodules.corpora import make_reader
from datamodules.processes import available_cores
from experiments.bench.core import Bench, Measurement, Repeats, alternate, at_least, ratio, row

PER_SPEAKER = 100
PER_VIDEO = 10
SECONDS = 0.25
SAMPLE_RATE = 16_000
FILES_AT_A_TIME = 256
CORPUS = "voxceleb2"


@row(
    "manifest_rows_per_s",
    "rows/s of building a manifest from audio headers, on all cores ÷ files/s of a bare parallel loop of "
    "soundfile.info; both list the folders",
    at_least(0.8),
)
def manifest_rows_per_s(bench: Bench) -> Measurement:
    """Builds the manifest of a generated tree again and again."""
    files = bench.size(200_000, quick=200)
    root = recordings(bench.scratch / f"recordings-{files}", files, bench)
    cache = bench.scratch / "manifests"
    reader = make_reader(CORPUS, {"genders": False})

    def ours() -> float:
        started = time.perf_counter()
        made = build_manifest(reader, root, cache, hash_content=False, rebuild=True, progress=False)
        return _rate(len(made), files, started)

    def bare() -> float:
        started = time.perf_counter()
        paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names)  # noqa: PTH118
        with multiprocessing.Pool(available_cores()) as pool:
            found = pool.map(_header, paths, chunksize=FILES_AT_A_TIME)
        return _rate(len(found), files, started)

    rates = alternate(ours, bare, bench.repeats)
    return Measurement(
        ratio(
            Repeats("build_manifest, header only", "rows/s", rates[0]),
            Repeats("multiprocessing.Pool.map of soundfile.info", "files/s", rates[1]),
        ),
        details={"files": files, "processes": available_cores(), "format": f"WAV, {SECONDS} s at {SAMPLE_RATE} Hz"},
    )


def recordings(root: Path, files: int, bench: Bench) -> Path:
    """A tree of short recordings, <speaker>/<video>/<number>.wav; made unless it is there."""
    if root.is_dir():
        return root
    bench.say(f"writing {files} recordings to {root}")
    draft = root.with_name(f"{root.name}-draft")
    shutil.rmtree(draft, ignore_errors=True)
    noise = io.BytesIO()
    soundfile.write(
        noise, np.random.default_rng(0).normal(0, 0.1, round(SECONDS * SAMPLE_RATE)), SAMPLE_RATE, format="WAV"
    )
    for number in range(files):
        speaker, place = divmod(number, PER_SPEAKER)
        file = draft / f"id{speaker:05}" / f"video{place // PER_VIDEO:06}" / f"{place % PER_VIDEO:05}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(noise.getbuffer())
    draft.rename(root)  # the last: a tree is whole or not there
    return root


def _header(path: str) -> tuple[str, int, int, int]:
    header = soundfile.info(path)
    return path, header.frames, header.samplerate, header.channels


def _rate(found: int, files: int, started: float) -> float:
    """Files a second.

    Raises:
        RuntimeError: Not all were found, so that the sides did not do the same.
    """
    if found != files:
        raise RuntimeError(f"{found} of {files} files were found")
    return files / (time.perf_counter() - started)
