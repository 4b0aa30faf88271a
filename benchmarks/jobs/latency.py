"""Command, state, reply: one record in flight. `python -m benchmarks.jobs.latency BOOTSTRAP SOURCE OUT COMMANDS`.

The processor is `benchmarks.jobs.echo`; this is its client, reading committed.
"""

from __future__ import annotations

import json
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.jobs.work import PARTITIONS

WARM_UP = 50
REPLY_S = 10.0


def main(bootstrap: str, source: str, out: str, commands: int) -> None:
    """Send commands one after another and print the percentiles of the round trip in milliseconds."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"latency-{uuid.uuid4().hex}",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 500,
            "fetch.error.backoff.ms": 5,
            "auto.offset.reset": "latest",
        }
    )
    ends = [consumer.get_watermark_offsets(TopicPartition(out, p))[1] for p in range(PARTITIONS)]
    consumer.assign([TopicPartition(out, p, end) for p, end in enumerate(ends)])
    consumer.poll(1.0)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    took: list[float] = []
    for i in range(WARM_UP + commands):
        began = time.perf_counter()
        producer.produce(source, b"%d" % i, b"k%d" % (i % 100), partition=i % PARTITIONS)
        producer.poll(0)
        message = consumer.poll(REPLY_S)
        while message is not None and message.error():
            message = consumer.poll(REPLY_S)
        if message is None:
            raise SystemExit(f"no reply to command {i} within {REPLY_S:.0f} s")
        took.append((time.perf_counter() - began) * 1000)
    consumer.close()
    took = sorted(took[WARM_UP:])
    found = {f"p{q}": took[min(len(took) - 1, len(took) * q // 100)] for q in (50, 90, 99)}
    sys.stdout.write("RESULT " + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
