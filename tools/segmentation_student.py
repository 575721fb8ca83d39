"""The segmentation student: convolutions and five short attentions, as trained and as shipped.

As trained, channels are last and the log-mel frames are given (:class:`FrontEnd` makes them), so
that they can be varied and matrix products do the work; as shipped (:class:`Shipped`), channels are
first, batch normalisation lies in the convolutions, and the front end is the first of them. Shapes:
b windows, 591 log-mel frames, 589 frames of output, c channels at each frame, d at every fourth.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from segmentation_mixtures import FRAMES, HOP_SAMPLES
from torch import Tensor, nn
from torch.nn import functional

from fluidaudio_cli.audio.mono import SAMPLE_RATE

KERNEL_SAMPLES = 440
"""27.5 ms under a Hann window: 591 frames at the teacher's hop, one more at either end."""

MELS = 64
FLOOR = 1e-6
"""Of the window's mean power: quieter bands are taken for silence."""

LEAST_VARIANCE = 1e-10
"""Added to the window's: digital silence stays silence."""

CLASSES = 7
CHANNELS = 128
WIDE = 192
"""Channels of every fourth frame: who is who over the whole window needs width, not detail."""

BLOCKS = 5
NEAR_BLOCKS = 3
"""The first ones, which look at what is near, too. After them each frame tells whose voice it hears
(:meth:`Student.both`); the others settle who is who."""

VOICE_SIZE = 32
HEADS = 4
TAPS = 9
STRIDE = 4
FRAME_MEAN, FRAME_SPREAD = -4.0, 4.0
"""Of log-mel frames in the mixtures."""

_EVERY_FOURTH = (FRAMES - 1) // STRIDE + 1


def spectrum() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(440, 280) window times cosines and sines, and (280, 64) from their squares to mel bands.

    A component every 40 Hz to 3.2 kHz, every 80 Hz above: no wider apart than a window's lobe.
    A band of white noise of variance 1 has energy 1.
    """
    hertz = np.concatenate([np.arange(40, 3200, 40), np.arange(3200, 8000, 80)])
    width = np.concatenate([np.full(79, 40.0), np.full(60, 80.0)])
    time = np.arange(KERNEL_SAMPLES) - (KERNEL_SAMPLES - 1) / 2
    hann = np.hanning(KERNEL_SAMPLES + 2)[1:-1]
    phase = 2 * np.pi * np.outer(time, hertz) / SAMPLE_RATE
    waves = np.concatenate([np.cos(phase), np.sin(phase)], axis=1) * hann[:, None]
    waves /= math.sqrt(float((hann**2).sum()))

    def mel(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127 * np.log1p(frequency / 700)

    points = np.linspace(mel(np.array(40.0)), mel(np.array(7960.0)), MELS + 2)
    at = mel(hertz.astype(float))
    rise = (at[:, None] - points[:-2]) / (points[1:-1] - points[:-2])
    fall = (points[2:] - at[:, None]) / (points[2:] - points[1:-1])
    bands = np.maximum(np.minimum(rise, fall), 0) * width[:, None]
    # Low bands are narrower than the step between components: they take the nearest.
    for band in np.flatnonzero(bands.sum(axis=0) == 0):
        bands[np.argmin(np.abs(at - points[band + 1])), band] = 1
    bands /= bands.sum(axis=0)
    return waves.astype(np.float32), np.concatenate([bands, bands]).astype(np.float32)


class FrontEnd(nn.Module):
    """(b, 1, 160000) samples of any level to (b, 64, 591) log energies of mel bands."""

    def __init__(self) -> None:
        super().__init__()
        waves, bands = (torch.from_numpy(part) for part in spectrum())
        self.level = nn.InstanceNorm1d(1, eps=LEAST_VARIANCE)
        self.waves = _convolution(waves.T[:, None], stride=HOP_SAMPLES)
        self.bands = _convolution(bands.T[:, :, None])

    def forward(self, audio: Tensor) -> Tensor:
        """As the class says."""
        waves = self.waves(self.level(audio))
        return torch.log(self.bands(waves * waves) + FLOOR)


class Normal(nn.BatchNorm1d):
    """Batch normalisation of (b, frames, c)."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return super().forward(x.flatten(0, 1)).view_as(x)


