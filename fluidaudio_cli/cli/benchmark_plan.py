"""What the benchmark's options ask for: recordings, modes, executors, and where results go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.errors import HostError, UsageError

if TYPE_CHECKING:
    from fluidaudio_cli.corpora.dataset import Dataset
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport

ALL = "all"
BUNDLED = "sample"
STDOUT_ONLY = ("summary", "detailed")
_FORMAT_OF_SUFFIX = {
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".markdown": "markdown",
    ".xml": "junit",
}
EXECUTORS = ("onnxruntime", "openvino", "coreml")
PRECISIONS = ("fp32", "bf16", "fp16")


def choose(option: str, given: str, known: Sequence[str]) -> tuple[str, ...]:
    """``all`` as everything known, else the one given; an unknown name is a usage error."""
    if given == ALL:
        return tuple(known)
    if given not in ("auto", *known):
        raise UsageError(f"{option} {given}", f"choose auto, all, {', '.join(known)}")
    return (given,)


def choose_modes(given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Names and mode files in the order given, ``all`` expanded, each once."""
    chosen: dict[str, None] = {}
    for mode in given:
        if mode == ALL:
            chosen.update(dict.fromkeys(known))
        elif mode in known:
            chosen[mode] = None
        elif Path(mode).suffix in (".yaml", ".yml"):
            chosen[str(Path(mode).resolve())] = None
        else:
            raise UsageError(
                f"--performance-mode {mode}", f"choose all, {', '.join(known)}, or a mode file"
            )
    return tuple(chosen)


def limit_bytes(given: str | None, beside: Mapping[str, bool]) -> int | None:
    """``--memory-limit`` in bytes; ``beside``: options that run modes as they are, and if given."""
    if given is None:
        return None
    from fluidaudio_cli.benchmark.memory_limit import parse_size

    size = parse_size(given)
    for option, wanted in beside.items():
        if wanted:
            raise UsageError(
                f"--memory-limit does not reach what {option} runs", "give one without the other"
            )
    return size


def open_recordings(
    name: str | None, single_file: str | None, max_files: int | None, download: Callable[[], None]
) -> Dataset:
    """The dataset's chosen recordings, all there; ``download`` is called when some are not."""
    from fluidaudio_cli.corpora.dataset import open_dataset

    dataset = _chosen(open_dataset(name or BUNDLED), single_file, max_files)
    if dataset.missing() and dataset.download_command is not None:
        download()
        dataset = _chosen(open_dataset(name or BUNDLED), single_file, max_files)
    return dataset.require()


def _chosen(dataset: Dataset, single_file: str | None, max_files: int | None) -> Dataset:
    # An index that is still to be downloaded has no recordings to choose from yet.
    if single_file is not None and dataset.items:
        return dataset.single(single_file)
    return dataset.head(max_files)


def output_formats(outputs: Sequence[Path], default: str) -> dict[Path, str]:
    """The format of each file, by its extension, else ``default``; checked to be writable."""
    formats = {path: _FORMAT_OF_SUFFIX.get(path.suffix.lower(), default) for path in outputs}
    for path, name in formats.items():
        if name in STDOUT_ONLY:
            raise UsageError(
                f"--output {path} has no known extension",
                f"use {', '.join(_FORMAT_OF_SUFFIX)}, or give --output-format",
            )
        _check_writable(path)
    return formats


def journal_path(formats: dict[Path, str]) -> Path:
    """Where the result is kept while it grows: the JSON output, else the user's cache."""
    for path, name in formats.items():
        if name == "json":
            return path
    from fluidaudio_cli.executors.cache import cache_dir

    return cache_dir() / "benchmark" / "last.json"


def formatted(report: BenchmarkReport, name: str) -> str:
    """The report in a machine-readable format."""
    from fluidaudio_cli.benchmark.results import to_json
    from fluidaudio_cli.report.benchmark_csv import to_csv
    from fluidaudio_cli.report.benchmark_junit import to_junit
    from fluidaudio_cli.report.benchmark_markdown import to_markdown

    if name == "json":
        return to_json(report.result)
    if name == "csv":
        return to_csv(report.result)
    return to_junit(report) if name == "junit" else to_markdown(report)


def _check_writable(path: Path) -> None:
    """Fail before an hour of measuring, not after."""
    from fluidaudio_cli.files import atomic_path

    if path.is_dir():
        raise UsageError(f"--output {path} is a folder", "give a file")
    probe = path.with_name(f".{path.name}.writable")
    with atomic_path(probe) as draft:
        draft.touch()
    try:
        probe.unlink()
    except OSError as error:
        raise HostError(f"cannot write in {path.parent}: {error.strerror}") from error
