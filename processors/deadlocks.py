"""Finds deadlocks among all that wait, and lets one of each give up. See docs/deadlocks.md.

    coordination.events ──▶ all partitions ─▶ deadlocks ─┬─▶ coordination.commands    wait.check; the victim's request is refused
      (all workers')                              │      └─▶ coordination.deadlocks   each deadlock, whole
                                          table deadlocks

One worker looks: whoever has partition 0 of `coordination.deadlocks`. It reads all events by itself, not as a member of a group,
and keeps a checkpoint of who holds and who waits in the table. What it decides is one kafka transaction of that partition, so two
workers never decide at a time, and one that takes over knows the victims that were chosen.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING, Final

from pydantic import Field

from processors.coordinating.following import Following, happened_ms
from processors.coordination import CoordinationOptions
from processors.core.coordination.deadlocks import CHECKED, Deadlock, Detector, Policy
from processors.core.coordination.lock_places import LOCKS, SEMAPHORES
from processors.core.coordination.lock_view import FOLDS, LockView
from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC, AbortLock
from schemas.errors import SchemaError
from schemas.semaphores import CancelPermits
from schemas.waits import DEADLOCKS_TOPIC, CheckWaits, DeadlockFound, DeadlockWait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams import App, Batch, Table
    from streams.turns.batch import View

__all__ = ["DeadlockOptions", "Watch", "register"]

log = logging.getLogger(__name__)

TABLE: Final = "deadlocks"
PARTITION: Final = 0
"""Of `coordination.deadlocks`: the only one that is used."""
LOOK_MS: Final = 50
"""Between two looks: a twentieth of the second within which a deadlock is to be found. A look that finds none writes nothing."""
PAUSE_SHARE: Final = 3
"""A long look is followed by a pause so many times as long: with tens of thousands that wait one takes a tenth of a second."""
ABSENT_MS: Final = 1_000
"""The events topic is looked for so often while it is not there."""
CHECKPOINT_MS: Final = 5_000
"""Between two checkpoints: a worker that takes over reads again what was told since, seconds of full load."""
CHUNK: Final = 500
"""Events between two chances for others in the loop: some milliseconds."""
LOOK_EVENTS_MAX: Final = 10_000
"""Events of one look; where there are more the next look follows at once."""
IDLE_S: Final = 10.0
"""A worker that has not looked for so long does not have the partition any more, and stops reading."""

VIEW, MARK, OFFSETS, VICTIMS = "view", ("mark",), ("offsets",), ("victims",)
KINDS: Final = (FOLDS.keys() | {CHECKED}) - {"lock.renewed", "semaphore.renewed"}
"""Events that are read: that a lease is longer changes nothing here."""


class DeadlockOptions(CoordinationOptions):
    """What the processor can be told, from the environment: where the topics are is said once for it and for `coordination`."""

    deadlock_policy: Policy = Field("youngest", description="Which owner of a deadlock is to give up.")


class Watch:
    """The detector of one worker, with what it reads.

    Args:
        app: For the codec and the broker.
        options: The processor's.
    """

    def __init__(self, app: App, options: DeadlockOptions) -> None:
        self._app, self._policy = app, options.deadlock_policy
        self._commands, self._events, self._found = (
            options.topic(name) for name in (COMMANDS_TOPIC, EVENTS_TOPIC, DEADLOCKS_TOPIC)
        )
        self._detector: Detector | None = None
        self._following: Following | None = None
        self._mark: str | None = None
        self._kept_ms = 0
        self._idle: asyncio.TimerHandle | None = None

    async def look(self, batch: Batch, rows: View) -> None:
        """Read what has come, and do what it asks for."""
        mark = rows.get(MARK, "")
        known, self._mark = self._mark, None  # until this look is done: what raises leaves a memory that nobody trusts
        if self._detector is None or self._following is None or known != mark:
            self._load(rows)
        assert self._detector is not None
        assert self._following is not None
        self._rest_later()
        if not self._following.begun and not await asyncio.to_thread(self._following.begin):
            self._mark = mark
            batch.wake_at(batch.now_ms + ABSENT_MS)
            return
        events = await self._read(self._detector, self._following)
        if self._following.lost:
            self._forget(rows)
            batch.wake_at(batch.now_ms + 1)
            return
        began = time.monotonic()
        checks, found = self._detector.step(batch.now_ms)
        pause_ms = LOOK_MS + int((time.monotonic() - began) * 1000 * PAUSE_SHARE)
        for check in checks:
            batch.publish(CheckWaits(domain=check.domain, request_id=check.check_id), topic=self._commands)
        for deadlock in found:
            self._tell(batch, deadlock)
        self._mark = mark
        self._keep(rows, batch.now_ms, bool(found))
        batch.wake_at(batch.now_ms + (1 if events >= LOOK_EVENTS_MAX else pause_ms))

    def rest(self) -> None:
        """Read no more, until the next look."""
        self._detector = None
        if self._following is not None:
            self._following.close()
            self._following = None

    # ---- reading

    def _load(self, rows: View) -> None:
        self.rest()
        view = LockView.load((key[1:], row) for key, row in rows.items() if key[0] == VIEW)
        victims = {(kind, domain, request_id): ms for kind, domain, request_id, ms in rows.get(VICTIMS, ())}
        self._detector = Detector(view, policy=self._policy, nonce=f"check.{secrets.token_hex(6)}", victims=victims)
        offsets = dict(rows.get(OFFSETS, ()))
        self._following = Following(self._app.options.client, self._events, offsets)

    def _forget(self, rows: View) -> None:
        """Begin anew with what there is: ends of waits were not read, and who is still known may have gone long ago."""
        log.warning("events of %s are gone that were not read: deadlocks among older waits are not found", self._events)
        for key in list(rows):
            if key[0] == VIEW:
                del rows[key]
        rows[OFFSETS] = []
        rows[MARK] = secrets.token_hex(8)

    async def _read(self, detector: Detector, following: Following) -> int:
        codec, count = self._app.codec, 0
        while count < LOOK_EVENTS_MAX:
            records = following.take(CHUNK)
            for record in records:
                try:
                    kind = codec.type_of(record)
                    if kind in KINDS:
                        detector.take(kind, codec.read(record), happened_ms(record, kind))
                except SchemaError as error:
                    log.warning("%s[%d]@%d is skipped: %s", self._events, record.partition, record.offset, error)
            count += len(records)
            if len(records) < CHUNK:
                break
            await asyncio.sleep(0)
        return count

    def _rest_later(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.rest)

    # ---- writing

    def _tell(self, batch: Batch, found: Deadlock) -> None:
        assert self._detector is not None
        kind, domain, request_id = found.victim.request
        owner, requests = found.victim.owner, self._detector.view.requests
        log.warning("%s", found.reason)
        if kind == LOCKS:
            batch.publish(AbortLock(domain=domain, request_id=request_id, reason=found.reason), topic=self._commands)
        elif kind == SEMAPHORES:
            command = CancelPermits(domain=domain, request_id=request_id, owner=owner, victim_of=found.reason)
            batch.publish(command, topic=self._commands)
        waits = [
            DeadlockWait(
                owner=edge.owner,
                kind=requests[edge.request].kind,
                domain=edge.request[1],
                request_id=edge.request[2],
                name=edge.name,
                since_ms=requests[edge.request].since_ms,
                waits_for=list(edge.owners),
                how=edge.how,
            )
            for edge in found.core.edges
        ]
        told = DeadlockFound(
            domain=domain,
            request_id=request_id,
            owner=owner,
            kind=requests[found.victim.request].kind,
            policy=found.policy,
            reason=found.reason,
            waits=waits,
        )
        batch.publish(told, topic=self._found, partition=PARTITION)

    def _keep(self, rows: View, now_ms: int, found: bool) -> None:
        """Write the victims at once, and a checkpoint from time to time."""
        assert self._detector is not None
        assert self._following is not None
        offsets = sorted(self._following.offsets.items())
        due = now_ms - self._kept_ms >= CHECKPOINT_MS and offsets != [tuple(one) for one in rows.get(OFFSETS, ())]
        if not (found or due):
            return
        self._kept_ms = now_ms
        for key, row in self._detector.view.changes().items():
            place = (VIEW, *key)
            if row is not None:
                rows[place] = row
            elif place in rows:
                del rows[place]
        rows[OFFSETS] = offsets
        rows[VICTIMS] = [(*key, ms) for key, ms in sorted(self._detector.victims.items())]
        self._mark = rows[MARK] = secrets.token_hex(8)


def register(app: App, options: DeadlockOptions | None = None) -> None:
    """Declare the processor, its table and its topic.

    Args:
        app: The app.
        options: Else from the environment.
    """
    options = options or DeadlockOptions.environment()
    table: Table = app.Table(TABLE, immutable_values=True)
    found = app.own_topic(options.topic(DEADLOCKS_TOPIC))
    watch = Watch(app, options)

    @app.agent(app.batch_topic(found), name=TABLE)
    async def deadlocks(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            if batch.partition == PARTITION:
                await watch.look(batch, batch.view(table))
