from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from datamodules.batch import LABELLED, Batch
from lightning_modules import augmentation
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.encoder import Block
from lightning_modules.features import frame_mask
from lightning_modules.heads import Head
from lightning_modules.normalisation import BatchNorm
from lightning_modules.settings import (
    AdaptationSettings,
    AdversarySettings,
    AugmentationSettings,
    ConsistencySettings,
    DecoderSettings,
    EncoderSettings,
    FeatureSettings,
    HeadSettings,
    OptimiserSettings,
)
from tests.small import LABELS, NO_AUGMENTATION, batch, first, fit, model

NO_DECODER = DecoderSettings(weight=0)
NO_ADVERSARY = AdversarySettings(weight=0)
MIXTURE = AdversarySettings(hidden=8, prior="mixture")
SINGLE: dict[str, Any] = {"decoder": NO_DECODER, "adversary": NO_ADVERSARY, "heads": {"emotion": HeadSettings()}}

SYSTEMS: dict[str, dict[str, Any]] = {
    "single task": SINGLE,
    "multi-task": {"decoder": NO_DECODER, "adversary": NO_ADVERSARY},
    "autoencoder": {"adversary": NO_ADVERSARY, "heads": {}},
    "adversarial autoencoder": {"heads": {}},
    "full": {},
    "full, mixture": {"adversary": MIXTURE},
    "full, categorical code": {"categorical": 0.1},
    "only a categorical code": {"categorical": 0.1, "adversary": NO_ADVERSARY, "decoder": NO_DECODER},
    "full, angular margin": {"heads": {"speaker": HeadSettings(margin=0.2), "emotion": HeadSettings(hidden=4)}},
    "full, group norm": {"encoder": EncoderSettings(channels=[4, 8], attention=8, normalisation="group")},
    "full, one set of statistics": {"separate_statistics": False},
    "full, all augmentation": {"augmentation": AugmentationSettings(speed=0.1, mixup=0.4)},
    "full, no augmentation": {"augmentation": NO_AUGMENTATION},
    "full, training statistics": {"features": FeatureSettings(mels=24, normalise="training")},
    "variational autoencoder": {"variational": 0.1, "adversary": NO_ADVERSARY},
    "full, augmentation recognised": {"heads": {"emotion": HeadSettings(), "augmentation": HeadSettings()}},
    "full, code in parts": {
        "code": {"emotion": 6, "speaker": 4, "rest": 2},
        "heads": {
            "emotion": HeadSettings(reads=["emotion"]),
            "speaker": HeadSettings(reads=["speaker"]),
            "no_speaker": HeadSettings(task="speaker", adversarial=True, reads=["emotion"]),
            "corpus": HeadSettings(adversarial=True),
        },
    },
}


