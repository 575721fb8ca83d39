"""What becomes of results: scored, written, summed up, failures told."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import typer

from fluidaudio_cli.cli import messages
from fluidaudio_cli.cli.diarize_evidence import evidence_path
from fluidaudio_cli.cli.diarize_output import Destination, Format
from fluidaudio_cli.cli.known import KnownVoices
from fluidaudio_cli.cli.process import interrupts_held
from fluidaudio_cli.errors import AnnotationError, FluidAudioError
from fluidaudio_cli.files import atomic_path, write_text_atomic
from fluidaudio_cli.wording import counted

if TYPE_CHECKING:
    from fluidaudio_cli.cli.diarize_reference import References
    from fluidaudio_cli.diarization.result import Diarization, ModelRef
    from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
    from fluidaudio_cli.diarization.speakers.calibration import Calibration
    from fluidaudio_cli.diarization.speakers.known import KnownPeople
    from fluidaudio_cli.report.diarization_json import Ran, RunFacts, ScoredAgainst
    from fluidaudio_cli.scoring.metrics import FileScore, Scores
    from fluidaudio_cli.turns import Turn


@dataclass(frozen=True)
class Wanted:
    """What is to be found and how it is told, whatever it is found from."""

    bounds: SpeakerBounds
    exclusive: bool
    embeddings: bool
    link: bool
    people: KnownVoices | None
    destination: Destination
    references: References | None

    @property
    def as_json(self) -> bool:
        """Whether results are JSON, which describes the machine."""
        return self.destination.format is Format.json

    def facts(self, ran: Ran, notes: Sequence[str]) -> RunFacts:
        """Of a run of ``ran``."""
        from fluidaudio_cli.report.diarization_json import RunFacts

        known = self.people.facts if self.people else None
        return RunFacts(ran, self.bounds, self.exclusive, notes, known, linked=self.link)

    def known(self, models: Sequence[ModelRef], calibration: Calibration) -> KnownPeople | None:
        """The people to be recognised by ``models``."""
        return self.people.people(models, calibration) if self.people else None


class DiarizeRun:
    """Writes each result where it belongs, and keeps what only the whole run can tell.

    ``told``: notes that the user was shown before.
    """

    def __init__(
        self,
        facts: RunFacts,
        wanted: Wanted,
        count: int,
        evidence: Path | None = None,
        told: Sequence[str] = (),
    ) -> None:
        self.failed = 0
        self.facts = facts
        self.only_evidence = False
        self._wanted = wanted
        self._destination = destination = wanted.destination
        self._count = count
        self._evidence = evidence
        self._started = time.perf_counter()
        self._audio_seconds = 0.0
        self._done = 0
        self._open = ExitStack()
        self._gathered: IO[str] | None = None
        self._scores: list[FileScore] = []
        if not (destination.on_stdout and destination.format in (Format.table, Format.json)):
            for note in facts.notes:
                if note not in told:
                    messages.say(f"note: {note}")

    def take_all(self, outcomes: Iterable[Diarization | FluidAudioError]) -> None:
        """Take each as it comes, or all once their speakers are linked, where that is wanted."""
        from fluidaudio_cli.voices.linking import Linker

        linker = Linker(self.facts.ran.plan.mode.calibration) if self._wanted.link else None
        told: dict[str, RunFacts] = {}
        for outcome in outcomes:
            if linker is None or isinstance(outcome, FluidAudioError):
                self.take(outcome)
            else:
                self._save_evidence(outcome)
                linker.add(outcome)
                told[outcome.uri] = self.facts
            del outcome  # its evidence is large, and the next is being made
        if linker is not None:
            for result in linker.results():
                self.take(result, told[result.uri])

    def take(self, outcome: Diarization | FluidAudioError, facts: RunFacts | None = None) -> None:
        """Score and write one result, or report why there is none; ``facts``: if its own."""
        self.facts = facts or self.facts
        if isinstance(outcome, FluidAudioError):
            self._fail(outcome)
            return
        self._save_evidence(outcome)
        self._done += 1
        self._audio_seconds += outcome.duration_seconds
        if self.only_evidence:
            return
        scored = None
        if (references := self._wanted.references) is not None:
            try:
                turns = self._turns(outcome)
                scored = references.score(outcome.uri, turns, outcome.duration_seconds)
                self._scores.append(scored.score)
            except AnnotationError as error:
                # The turns are good nevertheless.
                self._fail(error)
        self._write(outcome, scored)
        if (people := self._wanted.people) is not None:
            people.learn(outcome, self.facts.ran.plan.mode.calibration)

    def _save_evidence(self, result: Diarization) -> None:
        if self._evidence is None or result.evidence is None:
            return
        from fluidaudio_cli.diarization.saved_evidence import save_evidence

        target = evidence_path(self._evidence, result.uri)
        save_evidence(result, self.facts.ran.plan, self.facts.ran.models, target)
        messages.say(f"wrote {target}")

    def keep(self) -> None:
        """Give the file of all results its name: also when the run ends before its time."""
        self._open.close()
        if self._gathered is not None:
            messages.say(f"wrote {self._destination.file}")

    def finish(self, how: str) -> None:
        """Sum up, if there were several. ``how``: what the time holds of the loading of models."""
        if self._count < 2:
            return
        if len(self._scores) > 1:
            from fluidaudio_cli.scoring.metrics import pool

            messages.say(f"pooled: {_rates(pool(self._scores))}")
        if self._done:
            seconds = time.perf_counter() - self._started
            messages.say(
                f"{counted(self._done, 'recording')}, {self._audio_seconds:.1f} s of audio in "
                f"{seconds:.2f} s ({self._audio_seconds / seconds:.0f}x real time, {how})"
            )
        if self.failed:
            typer.echo(f"{self.failed} of {self._count} recordings failed", err=True)

    def _fail(self, error: FluidAudioError) -> None:
        self.failed += 1
        typer.echo(f"fluidaudio: {error}", err=True)

    def _turns(self, result: Diarization) -> tuple[Turn, ...]:
        return result.exclusive_turns if self.facts.exclusive else result.turns

    def _write(self, result: Diarization, scored: ScoredAgainst | None) -> None:
        text = self._text(result, scored)
        target = self._destination.path_of(result.uri)
        if target is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif self._destination.folder is None:
            self._gather(target, text)
        else:
            with interrupts_held():  # until nothing temporary is left
                write_text_atomic(target, text)
            messages.say(f"wrote {target}")
        if self._destination.format in (Format.table, Format.json) and target is None:
            return  # the text itself says the rest
        name = f"{result.uri}: " if self._count > 1 else ""
        for note in result.notes:
            messages.say(f"note: {name}{note}")
        if scored is not None:
            messages.say(f"{name}{_rates(scored.score)}")

    def _gather(self, target: Path, text: str) -> None:
        """Add to the file of all results, which has another name until the end."""
        with interrupts_held():  # each result is in it whole
            try:
                if self._gathered is None:
                    draft = self._open.enter_context(atomic_path(target))
                    stream = draft.open("w", encoding="utf-8", newline="\n")
                    self._gathered = self._open.enter_context(stream)
                self._gathered.write(text)
            except OSError:
                self._gathered = None
                with self._open:  # a part of a result gets no name
                    raise

    def _text(self, result: Diarization, scored: ScoredAgainst | None) -> str:
        kind = self._destination.format
        if kind is Format.json:
            from fluidaudio_cli.report.diarization_json import (
                diarization_document,
                format_document,
            )

            return format_document(
                diarization_document(
                    result, self.facts, embeddings=self._wanted.embeddings, scored=scored
                )
            )
        if kind is Format.table:
            from fluidaudio_cli.cli.render.diarize import diarization_text

            return diarization_text(result, self.facts, scored, styled=self._destination.on_stdout)
        from fluidaudio_cli.report.turn_formats import turns_as

        return turns_as(kind.value, result, self._turns(result))


def _rates(scores: Scores) -> str:
    """Error rates on one line."""
    return ", ".join(
        f"DER {100 * item.der.rate:.1f} % {item.condition.name}"
        for item in scores.conditions
        if not math.isnan(item.der.rate)
    )
