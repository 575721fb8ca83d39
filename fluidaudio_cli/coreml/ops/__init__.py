"""One lowering function per MIL operation, in a table by operation name."""

from __future__ import annotations

from fluidaudio_cli.coreml.ops import (
    activation,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    resizing,
    shaping,
    tensor,
)
from fluidaudio_cli.coreml.ops.table import LoweringFunction

LOWERINGS: dict[str, LoweringFunction] = {
    **activation.TABLE,
    **convolution.TABLE,
    **elementwise.TABLE,
    **indexing.TABLE,
    **linear.TABLE,
    **normalization.TABLE,
    **pooling.TABLE,
    **quantization.TABLE,
    **recurrent.TABLE,
    **reduction.TABLE,
    **resizing.TABLE,
    **shaping.TABLE,
    **tensor.TABLE,
}
