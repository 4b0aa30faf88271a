"""What is recorded is what is read: also of a process that dies between call and answer, and of several on one file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from processors.core.verify import NEVER_NS, Kind, Outcome, read_history
from processors.verify.recorder import HistoryWriter


def test_operations_come_back_as_they_were_recorded(tmp_path: Path) -> None:
    """Calls in the order of time, each with its answer, or with none."""
    path = tmp_path / "history.jsonl"
    with HistoryWriter(path, client="a") as one, HistoryWriter(path, client="b") as other:
        call = one.call("acquire", "r", grant="g1", lease_ms=500)
        other.call("acquire", "r", grant="g2", lease_ms=500, mode="shared", owner="me")
        call.answered("ok", token=3)
        one.expired("r", grant="g1", granted_ns=call_ns(path))
    operations = read_history([(path.name, path.read_bytes().splitlines())])
    assert {(o.client, o.kind, o.outcome, o.token) for o in operations} == {
        ("a", Kind.ACQUIRE, Outcome.OK, 3),
        ("a", Kind.EXPIRE, Outcome.OK, 0),
        ("b", Kind.ACQUIRE, Outcome.UNKNOWN, 0),
    }
    acquired, asked = (next(o for o in operations if o.grant == name and o.kind is Kind.ACQUIRE) for name in ("g1", "g2"))
    assert acquired.call_ns <= asked.call_ns <= acquired.return_ns < NEVER_NS
    assert asked.return_ns == NEVER_NS
    assert (asked.owner, asked.exclusive) == ("me", False)


def call_ns(path: Path) -> int:
    """When the first operation was asked."""
    return read_history([(path.name, path.read_bytes().splitlines())])[0].call_ns


def test_a_killed_process_leaves_what_it_had_asked(tmp_path: Path) -> None:
    """Nothing waits in a buffer."""
    path = tmp_path / "history.jsonl"
    asked = (
        "import os, sys, pathlib\nfrom processors.verify.recorder import HistoryWriter\n"
        "HistoryWriter(pathlib.Path(sys.argv[1]), client='child').call('acquire', 'r', grant='g', lease_ms=1)\n"
        "os.kill(os.getpid(), 9)"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run([sys.executable, "-c", asked, str(path)], cwd=root, check=False)
    assert done.returncode == -9
    (only,) = read_history([(path.name, path.read_bytes().splitlines())])
    assert only.outcome is Outcome.UNKNOWN


def test_a_closed_file_is_closed_once(tmp_path: Path) -> None:
    """A second close does nothing, and nothing is written after it."""
    history = HistoryWriter(tmp_path / "history.jsonl", client="a")
    history.close()
    history.close()
    with pytest.raises(OSError, match="descriptor"):
        history.call("release", "r", grant="g")
