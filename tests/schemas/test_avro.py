"""Schemas from event classes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, Field

from schemas.avro import SCHEMA_ID_MAX, parsed, prefix_of, schema_of
from schemas.catalogue import Catalogue
from schemas.errors import IncompatibleSchema, InvalidEvent
from schemas.events import Event


class State(StrEnum):
    OPEN = "open"
    UNKNOWN = "unknown"


class Item(BaseModel):
    """One line."""

    name: str
    count: int = 1


class Everything(Event):
    """All that a field may be."""

    event_type: ClassVar[str] = "all.types"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "t"
    key_field: ClassVar[str] = "text"

    text: str
    number: int
    real: float
    yes: bool
    raw: bytes
    maybe: str | None = None
    surely: int | None = 5
    needed: float | None
    many: list[str]
    table: dict[str, int]
    item: Item
    items: list[Item] = Field(default_factory=list)
    state: State = State.OPEN
    word: Literal["a", "b"] = "a"
    small: Annotated[int, Field(ge=0, description="Not negative.")] = 0
    blob: bytes = b"\xff"
    deep: dict[str, list[int | None]] = Field(default_factory=dict)


FULL: dict[str, Any] = {
    "text": "ü",
    "number": -(2**63),
    "real": 0.1,
    "yes": True,
    "raw": b"\x00\xff",
    "needed": None,
    "many": ["a", ""],
    "table": {"x": 1},
    "item": Item(name="i"),
    "items": [Item(name="j", count=2)],
    "deep": {"k": [1, None]},
}


def test_every_supported_type_has_its_avro_type_and_default() -> None:
    """Types, defaults and descriptions are carried over; the full name is the event type."""
    schema = schema_of(Everything)
    assert (schema["namespace"], schema["name"], schema["doc"]) == ("all", "types", "All that a field may be.")
    types = {f["name"]: f["type"] for f in schema["fields"]}
    defaults = {f["name"]: f["default"] for f in schema["fields"] if "default" in f}
    assert [types[n] for n in ("text", "number", "real", "yes", "raw")] == ["string", "long", "double", "boolean", "bytes"]
    assert [types[n] for n in ("maybe", "surely", "needed")] == [["null", "string"], ["long", "null"], ["null", "double"]]
    assert types["many"] == {"type": "array", "items": "string"}
    assert types["deep"] == {"type": "map", "values": {"type": "array", "items": ["null", "long"]}}
    assert types["item"]["name"] == "all.types.Item" or types["item"]["namespace"] == "all.types"
    assert types["items"] == {"type": "array", "items": "all.types.Item"}
    assert types["state"]["default"] == "unknown"
    assert "default" not in types["word"]
    assert defaults["blob"] == "\xff"
    assert defaults["state"] == "open"
    assert schema["fields"][-3]["doc"] == "Not negative."
    assert not {"id", "source", "time_ms"} & set(types)


def test_every_supported_type_survives_the_wire() -> None:
    """An event with every type comes back equal, nested models and enums as such."""
    catalogue = Catalogue()
    catalogue.register(Everything, schema_id=1000)
    event = Everything(**FULL)
    back = catalogue.decode(catalogue.encode(event))
    assert back == event
    assert isinstance(back, Everything)
    assert isinstance(back.item, Item)
    assert back.state is State.OPEN


class Itself(BaseModel):
    """A model that holds itself."""

    next: Itself | None = None


class Empty(BaseModel):
    """A model without fields."""


class Renamed(BaseModel):
    """A model that is read under another name than its field has."""

    name: str = Field(alias="Name")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (str | int, "is a union: only X | None"),
        (set[str], "is not allowed"),
        (tuple[int, ...], "is not allowed"),
        (object, "is not allowed"),
        (dict[int, str], "the keys of a dict are str"),
        (Literal["in-progress"], "'in-progress' is no Avro symbol"),
        (Literal[1, 2], "1 is no Avro symbol"),
        (Itself, "Itself holds itself"),
        (Empty, "a record needs a field"),
        (list[Empty], "a record needs a field"),
        (Annotated[int, Field(alias="Y")], "no alias"),
        (Annotated[int, Field(validation_alias="Y")], "no alias"),
        (Renamed, "y.name: a field travels under its own name"),
        (Annotated[int, Field(exclude=True)], "exclude would leave it out"),
    ],
)
def test_other_types_are_refused_with_the_field(kind: Any, said: str) -> None:
    """A type that Avro or a hostile sender makes unsafe is refused, naming class and field."""
    body = {"event_type": "a.b", "schema_version": 1, "topic": "t", "key_field": "x", "__annotations__": {"x": str, "y": kind}}
    cls = type("Bad", (Event,), {"__module__": __name__, **body})
    with pytest.raises(InvalidEvent, match=r"class .*Bad: field y") as caught:
        schema_of(cls)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "r", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]},
        {
            "type": "record",
            "name": "r",
            "fields": [{"name": "a", "type": {"type": "array", "items": {"type": "record", "name": "e", "fields": []}}}],
        },
        {"type": "record", "name": "r", "fields": [{"name": "a", "type": ["null", "r"]}]},
        {"type": "record", "name": "r", "fields": []},
        {"type": "record", "name": "r", "fields": [{"name": "a", "type": "nonsense"}]},
        {"type": "array", "items": "string"},
        ["null", "string"],
    ],
)
def test_schemas_that_could_turn_against_the_reader_are_refused(schema: Any) -> None:
    """A foreign schema whose values take no bytes or have no bounded depth is refused before anything is read with it."""
    with pytest.raises(IncompatibleSchema):
        parsed(schema)


def test_the_prefix_is_confluents() -> None:
    """A zero byte, then the id as a big-endian int32."""
    assert prefix_of(1) == b"\x00\x00\x00\x00\x01"
    assert prefix_of(SCHEMA_ID_MAX) == b"\x00\x7f\xff\xff\xff"
