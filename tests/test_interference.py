"""How the losses pull at the encoder."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from callbacks.interference import Interference, compared
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.settings import AdversarySettings, DecoderSettings, HeadSettings
from tests.small import batch, fit, model


def found_in(module: AdversarialAutoencoder) -> dict[str, torch.Tensor]:
    given = batch()
    module.on_train_batch_start(given, 0)
    return compared(module, module.losses(given))


def pull(module: AdversarialAutoencoder, *names: str) -> NDArray[np.float64]:
    """Gradient of the sum of some losses, as an optimiser would see it."""
    given = batch()
    module.zero_grad()
    module.on_train_batch_start(given, 0)
    terms = module.losses(given).terms
    torch.autograd.backward(sum((terms[name][0] * terms[name][1] for name in names), start=torch.zeros(())))
    weights = module.encoder.parameters()
    return np.concatenate([np.zeros(w.numel()) if w.grad is None else w.grad.double().numpy().ravel() for w in weights])


@pytest.mark.parametrize("emotion", [("emotion",), ("dimensions",), ("emotion", "dimensions")])
def test_angles_and_norms(emotion: tuple[str, ...]) -> None:
    heads = {**{name: HeadSettings() for name in emotion}, "speaker": HeadSettings(weight=0.3)}
    module = model(heads=heads, decoder=DecoderSettings(channels=4, waves=4, weight=0.7))
    found = found_in(module)
    others = ["speaker", "reconstruction", "prior", *(emotion if len(emotion) > 1 else ())]
    assert sorted(found) == sorted(f"gradients/{name}/{what}" for name in others for what in ("cosine", "ratio"))
    reference = pull(module, *emotion)
    for name in others:
        gradient = pull(module, name)
        cosine = gradient @ reference / np.linalg.norm(gradient) / np.linalg.norm(reference)
        assert found[f"gradients/{name}/cosine"].item() == pytest.approx(cosine, abs=1e-5)
        ratio = np.linalg.norm(gradient) / np.linalg.norm(reference)
        assert found[f"gradients/{name}/ratio"].item() == pytest.approx(ratio, rel=1e-4)


def test_a_reversed_gradient_turns_round() -> None:
    heads = {"emotion": HeadSettings(), "speaker": HeadSettings(adversarial=False)}
    one = found_in(model(heads=heads))
    other = found_in(model(heads=heads | {"speaker": HeadSettings(adversarial=True)}))
    assert other["gradients/speaker/cosine"] == pytest.approx(-one["gradients/speaker/cosine"].item(), abs=1e-6)
    assert other["gradients/speaker/ratio"] == pytest.approx(one["gradients/speaker/ratio"].item(), rel=1e-5)


def test_what_is_not_turned_up_does_not_pull() -> None:
    module = model(adversary=AdversarySettings(hidden=8))
    module.strengths.prior = 0.0
    assert not [name for name in found_in(module) if "prior" in name]


class Logged(pl.Callback):
    """Notes what was logged at the end of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = trainer.callback_metrics.items()
        self.epochs.append({name: value.item() for name, value in found if name.startswith("gradients/")})


def test_training_goes_on_as_if_nothing_had_been_measured(tmp_path: Path) -> None:
    plain, watched, logged = model(), model(), Logged()
    batches = [batch(), batch(seed=1)]
    fit(plain, batches, tmp_path, 3)
    fit(watched, batches, tmp_path, 3, [Interference(2), logged])
    for (name, one), other in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    first, second, third = logged.epochs
    assert first.keys() == third.keys() >= {"gradients/speaker/cosine"}
    assert first != third
    assert second in ({}, first)  # Lightning keeps what was logged last


def test_what_is_compiled_is_not_measured_as_such(tmp_path: Path) -> None:
    """A compiled graph cannot be gone through for one loss after the other."""
    module, seen = model(), []

    class Watched(Interference):
        def on_train_batch_start(self, *given: Any) -> None:
            super().on_train_batch_start(*given)
            seen.append(sorted(self.state_dict()["found"]))

    def compiled(*_: Any) -> torch.Tensor:
        raise AssertionError("it was measured as it was compiled")

    module._in_training = dict.fromkeys(module._in_training, compiled)
    with pytest.raises(AssertionError, match="as it was compiled"):  # by the step itself, after the measurement
        fit(module, [batch()], tmp_path, 1, [Watched(1)])
    assert "gradients/speaker/cosine" in seen[0]


def test_what_was_measured_outlives_an_interruption(tmp_path: Path) -> None:
    measured, logged, states = Interference(1), Logged(), []

    class Stopped(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            states.append(measured.state_dict())

    fit(model(), [batch(), batch(seed=1)], tmp_path, 1, [measured, Stopped(), logged])

    class GoneOn(pl.LightningModule):
        def log(self, name: str, value: Any, **_: Any) -> None:  # type: ignore[override]
            found[name] = value.item()

    found: dict[str, float] = {}
    again = Interference(1)
    again.load_state_dict(states[0])
    again.on_train_epoch_end(pl.Trainer(logger=False, enable_checkpointing=False), GoneOn())
    assert found == logged.epochs[0]
