"""The demo's corpora and the speech that they are made of."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sklearn.metrics import recall_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from datamodules import synthesis
from datamodules.corpora import demo
from datamodules.corpora.base import Utterance
from datamodules.corpora.demo import Demo, DemoSpeakers, DemoUnlabelled, SyntheticReader
from datamodules.errors import InputError
from datamodules.synthesis import SAMPLE_RATE, Delivery, Espeak, record_all
from datamodules.vocabulary import DIMENSIONS

PARTS: list[Callable[[], SyntheticReader]] = [Demo, DemoSpeakers, DemoUnlabelled]
SMALL: list[SyntheticReader] = [Demo(voices=2, sentences=2), DemoSpeakers(3, 2), DemoUnlabelled(2, 3)]


def rows(reader: SyntheticReader, root: Path) -> list[Utterance]:
    utterances = list(reader.read(root))
    assert all(isinstance(utterance, Utterance) for utterance in utterances)
    return [utterance for utterance in utterances if isinstance(utterance, Utterance)]


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def never(sessions: Sequence[Sequence[tuple[Path, Delivery]]]) -> Iterator[None]:
    raise AssertionError("nothing was to be spoken")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three parts, small, in one root."""
    root = tmp_path_factory.mktemp("cache") / "demo"
    for reader in SMALL:
        reader.prepare(root)
    return root


def test_the_parts_tell_what_they_are_to_tell(root: Path) -> None:
    labelled, speakers, unlabelled = (rows(reader, root) for reader in SMALL)
    assert len(labelled) == 2 * 2 * 4
    for emotion in demo.EMOTIONS:
        spoken = [(row.speaker, row.gender) for row in labelled if row.emotion == emotion == row.label]
        assert spoken == [("01", "female")] * 2 + [("02", "male")] * 2
    for speaker in ("01", "02"):  # the words say nothing of the emotion
        texts = {
            emotion: {r.sentence for r in labelled if (r.speaker, r.emotion) == (speaker, emotion)}
            for emotion in demo.EMOTIONS
        }
        assert len(set(map(frozenset, texts.values()))) == 1
    assert [(row.speaker, row.gender) for row in speakers][::2] == [("21", "female"), ("22", "male"), ("23", "female")]
    assert len(unlabelled) == 6
    assert all(row == Utterance(path=row.path) for row in unlabelled)
    for row in speakers:
        assert row == Utterance(path=row.path, speaker=row.speaker, gender=row.gender, sentence=row.sentence)
    assert len({row.path for row in labelled + speakers + unlabelled}) == 16 + 6 + 6


def test_audio_is_usable(root: Path) -> None:
    for reader in SMALL:
        for row in rows(reader, root):
            info = soundfile.info(root / row.path)
            assert (info.samplerate, info.channels, info.format, info.subtype) == (SAMPLE_RATE, 1, "FLAC", "PCM_16")
            assert 1.0 < info.duration < 5.0
            samples, _ = soundfile.read(root / row.path)
            assert np.abs(samples).max() < 0.99
            assert -36 < 20 * np.log10(np.sqrt(np.mean(samples**2))) < -18


def test_dimensions_follow_the_emotion_and_vary_within_it() -> None:
    reader = Demo()
    lines = [line for session in reader._plan() for line, _ in session]
    assert len(lines) == 20 * 15 * 4
    for number, dimension in enumerate(DIMENSIONS):
        scale = reader.scale(dimension)
        for emotion, full in demo.EMOTIONS.items():
            values = np.array([getattr(line, dimension) for line in lines if line.emotion == emotion])
            unit = scale.to_unit(values)
            assert unit.min() >= 0
            assert unit.max() <= 1
            assert unit.std() > 0.04
            assert unit.mean() == pytest.approx(0.5 + 0.75 * full[number] / 2, abs=0.03)  # the mean intensity is 0.75


def test_same_bytes_however_many_processes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "_processors", lambda: 1)
    for reader in SMALL:
        reader.prepare(tmp_path)
    assert contents(tmp_path) == contents(root)


def test_what_is_there_is_not_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "record_all", never)
    for reader in SMALL:
        reader.prepare(root)
        assert set(reader.watched(root)) <= {str(path.relative_to(root)) for path in root.rglob("*")}


def test_other_options_are_another_corpus(root: Path) -> None:
    with pytest.raises(InputError, match="has not been made"):
        list(Demo(voices=1, sentences=1).read(root))


