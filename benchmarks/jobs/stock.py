"""Stock Faust: one event at a time, at least once. `python -m benchmarks.jobs.stock BOOTSTRAP SOURCE OUT RECORDS plain|table`."""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
import uuid
from typing import Any

import faust
from faust.serializers import codecs

from benchmarks.jobs.work import OUT_EVERY, PARTITIONS, SCHEMA, Bytes, Clock, reader


class _Avro(codecs.Codec):
    def _loads(self, s: bytes) -> Any:
        return reader(Bytes(s), SCHEMA)

    def _dumps(self, obj: Any) -> bytes:
        from fastavro import schemaless_writer

        buffer = io.BytesIO()
        schemaless_writer(buffer, SCHEMA, obj)
        return buffer.getvalue()


def main(bootstrap: str, source: str, out: str, wanted: int, kind: str) -> None:
    """Run the job on `wanted` records and print the result."""
    codecs.register("bench-avro", _Avro())
    app = faust.App(
        f"stock-{uuid.uuid4().hex[:8]}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        topic_partitions=PARTITIONS,
        topic_replication_factor=1,
        web_enabled=False,
        datadir=tempfile.mkdtemp(),
        consumer_auto_offset_reset="earliest",
        worker_redirect_stdouts=False,
        consumer_max_fetch_size=4 << 20,
        broker_commit_interval=1.0,
        stream_recovery_delay=0.0,
    )
    events = app.topic(source, key_type=bytes, value_serializer="bench-avro")
    outputs = app.topic(out, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    table = app.Table("counts", default=int, partitions=PARTITIONS) if kind == "table" else None
    counts: Any = {} if table is None else table
    clock = Clock()

    async def finish(done: int) -> None:
        await app.producer.flush()
        await asyncio.wait_for(app.consumer.commit(), 20)
        clock.report(done)

    @app.agent(events)
    async def count(stream: Any) -> None:
        done = 0
        async for event in stream:
            clock.start()
            agent = event["agent_id"]
            number = counts[agent] + 1 if table is not None else counts.get(agent, 0) + 1
            counts[agent] = number
            if number % OUT_EVERY == 0:
                await outputs.send(key=agent.encode(), value=b"%d" % number)
            done += 1
            if done == wanted:
                asyncio.ensure_future(finish(done))  # noqa: RUF006 the process ends there

    faust.Worker(app, loglevel="warn").execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
