"""The rules of event classes and of their attributes."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import pytest
from pydantic import PrivateAttr, field_validator

from schemas.errors import InvalidEvent
from schemas.events import ID_CHARS_MAX, TIME_MS_MAX, Event
from schemas.work import ChangeCommitted, FileChanged

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CHANGE: dict[str, Any] = {"agent": "a", "task": "t", "ts": 1, "arrived": 2, "files": 3, "added": 4, "removed": 5}


def make(body: dict[str, Any], **fields: type) -> type[Event]:
    """Make an event class from what is wrong with it."""
    declared = {"event_type": "a.b", "schema_version": 1, "topic": "t", "key_field": "x", **body}
    return type("Bad", (Event,), {"__module__": __name__, "__annotations__": fields or {"x": str}, **declared})


@pytest.mark.parametrize(
    ("body", "fields", "said"),
    [
        ({"event_type": "Order.Placed"}, {}, "event_type is 'Order.Placed': lower-case words joined by dots"),
        ({"event_type": "order"}, {}, "two or more"),
        ({"event_type": "a.b\n"}, {}, "lower-case words"),
        ({"event_type": "a." + "b" * 200}, {}, "200 characters at most"),
        ({"schema_version": 0}, {}, "schema_version is 0: a whole number from 1"),
        ({"schema_version": True}, {}, "schema_version is True"),
        ({"topic": "no spaces"}, {}, "topic is 'no spaces': a Kafka topic name"),
        ({"topic": ".."}, {}, "topic is '..'"),
        ({"key_field": "y"}, {}, "key_field is 'y': one of its fields is allowed: x"),
        ({}, {"x": float}, "a field of type str, int or bytes"),
        ({}, {"x": bool}, "a field of type str, int or bytes"),
        ({"key_field": "id"}, {"x": str}, "key_field is 'id': one of its fields"),
        ({}, {"x": str, "id": str}, "field is 'id': the name is taken by a CloudEvents attribute"),
        ({}, {"x": str, "time_ms": int}, "field is 'time_ms'"),
        ({}, {"x": str, "key": str}, "field is 'key': the name is taken by a part of every event"),
    ],
)
def test_a_class_that_breaks_a_rule_fails_where_it_is_defined(body: dict[str, Any], fields: dict[str, type], said: str) -> None:
    """Each rule of event classes is checked at class creation, with the value and what is allowed."""
    with pytest.raises(InvalidEvent, match=r"class .*Bad") as caught:
        make(body, **fields)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_base_without_a_type_can_share_fields() -> None:
    """A class without event_type is a base, and its fields are its children's."""

    class Base(Event):
        agent: str

    class Child(Base):
        event_type: ClassVar[str] = "child.made"
        schema_version: ClassVar[int] = 1
        topic: ClassVar[str] = "t"
        key_field: ClassVar[str] = "agent"

    assert Child(agent="a").key() == b"a"
    assert list(Child.payload_fields()) == ["agent"]


def test_nothing_is_coerced() -> None:
    """A field has its type or the event does not exist; the message has each field, its value and what is allowed."""
    with pytest.raises(InvalidEvent, match=r"change\.committed: ts is '1': Input should be a valid integer; other is 2: Extra"):
        ChangeCommitted(**{**CHANGE, "ts": "1", "other": 2})
    with pytest.raises(InvalidEvent, match=r"agent is missing"):
        ChangeCommitted(**{k: v for k, v in CHANGE.items() if k != "agent"})


def test_an_event_cannot_be_changed() -> None:
    """Events are frozen, and equal when their contents are."""
    event = ChangeCommitted(**CHANGE)
    with pytest.raises(ValueError, match="frozen"):
        event.agent = "b"  # type: ignore[misc]
    assert event == ChangeCommitted(**CHANGE)
    assert hash(event) == hash(ChangeCommitted(**CHANGE))


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"id": "x" * (ID_CHARS_MAX + 1)}, "id is"),
        ({"id": "a\nb"}, "control characters"),
        ({"id": "a\ud800"}, "id is"),
        ({"source": "no spaces"}, "URI reference"),
        ({"time_ms": -1}, "time_ms is -1"),
        ({"time_ms": TIME_MS_MAX + 1}, "time_ms is"),
        ({"traceparent": "00-0-0-0"}, "traceparent is"),
        ({"traceparent": TRACE.upper()}, "traceparent is"),
        ({"traceparent": "ff" + TRACE[2:]}, "traceparent is"),
        ({"traceparent": "00-" + "0" * 32 + TRACE[35:]}, "traceparent is"),
        ({"traceparent": TRACE + "\n"}, "traceparent is"),
        ({"traceparent": TRACE, "tracestate": "ü=1"}, "printable ASCII"),
        ({"correlation_id": "x" * (ID_CHARS_MAX + 1)}, "correlation_id is"),
    ],
)
def test_attributes_have_limits_however_they_are_set(attributes: dict[str, Any], said: str) -> None:
    """The constructor and `stamped` refuse the same attributes."""
    with pytest.raises(InvalidEvent) as made:
        ChangeCommitted(**CHANGE, **attributes)
    with pytest.raises(InvalidEvent) as stamped:
        ChangeCommitted(**CHANGE).stamped(**attributes)
    assert said in str(made.value)
    assert said in str(stamped.value)


