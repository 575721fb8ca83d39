"""``fluidaudio diarization-benchmark`` (alias ``benchmark``): measure, compare, gate."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import ExitStack
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluidaudio_cli.cli import benchmark_plan, messages, options
from fluidaudio_cli.cli.job_options import JobOptions, pool_of, shares
from fluidaudio_cli.cli.report_output import STDOUT
from fluidaudio_cli.errors import GateError, HostError, InputError, UsageError

if TYPE_CHECKING:
    from fluidaudio_cli.benchmark.grid import Grid
    from fluidaudio_cli.benchmark.kept_result import Settings
    from fluidaudio_cli.benchmark.results import BenchmarkResult
    from fluidaudio_cli.jobs.pool import Pool
    from fluidaudio_cli.jobs.work import Work
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport

# Ten hours are long enough in the fastest.
SCALING_MODE = "fast"
_WHAT = "What is measured"
_what = partial(typer.Option, rich_help_panel=_WHAT)
_how = partial(typer.Option, rich_help_panel="How")
_study = partial(typer.Option, rich_help_panel="Further questions")
_result = partial(typer.Option, rich_help_panel="Results")


class OutputFormat(str, Enum):
    """How the report is written to stdout."""

    summary = "summary"
    detailed = "detailed"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    junit = "junit"
    html = "html"


def benchmark(
    performance_mode: Annotated[
        list[str] | None,
        _what(
            metavar="NAME|PATH|all",
            help="Mode to measure; repeatable. Default: balanced, with --scaling fast.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        _what(
            metavar="NAME|PATH",
            help="Set of models (card); repeatable: side by side. Default: the bundled one.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        _what(
            metavar="NAME|PATH",
            help="Corpus or folder. Default: the sample and 10 minutes of conversations.",
        ),
    ] = None,
    condition: Annotated[
        list[str] | None,
        _what(
            metavar="NAME=DATASET",
            help="The same conversations under another condition, paired by name; repeatable.",
        ),
    ] = None,
    robustness: Annotated[
        bool,
        _what(
            "--robustness",
            help="Error against noise, rooms, codecs, overlap, speakers: conversations made here.",
        ),
    ] = False,
    suite: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SUITE]",
            help="Conditions of --robustness (YAML). Default: the shipped suite.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    quick: Annotated[bool, _what("--quick", help="The short form of --robustness.")] = False,
    identify: Annotated[
        bool, _what("--identify", help="How well voices are known again, by seconds and in noise.")
    ] = False,
    voices: Annotated[
        Path | None,
        _what(
            metavar="DIR",
            help="Of --identify: one file, or folder of files, a voice. Default: 24 readers.",
        ),
    ] = None,
    streaming: Annotated[
        bool, _what("--streaming", help="What latency costs, as a stream.")
    ] = False,
    latency: Annotated[
        str, _what(metavar="SECONDS,…", help="Of --streaming: how late turns are final.")
    ] = "0.5,1,2,5,10",
    single_file: Annotated[str | None, _what(metavar="URI", help="Only this recording.")] = None,
    max_files: Annotated[
        int | None, _what(metavar="N", min=1, help="Only the first N recordings.")
    ] = None,
    auto_download: Annotated[
        bool, _what("--auto-download", help="Download the dataset if it is not here.")
    ] = False,
    executor: Annotated[
        str, _what(metavar="NAME|all", help="auto, onnxruntime, openvino, coreml, cuda or all.")
    ] = "auto",
    precision: Annotated[
        str, _what(metavar="NAME|all", help="auto, fp32, bf16, fp16 or all.")
    ] = "auto",
    compute_units: Annotated[
        options.ComputeUnitsChoice, _what(help="Core ML only: processors it may use.")
    ] = options.ComputeUnitsChoice.all,
    threads: Annotated[
        list[int] | None,
        _what(metavar="N", min=1, help="Threads; repeatable. By default the mode decides."),
    ] = None,
    iterations: Annotated[int, _how(metavar="N", min=1, help="Measured runs per file.")] = 5,
    warmup: Annotated[
        int, _how(metavar="N", min=0, help="Unmeasured runs per file before them.")
    ] = 1,
    processes: Annotated[
        int,
        _how(
            metavar="N",
            min=1,
            help="Fresh processes of each cell; 4 or more let compare prove a change.",
        ),
    ] = 1,
    latency_windows: Annotated[
        int, _how(metavar="N", min=0, help="Single 10 s windows timed per file; 0: none.")
    ] = 50,
    measure_memory: Annotated[
        bool, _how("--measure-memory", help="Peak, growth and curve.")
    ] = False,
    measure_power: Annotated[
        bool, _how("--measure-power", help="Energy, where the machine has counters.")
    ] = False,
    workers: Annotated[
        int | None,
        _how(metavar="N", min=1, help="Find errors by so many processes side by side; no times."),
    ] = None,
    cluster: Annotated[
        str | None, _how(metavar="auto|ADDRESS", help="Find errors on a Ray cluster; no times.")
    ] = None,
    memory_limit: options.MemoryLimitOption = None,
    no_tuning: options.NoTuningOption = False,
    timeout: Annotated[
        float | None,
        _how(
            metavar="SECONDS",
            min=1.0,
            help="A worker that takes longer to answer is ended. Default: 5 minutes and twice "
            "the length of the audio; 15 minutes for loading.",
        ),
    ] = None,
    seed: Annotated[int, _how(metavar="N", min=0, help="Of file order and resampling.")] = 0,
    against: Annotated[
        str | None,
        _study(
            metavar="REF|COMMAND",
            help="Run another version (git ref) or command in turn with this one, A B A B, and "
            "fail if this one is slower. {audio} and {mode} are filled in.",
        ),
    ] = None,
    pairs: Annotated[
        int, _study(metavar="N", min=6, help="Pairs of --against; more tell finer.")
    ] = 8,
    max_slowdown: Annotated[
        float, _study(metavar="PERCENT", min=0.0, help="Slowdown --against lets pass.")
    ] = 5.0,
    peer: Annotated[
        list[str] | None,
        _study(metavar="NAME", help="Run sherpa-onnx or senko on the same files too."),
    ] = None,
    peer_threshold: Annotated[
        list[float] | None,
        _study(metavar="T", help="sherpa-onnx's; repeatable. Default 0.6 0.7 0.8."),
    ] = None,
    ablation: Annotated[
        bool, _study("--ablation", help="Measure each optimisation off, and on, alone.")
    ] = False,
    scaling: Annotated[
        bool, _study("--scaling", help="Time and memory from a minute to ten hours.")
    ] = False,
    scaling_lengths: Annotated[
        str, _study(metavar="LENGTH,…", help="Lengths of --scaling; s, m and h.")
    ] = "1m,10m,1h,10h",
    roofline: Annotated[
        bool, _study("--roofline", help="Set networks against this machine's limits.")
    ] = False,
    output_format: Annotated[
        OutputFormat, _result("--format", "--output-format", help="What is written to stdout.")
    ] = OutputFormat.summary,
    output: Annotated[
        list[Path] | None,
        _result(
            "--output",
            "-o",
            metavar="PATH",
            help="Also write .json, .csv, .md, .xml (JUnit) or .html; repeatable.",
        ),
    ] = None,
    html: Annotated[
        Path | None, _result(metavar="PATH", help="Write the result as a page as well.")
    ] = None,
    gate: Annotated[
        list[Path] | None,
        _result(metavar="FILE", help="Limits that decide the exit code; repeatable."),
    ] = None,
    baseline: Annotated[
        Path | None, _result(metavar="FILE", help="Earlier result (JSON) for relative gates.")
    ] = None,
    allow_different: Annotated[
        str, _result(metavar="KIND,…", help="Differences from the baseline to accept.")
    ] = "",
    resume: Annotated[
        bool, _result("--resume", help="Go on with the interrupted run of these options.")
    ] = False,
) -> None:
    """Measure speed, accuracy, memory and energy of the pipeline; compare and gate them.

    Exit code 1: a gate failed, or --against found this version slower. 3: a file failed.
    """
    from fluidaudio_cli.benchmark.compare import check_comparable, compare
    from fluidaudio_cli.benchmark.gates import evaluate, read_gates
    from fluidaudio_cli.benchmark.grid import ONCE, Effort
    from fluidaudio_cli.benchmark.identify import conditions_of
    from fluidaudio_cli.benchmark.kept_result import Settings, plan_record, unmeasured
    from fluidaudio_cli.benchmark.memory_limit import parse_size
    from fluidaudio_cli.benchmark.results import read_result
    from fluidaudio_cli.benchmark.robustness import make_conditions, read_suite
    from fluidaudio_cli.benchmark.streaming import parse_latencies
    from fluidaudio_cli.cli.compare import check_kinds, warn_of_allowed
    from fluidaudio_cli.diarization.modes import DEFAULT_MODE
    from fluidaudio_cli.diarization.tuning import leave_out_tuning
    from fluidaudio_cli.files import write_text_atomic
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport

    if no_tuning:
        leave_out_tuning()
    spread = JobOptions(workers, cluster)
    share = shares(spread, None, limited=False)
    pool = None if spread == JobOptions() else partial(pool_of, options=spread, share=share)
    kinds = check_kinds(allow_different)
    limit = parse_size(memory_limit) if memory_limit is not None else None
    gates = tuple(each for path in gate or () for each in read_gates(path))
    base = read_result(baseline) if baseline is not None else None
    asked = benchmark_plan.Asked(
        modes=tuple(
            performance_mode or [SCALING_MODE if scaling and not streaming else DEFAULT_MODE]
        ),
        models=tuple(models or ["bundled"]),
        executor=executor,
        precision=precision,
        threads=tuple(dict.fromkeys(threads or [])),
        effort=ONCE
        if pool
        else Effort(
            processes=processes,
            warmup=warmup,
            iterations=iterations,
            latency_windows=latency_windows,
            memory=measure_memory or limit is not None or ablation or bool(peer),
            cold=True,
        ),
        ablation=ablation,
        lengths=benchmark_plan.check_lengths(scaling_lengths) if scaling else (),
        peers=tuple(dict.fromkeys(peer or ())),
        peer_thresholds=tuple(dict.fromkeys(peer_threshold or ())),
        against=against,
        pairs=pairs,
        robustness=robustness,
        latencies=parse_latencies(latency) if streaming else (),
        identify=benchmark_plan.chosen_voices(voices, max_files) if identify else None,
    )
    settings = Settings(
        seed, compute_units.value, measure_power, limit, timeout, tuning=not no_tuning
    )
    read = (baseline, suite, *(gate or ()))
    formats = benchmark_plan.output_formats(output or (), output_format.value, html, read)
    chosen = benchmark_plan.Chosen(single_file, max_files, auto_download)
    recipes = read_suite(suite, quick) if robustness else None
    with messages.progress_bar("making conversations") as progress:
        if asked.identify is not None:
            conditions = dict(conditions_of(asked.identify))
        elif recipes is not None:
            folder = benchmark_plan.made_folder()
            conditions = make_conditions(recipes, folder, chosen.of, progress)
        else:
            conditions = benchmark_plan.open_conditions(dataset, condition or (), chosen, progress)
    if conditions[""].note:
        messages.say(conditions[""].note)
    with ExitStack() as stack:
        grid = benchmark_plan.build_grid(asked, conditions, stack)
        if base is not None:
            # What is known of it before measuring.
            check_comparable(base, unmeasured(grid, settings), kinds)
            if {cell for _, cell in grid.cells}.isdisjoint(each.cell for each in base.cells):
                raise UsageError(
                    "--baseline has none of the cells asked for", "measure the same modes"
                )
        fingerprints = [each.recordings.fingerprint for each in grid.conditions.values()]
        journal = benchmark_plan.journal_path(formats, plan_record(grid, settings), fingerprints)
        result = _measure(grid, settings, journal, resume, roofline, max_slowdown / 100, pool)
    refused = None
    try:
        if base is not None:
            warn_of_allowed(base, result, kinds)
    except UsageError as error:  # what was measured is written all the same
        base, refused = None, error
    changes = () if base is None else compare(base, result, seed=seed)
    report = BenchmarkReport(result, evaluate(gates, result, base), changes, max_slowdown / 100)
    try:
        for path, name in formats.items():
            write_text_atomic(path, benchmark_plan.formatted(report, name))
            messages.say(f"wrote {path}")
    except HostError:
        typer.echo(f"all results are kept in {journal}; go on with --resume", err=True)
        raise
    on_stdout = STDOUT in (output or ())
    _show(report, output_format, () if on_stdout else formats.values())
    _tell_github(report)
    if refused is not None:
        raise refused
    _finish(report)


def _measure(
    grid: Grid,
    settings: Settings,
    journal: Path,
    resume: bool,
    roofline: bool,
    max_slowdown: float,
    pool: Callable[[Work], Pool] | None,
) -> BenchmarkResult:
    from fluidaudio_cli.benchmark.findings import conclude
    from fluidaudio_cli.benchmark.kept_result import Hooks
    from fluidaudio_cli.benchmark.results import read_result, write_result
    from fluidaudio_cli.benchmark.resume import locked
    from fluidaudio_cli.benchmark.runner import BenchmarkRun
    from fluidaudio_cli.executors.cache import cache_dir
    from fluidaudio_cli.measure.limits import measure_machine

    with locked(journal, cache_dir() / "benchmark"):
        previous = None
        if resume:
            if not journal.exists():
                raise UsageError(
                    f"nothing to resume: {journal} does not exist", "run without --resume"
                )
            previous = read_result(journal)
        with messages.progress_bar("benchmarking") as progress:
            run = BenchmarkRun(
                grid,
                settings,
                Hooks(
                    save=lambda result: write_result(result, journal),
                    warn=lambda line: messages.say(f"warning: {line}"),
                    progress=progress,
                ),
                previous=previous,
                conclude=lambda result: conclude(
                    result, measure_machine() if roofline else None, max_slowdown
                ),
                pool=pool,
            )
            try:
                return run.run()
            except KeyboardInterrupt:
                if run.finished_files:
                    typer.echo(
                        f"finished files are kept in {journal}; go on with --resume", err=True
                    )
                raise


def _show(report: BenchmarkReport, output_format: OutputFormat, written: Collection[str]) -> None:
    from fluidaudio_cli.cli.render.benchmark import render_report
    from fluidaudio_cli.cli.render.console import stdout_console

    if output_format.value in benchmark_plan.STDOUT_ONLY:
        detailed = output_format is OutputFormat.detailed
        render_report(stdout_console(), report, detailed=detailed)
    elif output_format.value not in written:
        typer.echo(benchmark_plan.formatted(report, output_format.value), nl=False)


def _tell_github(report: BenchmarkReport) -> None:
    from fluidaudio_cli.report.benchmark_github import annotation_lines
    from fluidaudio_cli.report.benchmark_markdown import to_markdown

    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as stream:
            stream.write(to_markdown(report))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # The runner reads commands from both streams; stdout may be a document.
        for line in annotation_lines(report):
            typer.echo(line, err=True)


def _finish(report: BenchmarkReport) -> None:
    if failed := report.failed_checks:
        names = "; ".join(
            f"{check.name}: {check.measured}, limit {check.limit}" for check in failed
        )
        raise GateError(f"{len(failed)} of {len(report.all_checks)} gates failed: {names}")
    if failures := report.result.failures:
        names = "; ".join(f"{cell}: {reason}" for cell, _, reason in failures)
        raise InputError(f"{len(failures)} files failed: {names}")
