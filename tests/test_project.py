"""The project's own promises: locks, notices, documentation and packaging agree with the code."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.version import Version

import fluidaudio_cli
from fluidaudio_cli.benchmark.gates import read_gates
from fluidaudio_cli.cli.app import app
from fluidaudio_cli.resources import packages_dir

REPOSITORY = Path(__file__).resolve().parent.parent
PYPROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
RUN_LOCK = "requirements.txt"
DEV_LOCK = "requirements-dev.txt"


class Pin(NamedTuple):
    name: str
    version: str
    marker: str


def declared(key: str) -> list[str]:
    """The lines of a list in pyproject.toml."""
    start = re.search(rf"^{re.escape(key)} = \[\n", PYPROJECT, re.MULTILINE)
    assert start is not None, f"pyproject.toml has no list {key}"
    return PYPROJECT[start.end() : PYPROJECT.index("\n]", start.end())].splitlines()


def requirements(key: str) -> list[Requirement]:
    return [Requirement(line.split('"')[1]) for line in declared(key)]


def pins(lock: str) -> list[Pin]:
    text = (REPOSITORY / lock).read_text(encoding="utf-8")
    found = re.findall(r"^([a-z0-9][\w.-]*)==([^ ]+)(?: ; ([^\\\n]+?))? \\$", text, re.MULTILINE)
    return [Pin(*pin) for pin in found]


def tracked_text() -> Iterator[tuple[str, str]]:
    """Path and content of every tracked text file."""
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout: which files are tracked is unknown")
    listing = subprocess.run(
        [git, "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True, text=True
    )
    for name in filter(None, listing.stdout.split("\0")):
        path = REPOSITORY / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            yield name, content.decode("utf-8", "replace")


@pytest.mark.parametrize("key", ["dependencies", "convert", "peers", "dev", "build"])
def test_every_dependency_has_its_reason_beside_it(key: str) -> None:
    without = [line.strip() for line in declared(key) if not re.search(r'",\s+# \S', line)]
    assert without == []


@pytest.mark.parametrize(
    ("key", "lock"), [("dependencies", RUN_LOCK), ("build", RUN_LOCK), ("dev", DEV_LOCK)]
)
def test_lock_has_every_dependency_in_an_allowed_version(key: str, lock: str) -> None:
    versions: dict[str, list[str]] = {}
    for pin in pins(lock):
        versions.setdefault(pin.name, []).append(pin.version)
    for requirement in requirements(key):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in versions, f"{lock} lacks {name}: run make lock"
        for version in versions[name]:
            assert requirement.specifier.contains(Version(version)), f"{requirement} in {lock}"


def test_tests_run_on_the_versions_that_users_get() -> None:
    assert set(pins(RUN_LOCK)) <= set(pins(DEV_LOCK))


@pytest.mark.parametrize("lock", [RUN_LOCK, DEV_LOCK])
def test_every_locked_package_is_hashed(lock: str) -> None:
    text = (REPOSITORY / lock).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(lock)) > 20
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_neither_users_nor_ci_install_torch() -> None:
    assert "torch" not in {pin.name for pin in pins(DEV_LOCK)}


def test_build_backend_is_the_one_in_the_lock() -> None:
    requires = re.search(r'^requires = \["([^"]+)"\]$', PYPROJECT, re.MULTILINE)
    assert requires is not None
    assert requires.group(1) in [f"{pin.name}=={pin.version}" for pin in pins(RUN_LOCK)]


def test_notices_name_every_package_that_is_installed() -> None:
    notices = (REPOSITORY / "THIRD_PARTY_NOTICES.md").read_text(encoding="utf-8")
    table = notices.partition("| package | licence |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    assert [name for name, _ in rows] == sorted({pin.name for pin in pins(RUN_LOCK)})
    assert [name for name, licence in rows if not licence] == []


def test_licence_of_every_bundled_model_is_beside_it() -> None:
    manifest = json.loads((packages_dir() / "manifest.json").read_text(encoding="utf-8"))
    texts = {
        model["licence"]: (packages_dir() / model["licence_file"]).read_text(encoding="utf-8")
        for model in manifest["models"]
    }
    assert texts.keys() == {"MIT", "Apache-2.0"}
    assert texts["MIT"].startswith("MIT License\n\nCopyright (c) 2022 CNRS\n")
    assert "Apache License\n                           Version 2.0" in texts["Apache-2.0"]


def test_wheel_takes_the_folders_that_the_program_reads() -> None:
    included = dict(re.findall(r'^"(\w+)" = "(fluidaudio_cli/\w+)"$', PYPROJECT, re.MULTILINE))
    assert included == {"configs": "fluidaudio_cli/configs", "datasets": "fluidaudio_cli/datasets"}
    for source, target in included.items():
        assert any((REPOSITORY / source).iterdir())
        # In a checkout it must not be there twice: the copy would be read instead.
        assert not (REPOSITORY / target).exists()


def test_no_registry_host_or_path_of_a_machine_is_tracked() -> None:
    # Put together here, so that this file does not name them either.
    hosts = ["py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian"]
    homes = [f"/{folder}/" for folder in ("home", "Users", "root")]
    forbidden = re.compile("|".join(map(re.escape, [*hosts, str(REPOSITORY)])), re.IGNORECASE)
    home = re.compile("(?<![\\w.*])(?:" + "|".join(homes) + ")[a-z]")
    found = [
        f"{name}: {match.group()}"
        for name, text in tracked_text()
        for match in (*forbidden.finditer(text), *home.finditer(text))
    ]
    assert found == []


def test_version_is_the_same_everywhere() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "fluidaudio_cli", "--version"], capture_output=True, text=True
    )
    assert shown.stdout == f"fluidaudio {fluidaudio_cli.__version__}\n"
    assert importlib.metadata.version("fluidaudio") == fluidaudio_cli.__version__


def documented_commands() -> list[tuple[str, str]]:
    """File and line of every ``fluidaudio`` command in README and workflows."""
    found = []
    for path in [REPOSITORY / "README.md", *sorted(REPOSITORY.glob(".github/workflows/*.yml"))]:
        # Folded YAML and shell continuations are one command.
        text = re.sub(r"\\\n\s*|\n +(?=--|\.venv)", " ", path.read_text(encoding="utf-8"))
        lines = re.findall(r"(?:^|(?<=[ `/]))fluidaudio ([a-z-]+ [^\n`#|>]*|[a-z]+)", text, re.M)
        found += [(path.name, line.strip()) for line in lines if not line.startswith("is ")]
    return found


@pytest.mark.parametrize(("file", "line"), documented_commands())
def test_documented_command_exists_with_its_options(file: str, line: str) -> None:
    words = shlex.split(line)
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), f"{file}: fluidaudio {line}: no such command"
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


def test_documented_gates_are_of_the_dataset_that_is_measured() -> None:
    found = []
    for _, line in documented_commands():
        words = shlex.split(line)
        if "--gate" in words:
            gates = read_gates(REPOSITORY / words[words.index("--gate") + 1])
            assert {gate.dataset for gate in gates} == {words[words.index("--dataset") + 1]}
            found.append(line)
    assert len(found) == 2


def test_every_variable_that_is_read_is_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    source = "".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "fluidaudio_cli").rglob("*.py")
    )
    variables = set(re.findall(r'"(FLUIDAUDIO_[A-Z_]+)"', source))
    assert len(variables) == 4
    assert {name for name in variables if f"`{name}`" not in readme} == set()


def test_documented_make_targets_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    texts = [REPOSITORY / "README.md", *REPOSITORY.glob(".github/workflows/*.yml")]
    used = {
        target
        for path in texts
        for target in re.findall(r"(?<![\w-])make ([a-z-]+)", path.read_text(encoding="utf-8"))
    }
    assert {"diarize", "test"} <= used
    assert used <= targets


def test_documented_gates_are_valid(tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = readme.partition("```yaml\n")[2].partition("```")[0]
    gates = tmp_path / "gates.yaml"
    gates.write_text(block, encoding="utf-8")
    assert [gate.metric for gate in read_gates(gates)] == ["der_strict"]


def test_ci_ends_with_the_test_runner() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith("\nmake check")
    plan = subprocess.run(
        ["make", "-n", "check"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    steps = [line for line in plan if line.startswith(".venv/bin/")]
    assert steps[-1].startswith(".venv/bin/python -m pytest -n 2 ")
    assert {"check", "format", "mypy"} <= {word for step in steps for word in step.split()}
