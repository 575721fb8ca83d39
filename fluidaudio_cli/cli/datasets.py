"""``fluidaudio datasets``: list, download, verify and find corpora."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluidaudio_cli.cli import messages, report_output
from fluidaudio_cli.cli.render.tables import print_line, titled_table
from fluidaudio_cli.errors import HostError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from fluidaudio_cli.corpora.catalogue import CatalogueRow

app = typer.Typer(
    help="List, download, verify and find corpora.", no_args_is_help=True, rich_markup_mode=None
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="See: fluidaudio datasets list.")]
_Split = Annotated[str | None, typer.Option(help="Part of the corpus; by default the test split.")]
_DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Where corpora lie; by default FLUIDAUDIO_DATA_DIR, else the user's data folder."
    ),
]


@app.command("list")
def list_datasets(
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
    data_dir: _DataDir = None,
) -> None:
    """Show the known corpora, and how much of each is here."""
    from fluidaudio_cli.corpora.catalogue import catalogue

    rows = catalogue(data_dir)
    document = [row.as_dict() for row in rows]
    report_output.write_report(output, output_format, document, _render_catalogue, rows)


def _render_catalogue(console: Console, rows: Sequence[CatalogueRow]) -> None:
    """Print one line per split."""
    headings = ("dataset", "split", "what", "licence", "recordings", "here")
    table = titled_table("Datasets", *headings, left=4)
    previous = ""
    for row in rows:
        first = row.name != previous
        previous = row.name
        also = f" (also {', '.join(row.aliases)})" if row.aliases else ""
        table.add_row(
            row.name + also if first else "",
            row.split + (" *" if row.default else ""),
            row.title if first else "",
            row.licence if first else "",
            str(row.recordings),
            str(row.here),
        )
    console.print(table)
    print_line(console, "* used when no split is named. Any folder of audio and RTTM works too.")


@app.command()
def download(
    name: _Name,
    split: _Split = None,
    max_files: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first N recordings.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Downloads at a time; by default 4.")
    ] = None,
    data_dir: _DataDir = None,
) -> None:
    """Download what is missing of a corpus; run again, it resumes where it stopped."""
    from fluidaudio_cli.corpora.download import download_dataset

    with messages.progress_bar(f"downloading {name}") as progress:
        done = download_dataset(
            name,
            split,
            max_files=max_files,
            data_dir=data_dir,
            jobs=jobs,
            progress=progress,
        )
    typer.echo(
        f"{done.name} {done.split}: {done.downloaded} files downloaded "
        f"({done.bytes / 1e6:.1f} MB), {done.present} already here, in {done.folder}"
    )
    if done.recorded:
        messages.say(
            f"{done.recorded} files had no published hash: theirs is recorded now, and "
            "`fluidaudio datasets verify` holds them to it"
        )


@app.command()
def verify(
    name: _Name,
    split: _Split = None,
    data_dir: _DataDir = None,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Hash every downloaded file against its published or recorded hash."""
    from fluidaudio_cli.corpora.verify import verify_dataset

    report_output.check(output, output_format)
    checks = verify_dataset(name, split, data_dir=data_dir)
    counts = dict.fromkeys(("ok", "changed", "lost", "absent", "unrecorded"), 0)
    for check in checks:
        counts[check.status] += 1
        if check.status not in ("ok", "absent"):
            typer.echo(f"{check.status}: {check.path}", err=True)
    line = (
        f"{name}: {counts['ok']} files match, {counts['changed']} changed, {counts['lost']} lost, "
        f"{counts['absent']} not downloaded, {counts['unrecorded']} without a recorded hash"
    )
    report_output.write_report(
        output,
        output_format,
        {"schema": "fluidaudio.datasets-verify/1", "name": name, "counts": counts},
        print_line,
        line,
    )
    if counts["changed"]:
        raise InputError(
            f"{counts['changed']} files of {name} differ from their hash",
            "delete them and download again",
        )
    if counts["lost"]:
        raise HostError(f"{counts['lost']} files of {name} are gone", "download it again")


@app.command()
def path(name: _Name, split: _Split = None, data_dir: _DataDir = None) -> None:
    """Print the folder of a downloaded corpus."""
    from fluidaudio_cli.corpora.dataset import open_dataset

    dataset = open_dataset(name, split, data_dir=data_dir)
    absent = dataset.missing()
    if not any(file.is_file() for item in dataset.items for file in item.paths):
        dataset.require()
    if absent:
        messages.say(
            f"{len(absent)} of its files are not downloaded; run: {dataset.download_command}"
        )
    typer.echo(str(dataset.folder))
