"""What the benchmark's options ask for: recordings, modes, executors, and where results go."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from fluidaudio_cli.cli import messages, report_output
from fluidaudio_cli.cli.options import ExecutorChoice, PrecisionChoice
from fluidaudio_cli.errors import UsageError, os_errors
from fluidaudio_cli.files import resolved, temporary_folder
from fluidaudio_cli.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from fluidaudio_cli.benchmark.grid import Condition, Effort, Grid, Program
    from fluidaudio_cli.benchmark.identify import VoiceFolder
    from fluidaudio_cli.benchmark.results import PlanRecord
    from fluidaudio_cli.corpora.dataset import Dataset
    from fluidaudio_cli.report.benchmark_report import BenchmarkReport

ALL = "all"
SAMPLE = "sample"
BUNDLED_NOTE = (
    "no --dataset given: measured on the bundled sample (real, 30 s) and on 10 minutes of "
    "conversations made of 24 bundled readers: read speech, not real meetings"
)
STDOUT_ONLY = ("summary", "detailed")
_FORMAT_OF_SUFFIX = {
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".markdown": "markdown",
    ".xml": "junit",
    ".html": "html",
    ".htm": "html",
}
_PAGE_ENDINGS = (".html", ".htm")


def choose(option: str, given: str, choices: type[Enum]) -> tuple[str, ...]:
    """``all`` as everything but ``auto``, else the one given; an unknown name is a usage error."""
    known = [str(each.value) for each in choices]
    if given == ALL:
        return tuple(name for name in known if name != "auto")
    if given not in known:
        raise UsageError(f"{option} {given}", f"choose all, {', '.join(known)}")
    return (given,)


def choose_modes(given: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Names of modes and what to load for each, in the order given; ``all`` expanded.

    A mode file is called by its stem and the start of its content's hash, wherever it lies.
    """
    chosen: dict[str, str] = {}
    for mode in given:
        path = Path(mode)
        if mode == ALL:
            chosen.update({name: name for name in known})
        elif mode in known:
            chosen[mode] = mode
        elif path.suffix in (".yaml", ".yml"):
            with os_errors(f"cannot read the mode file {mode}", kind=UsageError):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
            chosen[f"{path.stem}-{digest}"] = _absolute(mode)
        else:
            raise UsageError(
                f"--performance-mode {mode}", f"choose all, {', '.join(known)}, or a mode file"
            )
    return chosen


def choose_models(given: Sequence[str]) -> dict[str, str]:
    """Names of sets of models and what to load for each: a card is called by its file's stem."""
    from fluidaudio_cli.models.card import CARD_NAMES, load_card

    chosen: dict[str, str] = {}
    for text in given:
        load_card(text)  # what is wrong with it is said before anything runs
        name, place = (text, text) if text in CARD_NAMES else (Path(text).stem, _absolute(text))
        if chosen.setdefault(name, place) != place:
            raise UsageError(f"two sets of --models are called {name}", "rename one's file")
    return chosen


def _absolute(path: str) -> str:
    # Another version runs in a folder of its own.
    return str(resolved(Path(path)))


@dataclass(frozen=True)
class Asked:
    """What the options ask for, before anything is looked up."""

    modes: tuple[str, ...]
    models: tuple[str, ...]
    executor: str
    precision: str
    threads: tuple[int, ...]
    effort: Effort
    ablation: bool = False
    lengths: tuple[float, ...] = ()
    peers: tuple[str, ...] = ()
    peer_thresholds: tuple[float, ...] = ()
    against: str | None = None
    pairs: int = 8
    robustness: bool = False
    identify: VoiceFolder | None = None
    latencies: tuple[float, ...] = ()


