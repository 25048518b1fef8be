"""Random changes that leave the emotion as it is: functions on batches.

Two kinds are kept apart because the decoder's target is the undisturbed speech: a *view* (speed, gain, rate, band
shift) moves speech and target alike, a *disturbance* (noise, masks) is for the encoder alone to see through.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.draws import ALONE, Draws
from lightning_modules.features import frame_mask
from lightning_modules.settings import AugmentationSettings


def _uniform(size: int, low: float, high: float, like: Tensor, draws: Draws) -> Tensor:
    """(size,) numbers on the device of ``like``."""
    return low + (high - low) * draws.mine(torch.rand(draws.rows(size), device=like.device))


def change_speed(waveform: Tensor, length: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Plays each utterance ``factor`` times as fast, by linear interpolation; the batch keeps its width.

    Args:
        waveform: (batch, samples).
        length: Valid samples, (batch,).
        factor: (batch,), above 1 is faster and higher.

    Returns:
        The waveform, (batch, samples), and the new lengths; what no longer fits is cut.
    """
    samples = waveform.shape[1]
    # What follows the last valid sample is padding, which must not be mixed into it.
    position = torch.minimum(torch.arange(samples, device=waveform.device) * factor[:, None], length[:, None] - 1)
    left = position.long().clamp(max=samples - 2)
    fraction = (position - left).clamp(0, 1)
    changed = torch.lerp(waveform.gather(1, left), waveform.gather(1, left + 1), fraction)
    new_length = (length / factor).long().clamp(min=1, max=samples)
    return changed * frame_mask(new_length, samples), new_length


def change_gain(waveform: Tensor, gain_db: Tensor) -> Tensor:
    """Scales each utterance of (batch, samples) by ``gain_db`` (batch,)."""
    factor = torch.pow(10.0, gain_db / 20)
    return waveform * factor[:, None]


def add_noise(waveform: Tensor, length: Tensor, snr_db: Tensor, tilt: Tensor, white: Tensor) -> Tensor:
    """Adds noise of a given spectral slope at a given signal-to-noise ratio.

    Args:
        waveform: (batch, samples).
        length: Valid samples, (batch,).
        snr_db: (batch,); infinite adds nothing.
        tilt: Exponent of 1/f of the noise's amplitude, (batch,): 0 is white, 0.5 pink, 1 brown.
        white: Standard normal noise to make it from, (batch, samples).

    Returns:
        (batch, samples).
    """
    samples = waveform.shape[1]
    mask = frame_mask(length, samples)
    spectrum = torch.fft.rfft(white)
    bins = torch.arange(1, spectrum.shape[1] + 1, device=waveform.device)
    noise: Tensor = torch.fft.irfft(spectrum * bins ** -tilt[:, None], n=samples) * mask
    level = noise.square().sum(1).sqrt().clamp(min=1e-9)
    wanted = waveform.square().sum(1).sqrt() * torch.pow(10.0, -snr_db / 20)
    return waveform + noise * (wanted / level)[:, None]


