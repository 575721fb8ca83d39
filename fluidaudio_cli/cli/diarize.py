"""``fluidaudio diarize``: who speaks when, in one recording or many."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluidaudio_cli.cli import messages, options, report_output
from fluidaudio_cli.cli.diarize_evidence import (
    check_evidence_target,
    evidence_among,
    evidence_path,
    read_alike,
)
from fluidaudio_cli.cli.diarize_output import (
    Destination,
    Format,
    Refused,
    check_targets,
    choose_destination,
)
from fluidaudio_cli.cli.diarize_run import DiarizeRun, Wanted
from fluidaudio_cli.cli.job_options import JobOptions, is_job, shares
from fluidaudio_cli.cli.known import known_voices
from fluidaudio_cli.cli.process import EXIT_BAD_INPUT
from fluidaudio_cli.errors import AudioError, InputError, UsageError
from fluidaudio_cli.files import resolved
from fluidaudio_cli.recordings import Place, place_from

if TYPE_CHECKING:
    from fluidaudio_cli.audio.source import AudioSource
    from fluidaudio_cli.cli.diarize_job import Job
    from fluidaudio_cli.diarization.pipeline import Pipeline
    from fluidaudio_cli.diarization.result import Diarization
    from fluidaudio_cli.diarization.saved_evidence import SavedEvidence
    from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds
    from fluidaudio_cli.diarization.speakers.known import KnownPeople
    from fluidaudio_cli.report.diarization_json import RunFacts


def diarize(
    ctx: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE…",
            help="Recordings of any kind, URLs, folders, or lists of them (.txt, one a line).",
        ),
    ],
    performance_mode: options.ModeOption = "balanced",
    models: options.ModelsOption = "bundled",
    output_format: Annotated[
        Format | None,
        typer.Option(
            *report_output.FORMAT_NAMES,
            help="Default: by the ending of --output; on a terminal a table, else rttm.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            *report_output.OUTPUT_NAMES, metavar="PATH|-", help="Where to write; - is stdout."
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="One file for each recording in this folder."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="REF", help="RTTM or lab file or folder: also show the error rates."),
    ] = None,
    uem: Annotated[
        Path | None,
        typer.Option(metavar="UEM", help="Time to be scored. Default: the whole recording."),
    ] = None,
    exclusive: Annotated[
        bool,
        typer.Option(
            "--exclusive", help="At most one speaker at a time. JSON always holds both kinds."
        ),
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Put each speaker's voice into the JSON.")
    ] = False,
    known: options.KnownOption = None,
    store: options.StoreOption = None,
    max_false_accept: options.MaxFalseAcceptOption = "1%",
    learn: Annotated[
        bool,
        typer.Option("--learn", help="Add what is beyond doubt to known voices (reversible)."),
    ] = False,
    link: Annotated[
        bool,
        typer.Option(
            "--link", help="One label in all recordings (PERSON_nn) for who speaks in several."
        ),
    ] = False,
    num_speakers: options.NumSpeakersOption = None,
    min_speakers: options.MinSpeakersOption = None,
    max_speakers: options.MaxSpeakersOption = None,
    executor: options.ExecutorOption = options.ExecutorChoice.auto,
    precision: options.PrecisionOption = options.PrecisionChoice.auto,
    compute_units: options.ComputeUnitsOption = options.ComputeUnitsChoice.all,
    threads: options.ThreadsOption = None,
    memory_limit: options.MemoryLimitOption = None,
    no_tuning: options.NoTuningOption = False,
    track: options.TrackOption = None,
    salvage: options.SalvageOption = False,
    save_evidence: Annotated[
        Path | None,
        typer.Option(
            metavar="F.npz|DIR", help="Keep what the networks found, to be diarized again."
        ),
    ] = None,
    workers: options.WorkersOption = None,
    cluster: options.ClusterOption = None,
    resume: options.ResumeOption = True,
) -> None:
    """Tell who speaks when.

    FILE may be a pipe, or - for standard input; it is read once. Files of --save-evidence give
    other speakers without running the networks again.

    Several files, a folder or a list: models are loaded once; a bad file is reported, the rest is
    still done, and the exit code is 3. With --output-dir the same command goes on where it was
    stopped (docs/jobs.md).
    """
    from fluidaudio_cli.audio.folders import uris_by_place
    from fluidaudio_cli.audio.source import AudioSource
    from fluidaudio_cli.diarization.speakers.bounds import SpeakerBounds

    bounds = SpeakerBounds(num_speakers, min_speakers, max_speakers)
    places = [place_from(text) for text in files]
    spread = JobOptions(workers, cluster, resume)
    people = known_voices(known, store, max_false_accept, learn)
    evidence = evidence_among(ctx, places)
    job: Job | None = None
    recordings: Mapping[Place, str] = evidence
    kept = save_evidence
    if not evidence and is_job(places, output_dir, spread):
        from fluidaudio_cli.cli.diarize_job import Job

        assert output_dir is not None
        job = Job(places, output_dir, spread)
        kept = save_evidence or (output_dir / "evidence" if link else None)
    elif not evidence:
        recordings = uris_by_place(places)
    items = recordings.items if job is None else job.items
    count = len(recordings) if job is None else len(job)
    destination = choose_destination(output_format, output, output_dir, count)
    if embeddings and destination.format is not Format.json:
        raise UsageError(
            f"--embeddings has no place in {destination.format.value}", "add --format json"
        )
    check_evidence_target(save_evidence, count)
    destination.check()
    references = None
    if reference is not None:
        from fluidaudio_cli.cli.diarize_reference import read_references

        references = read_references(reference, uem, [uri for _, uri in items()])
    is_recording = {resolved(path) for path in recordings if isinstance(path, Path)}.__contains__

    def read_as(path: Path) -> str:
        if is_recording(path) or (job is not None and job.holds(path)):
            return "a recording"
        return "the reference" if references is not None and path in references.files else ""

    paths_of: list[Callable[[str], Path | None]] = [destination.path_of]
    if kept is not None:
        paths_of.append(partial(evidence_path, kept))
    refused = check_targets(items(), paths_of, read_as)
    wanted = Wanted(bounds, exclusive, embeddings, link, people, destination, references)
    if evidence:
        good = {path: uri for path, uri in evidence.items() if uri not in refused}
        if _again(good, refused, wanted):
            raise typer.Exit(EXIT_BAD_INPUT)
        return
    chosen_track = options.parse_track(track)

    def heard() -> Iterator[AudioSource]:
        return (
            AudioSource(path, uri, chosen_track, salvage)
            for path, uri in items()
            if uri not in refused
        )

    sources = [] if job is not None else list(heard())
    share = shares(spread, threads, memory_limit is not None)
    # The only recording is refused, if it is none, before models load.
    seconds = sources[0].stated_seconds() if len(sources) == 1 else None

    from fluidaudio_cli.diarization.loading import load, make_plan
    from fluidaudio_cli.report.diarization_json import Ran

    asked: dict[str, Any] = {
        "executor": executor.value,
        "precision": precision.value,
        "compute_units": compute_units.value,
        "models": models,
        "tuning": not no_tuning,
    }
    plan = unheld = make_plan(performance_mode, threads=share.threads, **asked)
    held = None
    if memory_limit is not None:
        from fluidaudio_cli.benchmark.memory_limit import hold, longest_seconds, parse_size

        size, longest = parse_size(memory_limit), longest_seconds(heard())
        with messages.progress_bar("measuring memory") as progress:
            held = hold(plan, size, longest, scoring=references is not None, progress=progress)
        plan = held.plan
    if messages.is_verbose():
        from fluidaudio_cli.cli.render.plan import plan_lines

        for name, text in plan_lines(plan):
            messages.detail(f"{name}: {text}")
    notes = plan.notes if held is None else (*plan.notes, *held.notes)
    facts = wanted.facts(Ran(plan), notes)
    if job is not None:
        from fluidaudio_cli.cli.diarize_job import job_plan, tell
        from fluidaudio_cli.cli.diarize_work import DiarizeWork
        from fluidaudio_cli.diarization.modes import load_mode
        from fluidaudio_cli.models.card import load_card

        job.refused = refused
        run = DiarizeRun(facts, wanted, count, kept)
        run.only_evidence = link
        work = DiarizeWork(
            plan=plan if cluster is None else None,
            asked={**asked, "mode": load_mode(performance_mode, load_card(models))},
            speakers=bounds,
            people=people,
            evidence=kept is not None or learn,
            environment=wanted.as_json,
        )

        def result_of(uri: str) -> Path:
            target = destination.path_of(uri)
            assert target is not None
            return evidence_path(kept, uri) if link and kept is not None else target

        tally = job.run(
            job_plan(
                unheld,
                format=destination.format.value,
                speakers=asdict(bounds),
                exclusive=exclusive,
                embeddings=embeddings,
                track=chosen_track,
                salvage=salvage,
                evidence=kept is not None,
                known=None if people is None else people.enrolled,
                linked=link,
            ),
            lambda: job.pool(work, share, inline=held is not None),
            AudioSource(Path(), None, chosen_track, salvage),
            run,
            result_of,
            None if kept is None else partial(evidence_path, kept),
        )
        tell(tally, spread, wanted.as_json)
        if link and kept is not None:
            # The second step: who is who in all of it, now that it is there.
            found = job.evidence(kept)
            run.failed += bool(found) and _again(found, {}, wanted, notes)
    else:
        # What will write the table: imported beside the loading of models it costs no time.
        renderer = partial(import_module, "fluidaudio_cli.cli.render.diarize")
        meanwhile = renderer if destination.format is Format.table else None
        pipeline = load(plan.for_audio(seconds), meanwhile=meanwhile)
        facts = replace(facts, ran=Ran.of(pipeline, wanted.as_json))
        run = DiarizeRun(facts, wanted, count, kept)
        try:
            for error in refused.values():
                run.take(error)
            named = wanted.known(pipeline.models, pipeline.mode.calibration)
            run.take_all(_outcomes(pipeline, sources, bounds, named, destination))
        finally:
            run.keep()
    if held is not None:
        from fluidaudio_cli.benchmark.memory_limit import exceeded
        from fluidaudio_cli.measure.memory import peak_bytes

        if line := exceeded(peak_bytes(), held.limit_bytes):
            messages.say(f"warning: {line}")
    run.finish("models loaded before" if job is None else "with loading of models")
    if run.failed:
        raise typer.Exit(EXIT_BAD_INPUT)


def _again(
    files: Mapping[Place, str], refused: Refused, wanted: Wanted, told: Sequence[str] = ()
) -> int:
    """Diarize from evidence: nothing is loaded, and nothing is heard; how many failed.

    ``told``: notes that the user was shown before.
    """
    from fluidaudio_cli.report.diarization_json import Ran, describe_host

    found = read_alike(files)
    unreadable: list[InputError] = []
    for first in found:
        if not isinstance(first, InputError):
            break
        unreadable.append(first)
    else:
        raise unreadable[0]
    host = describe_host() if wanted.as_json else {}

    def facts(saved: SavedEvidence) -> RunFacts:
        ran = Ran(saved.plan, saved.models, environment=host)
        return wanted.facts(ran, (*saved.plan.notes, "made from evidence: no network was run"))

    known = wanted.known(first.models, first.plan.mode.calibration)
    run = DiarizeRun(facts(first), wanted, len(files) + len(refused), told=told)
    for error in refused.values():
        run.take(error)

    def outcomes() -> Iterator[Diarization | InputError]:
        for saved in chain(unreadable, [first], found):
            if isinstance(saved, InputError):
                yield saved
                continue
            run.facts = facts(saved)
            yield saved.diarize(wanted.bounds, known)

    try:
        run.take_all(outcomes())
    finally:
        run.keep()
    run.finish("no network was run")
    return run.failed


def _outcomes(
    pipeline: Pipeline,
    recordings: Sequence[AudioSource],
    bounds: SpeakerBounds,
    known: KnownPeople | None,
    destination: Destination,
) -> Iterator[Diarization | AudioError]:
    """The pipeline's results, with a bar that runs over one recording or counts several."""
    if len(recordings) == 1:
        with messages.progress_bar("diarizing") as progress:
            result = pipeline.diarize(
                recordings[0], speakers=bounds, known=known, progress=progress
            )
        # Shown when the bar is gone.
        yield result
        return
    # A bar and results on the same terminal would write over each other.
    hidden = destination.on_stdout and sys.stdout.isatty()
    what = f"diarizing {len(recordings)} recordings"
    with messages.progress_bar(what, hidden=hidden) as progress:
        outcomes = pipeline.diarize_many(
            [(each, None) for each in recordings], speakers=bounds, known=known
        )
        for done in range(1, len(recordings) + 1):
            yield next(outcomes)
            progress(done, len(recordings))