class Separable(nn.Module):
    """x + relu(norm(each channel over time, then all channels of a frame))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.randn(TAPS, channels) / math.sqrt(TAPS))
        self.mix = nn.Linear(channels, channels, bias=False)
        self.norm = Normal(channels)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        near = _near_compiled if x.is_cuda else _near
        return x + functional.relu(self.norm(self.mix(near(x, self.taps))))


def _near(x: Tensor, taps: Tensor) -> Tensor:
    """Each channel over time. Shifts and adds, which a compiler joins to one pass over memory."""
    padded = functional.pad(x, (0, 0, TAPS // 2, TAPS // 2))
    total = padded[:, : x.shape[1]] * taps[0]
    for i in range(1, TAPS):
        total = total + padded[:, i : i + x.shape[1]] * taps[i]
    return total.to(x.dtype)


_near_compiled = torch.compile(_near, dynamic=False)


class Context(nn.Module):
    """What is near, what is alike anywhere in the window, and what follows from both."""

    def __init__(self, channels: int, near: bool) -> None:
        super().__init__()
        self.near = Separable(channels) if near else nn.Identity()
        self.asked = nn.Linear(channels, 3 * channels, bias=False)
        # Without it questions and keys grow until each frame attends to one other only.
        self.asked_norm = Normal(3 * channels)
        self.given = nn.Linear(channels, channels, bias=False)
        self.given_norm = Normal(channels)
        self.wider = nn.Linear(channels, 2 * channels, bias=False)
        self.wider_norm = Normal(2 * channels)
        self.back = nn.Linear(2 * channels, channels, bias=False)
        self.back_norm = Normal(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(b, frames, d) to the same."""
        x = self.near(x)
        b, frames, channels = x.shape
        size = channels // HEADS
        query, key, value = (
            part.view(b, frames, HEADS, size).transpose(1, 2)
            for part in self.asked_norm(self.asked(x)).chunk(3, dim=-1)
        )
        alike = torch.softmax(query @ key.transpose(2, 3) * size**-0.5, dim=-1)
        seen = (alike @ value).transpose(1, 2).reshape(b, frames, channels)
        x = x + self.given_norm(self.given(seen))
        return x + self.back_norm(self.back(functional.relu(self.wider_norm(self.wider(x)))))


class Student(nn.Module):
    """(b, 591, 64) log-mel frames to (b, 589, 7) log-probabilities of the powerset's classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3 * MELS, CHANNELS, bias=False)
        self.stem_norm = Normal(CHANNELS)
        self.before = Separable(CHANNELS)
        self.down = nn.Linear((STRIDE + 1) * CHANNELS, WIDE, bias=False)
        self.down_norm = Normal(WIDE)
        self.context = nn.ModuleList(
            Context(WIDE, number < NEAR_BLOCKS) for number in range(BLOCKS)
        )
        self.up = nn.Linear(WIDE, (STRIDE + 1) * CHANNELS, bias=False)
        self.up_norm = Normal(CHANNELS)
        self.after = nn.ModuleList(Separable(CHANNELS) for _ in range(2))
        self.head = nn.Linear(CHANNELS, CLASSES)
        self.heard = nn.Linear(WIDE, VOICE_SIZE)

    def forward(self, frames: Tensor) -> Tensor:
        """As the class says."""
        return self.both(frames)[0]

    def both(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """That, and (b, 148, 32) a vector of length 1 for whose voice is heard at every fourth.

        The second is for the training alone: a lesson about voices before who is who is settled.
        """
        x = (frames - FRAME_MEAN) / FRAME_SPREAD
        x = torch.cat([x[:, :-2], x[:, 1:-1], x[:, 2:]], dim=2)
        x = self.before(functional.relu(self.stem_norm(self.stem(x))))
        y = functional.relu(self.down_norm(self.down(self._fives(x))))
        for number, block in enumerate(self.context, 1):
            y = block(y)
            if number == NEAR_BLOCKS:
                heard = functional.normalize(self.heard(y).float(), dim=2)
        x = functional.relu(x + self.up_norm(self._spread(self.up(y))))
        for block in self.after:
            x = block(x)
        return self.head(x).float().log_softmax(dim=-1), heard

    @staticmethod
    def _fives(x: Tensor) -> Tensor:
        """(b, 589, c) to (b, 148, 5c): a convolution of 5 taps, stride 4, padded by 2."""
        b, _, channels = x.shape
        padded = functional.pad(x, (0, 0, 2, 2))
        whole = _EVERY_FOURTH * STRIDE
        fours = padded[:, :whole].reshape(b, _EVERY_FOURTH, STRIDE * channels)
        return torch.cat([fours, padded[:, STRIDE::STRIDE]], dim=2)

    @staticmethod
    def _spread(y: Tensor) -> Tensor:
        """(b, 148, 5c) to (b, 589, c): the transpose of that convolution."""
        b = y.shape[0]
        y = y.view(b, _EVERY_FOURTH, STRIDE + 1, -1)
        fours = y[:, :, :STRIDE]
        # The fifth of each falls on the first of the next.
        fifth = functional.pad(y[:, :-1, STRIDE], (0, 0, 1, 0))
        fours = torch.cat([fours[:, :, :1] + fifth[:, :, None], fours[:, :, 1:]], dim=2)
        last = y[:, -1:, STRIDE]
        flat = torch.cat([fours.reshape(b, _EVERY_FOURTH * STRIDE, -1), last], dim=1)
        return flat[:, 2 : 2 + FRAMES]


class Shipped(nn.Module):
    """A student as its package has it: (b, 1, 160000) samples to (b, 589, 7) log-probabilities."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.front = FrontEnd()
        stem, shift = _normalized(_by_taps(student.stem, 3), student.stem_norm)
        shift = shift - stem.sum(dim=(1, 2)) * FRAME_MEAN / FRAME_SPREAD
        self.stem = _convolution(stem / FRAME_SPREAD, shift)
        self.before = _ShippedSeparable(student.before)
        down = _normalized(_by_taps(student.down, STRIDE + 1), student.down_norm)
        self.down = _convolution(*down, stride=STRIDE, padding=2)
        self.context = nn.Sequential(*(_ShippedContext(block) for block in student.context))
        up, shift = _normalized(
            student.up.weight.view(STRIDE + 1, CHANNELS, WIDE).permute(1, 2, 0), student.up_norm
        )
        self.up = nn.ConvTranspose1d(WIDE, CHANNELS, STRIDE + 1, STRIDE, 2)
        _fill(self.up, up.transpose(0, 1), shift)
        self.after = nn.Sequential(*(_ShippedSeparable(block) for block in student.after))
        self.head = _convolution(student.head.weight[:, :, None], student.head.bias)

    def forward(self, audio: Tensor) -> Tensor:
        """As the class says."""
        x = self.before(functional.relu(self.stem(self.front(audio))))
        y = self.context(functional.relu(self.down(x)))
        x = self.after(functional.relu(x + self.up(y)))
        return torch.log_softmax(self.head(x).transpose(1, 2), dim=2)


