"""The root of every error that Antiphon raises on purpose, and those of bytes that are no event.

::

    AntiphonError                  retryable: bool   fault: caller | operator | broker | bug
    └── SchemaError                operator  carries topic, partition, offset, schema_id (None where unknown)
        ├── UnknownSchema          operator  the schema id or event type is in no catalogue
        ├── MalformedRecord        caller    truncated, not Confluent wire format, trailing bytes
        ├── IncompatibleSchema     operator  the reader's schema cannot read the writer's
        └── InvalidEvent           caller    well-formed, and not a valid event

The runtime's own errors continue the tree in ``streams.errors``.
"""

from __future__ import annotations

from typing import ClassVar, Literal

__all__ = ["AntiphonError", "Fault", "IncompatibleSchema", "InvalidEvent", "MalformedRecord", "SchemaError", "UnknownSchema"]

Fault = Literal["caller", "operator", "broker", "bug"]
"""Who can mend it."""


class AntiphonError(Exception):
    """Root of the tree. ``retryable``: the same call can succeed later by itself; ``fault``: who can mend it."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "bug"


class SchemaError(AntiphonError):
    """Bytes that are no event, or an event that cannot be bytes; the one-line message says where and what to do."""

    fault: ClassVar[Fault] = "operator"

    def __init__(
        self,
        reason: str,
        *,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
        schema_id: int | None = None,
    ) -> None:
        """Put the place in front of the reason.

        Args:
            reason: what is wrong and what to do, one line.
            topic: of the record.
            partition: of the record.
            offset: of the record.
            schema_id: as read from its bytes.
        """
        self.reason = reason
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.schema_id = schema_id
        place = [
            f"{name} {value}"
            for name, value in (("partition", partition), ("offset", offset), ("schema id", schema_id))
            if value is not None
        ]
        super().__init__(": ".join(part for part in (" ".join(filter(None, [topic, *place])), reason) if part))


class UnknownSchema(SchemaError):
    """No catalogue has the schema id or the event type. Register its class, or configure the Schema Registry it came from."""


class MalformedRecord(SchemaError):
    """Not Avro in Confluent wire format: find who produced it; the record itself is in the dead letters."""

    fault: ClassVar[Fault] = "caller"


class IncompatibleSchema(SchemaError):
    """The newest schema cannot read what was written with this one. Add a default, or read it with an older release."""


class InvalidEvent(SchemaError):
    """The fields do not make a valid event. Correct the producer."""

    fault: ClassVar[Fault] = "caller"
