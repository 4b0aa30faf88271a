"""The codec without a registry: records of both clients, attributes, structured mode and errors with their place."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import pytest
from aiokafka.structs import ConsumerRecord
from cloudevents.core.bindings.kafka import to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from schemas.errors import InvalidEvent, MalformedRecord, SchemaError, UnknownSchema
from schemas.work import ChangeCommitted, FileChanged
from streams.codec import Codec, Encoded

CODEC = Codec()
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EVENT = FileChanged(agent="ü", task="t", ts=1, arrived=2, path="p", added=3, removed=4, seq=5).stamped(
    id="1", source="/s", time_ms=5, traceparent=TRACE, correlation_id="0"
)


def aiokafka_record(value: bytes | None, headers: Any = (), key: bytes | None = None) -> ConsumerRecord:
    return ConsumerRecord("agents.events", 3, 17, 1000, 0, key, value, None, 0, 0, headers)


class Message(NamedTuple):
    """confluent-kafka's shape: methods, headers None when there are none, values None where empty."""

    encoded: Encoded

    def topic(self) -> str:
        return "agents.events"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 17

    def timestamp(self) -> tuple[int, int]:
        return (1, 1000)

    def key(self) -> Any:
        return self.encoded.key

    def value(self) -> Any:
        return self.encoded.value

    def headers(self) -> Any:
        return [*self.encoded.headers, ("empty", None)] if self.encoded.headers else None


def test_an_event_comes_back_with_its_attributes_from_either_client() -> None:
    """The record of aiokafka and the message of confluent-kafka decode to the event that was encoded."""
    encoded = CODEC.encode(EVENT)
    assert (encoded.topic, encoded.key) == ("agents.events", "ü".encode())
    for record in (aiokafka_record(encoded.value, tuple(encoded.headers), encoded.key), Message(encoded)):
        assert CODEC.decode(record) == EVENT
        assert CODEC.type_of(record) == "file.changed"
        assert CODEC.read(record)["path"] == "p"
    assert CODEC.encode(EVENT, topic="elsewhere").topic == "elsewhere"
    assert cast(FileChanged, CODEC.decode(Message(encoded._replace(headers=[])))).path == "p"


def test_a_type_in_the_headers_that_is_not_the_ids_is_refused() -> None:
    """Header and schema id must agree; the message has the record's place."""
    encoded = CODEC.encode(EVENT)
    headers = [("ce_type", b"change.committed"), ("ce_id", b"1")]
    with pytest.raises(MalformedRecord, match=r"agents\.events partition 3 offset 17 schema id 2: wrong type or version"):
        CODEC.decode(aiokafka_record(encoded.value, headers))


@pytest.mark.parametrize(
    ("value", "headers", "kind"),
    [
        (None, (), MalformedRecord),
        (b"junk", (), MalformedRecord),
        (b"\x00\x00\x00\x03\xe7a", (), UnknownSchema),
        (CODEC.encode(EVENT).value, [("ce_time", b"junk")], InvalidEvent),
        (b"junk", [("content-type", b"application/cloudevents+json")], MalformedRecord),
        (b'{"type":"no.such"}', [("content-type", b"application/cloudevents+json")], MalformedRecord),
        (b'{"type":"no.such","data":{}}', [("content-type", b"application/cloudevents+json")], UnknownSchema),
        (b'{"type":"file.changed","data":{"agent":1}}', [("content-type", b"application/cloudevents+json")], InvalidEvent),
    ],
)
def test_errors_name_the_records_place(value: bytes | None, headers: Any, kind: type[SchemaError]) -> None:
    """Whatever is wrong, value or headers, the error says which record it was."""
    with pytest.raises(kind, match=r"^agents\.events partition 3 offset 17") as caught:
        CODEC.decode(aiokafka_record(value, headers))
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("agents.events", 3, 17)


@pytest.mark.parametrize("binary", [True, False])
def test_structured_mode_is_read(binary: bool) -> None:
    """What the cloudevents library writes in structured mode decodes to the same event."""
    data: Any = CODEC.encode(EVENT).value if binary else {n: getattr(EVENT, n) for n in EVENT.payload_fields()}
    given = {"id": "1", "source": "/s", "type": "file.changed", "traceparent": TRACE, "correlationid": "0"}
    whole = to_structured(CloudEvent(given, data), JSONFormat())
    record = aiokafka_record(whole.value, list(whole.headers.items()))
    assert CODEC.type_of(record) == "file.changed"
    assert CODEC.decode(record).model_copy(update={"time_ms": 5}) == EVENT


def test_stamping_takes_conversation_and_trace_from_the_cause() -> None:
    """The cause is a record, an event or nothing; a record without an id counts as its position."""
    new = ChangeCommitted(agent="a", task="t", ts=1, arrived=2, files=1, added=1, removed=0)
    encoded = CODEC.encode(EVENT)
    made = {"id": "n", "source": "/n", "time_ms": 9}
    by_record = CODEC.stamp(new, **made, cause=aiokafka_record(encoded.value, encoded.headers))  # type: ignore[arg-type]
    assert (by_record.id, by_record.causation_id, by_record.correlation_id, by_record.traceparent) == ("n", "1", "0", TRACE)
    assert CODEC.stamp(new, **made, cause=EVENT) == by_record  # type: ignore[arg-type]
    by_position = CODEC.stamp(new, **made, cause=aiokafka_record(encoded.value))  # type: ignore[arg-type]
    assert (by_position.causation_id, by_position.correlation_id) == ("agents.events/3/17", "agents.events/3/17")
    assert CODEC.stamp(new, **made).causation_id == ""  # type: ignore[arg-type]


def test_an_event_that_is_not_stamped_is_not_encoded() -> None:
    """Without id and source it is no CloudEvent, and the topic is named."""
    with pytest.raises(InvalidEvent, match=r"agents\.events: file\.changed: id is ''"):
        CODEC.encode(EVENT.model_copy(update={"id": ""}))
