"""The bundled packages are what their manifest says they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fluidaudio_cli.coreml.inspect import inspect_package
from fluidaudio_cli.coreml.package import package_sha256
from fluidaudio_cli.errors import ModelFormatError, SelfTestError
from fluidaudio_cli.executors.base import ExecutorOptions
from fluidaudio_cli.executors.select import executor
from fluidaudio_cli.executors.selftest import SelfTest
from fluidaudio_cli.models import registry
from fluidaudio_cli.models.loading import load_model
from fluidaudio_cli.models.registry import bundled_models, package_of
from fluidaudio_cli.resources import packages_dir


@pytest.mark.parametrize("name", bundled_models())
def test_package_has_the_hash_and_shapes_of_the_manifest(name: str) -> None:
    model = bundled_models()[name]
    assert package_sha256(model.package) == model.sha256
    report = inspect_package(model.package)
    for ours, stated in zip(
        (*report.inputs, *report.outputs),
        (*model.facts["inputs"], *model.facts["outputs"]),
        strict=True,
    ):
        assert ours.name == stated["name"]
        # A flexible package states the shapes of its inputs only.
        if ours.type.shape:
            assert list(ours.type.shape)[1:] == stated["shape"][1:]


@pytest.mark.parametrize("name", bundled_models())
def test_shipped_graph_has_no_slice_by_index(name: str) -> None:
    assert inspect_package(bundled_models()[name].package).slice_by_index == 0


def test_packages_together_are_at_most_34_mb_and_the_student_3() -> None:
    def size(folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

    assert size(packages_dir()) <= 34_000_000
    assert size(bundled_models()["segmentation-student"].package) <= 3_000_000


def test_the_student_has_operations_of_the_neural_engine_only() -> None:
    report = inspect_package(bundled_models()["segmentation-student"].package)
    assert set(report.operations) == {
        "add", "cast", "conv", "conv_transpose", "instance_norm", "log", "matmul", "mul", "relu",
        "reshape", "softmax", "transpose",
    }  # fmt: skip


def test_what_the_student_was_not_trained_on_is_said() -> None:
    training = bundled_models()["segmentation-student"].facts["training"]
    assert len(training["readers"]) == 91
    assert training["not_heard"].startswith(
        "children; real rooms and telephones but in ten minutes"
    )
    alike = training["frames_decided_alike_on_new_mixtures"]
    assert 0.8 < alike["truth"] < alike["teacher"]


def test_the_adapted_network_says_of_what_it_was_made() -> None:
    training = bundled_models()["segmentation-adapted"].facts["training"]
    assert len(training["readers"]) == 91
    assert training["share_of_learnt_weights"] == 0.35
    nats = training["nats_a_frame_on_new_mixtures"]
    assert nats["learnt"] < nats["shipped"] < nats["published"]


@pytest.mark.parametrize("name", bundled_models())
def test_licence_travels_with_the_package(name: str) -> None:
    text = (packages_dir() / bundled_models()[name].facts["licence_file"]).read_text()
    assert bundled_models()[name].facts["licence"].split("-")[0] in text


def test_manifest_states_parity_within_the_limits() -> None:
    facts = {name: model.facts["parity"] for name, model in bundled_models().items()}
    for name in ("segmentation", "segmentation-adapted"):
        assert facts[name]["max_log_probability_error_fp32"] <= 1e-3
        assert facts[name]["frame_decision_agreement_shipped"] >= 0.995
    assert facts["segmentation-student"]["frame_decision_agreement_shipped"] >= 0.995
    assert facts["embedding"]["min_cosine_full"] >= 0.9999
    assert facts["embedding"]["min_cosine_minus_40_db"] >= 0.9999
    assert facts["embedding-int8"]["mean_cosine_other_readers"] >= 0.995
    assert facts["embedding-int8"]["min_cosine_other_readers"] >= 0.97


def test_a_name_is_its_package_and_a_path_is_itself() -> None:
    assert package_of("fbank") == packages_dir() / "fbank.mlpackage"
    assert package_of("some/model.mlpackage") == Path("some/model.mlpackage")


def test_damaged_manifest_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": "fluidaudio.models/9"}))
    monkeypatch.setattr(registry, "packages_dir", lambda: tmp_path)
    bundled_models.cache_clear()
    try:
        with pytest.raises(ModelFormatError, match=r"fluidaudio\.models/9"):
            bundled_models()
    finally:
        monkeypatch.undo()
        bundled_models.cache_clear()


def test_self_test_that_fails_stops_the_run_with_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(tmp_path))
    model = bundled_models()["fbank"]
    true = model.selftest()
    wrong = {name: np.asarray(array, np.float32) + 1 for name, array in true.expected.items()}
    monkeypatch.setattr(
        type(model),
        "selftest",
        lambda self: SelfTest(self.name, true.inputs, wrong, true.tolerances),
    )
    with pytest.raises(SelfTestError, match=r"fbank failed on onnxruntime .* max difference 1"):
        load_model(model, executor("onnxruntime"), ExecutorOptions(precision="fp32"))
    assert not list((tmp_path / "selftests").glob("*"))
