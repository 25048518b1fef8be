"""Do the tasks fight? The gradients of the losses in the encoder, against that of the emotion tasks."""

from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_modules import processes
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder, Losses
from lightning_modules.heads import Head

_EMOTION = ("emotion", "votes", "dimensions")


class Interference(Callback):
    """Logs how each loss pulls at the encoder, measured on the first batch of an epoch.

    With g the gradient of a weighted loss by all weights of the encoder, and e that of the losses of the emotion tasks
    (classes and dimensions) together:

    - ``gradients/<loss>/cosine``: of the angle between g and e. Above 0 the loss helps the emotion tasks along, at 0
      it is none of their business, below 0 they fight (Yu et al., "Gradient Surgery for Multi-Task Learning",
      NeurIPS 2020).
    - ``gradients/<loss>/ratio``: norm of g by that of e. Far above 1 the loss drowns the emotion tasks.

    Training is not touched: the step that follows is, to the last bit, what it would have been. A measurement takes as
    long as a step forwards, and a step backwards for each loss.

    Args:
        every: Epochs from one measurement to the next.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._found: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """What was found in the epoch."""
        return {"found": self._found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self._found = state_dict["found"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures, where it is the first batch of an epoch whose turn it is."""
        if batch_idx or trainer.current_epoch % self.every:
            return
        module = cast(AdversarialAutoencoder, pl_module)
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        module.on_train_batch_start(batch, batch_idx)  # the random draws of the step that follows
        # A compiled graph is given up as it is gone through.
        with torch.enable_grad(), trainer.precision_plugin.train_step_context(), module.not_compiled():
            losses = module.losses(batch)
        self._found = compared(module, losses)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what was found."""
        for name, value in self._found.items():
            pl_module.log(name, value, sync_dist=True)
        self._found = {}


def compared(module: AdversarialAutoencoder, losses: Losses) -> dict[str, Tensor]:
    """Angle and norm of each loss's gradient in the encoder, against that of the emotion tasks.

    To be called by all processes: it is about the whole batch.

    Args:
        module: The model, with a head for emotion.
        losses: Of a batch, which keep their graph.

    Returns:
        ``gradients/<loss>/cosine`` and ``gradients/<loss>/ratio``, scalars, of each loss that reaches the encoder and
        is not itself all that the emotion tasks are.
    """
    heads = [(name, head) for name, head in module.heads.items() if isinstance(head, Head)]
    emotion = [name for name, head in heads if head.task.target in _EMOTION]
    gradients = _gradients(losses, list(module.encoder.parameters()))
    reference = torch.stack([gradients[name] for name in emotion]).sum(0)
    found = {}
    for name, gradient in gradients.items():
        # A discriminator's own loss does not reach the encoder, and what is not yet turned up does not pull.
        if [name] != emotion and gradient.any() and reference.any():
            found[f"gradients/{name}/cosine"] = torch.cosine_similarity(gradient, reference, dim=0)
            found[f"gradients/{name}/ratio"] = gradient.norm() / reference.norm()
    return found


def _gradients(losses: Losses, weights: list[Tensor]) -> dict[str, Tensor]:
    """The gradient of each weighted loss, of the whole batch, all weights in one vector.

    In a process's share of a batch a loss may have nothing to say: for all that, each process takes part in each mean.
    """
    found = {}
    for name, (weight, loss) in losses.terms.items():
        flat = torch.zeros(sum(one.numel() for one in weights), device=loss.device)
        if loss.requires_grad:
            parts = torch.autograd.grad(weight * loss, weights, retain_graph=True, allow_unused=True)
            pairs = zip(parts, weights, strict=True)
            flat = torch.cat([(torch.zeros_like(of) if part is None else part).flatten().float() for part, of in pairs])
        found[name] = processes.mean(flat)
    return found
