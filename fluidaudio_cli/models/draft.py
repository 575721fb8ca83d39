"""A first draft of a model card, from what packages say of themselves.

Names, shapes, roles and what the last operations tell of the scores are read off the packages. The
rest is guessed or left open, and each such value is said in a comment on its line: a draft is to be
read by someone who knows the networks, and then checked (``fluidaudio models check``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fluidaudio_cli.coreml.ir import Operation, Program
from fluidaudio_cli.coreml.package import read_program
from fluidaudio_cli.errors import ModelFormatError, UsageError
from fluidaudio_cli.models.card import SCHEMA, SHIPPED, Shape

# More samples than any network's frames or bands: what tells audio from features.
_LEAST_AUDIO = 1_000
# The window and frames of pyannote's segmentation, whose hop no shape tells.
_PYANNOTE = {(160_000, 589): (270, 991)}
# Hop and length of a frame, as most embeddings were trained with.
_KALDI = (160, 400)
_CHECK = "not in the package; `fluidaudio models check` tests it"
_UNTOLD = "not in the package"
# Operations at a network's end that change no value.
_PASSING = frozenset({"cast", "identity", "reshape", "transpose", "squeeze", "expand_dims"})


@dataclass
class _Section:
    """Lines of one role: (key, value, what is not known of it)."""

    role: str
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def say(self, key: str, value: object, unsure: str = "") -> None:
        self.rows.append((key, str(value), unsure))


class _Seen(NamedTuple):
    """A package's program, and its tensors by name."""

    program: Program
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


@dataclass(frozen=True)
class Draft:
    """A card as text, and what it could not know, a line each."""

    text: str
    unknown: tuple[str, ...]


def draft_card(packages: Sequence[Path], folder: Path) -> Draft:
    """The card of ``packages``, whose files it names relative to ``folder``.

    Raises ``UsageError`` where they are no set, and ``ModelFormatError`` for what is no package.
    """
    sections: dict[str, _Section] = {}
    for path in packages:
        section = _section(path, folder)
        if section.role in sections:
            raise UsageError(
                f"two packages have the role {section.role}, the second is {path}",
                "give one of each role",
            )
        sections[section.role] = section
    if "diarizer" not in sections and not {"segmentation", "embedding"} <= sections.keys():
        missing = {"segmentation", "embedding"} - sections.keys()
        raise UsageError(
            f"the packages have no {' and no '.join(sorted(missing))}",
            "give segmentation and embedding, with a front end if need be, or one diarizer",
        )
    if "embedding" in sections and ("pooling", "crop", "") in sections["embedding"].rows:
        sections.setdefault("front_end", _bundled_front_end())
    top = _Section("")
    top.say("schema", SCHEMA)
    top.say("title", _text(", ".join(path.stem for path in packages)))
    top.say("licence", "unknown", _UNTOLD)
    top.say("sample_rate", 16_000, "not in the package, and nothing else can be run")
    lines = _lines(top, "")
    order = ("segmentation", "front_end", "embedding", "diarizer")
    found = [sections[role] for role in order if role in sections]
    for section in found:
        lines += ["", f"{section.role}:", *_lines(section, "  ")]
    unknown = [
        f"{section.role + '.' if section.role else ''}{key}: {value} is a guess: {unsure}"
        for section in (top, *found)
        for key, value, unsure in section.rows
        if unsure
    ]
    unknown.append("thresholds, calibration: none: those of the bundled networks are used")
    return Draft("\n".join(lines) + "\n", tuple(unknown))


def _lines(section: _Section, indent: str) -> list[str]:
    return [
        f"{indent}{key}: {value}" + (f"  # {unsure}" if unsure else "")
        for key, value, unsure in section.rows
    ]


def _bundled_front_end() -> _Section:
    section = _Section("front_end")
    why = "none was given, and the embedding takes features; the bundled filter bank is Kaldi's"
    section.say("file", f"{SHIPPED}fbank.mlpackage", why)
    section.say("inputs", "{audio: [batch, 1, 32240]}")
    section.say("outputs", "{frames: [batch, 200, 80]}")
    section.say("lowest_precision", "fp32")
    return section


