"""PyTorch modules as converted by coremltools: whole idioms, fp16, flexible batch, compression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import coremltools.optimize.coreml as cto
import numpy as np
import torch
from coremltools.converters.mil.frontend.milproto.load import load as load_mil
from torch import Tensor, nn

from cases.case import TracedCase, random

torch.manual_seed(0)


class Sincs(nn.Module):
    """Front end of speech segmentation: norm, filters, magnitude, pool."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.InstanceNorm1d(c, affine=True) for c in (1, 6, 5)])
        self.filters = nn.Conv1d(1, 6, 15, stride=4, bias=False)
        self.conv = nn.Conv1d(6, 5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.abs(self.filters(self.norms[0](x)))
        x = nn.functional.leaky_relu(self.norms[1](nn.functional.max_pool1d(x, 3)))
        return nn.functional.leaky_relu(self.norms[2](nn.functional.max_pool1d(self.conv(x), 3)))


class Sequence(nn.Module):
    """Stacked bidirectional LSTM with zero initial state of the batch's size, then classes."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.head(self.lstm(x)[0]), -1)


class Parallel(nn.Module):
    """Two directions as two layers that share their input, forwards and flipped."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead, self.behind, self.third = (nn.LSTM(5, 4, batch_first=True) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.ahead(x)[0], self.behind(x.flip(1))[0].flip(1), self.third(x)[0]]
        return torch.cat(parts, -1)


class Sizes(nn.Module):
    """Shapes computed at run time."""

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.cat([x, x.mean(1, keepdim=True).expand_as(x)], 1)
        ones = torch.ones_like(wide) + torch.arange(5)
        return (wide * ones).flatten(1)


class Unrolled(nn.Module):
    """A GRU, which coremltools converts to a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


class Remembering(nn.Module):
    """A running sum kept in a state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(x)
        return self.total * 1


class Transformer(nn.Module):
    """One encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.wide, self.narrow = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = torch.nn.functional.linear(
            x, self.layer.in_proj_weight, self.layer.in_proj_bias
        ).chunk(3, -1)
        heads = [part.unflatten(-1, (2, 4)).transpose(1, 2) for part in (q, k, v)]
        mixed = nn.functional.scaled_dot_product_attention(*heads)
        joined = mixed.transpose(1, 2).flatten(2)
        x = self.norm(x + self.layer.out_proj(joined))
        return x + self.narrow(nn.functional.gelu(self.wide(x)))


class Statistics(nn.Module):
    """Speaker embedding: time-delay layers with a context mask, statistics pooling, norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(4, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU())
        self.gate = nn.Conv1d(8, 8, 1)
        self.dense = nn.Linear(16, 6)
        self.first[1].running_mean.uniform_(-1, 1)
        self.first[1].running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first((x - x.mean(1, keepdim=True)).transpose(1, 2))
        segments = nn.functional.avg_pool1d(x, 4, 4, ceil_mode=True)
        spread = segments[..., None].expand(-1, -1, -1, 4).flatten(2)
        context = x.mean(-1, keepdim=True) + spread[..., :18]
        x = x * torch.sigmoid(self.gate(context))
        pooled = torch.cat([x.mean(-1), x.std(-1, unbiased=True)], 1)
        return nn.functional.normalize(self.dense(pooled), dim=1)


class Weights(nn.Module):
    """A convolution and a projection big enough to be worth compressing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 16, 4)
        self.linear = nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.relu(self.conv(x)).transpose(1, 2))


def _decompressed(model: Any, module: Any) -> Any:
    """``module`` with the weights that coremltools itself decompresses from ``model``."""
    dense = cto.decompress_weights(model)
    program = load_mil(
        dense._spec,
        specification_version=dense._spec.specificationVersion,
        file_weights_dir=dense.weights_dir,
    )
    changed = Weights().eval()
    changed.load_state_dict(module.state_dict())
    for operation in program.functions["main"].operations:
        if operation.op_type in ("conv", "linear"):
            layer = getattr(changed, operation.op_type)
            weight = np.asarray(operation.weight.val, np.float32)
            layer.weight.data = torch.from_numpy(weight.reshape(layer.weight.shape))
    return changed


def _compress(*steps: Callable[[Any], Any]) -> Callable[[Any, Any], tuple[Any, Any]]:
    def transform(model: Any, module: Any) -> tuple[Any, Any]:
        for step in steps:
            model = step(model)
        return model, _decompressed(model, module)

    return transform


def _quantize(joint: bool = False, **options: Any) -> Callable[[Any], Any]:
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig(weight_threshold=1, **options))
    return lambda model: cto.linear_quantize_weights(model, config, joint_compression=joint)


def _palettize(joint: bool = False, **options: Any) -> Callable[[Any], Any]:
    config = cto.OptimizationConfig(
        cto.OpPalettizerConfig(weight_threshold=1, mode="kmeans", **options)
    )
    return lambda model: cto.palettize_weights(model, config, joint_compression=joint)


def _prune(**options: Any) -> Callable[[Any], Any]:
    config = cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(weight_threshold=1, **options))
    return lambda model: cto.prune_weights(model, config, joint_compression=False)


_INPUT = random(2, 8, 12, seed=120)
_BLOCK: dict[str, Any] = {"granularity": "per_block", "block_size": 4}
_GROUP: dict[str, Any] = {"granularity": "per_grouped_channel", "group_size": 8}


def _weights(name: str, opset: str, *steps: Callable[[Any], Any]) -> TracedCase:
    return TracedCase(
        f"weights_{name}",
        Weights().eval(),
        _INPUT,
        opset=opset,
        transform=_compress(*steps),
        precision="fp16",
        tolerance=4e-3,
    )


def _compressed_cases() -> list[TracedCase]:
    plain = [
        _weights("affine_int8", "iOS16", _quantize(mode="linear_symmetric")),
        _weights("affine_uint8", "iOS16", _quantize(mode="linear", dtype=np.uint8)),
        _weights("block_int4", "iOS18", _quantize(mode="linear_symmetric", dtype="int4", **_BLOCK)),
        _weights("block_uint4", "iOS18", _quantize(mode="linear", dtype="uint4", **_BLOCK)),
        _weights("channel_int8", "iOS18", _quantize(mode="linear_symmetric", dtype="int8")),
        _weights("palette4", "iOS16", _palettize(nbits=4)),
        _weights("palette6", "iOS16", _palettize(nbits=6)),
        _weights("sparse", "iOS16", _prune(target_sparsity=0.6)),
        _weights("sparse_ios18", "iOS18", _prune(target_sparsity=0.6)),
        _weights(
            "sparse_affine",
            "iOS18",
            _prune(target_sparsity=0.5),
            _quantize(joint=True, mode="linear_symmetric", dtype="int8"),
        ),
        _weights(
            "sparse_palette", "iOS18", _prune(target_sparsity=0.5), _palettize(joint=True, nbits=3)
        ),
        _weights(
            "palette_int8",
            "iOS18",
            _palettize(nbits=4),
            _quantize(joint=True, mode="linear_symmetric", dtype="int8", granularity="per_tensor"),
        ),
    ]
    bits = [
        _weights(f"palette{n}_ios18", "iOS18", _palettize(nbits=n, **_GROUP)) for n in (1, 2, 3, 6)
    ]
    return [*plain, *bits]


CASES: list[TracedCase] = [
    TracedCase("sincs", Sincs().eval(), random(2, 1, 400, seed=121)),
    TracedCase(
        "sincs_fp16", Sincs().eval(), random(2, 1, 400, seed=121), precision="fp16", tolerance=2e-2
    ),
    TracedCase("sequence", Sequence().eval(), random(2, 7, 5, seed=122)),
    TracedCase(
        "sequence_flexible",
        Sequence().eval(),
        random(2, 7, 5, seed=122),
        opset="iOS18",
        flexible=True,
        batches=(2, 1, 3),
    ),
    TracedCase(
        "sequence_flexible_fp16",
        Sequence().eval(),
        random(2, 7, 5, seed=122),
        opset="iOS17",
        precision="fp16",
        flexible=True,
        batches=(2, 1, 3),
        tolerance=5e-3,
    ),
    TracedCase("parallel", Parallel().eval(), random(3, 7, 5, seed=126)),
    TracedCase(
        "sizes_flexible",
        Sizes().eval(),
        random(2, 7, 5, seed=127),
        opset="iOS17",
        flexible=True,
        batches=(2, 1, 3),
    ),
    TracedCase("transformer", Transformer().eval(), random(2, 6, 8, seed=124)),
    TracedCase(
        "transformer_flexible",
        Transformer().eval(),
        random(2, 6, 8, seed=124),
        opset="iOS18",
        flexible=True,
        batches=(2, 1, 3),
    ),
    TracedCase(
        "statistics_flexible",
        Statistics().eval(),
        random(2, 18, 4, seed=125),
        opset="iOS18",
        flexible=True,
        batches=(2, 1, 3),
    ),
    TracedCase(
        "statistics_fp16",
        Statistics().eval(),
        random(2, 18, 4, seed=125),
        precision="fp16",
        tolerance=5e-3,
    ),
    *_compressed_cases(),
]
