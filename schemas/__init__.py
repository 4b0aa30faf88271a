"""What travels: events, their Avro schemas and the errors of both. Pure: no clock, no network, no chance."""

from schemas.errors import AntiphonError, IncompatibleSchema, InvalidEvent, MalformedRecord, SchemaError, UnknownSchema
from schemas.events import Event

__all__ = ["AntiphonError", "Event", "IncompatibleSchema", "InvalidEvent", "MalformedRecord", "SchemaError", "UnknownSchema"]