def test_stamping_fills_only_what_is_empty() -> None:
    """Attributes that an event has are kept; a trace is taken whole or not at all."""
    event = ChangeCommitted(**CHANGE, id="mine", traceparent=TRACE)
    stamped = event.stamped(id="other", source="/s", time_ms=5, traceparent="00" + TRACE[2:-2] + "00", tracestate="a=1")
    assert (stamped.id, stamped.source, stamped.time_ms, stamped.traceparent, stamped.tracestate) == ("mine", "/s", 5, TRACE, "")
    assert event.source == ""
    assert event.stamped() is event


class Counted(Event):
    """An event with a private part."""

    event_type: ClassVar[str] = "counted.once"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "t"
    key_field: ClassVar[str] = "x"
    x: str
    _seen: int = PrivateAttr(0)


@pytest.mark.parametrize("event", [ChangeCommitted(**CHANGE), Counted(x="a")])
def test_a_stamped_event_is_a_full_event(event: Event) -> None:
    """The fast way past pydantic's model_copy gives what model_copy gives, and leaves the original as it was."""
    before = event.model_dump()
    stamped, copied = event.stamped(id="1", time_ms=5), event.model_copy(update={"id": "1", "time_ms": 5})
    assert stamped == copied
    assert hash(stamped) == hash(copied)
    assert repr(stamped) == repr(copied)
    assert stamped.model_fields_set == copied.model_fields_set
    assert pickle.loads(pickle.dumps(stamped)) == stamped
    assert event.model_dump() == before


def test_an_effect_names_its_cause() -> None:
    """Causation is the cause's id, correlation the first event's of the conversation, and the trace goes on."""
    first = ChangeCommitted(**CHANGE, id="1", source="/s", traceparent=TRACE, tracestate="a=1")
    second = ChangeCommitted(**CHANGE, id="2").caused_by(first)
    third = ChangeCommitted(**CHANGE, id="3").caused_by(second)
    assert (second.causation_id, second.correlation_id, second.traceparent, second.tracestate) == ("1", "1", TRACE, "a=1")
    assert (third.causation_id, third.correlation_id, third.traceparent) == ("2", "1", TRACE)


def test_keys_are_bytes() -> None:
    """Text keys are UTF-8, numbers decimal digits, bytes as they are; text that has no encoding is refused with its field."""
    assert make({}, x=str)(x="ü").key() == "ü".encode()
    assert make({}, x=int)(x=-5).key() == b"-5"
    assert make({}, x=bytes)(x=b"\xff").key() == b"\xff"
    event = FileChanged(agent="a", task="t", ts=1, arrived=2, path="p", added=3, removed=4).model_copy(update={"agent": "\ud800"})
    with pytest.raises(InvalidEvent, match=r"agent is .*surrogates"):
        event.key()


def test_plain_values_make_an_event_and_validators_run() -> None:
    """`from_fields` takes values as JSON has them, and a class's own rules hold."""

    class Rated(Event):
        event_type: ClassVar[str] = "rated.now"
        schema_version: ClassVar[int] = 1
        topic: ClassVar[str] = "t"
        key_field: ClassVar[str] = "x"
        x: str

        @field_validator("x")
        @classmethod
        def _short(cls, value: str) -> str:
            if len(value) > 3:
                raise ValueError("3 characters at most")
            return value

    assert Rated.from_fields({"x": "abc"}) == Rated(x="abc")
    with pytest.raises(InvalidEvent, match="x is 'abcd': Value error, 3 characters"):
        Rated.from_fields({"x": "abcd"})
