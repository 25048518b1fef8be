"""The model card of an exported model: a README in Markdown, with the front matter that model hubs read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]

from experiments.config import Config
from experiments.export.spread import Spread

_HUB_LICENCES = {"CC BY 4.0": "cc-by-4.0", "ODbL 1.0": "odbl", "CC BY-NC-SA 4.0": "cc-by-nc-sa-4.0"}
"""Names of model hubs for licences of corpora, from the freest to the strictest."""

_KINDS = {
    "ravdess": "professional actors, who speak two sentences with each emotion in a studio",
    "cremad": "actors, who speak twelve sentences with each emotion",
    "emodb": "actors, who speak ten sentences with each emotion in a studio",
    "nemo": "actors, who speak given sentences with each emotion",
    "iemocap": "actors in dialogues, scripted and improvised",
    "msp_improv": "actors in dialogues, improvised and read",
    "msp_podcast": "podcasts, rated by listeners",
    "librispeech": "read audio books, without emotion labels",
    "voxceleb1": "interviews, without emotion labels",
    "voxceleb2": "interviews, without emotion labels",
}
_ACTED = {"ravdess", "cremad", "emodb", "nemo", "iemocap", "msp_improv"}

_SIDES = {"train": "training", "development": "development", "test": "test", "adaptation": "adaptation"}

_ONNX_SNIPPET = """\
import json

import numpy as np
import onnxruntime
import soundfile

with open("config.json", encoding="utf-8") as file:
    config = json.load(file)
speech, rate = soundfile.read("speech.wav", dtype="float32", always_2d=True)
if rate != config["sample_rate"]:
    raise SystemExit(f"speech.wav has {rate} Hz: resample it to {config['sample_rate']} Hz first")
waveform = speech.mean(axis=1)[None]  # a batch of one; shorter ones of a larger batch are padded with zeros
lengths = np.array([waveform.shape[1]], dtype=np.int64)
session = onnxruntime.InferenceSession("model.onnx")
scores = dict(zip(config["outputs"], session.run(config["outputs"], {"waveform": waveform, "lengths": lengths})))
"""

_PYTHON_SNIPPET = """\
from pathlib import Path

import soundfile
import torch

from experiments.export.reading import read_export

model = read_export(Path("."))
speech, rate = soundfile.read("speech.wav", dtype="float32", always_2d=True)
if rate != model.sample_rate:
    raise SystemExit(f"speech.wav has {rate} Hz: resample it to {model.sample_rate} Hz first")
waveform = torch.from_numpy(speech.mean(axis=1))[None]
with torch.inference_mode():
    scores = model.module(waveform, torch.tensor([waveform.shape[1]]))
"""

_SHOW_EMOTION = """\
for one, probability in zip(config["labels"]["classes"], scores["emotion"][0]):
    print(f"{one['name']:12} {probability:.3f}")
"""
_SHOW_DIMENSIONS = """\
for one, value in zip(config["labels"]["dimensions"], scores["dimensions"][0]):
    print(f"{one['name']:12} {value:.3f}")
