"""``fluidaudio models``: the bundled Core ML packages, and any other: look, verify, lower."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fluidaudio_cli.cli import messages, report_output
from fluidaudio_cli.cli.models_check import check
from fluidaudio_cli.files import folder_bytes

app = typer.Typer(
    help="The bundled Core ML packages, and any other: look, verify, lower to ONNX.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Package = Annotated[
    str, typer.Argument(metavar="NAME|PATH", help="A bundled model, an .mlpackage or .mlmodelc.")
]


_Function = Annotated[
    str | None,
    typer.Option("--function", metavar="NAME", help="Of several functions. Default: its own."),
]


@app.command("list")
def list_models(
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """List the bundled models: what they are, whose, how large, what goes in and out."""
    from fluidaudio_cli.cli.render.verification import render_models
    from fluidaudio_cli.models.registry import bundled_models

    models = list(bundled_models().values())
    sizes = {model.name: folder_bytes(model.package) for model in models}
    document = {
        "schema": "fluidaudio.models-list/1",
        "models": [
            {
                "name": model.name,
                "path": str(model.package),
                "size_bytes": sizes[model.name],
                **{key: value for key, value in model.facts.items() if key != "name"},
            }
            for model in models
        ],
    }
    report_output.write_report(output, output_format, document, render_models, models, sizes)


@app.command()
def verify(
    executor: Annotated[
        str, typer.Option(metavar="NAME|all", help="Where to run the self-tests.")
    ] = "all",
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Check the packages' hashes, and run their self-tests on every executor present.

    Exit code 4 when anything fails.
    """
    from fluidaudio_cli.cli.models_verify import first_failure, verify_models
    from fluidaudio_cli.cli.render.verification import render_verification

    report_output.check(output, output_format)
    report = verify_models(executor)
    report_output.write_report(output, output_format, report.as_dict, render_verification, report)
    if failure := first_failure(report):
        raise failure


@app.command()
def inspect(
    package: _Package,
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
    function: _Function = None,
) -> None:
    """Show inputs, outputs, operations, precision, size and parameters of a package."""
    from fluidaudio_cli.cli.render.models import render_report
    from fluidaudio_cli.coreml.inspect import inspect_package
    from fluidaudio_cli.models.registry import package_of

    report = inspect_package(package_of(package), function)
    report_output.write_report(output, output_format, report.as_dict, render_report, report)


@app.command()
def lower(
    package: _Package,
    output: Annotated[
        Path, typer.Option(*report_output.OUTPUT_NAMES, metavar="PATH", help="Where it goes.")
    ],
    float_type: Annotated[
        str, typer.Option(help="fp32 widens fp16 tensors; fp16 keeps the package's own types.")
    ] = "fp32",
    function: _Function = None,
) -> None:
    """Write the ONNX model that runs off the Mac in place of the package."""
    from fluidaudio_cli.errors import UsageError
    from fluidaudio_cli.executors.lowering import lower_checked
    from fluidaudio_cli.files import atomic_path
    from fluidaudio_cli.models.registry import package_of

    report_output.check_ending("--output", output, (".onnx",))
    if float_type not in ("fp32", "fp16"):
        raise UsageError(f"--float-type {float_type} is not known", "use fp32 or fp16")
    content = lower_checked(package_of(package), function, float_type)  # type: ignore[arg-type]
    with atomic_path(output) as draft:
        draft.write_bytes(content)
    messages.say(f"wrote {output} ({len(content)} bytes)")


@app.command()
def card(
    packages: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="The .mlpackage or .mlmodelc of each role."),
    ],
    output: Annotated[
        Path,
        typer.Option(*report_output.OUTPUT_NAMES, metavar="CARD.yaml|-", help="Where it goes."),
    ] = report_output.STDOUT,
) -> None:
    """Draft a model card from what packages say of themselves.

    What it could not know is a comment in the card, and a line on stderr.
    """
    from fluidaudio_cli.models.draft import draft_card

    if output != report_output.STDOUT:
        report_output.check_ending("--output", output, (".yaml", ".yml"))
    folder = Path() if output == report_output.STDOUT else output.parent
    draft = draft_card(packages, folder)
    report_output.write(output, draft.text)
    for line in draft.unknown:
        messages.say(line)
    if output != report_output.STDOUT:
        messages.say(f"wrote {output}; try it with fluidaudio models check {output}")


app.command("check")(check)
