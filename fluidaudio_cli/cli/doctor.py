"""``fluidaudio doctor``: what this machine can do, and what would help where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from fluidaudio_cli.cli import report_output
from fluidaudio_cli.cli.render.tables import coloured, print_line, titled_table
from fluidaudio_cli.errors import FluidAudioError, HostError, reason_of
from fluidaudio_cli.files import folder_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from fluidaudio_cli.cli.models_verify import VerificationReport
    from fluidaudio_cli.diarization.plan import Plan

SCHEMA = "fluidaudio.doctor/1"

# The compiled models of all executors and precisions take about 260 MB.
_LOW_DISK_BYTES = 300_000_000


class Status(str, Enum):
    """``absent`` is normal on some machines; ``failed`` wants attention."""

    ok = "ok"
    absent = "absent"
    failed = "failed"


_STYLES = {Status.ok: "green", Status.absent: "yellow", Status.failed: "bold red"}
_SELF_TESTS = "self-tests"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what it is, how it is, and what to do about it."""

    section: str
    name: str
    status: Status
    detail: str
    remedy: str = ""


def doctor(
    output_format: report_output.FormatOption = None,
    output: report_output.OutputOption = report_output.STDOUT,
) -> None:
    """Look at executors, kernels, codecs, the cache and the models; run the self-tests.

    Exit code 0 when `fluidaudio diarize` can run here, else 4.
    """
    from fluidaudio_cli.cli.models_verify import verify_models

    report_output.check(output, output_format)
    verified: VerificationReport | None = None
    findings = [*_executors(), *_kernels(), *_codecs(), *_storage()]
    try:
        verified = verify_models()
        findings += _models(verified)
    except FluidAudioError as error:
        findings.append(Finding("models", "manifest", Status.failed, error.message, error.remedy))
    verdict, plan = _diarization(verified)
    findings += [verdict, *_plan(plan)]
    document = partial(_document, findings, verdict, plan)
    shown = findings, verified
    report_output.write_report(output, output_format, document, _render_findings, *shown)
    if verdict.status is not Status.ok:
        raise HostError(f"diarize cannot run here: {verdict.detail}", verdict.remedy)


def _render_findings(
    console: Console, findings: list[Finding], verified: VerificationReport | None
) -> None:
    """Print one table of findings, the self-tests' figures, then the remedies."""
    from fluidaudio_cli.cli.render.verification import selftest_table

    table = titled_table("This machine", "", "", "", "", left=4)
    previous = ""
    for one in findings:
        if one.section == _SELF_TESTS:
            continue
        if previous and one.section != previous:
            table.add_section()
        status = coloured(one.status.value, _STYLES[one.status])
        section = "" if one.section == previous else one.section
        table.add_row(section, one.name, status, one.detail)
        previous = one.section
    console.print(table)
    if verified is not None:
        console.print(selftest_table(verified.selftests))
    for one in findings:
        if one.remedy:
            print_line(console, f"{one.name}: {one.remedy}")
    if not any(one.status is Status.failed for one in findings):
        console.print("Everything needed is here.")


def _document(findings: list[Finding], verdict: Finding, plan: Plan | None) -> dict[str, Any]:
    from fluidaudio_cli import __version__
    from fluidaudio_cli.report.diarization_json import describe_host

    return {
        "schema": SCHEMA,
        "fluidaudio_version": __version__,
        "can_diarize": verdict.status is Status.ok,
        "environment": describe_host(),
        "plan": None if plan is None else plan.as_dict(),
        "findings": [{**asdict(one), "status": one.status.value} for one in findings],
    }


def _executors() -> Iterator[Finding]:
    from fluidaudio_cli.executors.select import availabilities

    for name, state in availabilities().items():
        if state.ok:
            detail = f"{state.version}; precisions {', '.join(state.precisions)}"
            yield Finding("executors", name, Status.ok, detail)
        else:
            yield Finding("executors", name, Status.absent, state.reason, state.remedy)


def _kernels() -> Iterator[Finding]:
    from fluidaudio_cli.executors.kernels import kernels

    for kernel in kernels():
        if reason := kernel.unavailable():
            yield Finding("kernels", kernel.title, Status.absent, reason, kernel.remedy())
        else:
            detail = f"{kernel.version()}; {kernel.precision}, between parts the executor runs"
            yield Finding("kernels", kernel.title, Status.ok, detail)


