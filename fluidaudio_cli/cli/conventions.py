"""What all commands have in common: ``-q``, ``-v``, and a help with examples.

The help is drawn in Rich's panels where stdout is a terminal; in a pipe it is plain text.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from fluidaudio_cli.cli import messages, option_rules
from fluidaudio_cli.recordings import is_audio_name

# Command lines by command, each with what it does.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "diarize": (
        ("fluidaudio diarize talk.mp3", "who speaks when, as a table"),
        ("fluidaudio diarize talk.mp3 | fluidaudio score talk.rttm -", "RTTM where piped"),
        ("fluidaudio diarize talks/ --output-dir turns --format json", "a folder, a file each"),
        ("fluidaudio diarize talk.m4a -o talk.srt --num-speakers 2", "format by the ending"),
        ("fluidaudio diarize list.txt --output-dir turns --workers 4", "goes on where it stopped"),
        ("fluidaudio diarize talk.wav --known", "names of enrolled voices (speakers enrol)"),
    ),
    "stream": (
        ("fluidaudio stream mic", "a live view, until Ctrl-C"),
        ("fluidaudio stream talk.mp3 --pace real -o talk.jsonl", "events as they come"),
        ("fluidaudio stream - --rate 16000 --latency 1", "raw samples that are piped to it"),
    ),
    "score": (
        ("fluidaudio score ref.rttm hyp.rttm --uem all.uem", "strict and lenient side by side"),
        ("fluidaudio diarize a.wav | fluidaudio score a.rttm -", "- is standard input"),
        ("fluidaudio score refs/ hyps/ -o scores.csv", "folders, matched by uri"),
    ),
    "plan": (
        ("fluidaudio plan", "how the default mode runs here"),
        ("fluidaudio plan --performance-mode accurate --precision bf16", "as wished for"),
        ("fluidaudio plan --no-tuning --format json", "as stored in every result"),
    ),
    "doctor": (
        ("fluidaudio doctor", "what is here, and what would help where something is not"),
        ("fluidaudio doctor -o doctor.json", "to send along with a question"),
    ),
    "tune": (
        ("fluidaudio tune", "some minutes; diarize uses what was found"),
        ("fluidaudio tune --show --format json", "what is stored"),
        ("fluidaudio tune --forget", "back to the defaults"),
    ),
    "profile": (
        ("fluidaudio profile talk.wav", "stages, operators, memory"),
        ("fluidaudio profile talk.wav -o talk.html --trace talk.json", "a page, and for Perfetto"),
    ),
    "compare": (
        ("fluidaudio compare before.json after.json", "what changed, and whether it is proven"),
        ("fluidaudio compare before.json after.json --fail-on-regression", "exit code 1 if worse"),
    ),
    "diarization-benchmark": (
        ("fluidaudio benchmark", "the default mode on recordings that ship"),
        ("fluidaudio benchmark --performance-mode all --output b.json", "all modes, kept"),
        ("fluidaudio benchmark --dataset recordings/ --gate gates.yaml", "limits by exit code"),
        ("fluidaudio benchmark --performance-mode fast --against main", "is this version slower?"),
    ),
    "modes list": (("fluidaudio modes list", "the modes that ship"),),
    "modes show": (
        ("fluidaudio modes show fast", "every value, its line and its reason"),
        ("fluidaudio modes show mine.yaml --format json", "a file of one's own"),
    ),
    "cache info": (("fluidaudio cache info", "where it is, and how large"),),
    "cache clear": (("fluidaudio cache clear", "models are compiled anew when next needed"),),
    "models list": (("fluidaudio models list", "names, licences, sizes, inputs, outputs"),),
    "models verify": (("fluidaudio models verify --executor openvino", "hashes and self-tests"),),
    "models inspect": (("fluidaudio models inspect mine.mlpackage", "what a package holds"),),
    "models card": (
        ("fluidaudio models card seg.mlpackage emb.mlpackage -o mine.yaml", "a first draft"),
    ),
    "models check": (
        ("fluidaudio models check mine.yaml", "a card against its networks"),
        ("fluidaudio models check mine.yaml --calibrate talks", "and what its voices are worth"),
    ),
    "models lower": (("fluidaudio models lower embedding -o embedding.onnx", "as it runs here"),),
    "datasets list": (("fluidaudio datasets list", "corpora, and how much is here"),),
    "datasets download": (("fluidaudio datasets download ami-sdm", "what is missing of it"),),
    "datasets verify": (("fluidaudio datasets verify ami-sdm", "files against their hashes"),),
    "datasets path": (("fluidaudio datasets path ami-sdm", "its folder"),),
    "identify": (
        ("fluidaudio identify call.wav", "whose voices are heard, with probabilities"),
        ("fluidaudio identify call.wav --known Ada,Bob --max-false-accept 0.1%", "only of these"),
    ),
    "speakers enrol": (
        ("fluidaudio speakers enrol Ada ada-1.wav ada-2.m4a", "a voice, from two recordings"),
        ("fluidaudio speakers enrol Bob m.wav --from SPEAKER_01 --turns m.rttm", "one of several"),
    ),
    "speakers list": (("fluidaudio speakers list --store team.jsonl", "a store of one's own"),),
    "speakers show": (("fluidaudio speakers show Ada", "the recordings it was heard in"),),
    "speakers rename": (("fluidaudio speakers rename Ada 'Ada L.'", "turns carry the new name"),),
    "speakers merge": (("fluidaudio speakers merge Ada Ada2", "they are one person"),),
    "speakers remove": (
        ("fluidaudio speakers remove Bob", "nothing of him stays"),
        ("fluidaudio speakers remove Ada --learned", "back to what was enrolled"),
    ),
    "speakers export": (("fluidaudio speakers export Ada -o ada.jsonl", "to take along"),),
    "speakers import": (("fluidaudio speakers import ada.jsonl", "all of it or nothing"),),
    "speakers check": (("fluidaudio speakers check", "who sounds like whom"),),
    "simulate": (
        ("fluidaudio simulate -o talks -n 4 --speakers 2-3", "conversations with exact RTTM"),
        ("fluidaudio simulate -o noisy --noise babble --snr 5", "the same with others behind"),
    ),
}
_ALIASES = {"benchmark": "diarization-benchmark"}
# Of a group's commands; the program itself has more.
_MOST_EXAMPLES = 7


class Command(TyperCommand):
    """A command with ``-q`` and ``-v``; its help ends in examples."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for names, help_text, effect in (
            (("--quiet", "-q"), "Only results and errors.", messages.set_quiet),
            (("--verbose", "-v"), "Say also how it runs.", messages.set_verbose),
        ):
            self.params.append(
                TyperOption(
                    param_decls=list(names),
                    is_flag=True,
                    default=False,
                    expose_value=False,
                    callback=lambda _ctx, _param, value, effect=effect: effect(value),
                    help=help_text,
                )
            )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Typer's, then the rules of options that need each other or are at odds.

        ``--known`` may stand alone, also before a recording: Typer cannot say so.
        """
        following = [*args[1:], "-"]
        args = [
            f"{own}="
            if own == "--known" and (after.startswith("-") or is_audio_name(Path(after)))
            else own
            for own, after in zip(args, following, strict=False)
        ]
        given, _, order = self.make_parser(ctx).parse_args(list(args))
        rest = super().parse_args(ctx, args)
        option_rules.check_values(given, order)
        option_rules.check(ctx, _command(ctx))
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Typer's, then the examples."""
        self.rich_markup_mode = _markup()
        super().format_help(ctx, formatter)
        _show_examples(EXAMPLES.get(_command(ctx), ()), formatter)


