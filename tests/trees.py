"""Small trees of the corpora in their real layouts, each with the faults that real trees have.

`python -m tests.trees <folder>` writes them all, to try experiments whose corpora one has not got.
"""

import sys
from pathlib import Path

from tests import fakes

IMPROV_TEXTS = ("S01", "S02")
"""The texts of the fake MSP-IMPROV's sessions, in turn."""


def iemocap(root: Path) -> Path:
    """Five sessions, 120 turns: six cannot be used, one has no audio, one no label, two are doubles of others."""
    fakes.iemocap(root, newline="\r\n", encoding="latin-1")
    spoilt = [turn(root, f"Ses{session:02}F_impro01_F000") for session in range(1, 6)]
    spoilt.append(turn(root, "Ses01F_impro01_M000"))
    fakes.plant_all([*spoilt, *(turn(root, f"Ses{session:02}M_script02_1_F000") for session in range(1, 6))])
    turn(root, "Ses02F_impro01_M001").unlink()
    _take_out(root / "Session3/dialog/EmoEvaluation/Ses03F_impro01.txt", "Ses03F_impro01_F001")
    fakes.duplicate(turn(root, "Ses04F_impro01_F002"), turn(root, "Ses04M_script02_1_F002"))
    fakes.duplicate(turn(root, "Ses05F_impro01_F002"), turn(root, "Ses05F_impro01_M002"))
    return root


def turn(root: Path, name: str) -> Path:
    """The audio of an IEMOCAP turn."""
    return root / f"Session{int(name[3:5])}/sentences/wav/{name.rpartition('_')[0]}/{name}.wav"


def msp_improv(root: Path) -> Path:
    """Six sessions, 216 turns: six cannot be used, one has no audio, one no label."""
    fakes.msp_improv(root)
    spoilt = [improv_turn(root, session, "N", "F", "R-FF01") for session in range(1, 7)]
    fakes.plant_all([*spoilt, *(improv_turn(root, session, "N", "M", "R-MM01") for session in range(1, 6))])
    improv_turn(root, 1, "A", "M", "P-FM01").unlink()
    _take_out(root / "Evalution.txt", "UTD-IMPROV-S02A-F02-P-FM01")
    return root


def improv_turn(root: Path, session: int, emotion: str, gender: str, rest: str) -> Path:
    """The audio of an MSP-IMPROV turn."""
    text = f"{IMPROV_TEXTS[(session - 1) % 2]}{emotion}"
    folder = root / f"Audio/session{session}/{text}/{rest[0]}"
    return folder / f"MSP-IMPROV-{text}-{gender}{session:02}-{rest}.wav"


def msp_podcast(root: Path) -> Path:
    """Four splits of 20 utterances and three unlisted: six cannot be used, one has no audio, one is listed twice."""
    fakes.msp_podcast(root, newline="\r\n")
    spoilt = ["0001_0004", "0002_0004", "0003_0004", "0005_0004", "0006_0004", "0009_0004"]
    odd = ["0001_0003", "0002_0003", "0003_0003", "0005_0003", "0006_0003"]
    fakes.plant_all([root / f"Audios/MSP-PODCAST_{name}.wav" for name in (*spoilt, *odd)])
    (root / "Audios/MSP-PODCAST_0002_0001.wav").unlink()
    table = root / "Labels/labels_consensus.csv"
    (twice,) = [line for line in table.read_bytes().splitlines(keepends=True) if b"_0010_0001" in line]
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes() + twice)
    return root


def cremad(root: Path) -> Path:
    """Ten actors, 120 clips: six cannot be used."""
    fakes.cremad(root)
    spoilt = [root / f"AudioWAV/{actor}_IEO_NEU_XX.wav" for actor in range(1001, 1007)]
    fakes.plant_all([*spoilt, *(root / f"AudioWAV/{actor}_DFA_NEU_XX.wav" for actor in range(1001, 1006))])
    return root


def emodb(root: Path) -> Path:
    """Ten speakers, 140 utterances: six cannot be used; and one name is none."""
    fakes.emodb(root)
    spoilt = [root / f"wav/{speaker}a01Na.wav" for speaker in ("03", "08", "09", "10", "11", "12")]
    fakes.plant_all([*spoilt, *(root / f"wav/{speaker}b10Na.wav" for speaker in ("03", "08", "09", "10", "11"))])
    fakes.duplicate(root / "wav/13a01Na.wav", root / "wav/13a01Xa.wav")
    return root


def write_all(root: Path) -> Path:
    """Writes every corpus that the experiments look for under `data.root`; the demo makes itself."""
    fakes.ravdess(root / "ravdess", actors=7, statements=1, rate=16_000)
    fakes.nemo(root / "nemo", speakers=7, sentences=1, rate=16_000)
    fakes.librispeech(root / "librispeech")
    fakes.voxceleb1(root / "VoxCeleb1")
    fakes.voxceleb2(root / "VoxCeleb2")
    iemocap(root / "IEMOCAP_full_release")
    msp_improv(root / "MSP-IMPROV")
    msp_podcast(root / "MSP-Podcast")
    cremad(root / "CREMA-D")
    emodb(root / "EmoDB")
    return root


def _take_out(annotation: Path, name: str) -> None:
    """Takes a turn's block, up to its blank line, out of an annotation file."""
    lines = annotation.read_bytes().splitlines(keepends=True)
    (first,) = [number for number, line in enumerate(lines) if name.encode() in line]
    last = next(number for number in range(first, len(lines)) if not lines[number].strip())
    annotation.write_bytes(b"".join(lines[:first] + lines[last + 1 :]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.trees <folder>")
    print(write_all(Path(sys.argv[1])))
