"""The bytes written by hand are those that the catalogue reads and writes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from processors.patterns.wire import Places, long_bytes, text_bytes
from schemas.avro import parsed, write_body
from schemas.catalogue import CATALOGUE
from schemas.cep import PatternMatched

LONGS = st.integers(-(2**63), 2**63 - 1)
EVENT = st.builds(
    lambda topic, partition, offset, ts: {"id": (topic, partition, offset), "ts": ts},
    st.text(max_size=80), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), LONGS,
)  # fmt: skip


@given(LONGS, LONGS, st.text(), st.lists(st.tuples(st.text(max_size=100), EVENT), min_size=1, max_size=150))
def test_equals_what_the_catalogue_writes(version: int, started: int, key: str, taken: list[tuple[str, dict[str, Any]]]) -> None:
    """Any numbers, texts and stages have the bytes of the committed schema, also where places and stages come again."""
    unique: dict[Any, int] = {}
    stages: dict[str, list[dict[str, Any]]] = {}
    node: Any = None
    for number, (stage, event) in enumerate(taken):
        event["ts"] = unique.setdefault(event["id"], event["ts"])  # an event has one time
        stages.setdefault(stage, []).append(event)
        node = (node, event, stage, number)
    places = Places()
    made = []
    for _ in range(2):
        body, first, last = places.taken(node)
        assert (first, last) == (taken[0][1], taken[-1][1])
        made.append(
            b"".join((b"12345", places.text("p"), long_bytes(version), text_bytes(key), body, *[long_bytes(started)] * 4))
        )
    fields = {
        "pattern": "p", "version": version, "correlation_key": key,
        "stages": [
            {
                "stage": name,
                "events": [
                    {"topic": e["id"][0], "partition": e["id"][1], "offset": e["id"][2], "ts": e["ts"]} for e in events
                ],
            }
            for name, events in stages.items()
        ],
        "started": started, "ended": started, "took_ms": started, "detected_at": started,
    }  # fmt: skip
    assert made == [write_body(b"12345", parsed(CATALOGUE.schema(PatternMatched)), fields)] * 2
