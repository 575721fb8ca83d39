"""sherpa-onnx in the worker process, with the two networks as they were published.

Run as ``python -m fluidaudio_cli.benchmark.peers.sherpa_worker``.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fluidaudio_cli.benchmark.peers.worker import PeerEngine, PeerPipeline, RawTurn
from fluidaudio_cli.benchmark.worker import serve
from fluidaudio_cli.errors import ExecutorUnavailableError

# sherpa-onnx's own defaults, in seconds: shorter turns are dropped, shorter gaps filled.
MIN_TURN_SECONDS = 0.3
MIN_GAP_SECONDS = 0.5
_AUTOMATIC = -1


def _engine(networks: Mapping[str, str], threshold: float, threads: int) -> PeerEngine:
    """Both networks with ``threads`` threads each."""
    import sherpa_onnx as sherpa

    config = sherpa.OfflineSpeakerDiarizationConfig(
        segmentation=sherpa.OfflineSpeakerSegmentationModelConfig(
            pyannote=sherpa.OfflineSpeakerSegmentationPyannoteModelConfig(
                model=networks["segmentation"]
            ),
            num_threads=threads,
        ),
        embedding=sherpa.SpeakerEmbeddingExtractorConfig(
            model=networks["embedding"], num_threads=threads
        ),
        clustering=sherpa.FastClusteringConfig(num_clusters=_AUTOMATIC, threshold=threshold),
        min_duration_on=MIN_TURN_SECONDS,
        min_duration_off=MIN_GAP_SECONDS,
    )
    if not config.validate():
        raise ValueError("sherpa-onnx refuses the configuration")
    diarization = sherpa.OfflineSpeakerDiarization(config)

    def diarize(prepared: array[float]) -> Sequence[RawTurn]:
        segments = diarization.process(prepared).sort_by_start_time()
        return [(one.start, one.end, str(one.speaker)) for one in segments]

    # An array is what its binding, which converts element by element, takes fastest.
    return PeerEngine(lambda samples: array("f", samples.tobytes()), diarize)


def load(
    mode: str,
    *,
    networks: Mapping[str, str],
    threshold: float,
    threads: int | None = None,
    **_: Any,
) -> PeerPipeline:
    """Load it as the worker asks; modes and executors are not its own."""
    try:
        from sherpa_onnx import __version__
    except ImportError as error:
        raise ExecutorUnavailableError(f"sherpa-onnx: {error}") from error
    settings: dict[str, float | str] = {
        "threshold": threshold,
        "min_duration_on": MIN_TURN_SECONDS,
        "min_duration_off": MIN_GAP_SECONDS,
        "provider": "cpu",
    }
    engine = partial(_engine, networks, threshold)
    return PeerPipeline("sherpa-onnx", __version__, settings, engine, threads)


if __name__ == "__main__":
    serve(load)
