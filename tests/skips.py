"""Why a test may be left out: few reasons, each with its name."""

from __future__ import annotations

from collections.abc import Mapping

ABSENT_KERNEL = "kernel"

# What a reason says, or in the source is written to say. Anything else is a test that hides.
REASONS: Mapping[str, tuple[str, ...]] = {
    ABSENT_KERNEL: ("the LSTM kernel cannot run", "on this processor", "kernel.NOT_BUILT"),
    "another system or machine": (
        "Linux",
        "POSIX",
        "Windows",
        "on this system",
        "/dev/full",
        "no signals, pipes or terminals",
        "sends SIGINT to one process",
        "root reads anything",
        "one processor",
        "this kernel does not let the high-water mark be reset",
    ),
    "a Mac": ("Core ML runs here", "what is said off the Mac"),
    "not installed": (
        "the extra [convert] is not installed",
        "the extra [peers] is not installed",
        "the extra [remote] is not installed",
        "hatchling is not installed",
        "qemu-aarch64 is not installed",
        "no Chromium here",
        "is not here: {state.reason}",
        "executor.availability().reason",
    ),
    "not downloaded or built": (
        "development data not found",
        "run `make weights`",
        "is not built (make models)",
        "not a git checkout",
    ),
}


def kind_of(reason: str) -> str | None:
    """Under which of :data:`REASONS` a reason falls, if under any."""
    return next(
        (kind for kind, texts in REASONS.items() if any(text in reason for text in texts)), None
    )
