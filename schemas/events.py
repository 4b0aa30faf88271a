"""What every event is: a frozen pydantic model whose fields travel as Avro, and CloudEvents attributes that travel as headers.

::

    class LockGranted(Event):                      # one class a type; the class is the newest version
        event_type: ClassVar[str] = "lock.granted" # CloudEvents `type`, and the Avro record's full name
        schema_version: ClassVar[int] = 1          # raise it with every change of the fields
        topic: ClassVar[str] = "locks.events"      # where it goes unless told otherwise
        key_field: ClassVar[str] = "resource"      # the field that is the record key, so what decides the partition

        resource: str
        holder: str
        token: int = 0

What holds for every event that exists: its fields have their types (nothing is coerced: "1" is no int), its attributes are
within the limits below, and it cannot be changed. What is not promised: that `id`, `source` and `time_ms` are there. Nothing
here knows the time or makes an id; the shell gives them with `Event.stamped`, and an event without id and source cannot be
encoded.

A class that breaks the rules fails where it is defined. A class without an `event_type` is a base for others.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, ClassVar, Final, Literal, NoReturn, Self, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from schemas.errors import InvalidEvent

__all__ = [
    "ATTRIBUTES",
    "ID_CHARS_MAX",
    "SOURCE_CHARS_MAX",
    "SUBJECT_CHARS_MAX",
    "TIME_MS_MAX",
    "TRACESTATE_CHARS_MAX",
    "Event",
    "check_attribute",
    "is_traceparent",
]

ID_CHARS_MAX: Final = 512
"""Characters of an id. The ids made here are `topic/partition/offset/n`: 249 for the longest topic name, 43 for the numbers."""
SOURCE_CHARS_MAX: Final = 1024
"""Characters of a source: a URI that holds such an id."""
SUBJECT_CHARS_MAX: Final = 1024
"""Characters of a subject: a resource's name, or a path as long as most file systems allow in practice."""
TRACESTATE_CHARS_MAX: Final = 512
"""Characters of a tracestate: what every tracing system must at least propagate (W3C Trace Context, 3.3.1.5)."""
TIME_MS_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that RFC 3339 can write."""
TYPE_CHARS_MAX: Final = 200
"""Characters of an event type: with a version and an ending it is a file name, and those have 255 bytes."""
SHOWN_CHARS_MAX: Final = 80
"""Characters of a wrong value in a message, which is one line."""

ATTRIBUTES: Final = ("id", "source", "subject", "time_ms", "traceparent", "tracestate", "correlation_id", "causation_id")
"""The fields that are headers and not part of the Avro value."""

_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\Z")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}\Z")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
_KEY_TYPES: Final = (str, int, bytes)
_new, _set = object.__new__, object.__setattr__  # events are frozen


def is_traceparent(text: str) -> bool:
    """Return whether `text` is a traceparent header of W3C Trace Context, version 00."""
    return _TRACEPARENT.match(text) is not None


def _text(value: str) -> str:
    if not (value.isascii() and value.isprintable()) and _CONTROL.search(value):
        raise ValueError("text without control characters is allowed (CloudEvents, type String)")
    return value


def _uri(value: str) -> str:
    if " " in value:
        raise ValueError("a URI reference is allowed, so no spaces")
    return _text(value)


def _trace(value: str) -> str:
    if value and not is_traceparent(value):
        raise ValueError(
            "00-<32 hex digits>-<16 hex digits>-<2 hex digits> is allowed, lower case, no id all zeros (W3C Trace Context)"
        )
    return value


def _state(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("printable ASCII is allowed (W3C Trace Context)")
    return value


_TRACEPARENT_CHARS: Final = 55
_TEXTS: Final[dict[str, tuple[int, Callable[[str], str]]]] = {
    "id": (ID_CHARS_MAX, _text),
    "source": (SOURCE_CHARS_MAX, _uri),
    "subject": (SUBJECT_CHARS_MAX, _text),
    "traceparent": (_TRACEPARENT_CHARS, _trace),
    "tracestate": (TRACESTATE_CHARS_MAX, _state),
    "correlation_id": (ID_CHARS_MAX, _text),
    "causation_id": (ID_CHARS_MAX, _text),
}
_Id = Annotated[str, Field(max_length=ID_CHARS_MAX), AfterValidator(_text)]


def check_attribute(name: str, value: object) -> None:
    """Check one attribute as an event does, without making one.

    Raises:
        InvalidEvent: It has no such attribute, or the value is not allowed.
    """
    if (rule := _TEXTS.get(name)) is not None:
        chars_max, check = rule
        if type(value) is str and len(value) <= chars_max:
            try:
                check(value)
            except ValueError as e:
                raise InvalidEvent(f"{name} is {shown(value)}: {e}") from e
            return
        raise InvalidEvent(f"{name} is {shown(value)}: text of {chars_max} characters at most is allowed")
    if name != "time_ms":
        raise InvalidEvent(f"{shown(name)} is no attribute: {', '.join(ATTRIBUTES)} are allowed")
    if type(value) is not int or not 0 <= value <= TIME_MS_MAX:
        raise InvalidEvent(f"time_ms is {shown(value)}: a whole number from 0 to {TIME_MS_MAX} is allowed")


def shown(value: object) -> str:
    """Return a value as a message shows it: one line, not longer than a reader wants."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 3] + "..."


