"""The catalogue: any bytes decode or are explained, old versions come out as the newest, users' types have room."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from typing import Any, ClassVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator

from schemas.avro import prefix_of, schema_of
from schemas.catalogue import CATALOGUE, Catalogue
from schemas.errors import IncompatibleSchema, InvalidEvent, MalformedRecord, SchemaError, UnknownSchema
from schemas.events import Event
from schemas.work import ChangeCommitted, FileChanged

PLACE: dict[str, Any] = {"topic": "agents.events", "partition": 3, "offset": 17}
EVENT = FileChanged(agent="a", task="t", ts=1, arrived=2, path="p", added=3, removed=4, seq=5)
VALUE = CATALOGUE.encode(EVENT)
HUGE = b"\x80" * 8 + b"\x20"
"""A length of 2**60 as Avro writes it."""


def order(version: int, **fields: Any) -> type[Event]:
    """Make a version of an event type."""
    annotations = {"number": str, **{name: kind for name, (kind, _) in fields.items()}}
    defaults = {name: default for name, (_, default) in fields.items() if default is not ...}
    declared = {"event_type": "order.placed", "schema_version": version, "topic": "orders", "key_field": "number"}
    return type("Order", (Event,), {"__module__": __name__, "__annotations__": annotations, **defaults, **declared})


ORDER_1, ORDER_2 = order(1, note=(str, "")), order(2, count=(int, 1), tags=(list[str], Field(default_factory=list)))
ORDERS = Catalogue()
ORDERS.register(ORDER_2, schema_id=1001, older={1000: schema_of(ORDER_1)})
OLD = Catalogue()
OLD.register(ORDER_1, schema_id=1000)


def test_an_event_comes_back_as_it_was() -> None:
    """Encode, then decode or read: the same fields; type_of needs the prefix alone."""
    assert CATALOGUE.decode(VALUE, **PLACE) == EVENT
    assert CATALOGUE.read(VALUE) == {
        "agent": "a",
        "task": "t",
        "ts": 1,
        "arrived": 2,
        "path": "p",
        "added": 3,
        "removed": 4,
        "seq": 5,
    }
    assert CATALOGUE.type_of(VALUE[:5]) == "file.changed"


def test_what_was_decoded_is_a_full_event() -> None:
    """The fast way past pydantic leaves nothing out: copies, dumps, hashes and attributes work as on a new event."""
    attributes = {"id": "1", "source": "/s", "time_ms": 5}
    back, new = CATALOGUE.decode(VALUE, attributes=attributes), EVENT.stamped(id="1", source="/s", time_ms=5)
    assert back == new
    assert hash(back) == hash(new)
    assert repr(back) == repr(new)
    assert back.model_dump() == new.model_dump()
    assert back.model_copy(update={"id": "2"}) == new.model_copy(update={"id": "2"})
    with pytest.raises(ValueError, match="frozen"):
        back.id = "3"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (None, MalformedRecord, "agents.events partition 3 offset 17: the record has no value (a tombstone)"),
        (b"", MalformedRecord, "the value is empty"),
        (b"\x01abcdef", MalformedRecord, "begins with the byte 0x01 in place of 0x00"),
        (b'{"a":1}', MalformedRecord, "begins with the byte 0x7b"),
        (b"\x00\x00", MalformedRecord, "cut off: the value has 2 bytes and its header takes 5"),
        (
            b"\x00\x00\x00\x03\xe7abc",
            UnknownSchema,
            "agents.events partition 3 offset 17 schema id 999: the schema id is unknown",
        ),
        (b"\x00\xff\xff\xff\xff", UnknownSchema, "schema id -1"),
        (VALUE[:-1], MalformedRecord, "agents.events partition 3 offset 17 schema id 2: file.changed v1 is cut off"),
        (VALUE[:5], MalformedRecord, "schema id 2: file.changed v1 is cut off"),
        (VALUE + b"xy", MalformedRecord, "schema id 2: 2 bytes are left over after file.changed v1"),
        (VALUE[:5] + HUGE, MalformedRecord, "schema id 2: file.changed v1 is cut off"),
        (VALUE[:5] + b"\x04\xff\xff", MalformedRecord, "UnicodeDecodeError"),
        ("text", MalformedRecord, "the value is str: bytes are allowed"),
        (bytearray(VALUE), MalformedRecord, "the value is bytearray: bytes are allowed"),
    ],
)
def test_bytes_that_are_no_event_are_explained_in_one_line(value: Any, kind: type[SchemaError], said: str) -> None:
    """The error has topic, partition, offset, schema id and what to do, in its message and as attributes."""
    with pytest.raises(kind) as caught:
        CATALOGUE.decode(value, **PLACE)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("agents.events", 3, 17)


def test_an_id_of_another_type_than_expected_is_a_wrong_version() -> None:
    """Bytes whose id is another type's than the headers say are refused."""
    with pytest.raises(MalformedRecord, match=r"offset 17 schema id 2: wrong type or version: 'change.committed' was expected"):
        CATALOGUE.decode(VALUE, expected="change.committed", **PLACE)


PREFIXES = st.sampled_from([prefix_of(e.schema_id) for e in (*CATALOGUE.entries(), *ORDERS.entries())])


