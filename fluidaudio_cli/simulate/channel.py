"""What becomes of a mixture on its way: gain drift, clipping, bandwidth, codec, lost packets."""

from __future__ import annotations

import math

import numpy as np

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.simulate.codecs import Chain, Stage, coded, find_codec, narrowed
from fluidaudio_cli.simulate.recipe import Channel, draw, pick
from fluidaudio_cli.simulate.signals import Samples, from_db

_DRIFT_SECONDS = 60.0
_PACKET = SAMPLE_RATE // 50
_BURST_PACKETS = 2.0
"""Lost packets come in bursts of this many on average (Gilbert's model)."""

_FADE = 0.5
"""A lost packet is replaced by the one before, at half its level, again and again: about what
receivers do."""


class Memoryless:
    """A stage without delay."""

    def flush(self) -> Samples:
        """Nothing is held back."""
        return np.zeros(0, np.float32)


class Drift(Memoryless):
    """Gain that swings by ``decibels`` up and down within a minute."""

    def __init__(self, decibels: float, rng: np.random.Generator) -> None:
        self._decibels = decibels
        self._phase = float(rng.uniform(0, 2 * math.pi))
        self._position = 0

    def push(self, samples: Samples) -> Samples:
        """The samples at their gain."""
        time = (np.arange(samples.size) + self._position) / SAMPLE_RATE
        self._position += samples.size
        swing = self._decibels * np.sin(2 * math.pi * time / _DRIFT_SECONDS + self._phase)
        return np.asarray(samples * 10 ** (swing / 20), np.float32)


class Clip(Memoryless):
    """Nothing beyond ``peak``."""

    def __init__(self, peak: float) -> None:
        self._peak = peak

    def push(self, samples: Samples) -> Samples:
        """The samples within the peak."""
        return np.clip(samples, -self._peak, self._peak)


class PacketLoss:
    """``percent`` of packets of 20 ms are lost, in bursts."""

    def __init__(self, percent: float, rng: np.random.Generator) -> None:
        self._leave = 1 / _BURST_PACKETS
        share = percent / 100
        self._enter = self._leave * share / (1 - share)
        self._rng = rng
        self._lost = False
        self._last = np.zeros(_PACKET, np.float32)
        self._waiting = np.zeros(0, np.float32)

    def push(self, samples: Samples) -> Samples:
        """Whole packets, those that were lost concealed."""
        waiting = np.concatenate([self._waiting, samples])
        whole = waiting.size // _PACKET * _PACKET
        self._waiting = waiting[whole:]
        packets = waiting[:whole].reshape(-1, _PACKET)
        for packet in packets:
            self._lost = self._rng.random() < (1 - self._leave if self._lost else self._enter)
            if self._lost:
                packet[:] = self._last * np.float32(_FADE)
            self._last = packet
        self._last = self._last.copy()
        return packets.ravel()

    def flush(self) -> Samples:
        """The last, incomplete packet."""
        return self._waiting


def channel_of(channel: Channel, level: float, rng: np.random.Generator) -> tuple[Chain, str]:
    """The stages that a recipe asks for, and the codec drawn; ``level``: the speech's amplitude."""
    drift, codec = draw(channel.drift, rng), pick(channel.codec, rng)
    clip = None if channel.clip is None else draw(channel.clip, rng)
    loss = draw(channel.loss, rng)
    stages: list[Stage] = []
    if drift:
        stages.append(Drift(drift, rng))
    if clip is not None:
        stages.append(Clip(level * from_db(clip)))
    if channel.bandwidth is not None and channel.bandwidth < SAMPLE_RATE / 2:
        stages.append(narrowed(channel.bandwidth))
    if codec != "none":
        stages.append(coded(find_codec(codec)))
    if loss:
        stages.append(PacketLoss(loss, rng))
    return Chain(stages), codec
