"""Avro schemas from event classes, and Avro bytes in Confluent wire format.

The wire format, as every Kafka tool reads it::

    ┌──────┬─────────────────────┬──────────────────────────────┐
    │ 0x00 │ schema id, int32 BE │ Avro, binary, without header │
    └──────┴─────────────────────┴──────────────────────────────┘
    magic          4 bytes            the rest, nothing after it

What a field may be, and what it becomes (`Annotated` constraints are kept by pydantic, and Avro does not see them):

    str, int, float, bool, bytes   string, long, double, boolean, bytes
    X | None                       ["null", X], or [X, "null"] where the default is no None
    list[X], dict[str, X]          array, map
    a pydantic model               record, named <event type>.<class>
    Literal[...] of str, StrEnum   enum; a symbol "unknown" becomes the enum's default, for readers older than a symbol

Other types are refused, and so are two shapes that a few hostile bytes could turn against the reader: a record without fields
(an array of 2**60 of them takes no bytes) and a record that holds itself (its depth is the sender's choice, and the decoder's
stack is not).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from io import BytesIO
from types import NoneType, UnionType
from typing import Any, Final, Literal, NoReturn, Union, cast, get_args, get_origin

from fastavro import parse_schema, schemaless_writer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from schemas.errors import IncompatibleSchema, InvalidEvent
from schemas.events import Event, shown

__all__ = [
    "MAGIC",
    "PREFIX_BYTES",
    "SCHEMA_ID_MAX",
    "Schema",
    "is_plain",
    "parsed",
    "prefix_of",
    "schema_of",
    "without_docs",
    "write_body",
]

Schema = dict[str, Any]
Node = Any
"""A piece of a schema (a name, a list of branches or a dict), or a value in it."""

MAGIC: Final = b"\x00"
PREFIX_BYTES: Final = 5
SCHEMA_ID_MAX: Final = 2**31 - 1
"""Schema ids are positive int32 on the wire."""
UNKNOWN: Final = "unknown"
"""The enum symbol that stands for those a reader does not know."""

_PRIMITIVES: Final = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes"}
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FACTORIES: Final = (list, dict)


def prefix_of(schema_id: int) -> bytes:
    """Return the five bytes before the Avro body."""
    return MAGIC + schema_id.to_bytes(4, "big", signed=True)


def schema_of(cls: type[Event]) -> Schema:
    """Return the Avro schema of an event class; its full name is the event type.

    Raises:
        InvalidEvent: A field has a type or a default that Avro, or this module, does not do.
    """
    schema = _Builder(cls).record(cls, cls.event_type, cls.payload_fields())
    return {**schema, "version": cls.schema_version}


class _Builder:
    """Walks one class; remembers the named types, which Avro defines once and then refers to."""

    def __init__(self, cls: type[Event]) -> None:
        self.cls = cls
        self.done: dict[str, object] = {}
        self.open: list[type] = []

    def refuse(self, path: str, problem: str) -> NoReturn:
        """Say which field of the class cannot be Avro, and why."""
        raise InvalidEvent(f"class {self.cls.__module__}.{self.cls.__qualname__}: field {path}: {problem}")

    def record(self, model: type[BaseModel], name: str, fields: Mapping[str, FieldInfo], path: str = "") -> Schema:
        if not fields:
            self.refuse(path or "(none)", "a record needs a field")
        namespace, _, short = name.rpartition(".")
        schema: Schema = {"type": "record", "name": short, "namespace": namespace}
        if model.__doc__:
            schema["doc"] = model.__doc__.strip().split("\n")[0]
        schema["fields"] = [self.field(f"{path}.{field}" if path else field, field, info) for field, info in fields.items()]
        return schema

    def field(self, path: str, name: str, info: FieldInfo) -> Schema:
        if not _SYMBOL.match(name):
            self.refuse(path, "letters, digits and '_' are allowed in a name")
        if info.alias or info.validation_alias or info.serialization_alias:
            self.refuse(path, "a field travels under its own name, and what is written under it has to be read: no alias")
        if info.exclude:
            self.refuse(path, "exclude would leave it out of what is written: make it an attribute of the class that is no field")
        default = self.default(path, info)
        schema: Schema = {
            "name": name,
            "type": self.kind(path, info.annotation, nullable_first=default in (None, PydanticUndefined)),
        }
        if info.description:
            schema["doc"] = info.description
        if default is not PydanticUndefined:
            schema["default"] = default
        return schema

    def default(self, path: str, info: FieldInfo) -> Node:
        if info.default_factory is not None:
            if info.default_factory not in _FACTORIES:
                self.refuse(path, "a default is a plain value, or list or dict: schemas are the same each time they are made")
            return cast("Callable[[], Any]", info.default_factory)()
        return info.default if info.default is PydanticUndefined else self.plain(path, info.default)

    def plain(self, path: str, value: Node) -> Node:
        """Return a default as Avro's JSON writes it."""
        match value:
            case StrEnum():
                return value.value
            case bytes():
                return value.decode("latin-1")
            case float() if not math.isfinite(value):
                self.refuse(path, f"the default {value} is no JSON")
            case BaseModel():
                return {k: self.plain(path, v) for k, v in value.__dict__.items()}
            case list():
                return [self.plain(path, v) for v in value]
            case dict():
                return {k: self.plain(path, v) for k, v in value.items()}
        return value

    def kind(self, path: str, annotation: Node, *, nullable_first: bool = True) -> Node:  # noqa: PLR0911 - a return a type
        origin: Node = get_origin(annotation)
        args = get_args(annotation)
        if annotation in _PRIMITIVES:
            return _PRIMITIVES[annotation]
        if origin in (Union, UnionType):
            rest = [arg for arg in args if arg is not NoneType]
            if len(args) != 2 or len(rest) != 1:
                self.refuse(path, f"{annotation} is a union: only X | None is allowed")
            inner = self.kind(path, rest[0])
            return ["null", inner] if nullable_first else [inner, "null"]
        if origin is list:
            return {"type": "array", "items": self.kind(f"{path}[]", args[0])}
        if origin is dict:
            if args[0] is not str:
                self.refuse(path, "the keys of a dict are str")
            return {"type": "map", "values": self.kind(f"{path}{{}}", args[1])}
        if origin is Literal:
            return self.enum(path, path.rpartition(".")[2].rstrip("[]{}"), args)
        if isinstance(annotation, type) and issubclass(annotation, StrEnum):
            return self.enum(path, annotation.__name__, tuple(member.value for member in annotation))
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self.nested(path, annotation)
        if hasattr(annotation, "__metadata__"):
            return self.kind(path, args[0])
        return self.refuse(
            path,
            f"{annotation} is not allowed: str, int, float, bool, bytes, X | None, list[X], dict[str, X], "
            f"a pydantic model, Literal or StrEnum",
        )

    def enum(self, path: str, name: str, symbols: tuple[Any, ...]) -> Node:
        for symbol in symbols:
            if not isinstance(symbol, str) or not _SYMBOL.match(symbol):
                self.refuse(path, f"{shown(symbol)} is no Avro symbol: a letter or '_', then letters, digits and '_'")
        full = f"{self.cls.event_type}.{name}"
        if full in self.done:
            if self.done[full] != symbols:
                self.refuse(path, f"two enums are called {name}: name one of them as a StrEnum of its own")
            return full
        self.done[full] = symbols
        schema: Schema = {"type": "enum", "name": name, "namespace": self.cls.event_type, "symbols": list(symbols)}
        return {**schema, "default": UNKNOWN} if UNKNOWN in symbols else schema

    def nested(self, path: str, model: type[BaseModel]) -> Node:
        if model in self.open:
            self.refuse(path, f"{model.__name__} holds itself; use a list of flat records")
        full = f"{self.cls.event_type}.{model.__name__}"
        if full in self.done:
            if self.done[full] is not model:
                self.refuse(path, f"two models are called {model.__name__}")
            return full
        self.done[full] = model
        self.open.append(model)
        schema = self.record(model, full, model.model_fields, path)
        self.open.pop()
        return schema


