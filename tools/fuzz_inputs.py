"""Mutate inputs of every kind and see that each is answered: a result, or one line and a code.

    python tools/fuzz_inputs.py [--count 10000] [--seed 0] [--jobs 2] [--keep FOLDER] [--salvage]

Case ``i`` of a seed is always the same. Each runs in a process of its own, forked from one that
has imported everything, under a limit of memory and of time; what the command line would do is
done by the same functions, inside the same error boundary. A finding is a traceback, a crash, a
hang, an exit code that is not one of bad input, or an error without its one line. Exits with 1 if
there are any; their inputs go to ``--keep``. Linux only.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml

from fluidaudio_cli.cli import process

REPOSITORY = Path(__file__).resolve().parent.parent
# Ended by a signal beyond these; an ordinary case takes milliseconds.
_SECONDS = 20
_MEMORY_BYTES = 2_000_000_000
# An input is never the machine's fault (4).
_DOCUMENTED = (0, 1, 2, 3)
_CODECS = {
    "wav": "pcm_s16le",
    "aiff": "pcm_s16be",
    "w64": "pcm_s24le",
    "caf": "pcm_f32be",
    "flac": "flac",
    "mp3": "libmp3lame",
    "m4a": "aac",
    "aac": "aac",
    "ogg": "libopus",
    "webm": "libopus",
    "mka": "pcm_s16le",
}
_MORE_CODECS = {
    "flv": "aac",
    "avi": "libmp3lame",
    "asf": "mp2",
    "ts": "mp2",
    "mpg": "mp2",
    "wtv": "mp2",
    "nut": "libmp3lame",
    "mkv": "ac3",
    "oga": "flac",
    "ismv": "aac",
    "mov": "alac",
    "voc": "pcm_u8",
    "ac3": "ac3",
    "tta": "tta",
    "wv": "wavpack",
    "au": "pcm_mulaw",
}
"""Tried with --salvage only, so that the cases of a seed stay the same."""
_NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1e400", "1e-320", "9" * 400, "0x10", "", "true")
_WORDS = ("{", "}", "[", "]", '"', "'", ":", "- ", "<NA>", "\t", "\0", "\n", "\ufeff", "é", ";")
_ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    math.nan,
    -math.inf,
    10**30,
    "",
    "x" * 9999,
    [],
    {},
    [[]],
)
_BYTES = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\x80\0\0\0", b"\0" * 8)

Action = Callable[[Path], int]


@dataclass(frozen=True)
class Kind:
    """One kind of input: valid examples, what reads a mutated one, and how often it is tried."""

    seeds: tuple[Path, ...]
    read: Action
    style: str  # binary, text, or tree: YAML or JSON, whose values are changed too
    share: int


@dataclass(frozen=True)
class Outcome:
    """How one case ended; ``finding`` is empty when it was answered as documented."""

    number: int
    kind: str
    code: int
    seconds: float
    peak_bytes: int
    finding: str


def kinds(folder: Path, with_result: bool = True) -> dict[str, Kind]:
    """Valid inputs of every kind, made in ``folder``; a result takes seconds of measuring."""
    folder.mkdir(parents=True, exist_ok=True)
    rttm = REPOSITORY / "datasets" / "sample" / "sample.rttm"
    uem = rttm.with_suffix(".uem")
    lab = folder / "sample.lab"
    lab.write_text("".join(f"{n}.25 {n + 1}.5 speaker{n % 3}\n" for n in range(20)))
    packages, compiled = _packages(folder / "packages")
    configs = REPOSITORY / "configs"
    manifests = tuple(sorted((REPOSITORY / "datasets").glob("*.yaml")))
    modes = tuple(configs / f"{name}.yaml" for name in ("balanced", "reference"))

    def of_text(seeds: tuple[Path, ...], read: Action) -> Kind:
        return Kind(seeds, read, "text", 1)

    def of_tree(seeds: tuple[Path, ...], read: Action) -> Kind:
        return Kind(seeds, read, "tree", 1)

    known = {
        "audio": Kind(tuple(_recordings(folder / "audio", _CODECS)), _decode, "binary", 3),
        "rttm": of_text((rttm,), lambda path: _run("score", path, rttm)),
        "uem": of_text((uem,), lambda path: _run("score", rttm, rttm, "--uem", path)),
        "lab": of_text((lab,), lambda path: _run("score", path, lab)),
        "mode": of_tree(modes, _read_mode),
        "gates": of_tree((configs / "gates.yaml",), _read_gates),
        "manifest": of_tree(manifests, _read_manifest),
        "mlpackage": Kind(packages, _lower, "binary", 2),
        "mlmodelc": Kind(compiled, _lower, "text", 1),
    }
    if with_result:
        result = _result(folder / "result.json")
        known["result"] = of_tree((result,), lambda path: _run("compare", path, result))
    return known


def salvaged(folder: Path) -> dict[str, Kind]:
    """Recordings in every container, read with and without salvage."""
    recordings = tuple(_recordings(folder, _CODECS | _MORE_CODECS))
    return {
        "audio": Kind(recordings, _decode, "binary", 1),
        "salvage": Kind(recordings, partial(_decode, salvage=True), "binary", 1),
    }


def _recordings(folder: Path, codecs: dict[str, str]) -> Iterator[Path]:
    """A second of tones in every container."""
    folder.mkdir(exist_ok=True)
    rate = 48_000
    tones = np.sin(np.arange(rate) * np.linspace(0.01, 0.1, rate)).astype(np.float32) * 0.3
    for suffix, codec in codecs.items():
        path = folder / f"tones.{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(tones[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            if suffix in _MORE_CODECS:
                frame.pts = 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        yield path


def _packages(folder: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Small packages from the tests' fixtures, and compiled models around their MIL texts."""
    fixtures = REPOSITORY / "tests" / "fixtures" / "mil"
    packages = []
    for bundle in ("layers", "structure"):
        with np.load(fixtures / f"{bundle}.npz") as stored:
            for key in stored.files:
                name, _, file = key.partition("|file|")
                if file:
                    package = folder / f"{name}.mlpackage"
                    (package / file).parent.mkdir(parents=True, exist_ok=True)
                    (package / file).write_bytes(stored[key].tobytes())
                    packages.append(package)
    compiled = []
    for text in sorted(fixtures.glob("*.mil")):
        model = folder / f"{text.stem}.mlmodelc"
        (model / "weights").mkdir(parents=True, exist_ok=True)
        shutil.copy(text, model / "model.mil")
        # One record of eight fp32 numbers, as the text names it (coremltools' blob storage).
        head = struct.pack("<II56xIIQQ40x", 1, 2, 0xDEADBEEF, 2, 32, 128)
        (model / "weights" / "weight.bin").write_bytes(head + np.arange(8, dtype="<f4").tobytes())
        compiled.append(model)
    return tuple(dict.fromkeys(packages)), tuple(compiled)


