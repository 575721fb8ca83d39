"""Whether ``diarize`` is a job, and how it is spread; light, since every run asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.errors import UsageError

if TYPE_CHECKING:
    from fluidaudio_cli.jobs.pool import Pool
    from fluidaudio_cli.jobs.work import Work
    from fluidaudio_cli.recordings import Place


@dataclass(frozen=True)
class JobOptions:
    """How a job runs. ``workers``: by default one here, and on a cluster as many as fit."""

    workers: int | None = None
    cluster: str | None = None
    resume: bool = True


def is_job(places: Sequence[Place], output_dir: Path | None, options: JobOptions) -> bool:
    """Whether the command is a job: results in a folder, and not of a single recording named.

    That one is a job, too, where the folder has a job's results, which it might replace. Raises
    ``UsageError`` for options that only a job has.
    """
    if output_dir is None:
        if options.cluster is not None or options.workers is not None or not options.resume:
            raise UsageError(
                "--cluster, --workers and --no-resume are for results in a folder",
                "add --output-dir DIR",
            )
        return False
    if len(places) > 1 or options != JobOptions():
        return True
    from fluidaudio_cli.audio.folders import each_audio
    from fluidaudio_cli.jobs import manifest

    return (output_dir / manifest.NAME).exists() or next(each_audio(places)) != places[0]


def pool_of(work: Work, options: JobOptions, share: Share) -> Pool:
    """Workers elsewhere than in this process."""
    if options.cluster is not None:
        from fluidaudio_cli.jobs.cluster import ClusterPool

        return ClusterPool(work, options.cluster, share.workers, share.threads)
    from fluidaudio_cli.jobs.local import LocalPool

    return LocalPool(work, share.workers or 1, share.threads)


@dataclass(frozen=True)
class Share:
    """``workers`` processes (on a cluster ``None`` for all that fit) of ``threads`` processors.

    ``None`` threads are left to the plan.
    """

    workers: int | None
    threads: int | None


def shares(options: JobOptions, threads: int | None, limited: bool) -> Share:
    """What each worker gets; ``limited``: whether memory is.

    Raises ``UsageError`` for more workers than processors.
    """
    if limited and (options.cluster is not None or options.workers is not None):
        raise UsageError("--memory-limit holds one process", "leave out --cluster and --workers")
    if options.cluster is not None:
        return Share(options.workers, threads)
    workers = options.workers or 1
    if workers == 1:
        return Share(1, threads)
    from fluidaudio_cli.executors.machine import processors

    total = threads or processors()
    if workers > total:
        raise UsageError(
            f"--workers {workers} is more than the {total} processors they would share",
            "give each at least one",
        )
    return Share(workers, total // workers)
