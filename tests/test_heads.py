from dataclasses import replace

import pytest
import torch
from torch import Tensor

from datamodules.batch import Labels
from lightning_modules import heads
from lightning_modules.heads import TASKS, Head, Task, reverse_gradient
from lightning_modules.losses import additive_angular_margin, concordance_loss, cross_entropy
from lightning_modules.settings import HeadSettings
from tests.small import LABELS, model

OUTPUTS = {"augmentation": 8, "emotion": 4, "dimensions": 3, "speaker": 5, "gender": 2, "corpus": 2}


def make(name: str, **changes: object) -> Head:
    torch.manual_seed(0)
    settings = replace(HeadSettings(dropout=0.0), **changes)  # type: ignore[arg-type]
    return Head(6, TASKS[name](LABELS, settings), settings)


def codes() -> Tensor:
    return torch.randn(7, 6, generator=torch.Generator().manual_seed(1))


def test_reversal_is_the_identity_forwards_and_turns_the_gradient() -> None:
    x = codes().requires_grad_()
    y = reverse_gradient(x, 0.3)
    assert torch.equal(y, x)
    torch.autograd.backward(y.pow(2).sum())
    torch.testing.assert_close(x.grad, -0.3 * 2 * x)


@pytest.mark.parametrize("strength", [1.0, 0.25, 0.0])
def test_adversarial_heads_learn_while_the_code_forgets(strength: float) -> None:
    target = torch.tensor([0, 1, 1, 0, 1, 0, 0])
    gradients = {}
    for adversarial in (False, True):
        head, code = make("gender", adversarial=adversarial, hidden=5), codes().requires_grad_()
        torch.autograd.backward(head.task.loss(head(code, strength), target))
        gradients[adversarial] = (code.grad, [weight.grad for weight in head.parameters()])
    (code_with, own_with), (code_against, own_against) = gradients[False], gradients[True]
    assert code_with is not None
    assert code_with.abs().sum() > 0
    torch.testing.assert_close(code_against, -strength * code_with)
    torch.testing.assert_close(own_against, own_with)


@pytest.mark.parametrize("name", TASKS)
def test_outputs_fit_the_labels(name: str) -> None:
    head = make(name)
    assert head(codes()).shape == (7, OUTPUTS[name])
    assert make(name, hidden=4)(codes()).shape == (7, OUTPUTS[name])


def test_only_what_is_evaluated_predicts() -> None:
    assert {name for name in TASKS if make(name).task.predict} == {"emotion", "dimensions"}
    emotion, dimensions = make("emotion"), make("dimensions")
    assert emotion.task.predict is not None
    assert dimensions.task.predict is not None
    outputs = emotion(codes())
    torch.testing.assert_close(emotion.task.predict(outputs), outputs.exp() / outputs.exp().sum(1, keepdim=True))
    assert torch.equal(dimensions.task.predict(dimensions(codes())), dimensions(codes()))


def test_losses_are_those_that_the_settings_name() -> None:
    target = torch.tensor([0, 3, 1, -1, 2, 0, 0])
    plain, smoothed = make("emotion"), make("emotion", label_smoothing=0.1)
    outputs = plain(codes())
    torch.testing.assert_close(plain.task.loss(outputs, target), cross_entropy(outputs, target))
    torch.testing.assert_close(smoothed.task.loss(outputs, target), cross_entropy(outputs, target, label_smoothing=0.1))
    rated = torch.rand(7, 3)
    dimensions = make("dimensions")
    torch.testing.assert_close(dimensions.task.loss(rated.square(), rated), concordance_loss(rated.square(), rated))


def test_class_weights_are_inverse_frequencies_with_a_mean_of_one_over_the_training_data() -> None:
    counts = torch.tensor(LABELS.emotion_counts).float()
    everyone = torch.arange(4).repeat_interleave(counts.long())
    head, outputs = make("emotion", class_weights=True), torch.randn(len(everyone), 4)
    # Weighted by inverse frequency, each class weighs the same whatever its size.
    by_class = torch.stack([cross_entropy(outputs[everyone == one], everyone[everyone == one]) for one in range(4)])
    torch.testing.assert_close(head.task.loss(outputs, everyone), by_class.mean())


def test_class_without_training_data_has_a_finite_weight() -> None:
    labels = replace(LABELS, emotion_counts=(3, 0, 1, 1))
    task = TASKS["emotion"](labels, HeadSettings(class_weights=True))
    assert task.loss(torch.randn(2, 4), torch.tensor([0, 2])).isfinite()


def test_margin_works_on_cosines() -> None:
    head, target = make("speaker", margin=0.2, scale=20.0), torch.tensor([0, 4, 1, -1, 2, 3, 0])
    cosine = head(codes())
    assert cosine.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(head(3 * codes()), cosine)
    assert head.output.bias is None
    direct = torch.nn.functional.cosine_similarity(codes()[:, None], head.output.weight[None], dim=2)
    torch.testing.assert_close(cosine, direct)
    torch.testing.assert_close(head.task.loss(cosine, target), additive_angular_margin(cosine, target, 0.2, 20.0))


def test_speakers_without_margin_have_a_plain_softmax() -> None:
    head, target = make("speaker"), torch.tensor([0, 4, 1, -1, 2, 3, 0])
    assert head.output.bias is not None
    torch.testing.assert_close(head.task.loss(head(codes()), target), cross_entropy(head(codes()), target))


def test_dropout_in_training_only() -> None:
    head = make("emotion", dropout=0.5)
    assert not torch.equal(head(codes()), head(codes()))
    head.eval()
    assert torch.equal(head(codes()), head(codes()))


def test_outputs_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = [make(name)(codes()) for name in TASKS]
        cosine = make("speaker", margin=0.2)(codes())
    assert all(output.dtype == torch.float32 for output in outputs)
    # Rounded to half precision, cosines could not carry a margin.
    assert torch.equal(cosine, make("speaker", margin=0.2)(codes()))


def test_a_new_task_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "arousal_class", TASKS["gender"])  # so that the registry is restored

    @heads.task("arousal_class")
    def arousal_class(labels: Labels, settings: HeadSettings) -> Task:
        return Task(target="gender", outputs=3, loss=cross_entropy)

    made = model(heads={"own": HeadSettings(task="arousal_class")})
    head = made.heads["own"]
    assert isinstance(head, Head)
    assert head.output.out_features == 3