def warp(log_mel: Tensor, frames: Tensor, rate: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Stretches time and shifts bands by bilinear interpolation; the batch keeps its width.

    Args:
        log_mel: (batch, mels, frames).
        frames: Valid frames, (batch,).
        rate: Above 1 is faster, (batch,).
        shift: Bands that the spectrum moves up by, (batch,).

    Returns:
        The log-mel, (batch, mels, frames), and the new numbers of valid frames; what no longer fits is cut.
    """
    batch, mels, size = log_mel.shape
    # What follows the last valid frame is padding, which must not be mixed into it.
    time = torch.minimum(torch.arange(size, device=log_mel.device) * rate[:, None], frames[:, None] - 1)
    band = torch.arange(mels, device=log_mel.device) - shift[:, None]
    grid = torch.stack(
        [
            (2 * time / max(size - 1, 1) - 1)[:, None, :].expand(batch, mels, size),
            (2 * band / (mels - 1) - 1)[:, :, None].expand(batch, mels, size),
        ],
        dim=-1,
    )
    warped = F.grid_sample(log_mel[:, None].float(), grid, padding_mode="border", align_corners=True)[:, 0]
    new_frames = (frames / rate).long().clamp(min=1, max=size)
    return warped * frame_mask(new_frames, size)[:, None], new_frames


def mask_spans(size: int, count: int, widest: int, batch: int, like: Tensor, draws: Draws = ALONE) -> Tensor:
    """Draws SpecAugment masks (Park et al., Interspeech 2019).

    Returns:
        (batch, size), True where ``count`` spans of up to ``widest`` positions hide the input.
    """
    # Whole numbers, each with the same chance: the first and the last position too.
    rows = draws.rows(batch)
    width = (torch.rand(rows, count, 1, device=like.device) * (min(widest, size) + 1)).floor()
    start = (torch.rand(rows, count, 1, device=like.device) * (size - width + 1)).floor()
    width, start = draws.mine(width), draws.mine(start)
    position = torch.arange(size, device=like.device)
    hidden: Tensor = ((position >= start) & (position < start + width)).any(1)
    return hidden


def draw_gain(waveform: Tensor, settings: AugmentationSettings, draws: Draws = ALONE) -> Tensor:
    """Random gain, utterance by utterance, (batch, samples)."""
    if settings.gain_db == 0:
        return waveform
    return change_gain(waveform, _uniform(len(waveform), -settings.gain_db, settings.gain_db, waveform, draws))


def disturb(
    waveform: Tensor, length: Tensor, settings: AugmentationSettings, draws: Draws = ALONE
) -> tuple[Tensor, Tensor]:
    """Gives some utterances noise.

    Returns:
        Which of the batch, (disturbed,), int64, and what became of them, (disturbed, samples).
    """
    size, samples = waveform.shape
    everyone = draws.rows(size)
    # So many of every batch, and not each by chance, drawn by the CPU: a GPU need not be asked how many there are.
    chosen = torch.randperm(everyone)[: round(settings.noise * everyone)].tolist()
    which, here = draws.here(chosen)
    noisy = torch.tensor(here, dtype=torch.int64, device=waveform.device)
    if not chosen:
        return noisy, waveform[noisy]
    snr = _uniform(size, *settings.noise_snr_db, waveform, draws)
    tilt = _uniform(size, 0.0, 1.0, waveform, draws)
    white = torch.randn(len(chosen), samples, device=waveform.device)
    if not here:  # not every FFT takes an empty batch
        return noisy, waveform[noisy]
    if len(which) < len(chosen):
        white = white[torch.tensor(which, device=waveform.device)]
    return noisy, add_noise(waveform[noisy], length[noisy], snr[noisy], tilt[noisy], white)


def draw_warp(
    size: int, settings: AugmentationSettings, like: Tensor, draws: Draws = ALONE
) -> tuple[Tensor, Tensor] | None:
    """Draws the rate and the band shift of ``size`` utterances; none where both are off."""
    if settings.rate == 0 and settings.shift == 0:
        return None
    widest = torch.log1p(torch.tensor(settings.rate)).item()
    rate = _uniform(size, -widest, widest, like, draws).exp()
    return rate, _uniform(size, -settings.shift, settings.shift, like, draws)


KINDS = 8
"""How many kinds of augmentation ``kind`` tells apart."""


def kind(size: int, noisy: Tensor, warp: tuple[Tensor, Tensor] | None) -> Tensor:
    """What was done to each utterance, as a class to recognise (after Latif et al., IEEE Trans. Affective Comp., 2022).

    Args:
        size: Utterances of the batch.
        noisy: Which of them were given noise, (disturbed,).
        warp: Rates and band shifts, (size,) each; none where there were none.

    Returns:
        (size,), int64, from 0 to ``KINDS`` - 1: noise, faster and upwards, each yes or no.
    """
    found = torch.zeros(size, dtype=torch.int64, device=noisy.device).index_fill(0, noisy, 1)
    if warp is not None:
        rate, shift = warp
        found = found + 2 * (rate > 1) + 4 * (shift > 0)
    return found


def draw_mixup(size: int, alpha: float, draws: Draws = ALONE) -> tuple[Tensor, float]:
    """Draws partners for mixup (Zhang et al., ICLR 2018).

    Args:
        size: Utterances that are mixed with each other and with those of other processes.
        alpha: Parameter of the symmetric beta distribution.
        draws: The random numbers.

    Returns:
        The place of each utterance's partner in the whole batch, (size,), and the share of the utterance in the
        mixture, one for the whole batch because the concordance loss is one number for a batch. It is at least a half,
        so that the utterance's own label is right where there can be only one (the prior of its code).
    """
    partner = torch.randperm(draws.rows(size))
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    if draws.places:
        partner = partner[torch.tensor(draws.places)]
    return partner, max(share, 1 - share)


def mask_log_mel(log_mel: Tensor, settings: AugmentationSettings, draws: Draws = ALONE) -> Tensor:
    """SpecAugment: hides random bands and frames of (batch, mels, frames) behind the mean, which is zero."""
    batch, mels, frames = log_mel.shape
    bands = mask_spans(mels, settings.band_masks, settings.band_mask_size, batch, log_mel, draws)
    times = mask_spans(frames, settings.frame_masks, settings.frame_mask_size, batch, log_mel, draws)
    return log_mel.masked_fill(bands[:, :, None] | times[:, None, :], 0.0)
