import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from callbacks.averaging import ExponentialAverage
from callbacks.health import AdversaryHealth
from callbacks.schedule import AdversarialSchedule, consistency_strength, input_noise, prior_strength, reversal_strength
from callbacks.settings import ScheduleSettings
from datamodules.errors import InputError
from lightning_modules.settings import AdversarySettings, ConsistencySettings, DecoderSettings, OptimiserSettings
from tests.small import batch, fit, model

# The functions


@pytest.mark.parametrize(("progress", "strength"), [(0, 0), (0.199, 0), (0.2, 0), (0.35, 0.5), (0.5, 1), (1, 1)])
def test_the_prior_warms_up_and_ramps(progress: float, strength: float) -> None:
    assert prior_strength(progress, ScheduleSettings(warm_up=0.2, ramp=0.3)) == pytest.approx(strength)


def test_the_prior_can_start_at_once() -> None:
    assert prior_strength(0, ScheduleSettings(warm_up=0, ramp=0)) == 1
    assert [prior_strength(at, ScheduleSettings(warm_up=0.5, ramp=0)) for at in (0.49, 0.5)] == [0, 1]


@pytest.mark.parametrize("progress", [0, 0.1, 0.5, 1])
def test_reversal_grows_as_ganin_and_lempitsky_have_it(progress: float) -> None:
    expected = 0.6 * math.tanh(5 * progress)  # the same function
    assert reversal_strength(progress, ScheduleSettings(reversal=0.6)) == pytest.approx(expected)


@pytest.mark.parametrize(("progress", "strength"), [(0, 0), (0.1, 0.25), (0.4, 1), (1, 1)])
def test_a_teacher_is_followed_the_more_the_more_it_knows(progress: float, strength: float) -> None:
    assert consistency_strength(progress, ScheduleSettings(consistency=0.4)) == pytest.approx(strength)
    assert consistency_strength(progress, ScheduleSettings(consistency=0)) == 1


@pytest.mark.parametrize(("progress", "noise"), [(0, 0.4), (0.25, 0.2), (0.5, 0), (0.9, 0)])
def test_noise_falls_to_nothing(progress: float, noise: float) -> None:
    assert input_noise(progress, ScheduleSettings(noise=0.4, noise_decay=0.5)) == pytest.approx(noise)
    assert input_noise(progress, ScheduleSettings(noise=0.4, noise_decay=0)) == 0


def test_discriminators_must_have_turns() -> None:
    with pytest.raises(InputError, match=r"schedule\.cadence is 0"):
        AdversarialSchedule(ScheduleSettings(cadence=0), 10)


# The schedule in training


