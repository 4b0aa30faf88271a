"""What the workers have said of the records of the patterns topic: which they refused, and which versions they took.

The patterns topic alone does not tell: that a pattern names a topic that no worker reads is known to the workers only. They say
it once, on the topic of changes; its newest committed records are read here, and nothing is waited for.

    refused 7                                   version 7 is refused; what ran before goes on
    refused 7, activated 7                      it runs: the workers were restarted with its topic, or another app reads it
    activated 7, refused 9 (pausing 7)          the last record is refused, and version 7 goes on as it was

Not known is a refusal that lies further back than `CHANGES_MAX`, or that the topic has forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.cep import PatternActivated, PatternRefused
from schemas.errors import SchemaError
from streams.codec import Codec
from streams.reader import LogReader, Selection
from streams.topics import broker_error

if TYPE_CHECKING:
    from streams.reader import Bounds

__all__ = ["QUICK", "Heard", "hear"]

CHANGES_MAX: Final = 20_000
"""Records read of each partition, the newest: a change of a pattern is one for each partition that it reads, so these are the
last thousand changes or more, in a tenth of a second."""
QUICK: Final[Mapping[str, Any]] = MappingProxyType({"fetch.wait.max.ms": 50})
"""That a topic ends in a transaction's marker is told by an empty fetch, which the broker holds for half a second by default."""
TIMEOUT_S: Final = 10.0
"""For the question where the committed records end."""
RUNS: Final = frozenset({"activated", "paused", "resumed"})
"""What is said of a version that has not been replaced or removed since."""


class Heard:
    """What has been said so far. Pure: what was read goes in by `take`, in the order of the topic."""

    def __init__(self) -> None:
        self._count = 0
        self._refused: dict[tuple[str, int], tuple[int, str]] = {}
        """By pattern and offset of the refused record: as the how manieth it was said, and why."""
        self._changed: dict[tuple[str, int], tuple[int, str]] = {}
        """By pattern and version: as the how manieth its last change was said, and which it was."""

    def take(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take the next event of the topic of changes: its type, and its fields."""
        self._count += 1
        place = (fields["pattern"], fields["version"])
        if kind == PatternRefused.event_type:
            self._refused[place] = (self._count, fields["reason"])
        elif kind == PatternActivated.event_type:
            self._changed[place] = (self._count, fields["action"])

    def refusal(self, name: str, *, version: int, offset: int) -> str:
        """Return why a pattern is refused, and what runs in its place; empty where it is not, as far as is known.

        Args:
            name: The pattern.
            version: Its version.
            offset: Of its last record, which may only pause or resume that version.
        """
        changed = self._changed.get((name, version))
        said, reason = self._refused.get((name, offset), (0, ""))
        if offset != version and changed is None:  # paused while it was refused
            said, reason = self._refused.get((name, version), (said, reason))
        taken = changed is not None and (offset == version or (changed[0] > said and changed[1] in RUNS))
        if not said or taken:
            return ""
        older = [at for (of, at), (_, action) in self._changed.items() if of == name and at <= version and action in RUNS]
        return f"{reason}; version {max(older)} goes on" if older else reason


def hear(config: Mapping[str, Any], topic: str, names: Collection[str]) -> Heard:
    """Read what the workers have said of some patterns.

    Args:
        config: What every confluent-kafka client is made with.
        topic: The topic of changes, in full.
        names: The patterns.

    Raises:
        BrokerError: The broker does not answer or refuses.
    """
    heard = Heard()
    reader = LogReader({**config, **QUICK})
    if not names or not reader.topics.exists(topic):
        return heard
    keys, codec = {name.encode() for name in names}, Codec()
    for records, _ in reader.read(_committed(config, reader.bounds([topic], Selection(start_offset=-CHANGES_MAX)))):
        for record in records:
            if record.key in keys:
                try:
                    heard.take(codec.type_of(record), codec.read(record))
                except SchemaError:
                    continue  # not of the workers
    return heard


def _committed(config: Mapping[str, Any], bounds: Bounds) -> Bounds:
    """Move the ends to where no kafka transaction is open: the reader would wait for one that a killed worker has left."""
    admin = AdminClient({"log_level": 0, **config})
    asked = {TopicPartition(*lane): OffsetSpec.latest() for lane in bounds}
    try:
        admin.list_topics(timeout=TIMEOUT_S)  # leaders: asked for now, they are known at once, and else after seconds
        answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=TIMEOUT_S)
        ends = {(one.topic, one.partition): answer.result().offset for one, answer in answers.items()}
    except KafkaException as error:
        raise broker_error(str(config["bootstrap.servers"]), error.args[0]) from error
    return {lane: (start, min(end, ends[lane])) for lane, (start, end) in bounds.items()}
