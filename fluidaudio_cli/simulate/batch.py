"""Many conversations at once, in processes; the same bytes for any number of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fluidaudio_cli.errors import HostError, UsageError, os_errors
from fluidaudio_cli.files import atomic_path, resolved
from fluidaudio_cli.progress import ProgressCallback, no_progress
from fluidaudio_cli.signals import deaf_to_interrupts
from fluidaudio_cli.simulate.plan import Conversation, Vectors, plan_conversation
from fluidaudio_cli.simulate.recipe import Recipe, format_recipe
from fluidaudio_cli.simulate.render import write_conversation
from fluidaudio_cli.simulate.voices import Voice, read_voice, voice_files

RECIPE_FILE = "recipe.yaml"

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Sources:
    """Where sounds come from: folders of voices and of noise (None: the bundled)."""

    voices: Path
    noise: Path | None = None
    stems: Path | None = None


@dataclass(frozen=True)
class Made:
    """Conversations that were made. ``cut_off``: seconds of each that are beyond full scale."""

    conversations: tuple[Conversation, ...]
    cut_off: tuple[float, ...]


def read_voices(folder: Path) -> tuple[Voice, ...]:
    """All voices of a folder, by name; see ``voices``."""
    return tuple(read_voice(name, files) for name, files in sorted(voice_files(folder).items()))


def simulate(
    recipe: Recipe,
    sources: Sources,
    folder: Path,
    *,
    voices: tuple[Voice, ...] | None = None,
    vectors: Vectors | None = None,
    jobs: int = 1,
    progress: ProgressCallback = no_progress,
) -> Made:
    """Make all conversations of ``recipe`` into a new ``folder``, whole or not at all.

    ``vectors`` of the voices are needed for similar speakers. Raises ``UsageError`` where
    ``folder`` is not empty, ``InputError`` for voices and noise that do not do, ``HostError``
    where it cannot be written.
    """
    stems = sources.stems
    if resolved(folder) == Path.cwd():
        raise UsageError(f"--output {folder} is the folder you are in", "give a new folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--output {folder} is there and not empty", "give a new folder")
    if stems is not None and resolved(stems).is_relative_to(resolved(folder)):
        raise UsageError(
            f"--stems {stems} is in --output {folder}, where each recording has a reference",
            "give another folder",
        )
    if recipe.similar and vectors is None:
        raise ValueError("similar voices need vectors")
    voices = read_voices(sources.voices) if voices is None else voices
    # Planned here, too: what cannot be made fails before anything is written.
    plans = [plan_conversation(recipe, n, voices, vectors) for n in range(recipe.conversations)]
    if stems is not None:
        with os_errors(f"cannot write stems to {stems}", "choose another --stems"):
            stems.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder) as draft:
        draft.mkdir()
        write = partial(
            write_conversation,
            voices=voices,
            folder=draft,
            noise_folder=sources.noise,
            stems=stems,
        )
        jobs = min(jobs, len(plans))
        if jobs <= 1:
            cut_off = _one_by_one(plans, write, progress)
        else:
            cut_off = _in_processes(plans, write, jobs, progress)
        recipe_file = draft / RECIPE_FILE
        recipe_file.write_text(format_recipe(recipe), encoding="utf-8", newline="\n")
    return Made(tuple(plans), tuple(cut_off))


def _one_by_one(
    plans: Sequence[Conversation], write: Callable[..., float], progress: ProgressCallback
) -> list[float]:
    total = sum(plan.seconds for plan in plans)
    before = 0.0
    found = []
    for plan in plans:

        def report(done: float, _: float | None, before: float = before) -> None:
            progress(before + done, total)

        found.append(write(plan, progress=report))
        before += plan.seconds
    return found


def _in_processes(
    plans: Sequence[Conversation],
    write: Callable[..., float],
    jobs: int,
    progress: ProgressCallback,
) -> list[float]:
    context = multiprocessing.get_context("spawn")
    done: Any = context.Array("d", len(plans))
    total = sum(plan.seconds for plan in plans)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, context, _start, (write, done))
    try:
        with deaf_to_interrupts():
            started = [pool.submit(_work, index, plan) for index, plan in enumerate(plans)]
        pending = set(started)
        while pending:
            finished, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
            for future in finished:
                future.result()
            progress(sum(done), total)
        return [future.result() for future in started]
    except BrokenProcessPool as error:
        raise HostError(
            "a process that made a conversation was killed", "use fewer --jobs: memory may be short"
        ) from error
    except BaseException:
        # What they are at is of no more use, and may take hours.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_given: tuple[Any, ...] = ()
"""What a worker process was started with: what writes, and counts of seconds done."""


def _start(*given: Any) -> None:
    global _given
    # The parent decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _given = given


def _work(index: int, plan: Conversation) -> float:
    write, done = _given
    reported = time.monotonic()

    def report(seconds: float, _: float | None) -> None:
        nonlocal reported
        if time.monotonic() - reported > _POLL_SECONDS:
            done[index] = seconds
            reported = time.monotonic()

    cut_off: float = write(plan, progress=report)
    done[index] = plan.seconds
    return cut_off
