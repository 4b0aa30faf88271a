"""A client process for the tests of semaphores, barriers and latches: gets something, says so, and stays until it is killed."""

from __future__ import annotations

import asyncio
import os
import sys

from streams.client import Mesh, connect

env = os.environ


def say(line: str) -> None:
    """Write a line for who started this."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def hold(mesh: Mesh, name: str, permits: int, capacity: int, lease_s: float) -> None:
    """Hold permits."""
    async with mesh.semaphore(name, capacity=capacity).permits(permits, lease_s=lease_s) as held:
        say(f"held {held.token}")
        await asyncio.Event().wait()


async def arrive(mesh: Mesh, name: str, parties: int, on_death: str, lease_s: float) -> None:
    """Wait at a barrier; said before, since the wait does not end."""
    say("arriving")
    passed = await mesh.barrier(name, parties=parties).wait(lease_s=lease_s, on_death=on_death)  # type: ignore[arg-type]
    say(f"passed {passed.index}")


async def main(what: str, *args: str) -> None:
    """Do what the command line says."""
    kafka = {"bootstrap_servers": env["SYNC_SERVERS"], "client_id": env["SYNC_CLIENT"]}
    async with connect(kafka=kafka, client={"coordination_topic_prefix": env["SYNC_PREFIX"]}) as mesh:
        if what == "hold":
            name, permits, capacity, lease_s = args
            await hold(mesh, name, int(permits), int(capacity), float(lease_s))
        else:
            name, parties, on_death, lease_s = args
            await arrive(mesh, name, int(parties), on_death, float(lease_s))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
