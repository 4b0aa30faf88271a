"""A second judge of lock histories: porcupine, a Go library, run as a program (tests/e2e/porcupine)."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

__all__ = ["opinion", "program"]

SOURCE = Path(__file__).parent / "porcupine"
BUILD_S = 240
JUDGE_S = 240


@cache
def _built(directory: Path) -> tuple[Path | None, str]:
    go = shutil.which("go")
    if go is None:
        return None, "there is no Go here: `go` builds the second judge of lock histories"
    target = directory / "porcupine-locks"
    done = subprocess.run(
        [go, "build", "-o", str(target), "."], cwd=SOURCE, capture_output=True, text=True, timeout=BUILD_S, check=False,
        env=os.environ | {"GOTOOLCHAIN": "local"},
    )  # fmt: skip
    if done.returncode and ("dial tcp" in done.stderr or "no such host" in done.stderr or "proxyconnect" in done.stderr):
        return None, "porcupine cannot be downloaded here"
    assert done.returncode == 0, done.stderr
    return target, ""


def program(directory: Path) -> Path:
    """Return the built program, or skip the test with the reason."""
    target, problem = _built(directory)
    if target is None:
        pytest.skip(problem)
    return target


def opinion(judge: Path, history: Path) -> dict[str, bool]:
    """Return for each lock of a history whether porcupine finds it linearizable, without those that it gives up."""
    done = subprocess.run([str(judge), str(history)], capture_output=True, text=True, timeout=JUDGE_S, check=False)
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode in (0, 1) or (found and any(verdict == "Unknown" for *_, verdict in found)), done.stdout + done.stderr
    return {name: verdict == "Ok" for name, _, verdict in found if verdict != "Unknown"}