class Group(TyperGroup):
    """A group of commands whose help is drawn as theirs; its examples are its commands' first."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Typer's, then the examples."""
        self.rich_markup_mode = _markup()
        super().format_help(ctx, formatter)
        paths = [f"{_command(ctx)} {name}".lstrip() for name in self.commands]
        firsts = [EXAMPLES[path][0] for path in paths if path in EXAMPLES]
        _show_examples(firsts[:_MOST_EXAMPLES], formatter)


def _show_examples(examples: Sequence[tuple[str, str]], formatter: Any) -> None:
    if _markup() is None:
        with formatter.section("Examples"):
            for line, what in examples:
                formatter.write(f"  {line}\n      {what}\n")
        return
    from rich import box
    from rich.panel import Panel
    from rich.text import Text

    from fluidaudio_cli.cli.render.console import stdout_console

    text = Text("\n").join(
        Text.assemble((line, "bold"), "\n    ", (what, "dim")) for line, what in examples
    )
    panel = Panel(text, title="Examples", title_align="left", border_style="dim", box=box.ROUNDED)
    stdout_console().print(panel)


def adopt(app: typer.Typer) -> None:
    """Give all commands of ``app`` and of its groups what is common to them."""
    for command in app.registered_commands:
        command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            group.typer_instance.info.cls = Group
            group.cls = Group
            adopt(group.typer_instance)


def _command(ctx: Any) -> str:
    """The command's words after the program's own name, whichever that is."""
    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, ctx.info_name)
        ctx = ctx.parent
    return _ALIASES.get(" ".join(words), " ".join(words))


def _markup() -> Any:
    return "markdown" if sys.stdout.isatty() else None
