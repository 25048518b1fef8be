"""The page: what is recorded or uploaded, and beside it what the model says."""

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from callbacks.plots import COLOURS
from datamodules.errors import InputError
from experiments.app.listening import Heard, listen
from experiments.predict.recogniser import Recogniser, Recognition

_ABOUT = """# {name}

Record or upload speech: the model tells {what}. It hears a voice, and cannot know what somebody feels:
do not decide about people by it. What you give stays on this machine,
and is deleted after a day, or when the command ends.
{notes}"""
_NOVELTY = (
    "**Novelty {novelty:.2f}:** "
    "so large a share of the development utterances is nearer to what the model was trained on."
)
_FAR = 0.95
_COLUMNS = ["time", "score", "name"]


def page(recogniser: Recogniser, name: str, window_s: float, hop_s: float) -> gr.Blocks:
    """Makes the page of a model; what it lacks has no place on it.

    Args:
        recogniser: The model.
        name: What to call it.
        window_s: Length of the windows over time, in seconds.
        hop_s: From the beginning of a window to that of the next one.
    """
    kinds: tuple[tuple[str, str, Sequence[str]], ...] = (
        ("emotion", "probability", recogniser.emotions),
        ("dimensions", "0 to 1, upwards", recogniser.dimensions),
    )
    told = " and ".join(kind for kind, _, names in kinds if names)
    notes = "".join(f"\n**{note}**\n" for note in recogniser.model.notes)
    axis = f"time in s (middle of a window of {window_s:g} s)"
    blocks: gr.Blocks
    with gr.Blocks(
        title=f"{name}: speech emotion recognition", analytics_enabled=False, delete_cache=(3600, 86400)
    ) as blocks:
        gr.Markdown(_ABOUT.format(name=name, what=told, notes=notes))
        with gr.Row():
            with gr.Column(scale=1):
                sound = gr.Audio(
                    sources=["upload", "microphone"], type="filepath", label="Speech", buttons=["download"]
                )
                shown: list[Any] = [gr.Label(label="Emotion")] if recogniser.emotions else []
                with gr.Row():
                    shown += [gr.Number(label=one.capitalize(), precision=2) for one in recogniser.dimensions]
                shown.append(gr.Markdown())
            with gr.Column(scale=2):
                shown += [
                    gr.LinePlot(
                        x="time",
                        y="score",
                        color="name",
                        x_title=axis,
                        y_title=what,
                        color_title=kind,
                        colors_in_legend=list(names),
                        color_map=dict(zip(names, cycle(COLOURS))),
                        label=f"{kind.capitalize()} over time",
                    )
                    for kind, what, names in kinds
                    if names
                ]

        # Gradio looks for its bar among the defaults.
        def recognise(path: str | None, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008
            if path is None:
                return [None] * len(shown)
            try:
                heard = listen(recogniser, Path(path), window_s, hop_s, progress)
            except InputError as error:
                raise gr.Error(str(error), duration=None, print_exception=False) from error
            return _filled(recogniser, heard)

        sound.change(recognise, sound, shown, api_name="recognise", show_progress="full")
    return blocks


def _filled(recogniser: Recogniser, heard: Heard) -> list[Any]:
    """What the parts of the page show, in their order."""
    found = heard.whole
    values: list[Any] = [found.probabilities] if recogniser.emotions else []
    values += list(found.dimensions.values())
    values.append(_novelty(found.novelty))
    if recogniser.emotions:
        values.append(_curves(heard, lambda one: one.probabilities))
    if recogniser.dimensions:
        values.append(_curves(heard, lambda one: one.dimensions))
    return values


def _novelty(novelty: float) -> str:
    if math.isnan(novelty):
        return ""
    doubt = " **Better do not believe what is said.**" if novelty >= _FAR else ""
    return _NOVELTY.format(novelty=novelty) + doubt


def _curves(heard: Heard, scores: Callable[[Recognition], dict[str, float]]) -> gr.LinePlot | None:
    """The curves; windows without speech have no point."""
    there = [row for row in heard.windows if row.found is not None]
    middles = [[(row.start + (row.end or row.start)) / 2] for row in there]
    if len(there) == 1:
        middles = [[there[0].start, there[0].end or there[0].start]]  # of a single point there is nothing to be seen
    rows = [
        (round(time, 3), score, name)
        for row, times in zip(there, middles, strict=True)
        if row.found is not None
        for name, score in scores(row.found).items()
        for time in times
    ]
    if not rows:
        return None
    # Of dimensions, a model may go beyond the range of the ratings.
    values = [score for _, score, _ in rows]
    limits: list[float | None] = [min(0, *values), max(1, *values)]
    return gr.LinePlot(pd.DataFrame(rows, columns=_COLUMNS), y_lim=limits)
