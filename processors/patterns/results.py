"""What a batch found, as records: `schemas.cep` events, written without the detour over their classes.

A busy pattern finds a match with every tenth event. Making the class's instance, checking it and dumping it again takes 40 µs;
the Avro value made of plain dicts and the headers put together here take a fifth of that. A test holds both ways to the same
bytes.

The id of a match is made of its version and its first and last event, so it is the same however the log was cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from processors.patterns.wire import Places, long_bytes, text_bytes
from schemas.avro import PREFIX_BYTES, parsed, write_body
from schemas.cep import (
    EVENTS,
    LateForPattern,
    PartialMatchEvicted,
    PatternActivated,
    PatternFailed,
    PatternMatched,
    PatternRefused,
    PatternTimedOut,
)
from schemas.cloudevents import CONTENT_TYPE, SPEC_VERSION, rfc3339

if TYPE_CHECKING:
    from processors.core.cep.conditions import Node
    from processors.core.cep.outputs import EventFields, Evicted, Match, PartialMatch, TimedOut
    from processors.patterns.options import CepOptions
    from schemas.events import Event
    from streams.codec import Codec
    from streams.turns.batch import Batch

__all__ = ["Results", "Writer"]

TOPIC_CHARS_MAX: Final = 200
"""Characters of a topic's name in an id: two names and the numbers have to fit into 512."""

_SAMPLES: Final[Mapping[type[Event], dict[str, Any]]] = {
    PatternMatched: {"stages": [], "started": 0, "ended": 0, "took_ms": 0, "correlation_key": ""},
    PatternTimedOut: {"stages": [], "started": 0, "deadline": 0, "correlation_key": ""},
    PartialMatchEvicted: {"stages": [], "started": 0, "reason": "", "correlation_key": ""},
    PatternFailed: {"input_topic": "", "input_partition": 0, "input_offset": 0, "reason": "", "correlation_key": ""},
    LateForPattern: {
        "input_topic": "", "input_partition": 0, "input_offset": 0, "ts": 0, "watermark": 0, "reason": "late",
        "correlation_key": "",
    },
    PatternActivated: {"action": "activated", "input_topic": "", "input_partition": 0, "input_offset": 0},
    PatternRefused: {"reason": ""},
}  # fmt: skip


class Writer:
    """How each kind of result is written, for one app.

    Args:
        codec: Gives the schema ids, from a Schema Registry where there is one.
        options: Where results go.
    """

    def __init__(self, codec: Codec, options: CepOptions) -> None:
        topics = {
            PatternMatched: options.matches_topic,
            PatternTimedOut: options.timeouts_topic,
            PartialMatchEvicted: options.evictions_topic,
            PatternFailed: options.evictions_topic,
            LateForPattern: options.late_topic,
            PatternActivated: options.changes_topic,
            PatternRefused: options.changes_topic,
        }
        self.kinds: dict[type[Event], Any] = {
            cls: (options.topic(topics[cls]), *self._form(codec, cls, options.topic(topics[cls]))) for cls in EVENTS
        }

    @staticmethod
    def _form(codec: Codec, cls: type[Event], topic: str) -> tuple[bytes, dict[str, Any], tuple[str, bytes]]:
        sample = cls(id="-", source="-", pattern="", version=0, detected_at=0, **_SAMPLES[cls])
        prefix = codec.encode(sample, topic=topic).value[:PREFIX_BYTES]
        return prefix, parsed(codec.catalogue.schema(cls)), ("ce_type", cls.event_type.encode())


_ENDS: Final[Mapping[type[Event], str]] = {PatternMatched: "", PatternTimedOut: "/timed-out", PartialMatchEvicted: "/evicted"}
"""Ends of ids: what was a match once may time out as a part of a longer one, with the same first and last event."""
_VERSION_HEADER: Final = ("ce_specversion", SPEC_VERSION.encode())
_CONTENT_HEADER: Final = ("content-type", CONTENT_TYPE.encode())


