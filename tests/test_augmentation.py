from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_modules import augmentation
from lightning_modules.features import frame_mask
from lightning_modules.settings import AugmentationSettings
from tests.small import NO_AUGMENTATION, numpy

LENGTH = torch.tensor([4000, 2500, 1])
FRAMES = torch.tensor([40, 25, 1])


def waveforms(width: int = 4000) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(3, width) * frame_mask(LENGTH, width)


def log_mels(width: int = 40) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 20, 40)[:, :, :width] * frame_mask(FRAMES, width)[:, None]


def past_end(frames: Tensor, size: int) -> Tensor:
    return ~frame_mask(frames, size)


# Speed


def test_speed_changes_length_and_pitch() -> None:
    time = torch.arange(8000) / 16000
    tone = torch.sin(2 * torch.pi * 500 * time).repeat(2, 1)
    fast, length = augmentation.change_speed(tone, torch.tensor([8000, 8000]), torch.tensor([1.25, 1.6]))
    assert length.tolist() == [6400, 5000]
    for one, pitch in enumerate((625, 800)):
        count = int(length[one])
        spectrum = np.abs(np.fft.rfft(numpy(fast[one, :count])))
        assert np.argmax(spectrum) * 16000 / count == pytest.approx(pitch, abs=16000 / count)


def test_speed_of_one_changes_nothing() -> None:
    same, length = augmentation.change_speed(waveforms(), LENGTH, torch.ones(3))
    assert torch.equal(same, waveforms())
    assert torch.equal(length, LENGTH)


def test_slower_speech_is_cut_at_the_width_of_the_batch() -> None:
    slow, length = augmentation.change_speed(waveforms(), LENGTH, torch.full((3,), 0.8))
    assert length.tolist() == [4000, 3125, 1]
    assert slow.shape == (3, 4000)


@pytest.mark.parametrize("factor", [0.78125, 0.9, 1.0, 1.3])
def test_speed_does_not_look_past_the_end(factor: float) -> None:
    clean = waveforms()
    garbage = torch.where(past_end(LENGTH, 4000), 100.0, clean)
    for waveform in (clean, garbage):
        changed, length = augmentation.change_speed(waveform, LENGTH, torch.full((3,), factor))
        assert (changed[past_end(length, 4000)] == 0).all()
        torch.testing.assert_close(
            changed, augmentation.change_speed(clean, LENGTH, torch.full((3,), factor))[0], rtol=0, atol=1e-2
        )


# Gain and noise


def test_gain_is_in_decibels() -> None:
    louder = augmentation.change_gain(waveforms(), torch.tensor([20.0, -6.0206, 0.0]))
    torch.testing.assert_close(louder, waveforms() * torch.tensor([10.0, 0.5, 1.0])[:, None])


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0])
def test_noise_has_the_wanted_ratio_over_the_valid_samples(tilt: float) -> None:
    waveform, ratio = waveforms(), torch.tensor([20.0, -3.0, 7.5])
    white = torch.randn_like(waveform)
    noise = augmentation.add_noise(waveform, LENGTH, ratio, torch.full((3,), tilt), white) - waveform
    assert (noise[past_end(LENGTH, 4000)] == 0).all()
    measured = 10 * torch.log10(waveform.square().sum(1) / noise.square().sum(1))
    torch.testing.assert_close(measured, ratio, rtol=0, atol=0.01)


def test_infinite_ratio_adds_nothing() -> None:
    same = augmentation.add_noise(
        waveforms(), LENGTH, torch.full((3,), torch.inf), torch.ones(3), torch.randn_like(waveforms())
    )
    assert torch.equal(same, waveforms())


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0])
def test_noise_falls_with_frequency_as_told(tilt: float) -> None:
    torch.manual_seed(0)
    carrier = torch.ones(64, 4096)
    noise = augmentation.add_noise(
        carrier, torch.full((64,), 4096), torch.zeros(64), torch.full((64,), tilt), torch.randn_like(carrier)
    )
    noise = noise - carrier
    amplitude = (np.abs(np.fft.rfft(numpy(noise))) ** 2).mean(0)[8:1024] ** 0.5
    slope = np.polyfit(np.log(np.arange(8, 1024)), np.log(amplitude), 1)[0]
    assert slope == pytest.approx(-tilt, abs=0.08)


