"""Picks the fields that patterns name out of an Avro body, and steps over the others.

fastavro makes a whole dict of every value, 1 to 2 µs; a condition names one field or two. So for each schema a function is made
that knows where they are:

    v[5:]    agent: long     value: double        wanted: value
             step over       take 8 bytes         then the end must be here

It checks what tells where the fields are (lengths, branches of unions, symbols of enums, the end), and refuses anything odd by
raising any exception at all: then fastavro is asked, and its answer counts. The text of fields that nobody wants is not looked
at. Where a schema has more than flat fields there is no such function. Source of the encoding: Avro 1.11, Binary Encoding.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from processors.core.watermarks import is_time

if TYPE_CHECKING:
    from schemas.avro import Schema

__all__ = ["Make", "Pick", "maker", "picker", "scalar"]

Pick = Callable[[bytes], dict[str, Any]]
"""From a value in wire format to its wanted fields; raises what it likes where something is odd."""
Make = Callable[[bytes, tuple[str, int, int], str, int], dict[str, Any]]
"""From a value in wire format, its place, key and timestamp (ms) to the event; raises what it likes where something is odd."""

BODY: Final = 5
"""Where the body begins: after the magic byte and the schema id."""
LONG_BITS: Final = 63
"""The last shift of a long's bytes: it has ten of seven bits at most."""
_FIXED: Final = {"double": ("d", 8), "float": ("f", 4)}
_UNION_BRANCHES: Final = 2
"""Of what is optional: null and something."""


class _Nested(Exception):
    """The schema has more than flat fields."""


def _long(v: bytes, p: int) -> tuple[int, int]:
    """Read a long of several bytes: it, and where it ends."""
    number = shift = 0
    while True:
        byte = v[p]
        p += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), p
        shift += 7
        if shift > LONG_BITS:
            raise ValueError


def scalar(value: object) -> object:
    """Return a value as conditions know it: a number, a string, a boolean or null."""
    kind = value.__class__
    if kind is str or kind is int or kind is bool:
        return value
    return value if kind is float and math.isfinite(value) else None  # type: ignore[arg-type] # it is a float


_SCOPE: Final = {
    "long_at": _long,
    "double": struct.Struct("<d").unpack_from,
    "float_": struct.Struct("<f").unpack_from,
    "is_time": is_time,
    "scalar": scalar,
}


def _read_long(to: str, pad: str) -> list[str]:
    return [
        f"{pad}b = v[p]",
        f"{pad}if b < 128:",
        f"{pad}    {to} = (b >> 1) ^ -(b & 1); p += 1",
        f"{pad}else:",
        f"{pad}    {to}, p = long_at(v, p)",
    ]


def _lines(kind: Any, to: str, wanted: bool, pad: str) -> list[str]:  # noqa: ANN401 a piece of a schema
    """The lines that read a value into `to`, or step over it."""
    if isinstance(kind, list):
        if len(kind) != _UNION_BRANCHES:
            raise _Nested
        made = [f"{pad}b = v[p]; p += 1"]  # the branch: 0 or 1, so one byte of 0 or 2
        for number, branch in enumerate(kind):
            made += [f"{pad}{'el' if number else ''}if b == {2 * number}:", *_lines(branch, to, wanted, pad + "    ")]
        return [*made, f"{pad}else: raise ValueError"]
    if isinstance(kind, dict):
        if kind.get("logicalType") or kind["type"] not in ("enum", *_FIXED, "long", "int", "string", "boolean", "bytes"):
            raise _Nested
        if kind["type"] != "enum":
            return _lines(kind["type"], to, wanted, pad)
        made = [*_read_long("n", pad), f"{pad}if not 0 <= n < {len(kind['symbols'])}: raise ValueError"]
        return [*made, f"{pad}{to} = {tuple(kind['symbols'])!r}[n]"] if wanted else made
    if kind == "null":
        return [f"{pad}{to} = None" if wanted else f"{pad}pass"]
    if kind in _FIXED:
        size = _FIXED[kind][1]
        unpack = "double" if kind == "double" else "float_"
        return [f"{pad}{to} = {unpack}(v, p)[0]; p += {size}" if wanted else f"{pad}p += {size}"]
    if kind in ("long", "int"):
        return _read_long(to, pad) if wanted else [f"{pad}while v[p] > 127: p += 1", f"{pad}p += 1"]
    if kind == "boolean":
        made = [f"{pad}b = v[p]; p += 1", f"{pad}if b > 1: raise ValueError"]
        return [*made, f"{pad}{to} = b == 1"] if wanted else made
    if kind in ("string", "bytes"):
        made = [*_read_long("n", pad), f"{pad}if n < 0: raise ValueError"]
        if wanted:
            made.append(f"{pad}{to} = v[p:p + n]" + (".decode()" if kind == "string" else ""))
        return [*made, f"{pad}p += n"]
    raise _Nested


