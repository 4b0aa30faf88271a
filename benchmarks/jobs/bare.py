"""The bare loop: confluent-kafka and fastavro, at least once. `python -m benchmarks.jobs.bare BOOTSTRAP SOURCE OUT RECORDS`."""

from __future__ import annotations

import sys
import time
import uuid

from confluent_kafka import Consumer, Producer

from benchmarks.jobs.work import OUT_EVERY, SCHEMA, Bytes, Clock, reader

COMMIT_EVERY_S = 1.0


def main(bootstrap: str, source: str, out: str, wanted: int) -> None:
    """Run the job on `wanted` records and print the result."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bare-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.min.messages": 200_000,
            "queued.max.messages.kbytes": 131_072,
            "fetch.message.max.bytes": 4 << 20,
            "fetch.wait.max.ms": 50,
        }
    )
    consumer.subscribe([source])
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 500_000})
    clock, counts, done, committed = Clock(), dict[str, int](), 0, time.perf_counter()
    while done < wanted:
        messages = consumer.consume(1_000, 1.0)
        if not messages:
            continue
        clock.start()
        done += len(messages)
        for message in messages:
            event = reader(Bytes(message.value()), SCHEMA)
            agent = event["agent_id"]
            count = counts[agent] = counts.get(agent, 0) + 1
            if count % OUT_EVERY == 0:
                producer.produce(out, b"%d" % count, message.key())
        producer.poll(0)
        if time.perf_counter() - committed > COMMIT_EVERY_S:
            consumer.commit(asynchronous=True)
            committed = time.perf_counter()
    producer.flush()
    consumer.commit(asynchronous=False)
    clock.report(done)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