def build_grid(asked: Asked, conditions: Mapping[str, Condition], stack: ExitStack) -> Grid:
    """The grid of a run; ``stack`` keeps what its cells need on the disk.

    Raises ``UsageError`` for names that are not known, and what opening another version raises.
    """
    from fluidaudio_cli.benchmark import studies
    from fluidaudio_cli.benchmark.ablation import write_ablated_modes
    from fluidaudio_cli.benchmark.grid import Grid
    from fluidaudio_cli.benchmark.peers.programs import SHERPA, peer_programs
    from fluidaudio_cli.benchmark.programs import open_other
    from fluidaudio_cli.diarization.modes import MODE_NAMES
    from fluidaudio_cli.executors.machine import processors
    from fluidaudio_cli.executors.select import availabilities

    modes = choose_modes(asked.modes, MODE_NAMES)
    models = choose_models(asked.models)
    executors = choose("--executor", asked.executor, ExecutorChoice)
    if asked.executor == ALL:
        # The others are set against the first, which must be one that runs here.
        states = availabilities()
        executors = tuple(sorted(executors, key=lambda name: not states[name].ok))
    levels: dict[str, Sequence[object]] = {
        "mode": tuple(modes),
        "models": tuple(models),
        "executor": executors,
        "precision": choose("--precision", asked.precision, PrecisionChoice),
        "threads": asked.threads or (None,),
    }
    main = studies.modes_study(asked.effort, **levels, condition=tuple(conditions))
    if asked.identify is not None:
        from fluidaudio_cli.benchmark.identify import identify_study

        main = identify_study(asked.identify, **levels)
    if asked.latencies:
        from fluidaudio_cli.benchmark.streaming import streaming_study

        main = streaming_study(asked.latencies, asked.lengths, **levels)
    if asked.robustness:
        from fluidaudio_cli.benchmark.robustness import robustness_study

        main = robustness_study(main)
    found = [main]
    programs: dict[str, Program] = {}
    if asked.ablation:
        folder = stack.enter_context(temporary_folder())
        written = {name: str(path) for name, path in write_ablated_modes(folder).items()}
        fixed = {name: levels[name] for name in ("models", "threads")}
        found.append(studies.ablation_study(tuple(written), asked.effort, **fixed))
        modes = {**written, **modes}
    if asked.lengths and not asked.latencies:
        counts = tuple(sorted({1, *(asked.threads or (processors(),))}))
        series = {**levels, "threads": counts}
        found.append(studies.scaling_study(asked.lengths, asked.effort, **series))
    if asked.peers:
        if asked.peer_thresholds and SHERPA not in asked.peers:
            raise UsageError("--peer-threshold is sherpa-onnx's", "add --peer sherpa-onnx")
        folder = stack.enter_context(temporary_folder())
        peers = [
            program
            for name in asked.peers
            for program in peer_programs(name, asked.peer_thresholds, folder)
        ]
        programs |= {program.name: program for program in peers}
        found.append(studies.peers_study(main.cells, peers, asked.effort))
    if asked.against is not None:
        checkout = Path(__file__).resolve().parents[2]
        probe = conditions[""].recordings.items[0].audio
        first = modes[main.cells[0].mode]
        both = stack.enter_context(open_other(asked.against, checkout, probe, first))
        programs |= {program.name: program for program in both}
        found.append(studies.against_study(main.cells, both[0], asked.pairs))
    return Grid(tuple(found), conditions, modes, models, programs)


def check_lengths(text: str) -> tuple[float, ...]:
    """Seconds of ``--scaling-lengths``, for which there is room; said before measuring."""
    from fluidaudio_cli.benchmark.studies import parse_lengths
    from fluidaudio_cli.measure.long_audio import check_space

    lengths = parse_lengths(text)
    check_space(Path(tempfile.gettempdir()), lengths)
    return lengths


@dataclass(frozen=True)
class Chosen:
    """The recordings of a dataset that are measured, and whether what is missing is downloaded."""

    single_file: str | None = None
    max_files: int | None = None
    auto_download: bool = False

    def of(self, dataset: Dataset) -> Dataset:
        """Those of ``dataset``."""
        # An index that is still to be downloaded has no recordings to choose from yet.
        if self.single_file is not None and dataset.items:
            return dataset.single(self.single_file)
        return dataset.head(self.max_files)

    def opened(self, name: str) -> Dataset:
        """Those of the dataset or folder ``name``; raises ``HostError`` where some are not here."""
        from fluidaudio_cli.corpora.dataset import open_dataset
        from fluidaudio_cli.corpora.download import download_dataset

        dataset = self.of(open_dataset(name))
        if self.auto_download and dataset.missing() and dataset.download_command is not None:
            with messages.progress_bar(f"downloading {name}") as progress:
                download_dataset(
                    name, max_files=self.max_files, single=self.single_file, progress=progress
                )
            dataset = self.of(open_dataset(name))
        return dataset.require()


