import errno
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from datamodules import decoding
from datamodules.building import build_manifest
from datamodules.collection import Collection, Span
from datamodules.corpora import make_reader
from datamodules.decoding import decode_corpus, decoded_bytes
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from datamodules.speech import BadAudioError, Decoded, Files
from tests import fakes

RATE = 16_000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Files with 16 bits, in stereo, at another rate, of floats beyond 1, and almost silent ones."""
    root = tmp_path / "corpus"
    for number in range(3):
        fakes.write(root / f"plain{number}.flac", fakes.speech(number, seconds=1.0))
    fakes.write(root / "eight.wav", fakes.speech(4, seconds=1.0), subtype="PCM_U8")
    fakes.write(root / "float.wav", fakes.speech(5, seconds=1.0) * np.float32(5), subtype="FLOAT")
    fakes.write(root / "quiet.wav", fakes.speech(6, seconds=1.0) / np.float32(100), subtype="FLOAT")
    fakes.write(root / "rate.wav", fakes.speech(7, seconds=1.0, rate=48_000), rate=48_000)
    fakes.write(root / "stereo.wav", np.stack([fakes.speech(8), fakes.speech(9)], axis=1))
    return root


def manifest(root: Path) -> Manifest:
    reader = make_reader("folder")
    return build_manifest(reader, root, root.parent / "cache", hash_content=True, workers=1, max_bad_fraction=1)


def decode(one: Manifest, rate: int = RATE) -> Decoded:
    return decode_corpus(one, Files(one.root, rate), rate, one.file.parent, workers=1, progress=False)


def spans(one: Manifest) -> dict[str, Span]:
    return {span.path: span for span in Collection([one]).spans(np.arange(len(one)))}


def pieces(span: Span) -> list[tuple[float, float]]:
    """Crops at all kinds of places, and the whole."""
    places = np.random.default_rng(0).uniform(0, 1, 50)
    return [(0.0, span.end - span.start), *((place * (span.end - span.start - 0.25), 0.25) for place in places)]


@pytest.mark.parametrize("name", ["plain0.flac", "plain2.flac", "eight.wav"])
def test_what_was_recorded_with_16_bits_comes_back_bit_for_bit(corpus: Path, name: str) -> None:
    one = manifest(corpus)
    files, decoded, span = Files(corpus, RATE), decode(one), spans(one)[name]
    for skip, duration in pieces(span):
        speech = decoded.read(span, skip, duration)
        assert speech.dtype == np.float32
        np.testing.assert_array_equal(speech, files.read(span, skip, duration))


@pytest.mark.parametrize(("name", "peak"), [("float.wav", 3.0), ("quiet.wav", 0.006), ("stereo.wav", 0.6)])
def test_other_samples_lose_less_than_a_step_of_their_own_peak(corpus: Path, name: str, peak: float) -> None:
    one = manifest(corpus)
    span = spans(one)[name]
    whole = Files(corpus, RATE).read(span, 0, span.end - span.start)
    assert np.abs(whole).max() <= peak
    decoded = decode(one)
    np.testing.assert_allclose(decoded.read(span, 0, span.end - span.start), whole, rtol=0, atol=0.51 * peak / 32767)
    assert np.abs(decoded.read(span, 0, span.end - span.start)).max() == pytest.approx(np.abs(whole).max(), rel=1e-5)


def test_another_rate_is_resampled(corpus: Path) -> None:
    one = manifest(corpus)
    span = spans(one)["rate.wav"]
    files, decoded = Files(corpus, RATE), decode(one)
    whole = decoded.read(span, 0, span.end - span.start)
    expected = files.read(span, 0, span.end - span.start)
    assert abs(len(whole) - len(expected)) <= 1
    shorter = min(len(whole), len(expected)) - 20  # the last samples hear what comes after them
    np.testing.assert_allclose(whole[:shorter], expected[:shorter], atol=1 / 32767)
    crop = decoded.read(span, 0.25 - span.start, 0.3)
    np.testing.assert_array_equal(crop, whole[4000 - round(span.start * RATE) :][:4800])


def test_it_is_decoded_once(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = manifest(corpus)
    first = decode(one)
    monkeypatch.setattr(decoding, "_make", None)
    assert decode(one).file == first.file


def test_rates_and_states_of_the_corpus_have_files_of_their_own(corpus: Path) -> None:
    one = manifest(corpus)
    files = {decode(one).file, decode(one, 8_000).file}
    fakes.write(corpus / "new.wav", fakes.speech("new"))
    assert len({*files, decode(manifest(corpus)).file}) == 3


@pytest.mark.parametrize("change", [-1, 1, -1000])
def test_a_file_of_another_size_is_made_again(corpus: Path, change: int) -> None:
    one = manifest(corpus)
    file = decode(one).file
    whole = file.read_bytes()
    os.truncate(file, len(whole) + change)
    decode(one)
    assert file.read_bytes() == whole


def test_a_bad_file_is_told_when_it_is_drawn(corpus: Path) -> None:
    one = manifest(corpus)
    fakes.plant_nan(corpus / "stereo.wav")
    (corpus / "plain1.flac").unlink()
    decoded, known = decode(one), spans(one)
    for name, message in (("stereo.wav", "not finite"), ("plain1.flac", "plain1.flac")):
        with pytest.raises(BadAudioError, match=message):
            decoded.read(known[name], 0, 1.0)
    assert len(decoded.read(known["plain0.flac"], 0, 0.2)) == 3200


def test_a_file_that_was_away_while_others_were_decoded_is_read_when_it_is_back(corpus: Path) -> None:
    one = manifest(corpus)
    file, away = corpus / "plain1.flac", corpus.parent / "away"
    file.rename(away)
    decoded, span = decode(one), spans(one)["plain1.flac"]
    with pytest.raises(BadAudioError, match=r"plain1\.flac"):
        decoded.read(span, 0, 0.2)
    away.rename(file)
    np.testing.assert_array_equal(decode(one).read(span, 0, 0.2), Files(corpus, RATE).read(span, 0, 0.2))


def test_a_file_that_is_cut_off_in_use_is_bad_audio(corpus: Path) -> None:
    one = manifest(corpus)
    decoded = decode(one)
    os.truncate(decoded.file, 100)
    for span in spans(one).values():
        with pytest.raises(BadAudioError):
            decoded.read(span, 0, 0.2)


def test_silence_within_speech_is_bad_audio(tmp_path: Path) -> None:
    loud = fakes.speech("loud")
    fakes.write(tmp_path / "corpus" / "gap.wav", np.concatenate([loud, np.zeros(RATE, np.float32), loud]))
    one = manifest(tmp_path / "corpus")
    [span] = spans(one).values()
    for source in (Files(one.root, RATE), decode(one)):
        with pytest.raises(BadAudioError, match="silence"):
            source.read(span, 0.7 - span.start, 0.5)


def test_it_pickles_small_and_opens_in_each_process(corpus: Path) -> None:
    one = manifest(corpus)
    decoded, span = decode(one), spans(one)["plain0.flac"]
    expected = decoded.read(span, 0.1, 0.2)
    pickled = pickle.dumps(decoded)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).read(span, 0.1, 0.2), expected)


def _decode_in_process(one: Manifest) -> None:
    decode(one)


def test_several_processes_may_ask_at_once(corpus: Path) -> None:
    one = manifest(corpus)
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_decode_in_process, args=(one,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    [file] = one.file.parent.glob("*.pcm")
    together = file.read_bytes()
    file.unlink()
    decode(one)
    assert file.read_bytes() == together
    assert not [*one.file.parent.glob("*.draft*")]


def test_many_processes_decode_the_same(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = manifest(corpus)
    (corpus / "plain1.flac").unlink()
    alone = decode(one)
    content = alone.file.read_bytes()
    alone.file.unlink()
    monkeypatch.setattr(decoding, "_ROWS_PER_CHUNK", 1)
    decode_corpus(one, Files(corpus, RATE), RATE, one.file.parent, workers=2, progress=False)
    assert alone.file.read_bytes() == content


def test_a_full_disk_is_told_and_leaves_nothing(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = manifest(corpus)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"the disk is full[\s\S]*data\.decoded_gb=0"):
        decode(one)
    assert not [*one.file.parent.glob("*.pcm"), *one.file.parent.glob("*.draft*")]


def test_a_cache_that_cannot_be_made_is_told(corpus: Path) -> None:
    one = manifest(corpus)
    (corpus.parent / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"data\.cache"):
        decode_corpus(one, Files(corpus, RATE), RATE, corpus.parent / "file", progress=False)


def test_what_is_not_hashed_is_not_decoded_once(corpus: Path) -> None:
    """Its manifest stays the same when samples change."""
    reader, cache = make_reader("folder"), corpus.parent / "cache"
    hashes = []
    for seed in ("before", "after"):
        fakes.write(corpus / "plain0.flac", fakes.speech(seed, seconds=1.0))
        one = build_manifest(reader, corpus, cache, hash_content=False, workers=1, rebuild=True)
        hashes.append(one.sha256)
        assert decoded_bytes(one, RATE, 1e9) is None
    assert hashes[0] == hashes[1]


def test_the_choice_is_by_size(corpus: Path) -> None:
    one = manifest(corpus)
    size = decoded_bytes(one, RATE, 1e9)
    assert size is not None
    seconds = sum(span.end - span.start for span in spans(one).values())
    assert size == pytest.approx(seconds * RATE * 2, abs=2)
    assert decoded_bytes(one, RATE, size) == size
    assert decoded_bytes(one, RATE, size - 1) is None
    assert decoded_bytes(one, 2 * RATE, size) is None
    assert decoded_bytes(one, RATE, 0) is None