def complaint(error: ValidationError) -> str:
    """Return one line for all that pydantic found: each field, its value and what is allowed."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'event'} is {'missing' if e['type'] == 'missing' else shown(e['input'])}: {e['msg']}"
        for e in error.errors(include_url=False)
    )


class Event(BaseModel):
    """One thing that happened (past tense), or that somebody wants to happen (a command, imperative).

    Attributes:
        id: Names this event among those of its source; a retry has the same.
        source: A URI reference: who made it.
        subject: What it is about; empty where the key says it.
        time_ms: When it happened, epoch milliseconds; 0 where unknown.
        traceparent: W3C trace context.
        tracestate: W3C trace context, the vendors' part.
        correlation_id: The id of the first event of this conversation.
        causation_id: The id of the event that led to this one.

    Raises:
        InvalidEvent: A value is not allowed; the message has the field, the value and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    event_type: ClassVar[str]
    schema_version: ClassVar[int]
    topic: ClassVar[str]
    key_field: ClassVar[str]

    id: _Id = ""
    source: Annotated[str, Field(max_length=SOURCE_CHARS_MAX), AfterValidator(_uri)] = ""
    subject: Annotated[str, Field(max_length=SUBJECT_CHARS_MAX), AfterValidator(_text)] = ""
    time_ms: Annotated[int, Field(ge=0, le=TIME_MS_MAX)] = 0
    traceparent: Annotated[str, AfterValidator(_trace)] = ""
    tracestate: Annotated[str, Field(max_length=TRACESTATE_CHARS_MAX), AfterValidator(_state)] = ""
    correlation_id: _Id = ""
    causation_id: _Id = ""

    def __init__(self, /, **data: object) -> None:
        """Check the fields; see the class."""
        try:
            super().__init__(**data)
        except ValidationError as e:
            raise InvalidEvent(f"{_name(type(self))}: {complaint(e)}") from e

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - pydantic's signature
        """Refuse field names that are taken, before pydantic warns of them."""
        super().__init_subclass__(**kwargs)
        for name, annotation in inspect.get_annotations(cls).items():
            if name in ATTRIBUTES:
                _refuse(cls, "field", name, "the name is taken by a CloudEvents attribute; use another")
            if hasattr(Event, name) and "ClassVar" not in str(annotation):
                _refuse(cls, "field", name, "the name is taken by a part of every event; use another")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - pydantic's signature
        """Check a new event class."""
        super().__pydantic_init_subclass__(**kwargs)
        if getattr(cls, "event_type", None) is not None:
            _check_class(cls)

    @classmethod
    def payload_fields(cls) -> dict[str, FieldInfo]:
        """Return the fields that make up the Avro value, in order."""
        return {name: field for name, field in cls.model_fields.items() if name not in ATTRIBUTES}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Make an event from plain values as JSON or Avro give them: enums as strings, nested models as dicts.

        Raises:
            InvalidEvent: As for the class.
        """
        event = cls.__new__(cls)
        try:
            cls.__pydantic_validator__.validate_python(fields, self_instance=event, strict=False)
        except ValidationError as e:
            raise InvalidEvent(f"{_name(cls)}: {complaint(e)}") from e
        return event

    def key(self) -> bytes:
        """Return the record key: the bytes of the field that `key_field` names (text as UTF-8, numbers as decimal digits)."""
        value = getattr(self, self.key_field)
        if isinstance(value, bytes):
            return value
        try:
            return str(value).encode()
        except UnicodeEncodeError as e:
            raise InvalidEvent(
                f"{_name(type(self))}: {self.key_field} is {shown(value)}: text without lone surrogates is allowed"
            ) from e

    def stamped(
        self,
        *,
        id: str = "",  # noqa: A002 - the attribute's name in CloudEvents
        source: str = "",
        subject: str = "",
        time_ms: int = 0,
        traceparent: str = "",
        tracestate: str = "",
        correlation_id: str = "",
        causation_id: str = "",
    ) -> Self:
        """Return the event with its empty attributes filled in; those it has stay.

        A tracestate comes only along with its traceparent.

        Raises:
            InvalidEvent: A given value is not allowed.
        """
        if self.traceparent:
            traceparent = tracestate = ""
        given = (id, source, subject, time_ms, traceparent, tracestate, correlation_id, causation_id)
        mine = self.__dict__
        update: dict[str, Any] = {name: value for name, value in zip(ATTRIBUTES, given, strict=True) if value and not mine[name]}
        if not update:
            return self
        for name, value in update.items():
            check_attribute(name, value)
        if self.__pydantic_private__ is not None:
            return self.model_copy(update=update)
        # What model_copy does, in a quarter of its time: every event that is sent comes through here.
        cls = type(self)
        event = _new(cls)
        _set(event, "__dict__", {**mine, **update})
        _set(event, "__pydantic_fields_set__", self.__pydantic_fields_set__ | update.keys())
        _set(event, "__pydantic_extra__", None)
        _set(event, "__pydantic_private__", None)
        return event

    def caused_by(self, other: Event) -> Self:
        """Return the event as an effect of `other`: its causation, its conversation and its trace, where they are not set yet."""
        return self.stamped(
            causation_id=other.id,
            correlation_id=other.correlation_id or other.id,
            traceparent=other.traceparent,
            tracestate=other.tracestate,
        )


def _name(cls: type[Event]) -> str:
    return getattr(cls, "event_type", cls.__name__)


def _refuse(cls: type[Event], what: str, value: object, allowed: str) -> NoReturn:
    raise InvalidEvent(f"class {cls.__module__}.{cls.__qualname__}: {what} is {shown(value)}: {allowed}")


def _check_class(cls: type[Event]) -> None:
    """Check what a concrete event class declares.

    Raises:
        InvalidEvent: It breaks a rule of the module.
    """
    event_type, version = cls.event_type, getattr(cls, "schema_version", None)
    if not isinstance(cast(object, event_type), str) or not _TYPE.match(event_type) or len(event_type) > TYPE_CHARS_MAX:
        _refuse(
            cls,
            "event_type",
            event_type,
            f"lower-case words joined by dots are allowed, two or more, {TYPE_CHARS_MAX} characters at most",
        )
    if type(version) is not int or version < 1:
        _refuse(cls, "schema_version", version, "a whole number from 1 is allowed")
    topic = getattr(cls, "topic", None)
    if not isinstance(topic, str) or not _TOPIC.match(topic) or topic in {".", ".."}:
        _refuse(cls, "topic", topic, "a Kafka topic name is allowed: 1 to 249 of letters, digits, '.', '_' and '-'")
    key_field, fields = getattr(cls, "key_field", None), cls.payload_fields()
    if key_field not in fields:
        _refuse(cls, "key_field", key_field, f"one of its fields is allowed: {', '.join(fields) or '(it has none)'}")
    annotation = fields[key_field].annotation
    plain = isinstance(annotation, type) and issubclass(annotation, _KEY_TYPES) and not issubclass(annotation, bool)
    literal = get_origin(annotation) is Literal and all(
        isinstance(choice, str) and not isinstance(choice, Enum) for choice in get_args(annotation)
    )
    if not (plain or literal):
        _refuse(cls, "key_field", key_field, f"a field of type str, int or bytes is allowed, and this one is {annotation}")
