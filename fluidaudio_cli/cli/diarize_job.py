"""``fluidaudio diarize … --output-dir DIR`` of more than one recording: a job (docs/jobs.md)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fluidaudio_cli import __version__
from fluidaudio_cli.audio.folders import each_audio
from fluidaudio_cli.audio.source import AudioSource, is_pipe
from fluidaudio_cli.cli import messages
from fluidaudio_cli.cli.diarize_evidence import evidence_path
from fluidaudio_cli.cli.diarize_output import Refused
from fluidaudio_cli.cli.diarize_work import DiarizeWork, PipelineFacts
from fluidaudio_cli.cli.job_options import JobOptions, Share, pool_of
from fluidaudio_cli.errors import UsageError
from fluidaudio_cli.jobs.manifest import DONE, FAILED, SET_ASIDE, Manifest, Stamp
from fluidaudio_cli.jobs.pool import Inline, Pool
from fluidaudio_cli.jobs.recordings import Recording, Recordings, State
from fluidaudio_cli.jobs.run import run
from fluidaudio_cli.jobs.work import Outcome

if TYPE_CHECKING:
    from fluidaudio_cli.cli.diarize_run import DiarizeRun
    from fluidaudio_cli.diarization.plan import Plan
    from fluidaudio_cli.recordings import Place
    from fluidaudio_cli.report.diarization_json import RunFacts

SUMMARY_SCHEMA = "fluidaudio.job-summary/1"


@dataclass
class HostTally:
    """What one host did. ``busy_seconds``: of its recordings, which may overlap."""

    recordings: int = 0
    failed: int = 0
    audio_seconds: float = 0.0
    busy_seconds: float = 0.0

    def add(self, other: HostTally) -> None:
        """Count what ``other`` did as well."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Tally:
    """What a job did; ``before``: recordings that were done already."""

    recordings: int
    before: int = 0
    done: int = 0
    failed: int = 0
    audio_seconds: float = 0.0
    seconds: float = 0.0
    hosts: dict[str, HostTally] = field(default_factory=dict)

    @property
    def rtfx(self) -> float:
        """Audio seconds per second, loading included."""
        return self.audio_seconds / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; ``None`` as long as there is none."""
        settled = self.done + self.failed
        left = self.recordings - self.before - settled
        return self.seconds / settled * left if settled else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": SUMMARY_SCHEMA,
            **{key: _rounded(value) for key, value in asdict(self).items() if key != "hosts"},
            "rtfx": round(self.rtfx, 3),
            "hosts": [
                {"host": host, **{key: _rounded(value) for key, value in asdict(one).items()}}
                for host, one in sorted(self.hosts.items())
            ],
        }


class Job:
    """The recordings of one command and their results in ``folder``."""

    def __init__(self, places: Iterable[Place], folder: Path, options: JobOptions) -> None:
        self.options = options
        self.refused: Refused = {}
        self._folder = folder
        self._recordings = Recordings(each_audio(places))
        self._stamps: dict[int, Stamp] = {}  # of those under way
        self._reads_pipes = any(is_pipe(each.place) for each in self._recordings)
        if self._reads_pipes and (options.cluster or options.workers):
            raise UsageError("a pipe can be read by this process only", "leave out --workers")

    def __len__(self) -> int:
        """How many recordings there are."""
        return len(self._recordings)

    def items(self) -> Iterator[tuple[Place, str]]:
        """Where each is, and its name."""
        return ((each.place, each.uri) for each in self._recordings)

    def holds(self, path: Path) -> bool:
        """Whether ``path`` is one of them."""
        return self._recordings.holds(path)

    def evidence(self, folder: Path) -> dict[Place, str]:
        """Files of evidence of what is done, with their names, where that is kept in ``folder``."""
        done = self._recordings.all_in(State.settled)
        return {evidence_path(folder, each.uri): each.uri for each in done}

    def run(
        self,
        plan: Mapping[str, Any],
        pool: Callable[[], Pool],
        source: AudioSource,
        results: DiarizeRun,
        path_of: Callable[[str], Path],
        beside: Callable[[str], Path] | None = None,
    ) -> Tally:
        """Do what is not done.

        ``plan``: what results depend on; ``source``: how to open recordings; ``path_of``: where
        ``results`` puts each, and ``beside`` what it keeps besides.
        """
        from fluidaudio_cli.cli.render.jobs import job_bar

        tally = Tally(len(self._recordings))
        began = time.perf_counter()
        with closing(Manifest(self._folder, plan, resume=self.options.resume)) as manifest:
            tally.before = manifest.settle(self._recordings, path_of, beside)
            if tally.before:
                messages.say(
                    f"{tally.before} of {tally.recordings} recordings are done: {manifest.path}"
                )
            # Closed here, also by Ctrl-C: the workers end with it.
            outcomes = closing(self._outcomes(pool, source))
            with outcomes as found, job_bar(tally.before, tally.recordings) as show:
                for outcome in found:
                    results.take(outcome.document, _facts(results.facts, outcome))
                    self._note(outcome, manifest, tally, path_of)
                    tally.seconds = time.perf_counter() - began
                    show(tally)
                    del outcome  # its evidence is large, and the next is being made
        return tally

    def _outcomes(
        self, pool: Callable[[], Pool], source: AudioSource
    ) -> Generator[Outcome, None, None]:
        for uri, error in self.refused.items():
            recording = self._recordings.called(uri)
            assert recording is not None
            self._recordings.set(recording.number, State.failed)
            yield Outcome(recording.number, error)
        if any(self._recordings.count(state) for state in (State.waiting, State.suspect)):
            yield from run(
                self._recordings,
                pool(),
                lambda each: self._begun(each, source),
            )

    def pool(self, work: DiarizeWork, share: Share, inline: bool) -> Pool:
        """Who does it; ``inline``: this process."""
        if inline or self._reads_pipes:
            return Inline(work, share.threads)
        return pool_of(work, self.options, share)

    def _begun(self, recording: Recording, source: AudioSource) -> AudioSource:
        # As it is before it is read: what is written to it meanwhile may not have been heard.
        self._stamps[recording.number] = Stamp.of(recording.place)
        place = recording.place
        if self.options.cluster and isinstance(place, Path):
            place = place.absolute()  # a node has a working folder of its own
        return replace(source, path=place, uri=recording.uri)

    def _note(
        self, outcome: Outcome, manifest: Manifest, tally: Tally, path_of: Callable[[str], Path]
    ) -> None:
        recording = self._recordings.at(outcome.number)
        host = tally.hosts.setdefault(outcome.facts.host if outcome.facts else "-", HostTally())
        if outcome.failed:
            record: dict[str, Any] = {
                "state": SET_ASIDE if outcome.set_aside else FAILED,
                "why": str(outcome.document),
            }
            tally.failed += 1
            host.failed += 1
        else:
            busy = outcome.document.timings.processing_seconds
            audio = outcome.document.duration_seconds
            record = {
                "state": DONE,
                "seconds": round(busy, 6),
                "audio_seconds": round(audio, 6),
                "result_bytes": Stamp.of(path_of(recording.uri)).bytes,
            }
            tally.done += 1
            tally.audio_seconds += audio
            host.recordings += 1
            host.audio_seconds += audio
            host.busy_seconds += busy
        stamp = self._stamps.pop(recording.number, Stamp())
        manifest.add(recording, stamp, outcome.facts, **record)
        state = State.failed if outcome.failed else State.settled
        self._recordings.set(recording.number, state)


def tell(tally: Tally, options: JobOptions, as_json: bool) -> None:
    """Sum up: as JSON on stdout, or for a job that was spread by host on stderr."""
    if as_json:
        typer.echo(json.dumps(tally.as_dict(), indent=2, ensure_ascii=False))
    elif tally.hosts and (options.cluster or options.workers):
        from fluidaudio_cli.cli.render.console import plain_text
        from fluidaudio_cli.cli.render.jobs import render_hosts

        messages.say(plain_text(lambda console: render_hosts(console, tally)).rstrip())


def _facts(run: RunFacts, outcome: Outcome) -> RunFacts:
    facts = outcome.facts
    return replace(run, ran=facts.ran) if isinstance(facts, PipelineFacts) else run


def job_plan(plan: Plan, **more: Any) -> dict[str, Any]:
    """What the results depend on: ``plan`` without what only makes it fast, and ``more``."""
    from fluidaudio_cli.models.card import load_card
    from fluidaudio_cli.models.registry import packages_of

    mode = plan.mode.as_dict()
    del mode["execution"]["workers"]
    packages = packages_of(load_card(plan.models))
    return {
        "fluidaudio": __version__,
        "mode": mode,
        "models": plan.models,
        "packages": {role: package.sha256[:12] for role, package in packages.items()},
        "executor": plan.executor,
        "compute_units": plan.compute_units,
        "precision": {role: network.precision for role, network in plan.networks.items()},
        **more,
    }


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
