"""The graphs that sherpa-onnx gets: the same networks, free in length, with its metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fluidaudio_cli.errors import ModelFormatError
from fluidaudio_cli.executors.peer_models import (
    free_length_embedding,
    write_sherpa_embedding,
    write_sherpa_segmentation,
)
from fluidaudio_cli.models.registry import bundled_models
from fluidaudio_cli.resources import packages_dir

# CAM++ as published, computed by PyTorch in fp32 with the original's segment pooling:
# avg_pool1d(100, 100, ceil_mode=True), each mean repeated over its 100 steps.
PUBLISHED = Path(__file__).with_name("test_peers_camplusplus.npz")


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    target = tmp_path_factory.mktemp("peer") / "embedding.onnx"
    write_sherpa_embedding(packages_dir() / "embedding.mlpackage", target)
    return onnxruntime.InferenceSession(str(target))


def run(session: Any, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(session.run(None, {session.get_inputs()[0].name: frames})[0])


def cosine(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.mark.parametrize("length", [90, 500])
def test_embedding_of_any_length_is_the_published_network(embedding: Any, length: int) -> None:
    t, f = np.arange(length)[:, None], np.arange(80)[None]
    frames = 3 * np.sin(0.37 * t + 1.3 * f) + 2 * np.sin(0.0011 * t * t * (1 + f / 80))
    result = run(embedding, frames[None].astype(np.float32))[0]
    expected = np.load(PUBLISHED)
    assert cosine(result, expected[f"frames_{length}"]) >= 0.9999
    other = {90: 500, 500: 90}[length]
    assert cosine(result, expected[f"frames_{other}"]) < 0.9


def test_embedding_of_200_frames_passes_the_packages_self_test(embedding: Any) -> None:
    selftest = bundled_models()["embedding"].selftest()
    (frames,) = selftest.inputs.values()
    (expected,) = selftest.expected.values()
    for index, each in enumerate(np.asarray(frames)):
        assert cosine(run(embedding, each[None])[0], np.asarray(expected)[index]) >= 0.9999


def test_metadata_is_what_sherpa_onnx_reads(tmp_path: Path, embedding: Any) -> None:
    metadata = embedding.get_modelmeta().custom_metadata_map
    assert metadata["framework"] == "3d-speaker"
    assert (metadata["output_dim"], metadata["sample_rate"]) == ("192", "16000")
    assert metadata["feature_normalize_type"] == "global-mean"
    assert metadata["normalize_samples"] == "0"

    target = tmp_path / "segmentation.onnx"
    write_sherpa_segmentation(packages_dir() / "segmentation.mlpackage", target)
    found = {each.key: each.value for each in onnx.load(str(target)).metadata_props}
    assert found["window_size"] == "160000"
    assert (found["receptive_field_size"], found["receptive_field_shift"]) == ("991", "270")
    assert (found["num_speakers"], found["num_classes"]) == ("3", "7")
    assert found["powerset_max_classes"] == "2"


def test_fixed_length_parts_are_replaced_by_what_they_stand_for() -> None:
    session = onnxruntime.InferenceSession(
        free_length_embedding(fixed_length_graph()).SerializeToString()
    )
    steps = np.concatenate([np.full(100, 1.0), np.full(100, 4.0), np.full(50, -2.0)])
    frames = np.stack([steps, -steps], axis=1)[None].astype(np.float32)
    # By hand: global mean (100 + 400 - 100) / 250 = 1.6; masks sigmoid(1.6 + segment mean).
    mask = 1.0 / (1.0 + np.exp(-(1.6 + steps)))
    mirrored = 1.0 / (1.0 + np.exp(1.6 + steps))
    masked = np.stack([steps * mask, -steps * mirrored])
    expected = masked.var(axis=1, ddof=1)
    np.testing.assert_allclose(run(session, frames)[0, :, 0], expected, rtol=1e-5)


def test_another_graph_is_refused() -> None:
    model = fixed_length_graph()
    (double,) = (one for one in model.graph.initializer if one.name == "two")
    double.CopyFrom(numpy_helper.from_array(np.float32(3.0), "two"))
    with pytest.raises(ModelFormatError, match="not the CAM\\+\\+ graph"):
        free_length_embedding(model)


def fixed_length_graph() -> onnx.ModelProto:
    """Variance of masked steps, made for 200 of them, in the form of the embedding package."""
    constants = {
        "joined": np.array([-1, 2, 200], np.int64),
        "time": np.array([-1], np.int64),
        "two": np.float32(2.0),
        "divisor": np.array([1 / 199], np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Transpose", ["frames"], ["turned"], perm=[0, 2, 1]),
        node("Reshape", ["turned", "joined"], ["hidden"]),
        node("ReduceMean", ["hidden", "time"], ["context_mean"], keepdims=1),
        node("Mul", ["context_mean", "two"], ["context"]),
        node("Sigmoid", ["context"], ["mask"]),
        node("Mul", ["hidden", "mask"], ["masked"]),
        node("ReduceMean", ["masked", "time"], ["mean"], keepdims=1),
        node("Sub", ["masked", "mean"], ["centred"]),
        node("Mul", ["centred", "centred"], ["squares"]),
        node("ReduceSum", ["squares", "time"], ["sum"], keepdims=1),
        node("Mul", ["sum", "divisor"], ["variance"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "fixed",
        [info("frames", TensorProto.FLOAT, ["batch", 200, 2])],
        [info("variance", TensorProto.FLOAT, ["batch", 2, 1])],
        [numpy_helper.from_array(np.asarray(data), name) for name, data in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
