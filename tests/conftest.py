"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
# How tests say that they are skipped for the processor's sake.
_PROCESSOR_LACKS = re.compile(r"^Skipped: (the LSTM kernel cannot run: .*|.* on this processor)$")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line at the end which tests want another processor: CI may have one."""
    reasons = Counter(
        found[1]
        for report in terminalreporter.stats.get("skipped", [])
        if (found := _PROCESSOR_LACKS.match(str(report.longrepr[-1])))
    )
    if reasons:
        told = "; ".join(f"{count}: {reason}" for reason, count in reasons.items())
        terminalreporter.write_line(
            f"{reasons.total()} tests were left out for this processor ({told})"
        )


@pytest.fixture(scope="session", autouse=True)
def untuned_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What was tuned on this machine must change no test's result, here or in a subprocess."""
    with pytest.MonkeyPatch.context() as patch:
        none = tmp_path_factory.mktemp("untuned") / "none.json"
        patch.setenv("FLUIDAUDIO_TUNING", str(none))
        yield


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