_CODE: Final = ("validators", "field_validators", "root_validators", "model_validators", "field_serializers", "model_serializers")
"""Where pydantic keeps the code that a class brings along."""


def is_plain(cls: type[Event]) -> bool:
    """Return whether Avro's types are all that the class asks of its fields, so that what Avro has read needs no second check.

    False for a class with validators, constraints, enums, nested models, private attributes or code that runs when one is made.
    """
    marks = cls.__pydantic_decorators__
    code = any(getattr(marks, name) for name in _CODE)
    own = any(getattr(cls, name) is not getattr(Event, name) for name in ("model_post_init", "__init__", "__new__"))
    if code or own or cls.__private_attributes__ or cls.model_config != Event.model_config:
        return False
    return all(not field.metadata and _plain_type(field.annotation) for field in cls.payload_fields().values())


def _plain_type(annotation: Node) -> bool:
    if annotation in _PRIMITIVES or annotation is NoneType:
        return True
    origin: Node = get_origin(annotation)
    return origin in (Union, UnionType, list, dict) and all(map(_plain_type, get_args(annotation)))


def without_docs(schema: Node) -> Node:
    """Return a schema without its documentation, which may change without a new version."""
    if isinstance(schema, dict):
        return {k: without_docs(v) if k != "default" else v for k, v in schema.items() if k != "doc"}
    return [without_docs(s) for s in schema] if isinstance(schema, list) else schema


