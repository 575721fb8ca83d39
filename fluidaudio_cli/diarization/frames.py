"""The one place where segmentation frames become time.

The segmentation network emits one frame per 270 samples; frame 0 sees samples 0 … 990, so that
its centre is at 30.97 ms (SincNet's strides and kernels; pyannote.audio places turns the same
way).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 160_000
WINDOW_SECONDS = WINDOW_SAMPLES / SAMPLE_RATE
WINDOW_FRAMES = 589
HOP_SAMPLES = 270
RECEPTIVE_FIELD_SAMPLES = 991

FBANK_HOP_SAMPLES = 160
FBANK_FRAME_SAMPLES = 400
FBANK_WINDOW_FRAMES = WINDOW_SAMPLES // FBANK_HOP_SAMPLES
"""Filter-bank frames whose hop starts within a window."""
FBANK_TAIL_SAMPLES = FBANK_FRAME_SAMPLES - FBANK_HOP_SAMPLES
"""How far a filter-bank frame reaches past its hop."""
CROP_FRAMES = 200
"""Filter-bank frames that the embedding network takes: 2 s."""
CROP_SECONDS = CROP_FRAMES * FBANK_HOP_SAMPLES / SAMPLE_RATE
"""The same in seconds."""
CROP_SAMPLES = CROP_FRAMES * FBANK_HOP_SAMPLES + FBANK_TAIL_SAMPLES
"""Audio that those frames see."""


@dataclass(frozen=True)
class FrameGrid:
    """Frame numbers of a whole recording, counted from its first sample."""

    hop_seconds: float = HOP_SAMPLES / SAMPLE_RATE
    centre_seconds: float = (RECEPTIVE_FIELD_SAMPLES - 1) / 2 / SAMPLE_RATE

    def window_centres(self) -> NDArray[np.float64]:
        """(589,) seconds at the centre of what each frame of a window sees, from 0.03094 on."""
        return np.asarray(self.centre_seconds + np.arange(WINDOW_FRAMES) * self.hop_seconds)

    def boundary(self, frame: int) -> float:
        """Seconds between ``frame - 1`` and ``frame``; 0 for frame 0.

        A turn whose first active frame is ``a`` and first inactive frame is ``b`` spans
        ``boundary(a)`` to ``boundary(b)``.
        """
        if frame <= 0:
            return 0.0
        return self.centre_seconds + (frame - 0.5) * self.hop_seconds

    def window_offset(self, start_samples: int) -> int:
        """Recording frame nearest to frame 0 of a window that starts at ``start_samples``."""
        return round(start_samples / HOP_SAMPLES)

    def frames_within(self, samples: int) -> int:
        """How many frames have their centre inside a recording of ``samples`` samples."""
        last_centre = samples - (RECEPTIVE_FIELD_SAMPLES - 1) / 2
        return max(1, int(last_centre // HOP_SAMPLES) + 1) if samples > 0 else 0


GRID = FrameGrid()


def segmentation_frame_of_fbank() -> NDArray[np.intp]:
    """For each of a window's 1000 filter-bank frames, the segmentation frame nearest in time."""
    centres = np.arange(FBANK_WINDOW_FRAMES) * FBANK_HOP_SAMPLES + FBANK_FRAME_SAMPLES / 2
    nearest = np.round((centres / SAMPLE_RATE - GRID.centre_seconds) / GRID.hop_seconds)
    return np.clip(nearest, 0, WINDOW_FRAMES - 1).astype(np.intp)
