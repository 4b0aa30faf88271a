"""An agent process for the tests of pools: it is killed, frozen and thawed by who started it.

hold POOL NAME LEASE_S CAPACITY     has its tasks and does nothing about them
write POOL NAME LEASE_S             writes with its first task's token, also after it is lost
take QUEUE LEASE_S                  takes one task from a queue, and has it
"""

from __future__ import annotations

import asyncio
import os
import sys

from streams.client import Mesh, connect
from streams.coordination import AgentLost
from streams.transport import Outgoing

env = os.environ
WRITE_EVERY_S = 0.02


def say(line: str) -> None:
    """Write a line for who started this."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def hold(mesh: Mesh, pool: str, name: str, lease_s: float, capacity: int) -> None:
    """Have tasks until the process is killed."""
    async with mesh.agent(name, pool=pool, lease_s=lease_s, capacity=capacity) as agent:
        say("announced")
        async for task in agent:
            say(f"has {task.id} {task.token}")


async def write(mesh: Mesh, pool: str, name: str, lease_s: float) -> None:
    """Write with the first token, also after the task is lost."""
    headers: tuple[tuple[str, bytes], ...] = ()
    number, key, token = 0, "", 0

    async def one() -> None:
        nonlocal number
        number += 1
        await mesh.send(Outgoing(env["SYNC_PREFIX"] + "register.writes", key.encode(), f"{token}:{number}".encode(), headers))

    try:
        async with mesh.agent(name, pool=pool, lease_s=lease_s) as agent:
            say("announced")
            task = await agent.task()
            headers, key, token = task.guard(), f"task:{task.id}", task.token
            await one()
            say(f"has {task.id} {task.token}")
            while True:
                await one()
                await asyncio.sleep(WRITE_EVERY_S)
    except AgentLost:
        await one()
        say(f"lost {number} {task.lost.is_set()}")
    await asyncio.Event().wait()


async def take(mesh: Mesh, queue: str, lease_s: float) -> None:
    """Have one task of a queue until the process is killed."""
    task = await mesh.work(queue).take(lease_s=lease_s)
    say(f"has {task.id} {task.token}")
    await asyncio.Event().wait()


async def main(what: str, *args: str) -> None:
    """Do what the command line says."""
    kafka = {"bootstrap_servers": env["SYNC_SERVERS"], "client_id": env["SYNC_CLIENT"]}
    client = {"coordination_topic_prefix": env["SYNC_PREFIX"], "request_timeout_s": 60}
    async with connect(kafka=kafka, client=client) as mesh:
        if what == "hold":
            await hold(mesh, args[0], args[1], float(args[2]), int(args[3]))
        elif what == "write":
            await write(mesh, args[0], args[1], float(args[2]))
        else:
            await take(mesh, args[0], float(args[1]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