def parsed(schema: Schema) -> Schema:
    """Return a schema as fastavro wants it, after checking that no bytes can make its reader run for ever.

    Raises:
        IncompatibleSchema: It is no Avro schema, or one of the two dangerous shapes (see the module).
    """
    if not isinstance(cast(object, schema), dict):
        raise IncompatibleSchema(f"an event is an Avro record, and this schema is {shown(schema)}")
    try:
        ready = cast(Schema, parse_schema(schema))
    except Exception as e:  # fastavro raises many kinds; each is the same news
        raise IncompatibleSchema(f"not an Avro schema: {_line(e)}") from e
    if ready.get("type") != "record":
        raise IncompatibleSchema(f"an event is an Avro record, and this schema is {shown(schema)}")
    if _least_bytes(ready, {}, (), ready.get("name", "")) == 0:
        raise IncompatibleSchema(f"{ready.get('name')}: a record without fields takes no bytes: give it a field")
    return ready


def _least_bytes(schema: Node, named: dict[str, int], inside: tuple[str, ...], path: str) -> int:
    """Return 0 where a value can take no bytes at all, else 1; refuse arrays of such values and types that hold themselves."""
    if isinstance(schema, list):
        for branch in schema:
            _least_bytes(branch, named, inside, path)
        return 1
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, (list, dict)):
        return _least_bytes(kind, named, inside, path)
    if kind in inside:
        raise IncompatibleSchema(f"{path}: {kind} holds itself, and its depth would be the sender's choice: flatten it")
    if kind == "record":
        name = schema["name"]
        sizes = [_least_bytes(f["type"], named, (*inside, name), f"{path}.{f['name']}") for f in schema["fields"]]
        named[name] = max(sizes, default=0)
        return named[name]
    if kind == "array" and _least_bytes(schema["items"], named, inside, f"{path}[]") == 0:
        raise IncompatibleSchema(f"{path}: an array of values without bytes can claim any length: give them a field")
    if kind == "map":
        _least_bytes(schema["values"], named, inside, f"{path}{{}}")
    if kind == "fixed":
        named[schema["name"]] = min(schema["size"], 1)
    return named.get(kind, 0 if kind == "null" else 1)


def write_body(prefix: bytes, schema: Schema, fields: Mapping[str, Any]) -> bytes:
    """Return prefix and Avro body. `fields` may hold more than the schema; what the schema lacks is not written."""
    out = BytesIO()
    out.write(prefix)
    schemaless_writer(out, schema, fields)
    return out.getvalue()


def _line(error: BaseException) -> str:
    """Return an exception's words on one line."""
    return " ".join(str(error).split()) or type(error).__name__