def _section(path: Path, folder: Path) -> _Section:
    program = read_program(path)
    inputs = {value.name: _shape(value.type.shape) for value in program.main.inputs}
    outputs = {value.name: _shape(value.type.shape) for value in program.main.block.outputs}
    section = _Section(_role(path, inputs, outputs))
    try:
        file = path.resolve().relative_to(folder.resolve())
    except ValueError:
        file = path.resolve()
    section.say("file", _text(str(file)))
    section.say("licence", "unknown", _UNTOLD)
    for key, tensors in (("inputs", inputs), ("outputs", outputs)):
        names = {size for shape in tensors.values() for size in shape if isinstance(size, str)}
        free = ", ".join(sorted(names - {"batch"}))
        section.say(key, _shown(tensors), f"free in the package: a number for {free}" * bool(free))
    describe = {
        "segmentation": _say_segmentation,
        "front_end": _say_front_end,
        "embedding": _say_embedding,
        "diarizer": _say_diarizer,
    }
    describe[section.role](section, _Seen(program, inputs, outputs))
    return section


def _role(path: Path, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> str:
    """What a network is for, by the tensors that go in and out."""
    if not outputs or not all((*inputs.values(), *outputs.values())):
        raise ModelFormatError(
            f"{path} has no output, or a tensor without a shape", "write its section by hand"
        )
    audio = [name for name, shape in inputs.items() if _number(shape[-1]) >= _LEAST_AUDIO]
    result = next(iter(outputs.values()))
    if _states(inputs, outputs) or len(inputs) > 2:
        return "diarizer"
    if len(inputs) == 1 and len(outputs) == 1:
        if audio and len(result) == 3:
            # A few scores for each frame, or a spectrum.
            return "segmentation" if _number(result[2]) < 20 else "front_end"
        if not audio and len(result) == 2:
            return "embedding"
    if len(inputs) == 2 and len(audio) == 1 and len(result) == 2:
        return "embedding"
    raise ModelFormatError(
        f"{path} is no kind of network that a card knows: {_shown(inputs)} to {_shown(outputs)}",
        "see docs/models.md",
    )


def _say_segmentation(section: _Section, package: _Seen) -> None:
    ((*_, samples),), ((_, frames, classes),) = package.inputs.values(), package.outputs.values()
    total, count = _number(samples), _number(frames)
    hop, seen = _PYANNOTE.get((total, count), (total // max(1, count), 0))
    why = "as pyannote's, which has these shapes" if seen else f"of the shapes; {_CHECK}"
    section.say("hop_samples", hop, why)
    section.say("receptive_field_samples", seen or total - (count - 1) * hop, why)
    speakers = next((n for n in range(2, 10) if 1 + n + n * (n - 1) // 2 == classes), None)
    if speakers:
        section.say("classes", "powerset", f"{classes} classes are those of {speakers}; {_CHECK}")
    else:
        section.say("classes", "per-speaker", _CHECK)
    section.say("speakers", speakers or classes, "" if speakers is None else _CHECK)
    section.say("scores", *_scores(package.program))


def _say_front_end(section: _Section, package: _Seen) -> None:
    ((*_, samples),), ((_, frames, _bands),) = package.inputs.values(), package.outputs.values()
    total, count = _number(samples), _number(frames)
    hop, seen, why = *_KALDI, "10 and 25 ms, as Kaldi's, which fit the shapes"
    if not 0 <= total - (count - 1) * hop - seen < hop:
        hop, why = total // max(1, count), "of the shapes"
        seen = total - (count - 1) * hop
    section.say("hop_samples", hop, why)
    section.say("frame_samples", seen, why)
    section.say("lowest_precision", "fp32", "spectra of quiet speech need it, as a rule")


def _say_embedding(section: _Section, package: _Seen) -> None:
    if len(package.inputs) == 2:
        mask = min(package.inputs, key=lambda name: _number(package.inputs[name][-1]))
        section.say("pooling", "mask")
        section.say("mask_input", _text(mask), "the shorter input")
        return
    section.say("pooling", "crop")
    ((name, _),) = package.inputs.items()
    reading = [one for one in package.program.main.block.operations if _reads(one, name)]
    own = any(one.kind == "reduce_mean" for one in reading)
    why = "the network does so itself" if own else "the network begins without; Kaldi's recipe does"
    section.say("subtract_mean", str(not own).lower(), why)


def _say_diarizer(section: _Section, package: _Seen) -> None:
    states = _states(package.inputs, package.outputs)
    free = {name: shape for name, shape in package.inputs.items() if name not in states}
    audio = max(free, key=lambda name: _size(free[name]))
    results = {
        name: shape for name, shape in package.outputs.items() if name not in states.values()
    }
    activity = next((name for name, shape in results.items() if len(shape) == 3), "")
    section.say("audio_input", _text(audio), "the largest input that is no state")
    section.say("activity_output", _text(activity or "unknown"), "the output of three axes")
    section.say("states", _mapping({name: _text(other) for name, other in states.items()}))
    frames = _number(results[activity][1]) if activity else 1
    hop = _number(free[audio][-1]) // max(1, frames)
    section.say("hop_samples", hop, "of the shapes; wrong where the input is no audio")
    section.say("scores", *_scores(package.program, activity))
    section.say("delay_frames", 0, _UNTOLD)
    section.say("context_frames", 0, _UNTOLD)
    section.say("not_speakers", "[]", _UNTOLD)
    others = [name for name in free if name != audio]
    if others:
        section.say(
            "constants",
            _mapping(dict.fromkeys(others, "1")),
            "what they are for is not in the package; see hearing_input and deciding_input",
        )


def _states(inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> dict[str, str]:
    """Inputs that an output of the same shape and a name made of theirs goes on from."""
    return {
        name: other
        for name, shape in inputs.items()
        for other, result in outputs.items()
        if result == shape and other != name and (other.startswith(name) or other.endswith(name))
    }


def _scores(program: Program, output: str = "") -> tuple[str, str]:
    """What the last operation says of the scores, and what it does not."""
    made = {value.name: one for one in program.main.block.operations for value in one.outputs}
    names = [value.name for value in program.main.block.outputs]
    last = made.get(output or names[0])
    while last is not None and last.kind in _PASSING:
        last = made.get(last.inputs["x"][0].name)
    kind = "" if last is None else last.kind
    if kind in ("softmax", "sigmoid"):
        return "probabilities", ""
    if kind == "log" or (kind == "sub" and last is not None and _normalises(last, made)):
        return "log-probabilities", ""
    return "logits", f"the last operation is {kind or 'unknown'}; {_CHECK}"


def _normalises(last: Operation, made: Mapping[str, Operation]) -> bool:
    taken = made.get(last.inputs["y"][0].name)
    return taken is not None and taken.kind == "reduce_log_sum_exp"


def _reads(operation: Operation, name: str) -> bool:
    return any(value.name == name for values in operation.inputs.values() for value in values)


def _shape(sizes: Sequence[int | str | None]) -> Shape:
    return tuple(
        size if isinstance(size, int) else "batch" if axis == 0 else str(size or "unknown")
        for axis, size in enumerate(sizes)
    )


def _number(size: int | str) -> int:
    return size if isinstance(size, int) else 0


def _size(shape: Shape) -> int:
    return math.prod(max(1, _number(size)) for size in shape)


def _shown(tensors: Mapping[str, Shape]) -> str:
    return _mapping({name: f"[{', '.join(map(str, shape))}]" for name, shape in tensors.items()})


def _mapping(values: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{_text(name)}: {value}" for name, value in values.items()) + "}"


def _text(text: str) -> str:
    """Quoted where YAML would read something else: a comment, a list, a number."""
    import yaml

    listed = yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=math.inf)
    return str(listed).strip()[1:-1]