# What recordings are usually in, and FFmpeg's names for it.
_COMMON_CODECS = {
    "WAV": "pcm_s16le",
    "FLAC": "flac",
    "MP3": "mp3",
    "AAC": "aac",
    "Opus": "opus",
    "Vorbis": "vorbis",
}


def _codecs() -> Iterator[Finding]:
    import av
    from av.codec.codec import Codec, UnknownCodecError

    version = ".".join(str(part) for part in av.library_versions["libavcodec"])
    library = f"PyAV {av.__version__}, libavcodec {version}"
    for name, codec in _COMMON_CODECS.items():
        try:
            Codec(codec, "r")
            yield Finding("codecs", name, Status.ok, f"{codec}, {library}")
        except UnknownCodecError:  # noqa: PERF203 - there are six
            remedy = "pip install --force-reinstall av, or convert such files to WAV"
            yield Finding("codecs", name, Status.failed, f"{library} has no {codec}", remedy)


def _storage() -> Iterator[Finding]:
    import shutil
    import tempfile

    from fluidaudio_cli.executors.cache import ENVIRONMENT_VARIABLE, cache_dir

    folder = cache_dir()
    remedy = f"make it writable, or set {ENVIRONMENT_VARIABLE} to a folder that is"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as scratch:
            scratch.write(b"fluidaudio")
        detail = f"{folder}, {folder_bytes(folder) / 1e6:.0f} MB used"
        yield Finding("storage", "cache", Status.ok, detail)
    except OSError as error:
        detail = f"{folder} cannot be used ({reason_of(error)}); models compile at each start"
        yield Finding("storage", "cache", Status.failed, detail, remedy)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    low = free < _LOW_DISK_BYTES
    yield Finding(
        "storage",
        "free space",
        Status.failed if low else Status.ok,
        f"{free / 1e9:.1f} GB beside the cache",
        "free space, or move the cache" if low else "",
    )


def _models(report: VerificationReport) -> Iterator[Finding]:
    for check in report.hashes:
        if check.ok:
            yield Finding("models", check.model, Status.ok, f"sha256 {check.actual}")
        else:
            detail = check.error or f"sha256 {check.actual}, the manifest says {check.expected}"
            yield Finding("models", check.model, Status.failed, detail, "reinstall fluidaudio")
    for test in report.selftests:
        name = f"{test.model} on {test.executor} in {test.precision}"
        figures = "; ".join(str(agreement) for agreement in test.agreements)
        detail = test.error or test.unavailable or figures
        status = Status.absent if test.unavailable else Status.ok if test.ok else Status.failed
        remedy = "" if status is Status.ok else "use another --executor or --precision"
        yield Finding("self-tests", name, status, detail, remedy)


def _diarization(verified: VerificationReport | None) -> tuple[Finding, Plan | None]:
    """Whether the default mode loads, self-tests included, and how it would run."""
    from fluidaudio_cli.diarization.loading import load, make_plan
    from fluidaudio_cli.diarization.modes import DEFAULT_MODE

    section, plan = "diarization", None
    if verified is None or not all(check.ok for check in verified.hashes):
        detail = "the bundled models are not those of the manifest"
        return Finding(section, DEFAULT_MODE, Status.failed, detail, "reinstall fluidaudio"), None
    try:
        plan = make_plan(DEFAULT_MODE)
        pipeline = load(plan)
    except FluidAudioError as error:
        return Finding(section, DEFAULT_MODE, Status.failed, error.message, error.remedy), plan
    ran = {f"{ref.name} {ref.ran['precision']}": ref.ran["executor"] for ref in pipeline.models}
    pipeline.close()
    detail = ", ".join(f"{name} on {executor}" for name, executor in ran.items())
    return Finding(section, DEFAULT_MODE, Status.ok, detail), plan


def _plan(plan: Plan | None) -> Iterator[Finding]:
    if plan is None:
        return
    from fluidaudio_cli.cli.render.plan import plan_lines

    for name, text in plan_lines(plan):
        yield Finding("plan", name, Status.ok, text)
