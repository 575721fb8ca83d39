"""Rebuild the tiny packages beside this file: ``python tests/executors/data/make_packages.py``.

Both compute relu(x @ [[1, -1], [2, 0.5], [0, -3]]): ``affine-flexible`` in fp32 for any batch,
``affine-fixed`` in fp16 for a batch of two.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813
from coremltools.converters.mil.mil import get_new_symbol

WEIGHTS = np.array([[1.0, -1.0], [2.0, 0.5], [0.0, -3.0]], dtype=np.float32)
HERE = Path(__file__).resolve().parent


def build(name: str, batch: int | None, precision: Any) -> None:
    """Write ``name``.mlpackage; ``batch=None`` makes the batch flexible (1 to 64)."""
    rows = get_new_symbol() if batch is None else batch

    @mb.program(input_specs=[mb.TensorSpec(shape=(rows, 3))], opset_version=ct.target.iOS16)  # type: ignore[untyped-decorator]
    def program(x: Any) -> Any:
        return mb.relu(x=mb.matmul(x=x, y=WEIGHTS, name="linear_0"), name="y")

    shape = ct.Shape((ct.RangeDim(1, 64), 3)) if batch is None else (batch, 3)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        inputs=[ct.TensorType("x", shape=shape, dtype=np.float32)],
        compute_precision=precision,
        minimum_deployment_target=ct.target.iOS16,
        skip_model_load=True,
    )
    target = HERE / f"{name}.mlpackage"
    if target.exists():
        shutil.rmtree(target)
    model.save(str(target))
    # The manifest names this folder, empty here: git would leave it out of a clone.
    (target / "Data" / "com.apple.CoreML" / "weights" / ".gitkeep").touch()


if __name__ == "__main__":
    build("affine-flexible", None, ct.precision.FLOAT32)
    build("affine-fixed", 2, ct.precision.FLOAT16)
