"""The patterns of one lane: which versions run there, and every batch through them.

What runs on a lane is state, and is written in the kafka transaction of the offsets that it holds for. So after a crash or a
rebalance the same version goes on at the same offset, whatever the patterns topic says by then; a change comes into force
between two batches.

    table cep-lanes     ["lane"]            {"token", "control"}
                        ["version", n]      {"name", "definition", "status", "reason", "told"}
                        ["marks", n]        the clock of version n here
    table cep-states    [n, key]            see `rows`

    status     active ──▶ paused ──▶ active          events pass unseen, waits rest
               active ──▶ draining ──▶ gone          replaced with `drain`: nothing begins, what has begun ends
               active ──▶ dropping ──▶ gone          replaced with `restart`, or removed: rows are deleted, some each batch

In memory beside the tables: the heaps of `versions.Run`, made anew from the tables when the lane comes to this worker. The
*token* is a word that every batch that changes something writes: where the table has another than the memory, something else
has happened since (a batch was dropped, another worker had the lane), and the memory is made anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from processors.core.cep.snapshot import StateMismatch
from processors.patterns.control import words
from processors.patterns.needs import drains_into
from processors.patterns.results import Results
from processors.patterns.versions import Compiled, Run
from processors.patterns.work import Work
from streams.errors import CannotGoOn

if TYPE_CHECKING:
    from processors.patterns.control import Control
    from processors.patterns.follower import Snapshot
    from processors.patterns.reading import Taken
    from processors.patterns.rows import Row
    from processors.patterns.versions import Shelf, Status
    from streams.turns.batch import Batch, View

__all__ = ["Lane", "LaneBatch"]

LANE: Final = ("lane",)
DROP_MAX: Final = 2_000
"""Rows of a dropped version deleted by one batch: half a batch's worth of writes, so that records do not wait long."""
BEHIND_MS: Final = 1_000
"""When to look again at a partition that has unread records and waits: its records bring a batch before that."""

_NONCE: Final = secrets.token_hex(8)


class Lane:
    """What is kept in memory of one lane."""

    def __init__(self) -> None:
        self.token: str | None = None
        """The token of the tables that this memory goes with; None: make it anew."""
        self.seq = -1
        """The snapshot that was applied last."""
        self.control = 0
        """The offset on the patterns topic up to which refused records were reported."""
        self.runs: dict[int, Run] = {}
        self.epoch = 0
        """Grows when the set of versions or a status changes."""


