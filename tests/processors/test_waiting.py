"""Waiting for the workers: done when the offsets say so, and a stall that explains itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.progress import Progress

from processors import waiting
from processors.crew import Crew
from processors.feeding import Fed
from processors.log_reader import LogRecord
from streams.errors import ProcessorError


class Offsets:
    """A group's offsets as a test says: one look takes the next of them."""

    def __init__(self, *looks: tuple[int, int], last_file: int = 4) -> None:
        self.looks, self.last_file, self.asked = list(looks), last_file, 0

    def committed(self, topic: str) -> dict[int, int]:
        events, files = self.looks[min(self.asked // 3, len(self.looks) - 1)]
        self.asked += 1
        return {0: files if topic == "files" else events}

    def ends(self, topic: str) -> dict[int, int]:
        return {0: 6 if topic == "files" else 10}

    def read(self, topic: str) -> Iterator[LogRecord]:
        yield LogRecord(topic, 0, self.last_file, 0, None, None, ())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make looking free and patience short."""
    monkeypatch.setattr(waiting, "POLL_S", 0.0)
    monkeypatch.setattr(waiting, "STALL_S", 0.05)


def watch(offsets: Offsets, tmp_path: Path) -> waiting.Watch:
    crew = Crew([], directory=tmp_path, environment={})
    stage: Any = SimpleNamespace(events="events", files="files", landings="landings", crew=crew)
    reader: Any = offsets
    return waiting.Watch(stage, reader, Progress(disable=True))


@pytest.mark.usefixtures("impatient")
def test_is_done_at_the_last_record_not_at_the_last_marker(tmp_path: Path) -> None:
    """Of the files' topic the last record counts; the kafka transaction's marker behind it is never committed past."""
    offsets = Offsets((0, 0), (4, 2), (10, 3), (10, 5))
    watch(offsets, tmp_path).finish(Fed(produced=10, files=4, landings=10))
    assert offsets.asked >= 12


@pytest.mark.usefixtures("impatient")
def test_a_stall_names_partition_and_offsets(tmp_path: Path) -> None:
    """When offsets stand still, the error says which partition is where, and for how long nothing moved."""
    with pytest.raises(
        ProcessorError,
        match=r"committed nothing for .* events partition 0 is at 7 of 10, landings partition 0 is at 7 of 10, "
        r"files partition 0 is at 2 of 6",
    ):
        watch(Offsets((7, 2)), tmp_path).finish(Fed(produced=10, files=4, landings=10))
