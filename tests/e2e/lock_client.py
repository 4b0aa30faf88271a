"""A client process for the tests of locks: it is killed, frozen and thawed by who started it.

hold NAME LEASE_S              takes a lock and holds it
freeze NAME LEASE_S            takes it and goes on writing with its token, as a program that does not know would
work HISTORY SECONDS TASKS LEASE_MS RESOURCE...    records what random tasks ask and are answered, until SIGTERM
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from processors.verify.recorder import HistoryCall, HistoryWriter
from schemas.coordination import LockReleased
from schemas.errors import AntiphonError
from streams.client import Mesh, connect
from streams.coordination import Grant, LockLost, LockRefused, LockTimedOut
from streams.transport import Outgoing

env = os.environ
WRITE_EVERY_S = 0.02
LONG_LEASE_MS = int(env.get("LOCK_LONG_LEASE_MS", "6000"))
"""Longer than it takes until another worker has taken over."""
STOPPED = threading.Event()
"""By SIGTERM: what is asked is still answered."""


def say(line: str) -> None:
    """Write a line for who started this."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def hold(mesh: Mesh, name: str, lease_s: float) -> None:
    """Hold it until the process is killed."""
    async with mesh.lock(name, lease_s=lease_s) as grant:
        say(f"held {grant.token}")
        await asyncio.Event().wait()


async def freeze(mesh: Mesh, name: str, lease_s: float) -> None:
    """Write with the first token, also after the lock is lost."""
    headers: tuple[tuple[str, bytes], ...] = ()
    number = 0

    async def write() -> None:
        nonlocal number
        number += 1
        value = f"{token}:{number}".encode()
        await mesh.send(Outgoing(env["SYNC_PREFIX"] + "register.writes", name.encode(), value, headers))

    token = 0
    try:
        async with mesh.lock(name, lease_s=lease_s) as grant:
            headers, token = grant.guard(), grant.token
            await write()
            say(f"held {token}")
            while True:
                await write()
                await asyncio.sleep(WRITE_EVERY_S)
    except LockLost:
        await write()
        say(f"lost {number}")
    await asyncio.Event().wait()


MISSED: dict[str, list[dict[str, Any] | None]] = {}
"""For each owner what was granted to it and over when it was told."""


@dataclass
class Taken:
    """A grant, with its name in the history and the time when it was known."""

    grant: Grant
    name: dict[str, str]
    known_ns: int
    lease_ms: int


