"""sherpa-onnx in the worker process, with the two networks of our packages.

Run as ``python -m fluidaudio_cli.benchmark.peers.sherpa_worker``.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from fluidaudio_cli.benchmark.peers.worker import Job, RawTurn, Samples, serve

# The best of 0.6, 0.7 and 0.8 on the simulated development meetings (strict error 13.5, 12.3 and
# 11.8 %); its own default is 0.5.
BEST_THRESHOLD = 0.8
# sherpa-onnx's own defaults, in seconds: shorter turns are dropped, shorter gaps filled.
MIN_TURN_SECONDS = 0.3
MIN_GAP_SECONDS = 0.5
_AUTOMATIC = -1


class SherpaEngine:
    """A loaded ``OfflineSpeakerDiarization``."""

    def __init__(self, diarization: Any) -> None:
        self._diarization = diarization

    def prepare(self, samples: Samples) -> array[float]:
        """The form that its binding, which converts element by element, takes fastest."""
        return array("f", samples.tobytes())

    def diarize(self, prepared: array[float]) -> Sequence[RawTurn]:
        """Turns in order of time."""
        segments = self._diarization.process(prepared).sort_by_start_time()
        return [(one.start, one.end, str(one.speaker)) for one in segments]


class SherpaPeer:
    """sherpa-onnx with a job's models and settings."""

    def __init__(self, job: Job) -> None:
        import sherpa_onnx

        self._sherpa = sherpa_onnx
        self._models: Mapping[str, str] = job["models"]
        asked = job["settings"]
        threshold, speakers = asked["threshold"], asked["num_speakers"]
        self._threshold = BEST_THRESHOLD if threshold is None else float(threshold)
        self._clusters = _AUTOMATIC if speakers is None else int(speakers)

    def version(self) -> str:
        """Version of the package."""
        return str(self._sherpa.__version__)

    def settings(self) -> Mapping[str, float | int | str]:
        """What runs."""
        given = {} if self._clusters == _AUTOMATIC else {"num_speakers": self._clusters}
        return {
            "threshold": self._threshold,
            "min_duration_on": MIN_TURN_SECONDS,
            "min_duration_off": MIN_GAP_SECONDS,
            "provider": "cpu",
            **given,
        }

    def load(self, threads: int) -> SherpaEngine:
        """Load both networks with ``threads`` threads each."""
        sherpa = self._sherpa
        config = sherpa.OfflineSpeakerDiarizationConfig(
            segmentation=sherpa.OfflineSpeakerSegmentationModelConfig(
                pyannote=sherpa.OfflineSpeakerSegmentationPyannoteModelConfig(
                    model=self._models["segmentation"]
                ),
                num_threads=threads,
            ),
            embedding=sherpa.SpeakerEmbeddingExtractorConfig(
                model=self._models["embedding"], num_threads=threads
            ),
            clustering=sherpa.FastClusteringConfig(
                num_clusters=self._clusters, threshold=self._threshold
            ),
            min_duration_on=MIN_TURN_SECONDS,
            min_duration_off=MIN_GAP_SECONDS,
        )
        if not config.validate():
            raise ValueError("sherpa-onnx refuses the configuration")
        return SherpaEngine(sherpa.OfflineSpeakerDiarization(config))


if __name__ == "__main__":
    serve(SherpaPeer)
