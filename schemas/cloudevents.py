"""CloudEvents 1.0 on Kafka: an event's attributes as record headers (binary mode), and reading structured mode too.

    attribute        header               value
    ───────────────  ───────────────────  ──────────────────────────────────────────
    (always)         ce_specversion       1.0
    event_type       ce_type              change.committed
    id               ce_id                agents.events/3/1207/1
    source           ce_source            /antiphon/agents.events/3/1207
    time_ms          ce_time              RFC 3339, UTC: 2011-08-01T23:41:24Z
    subject          ce_subject
    traceparent      ce_traceparent       W3C Trace Context (the CloudEvents extension "distributed tracing")
    tracestate       ce_tracestate
    correlation_id   ce_correlationid     extension names are lower-case letters and digits
    causation_id     ce_causationid
    (always)         content-type         application/avro

Empty attributes have no header. Values are UTF-8, as the Kafka binding says. When reading, a header that is there twice counts
as the last; a plain `traceparent` or `tracestate`, which OpenTelemetry writes, counts where no `ce_` one is there; a broken
trace context is dropped and the event kept, as W3C asks; other headers are none of our business. Source: CloudEvents 1.0.2,
Kafka Protocol Binding.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from schemas.errors import InvalidEvent, MalformedRecord
from schemas.events import ATTRIBUTES, ID_CHARS_MAX, TIME_MS_MAX, Event, check_attribute, is_traceparent, shown

__all__ = [
    "CONTENT_TYPE",
    "SPEC_VERSION",
    "Headers",
    "Structured",
    "from_headers",
    "is_structured",
    "read_structured",
    "rfc3339",
    "to_headers",
]

Headers = list[tuple[str, bytes]]

SPEC_VERSION: Final = "1.0"
CONTENT_TYPE: Final = "application/avro"
STRUCTURED: Final = "application/cloudevents"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_UTC: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - always UTC here; without a zone isoformat leaves room for the Z
_MS: Final = timedelta(milliseconds=1)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)\Z")

_NAMES: Final = {
    "id": "id",
    "source": "source",
    "subject": "subject",
    "time_ms": "time",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "correlation_id": "correlationid",
    "causation_id": "causationid",
}
_FIELDS: Final = {name: field for field, name in _NAMES.items()} | {"type": "type", "specversion": "specversion"}
_BY_HEADER: Final = {f"ce_{name}": field for name, field in _FIELDS.items()}
_TEXT_HEADERS: Final = tuple((field, f"ce_{_NAMES[field]}") for field in ATTRIBUTES if field not in ("id", "source", "time_ms"))
_FREE_TEXTS: Final = frozenset({"id", "subject", "correlation_id", "causation_id"})
_SETTLED: Final = frozenset({"time_ms", "traceparent", "tracestate"})
_VERSION_HEADER: Final = ("ce_specversion", SPEC_VERSION.encode())
_CONTENT_HEADER: Final = ("content-type", CONTENT_TYPE.encode())


def rfc3339(time_ms: int) -> str:
    """Return epoch milliseconds as RFC 3339 in UTC, with microseconds where it is not a whole second."""
    return (_EPOCH_UTC + timedelta(milliseconds=time_ms)).isoformat() + "Z"


def epoch_ms(text: str) -> int:
    """Return epoch milliseconds from RFC 3339; what is finer than a millisecond is cut off.

    Raises:
        InvalidEvent: It is no RFC 3339 time, or before 1970.
    """
    try:
        if not _RFC3339.match(text):
            raise ValueError("no match")
        ms = (datetime.fromisoformat(text.upper()) - _EPOCH) // _MS
    except (ValueError, OverflowError) as e:
        raise InvalidEvent(f"time is {shown(text)}: RFC 3339 is allowed, as 2011-08-01T23:41:24Z") from e
    if not 0 <= ms <= TIME_MS_MAX:
        check_attribute("time_ms", ms)
    return ms


def to_headers(event: Event) -> Headers:
    """Return the headers of an event.

    Raises:
        InvalidEvent: It has no id or no source, which CloudEvents requires.
    """
    values = event.__dict__
    if not values["id"] or not values["source"]:
        raise InvalidEvent(
            f"{event.event_type}: id is {shown(values['id'])} and source {shown(values['source'])}: both are needed, see stamped"
        )
    headers = [
        _VERSION_HEADER,
        ("ce_type", event.event_type.encode()),
        ("ce_id", values["id"].encode()),
        ("ce_source", values["source"].encode()),
    ]
    if values["time_ms"]:
        headers.append(("ce_time", rfc3339(values["time_ms"]).encode()))
    for field, header in _TEXT_HEADERS:
        if value := values[field]:
            headers.append((header, value.encode()))
    headers.append(_CONTENT_HEADER)
    return headers


def from_headers(headers: Iterable[tuple[str, bytes | None]] | None) -> tuple[str, dict[str, Any]]:
    """Return the event type that the headers name ("" where they do not), and the attributes, checked.

    Raises:
        InvalidEvent: An attribute is not allowed, or the CloudEvents version is another than 1.0.
    """
    found: dict[str, str] = {}
    plain: dict[str, str] = {}
    for name, raw in headers or ():
        field = _BY_HEADER.get(name) or _BY_HEADER.get(name.lower())
        if field is not None:
            try:
                found[field] = raw.decode()  # type: ignore[union-attr] # a header without a value is told apart below
            except (AttributeError, UnicodeDecodeError):
                found[field] = _utf8(name, raw)
        elif name in ("traceparent", "tracestate") and raw is not None:
            plain[name] = raw.decode("ascii", "replace")
    if plain and "traceparent" not in found:
        found.update(plain)
    return _checked(found)


def is_structured(headers: Iterable[tuple[str, bytes | None]] | None) -> bool:
    """Return whether the value is the whole event, as the content type `application/cloudevents...` says."""
    return any(
        name.lower() == "content-type" and (raw or b"").lower().startswith(STRUCTURED.encode()) for name, raw in headers or ()
    )


@dataclass(frozen=True, slots=True)
class Structured:
    """An event in structured mode: type and attributes, and the data, as bytes or as JSON."""

    event_type: str
    attributes: dict[str, Any]
    data: Any


def read_structured(value: bytes | None) -> Structured:
    """Read `application/cloudevents+json`.

    Raises:
        MalformedRecord: It is no such JSON.
        InvalidEvent: An attribute is not allowed.
    """
    try:
        fields = json.loads(value or b"")
    except (ValueError, RecursionError) as e:
        raise MalformedRecord(f"the content type is {STRUCTURED}+json and the value no JSON ({e}): correct its producer") from e
    if not isinstance(fields, dict):
        raise MalformedRecord(f"the content type is {STRUCTURED}+json and the value {shown(fields)}: an object is allowed")
    data = fields.get("data")
    if data is None and "data_base64" in fields:
        try:
            data = base64.b64decode(fields["data_base64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as e:
            raise MalformedRecord(f"data_base64 is {shown(fields['data_base64'])}: Base64 is allowed") from e
    found: dict[str, str] = {}
    for name, content in fields.items():
        if (field := _FIELDS.get(name)) is not None and content is not None:
            if not isinstance(content, str):
                raise InvalidEvent(f"{name} is {shown(content)}: text is allowed")
            found[field] = content
    event_type, attributes = _checked(found)
    if not event_type:
        raise InvalidEvent("type is missing: the event type is required in structured mode")
    return Structured(event_type, attributes, data)


def _checked(found: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return type and attributes from texts by field."""
    version = found.pop("specversion", SPEC_VERSION)
    if version != SPEC_VERSION:
        raise InvalidEvent(f"specversion is {shown(version)}: {SPEC_VERSION} is allowed")
    event_type = found.pop("type", "")
    if "time_ms" in found:
        found["time_ms"] = epoch_ms(found["time_ms"])
    if "traceparent" not in found or not is_traceparent(found["traceparent"]):
        found.pop("traceparent", None)
        found.pop("tracestate", None)
    for name, value in found.items():
        plain = name in _FREE_TEXTS and len(value) <= ID_CHARS_MAX and value.isascii() and value.isprintable()
        if not plain and name not in _SETTLED:
            check_attribute(name, value)
    if "tracestate" in found:
        try:
            check_attribute("tracestate", found["tracestate"])
        except InvalidEvent:
            del found["tracestate"]
    return event_type, found


def _utf8(name: str, raw: bytes | None) -> str:
    try:
        return (raw or b"").decode()
    except UnicodeDecodeError as e:
        raise InvalidEvent(f"header {name} is {shown(raw)}: UTF-8 is allowed") from e
