"""The crew: real processes, watched and stopped."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from processors import crew as crews
from processors.crew import Crew
from streams.errors import ProcessorError
from streams.processes import is_alive, process_id

PATIENCE_S = 20.0


def crew_of(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    """Return a crew whose workers run a script instead of `antiphon`."""
    monkeypatch.setattr(crews, "_RUN", script)
    return Crew(["worker"], directory=tmp_path, environment={"GREETING": "hello"})


def poll(tmp_path: Path, name: str, words: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / name).exists() or words not in (tmp_path / name).read_text():
        assert time.monotonic() < deadline, f"{name} never said {words}"
        time.sleep(0.02)


def test_a_worker_gets_its_name_and_the_environment_and_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs with its instance id, and SIGTERM ends it when the block ends, so that it can finish what it does."""
    script = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('finished', flush=True), sys.exit(0)))\n"
        "print(os.environ['GREETING'], sys.argv[1:], flush=True)\n"
        "time.sleep(60)"
    )
    with crew_of(script, tmp_path, monkeypatch) as crew:
        crew.start("one")
        poll(tmp_path, "one.log", "hello ['worker', '--instance', 'one']")
        crew.check()
        worker = process_id(int((tmp_path / "one.pid").read_text()))
        assert worker is not None
    assert not is_alive(worker)
    poll(tmp_path, "one.log", "finished")


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ignores SIGTERM does not outlive its time."""
    monkeypatch.setattr(crews, "STOP_S", 0.3)
    with crew_of(
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)", tmp_path, monkeypatch
    ) as crew:
        crew.start("deaf")
        poll(tmp_path, "deaf.log", "up")
        worker = process_id(int((tmp_path / "deaf.pid").read_text()))
        assert worker is not None
    deadline = time.monotonic() + PATIENCE_S
    while is_alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_worker_that_ended_is_named_with_its_last_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the exit code and the line that says why, not the farewells that came after it."""
    script = "import sys; print('x'); print('streams.errors.TopicMissing: topic t'); print('[info] stopping'); sys.exit(3)"
    with crew_of(script, tmp_path, monkeypatch) as crew:
        crew.start("w")
        poll(tmp_path, "w.log", "stopping")
        with pytest.raises(ProcessorError, match=r"w ended with exit code 3: streams\.errors\.TopicMissing: topic t$"):
            check_until_it_fails(crew)


def check_until_it_fails(crew: Crew) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        crew.check()
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="a worker's log is read while it is written")
def test_last_words_of_a_silent_worker(tmp_path: Path) -> None:
    """No log, an empty log, a log without an error: each gives words."""
    crew = Crew([], directory=tmp_path, environment={})
    (tmp_path / "empty").touch()
    (tmp_path / "calm").write_text("a\nb\n\nc\nd\n")
    assert [crew.last_words(tmp_path / name) for name in ("none", "empty", "calm")] == [
        "it said nothing",
        "it said nothing",
        "b / c / d",
    ]
