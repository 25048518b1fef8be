"""Tasks on the code: one function each.

To add a task, write a function that takes the labels and the head's settings and returns a ``Task``, decorate it with
``@task("name")``, and give it a line under ``model.heads`` in an experiment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.batch import Labels
from datamodules.vocabulary import DIMENSIONS, GENDERS
from lightning_modules.augmentation import KINDS
from lightning_modules.draws import ALONE, Draws, Dropout
from lightning_modules.losses import additive_angular_margin, concordance_loss, cross_entropy
from lightning_modules.settings import HeadSettings


@dataclass(frozen=True)
class Task:
    """What a head has to solve.

    Attributes:
        target: Name of its label in ``Batch.targets``.
        outputs: Number of outputs.
        loss: From outputs (batch, outputs) and targets to a scalar.
        predict: From outputs to what is reported; none for tasks that are not evaluated.
        prediction: Name under which it is reported.
        cosine: The outputs are cosines to class vectors, not products with weights.
    """

    target: str
    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    predict: Callable[[Tensor], Tensor] | None = None
    prediction: str = ""
    cosine: bool = False


TASKS: dict[str, Callable[[Labels, HeadSettings], Task]] = {}


def task(name: str) -> Callable[[Callable[[Labels, HeadSettings], Task]], Callable[[Labels, HeadSettings], Task]]:
    """Registers a task under ``name``."""

    def register(make: Callable[[Labels, HeadSettings], Task]) -> Callable[[Labels, HeadSettings], Task]:
        TASKS[name] = make
        return make

    return register


@task("emotion")
def emotion(labels: Labels, settings: HeadSettings) -> Task:
    """Categorical emotion; predicts probabilities (batch, classes)."""
    weight = None
    if settings.class_weights:
        counts = torch.tensor(labels.emotion_counts, dtype=torch.float32).clamp(min=1)
        weight = counts.sum() / (len(counts) * counts)
    return Task(
        target="votes" if labels.soft else "emotion",
        outputs=len(labels.emotions),
        loss=partial(_weighted_cross_entropy, weight=weight, label_smoothing=settings.label_smoothing),
        predict=partial(torch.softmax, dim=1),
        prediction="emotion",
    )


@task("dimensions")
def dimensions(labels: Labels, settings: HeadSettings) -> Task:
    """Activation, valence and dominance on [0, 1], all three at once; predicts values (batch, 3)."""
    return Task(
        target="dimensions",
        outputs=len(DIMENSIONS),
        loss=concordance_loss,
        predict=lambda outputs: outputs,
        prediction="dimensions",
    )


@task("speaker")
def speaker(labels: Labels, settings: HeadSettings) -> Task:
    """Identity among the training speakers of all corpora."""
    if settings.margin > 0:
        loss = partial(additive_angular_margin, margin=settings.margin, scale=settings.scale)
        return Task(target="speaker", outputs=labels.speakers, loss=loss, cosine=True)
    return Task(target="speaker", outputs=labels.speakers, loss=cross_entropy)


@task("gender")
def gender(labels: Labels, settings: HeadSettings) -> Task:
    """Female or male."""
    return Task(target="gender", outputs=len(GENDERS), loss=cross_entropy)


@task("corpus")
def corpus(labels: Labels, settings: HeadSettings) -> Task:
    """The corpus an utterance comes from; with ``adversarial``, domain-adversarial training."""
    return Task(target="corpus", outputs=len(labels.corpora), loss=cross_entropy)


@task("augmentation")
def augmentation(labels: Labels, settings: HeadSettings) -> Task:
    """What was done to the utterance, of which all speech has a label."""
    return Task(target="augmentation", outputs=KINDS, loss=cross_entropy)


def _weighted_cross_entropy(outputs: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    weight = None if weight is None else weight.to(outputs.device)
    return cross_entropy(outputs, target, weight, label_smoothing)


class _Reversal(torch.autograd.Function):
    """Identity forwards, the gradient times a negative number backwards (Ganin and Lempitsky, ICML 2015)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength  # type: ignore[attr-defined]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None  # type: ignore[attr-defined]


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """``x``, whose gradient comes back times ``-strength``."""
    reversed_: Tensor = _Reversal.apply(x, strength)  # type: ignore[no-untyped-call]
    return reversed_


class Head(nn.Module):
    """A task's layers on (a part of) the code.

    Args:
        inputs: Size of what it reads.
        task: What it solves.
        settings: See ``HeadSettings``.
    """

    def __init__(self, inputs: int, task: Task, settings: HeadSettings) -> None:
        super().__init__()
        self.task = task
        self.settings = settings
        self.dropout = Dropout(settings.dropout)
        self.hidden = nn.Linear(inputs, settings.hidden) if settings.hidden else None
        self.output = nn.Linear(settings.hidden or inputs, task.outputs, bias=not task.cosine)

    def forward(self, code: Tensor, reversal: float = 1.0, draws: Draws = ALONE) -> Tensor:
        """Code (batch, inputs) to outputs (batch, outputs), float32.

        Args:
            code: What the head reads.
            reversal: Strength of the gradient reversal of an adversarial head.
            draws: For what is dropped in training.
        """
        if self.settings.adversarial:
            code = reverse_gradient(code, reversal)
        x = self.dropout(code, draws)
        if self.hidden is not None:
            x = F.relu(self.hidden(x))
        if self.task.cosine:
            # Half precision cannot tell small angles apart.
            with torch.autocast(x.device.type, enabled=False):
                cosine: Tensor = F.normalize(x.float(), dim=1) @ F.normalize(self.output.weight.float(), dim=1).T
            return cosine
        outputs: Tensor = self.output(x)
        return outputs.float()
