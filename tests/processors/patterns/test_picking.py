"""Picking fields out of Avro bodies, against fastavro."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from processors.patterns.picking import event_source, maker, picker, source
from processors.patterns.reading import Plan, Reading
from streams.codec import Codec

PREFIX = b"\0\0\0\x01\x02"
LEVELS = {"type": "enum", "name": "level", "symbols": ["low", "high"]}
KINDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("double", st.floats()),
    ("float", st.floats(width=32)),
    ("boolean", st.booleans()),
    ("string", st.text()),
    ("bytes", st.binary()),
    (["null", "string"], st.none() | st.text()),
    (["long", "null"], st.none() | st.integers(-(2**40), 2**40)),
    ({"type": "long"}, st.integers(-100, 100)),
]


def written(schema: Any, value: dict[str, Any]) -> bytes:
    out = BytesIO(PREFIX)
    out.seek(5)
    schemaless_writer(out, schema, value)
    return out.getvalue()


@st.composite
def values(draw: st.DrawFn) -> tuple[Any, dict[str, Any], set[str]]:
    """A flat schema, a value of it, and some of its fields."""
    chosen = draw(st.lists(st.sampled_from(range(len(KINDS) + 1)), min_size=1, max_size=6))
    fields: list[dict[str, Any]] = []
    value: dict[str, Any] = {}
    for number, kind in enumerate(chosen):
        if kind == len(KINDS):
            fields.append({"name": f"x{number}", "type": {**LEVELS, "name": f"level{number}"}})
            value[f"x{number}"] = draw(st.sampled_from(LEVELS["symbols"]))
        else:
            fields.append({"name": f"x{number}", "type": KINDS[kind][0]})
            value[f"x{number}"] = draw(KINDS[kind][1])
    names = draw(st.sets(st.sampled_from([field["name"] for field in fields])))
    return parse_schema({"type": "record", "name": "made", "fields": fields}), value, names


def read(schema: Any, raw: bytes) -> dict[str, Any] | None:
    """What fastavro reads; None where it is no whole value."""
    stream = BytesIO(raw)
    stream.seek(5)
    try:
        found: Any = schemaless_reader(stream, schema, None)
    except Exception:  # noqa: BLE001 as many kinds as there are mistakes
        return None
    return found if stream.tell() == len(raw) else None


@given(values())
def test_what_is_picked_is_what_fastavro_reads(made: tuple[Any, dict[str, Any], set[str]]) -> None:
    """Every kind of flat field, wanted or stepped over."""
    schema, value, names = made
    raw = written(schema, value)
    pick = picker(schema, {*names, "absent"})
    whole = read(schema, raw)
    assert pick is not None
    assert whole is not None
    assert repr(pick(raw)) == repr({field["name"]: whole[field["name"]] for field in schema["fields"] if field["name"] in names})


@given(values(), st.booleans())
def test_what_is_made_is_the_event_of_what_fastavro_reads(made: tuple[Any, dict[str, Any], set[str]], timed: bool) -> None:
    """Every kind of flat field, NaN and nulls too, with a field `ts` of any kind or without one."""
    schema, value, names = made
    if timed:  # the first field is the event's own time, where it is one
        fields = [{**field, "name": "ts"} if field["name"] == "x0" else field for field in schema["fields"]]
        schema = parse_schema({"type": "record", "name": "timed", "fields": fields})
        value, names = {"ts" if name == "x0" else name: one for name, one in value.items()}, names - {"x0"}
    raw, place = written(schema, value), ("log", 3, 17)
    make = maker(schema, {*names, "absent"}, "a.type")
    whole = read(schema, raw)
    assert make is not None
    assert whole is not None
    wanted = Reading(Codec(), []).event(Plan("a.type", (0,), tuple(sorted(names)), ()), whole, place, "k", 5)
    assert repr(sorted(make(raw, place, "k", 5).items())) == repr(sorted(wanted.items()))


@given(values(), st.data())
def test_damaged_bytes_are_refused_or_read_as_fastavro_reads_them(
    made: tuple[Any, dict[str, Any], set[str]], data: st.DataObject
) -> None:
    """Cut, longer or changed: nothing is picked that fastavro would read as something else."""
    schema, value, names = made
    raw = bytearray(written(schema, value))
    what = data.draw(st.sampled_from(["cut", "longer", "changed"]))
    if what == "longer":
        raw += data.draw(st.binary(min_size=1, max_size=9))
    elif len(raw) > len(PREFIX):
        at = data.draw(st.integers(len(PREFIX), len(raw) - 1))
        if what == "cut":
            del raw[at:]
        else:
            raw[at] = data.draw(st.integers(0, 255))
    pick = picker(schema, names)
    assert pick is not None
    try:
        picked = pick(bytes(raw))
    except Exception:  # noqa: BLE001 any exception asks fastavro
        return
    whole = read(schema, bytes(raw))
    if whole is not None:  # else: text that nobody wants is no UTF-8
        assert repr(picked) == repr({field["name"]: whole[field["name"]] for field in schema["fields"] if field["name"] in names})


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "array", "items": "long"},
        {"type": "map", "values": "long"},
        {"type": "record", "name": "inner", "fields": [{"name": "a", "type": "long"}]},
        {"type": "long", "logicalType": "timestamp-millis"},
        ["null", "long", "string"],
    ],
)
def test_what_is_not_flat_is_left_to_fastavro(kind: Any) -> None:
    """There is no function for it, whether the field is wanted or not."""
    schema: Any = parse_schema({"type": "record", "name": "made", "fields": [{"name": "x", "type": kind}]})
    assert source(schema, ()) is None
    assert picker(schema, {"x"}) is None
    assert event_source(schema, (), "a.type") is None
    assert maker(schema, {"x"}, "a.type") is None
