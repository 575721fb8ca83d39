"""Run a tapped model (``coreml/taps.py``) and get every layer's result.

On ONNX Runtime in fp32 with all graph optimisation off, so that no layer is fused away and no
rounding undone.
"""

from __future__ import annotations

from collections.abc import Mapping

from fluidaudio_cli.executors.base import Array, Feeds
from fluidaudio_cli.executors.onnxruntime import ERRORS_ONLY, cpu_session, plain_options


class LayerRunner:
    """One loaded model; ``run`` gives every output by name."""

    def __init__(self, model: bytes) -> None:
        """Load; raises ``ExecutorUnavailableError`` without ONNX Runtime."""
        self._session = cpu_session(model, plain_options(ERRORS_ONLY))
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> Mapping[str, Array]:
        """Every output for ``feeds``."""
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))
