"""Follows the patterns topic, whole, in a thread of its own; whoever asks gets what it says as of now.

A definition is compiled once before anyone sees it. A record that means nothing is remembered with its reason, and what was
known of its pattern before stays. Nothing that stands in a record, and no broker that is away, ends the thread.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from processors.patterns.control import Control, ControlError, read

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["Follower", "Refused", "Snapshot", "Teller"]

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
"""One wait for records: how long closing takes at most."""
FIRST_POLL_S: Final = 0.05
"""The same until the topic has been read once: every processor of the worker waits for that."""
FETCH_WAIT_MS: Final = 100
"""How long the broker may hold an empty fetch. That a topic has ended is said by one, so at the default of 500 ms each start took
that long."""
RECORDS_MAX: Final = 500
"""Records of one poll."""
REFUSED_MAX: Final = 1_000
"""Refused records remembered, so that each is reported once; the oldest are forgotten first."""
REMOVED_MAX: Final = 10_000
"""Removals remembered, so that a pause or resume that crossed with one does not bring the pattern back; about 1 MB."""
PARTITION: Final = 0
"""The patterns topic has one partition: its offsets are the order of all changes."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that means nothing, or cannot be done here."""

    name: str
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the topic says.

    Attributes:
        seq: Grows with every change; 0 while nothing is known.
        end: The offset after the last record read.
        controls: The last good record of each pattern; removed ones are absent.
        kept: Patterns whose last record was refused: they stay what they were.
        refused: The refused records, by offset.
    """

    seq: int = 0
    end: int = 0
    controls: Mapping[str, Control] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    refused: tuple[Refused, ...] = ()


class Teller:
    """Makes snapshots of records, one after the other.

    Args:
        check: Says why a good record cannot be done here; empty where it can.
    """

    def __init__(self, check: Callable[[Control], str]) -> None:
        self._check = check
        self._controls: dict[str, Control] = {}
        self._kept: set[str] = set()
        self._refused: list[Refused] = []
        self._removed: dict[str, int] = {}
        self._seq = self._end = 0

    def take(self, key: bytes | None, value: bytes | None, offset: int) -> None:
        """Take the next record."""
        self._end = offset + 1
        name = (key or b"").decode("utf-8", "backslashreplace")
        try:
            control = read(key, value, offset)
            known = self._controls.get(control.name)
            if known is not None and control.version < known.version:
                raise ControlError(f"it names version {control.version}, and {known.version} is known: it was overtaken")
            if control.version < self._removed.get(control.name, -1):
                raise ControlError(f"it names version {control.version}, which was removed: publish it again")
            if control.definition is not None and (problem := self._check(control)):
                raise ControlError(problem)
        except ControlError as error:
            log.error("pattern %r, record %s of the patterns topic is refused: %s", name, offset, error)  # noqa: TRY400 its words say all
            self._refused = [*self._refused, Refused(name, offset, str(error))][-REFUSED_MAX:]
            if name not in self._removed:
                self._kept.add(name)
            return
        self._kept.discard(control.name)
        if control.definition is None:
            self._controls.pop(control.name, None)
            self._removed[control.name] = offset
            if len(self._removed) > REMOVED_MAX:
                del self._removed[next(iter(self._removed))]
        else:
            self._controls[control.name] = control
            self._removed.pop(control.name, None)

    def snapshot(self) -> Snapshot:
        """Return what has been said so far."""
        self._seq += 1
        return Snapshot(self._seq, self._end, dict(self._controls), frozenset(self._kept), tuple(self._refused))


class Follower:
    """See the module. `current` may be read from any thread.

    Args:
        client: librdkafka settings that reach the broker.
        topic: The patterns topic.
        check: As for `Teller`.
        changed: Called in the thread after each change, and once when the topic has been read to its end.
    """

    def __init__(
        self, client: Mapping[str, Any], topic: str, *, check: Callable[[Control], str], changed: Callable[[], None]
    ) -> None:
        self._config = {
            "log_level": 0,
            **client,
            "group.id": f"antiphon-patterns-{secrets.token_hex(6)}",  # asked for by the library; nothing is committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
        }
        self._topic, self._teller, self._changed = topic, Teller(check), changed
        self.current = Snapshot()
        """What the topic says; `seq` is 0 until it has been read to its end once."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="antiphon-patterns", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    # ---- in the thread

    def _run(self) -> None:
        consumer = Consumer(self._config)
        with suppress(KafkaException):  # who leads the topic: asked for now, it is known at once, and else after half a second
            consumer.list_topics(self._topic, timeout=POLL_S)
        consumer.assign([TopicPartition(self._topic, PARTITION, OFFSET_BEGINNING)])
        try:
            while not self._stop.is_set():
                try:
                    messages = consumer.consume(RECORDS_MAX, POLL_S if self.current.seq else FIRST_POLL_S)
                except KafkaException as error:
                    log.warning("patterns topic %s: %s; reading goes on", self._topic, error.args[0].str())
                    self._stop.wait(POLL_S)
                    continue
                if messages:
                    self._take(messages)
        finally:
            consumer.close()

    def _take(self, messages: list[Message]) -> None:
        changed = at_end = False
        for message in messages:
            error = message.error()
            if error is None:
                self._teller.take(message.key(), message.value(), message.offset() or 0)
                changed = True
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end = True
            else:
                log.warning("patterns topic %s: %s; reading goes on", self._topic, error.str())
        if (changed and self.current.seq) or (at_end and (changed or not self.current.seq)):
            self.current = self._teller.snapshot()
            self._changed()
