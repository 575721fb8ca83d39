"""``fluidaudio diarization-benchmark`` (alias ``benchmark``): measure, compare, gate."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluidaudio_cli.cli import options
from fluidaudio_cli.errors import GateError, InputError, UsageError

if TYPE_CHECKING:
    from fluidaudio_cli.benchmark.against import Judgement
    from fluidaudio_cli.benchmark.compare import Kind
    from fluidaudio_cli.benchmark.results import BenchmarkResult, PairedRecord, PlanRecord
    from fluidaudio_cli.corpora.dataset import Dataset
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport


# Ten hours are long enough in the fastest.
SCALING_MODE = "fast"


class OutputFormat(str, Enum):
    """How the report is written to stdout."""

    summary = "summary"
    detailed = "detailed"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    junit = "junit"


def benchmark(
    performance_mode: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|all",
            help="Mode to measure; repeatable. Default: balanced, with --scaling fast.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Corpus or folder. Default: the bundled sample."),
    ] = None,
    single_file: Annotated[
        str | None, typer.Option(metavar="URI", help="Only this recording.")
    ] = None,
    max_files: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Only the first N recordings.")
    ] = None,
    iterations: Annotated[
        int, typer.Option(metavar="N", min=1, help="Measured runs per file.")
    ] = 5,
    warmup: Annotated[
        int, typer.Option(metavar="N", min=0, help="Unmeasured runs per file before them.")
    ] = 1,
    executor: Annotated[
        str, typer.Option(metavar="NAME|all", help="auto, onnxruntime, openvino, coreml or all.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="NAME|all", help="auto, fp32, bf16, fp16 or all.")
    ] = "auto",
    compute_units: Annotated[
        str, typer.Option(metavar="UNITS", help="Core ML compute units to ask for.")
    ] = "all",
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Threads; by default the mode decides.")
    ] = None,
    latency_windows: Annotated[
        int, typer.Option(metavar="N", min=0, help="Single 10 s windows timed per file; 0: none.")
    ] = 50,
    measure_memory: Annotated[
        bool, typer.Option("--measure-memory", help="Peak memory, growth and curve.")
    ] = False,
    memory_limit: options.MemoryLimitOption = None,
    no_tuning: options.NoTuningOption = False,
    measure_power: Annotated[
        bool, typer.Option("--measure-power", help="Energy, where the machine has counters.")
    ] = False,
    output_format: Annotated[
        OutputFormat, typer.Option(help="What is written to stdout.")
    ] = OutputFormat.summary,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH", help="Also write .json, .csv, .md or .xml (JUnit); repeatable."
        ),
    ] = None,
    auto_download: Annotated[
        bool, typer.Option("--auto-download", help="Download the dataset if it is not here.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted run of these options.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of file order and resampling.")] = 0,
    gate: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Limits that decide the exit code; repeatable."),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Earlier result (JSON) for relative gates."),
    ] = None,
    allow_different: Annotated[
        str, typer.Option(metavar="KIND,…", help="Differences from the baseline to accept.")
    ] = "",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="REF|COMMAND",
            help="Run another version (git ref) or command in turn with this one, A B A B, and "
            "fail if this one is slower. {audio} and {mode} are filled in.",
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option(metavar="N", min=6, help="Pairs of --against; more tell finer.")
    ] = 8,
    max_slowdown: Annotated[
        float, typer.Option(metavar="PERCENT", min=0.0, help="Slowdown --against lets pass.")
    ] = 5.0,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write the result as a page as well.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Run sherpa-onnx or senko on the same files too."),
    ] = None,
    peer_threshold: Annotated[
        list[float] | None,
        typer.Option(metavar="T", help="sherpa-onnx's; its best is taken. Default 0.6 0.7 0.8."),
    ] = None,
    roofline: Annotated[
        bool, typer.Option("--roofline", help="Set stages against this machine's limits.")
    ] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Measure each optimisation off, and on, alone.")
    ] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Time and memory from a minute to ten hours.")
    ] = False,
    scaling_lengths: Annotated[
        str, typer.Option(metavar="LENGTH,…", help="Lengths of --scaling; s, m and h.")
    ] = "1m,10m,1h,10h",
) -> None:
    """Measure speed, accuracy, memory and energy of the pipeline; compare and gate them.

    Exit code 1: a gate failed, or --against found this version slower. 3: a file failed.
    """
    from fluidaudio_cli.benchmark.gates import evaluate, read_gates
    from fluidaudio_cli.benchmark.results import PlanRecord, read_result, write_result
    from fluidaudio_cli.cli import benchmark_extras, benchmark_plan
    from fluidaudio_cli.cli.compare import check_kinds
    from fluidaudio_cli.diarization.modes import DEFAULT_MODE, MODE_NAMES
    from fluidaudio_cli.diarization.tuning import leave_out_tuning
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport

    if no_tuning:
        leave_out_tuning()
    kinds = check_kinds(allow_different)
    as_they_are = {
        "--against": against is not None,
        "--scaling": scaling,
        "--roofline": roofline,
        "--ablation": ablation,
    }
    limit = benchmark_plan.limit_bytes(memory_limit, as_they_are)
    lengths = benchmark_extras.check_lengths(scaling_lengths) if scaling else ()
    gates = tuple(limit for path in gate or () for limit in read_gates(_gate_file(path)))
    base = read_result(baseline) if baseline is not None else None
    plan = PlanRecord(
        modes=benchmark_plan.choose_modes(
            performance_mode or [SCALING_MODE if scaling else DEFAULT_MODE], MODE_NAMES
        ),
        executors=benchmark_plan.choose("--executor", executor, benchmark_plan.EXECUTORS),
        precisions=benchmark_plan.choose("--precision", precision, benchmark_plan.PRECISIONS),
        iterations=iterations,
        warmup=warmup,
        latency_windows=latency_windows,
        seed=seed,
        threads=threads,
        compute_units=compute_units,
        measure_memory=measure_memory or limit is not None,
        memory_limit_bytes=limit,
        measure_power=measure_power,
        tuning=not no_tuning,
    )
    recordings = benchmark_plan.open_recordings(
        dataset, single_file, max_files, lambda: _download(dataset, max_files, auto_download)
    )
    formats = benchmark_plan.output_formats(output or (), output_format.value)
    journal = benchmark_plan.journal_path(formats)
    result = _measure(plan, recordings, dataset is None, journal, resume)
    judgements: tuple[PairedRecord, ...] = ()
    if against is not None:
        judgements = _interleave(against, result, recordings, pairs)
        result = result.model_copy(update={"paired": judgements})
        write_result(result, journal)
    if scaling:
        result = benchmark_extras.measure_scaling(result, recordings, lengths, journal)
    report = BenchmarkReport(
        result,
        evaluate(gates, result, _comparable(base, result, kinds)),
        _judged(judgements, max_slowdown / 100),
    )
    for path, name in formats.items():
        _write(path, benchmark_plan.formatted(report, name))
    if html is not None:
        from fluidaudio_cli.report.html_benchmark import benchmark_page

        _write(html, benchmark_page(result, base))
    _show(report, output_format, base, formats.values())
    if peer:
        thresholds = peer_threshold or benchmark_extras.SHERPA_THRESHOLDS
        benchmark_extras.compare_with_peers(peer, thresholds, result, recordings)
    if roofline:
        benchmark_extras.show_roofline(result, recordings)
    if ablation:
        benchmark_extras.run_ablation(result, recordings)
    _tell_github(report)
    _finish(report)


def _measure(
    plan: PlanRecord, recordings: Dataset, by_default: bool, journal: Path, resume: bool
) -> BenchmarkResult:
    from fluidaudio_cli.benchmark.accuracy import assess
    from fluidaudio_cli.benchmark.results import DatasetRecord, read_result, write_result
    from fluidaudio_cli.benchmark.runner import BenchmarkRun, Hooks
    from fluidaudio_cli.cli.render.console import progress_bar

    previous = None
    if resume:
        if not journal.exists():
            raise UsageError(f"nothing to resume: {journal} does not exist", "run without --resume")
        previous = read_result(journal)
    note = ""
    if by_default:
        note = (
            "no --dataset given: measured on the bundled sample, 30 s of two speakers; "
            "too short to tell how accurate a mode is"
        )
        typer.echo(note, err=True)
    run = BenchmarkRun(
        plan=plan,
        dataset=DatasetRecord(
            name=recordings.name,
            fingerprint=recordings.fingerprint,
            uris=tuple(item.uri for item in recordings.items),
            note=note,
        ),
        items=recordings.items,
        assess=assess,
        previous=previous,
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
            typer.echo(f"finished files are kept in {journal}; go on with --resume", err=True)
            raise


def _interleave(
    against: str, result: BenchmarkResult, recordings: Dataset, pairs: int
) -> tuple[PairedRecord, ...]:
    from fluidaudio_cli.benchmark.accuracy import assess
    from fluidaudio_cli.benchmark.against import open_base, run_pairs
    from fluidaudio_cli.benchmark.workers import PipelineOptions
    from fluidaudio_cli.cli.render.console import progress_bar

    variants = [variant for variant in result.variants if variant.finished]
    if not variants:
        raise InputError("nothing was measured that --against could be compared with")
    checkout = Path(__file__).resolve().parents[2]
    records = []
    with open_base(against, checkout, recordings.items[0], variants[0].mode) as base:
        for variant in variants:
            options = PipelineOptions(
                variant.executor, variant.precision, result.plan.compute_units, result.plan.threads
            )
            with progress_bar(f"{variant.name} against {base.description}") as progress:
                records.append(
                    run_pairs(
                        base,
                        recordings.items,
                        mode=variant.mode,
                        options=options,
                        name=variant.name,
                        pairs=pairs,
                        assess=assess,
                        progress=progress,
                    )
                )
    return tuple(records)


def _judged(
    records: Sequence[PairedRecord], max_slowdown: float
) -> tuple[tuple[PairedRecord, Judgement], ...]:
    from fluidaudio_cli.benchmark.against import judge

    return tuple((record, judge(record, max_slowdown)) for record in records)


def _comparable(
    base: BenchmarkResult | None, head: BenchmarkResult, kinds: Sequence[Kind]
) -> BenchmarkResult | None:
    from fluidaudio_cli.benchmark.compare import check_comparable

    if base is not None:
        for difference in check_comparable(base, head, kinds):
            typer.echo(f"warning: compared although {difference.text}", err=True)
    return base


def _download(dataset: str | None, max_files: int | None, allowed: bool) -> None:
    if not allowed or dataset is None:
        return  # the caller then says what is missing and which command downloads it
    from fluidaudio_cli.cli.render.console import progress_bar
    from fluidaudio_cli.corpora.download import download_dataset

    with progress_bar(f"downloading {dataset}") as progress:
        download_dataset(dataset, max_files=max_files, progress=progress)


def _gate_file(path: Path) -> Path:
    from fluidaudio_cli.resources import configs_dir

    # `configs/gates.yaml` works as written from anywhere, also where the program is installed.
    shipped = configs_dir() / path.name
    return shipped if not path.exists() and shipped.exists() else path


def _write(path: Path, text: str) -> None:
    from fluidaudio_cli.files import write_text_atomic

    write_text_atomic(path, text)
    typer.echo(f"wrote {path}", err=True)


def _show(
    report: BenchmarkReport,
    output_format: OutputFormat,
    base: BenchmarkResult | None,
    written: Collection[str],
) -> None:
    from fluidaudio_cli.benchmark.compare import compare
    from fluidaudio_cli.cli import benchmark_plan
    from fluidaudio_cli.cli.render.benchmark import render_report
    from fluidaudio_cli.cli.render.compare import render_changes
    from fluidaudio_cli.cli.render.console import stdout_console

    if output_format.value not in benchmark_plan.STDOUT_ONLY:
        if output_format.value not in written:
            typer.echo(benchmark_plan.formatted(report, output_format.value), nl=False)
        return
    console = stdout_console()
    render_report(console, report, detailed=output_format is OutputFormat.detailed)
    if base is not None:
        render_changes(console, compare(base, report.result, seed=report.result.plan.seed))


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
        names = "; ".join(f"{variant}: {record.error}" for variant, record in failures)
        raise InputError(f"{len(failures)} files failed: {names}")
