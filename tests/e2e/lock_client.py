"""A client process for the tests of locks: it is killed, frozen and thawed by who started it.

hold NAME LEASE_S              takes a lock and holds it
freeze NAME LEASE_S            takes it and goes on writing with its token, as a program that does not know would
work HISTORY SECONDS TASKS LEASE_MS RESOURCE...    records what random tasks ask and are answered
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from processors.verify.recorder import HistoryWriter
from schemas.errors import AntiphonError
from streams.client import Mesh, connect
from streams.coordination import LockLost, LockRefused, LockTimedOut
from streams.transport import Outgoing

env = os.environ
WRITE_EVERY_S = 0.02


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
        await mesh.send(Outgoing(env["SYNC_PREFIX"] + "register.writes", b"register", value, headers))

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


async def work(mesh: Mesh, history: HistoryWriter, until: float, lease_ms: int, resources: list[str], task: str) -> None:
    """Take, hold, renew and release locks at random until the time has come."""
    chance, number = random.Random(task), 0
    while time.monotonic() < until:
        number += 1
        resource, name = chance.choice(resources), f"{task}-{number}"
        mode = "shared" if chance.random() < 0.2 else "exclusive"
        call = history.call("acquire", resource, grant=name, owner=task, lease_ms=lease_ms, mode=mode)
        wait_s = chance.choice([0.0, 0.3, 2.0])
        lock = mesh.lock(resource, mode=mode, wait_s=wait_s, lease_s=lease_ms / 1000, owner=task, renew=False)  # type: ignore[arg-type]
        try:
            grant = await lock.acquire()
        except LockTimedOut:
            call.answered("timed_out")
            continue
        except LockRefused as error:
            call.answered("refused", reason=error.code)
            continue
        except AntiphonError:
            call.answered("unknown")
            continue
        call.answered("ok", token=grant.token)
        await asyncio.sleep(chance.choice([0.0, 0.01, 0.05]))
        if chance.random() < 0.2:
            call = history.call("renew", resource, grant=name, owner=task, lease_ms=lease_ms)
            try:
                await grant.renew(lease_ms / 1000)
                call.answered("ok")
            except LockLost as error:
                call.answered("refused" if "lease of" not in str(error) else "unknown", reason="lost")
            except AntiphonError:
                call.answered("unknown")
        if chance.random() < 0.1:
            continue  # forgets it: the lease ends
        call = history.call("release", resource, grant=name, owner=task)
        heard = grant.held
        try:
            await grant.release()
            call.answered("ok")
        except LockLost:
            call.answered("refused" if heard else "unknown", reason="lost")
        except AntiphonError:
            call.answered("unknown")


async def main(what: str, *args: str) -> None:
    """Do what the command line says."""
    kafka = {"bootstrap_servers": env["SYNC_SERVERS"], "client_id": env["SYNC_CLIENT"]}
    settings = {"coordination_topic_prefix": env["SYNC_PREFIX"], "request_timeout_s": 20}
    async with connect(kafka=kafka, client=settings) as mesh:
        if what == "work":
            path, seconds, tasks, lease_ms, *resources = args
            me, until = env["SYNC_CLIENT"], time.monotonic() + float(seconds)
            with HistoryWriter(Path(path), client=me) as history:
                say("working")
                await asyncio.gather(
                    *(work(mesh, history, until, int(lease_ms), resources, f"{me}.{n}") for n in range(int(tasks)))
                )
            say("done")
        else:
            await (hold if what == "hold" else freeze)(mesh, args[0], float(args[1]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
