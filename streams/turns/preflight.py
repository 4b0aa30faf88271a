"""What must hold before a worker starts, checked against the broker: each failure is one line that says what to do.

Faust would create a misspelt topic, or crash somewhere inside with a trace. Here the worker says before it reads anything:
no broker, refused credentials, no kafka transactions, a missing topic, partitions that do not match, a state directory that is
full.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.errors import PartitionMismatch, StateDirFull, TopicMissing, TransactionsUnsupported
from streams.topics import Topics

if TYPE_CHECKING:
    from streams.turns.options import Options

__all__ = ["check_state_dir", "check_topics", "check_transactions"]

TRANSACTIONS_TIMEOUT_S: Final = 15.0
"""A fresh broker makes its transaction topic at the first ask, which takes seconds."""
STATE_DIR_FREE_BYTES: Final = 64 << 20
"""Less free space than RocksDB's write buffers of a few partitions: it would stop within minutes."""


def check_transactions(options: Options, app_id: str) -> None:
    """Raise where the broker has no kafka transactions.

    Raises:
        TransactionsUnsupported: It answers, but not to `init_transactions`.
    """
    conf = {
        **options.client,
        "transactional.id": f"{app_id}-{options.instance}",
        "transaction.timeout.ms": options.transaction_timeout_ms,
        "log_level": 0,
    }
    try:
        Producer(conf).init_transactions(TRANSACTIONS_TIMEOUT_S)
    except KafkaException as error:
        kafka_error: KafkaError = error.args[0]
        raise TransactionsUnsupported(
            str(options.client["bootstrap.servers"]), f"{kafka_error.name()}: {kafka_error.str()}"
        ) from error


def check_topics(
    topics: Topics, options: Options, *, sources: Iterable[str], changelogs: Mapping[str, int | None], outputs: Iterable[str] = ()
) -> int:
    """Raise where topics are missing or do not fit together; create them where the options say so.

    A source that is created gets as many partitions as those that are there.

    Args:
        topics: The broker's topics.
        options: Whether and how to create missing ones.
        sources: Topics that processors read. Those read by an app with tables must have equal partition counts.
        changelogs: Topics of tables, with the partitions the table asks for.
        outputs: Further topics that must exist.

    Returns:
        The number of partitions of the sources.

    Raises:
        TopicMissing: A topic does not exist and is not to be created.
        PartitionMismatch: Source topics, or a source and a table, differ in partitions.
        BrokerError: The broker does not answer, or refuses.
    """
    found = {info.name: info.partitions for info in topics.list(internal=True)}
    missing = [name for name in [*sources, *outputs] if name not in found]
    if missing and not options.create_topics:
        raise TopicMissing(missing[0], partitions=options.partitions)
    wanted = next((found[name] for name in sources if name in found), options.partitions)
    counts = {name: found.get(name, wanted) for name in sources}
    if changelogs:
        for name, count in counts.items():
            if count != wanted:
                raise PartitionMismatch(name, expected=wanted, found=count)
    for name, asked in changelogs.items():
        count = found.get(name, asked or wanted)
        if counts and count != wanted:
            raise PartitionMismatch(name, expected=wanted, found=count)
    for name in missing:  # only now: a worker that is refused has made nothing
        topics.ensure(name, partitions=counts.get(name, options.partitions), replication_factor=options.replication_factor)
    return wanted


def check_state_dir(options: Options) -> None:
    """Raise where RocksDB tables could not be written.

    Raises:
        StateDirFull: The directory cannot be written, or has too little space.
    """
    if options.store != "rocksdb":
        return
    directory = Path(options.state_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory) as probe:
            probe.write(b"antiphon")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise StateDirFull(str(directory), error.strerror or errno.errorcode.get(error.errno or 0, "not writable")) from error
    usage = os.statvfs(directory)
    free = usage.f_bavail * usage.f_frsize
    if free < STATE_DIR_FREE_BYTES:
        raise StateDirFull(str(directory), f"{free >> 20} MiB free, {STATE_DIR_FREE_BYTES >> 20} MiB are needed")