def open_conditions(
    dataset: str | None,
    others: Sequence[str],
    chosen: Chosen,
    progress: ProgressCallback = no_progress,
) -> dict[str, Condition]:
    """The dataset's chosen recordings, and the same conversations under ``others``, NAME=DATASET.

    ``progress`` is of conversations that are made now.
    """
    from fluidaudio_cli.benchmark.grid import Condition
    from fluidaudio_cli.simulate.bundled import CONVERSATIONS

    note = "" if dataset is not None else BUNDLED_NOTE
    if dataset is None or dataset == CONVERSATIONS:
        recordings = chosen.of(_made(dataset is None, progress))
    else:
        recordings = chosen.opened(dataset)
    found = {"": Condition("", recordings, note=note)}
    for text in others:
        name, equals, place = text.rpartition("=")
        if not (name and equals and place):
            raise UsageError(f"--condition {text}", "give NAME=DATASET, such as noisy=./noisy")
        if name in found:
            raise UsageError(f"two conditions are called {name}", "give each --condition its name")
        found[name] = Condition(name, chosen.opened(place))
    return found


def _made(with_sample: bool, progress: ProgressCallback) -> Dataset:
    """The bundled conversations, made now unless they are cached; the real sample before them."""
    from fluidaudio_cli.corpora.dataset import Dataset, open_dataset
    from fluidaudio_cli.executors.machine import processors
    from fluidaudio_cli.simulate.bundled import CONVERSATIONS, bundled_recipe, made_dataset

    made = made_dataset(
        bundled_recipe(CONVERSATIONS), made_folder(), jobs=processors(), progress=progress
    )
    if not with_sample:
        return made
    sample = open_dataset(SAMPLE).require()
    return Dataset(
        name=f"{SAMPLE}+{made.name}",
        title=f"{sample.title}; {made.title}",
        split=None,
        folder=made.folder,
        items=(*sample.items, *made.items),
        identity=f"{sample.fingerprint} {made.identity}",
    )


def made_folder() -> Path:
    """Where conversations that are made for a benchmark stay."""
    from fluidaudio_cli.executors.cache import cache_dir

    return cache_dir() / "conversations"


def chosen_voices(folder: Path | None, most: int | None) -> VoiceFolder:
    """The voices of ``--identify``."""
    from fluidaudio_cli.benchmark.identify import FEWEST_VOICES, VoiceFolder
    from fluidaudio_cli.simulate.bundled import bundled_voices

    folder = folder or bundled_voices()
    found = VoiceFolder.of(folder, most)
    if len(found.items) < FEWEST_VOICES:
        raise UsageError(f"{len(found.items)} voices of {folder}", f"give {FEWEST_VOICES} or more")
    return found


def output_formats(
    outputs: Sequence[Path],
    default: str,
    html: Path | None = None,
    read: Sequence[Path | None] = (),
) -> dict[Path, str]:
    """The format of each file, by its ending, else ``default``; checked to be writable.

    ``html``: a page whatever the others are. ``-``, stdout, has its format already. None may be
    among those that are ``read``.
    """
    formats = {
        path: _FORMAT_OF_SUFFIX.get(path.suffix.lower(), default)
        for path in outputs
        if path != report_output.STDOUT
    }
    if html is not None:
        report_output.check_ending("--html", html, _PAGE_ENDINGS)
        formats[html] = "html"
    for path, name in formats.items():
        report_output.check_not_read("--output", path, read)
        if name in STDOUT_ONLY:
            raise UsageError(
                f"--output {path} has no known ending",
                f"use {', '.join(_FORMAT_OF_SUFFIX)}, or give --format",
            )
        report_output.check_writable("--output", path)
    return formats


def journal_path(formats: dict[Path, str], plan: PlanRecord, fingerprints: Sequence[str]) -> Path:
    """Where the result is kept while it grows: the JSON output, else one for this plan."""
    for path, name in formats.items():
        if name == "json":
            return path
    from fluidaudio_cli.benchmark.resume import journal_in
    from fluidaudio_cli.executors.cache import cache_dir

    return journal_in(cache_dir() / "benchmark", plan, " ".join(fingerprints))


def formatted(report: BenchmarkReport, name: str) -> str:
    """The report in a machine-readable format."""
    from fluidaudio_cli.benchmark.results import to_json
    from fluidaudio_cli.report.benchmark_csv import to_csv
    from fluidaudio_cli.report.benchmark_junit import to_junit
    from fluidaudio_cli.report.benchmark_markdown import to_markdown

    if name == "json":
        return to_json(report.result)
    if name == "html":
        from fluidaudio_cli.report.html_benchmark import benchmark_page

        return benchmark_page(report)
    if name == "csv":
        return to_csv(report.result)
    return to_junit(report) if name == "junit" else to_markdown(report)
