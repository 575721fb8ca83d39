"""Kill commands at random moments, and take away disk and rights: is what is left whole?

    python tools/kill_storm.py [--kills 200] [--seed 0]

Kills are dealt out over ``diarize`` of a folder, ``benchmark``, ``datasets download`` and cold
builds of the compile cache. A command is killed with SIGKILL, started again on what it left, and
so on; then it runs to its end. Checked after every kill: what has a result's name is whole, and
no finished result is lost. At the end: the result is that of a run nobody disturbed, nothing
temporary is left, and no compiled model is damaged. Then eight processes at once on a cold cache,
a disk that fills up (tmpfs; needs the right to mount), and a cache and an output folder that are
read only: each run does its work or ends in one line, with a documented code. Exits with 1 if
anything else happens. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fluidaudio_cli.files import file_sha256, read_record

SAMPLE = Path(__file__).resolve().parent.parent / "datasets" / "sample" / "sample.wav"
_FAST = ("--performance-mode", "fast", "--threads", "2")
_TOGETHER = 8
# Beyond any run here on a busy machine.
_HUNG_SECONDS = 300
# The compiled models of one mode take more, one recording's turns less.
_SMALL_DISK = "4m"
_DOCUMENTED = (0, 1, 2, 3, 4)


@dataclass
class Storm:
    """Where it happens, by which dice, and what was found."""

    folder: Path
    dice: random.Random
    env: dict[str, str]
    say: Callable[[str], object]
    kills: int = 0
    late: int = 0
    runs: int = 0
    findings: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        """Note ``what`` as a finding unless it ``holds``."""
        if not holds:
            self.findings.append(what)
            self.say(f"FOUND {what}")

    def start(self, *arguments: str | Path, **env: str) -> subprocess.Popen[str]:
        """``fluidaudio ARGUMENTS`` in a session of its own."""
        self.runs += 1
        return subprocess.Popen(
            [sys.executable, "-m", "fluidaudio_cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.env, **env},
            start_new_session=True,
        )

    def run(self, *arguments: str | Path, **env: str) -> tuple[int, str, str]:
        """The same to its end: (exit code, stdout, stderr)."""
        return self.finish(self.start(*arguments, **env))

    def finish(self, started: subprocess.Popen[str]) -> tuple[int, str, str]:
        """Wait for its end; checks that it ends as documented, and says why in one line."""
        try:
            out, err = started.communicate(timeout=_HUNG_SECONDS)
        except subprocess.TimeoutExpired:
            _kill(started)
            self.expect(False, f"hangs: {started.args!r}")
            return -1, "", ""
        told = [line for line in err.splitlines() if line.startswith("fluidaudio: ")]
        code = started.returncode
        self.expect("Traceback" not in err, f"a traceback: {err}")
        self.expect(code in _DOCUMENTED, f"exit code {code}: {err}")
        self.expect(code in (0, 3) or len(told) == 1, f"code {code} with the lines {told}: {err}")
        return code, out, err

    def kill_at_random(
        self, kills: int, arguments: Sequence[str | Path], check: Callable[[], None], **env: str
    ) -> None:
        """Start it and kill it, ``kills`` times: anywhere in what an undisturbed run takes."""
        began = time.monotonic()
        self.run(*arguments, **env)
        longest = time.monotonic() - began
        while kills:
            started = self.start(*arguments, **env)
            time.sleep(self.dice.uniform(0.2, 1.0) * longest)
            late = started.poll() is not None
            _kill(started)
            started.communicate()
            check()
            if late:
                # It finds its work done, and is quicker.
                self.late += 1
                longest *= 0.9
            else:
                kills -= 1
                self.kills += 1


def main() -> int:
    """Run it all; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=[*KILLING, *OTHERS])
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-storm-") as name:
        storm = run_storm(Path(name), given.kills, given.seed, given.only, _say)
    _say(
        f"seed {given.seed}: {storm.kills} kills, {storm.runs} runs, "
        f"{len(storm.findings)} findings, {time.monotonic() - began:.0f} s"
    )
    return 1 if storm.findings else 0


def run_storm(
    folder: Path, kills: int, seed: int, only: Sequence[str] | None, say: Callable[[str], object]
) -> Storm:
    """All parts, or some, each in its own folders below ``folder``."""
    env = {
        **os.environ,
        "FLUIDAUDIO_CACHE_DIR": str(folder / "cache"),
        "FLUIDAUDIO_TUNING": str(folder / "none.json"),
        "TMPDIR": str(folder / "tmp"),
        "NO_PROXY": "127.0.0.1",
    }
    (folder / "tmp").mkdir()
    storm = Storm(folder, random.Random(seed), env, say)
    killing = [name for name in KILLING if only is None or name in only]
    weights = sum(KILLING[name][1] for name in killing)
    for name in killing:
        part, weight = KILLING[name]
        share = round(kills * weight / weights)
        kills, weights = kills - share, weights - weight
        _tell(storm, name, partial(part, storm, share))
    for name, check in OTHERS.items():
        if only is None or name in only:
            _tell(storm, name, partial(check, storm))
    return storm


