"""Run a tapped model (``coreml/taps.py``) and get every layer's result.

On ONNX Runtime in fp32 with all graph optimisation off, so that no layer is fused away and no
rounding undone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fluidaudio_cli.errors import ExecutorUnavailableError
from fluidaudio_cli.executors.base import Array, Feeds

_ERRORS_ONLY = 3  # ONNX Runtime's log severity


class LayerRunner:
    """One loaded model; ``run`` gives every output by name."""

    def __init__(self, model: bytes) -> None:
        """Load; raises ``ExecutorUnavailableError`` without ONNX Runtime."""
        try:
            import onnxruntime
        except ImportError as error:
            raise ExecutorUnavailableError(
                f"onnxruntime cannot be imported: {error}",
                "install it with: pip install onnxruntime",
            ) from error
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.log_severity_level = _ERRORS_ONLY
        self._session: Any = onnxruntime.InferenceSession(
            model, settings, providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> Mapping[str, Array]:
        """Every output for ``feeds``."""
        return dict(zip(self._names, self._session.run(self._names, dict(feeds)), strict=True))
