from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_modules.decoder import Decoder
from lightning_modules.encoder import AttentiveStatistics, Block, Encoder
from lightning_modules.features import frame_mask
from lightning_modules.normalisation import NORMALISATIONS, GroupNorm
from lightning_modules.settings import DecoderSettings, EncoderSettings
from tests.small import numpy

MELS = 20
FRAMES = torch.tensor([64, 47, 33, 32, 5, 1])


def log_mels(width: int = 64) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(len(FRAMES), MELS, 64)[:, :, :width] * frame_mask(FRAMES, width)[:, None]


def encoder(normalisation: str) -> Encoder:
    """An encoder as after some training: no affine map or running statistic is at its start."""
    torch.manual_seed(0)
    made = Encoder(MELS, 7, EncoderSettings(channels=[8, 12, 16], normalisation=normalisation, attention=5))
    for weight in made.parameters():
        nn.init.normal_(weight, std=0.3) if weight.ndim < 2 else None
    made.train()
    for _ in range(3):
        made(log_mels(), FRAMES)
    return made.eval()


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_padding_and_companions_do_not_change_codes(normalisation: str) -> None:
    encode = encoder(normalisation)
    together = encode(log_mels(), FRAMES)
    assert together.shape == (6, 7)
    assert together.isfinite().all()
    for one, count in enumerate(FRAMES):
        alone = encode(log_mels()[one : one + 1, :, :count], count[None])
        torch.testing.assert_close(together[one], alone[0], rtol=1e-4, atol=1e-4)
    wider = nn.functional.pad(log_mels(), (0, 37))
    torch.testing.assert_close(encode(wider, FRAMES), together, rtol=1e-4, atol=1e-4)


def test_codes_depend_on_every_frame_and_band() -> None:
    encode, log_mel = encoder("batch"), log_mels()[:1].requires_grad_()
    torch.autograd.backward(encode(log_mel, FRAMES[:1]).square().sum())
    gradient = log_mel.grad
    assert gradient is not None
    assert (gradient.abs().sum((0, 1)) > 0).all()
    assert (gradient.abs().sum((0, 2)) > 0).all()


def test_group_norm_is_the_usual_one_over_the_valid_frames() -> None:
    torch.manual_seed(0)
    x, frames = torch.randn(3, 12, 5, 9), torch.tensor([9, 4, 1])
    mask = frame_mask(frames, 9)[:, None, None]
    ours, usual = GroupNorm(12), nn.GroupNorm(4, 12)  # 4 divides both 8 and 12
    for norm in (ours, usual):
        nn.init.constant_(norm.weight, 0.7)
        nn.init.constant_(norm.bias, 0.2)
    normal = ours(x, mask)
    for one, count in enumerate(frames):
        torch.testing.assert_close(normal[one, :, :, :count], usual(x[one : one + 1, :, :, :count])[0])


def test_attentive_statistics() -> None:
    torch.manual_seed(0)
    pool, x, frames = AttentiveStatistics(3, 4), torch.randn(2, 6, 3), torch.tensor([6, 4])
    pooled = numpy(pool(x, frames))
    for one, count in enumerate(frames.tolist()):
        valid = numpy(x[one, :count])
        score = numpy(pool.score(x[one, :count]))[:, 0]
        weight = (np.exp(score) / np.exp(score).sum())[:, None]
        mean = (weight * valid).sum(0)
        deviation = np.sqrt((weight * (valid - mean) ** 2).sum(0) + 1e-5)
        np.testing.assert_allclose(pooled[one], [*mean, *deviation], rtol=1e-4)


def test_encoders_are_deterministic_in_evaluation_and_drop_out_in_training() -> None:
    encode, log_mel = encoder("group"), log_mels()
    assert torch.equal(encode(log_mel, FRAMES), encode(log_mel, FRAMES))
    encode.train()
    assert not torch.equal(encode(log_mel, FRAMES), encode(log_mel, FRAMES))


def test_codes_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = encoder("group")(log_mels(), FRAMES)
    assert code.dtype == torch.float32
    assert code.isfinite().all()


def test_unknown_normalisation() -> None:
    with pytest.raises(ValueError, match=r"encoder\.normalisation is 'layer'"):
        Encoder(MELS, 7, EncoderSettings(normalisation="layer"))


@pytest.mark.parametrize("mels", [20, 24, 64])
@pytest.mark.parametrize("size", [1, 8, 50])
def test_decoders_fill_any_size(mels: int, size: int) -> None:
    decoder = Decoder(mels, 7, DecoderSettings(channels=4, waves=3))
    out = decoder(torch.randn(2, 7), torch.tensor([size, 1]), size)
    assert out.shape == (2, mels, size)
    assert out.dtype == torch.float32
    torch.autograd.backward(out.square().sum())
    assert all(weight.grad is not None for weight in decoder.parameters())


def test_decoders_decode_each_code_by_itself() -> None:
    decoder = Decoder(MELS, 7, DecoderSettings(channels=4, waves=3))
    code = torch.randn(3, 7)
    together = decoder(code, torch.tensor([30, 20, 10]), 30)
    alone = decoder(code[1:2], torch.tensor([20]), 30)
    torch.testing.assert_close(together[1:2], alone)


def test_decoders_can_tell_a_course_in_time() -> None:
    torch.manual_seed(0)
    decoder = Decoder(16, 2, DecoderSettings(channels=16, waves=8))
    # One code falls while the other rises; without a sense of time, no error is below the variance.
    rise = torch.linspace(-1, 1, 48).expand(16, 48)
    code, target, frames = torch.eye(2), torch.stack([rise, -rise]), torch.tensor([48, 48])
    optimiser = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(80):
        loss = (decoder(code, frames, 48) - target).square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    assert loss < 0.1 * target.var()


def test_the_last_number_of_layers_holds_for_the_blocks_that_follow() -> None:
    encoder = Encoder(MELS, 7, EncoderSettings(channels=[4, 8, 8], layers=[1, 2]))
    assert [len(cast(Block, block).layers) for block in encoder.blocks] == [1, 2, 2]
    with pytest.raises(ValueError, match=r"encoder\.layers is empty"):
        Encoder(MELS, 7, EncoderSettings(layers=[]))