class Results:
    """Writes what one batch found.

    Args:
        batch: Where it is sent.
        writer: How.
    """

    def __init__(self, batch: Batch, writer: Writer) -> None:
        self._batch, self._kinds, self._now = batch, writer.kinds, batch.now_ms
        self._place = f"{batch.topic}/{batch.partition}"
        self._source = ("ce_source", f"/antiphon/{self._place}".encode())
        self._time = ("ce_time", rfc3339(self._now).encode())
        self._ids: dict[str, int] = {}
        self._heads: dict[tuple[type[Event], str, int], bytes] = {}
        self._places, self._detected_at = Places(), long_bytes(self._now)

    def matched(self, name: str, version: int, matches: Iterable[Match]) -> None:
        """Write matches."""
        for match in matches:
            taken = self._places.taken(match.node)
            started, ended = match.started, taken[2]["ts"]
            rest = long_bytes(started) + long_bytes(ended) + long_bytes(ended - started)
            self._about(PatternMatched, name, version, match.key, taken, rest)

    def timed_out(self, name: str, version: int, found: Iterable[TimedOut]) -> None:
        """Write partial matches whose window ended."""
        for one in found:
            taken = self._places.taken(one.node)
            self._about(PatternTimedOut, name, version, one.key, taken, long_bytes(taken[1]["ts"]) + long_bytes(one.ts))

    def evicted(self, name: str, version: int, found: Iterable[Evicted]) -> None:
        """Write partial matches that had to go for a limit."""
        for one in found:
            self._evicted(name, version, one.key, one.node, one.reason)

    def dropped(self, name: str, version: int, key: str, found: Iterable[PartialMatch], reason: str) -> None:
        """Write partial matches that went with their version."""
        for one in found:
            self._evicted(name, version, key, one.node, reason)

    def failed(self, name: str, version: int, key: str, event: EventFields | None, reason: str) -> None:
        """Write that a key's state was given up."""
        topic, partition, offset = event["id"] if event is not None else ("", -1, -1)
        fields = {"input_topic": topic, "input_partition": partition, "input_offset": offset, "reason": reason}
        place = f"{topic}/{partition}/{offset}" if event is not None else f"{key[:TOPIC_CHARS_MAX]}/t{self._now}"
        self._write(PatternFailed, name, version, key, fields, f"{version}/{place}/failed", "")

    def late(self, name: str, version: int, event: EventFields, watermark: int, reason: str) -> None:
        """Write an event that took no part."""
        topic, partition, offset = event["id"]
        fields = {
            "input_topic": topic, "input_partition": partition, "input_offset": offset,
            "ts": event["ts"], "watermark": watermark, "reason": reason,
        }  # fmt: skip
        place = f"{topic}/{partition}/{offset}"
        self._write(LateForPattern, name, version, event["key"], fields, f"{version}/{place}/late", place)

    def activated(self, name: str, version: int, action: str, offset: int) -> None:
        """Write from where on a version has a status, on the batch's partition."""
        topic, partition = self._batch.topic, self._batch.partition
        fields = {"action": action, "input_topic": topic, "input_partition": partition, "input_offset": offset}
        self._write(PatternActivated, name, version, None, fields, f"{version}/{self._place}/{offset}/{action}", "")

    def refused(self, name: str, offset: int, reason: str) -> None:
        """Write that a record of the patterns topic was not taken."""
        self._write(PatternRefused, name, offset, None, {"reason": reason}, f"{offset}/refused", "")

    # ---- inside

    def _evicted(self, name: str, version: int, key: Any, node: Node | None, reason: str) -> None:  # noqa: ANN401 text, to the engine any
        taken = self._places.taken(node)
        self._about(PartialMatchEvicted, name, version, key, taken, long_bytes(taken[1]["ts"]) + self._places.text(reason))

    def _about(
        self,
        cls: type[Event],
        name: str,
        version: int,
        key: Any,  # noqa: ANN401 text, to the engine any
        taken: tuple[bytes, EventFields, EventFields],
        rest: bytes,
    ) -> None:
        """Write a match or a partial match; `rest` is what its schema has between the stages and `detected_at`."""
        stages, first, last = taken
        topic, partition, offset = last["id"]
        from_topic, from_partition, from_offset = first["id"]
        begins = f"{from_partition}/{from_offset}"
        if from_topic != topic:
            begins = f"{from_topic[:TOPIC_CHARS_MAX]}/{begins}"
        place = f"{topic}/{partition}/{offset}"
        head = self._heads.get((cls, name, version))
        if head is None:
            head = self._heads[cls, name, version] = self._kinds[cls][1] + text_bytes(name) + long_bytes(version)
        raw = key.encode()
        value = b"".join((head, long_bytes(len(raw)), raw, stages, rest, self._detected_at))
        self._send(cls, raw, value, f"{version}/{begins}-{place[-TOPIC_CHARS_MAX:]}{_ENDS[cls]}", place)

    def _write(
        self, cls: type[Event], name: str, version: int, key: str | None, fields: dict[str, Any], place: str, cause: str
    ) -> None:
        _, prefix, schema, _ = self._kinds[cls]
        fields["pattern"], fields["version"], fields["detected_at"] = name, version, self._now
        if key is not None:
            fields["correlation_key"] = key
        self._send(cls, (name if key is None else key).encode(), write_body(prefix, schema, fields), place, cause)

    def _send(self, cls: type[Event], key: bytes, value: bytes, place: str, cause: str) -> None:
        topic, _, _, kind = self._kinds[cls]
        number = self._ids[place] = self._ids.get(place, 0) + 1
        identity = ("ce_id", f"{place}/{number}".encode())
        if cause:
            raw = cause.encode()
            headers = [
                _VERSION_HEADER, kind, identity, self._source, self._time,
                ("ce_correlationid", raw), ("ce_causationid", raw), _CONTENT_HEADER,
            ]  # fmt: skip
        else:
            headers = [_VERSION_HEADER, kind, identity, self._source, self._time, _CONTENT_HEADER]
        self._batch.send(topic, key=key, value=value, headers=headers)
