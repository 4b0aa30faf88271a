"""Waits until the workers are done, by their committed offsets; says why when nothing moves."""

from __future__ import annotations

import time
from typing import Final

from rich.progress import Progress

from processors.feeding import Fed
from processors.log_reader import LogReader
from processors.stage import Stage
from streams.errors import ProcessorError

__all__ = ["Watch"]

POLL_S: Final = 0.25
"""Between two looks: a look is three requests, a turn lasts some 100 ms."""
STALL_S: Final = 90.0
"""Without progress for so long, the run gives up: a worker's start takes 5 s, and a takeover after a crash under 20 s."""


class Watch:
    """Follows one run: every event processed, every landing matched, then every changed file folded.

    Args:
        on: The run's stage.
        reader: For offsets.
        progress: For the bars.
    """

    def __init__(self, on: Stage, reader: LogReader, progress: Progress) -> None:
        self._on, self._reader, self._progress = on, reader, progress
        self._bars = {
            topic: progress.add_task(name, total=None)
            for name, topic in (("events", on.events), ("landings", on.landings), ("files", on.files))
        }
        self._committed: dict[str, dict[int, int]] = {topic: {} for topic in self._bars}
        self._looked = self._moved = time.monotonic()

    def look(self, fed: Fed) -> None:
        """Update the bars and check the workers, unless that was done just now.

        Args:
            fed: What was produced so far.

        Raises:
            ProcessorError: A worker has ended, or nothing has moved for `STALL_S`.
        """
        now = time.monotonic()
        if now - self._looked < POLL_S:
            return
        self._looked = now
        self._on.crew.check()
        for topic, total in self._totals(fed).items():
            committed = self._reader.committed(topic)
            if committed != self._committed[topic]:
                self._committed[topic], self._moved = committed, now
            self._progress.update(self._bars[topic], completed=min(sum(committed.values()), total), total=total)
        if now - self._moved > STALL_S:
            raise ProcessorError(self._why())

    def finish(self, fed: Fed) -> None:
        """Return when every event, every landing and every changed file is processed.

        Events and landings were written without kafka transactions: their last offset is that of the last record. In the files'
        topic each kafka transaction ends with a marker that takes an offset and that no consumer is given, so the last record is
        looked for.

        Raises:
            ProcessorError: A worker has ended, or nothing has moved for `STALL_S`.
        """
        for topic in (self._on.events, self._on.landings):
            self._await(topic, self._reader.ends(topic), fed)
        after = {}
        for record in self._reader.read(self._on.files):
            after[record.partition] = record.offset + 1
        self._await(self._on.files, after, fed)
        for topic, total in self._totals(fed).items():
            self._progress.update(self._bars[topic], completed=total)

    def _totals(self, fed: Fed) -> dict[str, int]:
        return {self._on.events: fed.produced, self._on.landings: fed.landings, self._on.files: fed.files}

    def _await(self, topic: str, ends: dict[int, int], fed: Fed) -> None:
        while True:
            self.look(fed)
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