def _tell(storm: Storm, name: str, part: Callable[[], None]) -> None:
    before = storm.kills, storm.late, storm.runs, len(storm.findings)
    part()
    kills, late, runs, findings = (
        now - then
        for now, then in zip(
            (storm.kills, storm.late, storm.runs, len(storm.findings)), before, strict=True
        )
    )
    storm.say(
        f"{name}: {kills} kills ({late} more came too late), {runs} runs, {findings} findings"
    )


def diarize_a_folder(storm: Storm, kills: int) -> None:
    """Results of a folder: whole under their names, and those there stay."""
    talks, out = storm.folder / "talks", storm.folder / "out"
    talks.mkdir()
    for number in range(4):
        (talks / f"{number:02d}.wav").symlink_to(SAMPLE)
    # Anew each time: what is done would be left, and nothing be there to kill.
    arguments = ("diarize", talks, *_FAST, "--format", "json", "--output-dir", out, "--no-resume")
    there: set[str] = set()

    def check() -> None:
        whole = {path.name for path in out.glob("*.json") if read_record(path)}
        storm.expect(whole == {path.name for path in out.glob("*.json")}, "half a result")
        storm.expect(there <= whole, f"lost results: {there - whole}")
        there.update(whole)

    storm.kill_at_random(kills, arguments, check)
    code, _, err = storm.run(*arguments)
    storm.expect(code == 0, f"the last diarize: {err}")
    turns = {json.dumps(json.loads(path.read_bytes())["segments"]) for path in out.glob("*.json")}
    storm.expect(len(turns) == 1, "the same recording has different turns")
    _expect_tidy(storm, out)


def benchmark(storm: Storm, kills: int) -> None:
    """A journal that is whole, and from which a run goes on."""
    result = storm.folder / "bench" / "result.json"
    quick = ("--iterations", "1", "--warmup", "0", "--latency-windows", "0")
    arguments = ("benchmark", *_FAST, *quick, "--output", result)

    def check() -> None:
        storm.expect(not result.exists() or bool(read_record(result)), "half a journal")

    storm.kill_at_random(kills, arguments, check)
    if result.exists():
        code, _, err = storm.run(*arguments, "--resume")
        storm.expect(code == 0, f"--resume: {err}")
    storm.expect(storm.run(*arguments)[0] == 0, "the last benchmark failed")
    _expect_tidy(storm, result.parent)


def download(storm: Storm, kills: int) -> None:
    """Files that are those of the server, with the hashes that are recorded of them."""
    site, data = storm.folder / "site", storm.folder / "data"
    site.mkdir()
    uris = [f"talk{number}" for number in range(6)]
    for uri in uris:
        (site / f"{uri}.wav").write_bytes(storm.dice.randbytes(1_000_000))
        (site / f"{uri}.rttm").write_text(f"SPEAKER {uri} 1 0.5 1.0 <NA> <NA> a <NA> <NA>\n")
    with _served(site) as url:
        (data / "manifests").mkdir(parents=True)
        (data / "manifests" / "tiny.yaml").write_text(
            "schema: fluidaudio.dataset/1\nname: tiny\ntitle: Tiny\nlicence: CC0\n"
            "homepage: https://example.org\ncitation: none\n"
            f'audio: {{url: "{url}/{{uri}}.wav"}}\nreference: {{url: "{url}/{{uri}}.rttm"}}\n'
            "default_split: test\n"
            f"splits:\n  test: {{count: {len(uris)}, uris: [{', '.join(uris)}]}}\n"
        )
        arguments = ("datasets", "download", "tiny", "--data-dir", data)
        got = data / "datasets" / "tiny"

        def check() -> None:
            for path in [*got.rglob("*.wav"), *got.rglob("*.rttm")]:
                if not any(_is_scratch(parent.name) for parent in path.parents):
                    storm.expect(
                        file_sha256(path) == file_sha256(site / path.name), f"half of {path.name}"
                    )
            # Some of it is to be done again.
            for path in sorted(got.rglob("*.wav")):
                if storm.dice.random() < 0.5:
                    path.unlink(missing_ok=True)

        storm.kill_at_random(kills, arguments, check)
        code, _, err = storm.run(*arguments)
        storm.expect(code == 0, f"the last download: {err}")
        code, out, _ = storm.run("datasets", "verify", "tiny", "--data-dir", data)
        storm.expect(code == 0 and "12 files match, 0 changed" in out, f"verify: {out}")
    _expect_tidy(storm, got)
    storm.expect(not list(got.rglob("*.part*")), "a part of a download is left")


def build_cache(storm: Storm, kills: int) -> None:
    """Entries that are whole, or not there; drafts of the killed go."""
    cache = storm.folder / "killed-cache"
    arguments = ("diarize", SAMPLE, *_FAST, "--format", "rttm")
    expected = storm.run(*arguments)[1]

    def check() -> None:
        _expect_whole(storm, cache)
        entries = list((cache / "models").glob("*")) if cache.exists() else []
        if entries and storm.dice.random() < 0.7:  # to be built again, or found
            subprocess.run(["rm", "-rf", storm.dice.choice(entries)], check=True)

    storm.kill_at_random(kills, arguments, check, FLUIDAUDIO_CACHE_DIR=str(cache))
    found = storm.run(*arguments, FLUIDAUDIO_CACHE_DIR=str(cache))
    storm.expect(found == (0, expected, ""), f"the last run: {found}")
    _expect_tidy(storm, cache)


