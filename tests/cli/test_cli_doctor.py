"""``fluidaudio doctor``: a machine that can diarize, and ones that cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fluidaudio_cli.cli import models_verify
from fluidaudio_cli.diarization import loading
from fluidaudio_cli.executors import select
from fluidaudio_cli.executors.base import Availability
from fluidaudio_cli.executors.lstm import kernel
from fluidaudio_cli.models import registry

Command = Callable[..., tuple[int, str, str]]


def test_doctor_tells_everything_and_that_diarize_runs(process: Command) -> None:
    code, out, err = process("doctor", "--format", "json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "fluidaudio.doctor/1"
    assert document["can_diarize"] is True
    found = {(one["section"], one["name"]): one for one in document["findings"]}
    assert [name for section, name in found if section == "executors"] == [
        "coreml",
        "openvino",
        "onnxruntime",
        "cuda",
    ]
    assert found["executors", "onnxruntime"]["status"] == "ok"
    lstm = found["kernels", "LSTM on AMX tiles"]
    reason = kernel.unavailable()
    assert (lstm["status"], lstm["detail"].partition(";")[0]) == (
        ("absent", reason) if reason else ("ok", kernel.kernel_version())
    )
    codecs = [name for section, name in found if section == "codecs"]
    assert codecs == ["WAV", "FLAC", "MP3", "AAC", "Opus", "Vorbis"]
    assert {found["codecs", name]["status"] for name in codecs} == {"ok"}
    assert found["storage", "cache"]["status"] == "ok"
    assert found["self-tests", "segmentation on onnxruntime in fp32"]["status"] == "ok"
    assert found["diarization", "balanced"]["status"] == "ok"
    assert document["plan"]["mode"]["name"] == "balanced"
    assert found["plan", "executor"]["detail"].startswith(document["plan"]["executor"])
    for one in document["findings"]:
        assert one["status"] == "ok" or one["remedy"], one


@pytest.fixture
def nothing_to_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Self-tests and loading take time, and are not what is asked for."""
    monkeypatch.setattr(models_verify, "run_selftests", lambda *_: ())
    loaded = SimpleNamespace(models=(), close=lambda: None)
    monkeypatch.setattr(loading, "load", lambda plan: loaded)


@pytest.mark.usefixtures("nothing_to_verify")
def test_doctor_for_people(command: Command) -> None:
    code, out, err = command("doctor")
    assert (code, err) == (0, "")
    for part in (
        "This machine",
        "executors",
        "kernels",
        "LSTM on AMX tiles",
        "codecs",
        "storage",
        "models",
        "Self-tests",
    ):
        assert part in out
    assert "Everything needed is here." in out


@pytest.mark.usefixtures("nothing_to_verify")
@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        (
            "the processor has no AMX tiles for bf16",
            "none needed: the executor runs LSTM layers itself, more slowly",
        ),
        (
            kernel.NOT_BUILT,
            "install a C compiler (GCC 11 or later), then reinstall fluidaudio",
        ),
    ],
)
def test_why_the_lstm_kernel_does_not_run(
    command: Command, reason: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "unavailable", lambda: reason)
    code, out, err = command("doctor", "--format", "json")
    assert (code, err) == (0, "")
    found, _ = [one for one in json.loads(out)["findings"] if one["section"] == "kernels"]
    assert found == {
        "section": "kernels",
        "name": "LSTM on AMX tiles",
        "status": "absent",
        "detail": reason,
        "remedy": remedy,
    }
    code, out, err = command("doctor")
    assert (code, err) == (0, "")
    assert f"LSTM on AMX tiles: {remedy}\n" in out
    assert "Everything needed is here." in out


@pytest.fixture
def no_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no executor runs."""
    absent = Availability(ok=False, reason="not installed", remedy="pip install it")

    def nothing() -> dict[str, Availability]:
        return dict.fromkeys(("coreml", "openvino", "onnxruntime"), absent)

    monkeypatch.setattr(select, "availabilities", nothing)
    monkeypatch.setattr(models_verify, "availabilities", nothing)

    class Absent:
        def availability(self) -> Availability:
            return absent

    monkeypatch.setattr(select, "executor", lambda name, cache=None: Absent())


@pytest.mark.usefixtures("no_executor")
def test_machine_without_an_executor_is_exit_code_4(command: Command) -> None:
    code, out, err = command("doctor")
    assert code == 4
    assert "not installed" in out
    assert "openvino: pip install it" in out
    assert "Everything needed is here." not in out
    assert err.startswith("fluidaudio: diarize cannot run here: no executor is available: ")
    assert "onnxruntime: not installed" in err
    assert err.endswith(": reinstall fluidaudio\n")
    assert err.count("\n") == 1


@pytest.fixture
def no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(registry, "packages_dir", lambda: tmp_path)
    registry.bundled_models.cache_clear()
    yield tmp_path
    registry.bundled_models.cache_clear()


def test_broken_installation_is_exit_code_4(command: Command, no_manifest: Path) -> None:
    code, out, err = command("doctor", "--format", "json")
    assert code == 4
    document = json.loads(out)
    assert document["can_diarize"] is False
    (manifest,) = [one for one in document["findings"] if one["section"] == "models"]
    assert manifest["status"] == "failed"
    assert str(no_manifest / "manifest.json") in manifest["detail"]
    assert err == (
        "fluidaudio: diarize cannot run here: the bundled models are not those of the manifest: "
        "reinstall fluidaudio\n"
    )


# Loading without a cache is the executors' test.
@pytest.mark.usefixtures("nothing_to_verify")
def test_cache_that_cannot_be_written_has_a_remedy(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("FLUIDAUDIO_CACHE_DIR", str(blocked / "cache"))
    code, out, _ = command("doctor", "--format", "json")
    found = {one["name"]: one for one in json.loads(out)["findings"]}
    assert code == 0
    assert found["cache"]["status"] == "failed"
    assert found["cache"]["detail"].endswith("models compile at each start")
    assert "FLUIDAUDIO_CACHE_DIR" in found["cache"]["remedy"]
