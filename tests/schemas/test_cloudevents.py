"""The CloudEvents Kafka binding: byte for byte what the cloudevents library writes, and whatever it writes is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import CATALOGUE
from schemas.cloudevents import epoch_ms, from_headers, is_structured, read_structured, rfc3339, to_headers
from schemas.errors import InvalidEvent, MalformedRecord, SchemaError
from schemas.events import TIME_MS_MAX
from schemas.work import FileChanged

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EVENT = FileChanged(agent="a", task="t", ts=1, arrived=2, path="p", added=3, removed=4, seq=5)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMES = {"time_ms": "time", "correlation_id": "correlationid", "causation_id": "causationid"}
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=30)
ATTRIBUTES = st.fixed_dictionaries(
    {"id": TEXTS, "source": TEXTS.map(lambda s: s.replace(" ", "") or "/")},
    optional={
        "subject": TEXTS,
        "time_ms": st.integers(1, TIME_MS_MAX),
        "traceparent": st.just(TRACE),
        "correlation_id": TEXTS,
        "causation_id": TEXTS,
    },
)


def library_event(attributes: dict[str, Any], data: Any, content_type: str = "application/avro") -> CloudEvent:
    """Return the same event as the library has it; a time it was not given stays away."""
    named = {NAMES.get(name, name): value for name, value in attributes.items()}
    if "time" in named:
        named["time"] = EPOCH + timedelta(milliseconds=named["time"])
    event = CloudEvent({**named, "type": EVENT.event_type, "specversion": "1.0", "datacontenttype": content_type}, data)
    if "time" not in named:
        del event.get_attributes()["time"]
    return event


@given(ATTRIBUTES)
def test_headers_are_what_the_library_writes_and_reads(attributes: dict[str, Any]) -> None:
    """Both directions agree on every attribute, byte for byte."""
    value = CATALOGUE.encode(EVENT)
    ours = to_headers(EVENT.stamped(**attributes))
    theirs = to_binary(library_event(attributes, value), JSONFormat())
    assert dict(ours) == theirs.headers
    assert len(ours) == len(theirs.headers)
    assert from_headers(list(theirs.headers.items())) == (EVENT.event_type, attributes)
    read = from_binary(KafkaMessage(dict(ours), None, value), JSONFormat())
    if "time_ms" in attributes:
        assert (read.get_time() - EPOCH) // timedelta(milliseconds=1) == attributes["time_ms"]  # type: ignore[operator]
    assert read.get_id() == attributes["id"]
    assert read.get_extension("correlationid") == attributes.get("correlation_id")


@given(ATTRIBUTES, st.booleans())
def test_structured_mode_is_what_the_library_writes(attributes: dict[str, Any], binary: bool) -> None:
    """An event that the library wrote in structured mode is read, with Avro or JSON as its data."""
    data = CATALOGUE.encode(EVENT) if binary else {"path": "p"}
    message = to_structured(library_event(attributes, data, "application/avro" if binary else "application/json"), JSONFormat())
    assert is_structured(list(message.headers.items()))
    whole = read_structured(message.value)
    assert (whole.event_type, whole.attributes, whole.data) == (EVENT.event_type, attributes, data)


@given(st.integers(0, TIME_MS_MAX))
def test_times_go_both_ways(ms: int) -> None:
    """Every millisecond up to the year 9999 is written as Python's own isoformat has it and read back."""
    assert rfc3339(ms) == (EPOCH + timedelta(milliseconds=ms)).isoformat().replace("+00:00", "Z")
    assert epoch_ms(rfc3339(ms)) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01t00:00:00.5z", 500),
        ("2011-08-01T23:41:24.123456789Z", 1312242084123),
    ],
)
def test_times_of_others_are_read(text: str, ms: int) -> None:
    """Offsets, lower case and finer fractions are RFC 3339 too."""
    assert epoch_ms(text) == ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2011-08-01", "2011-08-01T23:41:24", "2011-13-01T00:00:00Z", "1969-01-01T00:00:00Z"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """A time without an offset, a date alone or one before 1970 names what is allowed."""
    with pytest.raises(InvalidEvent, match=r"time(_ms)? is .*allowed"):
        epoch_ms(text)


def test_an_event_without_id_or_source_is_not_sent() -> None:
    """CloudEvents requires both, so encoding says which is missing."""
    with pytest.raises(InvalidEvent, match=r"file\.changed: id is '' and source '/s'"):
        to_headers(EVENT.stamped(source="/s"))


def test_a_broken_trace_is_dropped_and_the_event_kept() -> None:
    """W3C asks for it: a trace context that cannot be parsed is as if it were not there."""
    assert from_headers([("ce_id", b"1"), ("ce_traceparent", b"junk"), ("ce_tracestate", b"a=1")]) == ("", {"id": "1"})
    bad_state = [("ce_traceparent", TRACE.encode()), ("ce_tracestate", "ü".encode())]
    assert from_headers(bad_state) == ("", {"traceparent": TRACE})


def test_opentelemetrys_own_headers_count_where_ours_are_missing() -> None:
    """A plain traceparent is used unless a ce_traceparent is there."""
    other = TRACE.replace("4bf9", "aaaa")
    assert from_headers([("traceparent", TRACE.encode())])[1] == {"traceparent": TRACE}
    assert from_headers([("traceparent", other.encode()), ("ce_traceparent", TRACE.encode())])[1] == {"traceparent": TRACE}


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([("ce_specversion", b"0.3")], "specversion is '0.3': 1.0 is allowed"),
        ([("ce_id", b"\xff")], r"header ce_id is b'\\xff': UTF-8"),
        ([("ce_id", b"a\x00")], "id is 'a.x00'"),
        ([("CE_TIME", b"now")], "time is 'now': RFC 3339"),
        ([("ce_id", b"x" * 513)], "512 characters"),
    ],
)
def test_attributes_that_are_not_allowed_are_named(headers: list[tuple[str, bytes]], said: str) -> None:
    """A header that breaks a rule is an InvalidEvent with its name, value and what is allowed."""
    with pytest.raises(InvalidEvent, match=said):
        from_headers(headers)


@given(
    st.lists(
        st.tuples(st.sampled_from(["ce_id", "ce_time", "ce_type", "ce_traceparent", "traceparent", "x"]), st.binary(max_size=80))
    )
)
def test_any_headers_are_read_or_raise_a_schema_error(headers: list[tuple[str, bytes]]) -> None:
    """Whatever others put into headers, what comes out is valid on an event."""
    try:
        _, attributes = from_headers(headers)
    except SchemaError:
        return
    assert EVENT.stamped(**attributes).agent == "a"


@pytest.mark.parametrize(
    "value", [None, b"", b"[]", b"{", b'{"type":1}', b'{"id":"1"}', b'{"type":"a.b","data_base64":"!"}', b"[" * 100_000]
)
def test_broken_structured_events_are_explained(value: bytes | None) -> None:
    """What is no CloudEvent in JSON raises one line, however deep it is nested."""
    with pytest.raises((MalformedRecord, InvalidEvent)) as caught:
        read_structured(value)
    assert "\n" not in str(caught.value)


def test_the_json_of_structured_mode_needs_no_data() -> None:
    """An event without data is an event; its data is None."""
    whole = read_structured(json.dumps({"type": "a.b", "id": "1", "specversion": "1.0", "unknownextension": 5}).encode())
    assert (whole.event_type, whole.attributes, whole.data) == ("a.b", {"id": "1"}, None)
