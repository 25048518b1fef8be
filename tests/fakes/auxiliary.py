"""Corpora without emotion labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.fakes.sound import speech, write


def librispeech(
    root: Path,
    speakers: int = 6,
    utterances: int = 2,
    subsets: Sequence[str] = ("train-clean-100",),
    seconds: float = 0.6,
    rate: int = 16_000,
) -> Path:
    """Writes LibriSpeech: `<subset>/<speaker>/<chapter>/<speaker>-<chapter>-0000.flac` and `SPEAKERS.TXT`.

    Speakers (14, 17, 20, …) go to the subsets in turn; women and men take turns.
    """
    lines = ["; Some pipe(|) separated metadata about the readers", ";", ";ID  |SEX| SUBSET           |MINUTES| NAME"]
    for number in range(speakers):
        speaker, subset, chapter = str(14 + 3 * number), subsets[number % len(subsets)], str(200 + number)
        name = f"Reader {number} | the | Younger"
        lines.append(f"{speaker:<5}| {'FM'[number % 2]} | {subset:<17}| 25.03 | {name}")
        for utterance in range(utterances):
            stem = f"{speaker}-{chapter}-{utterance:04}"
            samples = speech(stem, seconds=seconds, rate=rate, speaker=speaker)
            write(root / subset / speaker / chapter / f"{stem}.flac", samples, rate)
        transcript = root / subset / speaker / chapter / f"{speaker}-{chapter}.trans.txt"
        transcript.write_text(f"{speaker}-{chapter}-0000 SOME WORDS\n")
    (root / "SPEAKERS.TXT").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return root


def folder(root: Path, files: int = 6, seconds: float = 0.6, rate: int = 16_000) -> Path:
    """Writes recordings without labels, one folder deep."""
    for number in range(files):
        write(root / f"part{number % 2}" / f"{number:04}.wav", speech(number, seconds=seconds, rate=rate), rate)
    return root


VOXCELEB1_SPEAKERS = {
    "id10001": ("A.J._Buckley", "m", "Ireland", "dev"),
    "id10002": ("A.R._Rahman", "m", "India", "dev"),
    "id10003": ("Aamir_Khan", "f", "India", "dev"),
    "id10270": ("Eartha_Kitt", "f", "USA", "test"),
}
VOXCELEB2_SPEAKERS = {
    "id00012": ("n000012", "m", "dev"),
    "id00015": ("n000015", "f", "dev"),
    "id00017": ("n000017", "m", "test"),
}
VIDEOS = ("1zcIwhmdeo4", "_YimahVgI1A")


def voxceleb1(
    root: Path,
    holders: Mapping[str, str] = MappingProxyType({"dev": "vox1_dev_wav/wav", "test": "vox1_test_wav/wav"}),
    numbers: Sequence[int] = (1, 2),
    suffix: str = ".wav",
    seconds: float = 0.4,
) -> Path:
    """Writes VoxCeleb1: `<holder>/id10001/1zcIwhmdeo4/00001.wav` and `vox1_meta.csv`, which tabs separate.

    Three speakers of the set "dev" and one of "test", two videos each; `holders` are the folders of the sets.
    """
    lines = [("VoxCeleb1 ID", "VGGFace1 ID", "Gender", "Nationality", "Set")]
    for speaker, (name, gender, nationality, part) in VOXCELEB1_SPEAKERS.items():
        lines.append((speaker, name, gender, nationality, part))
        _interviews(root / holders[part] / speaker, numbers, suffix, seconds)
    (root / "vox1_meta.csv").write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return root


def voxceleb2(
    root: Path,
    holders: Mapping[str, str] = MappingProxyType({"dev": "dev/aac", "test": "vox2_test_aac/aac"}),
    numbers: Sequence[int] = (1, 2),
    suffix: str = ".wav",
    seconds: float = 0.4,
) -> Path:
    """Writes VoxCeleb2: as VoxCeleb1, two speakers and one; `vox2_meta.csv` pads its cells with spaces.

    With the suffix ".m4a" the files only look like the released ones.
    """
    lines = [("VoxCeleb2 ID ", "VGGFace2 ID ", "Gender ", "Set")]
    for speaker, (name, gender, part) in VOXCELEB2_SPEAKERS.items():
        lines.append((f"{speaker} ", f"{name} ", f"{gender} ", f"{part} "))
        _interviews(root / holders[part] / speaker, numbers, suffix, seconds)
    (root / "vox2_meta.csv").write_text("".join(",".join(line) + "\n" for line in lines), encoding="utf-8")
    return root


def _interviews(folder: Path, numbers: Sequence[int], suffix: str, seconds: float) -> None:
    for video in VIDEOS:
        for number in numbers:
            file = folder / video / f"{number:05}{suffix}"
            if suffix == ".m4a":
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"\x00\x00\x00\x1cftypM4A \x00\x00\x02\x00")
            else:
                write(file, speech(folder.name, video, number, seconds=seconds, speaker=folder.name))