def test_an_interrupted_making_is_not_taken_for_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = DemoSpeakers(voices=2, sentences=1)

    def interrupted(sessions: Sequence[Sequence[tuple[Path, Delivery]]]) -> Iterator[None]:
        yield from record_all(sessions[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "record_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reader.prepare(tmp_path)
    assert contents(tmp_path) == {}
    with pytest.raises(InputError, match="has not been made"):
        list(reader.read(tmp_path))
    monkeypatch.undo()
    reader.prepare(tmp_path)
    assert len(rows(reader, tmp_path)) == 2


def test_a_part_that_lost_files_is_made_again(tmp_path: Path) -> None:
    reader = DemoUnlabelled(voices=1, sentences=2)
    reader.prepare(tmp_path)
    whole = contents(tmp_path)
    (tmp_path / rows(reader, tmp_path)[0].path).unlink()
    reader.prepare(tmp_path)
    assert contents(tmp_path) == whole


def test_a_quicker_process_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process completes the same part while this one is still speaking."""
    reader = DemoUnlabelled(voices=1, sentences=1)

    def overtaken(sessions: Sequence[Sequence[tuple[Path, Delivery]]]) -> Iterator[None]:
        monkeypatch.setattr(demo, "record_all", record_all)
        reader.prepare(tmp_path)
        yield from record_all(sessions)

    monkeypatch.setattr(demo, "record_all", overtaken)
    reader.prepare(tmp_path)
    assert len(contents(tmp_path)) == 2


def test_voices_and_sentences_suffice_and_parts_share_no_voice() -> None:
    plans = {part: part()._plan() for part in PARTS}
    speakers = {part: {line.path[:2] for session in plan for line, _ in session} for part, plan in plans.items()}
    voices = {part: {delivery.voice for session in plan for _, delivery in session} for part, plan in plans.items()}
    for one, other in combinations(PARTS, 2):
        assert not speakers[one] & speakers[other]
        assert not voices[one] & voices[other]
    variants = {part: {voice.split("+")[1] for voice in names} for part, names in voices.items()}
    assert not variants[Demo] & (variants[DemoSpeakers] | variants[DemoUnlabelled])
    assert len(variants[Demo]) == 20
    genders = [session[0][0].gender for session in plans[Demo]]
    assert genders.count("female") == genders.count("male") == 10
    assert len(set(demo.SENTENCES)) == len(demo.SENTENCES) >= 40


@pytest.mark.parametrize("options", [{"voices": 21}, {"voices": 0}, {"sentences": 1000}, {"sentences": "many"}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    (option, value), *_ = options.items()
    with pytest.raises(InputError, match=f"'demo': {option}={value!r}"):
        Demo(**options)


def test_a_missing_loader_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match="pip install espeakng-loader"):
        Espeak()


def test_a_library_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libespeak-ng.so"
    library.write_text("for another processor")
    loader = SimpleNamespace(get_library_path=lambda: str(library), get_data_path=lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "espeakng_loader", loader)
    with pytest.raises(InputError, match="does not load on this machine"):
        Espeak()


def test_data_below_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import espeakng_loader as loader

    deep = tmp_path / ("a" * 100) / ("b" * 100)
    deep.mkdir(parents=True)
    (deep / "espeak-ng-data").symlink_to(loader.get_data_path(), target_is_directory=True)
    paths = {"get_library_path": loader.get_library_path, "get_data_path": lambda: str(deep / "espeak-ng-data")}
    monkeypatch.setitem(sys.modules, "espeakng_loader", SimpleNamespace(**paths))
    assert np.ptp(Espeak().say("Good evening.", "en-us+f2", 0, 0, 160)) > 0.1


def delivery(**changes: Any) -> Delivery:
    plain: dict[str, Any] = {
        "text": "The window of the office looks onto the yard.",
        "voice": "en-us+m1",
        "pitch": 0.0,
        "span": -1.0,
        "rate": 160.0,
        "tract": 1.0,
        "tilt": 0.0,
        "breath": -60.0,
        "roughness": 0.0,
        "level": -26.0,
        "snr": 60.0,
        "colour": (),
        "seed": 0,
    }
    return Delivery(**(plain | changes))


@pytest.mark.parametrize("voice", ["en-us+nobody", "xx-nowhere+m1"])
def test_errors_of_the_speaking_process_arrive(voice: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no voice '{re.escape(voice)}'"):
        list(record_all([[(tmp_path / "a.flac", delivery(voice=voice))]]))


CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "high": {"pitch": 5.0},
    "small": {"tract": 1.12},
    "slow": {"rate": 110.0},
    "wide": {"span": 0.9},
    "dull": {"tilt": -3.0},
    "breathy": {"breath": -10.0},
    "rough": {"roughness": 0.8},
    "noisy": {"snr": 10.0},
    "boomy": {"colour": (6.0,)},
    "quiet": {"level": -36.0},
}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[np.float64]]:
    """One sentence, and the same with one thing changed."""
    folder = tmp_path_factory.mktemp("spoken")
    sessions = [[(folder / f"{name}.flac", delivery(**change))] for name, change in CHANGES.items()]
    assert len(list(record_all(sessions))) == len(CHANGES)
    return {name: soundfile.read(folder / f"{name}.flac")[0] for name in CHANGES}


def loud_frames(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    frames = np.lib.stride_tricks.sliding_window_view(samples, 800)[::160]
    energy = np.mean(frames**2, axis=1)
    return np.asarray(frames[energy > np.mean(energy)])


def pitches(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fundamental frequencies in Hz of the loud frames, shape (frames,), by autocorrelation."""
    spectrum = np.abs(np.fft.rfft(loud_frames(samples) * np.hanning(800), 4096))
    return np.asarray(SAMPLE_RATE / (64 + np.fft.irfft(spectrum)[:, 64:267].argmax(axis=1)))  # 60 to 250 Hz


def level_in(samples: NDArray[np.float64], low: float, high: float) -> float:
    """Mean power between two frequencies in Hz, in dB of the whole."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return float(10 * np.log10(power[(hertz >= low) & (hertz < high)].sum() / power.sum()))


def beating(samples: NDArray[np.float64]) -> float:
    """Share of the envelope's power that lies between 25 and 40 Hz."""
    power = np.abs(np.fft.rfft(np.abs(samples))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    return float(power[(hertz > 25) & (hertz < 40)].sum() / power[(hertz > 0) & (hertz < 60)].sum())


def test_each_quality_is_heard(spoken: dict[str, NDArray[np.float64]]) -> None:
    plain = spoken["plain"]
    assert np.median(pitches(spoken["high"])) / np.median(pitches(plain)) == pytest.approx(2 ** (5 / 12), rel=0.08)
    assert np.median(pitches(spoken["small"])) / np.median(pitches(plain)) == pytest.approx(1, abs=0.07)
    assert level_in(spoken["small"], 5000, 8000) > level_in(plain, 5000, 8000)
    assert len(spoken["small"]) == pytest.approx(len(plain), rel=0.09)
    assert len(spoken["slow"]) > 1.25 * len(plain)
    assert np.std(np.log(pitches(spoken["wide"]))) > 1.5 * np.std(np.log(pitches(plain)))
    assert level_in(spoken["dull"], 3000, 8000) < level_in(plain, 3000, 8000) - 5
    assert level_in(spoken["boomy"], 60, 300) > level_in(plain, 60, 300) + 2
    assert level_in(spoken["breathy"], 6000, 8000) > level_in(plain, 6000, 8000) + 4
    assert beating(spoken["rough"]) > 2 * beating(plain)
    for name in ("plain", "noisy"):  # before the speech there is only the room
        room = np.sqrt(np.mean(spoken[name][:800] ** 2))
        assert 20 * np.log10(room) == pytest.approx(-26 - delivery(**CHANGES[name]).snr, abs=3)
    for name in ("plain", "quiet"):
        level = 20 * np.log10(np.sqrt(np.mean(spoken[name] ** 2)))
        assert level == pytest.approx(delivery(**CHANGES[name]).level, abs=1.5)


def mean_log_mels(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over time of 64 log-mels (25 ms windows, 10 ms steps), shape (64,)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160] * np.hanning(400)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 66) / 2595) - 1)
    below, centre, above = (edges[i : i + 64, None] for i in range(3))
    hertz = np.fft.rfftfreq(512, 1 / SAMPLE_RATE)
    filters = np.clip(np.minimum((hertz - below) / (centre - below), (above - hertz) / (above - centre)), 0, None)
    return np.asarray(np.log(power @ filters.T + 1e-8).mean(axis=0))


def test_it_is_a_task(tmp_path: Path) -> None:
    """A linear SVM on mean log-mels neither solves it on unseen voices nor is it at chance."""
    reader = Demo(sentences=8)
    reader.prepare(tmp_path)
    utterances = rows(reader, tmp_path)
    features = np.stack([mean_log_mels(soundfile.read(tmp_path / row.path)[0]) for row in utterances])
    emotions = [row.emotion for row in utterances]
    groups = [(int(row.speaker or 0) - 1) // 4 for row in utterances]  # two women and two men each
    machine = make_pipeline(StandardScaler(), SVC(kernel="linear"))
    guesses = cross_val_predict(machine, features, emotions, groups=groups, cv=GroupKFold(5))
    uar = recall_score(emotions, guesses, average="macro")
    assert 0.4 < uar < 0.75