class _ShippedSeparable(nn.Module):
    def __init__(self, trained: Separable) -> None:
        super().__init__()
        channels = trained.taps.shape[1]
        self.near = _convolution(trained.taps.T[:, None], padding=TAPS // 2, groups=channels)
        self.mix = _convolution(*_normalized(trained.mix.weight[:, :, None], trained.norm))

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.relu(self.mix(self.near(x)))


class _ShippedContext(nn.Module):
    def __init__(self, trained: Context) -> None:
        super().__init__()
        near = isinstance(trained.near, Separable)
        self.near = _ShippedSeparable(trained.near) if near else nn.Identity()
        asked, shift = _normalized(trained.asked.weight[:, :, None], trained.asked_norm)
        scale = (WIDE // HEADS) ** -0.5
        query, key, value = zip(asked.chunk(3), shift.chunk(3), strict=True)
        self.query = _convolution(query[0] * scale, query[1] * scale)
        self.key, self.value = _convolution(*key), _convolution(*value)
        self.given = _convolution(
            *_normalized(trained.given.weight[:, :, None], trained.given_norm)
        )
        self.wider = _convolution(
            *_normalized(trained.wider.weight[:, :, None], trained.wider_norm)
        )
        self.back = _convolution(*_normalized(trained.back.weight[:, :, None], trained.back_norm))

    def forward(self, x: Tensor) -> Tensor:
        x = self.near(x)
        heads = (-1, HEADS, WIDE // HEADS, _EVERY_FOURTH)
        query, key, value = (part(x).reshape(heads) for part in (self.query, self.key, self.value))
        alike = torch.softmax(torch.matmul(query.transpose(2, 3), key), dim=-1)
        seen = torch.matmul(value, alike.transpose(2, 3)).reshape(-1, WIDE, _EVERY_FOURTH)
        x = x + self.given(seen)
        return x + self.back(functional.relu(self.wider(x)))


def _by_taps(layer: nn.Linear, taps: int) -> Tensor:
    """(out, taps x in) to a convolution's (out, in, taps)."""
    return layer.weight.view(layer.out_features, taps, -1).permute(0, 2, 1)


def _normalized(weight: Tensor, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Weights (out, in, taps) and offsets (out,) that give what ``norm`` makes of them."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale[:, None, None], norm.bias - norm.running_mean * scale


def _convolution(
    weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, groups: int = 1
) -> nn.Conv1d:
    out, width, taps = weight.shape
    made = nn.Conv1d(
        width * groups, out, taps, stride, padding, groups=groups, bias=bias is not None
    )
    _fill(made, weight, bias)
    return made


def _fill(layer: nn.Conv1d | nn.ConvTranspose1d, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