"""


def model_card(
    described: Mapping[str, Any],
    config: Config,
    results: Mapping[str, Any],
    report: Mapping[str, Any],
    spread: Spread | None,
) -> str:
    """Writes the card.

    Args:
        described: What ``config.json`` holds.
        config: Of the run.
        results: Its ``results.json``.
        report: Its ``data_report.json``.
        spread: Results of other folds and seeds, where there are any.
    """
    front = yaml.safe_dump(_front_matter(described, config, results, report), sort_keys=False, allow_unicode=True)
    title = f"Speech emotion recognition, trained on {_listed(config.data.labelled)}"
    parts = [
        f"---\n{front}---",
        f"# {title}",
        _what(described, config, report),
        "## Use it",
        _use(described, config),
        "## Data",
        _data(config, report),
        _sides(report),
        "## Protocol",
        _protocol(described, config, report),
        "## Results",
        *_results(described, results, spread),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(described, config, results, report)),
        "## What it must not be used for",
        _MUST_NOT,
        "## Licence",
        _licence(config, report),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(
    described: Mapping[str, Any], config: Config, results: Mapping[str, Any], report: Mapping[str, Any]
) -> dict[str, Any]:
    corpora = _heard(config, report)
    known = [_HUB_LICENCES.get(corpus["licence"], "other") for corpus in corpora.values()]
    ranks = [*_HUB_LICENCES.values(), "other"]
    licence = max(known, key=ranks.index)
    test = results.get("test", {})
    metrics = {"recall": test.get("uar"), "accuracy": test.get("accuracy")}
    languages = sorted({corpora[name]["language"] for name in config.data.labelled} - {"various"})
    tags = ["speech-emotion-recognition", "audio-classification", "speech", "onnx"]
    front: dict[str, Any] = {"license": licence}
    if licence == "other":
        front["license_name"] = "licences-of-the-corpora"
        front["license_link"] = "README.md"
    front |= {
        "language": languages or ["multilingual"],
        "library_name": described["format"],
        "pipeline_tag": "audio-classification",
        "tags": [*tags, *["synthetic-data"] * bool(results.get("synthetic"))],
        "datasets": list(corpora),
        "metrics": [name for name, value in metrics.items() if value is not None] or ["concordance"],
    }
    if any(value is not None for value in metrics.values()):
        front["model-index"] = [
            {
                "name": f"{described['format']} {described['run']['experiment']}",
                "results": [
                    {
                        "task": {"type": "audio-classification", "name": "speech emotion recognition"},
                        "dataset": {"type": name, "name": f"{name}, test speakers"},
                        "metrics": [
                            {"type": metric, "value": round(value, 4), "name": "UAR" if metric == "recall" else metric}
                            for metric, value in metrics.items()
                            if value is not None
                        ],
                    }
                    for name in ["+".join(results["test"].get("corpora", {})) or "test"]
                ],
            }
        ]
    return front


def _what(described: Mapping[str, Any], config: Config, report: Mapping[str, Any]) -> str:
    told = []
    if classes := described["labels"]["classes"]:
        names = ", ".join(
            one["name"] if one["emotions"] == [one["name"]] else f"{one['name']} ({' and '.join(one['emotions'])})"
            for one in classes
        )
        told.append(
            f"a probability for each of {len(classes)} emotions: {names} (not yet calibrated: divide its logarithm by "
            f"{described['temperature']:.3f}, the `temperature` of config.json, and normalise again)"
        )
    if dimensions := described["labels"]["dimensions"]:
        told.append(f"{_listed([one['name'] for one in dimensions if one['corpora']])} from 0 to 1")
    code = sum(config.model.code.values())
    told.append(f"and a code of {code} numbers")
    settings = config.model
    autoencoder = settings.decoder.weight > 0 or settings.adversary.weight > 0 or settings.categorical > 0
    of_what = (
        " as part of a semi-supervised adversarial autoencoder after [Latif et al.](https://arxiv.org/abs/1907.06078) "
        "(IEEE Transactions on Affective Computing 13(2), 2022)"
    )
    about = (
        f"From a recording of one person's speech, of any length: {'; '.join(told)}. It is an encoder with its heads, "
        f"{described['parameters']:,} parameters, trained with {described['format']}{of_what * autoencoder}. What "
        "serves training alone, such as a decoder, a discriminator or a head for speakers, is not here."
    )
    warning = " **It was trained on synthetic speech, for a demonstration: it is of no use for real speech.**"
    return about + warning * _synthetic(report)


def _use(described: Mapping[str, Any], config: Config) -> str:
    show = _SHOW_EMOTION * bool(described["labels"]["classes"]) + _SHOW_DIMENSIONS * bool(
        described["labels"]["dimensions"]
    )
    onnx = described["onnx"]
    window = config.model.window_s
    recordings = ""
    if onnx["recordings"]:
        recordings = f"; by {onnx['largest_on_recordings']:.1e} on {onnx['recordings']} development recordings"
    return (
        "With onnxruntime, NumPy and SoundFile alone, in this folder, on a recording `speech.wav`:\n\n"
        f"```python\n{_ONNX_SNIPPET}{show}```\n\n"
        "With this project's own code (`model.safetensors` and `config.json`; no file holds code that is run):\n\n"
        f"```python\n{_PYTHON_SNIPPET}{show.replace('config[', 'model.config[')}```\n\n"
        f"`model.onnx` takes `waveform` (batch, samples), float32 from -1 to 1 at {described['sample_rate']} Hz, and "
        f"`lengths` (batch,), int64, in samples; what lies past an utterance's length is not heard. Recordings longer "
        f"than {window:g} s are cut into windows that overlap by half, whose scores are averaged. In training and "
        "evaluation, silence before and after speech was cut off: cut it off, too. At export, onnxruntime and PyTorch "
        f"differed by {onnx['largest_difference']:.1e} at most ({onnx['on']}), on {onnx['sounds']} sounds{recordings}."
    )


def _data(config: Config, report: Mapping[str, Any]) -> str:
    heard = _heard(config, report)
    rows = []
    for name, corpus in report["corpora"].items():
        speakers = corpus["speakers"]
        rows.append(
            [
                f"`{name}`",
                "synthetic speech" if corpus["synthetic"] else _KINDS.get(name, "as its owner describes it"),
                "its labels" if name in config.data.labelled else "auxiliary speech" if name in heard else "the test",
                corpus["language"],
                f"{corpus['hours']:.3g}",
                str(corpus["utterances"]),
                f"{speakers['total']} ({speakers['female']}, {speakers['male']})",
                corpus["licence"],
            ]
        )
    header = ["corpus", "what", "used for", "language", "hours", "utterances", "speakers (f, m)", "licence"]
    return _table(header, rows)


def _sides(report: Mapping[str, Any]) -> str:
    split = report["split"]
    rows = [
        [name, str(one["utterances"]), str(len(one["speakers"])), f"{one['female']}, {one['male']}"]
        for side, name in _SIDES.items()
        if (one := split.get(side))
    ]
    lines = [_table(["side", "utterances", "speakers", "women, men"], rows)]
    auxiliary = [f"{one['utterances']} of `{one['corpus']}` ({one['role']})" for one in report.get("auxiliary", ())]
    if auxiliary:
        lines += ["", f"Utterances without emotion labels, to train on: {', '.join(auxiliary)}."]
    return "\n".join(lines)


def _protocol(described: Mapping[str, Any], config: Config, report: Mapping[str, Any]) -> str:
    run, split = described["run"], report["split"]
    monitor = {"dev/uar": "unweighted average recall (UAR)", "dev/ccc": "mean concordance (CCC)"}
    chosen = monitor.get(run["monitor"], f"`{run['monitor']}`")
    tested = ", ".join(split["test"]["speakers"][:8]) + ", …" * (len(split["test"]["speakers"]) > 8)
    code = f" Commit {run['commit']}{' with changes' * run['changed']}." if run["commit"] else ""
    return (
        f"Experiment `{run['experiment']}`, protocol `{split['protocol']}`, fold {run['fold']} of {run['folds']}, seed "
        f"{run['seed']}. No speaker stands on two sides: test speakers ({tested}) were neither heard in training nor "
        f"asked for any choice. Epoch {run['best_epoch']} (from 0) of {config.trainer.epochs} was chosen by the "
        f"{chosen} of the development speakers; the test set was scored once, by that epoch.{code}"
    )


def _results(described: Mapping[str, Any], results: Mapping[str, Any], spread: Spread | None) -> Iterator[str]:
    sides = [(name, results[split]) for name, split in (("development", "dev"), ("test", "test")) if split in results]
    measures = {"uar": "UAR", "accuracy": "accuracy"}
    rows = [
        [label, *(_figure(scores.get(key)) for _, scores in sides)]
        for key, label in measures.items()
        if any(key in scores for _, scores in sides)
    ]
    for group, label in (("recall", "recall of"), ("ccc", "CCC of")):
        names = next((list(scores[group]) for _, scores in sides if group in scores), [])
        rows += [
            [f"{label} {name}", *(_figure(scores.get(group, {}).get(name)) for _, scores in sides)] for name in names
        ]
    yield "Of this run, on speakers that it was not trained on:"
    yield _table(["", *(name for name, _ in sides)], rows)
    if "test" not in results:
        yield "The test set was not scored."
    if spread is None:
        yield "This is one run: with other speakers held out, or another seed, it would have come out differently."
        return
    deviation = "" if spread.deviation is None else f" ± {spread.deviation:.3f} (standard deviation over seeds)"
    seeds = f"seed{'s' * (len(spread.seeds) > 1)} {_listed(list(map(str, spread.seeds)))}"
    yield (
        f"Of these settings, the study `{spread.study}` has {spread.runs} runs. Over {spread.folds} folds, which "
        f"together test {spread.speakers} speakers, and {seeds}: {spread.measure} {spread.mean:.3f}{deviation}, "
        f"95 % interval over test speakers {spread.low:.3f} to {spread.high:.3f}; single runs from {spread.lowest:.3f} "
        f"to {spread.highest:.3f}. On new speakers of the same kind, expect that rather than the figures of this run."
    )
    what = "recall" if spread.measure == "UAR" else "CCC"
    yield _table([what, "mean over seeds"], [[name, _figure(value)] for name, value in spread.each.items()])


def _limits(
    described: Mapping[str, Any], config: Config, results: Mapping[str, Any], report: Mapping[str, Any]
) -> Iterator[str]:
    labelled = config.data.labelled
    if _synthetic(report):
        yield "Synthetic speech: it was trained on voices of a speech synthesiser, and tells nothing about people."
    if acted := [name for name in labelled if name in _ACTED]:
        yield (
            f"Acted speech ({_listed(acted)}): what actors do on demand is clearer than what people do by themselves, "
            "and not the same. Scores on spontaneous speech will be lower, by how much is not known."
        )
    languages = sorted({report["corpora"][name]["language"] for name in labelled})
    yield (
        f"Language: {', '.join(languages)}. Of other languages, cultures, accents, ages and recording conditions "
        "(noise, telephones, distant microphones) than the corpora's nothing is known."
    )
    if classes := [one["name"] for one in described["labels"]["classes"]]:
        yield (
            f"It chooses among {_listed(classes)} whatever it hears, also where no one speaks, and how sure it is of "
            "speech unlike its training's tells nothing."
        )
    if unrated := [one["name"] for one in described["labels"]["dimensions"] if not one["corpora"]]:
        yield f"No corpus rates {_listed(unrated)}: what the model says of it means nothing."
    if len(speakers := report["split"]["test"]["speakers"]) < 30:
        yield f"It was tested on {len(speakers)} speakers: differences of a few points may be chance."
    recalls = {name: value for name, value in results.get("test", {}).get("recall", {}).items() if value is not None}
    if recalls:
        worst = min(recalls, key=lambda name: recalls[name])
        yield f"It tells emotions apart unequally well: of {worst}, it finds {recalls[worst]:.0%} of test utterances."
    yield "A label is how actors meant, or raters heard, an utterance; it is not what the speaker felt."
    if config.model.adaptation.wanted:
        yield (
            "The test scores were made after an adaptation to unlabelled speech of the tested corpora; this export is "
            "the model before it."
        )


_MUST_NOT = """\
Not for decisions on people: hiring, firing, grading, credit, insurance, policing, border control, diagnosis, therapy.
Not to detect lies, intentions, mental states or disorders: it can do none of that. Not to watch people who do not know
of it, or have not agreed.

