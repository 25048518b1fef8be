"""What is computed in which precision."""

from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator

from experiments.config import TrainerSettings
from experiments.run import prepare_machine
from tests.small import batch, model


def test_scores_do_not_depend_on_the_precision_of_training() -> None:
    module, whole = model().eval(), batch()
    with torch.no_grad():
        exact = module.score(whole)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = module(whole.waveform, whole.length)
            assert not torch.equal(rounded["emotion"].float(), exact["emotion"])  # there would be a difference
            scored = module.score(whole)
    for name in ("emotion", "dimensions", "code"):
        assert scored[name].dtype == torch.float32
        assert torch.equal(scored[name], exact[name])


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"avx512_bf16": False, "avx512_f": True}, "32-true"),
        (None, "32-true"),
    ],
)
def test_processors_without_bfloat16_train_in_float32(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, Any] | None, precision: str
) -> None:
    if capabilities is None:  # PyTorch does not tell
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    settings = TrainerSettings(accelerator="cpu")
    prepare_machine(settings)
    assert settings.precision == precision


@pytest.mark.parametrize(("known", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_gpus_without_bfloat16_train_in_float32(monkeypatch: pytest.MonkeyPatch, known: bool, precision: str) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: True)
    monkeypatch.setattr(CUDAAccelerator, "auto_device_count", lambda: 1)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: known and not including_emulation)
    settings = TrainerSettings(accelerator="cuda")
    prepare_machine(settings)
    assert settings.precision == precision


def test_new_memory_is_written_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that PyTorch need not fill it: where it does, it does with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    prepare_machine(TrainerSettings(accelerator="cpu"))
    assert torch.utils.deterministic.fill_uninitialized_memory is False  # type: ignore[attr-defined]

    def gradients() -> list[torch.Tensor]:
        module = model()
        module.on_train_batch_start(batch(), 0)
        module.training_step(batch(), 0)["loss"].backward()  # type: ignore[no-untyped-call]
        return [weight.grad for weight in module.parameters() if weight.grad is not None]

    unfilled = gradients()
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
        assert torch.empty(1).isnan()
        filled = gradients()
    finally:
        torch.use_deterministic_algorithms(before)
    assert len(filled) == len(unfilled) > 0
    assert all(torch.equal(one, other) for one, other in zip(filled, unfilled, strict=True))


def test_a_precision_that_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert CPUAccelerator.is_available()
    settings = TrainerSettings(accelerator="cpu", precision="32-true")
    prepare_machine(settings)
    assert settings.precision == "32-true"