def _result(path: Path) -> Path:
    """A benchmark result, as the command writes it."""
    if not path.exists():
        options = [
            "--performance-mode",
            "fast",
            "--iterations",
            "2",
            "--warmup",
            "0",
            "--latency-windows",
            "2",
        ]
        command = [sys.executable, "-m", "fluidaudio_cli", "benchmark", *options]
        subprocess.run([*command, "--output", str(path)], check=True, capture_output=True)
    return path


def _run(*arguments: str | Path) -> int:
    return process.run([str(argument) for argument in arguments])


def _decode(path: Path, salvage: bool = False) -> int:
    from fluidaudio_cli.audio.source import open_audio

    block = np.empty(160_000, np.float32)
    with open_audio(path, salvage=salvage) as stream:
        while stream.read_into(block):
            pass
    return 0


def _read_mode(path: Path) -> int:
    from fluidaudio_cli.diarization.modes import load_mode

    load_mode(path)
    return 0


def _read_gates(path: Path) -> int:
    from fluidaudio_cli.benchmark.gates import read_gates

    read_gates(path)
    return 0


def _read_manifest(path: Path) -> int:
    from fluidaudio_cli.corpora.manifest import read_manifest

    read_manifest(path)
    return 0


def _lower(package: Path) -> int:
    code = _run("models", "inspect", package, "--format", "json")
    return _run("models", "lower", package, "--output", package.with_name("x.onnx")) or code


