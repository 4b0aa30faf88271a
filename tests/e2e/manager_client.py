"""A resource manager as a process: it keeps what it promises and does in a file, one line each, and can die after its promise.

manager_client.py FILE [die]
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from streams.client import connect
from streams.tables import Part

env = os.environ
JOURNAL, DIES = Path(sys.argv[1]), "die" in sys.argv[2:]
DIES_AFTER_S = 0.3
"""After its promise: its vote is out by then, and no decision has come, since another vote is missing."""


def note(what: str, part: Part) -> None:
    """Write a line down, so that it is there after a crash."""
    line = f"{what} {part.txn}\n"
    if line in (JOURNAL.read_text() if JOURNAL.exists() else ""):
        return
    with JOURNAL.open("a") as journal:
        journal.write(line)
        journal.flush()
        os.fsync(journal.fileno())


async def main() -> None:
    """Work until killed."""
    kafka = {"bootstrap_servers": env["SYNC_SERVERS"], "client_id": env["SYNC_CLIENT"]}

    async def prepare(part: Part) -> None:
        note("promised", part)
        if DIES:
            asyncio.get_running_loop().call_later(DIES_AFTER_S, os.kill, os.getpid(), signal.SIGKILL)

    async def commit(part: Part) -> None:
        note("committed", part)

    async def abort(part: Part) -> None:
        note("aborted", part)

    async with (
        connect(kafka=kafka, client={"coordination_topic_prefix": env["SYNC_PREFIX"]}) as mesh,
        mesh.resource_manager("ledger", prepare=prepare, commit=commit, abort=abort) as manager,
    ):
        sys.stdout.write("working\n")
        sys.stdout.flush()
        await manager.wait()


if __name__ == "__main__":
    asyncio.run(main())
