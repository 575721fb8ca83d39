"""``fluidaudio models list|verify``: whole packages, damaged packages, no PyTorch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fluidaudio_cli.cli import models_verify
from fluidaudio_cli.diarization import card_check
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.executors.base import Traits
from fluidaudio_cli.models import registry
from fluidaudio_cli.models.card import load_card
from fluidaudio_cli.models.verification import SelfTestOutcome
from fluidaudio_cli.resources import datasets_dir, packages_dir

Command = Callable[..., tuple[int, str, str]]

NAMES = [
    "segmentation", "fbank", "embedding", "embedding-int8", "segmentation-student",
    "segmentation-adapted",
]  # fmt: skip


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The bundled packages in a folder where they may be damaged."""
    folder = tmp_path / "packages"
    shutil.copytree(packages_dir(), folder)
    monkeypatch.setattr(registry, "packages_dir", lambda: folder)
    registry.bundled_models.cache_clear()
    yield folder
    registry.bundled_models.cache_clear()


def test_what_cannot_be_calibrated_is_refused_before_anything_is_heard(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(card_check, "check_card", lambda *_: pytest.fail("networks are run"))
    code, out, err = command("models", "check", "bundled", "--calibrate", str(tmp_path))
    assert (code, out) == (3, "")
    assert err.endswith("has no .rttm or .lab file: check the path\n")
    sample = str(datasets_dir() / "sample")
    calibrate = ("models", "check", "bundled", "--calibrate", sample)
    code, out, err = command(*calibrate, "--voices", str(tmp_path))
    assert (code, out) == (3, "")
    assert err.startswith(f"fluidaudio: no voices in {tmp_path}")
    code, out, err = command(*calibrate, "--performance-mode", "best")
    assert (code, out) == (2, "")


def test_list_says_what_the_packages_are(process: Command) -> None:
    code, out, err = process("models", "list", "--format", "json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "fluidaudio.models-list/1"
    assert [model["name"] for model in document["models"]] == NAMES
    assert [model["licence"] for model in document["models"]] == [
        "MIT",
        "Apache-2.0",
        "Apache-2.0",
        "Apache-2.0",
        "MIT",
        "MIT",
    ]
    # What users download.
    assert 10e6 < sum(model["size_bytes"] for model in document["models"]) < 33e6
    segmentation = document["models"][0]
    assert segmentation["inputs"][0]["shape"] == ["batch", 1, 160_000]
    assert segmentation["outputs"][0]["shape"] == ["batch", 589, 7]
    for name, model in zip(NAMES, document["models"], strict=True):
        package = Path(model["path"])
        assert package.name == f"{name}.mlpackage"
        assert model["size_bytes"] == sum(
            path.stat().st_size for path in package.rglob("*") if path.is_file()
        )


def test_list_for_people(command: Command) -> None:
    code, out, _ = command("models", "list")
    assert code == 0
    for name, model in registry.bundled_models().items():
        (line,) = [line for line in out.splitlines() if line.startswith(f" {name} ")]
        assert model.sha256[:12] in line
        assert " MB " in line
    assert "\nsegmentation-student: has not heard children; real rooms" in out
    assert "in: audio float32 batch \u00d7 1 \u00d7 160000" in out


def test_verify_runs_every_self_test(process: Command) -> None:
    code, out, err = process("models", "verify", "--format", "json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["ok"] is True
    assert [(check["model"], check["ok"]) for check in document["hashes"]] == [
        (name, True) for name in NAMES
    ]
    ran = {(one["executor"], one["precision"], one["model"]) for one in document["selftests"]}
    assert {("onnxruntime", "fp32", name) for name in NAMES} <= ran
    # The filter bank is used in fp32 only, whatever the networks use.
    assert {precision for _, precision, model in ran if model == "fbank"} == {"fp32"}
    for one in document["selftests"]:
        assert one["error"] == ""
        assert all(agreement["cosine"] > 0.99 for agreement in one["agreements"])
    assert {one["executor"] for one in document["selftests"]}.isdisjoint(document["absent"])


def test_verify_one_executor(command: Command) -> None:
    code, out, err = command("models", "verify", "--executor", "onnxruntime")
    assert (code, err) == (0, "")
    assert out.count(" onnxruntime  fp32 ") == len(NAMES)
    assert "openvino" not in out
    assert "FAILED" not in out
    code, out, err = command("models", "verify", "--executor", "abacus")
    assert (code, out) == (2, "")
    assert err == (
        "fluidaudio: there is no executor 'abacus': "
        "use all, auto, coreml, openvino, onnxruntime, cuda\n"
    )


def test_a_model_that_an_executor_does_not_take_is_said_and_no_fault(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = SelfTestOutcome("embedding-int8", "openvino", "fp16", unavailable="no, because")
    monkeypatch.setattr(models_verify, "run_selftests", lambda *_: (refused,))
    code, out, err = command("models", "verify", "--executor", "onnxruntime")
    assert (code, err) == (0, "")
    assert "not run here" in out
    assert "embedding-int8 in fp16: no, because\n" in out
    code, out, err = command("doctor")
    assert "embedding-int8 on openvino in fp16: use another --executor or --precision\n" in out
    assert "Everything needed is here." in out


def test_changed_package_is_found_by_its_hash(command: Command, copied: Path) -> None:
    manifest = copied / "fbank.mlpackage" / "Manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    code, out, err = command("models", "verify", "--executor", "onnxruntime")
    assert code == 4
    assert "FAILED" in out
    expected = registry.bundled_models()["fbank"].sha256
    assert err.startswith("fluidaudio: fbank is not the package of the manifest: has the hash ")
    assert err.endswith(f", not {expected}: reinstall fluidaudio\n")
    assert err.count("\n") == 1


def test_missing_package_is_one_line(command: Command, copied: Path) -> None:
    shutil.rmtree(copied / "fbank.mlpackage")
    code, out, err = command("models", "verify", "--executor", "onnxruntime")
    assert code == 4
    assert "FAILED" in out
    assert err.startswith("fluidaudio: fbank is not the package of the manifest: ")
    assert err.count("\n") == 1


def test_failed_self_test_shows_the_figures(command: Command, copied: Path) -> None:
    path = copied / "embedding.selftest.npz"
    with np.load(path) as archive:
        arrays = {key: archive[key].copy() for key in archive.files}
    arrays["output:embedding"][0] *= -1
    np.savez_compressed(path, **arrays)
    code, out, err = command("models", "verify", "--executor", "onnxruntime", "--format", "json")
    assert code == 4
    document = json.loads(out)
    assert document["ok"] is False
    assert [one["model"] for one in document["selftests"] if not one["ok"]] == [
        "embedding",
        "embedding-int8",
    ]
    assert err.startswith("fluidaudio: self-test of embedding failed on onnxruntime ")
    assert "cosine -0.99" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("own", "precision"), [(True, "auto"), (False, "fp32")])
def test_networks_are_checked_in_fp32_or_in_the_precision_they_have(
    own: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a Mac every check of a package in fp16 was refused: Core ML runs none in fp32."""
    asked = []

    def load(mode: object, **wishes: object) -> None:
        asked.append(wishes["precision"])
        raise UsageError("asked")

    chosen = SimpleNamespace(traits=Traits(package_precision=own))
    monkeypatch.setattr(card_check, "select_executor", lambda: chosen)
    monkeypatch.setattr(card_check, "load_pipeline", load)
    with pytest.raises(UsageError, match="asked"):
        card_check.check_card(load_card(), Path(), ())
    assert asked == [precision]