def test_disturbance_is_random_by_utterance_and_keeps_the_end_silent() -> None:
    torch.manual_seed(1)
    waveform, length = torch.randn(400, 64) * frame_mask(torch.full((400,), 50), 64), torch.full((400,), 50)
    settings = replace(NO_AUGMENTATION, noise=0.3, noise_snr_db=(5.0, 10.0))
    noisy, disturbed = augmentation.disturb(waveform, length, settings)
    assert len(set(noisy.tolist())) == 120
    assert not torch.equal(noisy, augmentation.disturb(waveform, length, settings)[0])
    noise = disturbed - waveform[noisy]
    ratio = 10 * torch.log10(waveform[noisy].square().sum(1) / noise.square().sum(1))
    assert 4.9 < ratio.min() < 5.5
    assert 9.5 < ratio.max() < 10.1
    assert (noise[:, 50:] == 0).all()


def test_gain_is_random_by_utterance() -> None:
    waveform = torch.randn(400, 64)
    louder = augmentation.draw_gain(waveform, replace(NO_AUGMENTATION, gain_db=6.0))
    gain = 20 * torch.log10(louder[:, 0] / waveform[:, 0])
    assert gain.min() > -6.001
    assert gain.max() < 6.001
    assert gain.std() > 2


def test_nothing_changes_where_all_is_off() -> None:
    noisy, disturbed = augmentation.disturb(waveforms(), LENGTH, NO_AUGMENTATION)
    assert noisy.shape == (0,)
    assert disturbed.shape == (0, waveforms().shape[1])
    assert torch.equal(augmentation.draw_gain(waveforms(), NO_AUGMENTATION), waveforms())
    assert torch.equal(augmentation.mask_log_mel(log_mels(), NO_AUGMENTATION), log_mels())
    assert augmentation.draw_warp(3, NO_AUGMENTATION, log_mels()) is None


# Warp


def test_rate_of_two_takes_every_other_frame() -> None:
    warped, frames = augmentation.warp(log_mels(), FRAMES, torch.full((3,), 2.0), torch.zeros(3))
    assert frames.tolist() == [20, 12, 1]
    torch.testing.assert_close(warped[0, :, :20], log_mels()[0, :, ::2], rtol=0, atol=1e-4)


def test_slower_is_longer_as_far_as_it_fits() -> None:
    warped, frames = augmentation.warp(log_mels(), FRAMES, torch.full((3,), 0.5), torch.zeros(3))
    assert frames.tolist() == [40, 40, 2]
    torch.testing.assert_close(warped[0, :, ::2], log_mels()[0, :, :20], rtol=0, atol=1e-4)
    between = (log_mels()[0, :, :19] + log_mels()[0, :, 1:20]) / 2
    torch.testing.assert_close(warped[0, :, 1:39:2], between, rtol=0, atol=1e-4)