In the European Union, AI systems that infer emotions at workplaces and in education are prohibited but for medical or
safety reasons (Regulation (EU) 2024/1689, Article 5(1)(f)); other emotion recognition counts as high risk (Annex III),
and people who are exposed to it must be told (Article 50(3)). The model is meant for research, and for demonstrations
to people who take part of their own will."""


def _licence(config: Config, report: Mapping[str, Any]) -> str:
    heard = _heard(config, report)
    listed = "; ".join(f"`{name}`: {corpus['licence']}" for name, corpus in heard.items())
    non_commercial = [name for name, corpus in heard.items() if "-NC" in corpus["licence"]]
    told = f"The weights were learnt from corpora with licences of their own ({listed})."
    if non_commercial:
        told += (
            f" {_listed([f'`{name}`' for name in non_commercial])} may not be used commercially: do not use the "
            "weights commercially, either."
        )
    return told + " Cite the corpora as their owners ask for. The program that made them is under Apache-2.0."


def _heard(config: Config, report: Mapping[str, Any]) -> dict[str, Any]:
    """The corpora that were trained on, in whatever part."""
    heard = {*config.data.labelled, *(one["corpus"] for one in report.get("auxiliary", ()))}
    return {name: corpus for name, corpus in report["corpora"].items() if name in heard}


def _synthetic(report: Mapping[str, Any]) -> bool:
    return any(corpus["synthetic"] for corpus in report["corpora"].values())


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