class Worker:
    """One task that takes, holds, renews and releases locks at random, and records what it is answered.

    Args:
        mesh: The connection.
        history: Where it is recorded.
        name: The task, which owns what it takes.
        lease_ms: Of most grants; others outlive the worker.
        resources: Of one domain.
    """

    def __init__(self, mesh: Mesh, history: HistoryWriter, name: str, lease_ms: int, resources: list[str]) -> None:
        self.mesh, self.history, self.name, self.lease_ms, self.resources = mesh, history, name, lease_ms, resources
        self.chance, self.number = random.Random(name), 0
        self.past: list[Taken] = []
        self.forgotten: list[Taken] = []

    async def work(self, until: float) -> None:
        """Go on until the time has come."""
        while time.monotonic() < until and not STOPPED.is_set():
            several = self.chance.random() < 0.15
            taken = await self.acquire(self.chance.sample(self.resources, 2) if several else [self.chance.choice(self.resources)])
            if taken is not None:
                await self.use(taken)
        for taken in self.forgotten:
            self.calls("release", taken)  # by the client when it is closed, without an answer

    async def acquire(self, resources: list[str]) -> Taken | None:
        """Ask for some; more than one is recorded as an operation on each."""
        self.number += 1
        mode: Literal["exclusive", "shared"] = "shared" if self.chance.random() < 0.2 else "exclusive"
        wait_s, gives_up = self.chance.choice([0.0, 0.3, 2.0]), self.chance.random() < 0.05
        name, began_ns = {"grant": f"{self.name}-{self.number}", "owner": self.name}, time.monotonic_ns()
        lease_ms = self.chance.choice([self.lease_ms, self.lease_ms, LONG_LEASE_MS])
        calls = [self.history.call("acquire", one, **name, lease_ms=lease_ms, mode=mode) for one in resources]
        MISSED.pop(self.name, None)
        lock = self.mesh.lock(resources, mode=mode, wait_s=wait_s, lease_s=lease_ms / 1000, owner=self.name, renew=False)
        try:
            grant = await asyncio.wait_for(lock.acquire(), 0.05 if gives_up else None)
        except LockTimedOut:
            answered(calls, "timed_out")
        except LockRefused as error:
            # a free lock is busy too where a request for it and another one goes first
            held = error.code == "busy" and len(resources) == 1 and "a request that waits" not in error.reason
            answered(calls, "refused", reason="held" if held else error.code)
        except (AntiphonError, TimeoutError):
            answered(calls, "unknown")
            for one in resources:
                self.history.call("release", one, **name, call_ns=began_ns)  # the client has cancelled what it may have got
        else:
            for call, token in zip(calls, grant.tokens, strict=True):
                call.answered("ok", token=token)
            return Taken(grant, name, time.monotonic_ns(), lease_ms)
        finally:
            for n, ghost in enumerate(MISSED.pop(self.name, ())):  # asked for anew: it was granted, and over before it was told
                for one in resources:
                    fields = {"grant": f"{name['grant']}~{n}", "owner": self.name}
                    call = self.history.call("acquire", one, **fields, lease_ms=lease_ms, mode=mode, call_ns=began_ns)
                    if ghost is None:
                        call.answered("unknown")
                    else:
                        call.answered("ok", token=dict(zip(ghost["resources"], ghost["tokens"], strict=True))[one])
                        self.history.expired(one, granted_ns=began_ns, **fields)
        return None

    async def use(self, taken: Taken) -> None:
        """Hold it for a moment, or for longer than a lease."""
        chance = self.chance
        await asyncio.sleep(chance.choice([0.0, 0.005, 0.03]))
        writes = self.writes(taken.grant)
        await self.write(writes)
        for _ in range(chance.choice([0, 0, 0, 0, 0, 0, 1, 3])):
            await self.renew(taken)
            await asyncio.sleep(self.lease_ms / 2500)
        if chance.random() < 0.1 and (nested := await self.acquire(list(taken.grant.resources))) is not None:
            await self.release(nested)
        if taken.lease_ms < LONG_LEASE_MS and chance.random() < 0.05:
            self.forgotten.append(taken)  # the lease ends
            await asyncio.sleep(self.lease_ms / 1000)
            await self.write(writes)  # as one that does not know
            return
        await self.release(taken)
        self.past.append(taken)
        if chance.random() < 0.1:
            await self.release(chance.choice(self.past))  # once more, or late

    def writes(self, grant: Grant) -> list[Outgoing]:
        """Return a guarded write to each of what it has, where it may write."""
        if grant.mode == "shared" or not grant.held:
            return []
        topic, tokens = env["SYNC_PREFIX"] + "register.writes", zip(grant.resources, grant.tokens, strict=True)
        return [Outgoing(topic, name.encode(), f"{token}:".encode(), grant.guard(name)) for name, token in tokens]

    async def write(self, writes: list[Outgoing]) -> None:
        """Write, and wait until it is in the log; the guard decides about it later."""
        with contextlib.suppress(AntiphonError):
            for record in writes:
                await self.mesh.send(record)

    async def renew(self, taken: Taken) -> None:
        """Renew it, where it may still be held."""
        grant = taken.grant
        if grant.lost.is_set():
            return
        calls = self.calls("renew", taken, lease_ms=taken.lease_ms)
        try:
            await grant.renew(taken.lease_ms / 1000)
            answered(calls, "ok")
        except LockLost:
            answered(calls, "unknown" if grant.why.startswith("its lease") else "refused", reason="lost")
        except AntiphonError:
            answered(calls, "unknown")

    async def release(self, taken: Taken) -> None:
        """Release it by the command itself: the processor decides about it however late it is."""
        grant = taken.grant
        if grant.lost.is_set() and grant.why.startswith("the processor"):
            for one in grant.resources:
                self.history.expired(one, granted_ns=taken.known_ns, **taken.name)
        grant.end()
        calls = self.calls("release", taken)
        try:
            kind, fields = await self.mesh.session.channel.call(grant.release_command(), again_s=1.0, limit_s=20.0)
        except (AntiphonError, TimeoutError):
            answered(calls, "unknown")
            return
        if kind == LockReleased.event_type:
            answered(calls, "ok")
        else:
            answered(calls, "refused", reason=fields["code"])

    def calls(self, op: Literal["renew", "release"], taken: Taken, **fields: int) -> list[HistoryCall]:
        """Record that something is asked of all that a grant has."""
        return [self.history.call(op, one, **taken.name, **fields) for one in taken.grant.resources]


def answered(calls: list[HistoryCall], outcome: Literal["ok", "refused", "timed_out", "unknown"], **fields: str) -> None:
    """Record the same answer to all."""
    for call in calls:
        call.answered(outcome, **fields)


def put_clock_off(off_s: int) -> None:
    """Let this process's wall clock be wrong."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + off_s
    time.time_ns = lambda: right_ns() + off_s * 1_000_000_000


async def main(what: str, *args: str) -> None:
    """Do what the command line says."""
    kafka = {"bootstrap_servers": env["SYNC_SERVERS"], "client_id": env["SYNC_CLIENT"]}
    settings = {"coordination_topic_prefix": env["SYNC_PREFIX"], "request_timeout_s": 20}
    async with connect(kafka=kafka, client=settings) as mesh:
        if what == "work":
            path, seconds, tasks, lease_ms, *resources = args
            me, until = env["SYNC_CLIENT"], time.monotonic() + float(seconds)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, STOPPED.set)
            mesh.session.on_missed = lambda owner, ghost: MISSED.setdefault(owner, []).append(ghost)
            with HistoryWriter(Path(path), client=me) as history:
                say("working")
                workers = [Worker(mesh, history, f"{me}.{n}", int(lease_ms), resources) for n in range(int(tasks))]
                await asyncio.gather(*(worker.work(until) for worker in workers))
            say("done")
        else:
            await (hold if what == "hold" else freeze)(mesh, args[0], float(args[1]))


if __name__ == "__main__":
    put_clock_off(int(env.get("SYNC_CLOCK_OFF_S", "0")))
    asyncio.run(main(*sys.argv[1:]))