def _read(schema: Schema, names: Iterable[str], made: Callable[[dict[str, str]], list[str]], head: str) -> str | None:
    """The source of a function that reads the named fields and goes on with `made`, given where each then is."""
    wanted = set(names)
    lines, found = [head, f"    p = {BODY}"], {}
    try:
        for number, field in enumerate(schema["fields"]):
            take = field["name"] in wanted
            lines += _lines(field["type"], f"f{number}", take, "    ")
            if take:
                found[field["name"]] = f"f{number}"
    except _Nested:
        return None
    return "\n".join([*lines, "    if p != len(v): raise ValueError", *made(found)])


def source(schema: Schema, names: Iterable[str]) -> str | None:
    """The source of a schema's function; None where the schema has more than flat fields."""

    def made(found: dict[str, str]) -> list[str]:
        return [f"    return {{{', '.join(f'{name!r}: {at}' for name, at in found.items())}}}"]

    return _read(schema, names, made, "def pick(v):")


def event_source(schema: Schema, names: Iterable[str], event_type: str) -> str | None:
    """The source of a schema's function that makes the event itself; None where the schema has more than flat fields."""
    kinds = {field["name"]: field["type"] for field in schema["fields"]}
    wanted = [name for name in names if name in kinds]

    def made(found: dict[str, str]) -> list[str]:
        lines = []
        if "ts" in kinds:
            lines.append(f"    if {found['ts']} is not None and is_time({found['ts']}): ts = {found['ts']}")
        lines.append(f"    e = {{'id': place, 'key': key, 'ts': ts, 'type': {event_type!r}}}")
        for name in wanted:
            at, kind = found[name], kinds[name]
            if kind in ("long", "int", "string", "boolean"):
                lines.append(f"    e[{name!r}] = {at}")
            elif kind in ("double", "float"):
                lines.append(f"    e[{name!r}] = {at} if {at} - {at} == 0.0 else None")  # neither NaN nor infinite
            else:
                lines.append(f"    if {at} is not None: e[{name!r}] = scalar({at})")
        return [*lines, "    return e"]

    return _read(schema, {"ts", *wanted}, made, "def make(v, place, key, ts):")


def _compiled(text: str, name: str, schema: Schema) -> Any:  # noqa: ANN401 a function
    scope: dict[str, Any] = dict(_SCOPE)
    exec(compile(text, f"<{name} {schema['name']}>", "exec"), scope)  # noqa: S102 our own source, literals through repr
    return scope[name]


def picker(schema: Schema, names: Iterable[str]) -> Pick | None:
    """Make the function that picks these fields out of values of a schema.

    Args:
        schema: The schema that they are written with, a record.
        names: The fields; those that the schema lacks are not picked.

    Returns:
        The function, or None where the schema has more than flat fields.
    """
    text = source(schema, names)
    return None if text is None else _compiled(text, "pick", schema)


def maker(schema: Schema, names: Iterable[str], event_type: str) -> Make | None:
    """Make the function that makes events of values of a schema: as `picker`, without the dict in between.

    Args:
        schema: The schema that they are written with, a record.
        names: The fields that patterns name.
        event_type: Their type.

    Returns:
        The function, or None where the schema has more than flat fields.
    """
    text = event_source(schema, names, event_type)
    return None if text is None else _compiled(text, "make", schema)
