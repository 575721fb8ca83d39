"""Rooms: impulse responses of a shoebox, from first reflections and a diffuse tail.

Early reflections are mirror images of the source (J. Allen, D. Berkley, "Image method for
efficiently simulating small-room acoustics", 1979). After the mixing time they are too many to
tell apart, and the tail is noise that decays at the rate asked for (E. Lehmann, A. Johansson,
"Diffuse reverberation model for efficient image-source simulation", 2010), at the level that the
images would have on average: 4 pi c / V of energy a second, for a direct sound of 1 at 1 m.

Why not pyroomacoustics: its images alone decay up to 37 % more slowly than asked for (its
`inverse_sabine`, 8 x 6 x 3 m, 1 s), need 2 to 18 s of processor time a response of 0.6 s and more,
and it brings 22 MB with Cython and no wheel for Linux on ARM.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fluidaudio_cli.audio.source import SAMPLE_RATE
from fluidaudio_cli.simulate.signals import Samples

Response = NDArray[np.float64]

SPEED_OF_SOUND = 343.0

_MIXING_SECONDS = 0.03
"""Reflections before are single, after it diffuse: the square root of the volume (m3), in ms, is
the usual rule, and rooms here have 30 to 190 m3."""

_SINC_HALF_WIDTH = 16
_MICROPHONE_HEIGHT = 0.8
_MOUTH_HEIGHT = 1.2
_WALL_MARGIN = 0.4

_SMALLEST = (3.6, 3.2, 2.5)
_LARGEST = (9.0, 7.0, 3.0)
"""Length, width and height (m) of the rooms drawn: from an office to a meeting room."""


@dataclass(frozen=True)
class Shoebox:
    """A room's ``size`` (m), its reverberation time ``rt60`` (s), where the ``microphone`` is."""

    size: tuple[float, float, float]
    rt60: float
    microphone: tuple[float, float, float]

    @property
    def volume(self) -> float:
        """In cubic metres."""
        return math.prod(self.size)

    @property
    def reflection(self) -> float:
        """Amplitude that a wall gives back, the same for all (Eyring's formula)."""
        x, y, z = self.size
        surface = 2 * (x * y + x * z + y * z)
        # 24 ln 10 / c, Sabine's 0.161 s/m
        absorbed = 24 * math.log(10) / SPEED_OF_SOUND * self.volume / (surface * self.rt60)
        return math.exp(-absorbed / 2)


def draw_room(rt60: float, reach: float, rng: np.random.Generator) -> Shoebox:
    """A room in which people sit up to ``reach`` metres from a microphone on the table."""
    least = 2 * (reach + _WALL_MARGIN)
    long, wide, high = (float(extent) for extent in rng.uniform(_SMALLEST, _LARGEST))
    size = (max(long, least), max(wide, least), high)
    # Off the centre, where reflections of opposite walls would coincide.
    slack = [(extent - least) / 2 for extent in size[:2]]
    x, y = (
        extent / 2 + float(rng.uniform(-1, 1)) * min(spare, 0.3)
        for extent, spare in zip(size[:2], slack, strict=True)
    )
    return Shoebox(size, rt60, (x, y, _MICROPHONE_HEIGHT))


def seat(room: Shoebox, distance: float, angle: float) -> tuple[float, float, float]:
    """Where a mouth is, ``distance`` (m) from the microphone, at ``angle`` (radians) around it."""
    x, y, z = room.microphone
    rise = min(_MOUTH_HEIGHT - z, distance * 0.7)
    flat = math.sqrt(distance**2 - rise**2)
    return (x + flat * math.cos(angle), y + flat * math.sin(angle), z + rise)


def impulse_response(
    room: Shoebox, source: tuple[float, float, float], rng: np.random.Generator
) -> Samples:
    """The response (n,) float32 at 16 kHz from ``source`` to the room's microphone.

    The direct sound is at sample 0, so that a turn starts when its speaker does; its amplitude is
    1 at 1 m. Without reverberation there is nothing else.
    """
    distance = math.dist(source, room.microphone)
    if room.rt60 <= 0:
        return np.array([1 / distance], np.float32)
    # The tail ends where it has fallen by 60 dB.
    response = np.zeros(max(round(room.rt60 * SAMPLE_RATE), 2 * _SINC_HALF_WIDTH), np.float64)
    _add_images(response, room, source, distance)
    _add_tail(response, room, distance, rng)
    return response.astype(np.float32)


def _add_images(
    response: Response, room: Shoebox, source: tuple[float, float, float], direct: float
) -> None:
    reach = direct + _MIXING_SECONDS * SPEED_OF_SOUND
    axes = []
    for extent, mouth, ear in zip(room.size, source, room.microphone, strict=True):
        count = math.ceil(reach / (2 * extent)) + 1
        axes.append(
            [
                ((1 - 2 * mirrored) * mouth + 2 * turn * extent - ear, abs(2 * turn - mirrored))
                for turn in range(-count, count + 1)
                for mirrored in (0, 1)
            ]
        )
    for (dx, rx), (dy, ry), (dz, rz) in itertools.product(*axes):
        distance = math.sqrt(dx * dx + dy * dy + dz * dz)
        if distance <= reach:
            amplitude = room.reflection ** (rx + ry + rz) / distance
            _add_pulse(response, (distance - direct) / SPEED_OF_SOUND * SAMPLE_RATE, amplitude)


def _add_pulse(response: Response, position: float, amplitude: float) -> None:
    """A pulse between samples: a sinc under a Hann window."""
    middle = round(position)
    first = max(middle - _SINC_HALF_WIDTH + 1, 0)
    at = np.arange(first, min(middle + _SINC_HALF_WIDTH, response.size)) - position
    window = 0.5 + 0.5 * np.cos(np.pi * at / _SINC_HALF_WIDTH)
    response[first : first + at.size] += amplitude * np.sinc(at) * window


def _add_tail(response: Response, room: Shoebox, direct: float, rng: np.random.Generator) -> None:
    first = round(_MIXING_SECONDS * SAMPLE_RATE)
    # Time runs from when the sound left the mouth.
    time = np.arange(first, response.size) / SAMPLE_RATE + direct / SPEED_OF_SOUND
    power = 4 * math.pi * SPEED_OF_SOUND / room.volume / SAMPLE_RATE
    envelope = math.sqrt(power) * 10 ** (-3 * time / room.rt60)
    response[first:] += rng.standard_normal(time.size) * envelope