class Watch(pl.Callback):
    """Notes the gradients of each step before the optimiser uses them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor | None]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.steps.append({name: weight.grad for name, weight in pl_module.named_parameters()})


# Every part can be switched off


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_trains_and_gives_every_weight_a_gradient(system: str, tmp_path: Path) -> None:
    module, watch = model(**SYSTEMS[system]), Watch()
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    # No label at all in the second batch: DDP needs the gradients nevertheless.
    trainer = fit(module, [batch(), batch(labelled=0, speaker=0, unlabelled=4)], tmp_path, callbacks=[watch])
    assert trainer.global_step == 2
    assert len(watch.steps) == 2
    for gradients in watch.steps:
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    assert all(weight.isfinite().all() for weight in module.parameters())
    assert all(not torch.equal(weight, before[name]) for name, weight in module.named_parameters())
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_parts_that_are_off_have_no_weights() -> None:
    single = model(**SINGLE)
    assert single.decoder is None
    assert not single.adversaries
    assert {name.split(".")[0] for name, _ in single.named_parameters()} == {"encoder", "heads"}
    off = model(heads={"emotion": HeadSettings(), "speaker": HeadSettings(weight=0)})
    assert list(off.heads) == ["emotion"]
    assert single.parameter_count == sum(weight.numel() for weight in single.parameters())


def test_the_total_is_the_weighted_sum_of_its_terms(tmp_path: Path) -> None:
    weights = {"emotion": 0.5, "speaker": 0.2}
    module = model(
        heads={name: HeadSettings(weight=weight) for name, weight in weights.items()},
        decoder=DecoderSettings(weight=0.3, channels=4, waves=4),
        adversary=AdversarySettings(weight=0.4, hidden=8),
    )
    module.strengths.prior = 0.25
    logged = fit(module, [batch()], tmp_path).callback_metrics
    weights |= {"reconstruction": 0.3, "prior": 0.4 * 0.25, "prior_discriminator": 1.0}
    expected = sum(weight * logged[f"train/{name}"].item() for name, weight in weights.items())
    assert logged["train/loss"].item() == pytest.approx(expected, rel=1e-5)


def test_a_single_task_learns_a_handful_of_utterances(tmp_path: Path) -> None:
    few = batch(labelled=6, speaker=0, unlabelled=0)
    pitch = 300.0 * 2 ** few.targets["emotion"][:, None]  # an octave a class
    few.waveform += 0.3 * torch.sin(2 * torch.pi * pitch * torch.arange(6400) / 16000) * (few.waveform != 0)
    module = model(total_steps=150, optimiser=OptimiserSettings(learning_rate=2e-2), **SINGLE)
    fit(module, [few], tmp_path, epochs=150)
    with torch.no_grad():
        predicted = module.eval()(few.waveform, few.length)["emotion"].argmax(1)
    assert torch.equal(predicted, few.targets["emotion"])


def test_a_variational_code_is_drawn_in_training_and_its_mean_in_evaluation() -> None:
    module, given = model(variational=0.1), batch()
    with torch.no_grad():
        drawn = [module.training_step(given, 0)["code"] for _ in range(2)]
        told = [module.eval()(given.waveform, given.length)["code"] for _ in range(2)]
    assert not torch.equal(*drawn)
    assert torch.equal(*told)
    assert told[0].shape == (len(given), 12)


def test_augmentations_to_recognise_are_those_that_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = {"emotion": HeadSettings(), "augmentation": HeadSettings()}
    module, given = model(augmentation=replace(NO_AUGMENTATION, noise=0.5, rate=0.2, shift=2), heads=heads), batch()
    warps: list[tuple[Tensor, Tensor]] = []
    warp = augmentation.warp

    def watch(log_mel: Tensor, frames: Tensor, rate: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        warps.append((rate, shift))
        return warp(log_mel, frames, rate, shift)

    monkeypatch.setattr(augmentation, "warp", watch)
    view = module.view(given)
    [(_, targets)] = view.targets
    rate, shift = warps[0]
    noisy = (view.seen != view.clean).flatten(1).any(1)
    assert torch.equal(targets["augmentation"], noisy + 2 * (rate > 1) + 4 * (shift > 0))
    assert 0 < noisy.sum() < len(given)


# Teachers


def test_the_teacher_is_followed_on_all_speech_and_is_no_part_of_the_model() -> None:
    module = model(consistency=ConsistencySettings(weight=0.5), augmentation=NO_AUGMENTATION, **SINGLE).eval()
    teacher, given, weights = model(seed=1, **SINGLE), batch(), set(module.state_dict())
    module.learn_from(teacher)
    module.strengths.consistency = 0.5
    logged: dict[str, Tensor] = {}
    module.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    torch.autograd.backward(module.training_step(given, 0)["loss"])
    module.on_train_epoch_end()
    with torch.no_grad():
        taught, own = (one(given.waveform, given.length)["emotion"] for one in (teacher, module))
    torch.testing.assert_close(logged["train/consistency"], -(taught * own.log()).sum(1).mean(), rtol=1e-4, atol=1e-4)
    expected = logged["train/emotion"] + 0.5 * 0.5 * logged["train/consistency"]
    torch.testing.assert_close(logged["train/loss"], expected)
    assert set(module.state_dict()) == weights
    assert not teacher.training
    assert all(weight.grad is None for weight in teacher.parameters())


def test_teachers_take_turns(tmp_path: Path) -> None:
    module = model(consistency=ConsistencySettings(weight=1))
    teachers = [model(seed=seed) for seed in (1, 2)]
    heard: list[int] = []
    for number, teacher in enumerate(teachers):
        teacher.encoder.register_forward_pre_hook(lambda *_, number=number: heard.append(number))
    module.learn_from(*teachers)
    fit(module, [batch()] * 5, tmp_path)
    assert heard == [0, 1, 0, 1, 0]


def test_a_teacher_of_labelled_speech_is_not_heard_where_labels_teach() -> None:
    module = model(consistency=ConsistencySettings(weight=1, labelled=False), augmentation=NO_AUGMENTATION)
    teacher = model(seed=1)
    heard: list[int] = []
    teacher.encoder.register_forward_pre_hook(lambda _, inputs: heard.append(len(inputs[0])))
    module.learn_from(teacher)
    module.training_step(batch(labelled=6, speaker=3, unlabelled=2), 0)
    assert heard == [5]


# Repeatability


def test_soft_labels_take_the_place_of_classes(tmp_path: Path) -> None:
    given = batch()
    shares = torch.rand(len(given), 4, generator=torch.Generator().manual_seed(5)).softmax(1)
    shares[given.targets["emotion"] < 0] = torch.nan
    given.targets["votes"] = shares
    module = model(**SINGLE)
    soft = AdversarialAutoencoder(module.settings, replace(LABELS, soft=True), 100, 0)
    head = soft.heads["emotion"]
    assert isinstance(head, Head)
    outputs = torch.randn(len(given), 4, generator=torch.Generator().manual_seed(6))
    known = given.targets["emotion"] >= 0
    expected = -(shares * outputs.log_softmax(1))[known].sum(1).mean()
    torch.testing.assert_close(head.task.loss(outputs, given.targets[head.task.target]), expected)
    fit(soft, [given], tmp_path)
    # Evaluation goes by the consensus.
    scores = soft.eval().score(given)
    assert torch.equal(scores["target_emotion"], given.targets["emotion"])
    assert scores["emotion"].shape == (len(given), 4)


def test_equal_seeds_give_equal_weights_and_others_do_not(tmp_path: Path) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        module = model(seed, augmentation=AugmentationSettings(speed=0.1, mixup=0.4), categorical=0.1)
        torch.manual_seed(int(torch.randint(1000, ())))  # what else uses random numbers does not matter
        fit(module, [batch(seed=0), batch(seed=1)], tmp_path, epochs=2)
        return module.state_dict()

    one, same, other = weights(3), weights(3), weights(4)
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not torch.equal(one["encoder.project.weight"], other["encoder.project.weight"])


def test_random_draws_depend_on_seed_step_and_batch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(seed: int = 0, batch_index: int = 0, step: int = 0, rank: int = 0) -> list[float]:
        module = model(seed)
        monkeypatch.setattr(AdversarialAutoencoder, "global_step", step)
        monkeypatch.setattr(AdversarialAutoencoder, "global_rank", rank)
        torch.rand(seed + 3)
        module.on_train_batch_start(batch(), batch_index)
        return torch.rand(4).tolist()

    assert draw() == draw()
    assert draw() == draw(rank=1)  # who draws for the whole batch
    different = [draw(), draw(seed=1), draw(batch_index=1), draw(step=1)]
    assert len({tuple(one) for one in different}) == 4


# What the encoder sees


def test_the_target_of_the_decoder_is_undisturbed() -> None:
    disturbed = AugmentationSettings(gain_db=0, noise=1, noise_snr_db=(5, 5), rate=0, shift=0)
    module, given = model(augmentation=disturbed), batch()
    expected, frames = module.features(given.waveform, given.length)
    view = module.view(given)
    assert torch.equal(view.clean, expected)
    assert torch.equal(view.frames, frames)
    assert ((view.seen - view.clean).abs().mean((1, 2)) > 0.05).all()
    assert view.targets == [(1.0, given.targets)]


def test_without_a_decoder_only_what_is_seen_is_computed() -> None:
    augmentation = AugmentationSettings(gain_db=0, noise=0.5, noise_snr_db=(5, 5), rate=0, shift=0, band_masks=0)
    module, given = model(augmentation=augmentation, decoder=NO_DECODER), batch()
    expected, _ = module.features(given.waveform, given.length)
    view = module.view(given)
    noisy = (view.clean - expected).abs().mean((1, 2)) > 0.05
    assert noisy.sum() == round(0.5 * len(given))
    assert torch.equal(view.clean[~noisy], expected[~noisy])


def test_speed_gain_rate_and_shift_move_speech_and_target_alike() -> None:
    settings = replace(NO_AUGMENTATION, speed=0.2, gain_db=6.0, rate=0.2, shift=2.0)
    module, given = model(augmentation=settings), batch()
    plain, frames = module.features(given.waveform, given.length)
    view = module.view(given)
    assert torch.equal(view.seen, view.clean)
    assert not torch.equal(view.frames, frames)
    assert not torch.allclose(view.clean, plain, atol=0.1)


def test_mixup_mixes_speech_target_and_labels_of_labelled_utterances() -> None:
    module, given = model(augmentation=replace(NO_AUGMENTATION, mixup=1.0)), batch()
    plain, frames = module.features(given.waveform, given.length)
    torch.manual_seed(0)
    view = module.view(given)
    (share, own), (rest, others) = view.targets
    assert share + rest == pytest.approx(1)
    assert 0.5 <= share < 1
    assert own == given.targets
    labelled = torch.arange(len(given)) < given.sizes[LABELLED]
    assert torch.equal(view.seen[~labelled], plain[~labelled])
    assert all(torch.equal(others[name][~labelled], own[name][~labelled]) for name in ("speaker", "gender"))

    # Whom each was mixed with is told by the ratings, which no two utterances share.
    same = others["dimensions"][labelled][:, None] == own["dimensions"][labelled][None]
    partner = same.all(2).float().argmax(1)
    assert partner.sort().values.tolist() == list(range(6))
    expected = share * plain[:6] + rest * plain[partner]
    torch.testing.assert_close(view.seen[:6], expected, rtol=0, atol=1e-5)
    assert torch.equal(view.frames[:6], torch.maximum(frames[:6], frames[partner]))
    assert torch.equal(others["emotion"][:6], own["emotion"][partner])


# Compiled


def test_a_compiled_training_is_the_same_training(tmp_path: Path) -> None:
    def weights(compiled: bool) -> dict[str, Tensor]:
        module = model()
        if compiled:
            module.compile_for_training(backend="aot_eager")  # all of it but the code for the processor
        fit(module, [batch(seed=seed) for seed in range(2)], tmp_path)
        return module.state_dict()

    plain, compiled = weights(compiled=False), weights(compiled=True)
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4, msg=name)


# Batch statistics


def running(module: AdversarialAutoencoder) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.encoder.named_buffers()}


@pytest.mark.parametrize("separate", [True, False])
def test_separate_statistics_are_those_of_the_labelled_alone(separate: bool, tmp_path: Path) -> None:
    given = batch()
    labelled = torch.arange(len(given))[:, None] < given.sizes[LABELLED]
    other = replace(given, waveform=torch.where(labelled, given.waveform, 0.3 * torch.sign(given.waveform)))

    def after(data: Batch) -> dict[str, Tensor]:
        module = model(separate_statistics=separate, augmentation=NO_AUGMENTATION)
        start = running(module)
        fit(module, [data], tmp_path)
        end = running(module)
        assert any(not torch.equal(end[name], start[name]) for name in end)
        return end

    mixed, changed, alone = after(given), after(other), after(first(given, 6))
    same = [all(torch.equal(mixed[name], one[name]) for name in mixed) for one in (changed, alone)]
    assert same == [separate, separate]


def test_separate_statistics_still_train_on_the_rest() -> None:
    module, given = model(augmentation=NO_AUGMENTATION), batch()
    log_mel, frames = module.features(given.waveform, given.length)
    log_mel.requires_grad_()
    torch.autograd.backward(module.encode(log_mel, frames, given.sizes[LABELLED]).square().sum())
    assert log_mel.grad is not None
    assert (log_mel.grad.abs().sum((1, 2)) > 0).all()
    block = module.encoder.blocks[0]
    assert isinstance(block, Block)
    norm = next(module for module in block.modules() if isinstance(module, BatchNorm))
    assert norm.track_running_stats
    assert norm.num_batches_tracked == 1


# Optimiser


def test_model_and_discriminators_have_their_own_rates() -> None:
    module = model(optimiser=OptimiserSettings(learning_rate=1e-2, discriminator_learning_rate=1e-4), categorical=0.1)
    made = module.configure_optimizers()
    optimiser, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    own, adversaries = ({id(weight) for weight in group["params"]} for group in optimiser.param_groups)
    assert adversaries == {id(weight) for weight in module.adversaries.parameters()}
    assert own == {id(weight) for weight in module.parameters()} - adversaries
    rates = []
    for _ in range(module.total_steps - 1):
        optimiser.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr())
    highest = [max(rate) for rate in zip(*rates, strict=True)]
    assert highest == pytest.approx([1e-2, 1e-4], rel=1e-2)
    assert rates[-1][0] < 1e-5
    assert made["lr_scheduler"]["interval"] == "step"


def test_model_and_discriminators_are_clipped_apart(tmp_path: Path) -> None:
    module = model()

    class Blow(pl.Callback):
        """A fierce adversary, and a gentle encoder."""

        def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
            for group, size in zip(optimizer.param_groups, (0.5, 1000.0), strict=True):
                for weight in group["params"]:
                    weight.grad = torch.zeros_like(weight)
                group["params"][0].grad.view(-1)[0] = size

    clipped = []

    class Spy(AdversarialAutoencoder):
        def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
            super().configure_gradient_clipping(optimizer, *args, **kwargs)
            for group in optimizer.param_groups:
                clipped.append(torch.stack([weight.grad.norm() for weight in group["params"]]).norm().item())

    module.__class__ = Spy
    fit(module, [batch()], tmp_path, callbacks=[Blow()], gradient_clip_val=2.0)
    assert clipped == pytest.approx([0.5, 2.0], rel=1e-4)
    clipped.clear()
    fit(module, [batch()], tmp_path, callbacks=[Blow()])
    assert clipped == pytest.approx([0.5, 1000.0])


# Parts of the code


def test_heads_touch_only_the_parts_that_they_read(tmp_path: Path) -> None:
    parts = {"emotion": 6, "speaker": 4, "rest": 2}

    def touched(reads: Sequence[str]) -> list[bool]:
        head = HeadSettings(reads=list(reads))
        module = model(code=parts, decoder=NO_DECODER, adversary=NO_ADVERSARY, heads={"emotion": head})
        watch = Watch()
        fit(module, [batch()], tmp_path, callbacks=[watch])
        gradient = watch.steps[0]["encoder.project.weight"]
        assert gradient is not None
        return [bool((part != 0).any()) for part in torch.split(gradient, [6, 4, 2])]

    assert touched(["emotion"]) == [True, False, False]
    assert touched(["speaker", "rest"]) == [False, True, True]
    assert touched([]) == [True, True, True]


# Evaluation


def test_long_utterances_are_the_mean_of_their_windows() -> None:
    module = model(window_s=0.1).eval()  # 10 frames, at most 5 apart
    given = first(batch(), 1)
    scores = module(given.waveform, given.length)
    log_mel, frames = module.features(given.waveform, given.length)
    count = int(frames)
    windows = -(-(count - 10) // 5) + 1
    starts = [one * (count - 10) // (windows - 1) for one in range(windows)]
    cut = torch.cat([log_mel[:, :, start : start + 10] for start in starts])
    code = module.encoder(cut, torch.full((windows,), 10))
    torch.testing.assert_close(scores["code"], code.mean(0, keepdim=True), rtol=1e-4, atol=1e-5)
    probabilities = module.heads["emotion"](code).softmax(1)
    torch.testing.assert_close(scores["emotion"], probabilities.mean(0, keepdim=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window_s", [0.1, 6.0])
def test_scores_do_not_depend_on_companions_or_padding(window_s: float) -> None:
    module, given = model(window_s=window_s).eval(), batch()
    together = module(given.waveform, given.length)
    for one in range(len(given)):
        length = given.length[one : one + 1]
        alone = module(given.waveform[one : one + 1, : int(length)], length)
        for name, scores in together.items():
            torch.testing.assert_close(scores[one], alone[name][0], rtol=1e-3, atol=1e-4)


def test_scores_carry_what_evaluation_needs() -> None:
    module, given = model().eval(), batch()
    given.row[2] = -1
    scores = module.validation_step(given, 0)
    assert scores["valid"].tolist() == [row >= 0 for row in given.row.tolist()]
    assert torch.equal(scores["row"], given.row)
    assert all(scores[f"target_{name}"] is target for name, target in given.targets.items())
    assert {name: tuple(scores[name].shape) for name in ("code", "emotion", "dimensions")} == {
        "code": (11, 12),
        "emotion": (11, 4),
        "dimensions": (11, 3),
    }
    torch.testing.assert_close(scores["emotion"].sum(1), torch.ones(11))
    again = module.test_step(given, 0)
    assert all(torch.equal(value.nan_to_num(), again[name].nan_to_num()) for name, value in scores.items())
    assert not {"speaker", "gender", "emotion", "dimensions"} & set(model(heads={})(given.waveform, given.length))


def test_an_adversarial_head_does_not_speak_for_its_task() -> None:
    module = model(
        heads={
            "emotion": HeadSettings(),
            "second": HeadSettings(task="emotion"),
            "unwanted": HeadSettings(task="emotion", adversarial=True),
        }
    ).eval()
    given = batch()
    scores = module(given.waveform, given.length)
    expected = module.heads["emotion"](scores["code"]).softmax(1)
    torch.testing.assert_close(scores["emotion"], expected)


@pytest.mark.parametrize("categorical", [0.0, 0.1])
def test_reconstructions_are_those_that_training_is_scored_on(categorical: float) -> None:
    module, given = model(categorical=categorical).eval(), batch()
    log_mel, reconstruction, frames = module.reconstruct(given.waveform, given.length)
    assert reconstruction.shape == log_mel.shape
    expected, expected_frames = module.features(given.waveform, given.length)
    assert torch.equal(log_mel, expected)
    assert torch.equal(frames, expected_frames)
    module.settings.augmentation = NO_AUGMENTATION
    valid = frame_mask(frames, log_mel.shape[-1])
    loss = (((reconstruction - log_mel).square().mean(1) * valid).sum(1) / frames).mean()
    logged: dict[str, Tensor] = {}
    module.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    module.training_step(given, 0)
    module.on_train_epoch_end()
    torch.testing.assert_close(logged["train/reconstruction"], loss, rtol=1e-4, atol=1e-4)


def test_no_decoder_no_reconstruction() -> None:
    with pytest.raises(ValueError, match="no decoder"):
        model(**SINGLE).reconstruct(batch().waveform, batch().length)


# Settings that do not fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": {"mood": HeadSettings()}}, r"model\.heads\.mood: unknown task 'mood', choose from augmentation, c"),
        ({"heads": {"gender": HeadSettings(reads=["voice"])}}, r"model\.heads\.gender\.reads: .*'voice'.*shared"),
        ({"adversary": AdversarySettings(prior="cauchy")}, r"model\.adversary\.prior: unknown 'cauchy'"),
        ({"adversary": MIXTURE, "code": {"shared": 3}}, "4 classes needs a code"),
        ({"categorical": 0.1, "heads": {}}, r"model\.categorical needs the head 'emotion'"),
        ({"consistency": ConsistencySettings(weight=1), "heads": {}}, r"model\.consistency needs the head 'emotion'"),
        ({"adaptation": AdaptationSettings(priors=True), "heads": {}}, r"model\.adaptation\.priors needs the head"),
        (
            {
                "adaptation": AdaptationSettings(statistics=True),
                "encoder": EncoderSettings(channels=[4], normalisation="group"),
            },
            r"model\.adaptation\.statistics needs model\.encoder\.normalisation=batch",
        ),
        ({"features": FeatureSettings(normalise="none")}, "features.normalise is 'none'"),
        ({"window_s": 0.01}, "window_s: windows of"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**changes)


def test_heads_without_labels_to_learn_from() -> None:
    labels = replace(LABELS, emotions=(), emotion_counts=())
    small = model().settings
    with pytest.raises(ValueError, match=r"0 different labels for 'emotion'.*model\.heads\.emotion\.weight=0"):
        AdversarialAutoencoder(small, labels, 10, 0)
    with pytest.raises(ValueError, match="mixture needs emotion classes"):
        AdversarialAutoencoder(replace(small, heads={}, adversary=MIXTURE), labels, 10, 0)
