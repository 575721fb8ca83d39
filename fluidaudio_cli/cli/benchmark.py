"""``fluidaudio diarization-benchmark`` (alias ``benchmark``): measure, compare, gate."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluidaudio_cli.cli import options
from fluidaudio_cli.errors import GateError, InputError, UsageError

if TYPE_CHECKING:
    from fluidaudio_cli.benchmark.compare import Change, Kind
    from fluidaudio_cli.benchmark.grid import Condition, Grid
    from fluidaudio_cli.benchmark.identify import VoiceFolder
    from fluidaudio_cli.benchmark.results import BenchmarkResult
    from fluidaudio_cli.benchmark.robustness import Suite
    from fluidaudio_cli.benchmark.runner import Settings
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport

# Ten hours are long enough in the fastest.
SCALING_MODE = "fast"
_WHAT, _HOW, _STUDIES, _RESULTS = "What is measured", "How", "Further questions", "Results"


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
        typer.Option(
            metavar="NAME|PATH|all",
            help="Mode to measure; repeatable. Default: balanced, with --scaling fast.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Set of models (card); repeatable: side by side. Default: the bundled one.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Corpus or folder. Default: the sample and 10 minutes of conversations.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DATASET",
            help="The same conversations under another condition, paired by name; repeatable.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Error against noise, rooms, codecs, overlap, speakers: conversations made here.",
            rich_help_panel=_WHAT,
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
    quick: Annotated[
        bool,
        typer.Option("--quick", help="The short form of --robustness.", rich_help_panel=_WHAT),
    ] = False,
    identify: Annotated[
        bool,
        typer.Option(
            "--identify",
            help="How well voices are known again, by seconds and in noise.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    voices: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Of --identify: one file, or folder of files, a voice. Default: 24 readers.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    streaming: Annotated[
        bool,
        typer.Option("--streaming", help="What latency costs, as a stream.", rich_help_panel=_WHAT),
    ] = False,
    latency: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS,…",
            help="Of --streaming. Default: 0.5,1,2,5,10.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    single_file: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Only this recording.", rich_help_panel=_WHAT),
    ] = None,
    max_files: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Only the first N recordings.", rich_help_panel=_WHAT
        ),
    ] = None,
    auto_download: Annotated[
        bool,
        typer.Option(
            "--auto-download",
            help="Download the dataset if it is not here.",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    executor: Annotated[
        str,
        typer.Option(
            metavar="NAME|all",
            help="auto, onnxruntime, openvino, coreml, cuda or all.",
            rich_help_panel=_WHAT,
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME|all", help="auto, fp32, bf16, fp16 or all.", rich_help_panel=_WHAT
        ),
    ] = "auto",
    compute_units: Annotated[
        str,
        typer.Option(
            metavar="UNITS", help="Core ML compute units to ask for.", rich_help_panel=_WHAT
        ),
    ] = "all",
    threads: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Threads; repeatable. By default the mode decides.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    iterations: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Measured runs per file.", rich_help_panel=_HOW),
    ] = 5,
    warmup: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Unmeasured runs per file before them.", rich_help_panel=_HOW
        ),
    ] = 1,
    processes: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Fresh processes of each cell; 4 or more let compare prove a change.",
            rich_help_panel=_HOW,
        ),
    ] = 1,
    latency_windows: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Single 10 s windows timed per file; 0: none.",
            rich_help_panel=_HOW,
        ),
    ] = 50,
    measure_memory: Annotated[
        bool,
        typer.Option("--measure-memory", help="Peak, growth and curve.", rich_help_panel=_HOW),
    ] = False,
    measure_power: Annotated[
        bool,
        typer.Option(
            "--measure-power",
            help="Energy, where the machine has counters.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    memory_limit: options.MemoryLimitOption = None,
    no_tuning: options.NoTuningOption = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=1.0,
            help="A worker that takes longer to answer is ended. Default: 5 minutes and twice "
            "the length of the audio; 15 minutes for loading.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(metavar="N", help="Of file order and resampling.", rich_help_panel=_HOW),
    ] = 0,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="REF|COMMAND",
            help="Run another version (git ref) or command in turn with this one, A B A B, and "
            "fail if this one is slower. {audio} and {mode} are filled in.",
            rich_help_panel=_STUDIES,
        ),
    ] = None,
    pairs: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=6,
            help="Pairs of --against; more tell finer.",
            rich_help_panel=_STUDIES,
        ),
    ] = 8,
    max_slowdown: Annotated[
        float,
        typer.Option(
            metavar="PERCENT",
            min=0.0,
            help="Slowdown --against lets pass.",
            rich_help_panel=_STUDIES,
        ),
    ] = 5.0,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Run sherpa-onnx or senko on the same files too.",
            rich_help_panel=_STUDIES,
        ),
    ] = None,
    peer_threshold: Annotated[
        list[float] | None,
        typer.Option(
            metavar="T",
            help="sherpa-onnx's; repeatable. Default 0.6 0.7 0.8.",
            rich_help_panel=_STUDIES,
        ),
    ] = None,
    ablation: Annotated[
        bool,
        typer.Option(
            "--ablation",
            help="Measure each optimisation off, and on, alone.",
            rich_help_panel=_STUDIES,
        ),
    ] = False,
    scaling: Annotated[
        bool,
        typer.Option(
            "--scaling",
            help="Time and memory from a minute to ten hours.",
            rich_help_panel=_STUDIES,
        ),
    ] = False,
    scaling_lengths: Annotated[
        str,
        typer.Option(
            metavar="LENGTH,…",
            help="Lengths of --scaling; s, m and h.",
            rich_help_panel=_STUDIES,
        ),
    ] = "1m,10m,1h,10h",
    roofline: Annotated[
        bool,
        typer.Option(
            "--roofline",
            help="Set networks against this machine's limits.",
            rich_help_panel=_STUDIES,
        ),
    ] = False,
    output_format: Annotated[
        OutputFormat,
        typer.Option(
            "--format",
            "--output-format",
            help="What is written to stdout.",
            rich_help_panel=_RESULTS,
        ),
    ] = OutputFormat.summary,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Also write .json, .csv, .md, .xml (JUnit) or .html; repeatable.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Write the result as a page as well.", rich_help_panel=_RESULTS
        ),
    ] = None,
    gate: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Limits that decide the exit code; repeatable.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Earlier result (JSON) for relative gates.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    allow_different: Annotated[
        str,
        typer.Option(
            metavar="KIND,…",
            help="Differences from the baseline to accept.",
            rich_help_panel=_RESULTS,
        ),
    ] = "",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the interrupted run of these options.",
            rich_help_panel=_RESULTS,
        ),
    ] = False,
) -> None:
    """Measure speed, accuracy, memory and energy of the pipeline; compare and gate them.

    Exit code 1: a gate failed, or --against found this version slower. 3: a file failed.
    """
    from fluidaudio_cli.benchmark.gates import evaluate, read_gates
    from fluidaudio_cli.benchmark.grid import Effort
    from fluidaudio_cli.benchmark.memory_limit import parse_size
    from fluidaudio_cli.benchmark.results import read_result
    from fluidaudio_cli.benchmark.runner import Settings
    from fluidaudio_cli.cli import benchmark_plan
    from fluidaudio_cli.cli.compare import check_kinds
    from fluidaudio_cli.diarization.modes import DEFAULT_MODE
    from fluidaudio_cli.diarization.tuning import leave_out_tuning
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport

    if no_tuning:
        leave_out_tuning()
    kinds = check_kinds(allow_different)
    limit = parse_size(memory_limit) if memory_limit is not None else None
    gates = tuple(each for path in gate or () for each in read_gates(path))
    base = read_result(baseline) if baseline is not None else None
    asked = benchmark_plan.Asked(
        modes=tuple(performance_mode or [SCALING_MODE if scaling else DEFAULT_MODE]),
        models=tuple(models or ["bundled"]),
        executor=executor,
        precision=precision,
        threads=tuple(dict.fromkeys(threads or [])),
        effort=Effort(
            processes=processes,
            warmup=warmup,
            iterations=iterations,
            latency_windows=latency_windows,
            memory=measure_memory or limit is not None or ablation or bool(peer),
            cold=True,
        ),
        ablation=ablation,
        lengths=benchmark_plan.check_lengths(scaling_lengths) if scaling else (),
        peers=tuple(peer or ()),
        peer_thresholds=tuple(peer_threshold or ()),
        against=against,
        pairs=pairs,
        robustness=robustness,
        latencies=benchmark_plan.chosen_latencies(latency) if streaming else (),
        identify=benchmark_plan.chosen_voices(voices, max_files) if identify else None,
    )
    settings = Settings(seed, compute_units, measure_power, limit, timeout, tuning=not no_tuning)
    formats = benchmark_plan.output_formats(output or (), output_format.value, html)
    conditions = _open_conditions(
        asked.identify,
        dataset,
        condition or (),
        single_file,
        max_files,
        auto_download,
        benchmark_plan.chosen_suite(suite, quick) if robustness else None,
    )
    if conditions[""].note:
        typer.echo(conditions[""].note, err=True)
    with ExitStack() as stack:
        grid = benchmark_plan.build_grid(asked, conditions, stack)
        result = _measure(grid, settings, formats, resume, roofline, max_slowdown / 100)
    report = BenchmarkReport(
        result,
        evaluate(gates, result, _comparable(base, result, kinds)),
        _changes(base, result),
        max_slowdown / 100,
    )
    for path, name in formats.items():
        _write(path, benchmark_plan.formatted(report, name))
    _show(report, output_format, formats.values())
    _tell_github(report)
    _finish(report)


def _open_conditions(
    voices: VoiceFolder | None,
    dataset: str | None,
    others: Sequence[str],
    single_file: str | None,
    max_files: int | None,
    auto_download: bool,
    suite: Suite | None,
) -> dict[str, Condition]:
    from fluidaudio_cli.cli import benchmark_plan
    from fluidaudio_cli.cli.render.console import progress_bar

    if voices is not None:
        from fluidaudio_cli.benchmark.identify import conditions_of

        return dict(conditions_of(voices))
    with progress_bar("making conversations") as progress:
        if suite is not None:
            return benchmark_plan.make_conditions(suite, single_file, max_files, progress)
        return benchmark_plan.open_conditions(
            dataset,
            others,
            single_file,
            max_files,
            lambda name: _download(name, max_files, auto_download),
            progress,
        )


def _measure(
    grid: Grid,
    settings: Settings,
    formats: dict[Path, str],
    resume: bool,
    roofline: bool,
    max_slowdown: float,
) -> BenchmarkResult:
    from fluidaudio_cli.benchmark.findings import conclude
    from fluidaudio_cli.benchmark.results import read_result, write_result
    from fluidaudio_cli.benchmark.resume import locked
    from fluidaudio_cli.benchmark.runner import BenchmarkRun, Hooks, plan_record
    from fluidaudio_cli.cli import benchmark_plan
    from fluidaudio_cli.cli.render.console import progress_bar
    from fluidaudio_cli.executors.cache import cache_dir
    from fluidaudio_cli.measure.limits import measure_machine

    fingerprints = [each.recordings.fingerprint for each in grid.conditions.values()]
    journal = benchmark_plan.journal_path(formats, plan_record(grid, settings), fingerprints)
    with locked(journal, cache_dir() / "benchmark"):
        previous = None
        if resume:
            if not journal.exists():
                raise UsageError(
                    f"nothing to resume: {journal} does not exist", "run without --resume"
                )
            previous = read_result(journal)
        run = BenchmarkRun(grid, settings, previous=previous)
        run.conclude = lambda result: conclude(
            result, measure_machine() if roofline else None, max_slowdown
        )
        with progress_bar("benchmarking") as progress:
            run.hooks = Hooks(
                save=lambda result: write_result(result, journal),
                warn=lambda line: typer.echo(f"warning: {line}", err=True),
                progress=progress,
            )
            try:
                return run.run()
            except KeyboardInterrupt:
                if run.finished_files:
                    typer.echo(
                        f"finished files are kept in {journal}; go on with --resume", err=True
                    )
                raise


def _comparable(
    base: BenchmarkResult | None, head: BenchmarkResult, kinds: Collection[Kind]
) -> BenchmarkResult | None:
    from fluidaudio_cli.benchmark.compare import check_comparable

    if base is not None:
        for difference in check_comparable(base, head, tuple(kinds)):
            typer.echo(f"warning: compared although {difference.text}", err=True)
    return base


def _changes(base: BenchmarkResult | None, head: BenchmarkResult) -> tuple[Change, ...]:
    from fluidaudio_cli.benchmark.compare import compare

    return () if base is None else compare(base, head, seed=head.plan.seed)


def _download(dataset: str, max_files: int | None, allowed: bool) -> None:
    if not allowed:
        return  # the caller then says what is missing and which command downloads it
    from fluidaudio_cli.cli.render.console import progress_bar
    from fluidaudio_cli.corpora.download import download_dataset

    with progress_bar(f"downloading {dataset}") as progress:
        download_dataset(dataset, max_files=max_files, progress=progress)


def _write(path: Path, text: str) -> None:
    from fluidaudio_cli.files import write_text_atomic

    write_text_atomic(path, text)
    typer.echo(f"wrote {path}", err=True)


def _show(report: BenchmarkReport, output_format: OutputFormat, written: Collection[str]) -> None:
    from fluidaudio_cli.cli import benchmark_plan
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
