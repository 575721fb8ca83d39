"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.skips import ABSENT_KERNEL, kind_of

# Some tests import ONNX Runtime without the program, which says the same.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def untuned_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What was tuned on this machine must change no test's result, here or in a subprocess."""
    with pytest.MonkeyPatch.context() as patch:
        none = tmp_path_factory.mktemp("untuned") / "none.json"
        patch.setenv("FLUIDAUDIO_TUNING", str(none))
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C reaches what tests start, even where they run in the background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the development meetings, which a fresh machine does not have."""
    folder = Path(os.environ.get("FLUIDAUDIO_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"development data not found at {folder} (set FLUIDAUDIO_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def sample_wav() -> Path:
    """The bundled 30 s conversation of two speakers."""
    return REPOSITORY / "datasets" / "sample" / "sample.wav"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line which tests had no kernel here: a green run has not tried it."""
    reasons = Counter(
        reason
        for report in terminalreporter.stats.get("skipped", ())
        if kind_of(reason := str(report.longrepr[-1]).removeprefix("Skipped: ")) == ABSENT_KERNEL
    )
    if reasons:
        told = "; ".join(f"{count}: {reason}" for reason, count in reasons.items())
        terminalreporter.write_line(
            f"{reasons.total()} tests were left out for this processor ({told})"
        )