class LaneBatch:
    """One batch on one lane.

    Args:
        lane: The lane.
        batch: The batch.
        lanes: The batch's view of the table of lanes.
        rows: The batch's view of the table of states.
        shelf: Compiled versions.
        results: Where to write.
        topics_of: The full names of the topics whose batches bring a version its events.
        sources_of: The sources, "topic/partition", from which a version's events may come on this lane.
        row_bytes_max: Bytes of a row.
    """

    _counter = 0

    def __init__(
        self,
        lane: Lane,
        batch: Batch,
        *,
        lanes: View,
        rows: View,
        shelf: Shelf,
        results: Results,
        topics_of: Callable[[Run], Iterable[str]],
        sources_of: Callable[[Run, int], Iterable[str]],
        row_bytes_max: int,
    ) -> None:
        self._lane, self._batch, self._lanes, self._rows = lane, batch, lanes, rows
        self._shelf, self._results, self._topics_of, self._sources_of = shelf, results, topics_of, sources_of
        self._row_bytes_max = row_bytes_max
        self._changed = False

    # ---- before and after

    def open(self, snapshot: Snapshot) -> None:
        """Make the memory fit the tables.

        Raises:
            CannotGoOn: A version that is to run was stored by a release that knows more than this one.
        """
        lane = self._lane
        stored = self._lanes.get(LANE)
        token = "" if stored is None else stored["token"]
        known, lane.token = lane.token, None  # until the batch is done: what raises leaves a memory that nobody trusts
        if known != token:
            self._load(0 if stored is None else stored["control"], snapshot)

    def _load(self, control: int, snapshot: Snapshot) -> None:
        lane, lanes = self._lane, self._lanes
        lane.runs, lane.seq, lane.control = {}, -1, control
        lane.epoch += 1
        for key, value in lanes.items():
            if key[0] != "version":
                continue
            version = key[1]
            compiled = self._compiled(version, value, snapshot)
            clock = lanes.get(("marks", version))
            run = lane.runs[version] = Run.load(version, compiled, value["status"], clock, value["reason"], dict(value["told"]))
            run.since = self._batch.now_ms
        row: Row
        for (version, key), row in self._rows.items():
            owner = lane.runs.get(version)
            if owner is None:
                continue  # cannot be: a version's rows go before it does
            owner.index(key, row)
            if owner.status == "dropping":
                owner.to_drop.append(key)
        for run in lane.runs.values():
            run.indexed()
            if run.compiled.problem and run.status != "dropping":
                self._drop(run, "replaced" if run.name in snapshot.controls else "removed")

    def _compiled(self, version: int, stored: dict[str, Any], snapshot: Snapshot) -> Compiled:
        """Return a stored version, ready to run, or what stands for it where it is only to be deleted."""
        try:
            return self._shelf.get(version, stored["definition"])
        except Exception as problem:
            name = stored["name"]
            now = snapshot.controls.get(name)
            over = (now is None and name not in snapshot.kept) or (now is not None and now.version > version)
            if stored["status"] != "dropping" and not (over and snapshot.end >= self._lane.control):
                raise CannotGoOn(
                    f"pattern {name!r}, version {version}, runs on partition {self._batch.partition} and cannot be run by this "
                    f"release ({words(problem)}): run the release that published it, or remove or replace it"
                ) from problem
            return Compiled.gone(name, words(problem), self._shelf.catalogue)

    def close(self) -> None:
        """Store what changed of the lane itself."""
        lane = self._lane
        if self._changed:
            LaneBatch._counter += 1
            token = f"{_NONCE}.{LaneBatch._counter}"
            self._lanes[LANE] = {"token": token, "control": lane.control}
        else:
            stored = self._lanes.get(LANE)
            token = "" if stored is None else stored["token"]
        lane.token = token

    def give_up(self) -> None:
        """Leave the memory as trusted as it was, where the records could not be read and nothing else has been changed."""
        if not self._changed:
            self.close()

    # ---- versions

    def apply(self, snapshot: Snapshot) -> None:
        """Bring the lane to what the patterns topic says, as far as it has not been."""
        lane = self._lane
        if snapshot.seq == lane.seq or snapshot.end < lane.control:
            return  # the second: another worker, which had the lane, had read further; this one is about to
        lane.seq = snapshot.seq
        current = {run.name: run for run in lane.runs.values() if run.status in ("active", "paused")}
        for name, control in snapshot.controls.items():
            self._bring(current.get(name), control)
        for name, run in current.items():
            if name not in snapshot.controls and name not in snapshot.kept:
                self._drop(run, "removed")
                for older in [one for one in lane.runs.values() if one.name == name and one.status == "draining"]:
                    self._drop(older, "removed")
        if snapshot.end > lane.control:
            if self._batch.partition == 0:  # one lane speaks for all
                for refused in snapshot.refused:
                    if refused.offset >= lane.control:
                        self._results.refused(refused.name, refused.offset, refused.reason)
            lane.control = snapshot.end
            self._changed = True

    def _bring(self, run: Run | None, control: Control) -> None:
        assert control.definition is not None
        status: Status = "paused" if control.paused else "active"
        if run is not None and run.version == control.version:
            if run.status != status:
                self._set(run, status)
            return
        if control.version in self._lane.runs or (run is not None and control.version < run.version):
            return  # what this lane has is newer: the topic was made anew, or a worker's view of it is behind
        compiled = self._shelf.get(control.version, control.definition)
        clock = None if run is None else run.clock()
        new = self._lane.runs[control.version] = Run.load(control.version, compiled, status, clock)
        sources = set(self._sources_of(new, self._batch.partition))
        if compiled.need.keyed is None:
            new.marks.only(sources)
        new.marks.expect(sources, self._batch.now_ms)
        if run is not None:
            self._replace(run, new)
        self._set(new, status)

    def _replace(self, run: Run, new: Run) -> None:
        """Let the version before drain or drop it, and those before it that drain still."""
        older = [one for one in self._lane.runs.values() if one.name == run.name and one.status == "draining"]
        for one in (run, *older):
            cannot = drains_into(one.compiled.need, new.compiled.need)
            if new.compiled.definition.on_replace != "drain" or cannot:
                self._drop(one, "replaced" if not cannot else f"replaced: it cannot drain, {cannot}")
            elif one is run:
                self._set(run, "draining")

    def _drop(self, run: Run, reason: str) -> None:
        run.reason = reason
        if run.compiled.problem:  # which topics it read is not known, so it is told on the first that brings a batch
            self._results.activated(run.name, run.version, reason.partition(":")[0], self._batch.effects.next_offset)
        run.to_drop = [key for version, key in self._rows if version == run.version]
        self._set(run, "dropping")

    def _set(self, run: Run, status: Status) -> None:
        run.status = status
        if status == "active":
            run.since = self._batch.now_ms
        self._lane.epoch += 1
        self._write(run)

    def _write(self, run: Run) -> None:
        self._lanes["version", run.version] = run.stored()
        self._lanes["marks", run.version] = run.clock()
        self._changed = True

    def _tell(self, run: Run) -> None:
        """Say from which offset of the batch's partition a version has its status, once."""
        topic = self._batch.topic
        said = run.told.get(topic)
        if topic not in self._topics_of(run) or (said is not None and said[0] == run.status):
            return
        records = self._batch.records
        offset = records[0].offset if records else self._batch.effects.next_offset
        action: str = {"active": "activated" if said is None else "resumed", "dropping": run.reason.partition(":")[0]}.get(
            run.status, run.status
        )
        self._results.activated(run.name, run.version, action, offset)
        run.told[topic] = [run.status, offset]
        self._write(run)

    def _told(self, run: Run) -> bool:
        """Return whether every topic of a version has been told its status: only then may it go."""
        return all((said := run.told.get(topic)) is not None and said[0] == run.status for topic in self._topics_of(run))

    # ---- events

    def process(self, found: dict[int, Taken], *, behind: Callable[[Run], list[str]]) -> None:
        """Take the batch's events, let time pass, and go on with what is to be deleted.

        Args:
            found: For each version its events.
            behind: The sources of a version that are known to have unread records.
        """
        lane, batch, now = self._lane, self._batch, self._batch.now_ms
        paused = {run.name for run in lane.runs.values() if run.status == "paused"}
        for run in list(lane.runs.values()):
            self._tell(run)
            if run.status == "dropping":
                self._delete(run)
                continue
            if run.name in paused:
                continue
            work = Work(run, self._rows, self._results, now, row_bytes_max=self._row_bytes_max)
            unread = behind(run)
            run.marks.hear(now, unread, listening_since_ms=run.since)
            if run.version in found:
                work.take(found[run.version])
            if work.tick(unread):
                batch.wake_at(now + 1)
            elif (due := work.next_ms()) is not None and (at := run.reaches(due, now)) is not None:
                batch.wake_at(max(at, now + (BEHIND_MS if unread else 1)))
            if work.changed:
                self._lanes["marks", run.version] = run.clock()
                self._changed = True
            if run.status == "draining" and not run.rows and batch.topic in self._topics_of(run) and self._told(run):
                self._results.activated(run.name, run.version, "drained", batch.effects.next_offset)
                self._forget(run)

    def _delete(self, run: Run) -> None:
        """Delete some rows of a version that is going, and say what went where it was replaced."""
        rows, results, matcher = self._rows, self._results, run.compiled.matcher
        dropped, run.to_drop = run.to_drop[:DROP_MAX], run.to_drop[DROP_MAX:]
        for key in dropped:
            row: Row = rows[run.version, key]
            if run.reason != "removed" and not run.compiled.problem:
                try:
                    state = row.state(matcher)
                except StateMismatch as problem:
                    results.failed(run.name, run.version, key, None, str(problem))
                    state = None
                if state is not None:
                    results.dropped(run.name, run.version, key, matcher.view(state), run.reason)
            del rows[run.version, key]
            run.rows -= 1
        self._changed = self._changed or bool(dropped)
        if run.to_drop:
            self._batch.wake_at(self._batch.now_ms + 1)
        elif self._told(run):
            self._forget(run)

    def _forget(self, run: Run) -> None:
        del self._lane.runs[run.version]
        del self._lanes["version", run.version]
        if ("marks", run.version) in self._lanes:
            del self._lanes["marks", run.version]
        self._lane.epoch += 1
        self._changed = True
