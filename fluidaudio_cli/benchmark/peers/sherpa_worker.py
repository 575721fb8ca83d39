"""sherpa-onnx in the worker process, with the two networks as they were published.

Run as ``python -m fluidaudio_cli.benchmark.peers.sherpa_worker``.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from fluidaudio_cli.benchmark.peers.worker import PeerPipeline, RawTurn, Samples
from fluidaudio_cli.benchmark.worker import serve
from fluidaudio_cli.errors import ExecutorUnavailableError

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
    """sherpa-onnx with networks of ours and a threshold."""

    name = "sherpa-onnx"

    def __init__(self, networks: Mapping[str, str], threshold: float = BEST_THRESHOLD) -> None:
        import sherpa_onnx

        self._sherpa = sherpa_onnx
        self._models = networks
        self._threshold = threshold

    def version(self) -> str:
        """Version of the package."""
        return str(self._sherpa.__version__)

    def settings(self) -> Mapping[str, float | int | str]:
        """What runs."""
        return {
            "threshold": self._threshold,
            "min_duration_on": MIN_TURN_SECONDS,
            "min_duration_off": MIN_GAP_SECONDS,
            "provider": "cpu",
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
                num_clusters=_AUTOMATIC, threshold=self._threshold
            ),
            min_duration_on=MIN_TURN_SECONDS,
            min_duration_off=MIN_GAP_SECONDS,
        )
        if not config.validate():
            raise ValueError("sherpa-onnx refuses the configuration")
        return SherpaEngine(sherpa.OfflineSpeakerDiarization(config))


def load(
    mode: str,
    *,
    networks: Mapping[str, str],
    threshold: float = BEST_THRESHOLD,
    threads: int | None = None,
    **_: Any,
) -> PeerPipeline:
    """Load it as the worker asks; modes and executors are not its own."""
    try:
        peer = SherpaPeer(networks, threshold)
    except ImportError as error:
        raise ExecutorUnavailableError(f"sherpa-onnx: {error}") from error
    return PeerPipeline(peer, threads)


if __name__ == "__main__":
    serve(load)
