"""The model as an ONNX graph: waveform in, scores out."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.features import frame_mask
from lightning_modules.heads import Head

INPUTS = ("waveform", "lengths")

_FLOOR = 1e-6
"""Power that ``LogMel`` adds before it takes the logarithm."""

_EXAMPLE_S = (2.3, 1.0)
"""In windows: lengths of the utterances that the exporter follows through the model."""


class Graph(nn.Module):
    """What a model computes, in operations that any runtime has.

    The Fourier transform is a convolution with fixed waves. Windows of long utterances are gathered frame by frame, so
    that memory grows with their length as it does for short ones. What lies past an utterance's end is not heard.

    Args:
        module: Of ``for_inference``, in evaluation mode.
    """

    waves: Tensor

    def __init__(self, module: AdversarialAutoencoder) -> None:
        super().__init__()
        self.module = module
        spectrum = module.features.spectrum
        window, size = spectrum.window.double(), spectrum.n_fft
        before = (size - len(window)) // 2  # the window stands in the middle of the transform
        cycles = torch.outer(torch.arange(size // 2 + 1), torch.arange(len(window)) + before) % size
        angle = 2 * math.pi * cycles.double() / size
        waves = torch.cat([angle.cos() * window, angle.sin() * window])
        self.register_buffer("waves", waves[:, None].float())
        self.padding = (size // 2 - before, len(window) - size // 2 + before)

    @property
    def outputs(self) -> list[str]:
        """Names of what ``forward`` returns."""
        return [*self._heads(), "code"]

    def _heads(self) -> dict[str, Head]:
        return {head.task.prediction: head for _, head in self.module._heads()}

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Waveforms (batch, samples) of ``lengths`` (batch,) samples to what ``outputs`` names, (batch, …) each."""
        batch, samples = waveform.shape
        lengths = lengths.clamp(0, samples)
        waveform = waveform * frame_mask(lengths, samples)
        log_mel, frames = self._features(waveform, lengths)
        windows, valid, share = self._windows(log_mel, frames, batch)
        code = self.module._mean(self.module.encoder(windows, valid))
        scores = []
        for head in self._heads().values():
            assert head.task.predict is not None
            scores.append(share @ head.task.predict(head(self.module.read(code, head))))
        return *scores, share @ code

    def _features(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As ``LogMel`` computes them; silence, which is the floor, is zero before it is normalised."""
        features = self.module.features
        padded = F.pad(waveform, self.padding)[:, None]
        cosine, sine = F.conv1d(padded, self.waves, stride=features.hop).chunk(2, dim=1)
        power = features.bands.fb.T @ (cosine.square() + sine.square())
        floor = math.log(_FLOOR)
        log_mel = (power + _FLOOR).log() - floor
        frames = features.frames(lengths)
        mask = frame_mask(frames, log_mel.shape[-1])[:, None]
        if features.settings.normalise == "training":
            return (log_mel - (features.mean - floor)) / features.deviation * mask, frames

        def mean(x: Tensor) -> Tensor:
            # Over time first, where the sums are long: runtimes add up what lies side by side more exactly.
            over_time = (x * mask).sum(2, keepdim=True) / frames[:, None, None]
            return over_time.mean(1, keepdim=True) if features.settings.normalise == "utterance" else over_time

        centred = log_mel - mean(log_mel)
        return centred / mean(centred.square()).sqrt().clamp(min=0.1) * mask, frames

    def _windows(self, log_mel: Tensor, frames: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """As ``Windows`` cuts them, without asking whether there is anything to cut.

        Returns:
            Windows (windows, mels, frames), their valid frames (windows,), and the share that each has in the mean of
            each utterance (batch, windows).
        """
        longest, width = self.module.windows.size, log_mel.shape[-1]
        beyond = (frames - longest).clamp(min=0)
        counts = 1 + (beyond + longest // 2 - 1) // (longest // 2)
        ends = counts.cumsum(0)
        total = cast(int, ends[-1].item())  # to convert it would ask how large it is
        torch._check(total >= 1)  # type: ignore[no-untyped-call]
        number = torch.arange(total, device=frames.device)
        utterance = (ends[:, None] <= number).sum(0)
        nth = number - (ends - counts)[utterance]
        start = (nth * beyond[utterance]) // (counts[utterance] - 1).clamp(min=1)
        shortest = torch.sym_min(width, longest)  # type: ignore[no-untyped-call]
        inside = torch.arange(shortest, device=frames.device)
        place = (utterance * width + start)[:, None] + inside
        windows = log_mel.transpose(1, 2).flatten(0, 1)[place].transpose(1, 2)
        own = utterance == torch.arange(batch, device=frames.device)[:, None]
        return windows, frames[utterance].clamp(max=longest), own / counts[:, None]


def to_onnx(module: AdversarialAutoencoder, about: Mapping[str, str]) -> bytes:
    """A model as an ONNX graph with inputs ``waveform`` and ``lengths`` of any size.

    Args:
        module: Of ``for_inference``, in evaluation mode.
        about: What is written into the graph, such as the names of the classes.
    """
    graph = Graph(module).eval()
    window = module.windows.size * module.features.hop
    lengths = torch.tensor([round(windows * window) for windows in _EXAMPLE_S])
    waveform = torch.zeros(len(lengths), int(lengths.max()))
    any_size = torch.export.Dim.DYNAMIC
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            (waveform, lengths),
            dynamo=True,
            verbose=False,
            input_names=list(INPUTS),
            output_names=graph.outputs,
            dynamic_shapes=({0: any_size, 1: any_size}, {0: any_size}),
        )
    assert program is not None
    model = program.model_proto
    # Where in which file of this machine each operation was written is nobody's affair.
    for one in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        one.ClearField("metadata_props")
        one.ClearField("doc_string")
    for one in (model, model.graph):
        one.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    for one in (*model.graph.input, *model.graph.output):
        dimensions = one.type.tensor_type.shape.dim
        dimensions[0].dim_param = "batch"
        if one.name == INPUTS[0]:
            dimensions[1].dim_param = "samples"
    for key, text in about.items():
        model.metadata_props.add(key=key, value=text)
    content: bytes = model.SerializeToString()
    return content


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps off the terminal what the exporter says of itself and of packages that are not needed."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