def mutated(content: bytes, style: str, chance: random.Random) -> bytes:
    """``content`` with one to eight changes."""
    if style == "tree" and chance.random() < 0.7:
        return _regrown(content, chance)
    data = bytearray(content)
    for _ in range(1 + int(chance.expovariate(0.7)) % 8):
        as_text = style != "binary" and chance.random() < 0.7
        change = chance.choice(_TEXT_CHANGES if as_text else _BYTE_CHANGES)
        change(data, chance)
    return bytes(data)


def _regrown(content: bytes, chance: random.Random) -> bytes:
    """The tree in ``content`` (JSON is YAML, too) with some values changed."""
    tree = yaml.safe_load(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        branches = list(_branches(tree))
        if not branches:
            break
        branch, key = chance.choice(branches)
        change = chance.randrange(4)
        if change == 0:
            del branch[key]
        elif change == 1:
            other, name = chance.choice(branches)
            branch[key] = copy.deepcopy(other[name])
        else:
            branch[key] = chance.choice(_ODD)
    return json.dumps(tree).encode()


def _branches(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a tree, as what holds it and its key there."""
    if isinstance(tree, (dict, list)):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _branches(tree[key])


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[_place(data, chance) % len(data)] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random) -> None:
    value, start = chance.choice(_BYTES), _place(data, chance)
    data[start : start + len(value)] = value


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _drop(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    del data[start : start + chance.randrange(1, 200)]


def _repeat(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    data[start:start] = data[start : start + chance.randrange(1, 200)] * chance.choice((1, 2, 50))


def _insert(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    data[start:start] = chance.randbytes(chance.randrange(1, 50))


def _place(data: bytearray, chance: random.Random) -> int:
    """Headers are at the start: half of all changes are there."""
    return chance.randrange(min(len(data), 200 if chance.random() < 0.5 else len(data)) + 1)


def _insert_word(data: bytearray, chance: random.Random) -> None:
    start = _place(data, chance)
    data[start:start] = (chance.choice(_WORDS) * chance.choice((1, 1, 2, 3000))).encode()


def _replace_token(data: bytearray, chance: random.Random) -> None:
    tokens = bytes(data).split(b" ")
    tokens[chance.randrange(len(tokens))] = chance.choice((*_NUMBERS, *_WORDS)).encode()
    data[:] = b" ".join(tokens)


def _shuffle_lines(data: bytearray, chance: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first] = lines[second]
    data[:] = b"\n".join(lines)


_BYTE_CHANGES = (_flip, _flip, _overwrite, _cut, _drop, _repeat, _insert)
_TEXT_CHANGES = (_insert_word, _replace_token, _replace_token, _shuffle_lines, _drop)


def write_case(number: int, seed: int, known: dict[str, Kind], folder: Path) -> tuple[str, Path]:
    """The kind and the input of one case, written into ``folder``."""
    chance = random.Random(f"{seed}:{number}")
    names = [name for name, kind in known.items() for _ in range(kind.share)]
    name = names[number % len(names)]
    kind = known[name]
    source = chance.choice(kind.seeds)
    target = folder / source.name
    if source.is_dir():
        shutil.copytree(source, target)
        files = sorted(path for path in target.rglob("*") if path.is_file())
        victim = chance.choice(files)
        if chance.random() < 0.05:
            victim.unlink()
            return name, target
    else:
        shutil.copy(source, target)
        victim = target
    victim.write_bytes(mutated(victim.read_bytes(), kind.style, chance))
    return name, target


def run_case(number: int, seed: int, known: dict[str, Kind], keep: Path | None) -> Outcome:
    """One case in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="fluidaudio-fuzz-") as scratch:
        folder = Path(scratch)
        name, target = write_case(number, seed, known, folder)
        errors = folder / "stderr"
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            _in_child(partial(known[name].read, target), errors)
        _, status, usage = os.wait4(child, 0)
        seconds = time.perf_counter() - started
        code = os.waitstatus_to_exitcode(status)
        said = errors.read_text(encoding="utf-8", errors="replace") if errors.exists() else ""
        finding = _finding(code, said)
        if finding and keep is not None:
            kept = keep / f"{number}-{target.name}"
            (shutil.copytree if target.is_dir() else shutil.copy)(target, kept)
            kept.with_name(f"{number}.stderr").write_text(said)
        return Outcome(number, name, code, seconds, usage.ru_maxrss * 1024, finding)


def _in_child(read: Callable[[], int], errors: Path) -> None:
    code = 1
    try:
        # Both end the process inside C code as well.
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES + _mapped_bytes(),) * 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        for descriptor, path in ((1, Path(os.devnull)), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
        code = process.answered(read)
    except BaseException:  # noqa: BLE001 - shown as Python would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _finding(code: int, said: str) -> str:
    """What is wrong with an end; empty if it is as documented."""
    lines = said.splitlines()
    if "Traceback" in said:
        where = [line.strip() for line in lines if line.startswith("  File")]
        return f"traceback: {lines[-1][:100]} at {where[-1] if where else '?'}"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    if code not in _DOCUMENTED:
        return f"exit code {code}"
    if code and not any(line.startswith(("fluidaudio: ", "Error: ")) for line in lines):
        return f"exit code {code} without a line"
    return ""


def fuzz(
    numbers: range, seed: int, known: dict[str, Kind], keep: Path | None, jobs: int
) -> Iterator[Outcome]:
    """The outcomes of the cases, as they come."""
    _import_everything(known)
    context = multiprocessing.get_context("fork")
    with context.Pool(jobs, _adopt, (known,)) as pool:
        yield from pool.imap_unordered(partial(_adopted_case, seed=seed, keep=keep), numbers, 16)


_adopted: dict[str, Kind] = {}


def _adopt(known: dict[str, Kind]) -> None:
    _adopted.update(known)  # functions in it do not travel by pickle


def _adopted_case(number: int, seed: int, keep: Path | None) -> Outcome:
    return run_case(number, seed, _adopted, keep)


def _import_everything(known: dict[str, Kind]) -> None:
    """Read one valid input of each kind, so that the forked processes need not import."""
    silent = os.open(os.devnull, os.O_WRONLY)
    ours = [(stream, os.dup(stream)) for stream in (1, 2)]
    for stream, _ in ours:
        os.dup2(silent, stream)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for name, kind in known.items():
                seed = kind.seeds[0]
                target = Path(scratch) / seed.name
                (shutil.copytree if seed.is_dir() else shutil.copy)(seed, target)
                if code := process.answered(partial(kind.read, target)):
                    raise SystemExit(f"the valid {name} input {seed} ended with {code}")
                (shutil.rmtree if target.is_dir() else os.unlink)(target)
    finally:
        for stream, kept in ours:
            os.dup2(kept, stream)


def main() -> int:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--no-result", action="store_true", help="leave benchmark results out")
    parser.add_argument("--salvage", action="store_true", help="only audio, in more containers")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fluidaudio-fuzz-seeds-") as folder:
        seeds = Path(folder) / "seeds"
        known = salvaged(seeds) if given.salvage else kinds(seeds, not given.no_result)
        numbers = range(given.first, given.first + given.count)
        outcomes = list(fuzz(numbers, given.seed, known, given.keep, given.jobs))
    for name in known:
        own = [each for each in outcomes if each.kind == name]
        codes = json.dumps(dict(sorted(Counter(each.code for each in own).items())))
        slowest = max((each.seconds for each in own), default=0.0)
        peak = max((each.peak_bytes for each in own), default=0)
        print(f"{name}: {len(own)} cases, codes {codes}, {slowest:.2f} s, {peak / 1e6:.0f} MB")  # noqa: T201
    found: dict[str, list[int]] = {}
    for each in sorted(outcomes, key=lambda one: one.number):
        if each.finding:
            found.setdefault(f"{each.kind}: {each.finding}", []).append(each.number)
    for finding, cases in found.items():
        print(f"{len(cases)} x {finding} (cases {', '.join(map(str, cases[:5]))})")  # noqa: T201
    total = sum(map(len, found.values()))
    minutes = (time.perf_counter() - started) / 60
    print(f"seed {given.seed}: {len(outcomes)} inputs, {total} findings, {minutes:.1f} min")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
