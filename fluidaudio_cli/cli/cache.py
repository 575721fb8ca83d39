"""``fluidaudio cache``: what was compiled and measured once, to be found again."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluidaudio_cli.cli import messages, report_output
from fluidaudio_cli.errors import UsageError, os_errors
from fluidaudio_cli.files import folder_bytes, folder_files
from fluidaudio_cli.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    help="The cache of compiled models: where it is, how large, and to empty it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# What the folders of the cache hold. Nothing else there is deleted: a benchmark's journal is no
# copy of anything.
_CONTENTS = {
    "models": "compiled models",
    "selftests": "self-tests that passed",
    "memory": "peaks of memory measured for --memory-limit",
    "conversations": "conversations made for benchmarks",
}


@app.command()
def info(
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Show where the cache is, and how many files and bytes of each kind it holds."""
    from fluidaudio_cli.executors.cache import cache_dir

    folder = cache_dir()
    kinds = {name: {"what": what, **_counted(folder / name)} for name, what in _CONTENTS.items()}
    size = sum(int(kind["bytes"]) for kind in kinds.values())
    document = {
        "schema": "fluidaudio.cache/1",
        "path": str(folder),
        "bytes": size,
        "kinds": kinds,
    }

    def render(console: Console) -> None:
        console.print(f"{folder}, {size / 1e6:.1f} MB", soft_wrap=True)
        for kind in kinds.values():
            if kind["files"]:
                files = counted(int(kind["files"]), "file")
                console.print(f"  {kind['what']}: {files}, {int(kind['bytes']) / 1e6:.1f} MB")

    report_output.write_report(output, output_format, document, render)


@app.command()
def clear(
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help=f"Only one of {', '.join(_CONTENTS)}."),
    ] = None,
) -> None:
    """Empty the cache. Nothing is lost but time: what is needed is made anew."""
    from fluidaudio_cli.executors.cache import cache_dir

    if kind is not None and kind not in _CONTENTS:
        raise UsageError(f"--kind {kind} is not known", f"use {', '.join(_CONTENTS)}")
    folder, freed = cache_dir(), 0
    for name in (kind,) if kind else _CONTENTS:
        freed += int(_counted(folder / name)["bytes"])
        remedy = "check its permissions, and that no fluidaudio is running"
        with os_errors(f"cannot empty {folder / name}", remedy):
            while (folder / name).exists():  # another process may remove the same
                with suppress(FileNotFoundError):
                    shutil.rmtree(folder / name)
    messages.say(f"freed {freed / 1e6:.1f} MB in {folder}")


def _counted(folder: Path) -> dict[str, int | str]:
    return {"files": len(folder_files(folder)), "bytes": folder_bytes(folder)}
