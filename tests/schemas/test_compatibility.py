"""BACKWARD compatibility: the rules one by one, and that a clean verdict means fastavro really reads."""

from __future__ import annotations

import copy
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.committed import load
from schemas.compatibility import is_backward


def record(*fields: dict[str, Any], name: str = "r") -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "n", "fields": list(fields)}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "e", "symbols": list(symbols), **more}


A = field("a", "string")

PAIRS = {
    "the same": (record(A), record(A), None),
    "a field removed": (record(A, field("b", "long")), record(A), None),
    "a field added with a default": (record(A), record(A, field("b", "long", default=0)), None),
    "a field added without a default": (record(A), record(A, field("b", "long")), "b: is new and has no default"),
    "a field renamed": (record(A), record(field("b", "string")), "b: is new"),
    "a field renamed with an alias": (record(A), record(field("b", "string", aliases=["a"])), None),
    "int to long": (record(field("a", "int")), record(field("a", "long")), None),
    "int to double": (record(field("a", "int")), record(field("a", "double")), None),
    "long to int": (record(field("a", "long")), record(field("a", "int")), "a: was long and is int.*narrower"),
    "double to float": (record(field("a", "double")), record(field("a", "float")), "narrower"),
    "long to string": (record(field("a", "long")), record(A), "was long and is string"),
    "string to bytes": (record(A), record(field("a", "bytes")), None),
    "bytes to string": (record(field("a", "bytes")), record(A), "not all bytes are text"),
    "a type made optional": (record(A), record(field("a", ["null", "string"])), None),
    "an optional made sure": (record(field("a", ["null", "string"])), record(A), "a: was null and is string"),
    "a branch lost": (record(field("a", ["null", "string", "long"])), record(field("a", ["null", "string"])), "was long"),
    "a union whose first match cannot": (
        record(field("a", "bytes")),
        record(field("a", ["null", "string", "bytes"])),
        "was bytes and is string.*not all bytes are text",
    ),
    "a symbol added": (record(field("a", enum("x"))), record(field("a", enum("x", "y"))), None),
    "a symbol lost": (record(field("a", enum("x", "y"))), record(field("a", enum("x"))), "lost the symbols y"),
    "a symbol lost with a default": (record(field("a", enum("x", "y"))), record(field("a", enum("x", default="x"))), None),
    "an enum's default that is no symbol": (
        record(field("a", enum("x"))),
        record(field("a", enum("x", default="z"))),
        "none of its",
    ),
    "an enum renamed": (record(field("a", enum("x"))), record(field("a", {**enum("x"), "name": "f"})), "was named e"),
    "a record renamed": (record(A), record(A, name="s"), "was named r and is named s"),
    "a record renamed with an alias": (record(A), {**record(A, name="s"), "aliases": ["r"]}, None),
    "an array's items narrowed": (
        record(field("a", {"type": "array", "items": "long"})),
        record(field("a", {"type": "array", "items": "int"})),
        r"a\[\]: was long",
    ),
    "a map's values widened": (
        record(field("a", {"type": "map", "values": "int"})),
        record(field("a", {"type": "map", "values": "long"})),
        None,
    ),
    "an array made a map": (
        record(field("a", {"type": "array", "items": "int"})),
        record(field("a", {"type": "map", "values": "int"})),
        "was array and is map",
    ),
    "a nested field added without a default": (
        record(field("a", record(A, name="i"))),
        record(field("a", record(A, field("b", "int"), name="i"))),
        r"a\.b: is new",
    ),
    "a fixed resized": (
        record(field("a", {"type": "fixed", "name": "f", "size": 4})),
        record(field("a", {"type": "fixed", "name": "f", "size": 8})),
        "had 4 bytes and has 8",
    ),
    "a default of another type": (
        record(A),
        record(A, field("b", "long", default="0")),
        "the default '0' is not of the type long",
    ),
    "a default of a union's second branch": (
        record(A),
        record(A, field("b", ["null", "long"], default=0)),
        "the default 0 is not",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_each_rule_of_schema_resolution(name: str) -> None:
    """Each pair is judged as the specification says, with the path of the field."""
    old, new, problem = PAIRS[name]
    found = is_backward(old, new)
    if problem is None:
        assert found == []
    else:
        assert len(found) == 1
        with pytest.raises(AssertionError, match=problem):
            raise AssertionError(found[0])


def test_every_committed_version_reads_the_one_before() -> None:
    """All consecutive committed versions of each event type are BACKWARD compatible."""
    versions = {(c.event_type, c.version): c.schema for c in load()}
    assert versions
    for (event_type, version), schema in versions.items():
        if version > 1:
            assert is_backward(versions[event_type, version - 1], schema) == []


PRIMITIVES = st.sampled_from(["int", "long", "float", "double", "string", "bytes", "boolean"])
DEFAULTS: dict[str, Any] = {
    "int": 1,
    "long": 2,
    "float": 1.5,
    "double": 2.5,
    "string": "s",
    "bytes": "b",
    "boolean": True,
    "null": None,
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=10),
    "bytes": st.binary(max_size=10),
    "boolean": st.booleans(),
    "null": st.none(),
}
SYMBOLS = st.lists(st.sampled_from("xyz"), min_size=1, unique=True)


@st.composite
def types(draw: st.DrawFn, name: str, depth: int = 2) -> Any:
    """Draw a schema; named types are called after their field, so two draws can meet."""
    kind = draw(st.sampled_from(["primitive", "enum", "union"] + (["array", "map", "record"] if depth else [])))
    if kind == "enum":
        symbols = draw(SYMBOLS)
        return {"type": "enum", "name": f"e_{name}", "symbols": symbols, **draw(st.sampled_from([{}, {"default": symbols[0]}]))}
    if kind == "array":
        return {"type": "array", "items": draw(types(name, 0))}
    if kind == "map":
        return {"type": "map", "values": draw(types(name, 0))}
    if kind == "record":
        return draw(records(f"r_{name}", depth - 1))
    if kind == "union":
        return draw(st.lists(st.one_of(st.just("null"), PRIMITIVES), min_size=1, max_size=3, unique=True))
    return draw(PRIMITIVES)


@st.composite
def records(draw: st.DrawFn, name: str = "r", depth: int = 2) -> Any:
    """Draw a record schema."""
    fields = []
    for f in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)):
        kind = draw(types(f"{name}_{f}", depth))
        first = kind[0] if isinstance(kind, list) else kind
        with_default = isinstance(first, str) and draw(st.booleans())
        fields.append({"name": f, "type": kind, **({"default": DEFAULTS[first]} if with_default else {})})
    return {"type": "record", "name": name, "fields": fields}


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for data of a schema."""
    if isinstance(schema, list):
        return st.one_of(*map(values, schema))
    if isinstance(schema, str):
        return VALUES[schema]
    match schema["type"]:
        case "enum":
            return st.sampled_from(schema["symbols"])
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "map":
            return st.dictionaries(st.text(max_size=3), values(schema["values"]), max_size=3)
    return st.fixed_dictionaries({f["name"]: values(f["type"]) for f in schema["fields"]})


@st.composite
def evolved(draw: st.DrawFn) -> tuple[Any, Any]:
    """Draw two schemas: unrelated, or the second a few steps from the first, which passes more often."""
    old = draw(records())
    if draw(st.booleans()):
        return old, draw(records())
    new = copy.deepcopy(old)
    for f in new["fields"]:
        step = draw(st.sampled_from(["keep", "keep", "widen", "optional", "default"]))
        if step == "widen":
            f["type"] = {"int": "long", "long": "double", "float": "double", "string": "bytes"}.get(str(f["type"]), f["type"])
            f.pop("default", None)
        elif step == "optional" and not isinstance(f["type"], list):
            f["type"] = ["null", f["type"]]
            f.pop("default", None)
    if draw(st.booleans()):
        new["fields"] = new["fields"][1:] or new["fields"]
    if draw(st.booleans()):
        new["fields"].append({"name": "added", "type": "long", "default": 7})
    return old, new


@settings(max_examples=400, deadline=None)
@given(evolved(), st.data())
def test_a_clean_verdict_means_that_fastavro_reads_it(pair: tuple[Any, Any], data: st.DataObject) -> None:
    """Whatever is written with the old schema is read through the new one when no violation was found."""
    old, new = pair
    if is_backward(old, new):
        return
    out = BytesIO()
    writer = fastavro.parse_schema(copy.deepcopy(old))
    fastavro.schemaless_writer(out, writer, data.draw(values(old)))
    out.seek(0)
    read = fastavro.schemaless_reader(out, writer, fastavro.parse_schema(copy.deepcopy(new)))
    assert isinstance(read, dict)
    assert set(read) == {f["name"] for f in new["fields"]}
    assert out.read() == b""
