"""The rows of a catalogue: what a schema id stands for, and a registered class."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.avro import Schema
from schemas.events import Event

__all__ = ["Entry", "Kind"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a schema id stands for.

    Attributes:
        schema_id: The id on the wire.
        event_type: The event type.
        version: Its version; 0 where a registry knows it and this release does not.
        writer: The schema it is written with, ready for fastavro.
        reader: The newest schema, where that is another one.
        cls: The event class; None where this release has none.
        plain: Whether what Avro has read needs no second check.
    """

    schema_id: int
    event_type: str
    version: int
    writer: Schema
    reader: Schema | None
    cls: type[Event] | None
    plain: bool

    @property
    def name(self) -> str:
        """Type and version, for messages."""
        return f"{self.event_type} v{self.version}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One registered class with its newest schema."""

    cls: type[Event]
    schema: Schema
    ready: Schema
    plain: bool