def together(storm: Storm) -> None:
    """As many at once on a cold cache: the same turns, and every model built once."""
    cache = storm.folder / "shared-cache"
    arguments = ("diarize", SAMPLE, *_FAST, "--format", "rttm")
    started = [storm.start(*arguments, FLUIDAUDIO_CACHE_DIR=str(cache)) for _ in range(_TOGETHER)]
    outcomes = {storm.finish(each) for each in started}
    expected = (0, storm.run(*arguments)[1], "")
    storm.expect(outcomes == {expected}, f"{_TOGETHER} at once: {outcomes}")
    _expect_whole(storm, cache)
    _expect_tidy(storm, cache)


def full_disk(storm: Storm) -> None:
    """Cache, results and temporary files on a disk that fills up."""
    for name in ("cache", "out", "tmp"):
        disk = storm.folder / f"small-{name}"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK}", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode:
            storm.say("full disk: not tried, because this user may not mount")
            return
        try:
            _on_full_disk(storm, name, disk)
        finally:
            subprocess.run(["umount", disk], check=True)


def _on_full_disk(storm: Storm, name: str, disk: Path) -> None:
    arguments = ("diarize", SAMPLE, *_FAST, "--format", "json")
    if name == "cache":
        code, _, err = storm.run(*arguments, FLUIDAUDIO_CACHE_DIR=str(disk))
        lines = err.splitlines()
        storm.expect(code == 0 and len(lines) == 1, f"full cache: {code} {err}")
        storm.expect("No space left on device" in err, f"full cache: {err}")
        _expect_whole(storm, disk)
        _expect_tidy(storm, disk)
        return
    filler = disk / "filler"
    with contextlib.suppress(OSError):
        filler.write_bytes(bytes(64_000_000))
    if name == "out":
        done = disk / "done.json"
        code, _, err = storm.run(*arguments, "--output", done)
        storm.expect(code == 4 and len(err.splitlines()) == 1, f"full output: {code} {err}")
        storm.expect(set(disk.iterdir()) == {filler}, "something is left on the full disk")
    else:
        code, _, err = storm.run(*arguments, TMPDIR=str(disk), FLUIDAUDIO_CACHE_DIR="/proc/none")
        # Python takes another temporary folder where it can.
        storm.expect(len(err.splitlines()) == (1 if code == 0 else 2), f"full TMPDIR: {err}")


def read_only(storm: Storm) -> None:
    """A cache and an output folder that cannot be written: for root, a place in /proc."""
    nowhere = Path("/proc/sys")
    code, _, err = storm.run(
        "diarize", SAMPLE, *_FAST, "--format", "rttm", FLUIDAUDIO_CACHE_DIR=str(nowhere)
    )
    line = f"warning: the cache {nowhere} cannot be written ("
    storm.expect(
        code == 0 and err.startswith(line) and len(err.splitlines()) == 1,
        f"read-only cache: {code} {err}",
    )
    for option in ("--output-dir", "--output"):
        place = nowhere if option == "--output-dir" else nowhere / "turns.rttm"
        code, _, err = storm.run("diarize", SAMPLE, *_FAST, "--format", "rttm", option, place)
        storm.expect(
            code == 4 and err.startswith(f"fluidaudio: cannot write to {nowhere}: "),
            f"read-only output: {code} {err}",
        )
    storm.expect(not list((storm.folder / "tmp").iterdir()), "something is left in TMPDIR")


KILLING: Mapping[str, tuple[Callable[[Storm, int], None], int]] = {
    # By how little time each takes.
    "diarize": (diarize_a_folder, 2),
    "benchmark": (benchmark, 1),
    "download": (download, 3),
    "cold-cache": (build_cache, 2),
}
OTHERS: Mapping[str, Callable[[Storm], None]] = {
    "together": together,
    "full-disk": full_disk,
    "read-only": read_only,
}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _kill(started: subprocess.Popen[str]) -> None:
    """The command and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)


def _expect_tidy(storm: Storm, folder: Path) -> None:
    left = [path for path in folder.rglob("*") if _is_scratch(path.name)]
    storm.expect(not left, f"drafts are left: {left}")


def _expect_whole(storm: Storm, cache: Path) -> None:
    for entry in (cache / "models").glob("*"):
        whole = _is_scratch(entry.name) or _entry_is_whole(entry)
        storm.expect(whole, f"a damaged entry under its name: {entry}")


def _is_scratch(name: str) -> bool:
    """As ``fluidaudio_cli.files`` names what is being written."""
    return name.startswith(".fluidaudio-")


def _entry_is_whole(entry: Path) -> bool:
    try:
        files = read_record(entry / "entry.json")["files"]
        return all(file_sha256(entry / name) == facts["sha256"] for name, facts in files.items())
    except (OSError, KeyError):
        return False


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Its clients are killed."""


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    sys.exit(main())
