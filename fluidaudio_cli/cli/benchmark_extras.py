"""The benchmark's further questions: peers, the machine's limits, optimisations, long audio."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fluidaudio_cli.benchmark.results import BenchmarkResult
    from fluidaudio_cli.corpora.dataset import Dataset

# The peer's decision threshold changes its error; its best is what it is compared by.
SHERPA_THRESHOLDS = (0.6, 0.7, 0.8)


def compare_with_peers(
    names: Sequence[str], thresholds: Sequence[float], result: BenchmarkResult, dataset: Dataset
) -> None:
    """Run each peer on the same files in its own process; one table with our modes."""
    from fluidaudio_cli.benchmark.peers.comparison import (
        best_by_error,
        our_row,
        peer_row,
        score_peer,
    )
    from fluidaudio_cli.benchmark.peers.results import PeerSettings
    from fluidaudio_cli.benchmark.peers.run import run_peer
    from fluidaudio_cli.cli.render.console import progress_bar, stdout_console
    from fluidaudio_cli.cli.render.peers import render_peers

    files = [item.audio for item in dataset.items]
    rows, best = [], []
    for name in names:
        runs = []
        tried = thresholds if name == "sherpa-onnx" else (None,)
        for threshold in tried:
            settings = None if threshold is None else PeerSettings(threshold=threshold)
            done = 0
            with progress_bar(f"{name} {threshold or ''}".strip()) as progress:

                def on_file(each: object) -> None:
                    nonlocal done
                    done += 1
                    progress(done, len(files))

                run = run_peer(name, files, settings=settings, on_file=on_file)
            runs.append((run, score_peer(run, dataset.items)))
        index = best_by_error(runs) if any(scores for _, scores in runs) else 0
        run, scores = runs[index]
        best.append(run)
        rows.append(peer_row(run, scores))
    ours = [our_row(variant) for variant in result.variants]
    render_peers(stdout_console(), ours, rows, best)


def show_roofline(result: BenchmarkResult, dataset: Dataset) -> None:
    """Measure the machine, run each mode once more, and set its stages against the limits."""
    from fluidaudio_cli.benchmark.roofline import roofline_rows, stage_loads
    from fluidaudio_cli.cli.render.console import stdout_console
    from fluidaudio_cli.cli.render.roofline import render_roofline
    from fluidaudio_cli.diarization.loading import load_pipeline
    from fluidaudio_cli.measure.limits import measure_machine

    peaks = measure_machine()
    console = stdout_console()
    item = max(dataset.items, key=lambda each: each.duration or 0.0)
    for variant in result.variants:
        if variant.unavailable is not None:
            continue
        mode = Path(variant.mode) if variant.mode.endswith((".yaml", ".yml")) else variant.mode
        pipeline = load_pipeline(
            mode,
            executor=variant.executor,
            precision=variant.precision,
            compute_units=result.plan.compute_units,
            threads=result.plan.threads,
        )
        pipeline.diarize(item.audio)
        done = pipeline.diarize(item.audio)
        loads = stage_loads(
            done.timings, {name: model.ran for name, model in pipeline.compiled.items()}
        )
        pipeline.close()
        console.print(f"{variant.name} on {item.uri}")
        render_roofline(console, peaks, roofline_rows(loads, done.duration_seconds, peaks))


def run_ablation(result: BenchmarkResult, dataset: Dataset) -> None:
    """Benchmark every mode of the ablation as ``result`` was, and print what each is worth."""
    from fluidaudio_cli.benchmark.ablation import ablation_rows, write_ablated_modes
    from fluidaudio_cli.benchmark.accuracy import assess
    from fluidaudio_cli.benchmark.runner import BenchmarkRun, Hooks
    from fluidaudio_cli.cli.render.ablation import render_ablation
    from fluidaudio_cli.cli.render.console import progress_bar, stdout_console

    with tempfile.TemporaryDirectory(prefix="fluidaudio-ablation-") as folder:
        paths = write_ablated_modes(Path(folder))
        plan = result.plan.model_copy(
            update={
                "modes": tuple(str(path) for path in paths.values()),
                "executors": ("auto",),
                "precisions": ("auto",),
                "measure_memory": True,
                "latency_windows": 0,
            }
        )
        run = BenchmarkRun(plan=plan, dataset=result.dataset, items=dataset.items, assess=assess)
        with progress_bar("ablation") as progress:
            run.hooks = Hooks(
                warn=lambda line: typer.echo(f"warning: {line}", err=True), progress=progress
            )
            measured = run.run()
    names = {str(path): name for name, path in paths.items()}
    variants = {names[variant.mode]: variant for variant in measured.variants}
    render_ablation(stdout_console(), ablation_rows(variants))


def check_lengths(text: str) -> tuple[float, ...]:
    """Seconds of ``--scaling-lengths``, for which there is room; said before measuring."""
    from fluidaudio_cli.benchmark.scaling import parse_lengths
    from fluidaudio_cli.measure.long_audio import check_space

    lengths = parse_lengths(text)
    check_space(Path(tempfile.gettempdir()), lengths)
    return lengths


def measure_scaling(
    result: BenchmarkResult, dataset: Dataset, lengths: Sequence[float], journal: Path
) -> BenchmarkResult:
    """``result`` with every mode measured on audio of ``lengths`` seconds, kept in ``journal``."""
    from fluidaudio_cli.benchmark.results import write_result
    from fluidaudio_cli.benchmark.scaling import run_scaling
    from fluidaudio_cli.cli.render.console import progress_bar

    with progress_bar("scaling") as progress:
        try:
            records = run_scaling(
                result,
                [item.audio for item in dataset.items],
                lengths,
                save=lambda each: write_result(
                    result.model_copy(update={"scaling": each}), journal
                ),
                progress=progress,
            )
        except KeyboardInterrupt:
            typer.echo(f"what was measured is kept in {journal}", err=True)
            raise
    return result.model_copy(update={"scaling": records})
