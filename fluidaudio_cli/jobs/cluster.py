"""Workers on a Ray cluster."""

from __future__ import annotations

from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.jobs.pool import Pool
from fluidaudio_cli.jobs.work import Work


def ClusterPool(work: Work, address: str, workers: int | None, threads: int | None) -> Pool:  # noqa: N802
    """Not there yet."""
    raise UsageError("--cluster is not built yet", "leave it out")
