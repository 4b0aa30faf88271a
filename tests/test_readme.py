"""The README does what it says: its commands run in order, its programs are run by them, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.ports import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

RUN_S = 200.0
"""For all commands: 55 s on two idle cores, which here they never are."""

STOP_S = 60.0
"""For the broker to end, should a command have failed before the README stops it."""

SKIPPED = "make "
"""What .ci/run and the tests of the demo run."""


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def _commands(directory: Path) -> str:
    """A directory with an `antiphon` command and the metadata of its entry points, as if this checkout were installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = directory / f"antiphon-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: antiphon\nVersion: {project['version']}\n")
    points = project["entry-points"]
    lines = [line for group in points for line in (f"[{group}]", *(f"{name} = {at}" for name, at in points[group].items()))]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    python = shlex.quote(sys.executable)
    for name, call in {"antiphon": f"{python} -c 'from streams.cli import main; main()'", "python": python}.items():
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        script.chmod(0o755)
    return str(directory)


def _script() -> str:
    """All bash blocks in order, each announced; any command that fails ends it."""
    parts = ["set -euo pipefail"]
    for number, block in enumerate(_blocks("bash")):
        lines = [line for line in block.splitlines() if not line.startswith(SKIPPED)]
        parts += [f"echo '--- block {number}'", *lines]
    return "\n".join(parts) + "\n"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables that give the commands a broker of their own; whatever they leave running is ended."""
    commands = _commands(tmp_path / "commands")
    taken: set[int] = set()
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")},
        "PATH": os.pathsep.join([commands, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), commands]),
        "ANTIPHON_BROKER__PORT": str(free_port("127.0.0.1", taken)),
        "ANTIPHON_BROKER__DATA_DIR": str(tmp_path / "broker"),
        "ANTIPHON_WORKER__STATE_DIR": str(tmp_path / "state"),
        "COLUMNS": "200",
    }
    yield variables
    subprocess.run([f"{commands}/antiphon", "broker", "stop"], env=variables, timeout=STOP_S, check=True, capture_output=True)


def test_the_commands_of_the_readme_run_in_order(tmp_path: Path, environment: dict[str, str]) -> None:
    """Every block but `make ...` succeeds on a broker of its own, finds what the text says, and leaves no process behind."""
    work = tmp_path / "work"
    work.mkdir()
    for block in (*_blocks("python"), *_blocks("yaml")):
        name = re.match(r"# ([\w-]+\.(?:py|yaml))\n", block)
        assert name, f"a program says its file's name first: {block[:40]}"
        (work / name[1]).write_text(block, encoding="utf-8")
    with (tmp_path / "out").open("w+b") as out:
        shell = subprocess.Popen(
            ["bash", "-c", _script()], cwd=work, env=environment, stdout=out, stderr=out, start_new_session=True
        )
        try:
            code = shell.wait(RUN_S)
        except subprocess.TimeoutExpired:
            code = -1
        alive = _end_group(shell.pid)
    text = (tmp_path / "out").read_text(errors="replace")
    assert code == 0, text + _logs(work)
    said = "overlap.found", "this is no event", "MalformedRecord", "1 redriven", "on all replicas", "ada T-4"
    for expected in (*said, "same-file@", "no partial", "built 1f3a", "term 1 and the lock", "held by", "work.assigned"):
        assert expected in text, f"{expected!r} is not in:\n{text}{_logs(work)}"
    assert re.search(r"\bada 0 of 2\b", text), text
    assert (work / "again.jsonl").read_text().count("\n") >= 3
    assert not alive, f"left running:\n{text}{_logs(work)}"


def _end_group(group: int) -> bool:
    """Let the shell's process group end by itself (a worker finishes its turn), kill what is left; say whether anything was."""
    deadline = time.monotonic() + STOP_S
    try:
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _logs(work: Path) -> str:
    return "".join(f"\n=== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in sorted(work.glob("*.log")))


def test_every_command_of_the_readme_has_its_blocks() -> None:
    """The extraction finds the blocks: an empty test would pass for ever."""
    script = _script()
    known = "broker start", "topics create", "produce", "worker", "tail", "replay", "deadletters redrive", "broker stop"
    for command in (*known, "cep publish", "worker coordination", "locks"):
        assert f"antiphon {command}" in script
    assert "make demo" not in script
    assert len(_blocks("python")) >= 2


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))])
def test_links_between_the_pages_lead_somewhere(page: str) -> None:
    """Every relative link of the README and the docs names a file that is there."""
    home = (ROOT / page).parent
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8"))
    assert not [link for link in links if not (home / link).exists()]


def test_the_list_of_docs_is_complete() -> None:
    """docs/README.md names every page."""
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
