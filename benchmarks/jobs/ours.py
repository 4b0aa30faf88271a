"""Our Faust processor. `python -m benchmarks.jobs.ours BOOTSTRAP SOURCE OUT RECORDS plain|table exactly_once|at_least_once`."""

from __future__ import annotations

import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any, Literal, cast

from benchmarks.jobs.work import OUT_EVERY, PARTITIONS, SCHEMA, Bytes, Clock, reader
from streams.observer import Observer
from streams.turns import App, Batch, Options
from streams.worker import run_worker


class _Count(Observer):
    """Ends the run when every record is committed."""

    def __init__(self, clock: Clock, wanted: int) -> None:
        self._clock, self._wanted, self._done, self._turns, self._commit_s = clock, wanted, 0, 0, 0.0

    def turn_committed(self, *, records: int, commit_s: float, **_: Any) -> None:
        """Count what is committed."""
        self._done += records
        self._turns += 1
        self._commit_s += commit_s
        if self._done >= self._wanted:
            self._clock.report(self._done, turns=self._turns, commit_ms=1000 * self._commit_s / self._turns)


def main(bootstrap: str, source: str, out: str, wanted: int, kind: str, guarantee: str) -> None:
    """Run the job on `wanted` records and print the result."""
    clock = Clock()
    options = Options(
        client={"bootstrap.servers": bootstrap},
        guarantee=cast(Literal["exactly_once", "at_least_once"], guarantee),
        partitions=PARTITIONS,
        state_dir=Path(tempfile.mkdtemp()),
    )
    app = App(f"ours-{uuid.uuid4().hex[:8]}", options=options, observer=_Count(clock, wanted))
    table = app.Table("counts", default=int, partitions=PARTITIONS) if kind == "table" else None
    plain: dict[str, int] = {}

    @app.agent(app.batch_topic(source))
    async def count(stream: Any) -> None:
        batch: Batch
        async for batch in stream:
            if batch.records:
                clock.start()
            counts: Any = plain if table is None else batch.view(table)
            send = batch.send
            for record in batch.records:
                event = reader(Bytes(record.value), SCHEMA)
                agent = event["agent_id"]
                number = counts[agent] = counts.get(agent, 0) + 1
                if number % OUT_EVERY == 0:
                    send(out, key=record.key, value=b"%d" % number)

    run_worker(app, loglevel="warn")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5], sys.argv[6])
