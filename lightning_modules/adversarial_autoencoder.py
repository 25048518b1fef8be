"""The LightningModule: encoder, decoder, adversary and heads, put together."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn

from datamodules.batch import LABELLED, Batch, Labels
from lightning_modules import augmentation
from lightning_modules.decoder import Decoder
from lightning_modules.discriminator import PRIORS, Adversary
from lightning_modules.draws import ALONE, Draws, shared
from lightning_modules.encoder import Encoder
from lightning_modules.features import LogMel
from lightning_modules.heads import TASKS, Head
from lightning_modules.losses import consistency_loss, divergence_loss, reconstruction_loss
from lightning_modules.means import EpochMeans
from lightning_modules.normalisation import statistics_anew, statistics_kept
from lightning_modules.priors import CategoricalPrior, GaussianPrior, MixturePrior, Prior
from lightning_modules.settings import ModelSettings
from lightning_modules.windows import Windows


@dataclass
class Strengths:
    """What the adversarial schedule turns up and down during training.

    Attributes:
        prior: Factor on the encoder's adversarial losses.
        reversal: Factor on reversed gradients.
        consistency: Factor on the agreement with teachers.
        noise: Deviation of the noise that the discriminators see.
    """

    prior: float = 1.0
    reversal: float = 1.0
    consistency: float = 1.0
    noise: float = 0.0


@dataclass
class View:
    """A batch as the encoder sees it in training.

    Attributes:
        seen: Disturbed log-mel, (batch, mels, frames).
        clean: The same without the disturbance: the decoder's target.
        frames: Valid frames, (batch,).
        targets: Labels and the share that each set of labels has in the utterances: one set, or two under mixup.
    """

    seen: Tensor
    clean: Tensor
    frames: Tensor
    targets: list[tuple[float, dict[str, Tensor]]]


@dataclass
class Losses:
    """What a training batch costs.

    Attributes:
        terms: Weight and loss (a scalar) of each term of the total; terms of heads have their names.
        code: Codes, (batch, code).
        accuracies: Of the discriminators, 0 to 1.
    """

    terms: dict[str, tuple[float, Tensor]]
    code: Tensor
    accuracies: dict[str, Tensor]


class AdversarialAutoencoder(LightningModule):
    """Multi-task semi-supervised adversarial autoencoder for speech emotion recognition.

    After Latif et al., "Multi-Task Semi-Supervised Adversarial Autoencoding for Speech Emotion Recognition" (IEEE
    Trans. Affective Computing 13(2), 2022). The paper's exact layers, weights and schedule are not available to us:
    those here are our choices.

    Encoder, heads, decoder and discriminators are trained in one backward pass (see ``Adversary``), with automatic
    optimisation, so clipping, accumulation, schedulers and plain DDP work as documented by Lightning.

    Args:
        settings: See ``ModelSettings``.
        labels: Sizes of the heads and class frequencies, from the training data.
        total_steps: Optimiser steps of the whole training, which the learning rate follows.
        seed: Of the random numbers drawn in training.

    Raises:
        ValueError: A setting does not fit the others; the message names it.
    """

    emotion_ratio: Tensor

    def __init__(self, settings: ModelSettings, labels: Labels, total_steps: int, seed: int) -> None:
        super().__init__()
        self.settings = settings
        self.labels = labels
        self.total_steps = total_steps
        self.seed = seed
        self.strengths = Strengths()
        self._means = EpochMeans()
        # In a tuple, where PyTorch does not see them: their weights are not the model's.
        self._teachers: tuple[AdversarialAutoencoder, ...] = ()

        mels = settings.features.mels
        self.parts = _slices(settings.code)
        code = sum(settings.code.values())
        classes = len(labels.emotions)

        self.features = LogMel(settings.features)
        # The second half holds the logarithms of the variances.
        self.encoder = Encoder(mels, code * 2 if settings.variational > 0 else code, settings.encoder)
        self.windows = Windows(round(settings.window_s * 1000 / settings.features.hop_ms))
        self.heads = nn.ModuleDict(self._build_heads())
        decoded = code + (classes if settings.categorical > 0 else 0)
        self.decoder = Decoder(mels, decoded, settings.decoder) if settings.decoder.weight > 0 else None
        self._in_training = self._as_they_are()
        self.adversaries = nn.ModuleDict(self._build_adversaries(code))
        # What ``adapt`` multiplies the emotions' probabilities by: no part of a checkpoint, and undone by another one.
        self.register_buffer("emotion_ratio", torch.ones(classes), persistent=False)
        self.register_load_state_dict_post_hook(_forget_priors)  # type: ignore[no-untyped-call]
        if settings.adaptation.statistics and settings.encoder.normalisation != "batch":
            raise ValueError(
                "model.adaptation.statistics needs model.encoder.normalisation=batch, which has statistics"
            )
        if settings.adaptation.priors and "emotion" not in self.heads:
            raise ValueError("model.adaptation.priors needs the head 'emotion', whose probabilities it scales")
        if settings.consistency.weight > 0 and "emotion" not in self.heads:
            raise ValueError("model.consistency needs the head 'emotion', on which teacher and model are to agree")

    def _build_heads(self) -> dict[str, Head]:
        heads = {}
        for name, settings in self.settings.heads.items():
            if settings.weight <= 0:
                continue
            kind = settings.task or name
            if kind not in TASKS:
                raise ValueError(f"model.heads.{name}: unknown task {kind!r}, choose from {', '.join(sorted(TASKS))}")
            unknown = [part for part in settings.reads if part not in self.parts]
            if unknown:
                raise ValueError(
                    f"model.heads.{name}.reads: the code has no part {unknown[0]!r}, only {list(self.parts)}"
                )
            task = TASKS[kind](self.labels, settings)
            if task.outputs < 2:
                raise ValueError(
                    f"model.heads.{name}: the training data has {task.outputs} different labels for {task.target!r}; "
                    f"switch the head off with model.heads.{name}.weight=0"
                )
            inputs = sum(self.settings.code[part] for part in settings.reads or self.settings.code)
            heads[name] = Head(inputs, task, settings)
        return heads

    def _build_adversaries(self, code: int) -> dict[str, Adversary]:
        settings = self.settings.adversary
        frequencies = torch.tensor(self.labels.emotion_counts, dtype=torch.float32)
        adversaries = {}
        if settings.weight > 0:
            if settings.prior not in PRIORS:
                raise ValueError(f"model.adversary.prior: unknown {settings.prior!r}, choose from {', '.join(PRIORS)}")
            prior: Prior = GaussianPrior(code)
            if settings.prior == "mixture":
                prior = MixturePrior(code, frequencies, settings.radius)
            adversaries["prior"] = Adversary(code, prior, settings.hidden)
        if self.settings.categorical > 0:
            if "emotion" not in self.heads:
                raise ValueError(
                    "model.categorical needs the head 'emotion', whose probabilities are the categorical code"
                )
            adversaries["categorical"] = Adversary(len(frequencies), CategoricalPrior(frequencies), settings.hidden)
        return adversaries

    @property
    def parameter_count(self) -> int:
        """Number of trainable weights."""
        return sum(weight.numel() for weight in self.parameters())

    # Training

    def compile_for_training(self, **options: Any) -> None:
        """Compiles encoder and decoder for training steps, whose shapes stay; whole utterances are scored without.

        Args:
            options: Of ``torch.compile``.
        """
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            if part is not None:
                self._in_training[name] = torch.compile(part.forward, **options)

    @contextmanager
    def not_compiled(self) -> Iterator[None]:
        """Within it, nothing is compiled: the graph of a batch can be gone through several times."""
        before, self._in_training = self._in_training, self._as_they_are()
        try:
            yield
        finally:
            self._in_training = before

    def _as_they_are(self) -> dict[str, Callable[..., Tensor]]:
        return {"encoder": self.encoder} if self.decoder is None else {"encoder": self.encoder, "decoder": self.decoder}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Makes every random draw of a step a function of seed and step: nothing to save, nothing to lose."""
        seed = hash((self.seed, self.global_step, batch_idx, 0)) % 2**63
        # What ``torch.manual_seed`` does for these two it would note for all other kinds of devices, with a traceback.
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """One batch to its total loss.

        Returns:
            ``loss``, and for callbacks ``code`` (batch, code) and the accuracy of each discriminator.
        """
        losses = self.losses(batch)
        code = losses.code.detach()
        total = sum(
            (weight * loss for weight, loss in losses.terms.values()), start=torch.zeros((), device=code.device)
        )
        means = {f"train/{name}": loss.detach() for name, (_, loss) in losses.terms.items()}
        self._means.add(means | {"train/loss": total.detach()}, len(batch))
        return {"loss": total, "code": code, **losses.accuracies}

    def losses(self, batch: Batch) -> Losses:
        """The terms of the loss of a training batch, each by itself."""
        draws = shared(batch.places, self.device)
        view = self.view(batch, draws)
        code = self.encode(view.seen, view.frames, batch.sizes[LABELLED], draws)
        terms: dict[str, tuple[float, Tensor]] = {}
        if self.settings.variational > 0:
            code, log_variance = code.chunk(2, dim=1)
            terms["divergence"] = (self.settings.variational, divergence_loss(code, log_variance))
            code = code + draws.normal_like(code) * (log_variance / 2).exp()
        latent = {"prior": code}
        for name, head in self._heads():
            # Outputs for utterances that cannot have the label would be for nothing, and there may be many speakers.
            carrying = batch.carrying(head.task.target)
            categorical = name == "emotion" and "categorical" in self.adversaries
            of = slice(None) if categorical else carrying
            outputs = head(self.read(code[of], head), self.strengths.reversal, draws[of])
            if categorical:
                latent["categorical"] = outputs.softmax(1)
            loss = sum(
                (share * head.task.loss(outputs[carrying], targets[head.task.target][carrying]))
                for share, targets in view.targets
            )
            terms[name] = (head.settings.weight, torch.as_tensor(loss))

        if self._teachers:
            terms["consistency"] = (
                self.settings.consistency.weight * self.strengths.consistency,
                self._disagreement(view, code, batch.sizes[LABELLED], draws),
            )

        if self.decoder is not None:
            described = torch.cat([code, *(latent[name] for name in latent if name != "prior")], dim=1)
            reconstruction = self._in_training["decoder"](described, view.frames, view.clean.shape[-1])
            loss = reconstruction_loss(reconstruction, view.clean, view.frames)
            terms["reconstruction"] = (self.settings.decoder.weight, loss)

        accuracies = {}
        emotion = batch.targets["emotion"]
        weights = {"prior": self.settings.adversary.weight, "categorical": self.settings.categorical}
        for name, adversary in self.adversaries.items():
            contest = adversary(latent[name], emotion, self.strengths.noise, draws)
            terms[name] = (weights[name] * self.strengths.prior, contest.generator)
            # Its own learning rate, and gradients that reach nothing else: no weight is needed.
            terms[f"{name}_discriminator"] = (1.0, contest.discriminator)
            accuracies[f"{name}_accuracy"] = contest.accuracy
        return Losses(terms, code, accuracies)

    def on_train_epoch_end(self) -> None:
        """Logs the mean losses of the epoch."""
        self._means.log(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the sums of an epoch's losses, too."""
        checkpoint["means"] = self._means.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with them."""
        self._means.load_state_dict(checkpoint["means"])

    @torch.no_grad()
    def view(self, batch: Batch, draws: Draws = ALONE) -> View:
        """Draws the augmented view of a batch that the encoder sees in training."""
        settings = self.settings.augmentation
        speech, length = batch.waveform, batch.length
        if settings.speed > 0:
            factor = 1 + settings.speed * (2 * draws.mine(torch.rand(draws.rows(len(batch)), device=speech.device)) - 1)
            speech, length = augmentation.change_speed(speech, length, factor)
        speech = augmentation.draw_gain(speech, settings, draws)
        warp = augmentation.draw_warp(len(batch), settings, speech, draws)
        everyone = torch.arange(len(batch), device=speech.device)

        def features(speech: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
            log_mel, frames = self.features(speech, length[of])
            if warp is None:
                return log_mel, frames
            return augmentation.warp(log_mel, frames, *(drawn[of] for drawn in warp))

        noisy, disturbed = augmentation.disturb(speech, length, settings, draws)
        if self.decoder is None:  # nothing else looks at undisturbed speech
            speech = speech.index_copy(0, noisy, disturbed)
        clean, frames = features(speech, everyone)
        seen = clean
        if self.decoder is not None and len(noisy):
            seen = clean.index_copy(0, noisy, features(disturbed, noisy)[0])
        labels = batch.targets
        if "augmentation" in self.settings.tasks:
            labels = labels | {"augmentation": augmentation.kind(len(batch), noisy, warp)}
        targets = [(1.0, labels)]
        if settings.mixup > 0:
            mixed = batch.sizes[LABELLED]
            among = draws[:mixed]
            partner, share = augmentation.draw_mixup(mixed, settings.mixup, among)

            def of_partners(x: Tensor) -> Tensor:
                return torch.cat([among.whole(x[:mixed])[partner], x[mixed:]])

            seen, clean = (torch.lerp(of_partners(x), x, share) for x in (seen, clean))
            frames = torch.maximum(frames, of_partners(frames))
            targets = [
                (share, labels),
                (1 - share, {name: of_partners(target) for name, target in labels.items()}),
            ]
        return View(augmentation.mask_log_mel(seen, settings, draws), clean, frames, targets)

    def encode(self, log_mel: Tensor, frames: Tensor, labelled: int, draws: Draws = ALONE) -> Tensor:
        """Codes of a training batch, (batch, code), the first ``labelled`` of which are of emotional speech."""
        encoder = self._in_training["encoder"]
        if not self.settings.separate_statistics or labelled in (0, len(log_mel)):
            return encoder(log_mel, frames, draws)
        with statistics_kept(self.encoder):
            auxiliary = encoder(log_mel[labelled:], frames[labelled:], draws[labelled:])
        return torch.cat([encoder(log_mel[:labelled], frames[:labelled], draws[:labelled]), auxiliary])

    def _disagreement(self, view: View, code: Tensor, labelled: int, draws: Draws) -> Tensor:
        """Consistency loss of a batch of codes, a scalar; the teacher hears undisturbed speech."""
        settings = self.settings.consistency
        of = slice(0 if settings.labelled else labelled, None)
        # Cross-entropy is linear in what is taught: teachers who take turns teach, over the steps, their mean.
        teacher = self._teachers[self.global_step % len(self._teachers)]
        with torch.no_grad():
            taught = teacher._probabilities(view.clean[of], view.frames[of])
        return consistency_loss(self._emotion(code[of], draws[of]), taught, settings.temperature, settings.threshold)

    @property
    def taught(self) -> bool:
        """Whether there are teachers."""
        return bool(self._teachers)

    def learn_from(self, *teachers: "AdversarialAutoencoder") -> None:
        """Takes models as the teachers whom ``consistency`` follows, step by step in turn; they are not trained."""
        self._teachers = tuple(teacher.eval() for teacher in teachers)

    def on_fit_start(self) -> None:
        """Brings the teachers to where the model is."""
        for teacher in self._teachers:
            teacher.to(self.device)

    def _probabilities(self, log_mel: Tensor, frames: Tensor) -> Tensor:
        """Probabilities of the emotions, (batch, classes)."""
        return self._emotion(self._mean(self.encoder(log_mel, frames))).softmax(1)

    def _emotion(self, code: Tensor, draws: Draws = ALONE) -> Tensor:
        """Logits of the emotions of codes (batch, code)."""
        head = dict(self._heads())["emotion"]
        logits: Tensor = head(self.read(code, head), draws=draws)
        return logits

    def _mean(self, encoded: Tensor) -> Tensor:
        """The code of evaluation: of a variational autoencoder, the mean."""
        return encoded.chunk(2, dim=1)[0] if self.settings.variational > 0 else encoded

    def read(self, code: Tensor, head: Head) -> Tensor:
        """The parts of the code (batch, code) that a head reads."""
        if not head.settings.reads:
            return code
        return torch.cat([code[:, self.parts[part]] for part in head.settings.reads], dim=1)

    def configure_optimizers(self) -> Any:
        """AdamW with a group for the discriminators, and a one-cycle schedule over all steps."""
        settings = self.settings.optimiser
        own = [weight for name, weight in self.named_parameters() if not name.startswith("adversaries.")]
        groups: list[dict[str, Any]] = [{"params": own, "lr": settings.learning_rate}]
        if self.adversaries:
            groups.append({"params": list(self.adversaries.parameters()), "lr": settings.discriminator_learning_rate})
        optimiser = torch.optim.AdamW(
            groups,
            weight_decay=settings.weight_decay,
            # All weights at once. On a GPU PyTorch does something like it by itself, and what it does there with
            # ``fused`` would not let scaled gradients (16-mixed) be clipped.
            fused=self.device.type == "cpu" or None,
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=[group["lr"] for group in groups],
            total_steps=self.total_steps,
            pct_start=settings.warm_up,
            # Cycling beta_1 against the rate is for SGD's momentum; the adversary does better with it still.
            cycle_momentum=False,
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips model and discriminators apart, so that a fierce adversary does not shrink the emotion's gradient."""
        for group in optimizer.param_groups:
            if gradient_clip_val:
                nn.utils.clip_grad_norm_(group["params"], gradient_clip_val)

    # Evaluation

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Scores a batch of whole utterances; see ``score``."""
        return self.score(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Scores a batch of whole utterances; see ``score``."""
        return self.score(batch)

    def score(self, batch: Batch) -> dict[str, Tensor]:
        """Scores whole utterances, long ones as the mean over windows.

        Returns:
            ``row``, ``valid``, ``code`` (batch, code), the targets as ``target_<name>``, and the predictions by task:
            ``emotion`` probabilities (batch, classes), ``dimensions`` (batch, 3).
        """
        # In float32 whatever training computes in: rounded more, scores would depend on the size of the batch.
        with torch.autocast(self.device.type, enabled=False):
            predictions = self(batch.waveform, batch.length)
        targets = {f"target_{name}": target for name, target in batch.targets.items()}
        return {"row": batch.row, "valid": batch.row >= 0, **targets, **predictions}

    def forward(self, waveform: Tensor, length: Tensor) -> dict[str, Tensor]:
        """Speech to predictions.

        Args:
            waveform: (batch, samples), 16 kHz, zero padded.
            length: Samples of each utterance, (batch,).

        Returns:
            ``code`` (batch, code), and the predictions by task: ``emotion`` probabilities (batch, classes),
            ``dimensions`` (batch, 3) on [0, 1].
        """
        log_mel, frames = self.features(waveform, length)
        windows = self.windows.cut(log_mel, frames)
        code = self._mean(self.encoder(windows.log_mel, windows.frames))
        results = {"code": windows.average(code)}
        for _, head in self._heads():
            # Two heads may share a task: the first that is meant to succeed speaks for it.
            task = head.task
            if task.predict and not head.settings.adversarial and task.prediction not in results:
                results[task.prediction] = windows.average(task.predict(head(self.read(code, head))))
        if self.settings.adaptation.priors:
            results["emotion"] = nn.functional.normalize(results["emotion"] * self.emotion_ratio, p=1, dim=1)
        return results

    @torch.no_grad()
    def adapt(self, utterances: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Fits what ``AdaptationSettings`` names to speech of unknown emotion, until other weights are loaded.

        Args:
            utterances: Goes through the speech: batches of waveform (batch, samples) and length (batch,).
        """
        self.eval()
        self.emotion_ratio.fill_(1)
        if self.settings.adaptation.statistics:
            with statistics_anew(self.encoder):
                for waveform, length in utterances():
                    self(waveform.to(self.device), length.to(self.device))
        if self.settings.adaptation.priors:
            heard = [self(waveform.to(self.device), length.to(self.device)) for waveform, length in utterances()]
            counts = torch.tensor(self.labels.emotion_counts, device=self.device)
            mean = torch.cat([one["emotion"] for one in heard]).mean(0)
            self.emotion_ratio.copy_(counts / counts.sum() / mean)

    @torch.no_grad()
    def reconstruct(self, waveform: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-mels (batch, mels, frames), what the decoder makes of their codes, and the valid frames (batch,).

        Raises:
            ValueError: The model has no decoder.
        """
        if self.decoder is None:
            raise ValueError("the model has no decoder (model.decoder.weight is 0)")
        log_mel, frames = self.features(waveform, length)
        code = self._mean(self.encoder(log_mel, frames))
        if "categorical" in self.adversaries:
            head = dict(self._heads())["emotion"]
            code = torch.cat([code, head(self.read(code, head)).softmax(1)], dim=1)
        return log_mel, self.decoder(code, frames, log_mel.shape[-1]), frames

    def _heads(self) -> list[tuple[str, Head]]:
        return [(name, head) for name, head in self.heads.items() if isinstance(head, Head)]


def _forget_priors(module: nn.Module, _: object) -> None:
    module.get_buffer("emotion_ratio").fill_(1)


def _slices(sizes: dict[str, int]) -> dict[str, slice]:
    ends = torch.tensor(list(sizes.values())).cumsum(0).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