@settings(max_examples=1500, deadline=1000)
@given(st.one_of(st.binary(max_size=200), st.builds(lambda prefix, body: prefix + body, PREFIXES, st.binary(max_size=200))))
@example(VALUE[:5] + HUGE)
@example(prefix_of(1001) + b"\x02a\x02" + HUGE)
@example(prefix_of(1001) + b"\x02a\x02" + b"\xff" * 9 + b"\x01")
@example(prefix_of(1000) + b"\x02a" + HUGE)
def test_any_bytes_decode_or_raise_a_schema_error(value: bytes) -> None:
    """No bytes raise anything else, hang, or come back as an event that pydantic would refuse."""
    for catalogue in (CATALOGUE, ORDERS):
        try:
            event = catalogue.decode(value, **PLACE)
        except SchemaError as e:
            said = str(e)
        else:
            said = ""
            assert type(event).from_fields(event.model_dump()) == event
        assert said == "" or re.fullmatch(r"agents\.events partition 3 offset 17.+", said)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_a_damaged_event_decodes_or_raises_a_schema_error(noise: bytes, at: int) -> None:
    """Real bytes with a piece overwritten are treated the same."""
    value = VALUE[:at] + noise + VALUE[at + len(noise) :]
    with contextlib.suppress(SchemaError):
        assert isinstance(CATALOGUE.decode(value), Event)


def test_a_claimed_length_allocates_nothing() -> None:
    """A length of 2**60, of a string or of an array, costs no memory."""
    tracemalloc.start()
    for value in (VALUE[:5] + HUGE, prefix_of(1001) + b"\x02a\x02" + HUGE):
        with pytest.raises(MalformedRecord):
            ORDERS.read(value) if value[:5] == prefix_of(1001) else CATALOGUE.read(value)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@given(st.text(), st.integers(-(2**63), 2**63 - 1), st.one_of(st.none(), st.text()))
def test_every_valid_event_survives_the_wire(text: str, number: int, maybe: str | None) -> None:
    """Any text and any 64-bit number go through."""
    event = ChangeCommitted(agent=text, task=text, ts=number, arrived=number, files=1, added=2, removed=3, reverts=maybe)
    assert CATALOGUE.decode(CATALOGUE.encode(event)) == event


def test_what_avro_cannot_hold_is_refused_with_its_field() -> None:
    """A number of more than 64 bits, or text without an encoding, names the field."""
    with pytest.raises(InvalidEvent, match=r"file\.changed: seq is 9223372036854775808: a whole number of 64 bits"):
        CATALOGUE.encode(EVENT.model_copy(update={"seq": 2**63}))
    with pytest.raises(InvalidEvent, match=r"file\.changed: path is .*surrogates"):
        CATALOGUE.encode(EVENT.model_copy(update={"path": "\ud800"}))


def test_old_versions_come_out_as_the_newest() -> None:
    """A record of version 1 is read through version 2: a lost field is skipped, a new one has its default."""
    value = OLD.encode(ORDER_1(number="7", note="n"))
    assert ORDERS.type_of(value) == "order.placed"
    assert ORDERS.read(value) == {"number": "7", "count": 1, "tags": []}
    assert ORDERS.decode(value) == ORDER_2(number="7")
    with pytest.raises(UnknownSchema, match=r"schema id 1001: .* upgrade"):
        OLD.read(ORDERS.encode(ORDER_2(number="7")))


def test_a_class_with_rules_of_its_own_is_validated_when_decoded() -> None:
    """Avro knows types and no constraints; validators run on what is read, and the place is named."""

    class Short(Event):
        event_type: ClassVar[str] = "short.text"
        schema_version: ClassVar[int] = 1
        topic: ClassVar[str] = "t"
        key_field: ClassVar[str] = "x"
        x: str
        n: int = Field(0, ge=0)

        @field_validator("x")
        @classmethod
        def _upper(cls, value: str) -> str:
            if not value.isupper():
                raise ValueError("capitals are allowed")
            return value

    catalogue = Catalogue()
    catalogue.register(Short, schema_id=1000)
    good = Short(x="A")
    assert catalogue.decode(catalogue.encode(good)) == good
    with pytest.raises(InvalidEvent, match=r"agents\.events partition 3 offset 17 schema id 1000: short\.text: x is 'a'"):
        catalogue.decode(catalogue.encode(Short.model_construct(x="a", n=1)), **PLACE)
    with pytest.raises(InvalidEvent, match="n is -1"):
        catalogue.decode(catalogue.encode(Short.model_construct(x="A", n=-1)), **PLACE)


def test_users_types_have_ids_from_1000_and_no_other() -> None:
    """Ids and types are taken once; what is refused leaves nothing behind."""
    catalogue = Catalogue()
    with pytest.raises(IncompatibleSchema, match="ids from 1000"):
        catalogue.register(ORDER_1, schema_id=999)
    catalogue.register(ORDER_1, schema_id=1000)
    with pytest.raises(IncompatibleSchema, match=r"the id is order\.placed's"):
        catalogue.register(order(3), schema_id=1000)
    with pytest.raises(IncompatibleSchema, match=r"order\.placed is .*Order's type"):
        catalogue.register(ORDER_2, schema_id=1001)
    fresh = Catalogue()
    with pytest.raises(IncompatibleSchema, match="cannot read it: needed: is new and has no default"):
        fresh.register(order(2, needed=(str, ...)), schema_id=1001, older={1000: schema_of(ORDER_1)})
    assert fresh.classes() == ()
    assert fresh.entries() == ()
    with pytest.raises(UnknownSchema, match="not in the catalogue: register it"):
        fresh.encode(ORDER_1(number="1"))
    with pytest.raises(UnknownSchema, match=r"no event type is called 'order\.placed'"):
        fresh.class_of("order.placed")
