"""Waits until the workers are done, by their committed offsets; says why when nothing moves."""

from __future__ import annotations

import time
from typing import Final

from rich.progress import Progress

from processors.log_reader import LogReader
from processors.stage import Stage
from streams.errors import ProcessorError

__all__ = ["Watch"]

POLL_S: Final = 0.1
"""Between two looks: a look is two requests, a turn lasts some 50 ms."""
STALL_S: Final = 90.0
"""Without progress for so long, the run gives up: a worker's start takes 5 s, and a takeover after a crash under 20 s."""


class Watch:
    """Follows one run: every event processed, then every changed file folded.

    Args:
        on: The run's stage.
        reader: For offsets.
        progress: For the bars.
    """

    def __init__(self, on: Stage, reader: LogReader, progress: Progress) -> None:
        self._on, self._reader, self._progress = on, reader, progress
        self._bars = {on.events: progress.add_task("events", total=None), on.files: progress.add_task("files", total=None)}
        self._committed: dict[str, dict[int, int]] = {on.events: {}, on.files: {}}
        self._looked = self._moved = time.monotonic()

    def look(self, events: int, files: int) -> None:
        """Update the bars and check the workers, unless that was done just now.

        Args:
            events: Produced so far.
            files: Of these, changed files.

        Raises:
            ProcessorError: A worker has ended, or nothing has moved for `STALL_S`.
        """
        now = time.monotonic()
        if now - self._looked < POLL_S:
            return
        self._looked = now
        self._on.crew.check()
        for topic, total in ((self._on.events, events), (self._on.files, files)):
            committed = self._reader.committed(topic)
            if committed != self._committed[topic]:
                self._committed[topic], self._moved = committed, now
            self._progress.update(self._bars[topic], completed=min(sum(committed.values()), total), total=total)
        if now - self._moved > STALL_S:
            raise ProcessorError(self._why())

    def finish(self, events: int, files: int) -> None:
        """Return when every event and every changed file is processed.

        The events were written without kafka transactions: their last offset is that of the last record. In the files' topic each
        kafka transaction ends with a marker that takes an offset and that no consumer is given, so the last record is looked for.

        Raises:
            ProcessorError: A worker has ended, or nothing has moved for `STALL_S`.
        """
        self._await(self._on.events, self._reader.ends(self._on.events), events, files)
        after = {}
        for record in self._reader.read(self._on.files):
            after[record.partition] = record.offset + 1
        self._await(self._on.files, after, events, files)
        self._progress.update(self._bars[self._on.files], completed=files)

    def _await(self, topic: str, ends: dict[int, int], events: int, files: int) -> None:
        while True:
            self.look(events, files)
            committed = self._committed[topic]
            if all(committed.get(partition, 0) >= end for partition, end in ends.items()):
                return
            time.sleep(POLL_S)

    def _why(self) -> str:
        behind = [
            f"{topic} partition {partition} is at {committed.get(partition, 0)} of {end}"
            for topic, committed in self._committed.items()
            for partition, end in self._reader.ends(topic).items()
            if committed.get(partition, 0) < end
        ]
        words = "; ".join(f"{log.stem} says: {self._on.crew.last_words(log)}" for log in self._on.crew.logs)
        return (
            f"the workers committed nothing for {STALL_S:.0f} s: {', '.join(behind) or 'all offsets are at their end'}; {words}"
        )
