"""Events that are sent on under another key keep where they came from, in two headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.errors import MalformedRecord

__all__ = ["Rekeying"]


class Placed(Protocol):
    """A record, as the runtime or a reader gives it."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def offset(self) -> int:
        """Its offset."""

    @property
    def timestamp(self) -> int:
        """When it was written, ms."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Its headers."""


class Rekeying:
    """The headers of one processor's internal topic.

    Args:
        name: The processor's name: the headers are `<name>_origin` (topic/partition/offset/timestamp of the original) and
            `<name>_field` (the field whose value is the key).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.origin_header = f"{name}_origin"
        self.field_header = f"{name}_field"

    def headers_on(self, record: Placed, field: str) -> list[tuple[str, bytes]]:
        """Return the headers of an event that is sent on, keyed by a field: its own, its origin and the field."""
        origin = f"{record.topic}/{record.partition}/{record.offset}/{record.timestamp}"
        return [*record.headers, (self.origin_header, origin.encode()), (self.field_header, field.encode())]

    def origin_of(self, record: Placed) -> tuple[str, int, int, int, str]:
        """Return topic, partition, offset and timestamp of the original, and the field whose value is the key.

        Raises:
            MalformedRecord: The record was not written by this processor.
        """
        headers = dict(record.headers)
        try:
            topic, partition, offset, timestamp = headers[self.origin_header].decode().rsplit("/", 3)
            return topic, int(partition), int(offset), int(timestamp), headers[self.field_header].decode()
        except (KeyError, ValueError):
            raise MalformedRecord(
                f"no {self.origin_header} and {self.field_header} as processor {self.name} writes them: nobody else writes here",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
            ) from None