def test_shift_moves_bands_up() -> None:
    shift = torch.tensor([3.0, -2.0, 0.0])
    warped, frames = augmentation.warp(log_mels(), FRAMES, torch.ones(3), shift)
    assert torch.equal(frames, FRAMES)
    torch.testing.assert_close(warped[0, 3:], log_mels()[0, :-3], rtol=0, atol=1e-4)
    torch.testing.assert_close(warped[1, :-2], log_mels()[1, 2:], rtol=0, atol=1e-4)
    torch.testing.assert_close(warped[2], log_mels()[2], rtol=0, atol=1e-4)
    # Where nothing moved in, the nearest band is repeated.
    torch.testing.assert_close(warped[0, :3], log_mels()[0, :1].expand(3, -1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("rate", [0.78125, 0.9, 1.0, 1.17])
def test_warp_does_not_look_past_the_end(rate: float) -> None:
    clean = log_mels()
    garbage = torch.where(past_end(FRAMES, 40)[:, None], 100.0, clean)
    expected, frames = augmentation.warp(clean, FRAMES, torch.full((3,), rate), torch.full((3,), 0.5))
    warped, _ = augmentation.warp(garbage, FRAMES, torch.full((3,), rate), torch.full((3,), 0.5))
    assert (warped.masked_select(past_end(frames, 40)[:, None]) == 0).all()
    torch.testing.assert_close(warped, expected, rtol=0, atol=1e-2)

    alone, _ = augmentation.warp(clean[1:2, :, :25], FRAMES[1:2], torch.tensor([rate]), torch.tensor([0.5]))
    count = min(25, int(frames[1]))
    torch.testing.assert_close(alone[0, :, :count], expected[1, :, :count], rtol=0, atol=1e-3)


def test_warps_are_drawn_symmetrically_in_their_logarithm() -> None:
    torch.manual_seed(0)
    drawn = augmentation.draw_warp(4000, replace(NO_AUGMENTATION, rate=0.25, shift=3.0), torch.zeros(1))
    assert drawn is not None
    rate, shift = drawn
    assert 1 / 1.2501 < rate.min() < 0.81
    assert 1.24 < rate.max() < 1.2501
    assert rate.log().mean().abs() < 0.01
    assert -3 <= shift.min() < -2.9
    assert 2.9 < shift.max() <= 3


# Masks


def test_masks_hide_spans_no_wider_than_told() -> None:
    torch.manual_seed(0)
    hidden = augmentation.mask_spans(64, 1, 10, 2000, torch.zeros(1))
    width = hidden.sum(1)
    assert width.max() == 10
    assert width.float().mean() == pytest.approx(5, abs=0.3)
    edges = (hidden[:, 1:] != hidden[:, :-1]).sum(1) + hidden[:, 0] + hidden[:, -1].int()
    assert edges.max() == 2  # one span
    assert hidden.any(0).all()
    assert augmentation.mask_spans(64, 2, 10, 2000, torch.zeros(1)).sum(1).max() > 10
    assert augmentation.mask_spans(4, 1, 10, 2000, torch.zeros(1)).sum(1).bincount().min() > 300


def test_masks_hide_whole_bands_and_frames_behind_zero() -> None:
    torch.manual_seed(0)
    log_mel = torch.rand(8, 20, 60) + 1
    bands = augmentation.mask_log_mel(log_mel, replace(NO_AUGMENTATION, band_masks=2, band_mask_size=6))
    hidden = bands == 0
    assert hidden.any()
    assert torch.equal(hidden.any(2), hidden.all(2))
    assert torch.equal(bands[~hidden], log_mel[~hidden])
    frames = augmentation.mask_log_mel(log_mel, replace(NO_AUGMENTATION, frame_masks=2, frame_mask_size=20))
    hidden = frames == 0
    assert hidden.any()
    assert torch.equal(hidden.any(1), hidden.all(1))


# Mixup


def test_each_is_a_partner_of_mixup_once() -> None:
    torch.manual_seed(0)
    partners = torch.stack([augmentation.draw_mixup(5, 0.4)[0] for _ in range(200)])
    assert torch.equal(partners.sort(1).values, torch.arange(5).expand(200, 5))  # each is a partner once
    assert all(len(set(column)) == 5 for column in partners.T.tolist())


def test_the_share_of_mixup_is_the_larger_one_of_a_beta_distribution() -> None:
    torch.manual_seed(0)
    share = np.array([augmentation.draw_mixup(2, 0.4)[1] for _ in range(3000)])
    assert ((share >= 0.5) & (share <= 1)).all()
    # The variance of Beta(a, a) about its mean of a half is 1 / (4 (2 a + 1)).
    assert ((share - 0.5) ** 2).mean() == pytest.approx(1 / (4 * 1.8), rel=0.05)


def test_nobody_to_mix_with() -> None:
    partner, _ = augmentation.draw_mixup(0, 0.4)
    assert partner.tolist() == []


def test_defaults_augment() -> None:
    assert AugmentationSettings() != NO_AUGMENTATION
