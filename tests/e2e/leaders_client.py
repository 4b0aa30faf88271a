"""A client process for the tests of elections and consensus: stands, or joins and votes, and says what becomes of it."""

from __future__ import annotations

import asyncio
import os
import sys

from streams.client import Mesh, connect
from streams.coordination import LeadershipLost

env = os.environ


def say(line: str) -> None:
    """Write a line for who started this."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def lead(mesh: Mesh, name: str, owner: str, lease_s: float) -> None:
    """Lead whenever it is elected; after a loss stand again."""
    say("standing")
    while True:
        try:
            async with mesh.election(name).lead(owner=owner, value=f"pid {os.getpid()}", lease_s=lease_s) as leadership:
                fence = leadership.guard()[0][1].decode()
                say(f"leads {leadership.term} {leadership.token} {fence}")
                await asyncio.Event().wait()
        except LeadershipLost as error:
            say(f"lost {error}")


async def agree(mesh: Mesh, name: str, member: str, size_min: int, value: str) -> None:
    """Agree with the others."""
    say("joining")
    decision = await mesh.consensus(name, member=member, size_min=size_min).agree(value)
    say(f"decided {decision.value} in {decision.term} by {','.join(decision.voters)}")


async def main(what: str, *args: str) -> None:
    """Do what the command line says."""
    kafka = {"bootstrap_servers": env["SYNC_SERVERS"], "client_id": env["SYNC_CLIENT"]}
    client = {"coordination_topic_prefix": env["SYNC_PREFIX"], "request_timeout_s": 60}
    async with connect(kafka=kafka, client=client) as mesh:
        if what == "lead":
            name, owner, lease_s = args
            await lead(mesh, name, owner, float(lease_s))
        else:
            name, member, size_min, value = args
            await agree(mesh, name, member, int(size_min), value)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
