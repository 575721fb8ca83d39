"""Render the windows that ``segmentation_mixtures.py`` draws, by the batch, on any device."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from segmentation_mixtures import (
    CURVE_POINTS,
    MOST_SPEAKERS,
    WINDOW_SAMPLES,
    Mixtures,
    Sounds,
    all_samples,
)
from torch import Tensor

from fluidaudio_cli.audio.mono import SAMPLE_RATE
from fluidaudio_cli.simulate.signals import GRID, from_db


def between_points(at: NDArray[np.float64], points: int) -> NDArray[np.float64]:
    """(points, n): what each of ``points`` from 0 to 1 counts for at ``at`` (n,), linearly."""
    return np.asarray(np.maximum(1 - np.abs(at * (points - 1) - np.arange(points)[:, None]), 0))


class Renderer:
    """Renders mixtures of ``sounds`` on ``device``."""

    def __init__(self, sounds: Sounds, device: torch.device) -> None:
        self._device = device
        # Half precision is 11 bits of a sample, and half the memory of a GPU.
        stored = np.concatenate([np.asarray(each, np.float16) for each in all_samples(sounds)])
        self._samples = torch.from_numpy(stored).to(device)
        responses = [seat / np.abs(seat).max() for room in sounds.rooms for seat in room]
        longest = max(response.size for response in responses)
        padded = np.zeros((1 + len(responses), longest), np.float32)
        padded[0, 0] = 1
        for row, response in zip(padded[1:], responses, strict=True):
            row[: response.size] = response
        self._responses = torch.from_numpy(padded).to(device)
        self._size = scipy.fft.next_fast_len(WINDOW_SAMPLES + longest, real=True)
        bins = self._size // 2 + 1
        # Each bin between two points of the curve, which lie closer where the ear is finer.
        curve = between_points(np.sqrt(np.linspace(0, 1, bins)), CURVE_POINTS)
        self._curve = torch.from_numpy(curve.astype(np.float32)).to(device)
        self._hertz = torch.linspace(0, SAMPLE_RATE / 2, bins).to(device)

    def __call__(self, mixtures: Mixtures) -> Tensor:
        """(b, 160000) samples, full scale ±1, rounded to 16 bits."""
        # Most speakers of most windows are silent: rows of those who are not.
        speaks, rows = np.unique(mixtures.pieces[:, 0], return_inverse=True)
        pieces = np.column_stack([rows, mixtures.pieces[:, 1:]])
        seats = mixtures.seats.ravel()[speaks]
        given = Mixtures(
            *(
                torch.from_numpy(part).to(self._device)
                for part in mixtures._replace(pieces=pieces, seats=seats)
            )
        )
        heard = torch.fft.rfft(self._dry(given, len(speaks)))
        heard = heard * torch.fft.rfft(self._responses[given.seats], self._size)
        bins = torch.zeros(
            len(mixtures.sets), heard.shape[1], dtype=heard.dtype, device=self._device
        )
        bins.index_add_(0, torch.from_numpy(speaks // MOST_SPEAKERS).to(self._device), heard)
        bins = bins * self._channel(given)
        speech = torch.fft.irfft(bins, self._size)[:, :WINDOW_SAMPLES]
        level = speech.square().mean(dim=1).sqrt()
        level = torch.where(level > 0, level, torch.full_like(level, from_db(-30)))
        mixed = speech
        for number in range(given.noises.shape[1]):
            noise = self._noise(given.noises[:, number])
            power = noise.square().mean(dim=1).sqrt().clamp_min(1e-6)
            gain = level * 10 ** (-given.snrs[:, number] / 20) / power
            mixed = mixed + noise * gain[:, None]
        loud = 10 ** (given.levels / 20) / mixed.square().mean(dim=1).sqrt().clamp_min(1e-9)
        mixed = mixed * loud[:, None]
        top = mixed.abs().amax(dim=1) * given.clipped
        mixed = torch.minimum(torch.maximum(mixed, -top[:, None]), top[:, None])
        return (mixed.clamp(-1, 1) * 32767).round() / 32768

    def _dry(self, given: Any, speakers: int) -> Tensor:
        """(speakers, samples): what each says."""
        row, first, place, length, rises, falls = given.pieces.unbind(dim=1)
        piece = torch.repeat_interleave(torch.arange(len(row), device=self._device), length)
        at = torch.arange(len(piece), device=self._device) - (length.cumsum(0) - length)[piece]
        gain = given.gains[piece]
        # A millisecond at either edge, where there is one.
        risen, fallen = at / (GRID - 1), (length[piece] - 1 - at) / (GRID - 1)
        gain = gain * torch.where(rises[piece] > 0, risen.clamp(max=1), 1.0)
        gain = gain * torch.where(falls[piece] > 0, fallen.clamp(max=1), 1.0)
        dry = torch.zeros(speakers * self._size, device=self._device)
        said = self._samples[first[piece] + at].float() * gain
        dry.index_add_(0, (row * self._size + place)[piece] + at, said)
        return dry.view(speakers, self._size)

    def _channel(self, given: Any) -> Tensor:
        """(b, bins) gain of each frequency: a microphone's, now and then a telephone's."""
        curve = given.curves @ self._curve
        bottom, top = given.bands.unbind(dim=1)
        curve = curve - 60 * (self._hertz > top[:, None]) - 40 * (self._hertz < bottom[:, None])
        return 10 ** (curve / 20)

    def _noise(self, places: Tensor) -> Tensor:
        first, size, start = (column[:, None] for column in places.unbind(dim=1))
        at = torch.arange(WINDOW_SAMPLES, device=self._device)
        return self._samples[first + (start + at) % size].float()