class Diary(pl.Callback):
    """Notes the strengths that each step has, and the weights after it."""

    def __init__(self) -> None:
        self.strengths: list[dict[str, float]] = []
        self.discriminator: list[Tensor] = []
        self.encoder: list[Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.strengths.append(dict(vars(pl_module.strengths)))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        adversary = pl_module.adversaries["prior"]
        self.discriminator.append(torch.cat([weight.detach().flatten() for weight in adversary.parameters()]))
        self.encoder.append(pl_module.encoder.project.weight.detach().clone())


def test_strengths_follow_the_steps_of_the_whole_training(tmp_path: Path) -> None:
    settings, diary = ScheduleSettings(warm_up=0.2, ramp=0.4, noise=0.5, noise_decay=1.0, reversal=0.7), Diary()
    schedule = AdversarialSchedule(settings, total_steps=10)
    logged = fit(model(), [batch()] * 5, tmp_path, 2, [schedule, diary]).callback_metrics
    progress = [step / 10 for step in range(10)]
    for name, function in (("prior", prior_strength), ("reversal", reversal_strength), ("noise", input_noise)):
        expected = [function(at, settings) for at in progress]
        assert [strengths[name] for strengths in diary.strengths] == pytest.approx(expected)
        assert logged[f"schedule/{name}"].item() == pytest.approx(expected[-1])


def test_strengths_reach_the_losses(tmp_path: Path) -> None:
    """A code that only the adversary pulls at stands still in the warm-up, and no longer."""
    module, diary = (
        model(heads={}, decoder=DecoderSettings(weight=0), optimiser=OptimiserSettings(weight_decay=0)),
        Diary(),
    )
    schedule = AdversarialSchedule(ScheduleSettings(warm_up=0.5, ramp=0), total_steps=6)
    start = module.encoder.project.weight.detach().clone()
    fit(module, [batch()] * 6, tmp_path, callbacks=[schedule, diary])
    assert [torch.equal(weight, start) for weight in diary.encoder] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("cadence", [1, 3])
def test_discriminators_move_at_every_nth_step_only(cadence: int, tmp_path: Path) -> None:
    module, diary = model(), Diary()
    start = torch.cat([weight.detach().flatten() for weight in module.adversaries.parameters()])
    first = module.encoder.project.weight.detach().clone()
    schedule = AdversarialSchedule(ScheduleSettings(cadence=cadence), total_steps=7)
    fit(module, [batch()] * 7, tmp_path, callbacks=[schedule, diary], gradient_clip_val=1.0)
    after = [start, *diary.discriminator]
    moved = [not torch.equal(one, two) for one, two in pairwise(after)]
    assert moved == [step % cadence == 0 for step in range(7)]
    encoders = [first, *diary.encoder]
    assert not any(torch.equal(one, two) for one, two in pairwise(encoders))


# Health


class Codes(pl.Callback):
    """Notes codes and accuracies."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.outputs.append({name: value.clone() for name, value in outputs.items()})


@pytest.mark.parametrize("prior", ["gaussian", "mixture"])
def test_health_tells_accuracy_and_moments_of_the_last_epoch(prior: str, tmp_path: Path) -> None:
    adversary = AdversarySettings(hidden=8, prior=prior)
    module, codes = model(adversary=adversary, categorical=0.1), Codes()
    different = [batch(), batch(labelled=4, speaker=2, unlabelled=1, seed=1)]
    logged = fit(module, different, tmp_path, 2, [AdversaryHealth(), codes]).callback_metrics

    last = codes.outputs[2:]
    code = torch.cat([outputs["code"] for outputs in last]).double()
    mean, deviation = torch.zeros(12), torch.ones(12)
    if prior == "mixture":  # by hand: shares 8, 4, 2, 2 of 16, centres on the first four axes at 4
        share = torch.tensor([0.5, 0.25, 0.125, 0.125])
        mean[:4] = 4 * share
        deviation[:4] = (1 + 16 * share * (1 - share)).sqrt()
    distance = (code.mean(0) - mean).square().mean().sqrt()
    assert logged["adversary/mean_distance"].item() == pytest.approx(distance.item(), rel=1e-4)
    ratio = (code.std(0, correction=0) / deviation).mean()
    assert logged["adversary/deviation_ratio"].item() == pytest.approx(ratio.item(), rel=1e-4)
    for name in ("prior_accuracy", "categorical_accuracy"):
        expected = sum(outputs[name] * len(one) for outputs, one in zip(last, different, strict=True)) / 18
        assert logged[f"adversary/{name}"].item() == pytest.approx(float(expected), rel=1e-5)
        assert 0 <= logged[f"adversary/{name}"] <= 1


def test_health_of_a_batch_with_faults_is_weighted_by_its_utterances(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    faulty = batch()
    faulty.faults.append("a file, and why it could not be read")
    fit(model(), [faulty], tmp_path, callbacks=[AdversaryHealth()])
    assert not [str(warning.message) for warning in recwarn if "batch_size" in str(warning.message)]


def test_without_adversary_there_is_no_health(tmp_path: Path) -> None:
    trainer = fit(model(adversary=AdversarySettings(weight=0)), [batch()], tmp_path, callbacks=[AdversaryHealth()])
    assert not [name for name in trainer.callback_metrics if name.startswith("adversary")]


# Averaged weights


class Trace(pl.Callback):
    """Notes the weights after each step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.weights.append({name: value.clone() for name, value in pl_module.state_dict().items()})


@pytest.mark.parametrize("decay", [0.3, 0.995])
def test_the_average_forgets_exponentially_and_starts_quickly(decay: float, tmp_path: Path) -> None:
    module, trace = model(), Trace()
    fit(module, [batch()] * 6, tmp_path, callbacks=[trace, ExponentialAverage(decay)])
    expected = {name: value.clone() for name, value in trace.weights[0].items()}
    for step, weights in enumerate(trace.weights[1:], start=1):
        keep = min(decay, (1 + step) / (10 + step))
        for name, value in weights.items():
            mean = keep * expected[name] + (1 - keep) * value
            expected[name] = mean if value.is_floating_point() else value
    final = module.state_dict()
    for name, value in final.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6, msg=name)
    assert int(final["encoder.blocks.0.layers.0.norm.num_batches_tracked"]) == 6


def test_the_average_is_the_teacher_where_there_is_to_be_one(tmp_path: Path) -> None:
    average = ExponentialAverage(0.9)
    taught = model(consistency=ConsistencySettings(weight=1))
    heard: list[bool] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            assert average._average_model is not None
            heard.append(taught._teachers == (average._average_model.module,))

    fit(taught, [batch()] * 2, tmp_path, callbacks=[average, Watch()])
    assert heard == [True, True]
    alone = model()
    fit(alone, [batch()], tmp_path, callbacks=[ExponentialAverage(0.9)])
    assert not alone.taught


def test_accumulated_gradients_are_one_step_of_the_average(tmp_path: Path) -> None:
    average = ExponentialAverage(0.9)
    fit(model(), [batch()] * 6, tmp_path, callbacks=[average], accumulate_grad_batches=3)
    assert average._average_model is not None
    assert average._average_model.n_averaged.item() == 2
