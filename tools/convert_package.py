"""Convert a traced PyTorch module to an ML Program package with coremltools.

Runs on any system (coremltools converts on Linux too); needs the extra ``[convert]``.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Flexible batch of the shipped packages. Core ML materialises one value; ONNX keeps a symbol.
# The bound only has to be one the converter accepts.
MAX_BATCH = 1024


@dataclass(frozen=True)
class PackageRecipe:
    """How one network becomes a package.

    ``precision`` is fp32 or fp16; ``keep_fp32`` tells which MIL operations stay in float32 all
    the same.
    """

    input_name: str
    output_name: str
    input_description: str
    output_description: str
    precision: str
    author: str
    licence: str
    description: str
    metadata: Mapping[str, str]
    keep_fp32: Callable[[Any], bool] = lambda operation: False


def convert_to_package(module: Any, example: Any, recipe: PackageRecipe, target: Path) -> None:
    """Trace ``module`` on ``example`` (a torch tensor, batch first) and save ``target``.

    The batch of ``example`` must be at least 2, as a traced 1 is taken for a constant. The
    package takes any batch, and float32 whatever its inner precision.
    """
    import coremltools as ct
    import numpy as np
    import torch

    # A copy, because coremltools folds weights in place in the arrays that it shares with torch.
    with torch.no_grad():
        traced = torch.jit.trace(copy.deepcopy(module), example)
    if recipe.precision == "fp32":
        precision: Any = ct.precision.FLOAT32
    else:
        precision = ct.transform.FP16ComputePrecision(
            op_selector=lambda operation: not recipe.keep_fp32(operation)
        )
    batch = ct.RangeDim(lower_bound=1, upper_bound=MAX_BATCH, default=1, symbol="batch")
    model = ct.convert(
        traced,
        convert_to="mlprogram",
        inputs=[
            ct.TensorType(recipe.input_name, shape=(batch, *example.shape[1:]), dtype=np.float32)
        ],
        outputs=[ct.TensorType(recipe.output_name, dtype=np.float32)],
        compute_precision=precision,
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    )
    model.author = recipe.author
    model.license = recipe.licence
    model.short_description = recipe.description
    model.input_description[recipe.input_name] = recipe.input_description
    model.output_description[recipe.output_name] = recipe.output_description
    for key, value in recipe.metadata.items():
        model.user_defined_metadata[key] = value
    if target.exists():
        shutil.rmtree(target)
    model.save(str(target))
