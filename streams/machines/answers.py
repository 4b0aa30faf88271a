"""Answers and events of the machines, as records: written without the detour over their classes, once for both readers.

An answer goes to who asked, on the partition of the reply topic that its command named, and at once: it follows from the log of
commands alone (see `streams.machines.cell`), so it need not wait for the kafka transaction in which the same bytes go to
the events topic.
Where a request waits, its *route* waits with it in its row: `<partition>|<request id of the call>|<reply topic>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from schemas.avro import PREFIX_BYTES, parsed, write_body
from schemas.cloudevents import CONTENT_TYPE, SPEC_VERSION, rfc3339
from schemas.coordination_answers import RequestQueued, RequestRefused, RequestTimedOut
from streams.requests import REPLIES_SUFFIX, REPLY_PARTITION, REPLY_TO, REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.events import Event
    from streams.codec import Codec
    from streams.turns.batch import Batch, Record

__all__ = ["NO_ROUTE", "Answers", "Writer", "route_of", "topic_of"]

NO_ROUTE: Final = ""
REQUEST_ID_CHARS_MAX: Final = 128
"""Of the id that a call is told apart by: it waits in a row and comes back in a header."""

_ASKED: Final[dict[str, Any]] = dict.fromkeys(("id", "source"), "-") | dict.fromkeys(
    ("domain", "request_id", "owner", "primitive", "name"), ""
)
_SHARED: Final[tuple[Event, ...]] = (
    RequestQueued(**_ASKED, behind=[]),
    RequestRefused(**_ASKED, code="", reason=""),
    RequestTimedOut(**_ASKED, waited_ms=0),
)
"""Written for several primitives."""

_VERSION_HEADER: Final = ("ce_specversion", SPEC_VERSION.encode())
_CONTENT_HEADER: Final = ("content-type", CONTENT_TYPE.encode())


def route_of(record: Record, partitions: Mapping[str, int]) -> str:
    """Return where a command's answer goes; `NO_ROUTE` where it names no partition of a reply topic that is there.

    Args:
        record: The command.
        partitions: The reply topics that are there, and how many partitions each has.
    """
    topic = request_id = number = b""
    for name, value in record.headers or ():
        if name == REPLY_TO:
            topic = value
        elif name == REQUEST_ID:
            request_id = value
        elif name == REPLY_PARTITION:
            number = value
    if not topic or not number.isdigit() or len(number) > 6 or len(request_id) > REQUEST_ID_CHARS_MAX:
        return NO_ROUTE
    try:
        to, call = topic.decode(), request_id.decode("ascii")
    except UnicodeDecodeError:
        return NO_ROUTE
    return f"{int(number)}|{call}|{to}" if int(number) < partitions.get(to, 0) else NO_ROUTE


def topic_of(record: Record) -> str:
    """Return the reply topic that a command names, where its name is one of a reply topic; empty otherwise."""
    for name, value in record.headers or ():
        if name == REPLY_TO:
            topic = (value or b"").decode("ascii", "replace")
            return topic if topic.endswith(REPLIES_SUFFIX) else ""
    return ""


class Writer:
    """How each kind of event is written, for one app.

    Args:
        codec: Gives the schema ids, from a Schema Registry where there is one.
        samples: An event of each kind, with its attributes; `request.*` are known.
        events_topic: Where events go.
    """

    def __init__(self, codec: Codec, samples: Iterable[Event], events_topic: str) -> None:
        self.events_topic = events_topic
        self.kinds: dict[type[Event], tuple[bytes, dict[str, Any], tuple[str, bytes]]] = {}
        for sample in (*_SHARED, *samples):
            cls = type(sample)
            prefix = codec.encode(sample, topic=events_topic).value[:PREFIX_BYTES]
            self.kinds[cls] = (prefix, parsed(codec.catalogue.schema(cls)), ("ce_type", cls.event_type.encode()))


class Answers:
    """Writes what one batch says.

    Args:
        batch: Where it is sent.
        writer: How.
    """

    def __init__(self, batch: Batch, writer: Writer) -> None:
        self._batch, self._kinds, self._topic = batch, writer.kinds, writer.events_topic
        self._place = f"{batch.topic}/{batch.partition}"
        self._source = ("ce_source", f"/antiphon/{self._place}".encode())
        self._now_ms = -1
        self._time = ("ce_time", b"")
        self._cause: tuple[tuple[str, bytes], ...] = ()
        self._number, self._ids = 0, ""

    @property
    def partition(self) -> int:
        """The partition whose commands are carried out."""
        return self._batch.partition

    def due_by(self, record: Record, now_ms: int) -> None:
        """Say that what follows was due when this record brought the time."""
        self._at(now_ms)
        self._number, self._ids, self._cause = 0, f"{self._place}/t{record.offset}", ()

    def _at(self, now_ms: int) -> None:
        if now_ms != self._now_ms:
            self._now_ms = now_ms
            self._time = ("ce_time", rfc3339(now_ms).encode())

    def caused_by(self, record: Record, now_ms: int) -> None:
        """Say which command the following answers are about, and the partition's time."""
        self._at(now_ms)
        self._number, self._ids = 0, f"{self._place}/{record.offset}"
        for name, value in record.headers or ():
            if name == "ce_id":
                self._cause = (("ce_correlationid", value), ("ce_causationid", value))
                return
        place = self._ids.encode()
        self._cause = (("ce_correlationid", place), ("ce_causationid", place))

    def write(self, cls: type[Event], fields: dict[str, Any], *, domain: str, route: str, event: bool = True) -> None:
        """Write one.

        Args:
            cls: Which event.
            fields: Its fields, the domain excepted.
            domain: Its domain.
            route: Who asked, if somebody did.
            event: Whether it is told to everybody: an answer that is repeated is not, since nothing happened.
        """
        fields["domain"] = domain
        value, headers = self._written(cls, fields)
        key = domain.encode()
        if event:
            self._batch.send(self._topic, key=key, value=value, headers=headers)
        if route:
            partition, call, topic = route.split("|", 2)
            self._batch.send_at_once(
                topic, key=key, value=value, headers=[*headers, (REQUEST_ID, call.encode())], partition=int(partition)
            )

    def send(
        self,
        cls: type[Event],
        fields: dict[str, Any],
        *,
        topic: str,
        key: bytes,
        partition: int = -1,
        event: bool = False,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """Write to another topic at once: a command to other machines, or what readers want sooner than its kafka transaction.

        It may come more than once, and where the broker is away for ten seconds not at all: send commands again until they are
        answered, and let readers know by what it says whether they have missed something.

        Args:
            cls: Which event.
            fields: All its fields.
            topic: Where to.
            key: Of the record.
            partition: Of the topic; else the key's.
            event: Whether it is told to everybody too, on the events topic.
            headers: More headers of it.
        """
        value, written = self._written(cls, fields)
        if event:
            self._batch.send(self._topic, key=key, value=value, headers=written)
        self._batch.send_at_once(topic, key=key, value=value, headers=[*written, *headers], partition=partition)

    def _written(self, cls: type[Event], fields: dict[str, Any]) -> tuple[bytes, list[tuple[str, bytes]]]:
        prefix, schema, kind = self._kinds[cls]
        value = write_body(prefix, schema, fields)
        self._number += 1
        identity = ("ce_id", f"{self._ids}/{self._number}".encode())
        return value, [_VERSION_HEADER, kind, identity, self._source, self._time, *self._cause, _CONTENT_HEADER]
