"""The committed schemas: one file a version in `schemas/avro/`, never changed, and `catalogue.json`, which gives each its id.

    schemas/avro/change.committed.v1.avsc      what version 1 was, is and will be
    schemas/avro/catalogue.json                {"1": {"type": "change.committed", "version": 1}, ...}

Ids and files are for ever: records written with them may be in a log for ever. So `write` adds and never replaces, and refuses to
add a version that cannot read the one before it. Documentation inside a file may change.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from schemas.avro import Schema, schema_of, without_docs
from schemas.compatibility import is_backward
from schemas.errors import IncompatibleSchema
from schemas.events import Event

__all__ = ["BUILT_IN_ID_MAX", "INDEX", "Committed", "load", "main", "problems", "write"]

BUILT_IN_ID_MAX: Final = 999
"""Ids up to here are this distribution's; users number their own types from 1000 (see `Catalogue.register`)."""
INDEX: Final = "catalogue.json"
DIRECTORY: Final = "avro"


@dataclass(frozen=True, slots=True)
class Committed:
    """One committed version of one event type."""

    schema_id: int
    event_type: str
    version: int
    schema: Schema


def load(directory: Traversable | None = None) -> tuple[Committed, ...]:
    """Return all committed versions in the order of their ids.

    Args:
        directory: Where they are; the installed package's own unless given.

    Raises:
        IncompatibleSchema: The index and the files do not belong together.
    """
    directory = directory if directory is not None else files("schemas") / DIRECTORY
    index = directory / INDEX
    if not index.is_file():
        return ()
    found = []
    for number, entry in sorted(json.loads(index.read_text(encoding="utf-8")).items(), key=lambda item: int(item[0])):
        file = directory / file_name(entry["type"], entry["version"])
        if not file.is_file():
            raise IncompatibleSchema(
                f"{INDEX} names {entry['type']} version {entry['version']}, and {file.name} is not there: restore it",
                schema_id=int(number),
            )
        found.append(Committed(int(number), entry["type"], entry["version"], json.loads(file.read_text(encoding="utf-8"))))
    return tuple(found)


def file_name(event_type: str, version: int) -> str:
    """Return the name of the file that holds a version."""
    return f"{event_type}.v{version}.avsc"


def problems(classes: Iterable[type[Event]], committed: Sequence[Committed]) -> list[str]:
    """Return, in words, where the classes and the committed files differ or break the rules of evolution."""
    found = []
    known = {(c.event_type, c.version): c for c in committed}
    types = set()
    for cls in classes:
        where = f"{cls.event_type} version {cls.schema_version}"
        if cls.event_type in types:
            found.append(f"{cls.event_type}: two classes have this type")
        types.add(cls.event_type)
        mine = known.get((cls.event_type, cls.schema_version))
        if mine is None:
            found.append(f"{where} is not committed: run `python -m schemas.catalogue --write`")
        elif without_docs(mine.schema) != without_docs(schema_of(cls)):
            found.append(
                f"{where} is committed and its class differs ({_difference(mine.schema, schema_of(cls))}): "
                f"a committed version never changes; undo it, or raise schema_version to {_newest(cls.event_type, committed) + 1}"
            )
        elif cls.schema_version != _newest(cls.event_type, committed):
            found.append(
                f"{where}: version {_newest(cls.event_type, committed)} is committed, so the class must be that or the next"
            )
    for c in committed:
        if c.version > 1:
            before = known.get((c.event_type, c.version - 1))
            if before is None:
                found.append(f"{c.event_type}: version {c.version} is committed and version {c.version - 1} is not")
            else:
                found += _violations(before, c.schema)
    return found


def write(directory: Path, classes: Iterable[type[Event]]) -> list[str]:
    """Write what is not committed yet, with the next free ids.

    Args:
        directory: Where the files are.
        classes: The event classes, in the order in which new ids are given.

    Returns:
        The names of the files written.

    Raises:
        IncompatibleSchema: A class differs from its committed version, skips one or cannot read the last; nothing is written
        then.
    """
    committed = list(load(directory))
    known = {(c.event_type, c.version): c for c in committed}
    new: list[Committed] = []
    refreshed: list[Committed] = []
    for cls in classes:
        schema, newest = schema_of(cls), _newest(cls.event_type, committed)
        mine = known.get((cls.event_type, cls.schema_version))
        if mine is not None:
            if mine.schema != schema and without_docs(mine.schema) == without_docs(schema):
                refreshed.append(Committed(mine.schema_id, mine.event_type, mine.version, schema))
            continue
        if cls.schema_version != newest + 1:
            raise IncompatibleSchema(
                f"{cls.event_type}: schema_version is {cls.schema_version}, and the next after what is committed is {newest + 1}"
            )
        if newest and (violations := _violations(known[cls.event_type, newest], schema)):
            raise IncompatibleSchema("; ".join(violations))
        schema_id = max((c.schema_id for c in (*committed, *new)), default=0) + 1
        if schema_id > BUILT_IN_ID_MAX:
            raise IncompatibleSchema(f"ids up to {BUILT_IN_ID_MAX} are given out: use a Schema Registry", schema_id=schema_id)
        new.append(Committed(schema_id, cls.event_type, cls.schema_version, schema))
    if differing := problems(classes, (*committed, *new)):
        raise IncompatibleSchema("; ".join(differing))
    directory.mkdir(parents=True, exist_ok=True)
    for c in (*new, *refreshed):
        (directory / file_name(c.event_type, c.version)).write_text(json.dumps(c.schema, indent=2) + "\n", encoding="utf-8")
    if new:
        index = {str(c.schema_id): {"type": c.event_type, "version": c.version} for c in (*committed, *new)}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [file_name(c.event_type, c.version) for c in (*new, *refreshed)]


def main(classes: Sequence[type[Event]], arguments: Sequence[str] | None = None) -> int:
    """Run `python -m schemas.catalogue`: `--check` (0: all is committed, 1: not, and why) or `--write`."""
    parser = argparse.ArgumentParser(prog="python -m schemas.catalogue", description="Check or write the committed schemas.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="say where classes and committed files differ")
    action.add_argument("--write", action="store_true", help="commit new types and versions; refuses to change one in place")
    parser.add_argument("--directory", type=Path, default=Path(__file__).parent / DIRECTORY, help="where the files are")
    options = parser.parse_args(arguments)
    try:
        if options.write:
            lines = [f"wrote {name}" for name in write(options.directory, classes)] or ["nothing new"]
            failed = False
        else:
            lines = problems(classes, load(options.directory))
            failed = bool(lines)
    except IncompatibleSchema as e:
        lines, failed = [f"refused: {e}"], True
    (sys.stderr if failed else sys.stdout).write("".join(f"{line}\n" for line in lines))
    return int(failed)


def _newest(event_type: str, committed: Iterable[Committed]) -> int:
    return max((c.version for c in committed if c.event_type == event_type), default=0)


def _violations(before: Committed, schema: Schema) -> list[str]:
    return [
        f"{before.event_type}: the version after {before.version} cannot read it: {v}" for v in is_backward(before.schema, schema)
    ]


def _difference(old: Schema, new: Schema) -> str:
    """Return which fields differ, short."""
    before, after = ({f["name"]: without_docs(f) for f in schema["fields"]} for schema in (old, new))
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return f"fields {', '.join(names)}" if names else "the order of its fields, or its name"
