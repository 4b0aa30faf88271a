"""The app: Faust's, with turns under its processors.

    app = App("orders", options=Options(client={"bootstrap.servers": "127.0.0.1:29092"}))
    totals = app.Table("totals", default=int)

    @app.agent(app.batch_topic("orders"))
    async def count(stream):
        async for batch in stream:
            view = batch.view(totals)
            for record in batch.records:
                view[record.key.decode()] += 1

Everything else of Faust's app stays: stock agents on stock topics (at least once), timers, web pages, the command line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import faust
from faust.types import TP

from streams.codec import Codec
from streams.errors import AntiphonError, ProcessorError, TopicMissing
from streams.observer import Observer
from streams.status import Status
from streams.topics import Topics
from streams.turns import preflight
from streams.turns.committer import DEAD_LETTER_BYTES_MAX
from streams.turns.consumer import TurnConsumer
from streams.turns.feed import fed
from streams.turns.options import Options
from streams.turns.tables import Table, TurnTables
from streams.turns.transport import BatchTopic, TurnProducer

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["App"]

FETCH_BYTES: Final = 4 << 20
"""What one fetch of a partition may bring: about four batches of the bench's records."""


class App(faust.App):
    """A Faust app whose batch topics are processed exactly once.

    Args:
        id: App id, which is also the consumer group and the prefix of changelog topics.
        options: How turns are run.
        codec: For typed events; the built-in catalogue unless given.
        observer: Who is told what happens (metrics, tracing, a test).
        kwargs: Faust's own settings; they win over what the options imply.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 as Faust calls it
        *,
        options: Options,
        codec: Codec | None = None,
        observer: Observer | None = None,
        **kwargs: Any,
    ) -> None:
        self.options = options if options.dead_letter_topic else _with_dead_letters(options, id)
        self.codec = codec or Codec()
        self.observer = observer or Observer()
        self.failure: BaseException | None = None
        """What stopped this worker, where something did."""
        self.batch_topics: tuple[str, ...] = ()
        self.source_partitions = 0
        """How many partitions the source topics have; known when the worker has been checked."""
        self._own_topics: dict[str, tuple[int | None, dict[str, str]]] = {}
        self._topics_known: set[str] = set()
        servers = str(options.client["bootstrap.servers"])
        super().__init__(
            id,
            **{
                "broker": [f"kafka://{server}" for server in servers.split(",")],
                "store": "memory://",
                "datadir": str(Path(options.state_dir) / "faust" / options.instance),
                "Table": Table,
                "TableManager": TurnTables,
                "table_standby_replicas": 0,
                "topic_partitions": options.partitions,
                "topic_replication_factor": options.replication_factor,
                "topic_disable_leader": True,
                "consumer_auto_offset_reset": "earliest",
                "consumer_max_fetch_size": FETCH_BYTES,
                "broker_max_poll_records": 4 * options.batch_records_max,
                "stream_recovery_delay": 0.0,
                "worker_redirect_stdouts": False,
                "web_enabled": False,
                **kwargs,
            },
        )

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        app_id: str | None = None,
        instance: str | None = None,
        bootstrap_servers: str = "",
        **kwargs: Any,
    ) -> App:
        """Make an app as the settings say.

        Args:
            settings: The product's settings.
            app_id: Instead of `worker.app_id`.
            instance: Instead of `worker.instance`.
            bootstrap_servers: The resolved brokers, where the embedded one is used.
            kwargs: As for the constructor.
        """
        worker, servers = settings.worker, bootstrap_servers or settings.kafka.bootstrap_servers
        options = Options.of(settings, bootstrap_servers=servers, instance=instance)
        timing = {"broker_session_timeout": worker.session_timeout_s, "broker_heartbeat_interval": worker.heartbeat_s}
        credentials = settings.kafka.faust_credentials()
        security = {} if credentials is None else {"broker_credentials": credentials}
        if "codec" not in kwargs:
            kwargs["codec"] = Codec.from_settings(settings)
        return cls(app_id or worker.app_id, options=options, **{**timing, **security, **kwargs})

    def _new_transport(self) -> Any:
        transport = super()._new_transport()
        transport.Consumer, transport.Producer = TurnConsumer, TurnProducer
        return transport

    # ---- declaring

    def batch_topic(self, name: str, **kwargs: Any) -> BatchTopic:
        """Return a topic whose stream yields batches (see `streams.turns.batch`)."""
        if name not in self.batch_topics:
            self.batch_topics = (*self.batch_topics, name)
        return BatchTopic(self, topics=[name], key_type=None, value_type=None, allow_empty=True, acks=False, **kwargs)

    def own_topic(self, name: str, *, partitions: int | None = None, config: dict[str, str] | None = None) -> str:
        """Declare a topic that is this app's own business, as its changelogs are: the worker makes it when it starts.

        Args:
            name: Its name.
            partitions: How many; None for as many as the sources have.
            config: Its settings.

        Returns:
            The name.
        """
        self._own_topics[name] = (partitions, config or {})
        return name

    def Table(self, name: str, **kwargs: Any) -> Table:  # noqa: N802 as Faust calls it
        """Declare a table (see `streams.turns.tables`); it has as many partitions as the topics that are processed with it."""
        table: Table = super().Table(name, **kwargs)
        return table

    def agent(self, channel: Any = None, *, name: str | None = None, **kwargs: Any) -> Callable[[Callable[..., Any]], Any]:
        """Declare a processor: Faust's agent, which on a batch topic survives what it raises.

        `concurrency=n` lets n partitions be processed at the same time; a partition's order is kept whatever it is.
        """
        if not getattr(channel, "batched", False):
            declared: Callable[[Callable[..., Any]], Any] = super().agent(channel, name=name, **kwargs)
            return declared
        if kwargs.get("isolated_partitions"):
            raise ProcessorError(
                f"topic {channel}: isolated_partitions is what lanes do already; concurrency=n processes n at the same time"
            )

        def decorate(fun: Callable[..., Any]) -> Any:
            own = name or f"{fun.__module__}.{fun.__qualname__}"
            return super(App, self).agent(channel, name=own, **kwargs)(fed(fun, own.rpartition(".")[2], lambda: self.observer))

        return decorate

    def _no_turns(self, name: str, *_: Any, **__: Any) -> Any:
        raise ProcessorError(
            f"table {name!r}: Faust's global and set tables write their changelogs outside the turn; use app.Table, "
            "with a list for a set, and send records to a topic that every worker reads for a global one"
        )

    GlobalTable = SetTable = SetGlobalTable = _no_turns

    # ---- checking

    def _topics(self) -> Topics:
        return Topics(self.options.client)

    def preflight(self) -> None:
        """Raise where this worker could not do its work: see `streams.turns.preflight`. Blocks; call it before the loop runs.

        Raises:
            AntiphonError: One line that says what is wrong, where, and what to do.
        """
        self.finalize()
        options, topics = self.options, self._topics()
        changelogs = {table.changelog_topic_name: table.partitions for table in self.tables.values()}
        sources = [name for name in self.batch_topics if name not in self._own_topics]
        preflight.check_state_dir(options)
        partitions = preflight.check_topics(topics, options, sources=sources, changelogs=changelogs)
        self.source_partitions = partitions
        if options.guarantee == "exactly_once":
            preflight.check_transactions(options, self.conf.id)
        for table in self.tables.values():
            topics.ensure(
                table.changelog_topic_name,
                partitions=partitions,
                replication_factor=options.replication_factor,
                config={"cleanup.policy": "compact"},
            )
        for name, (asked, config) in self._own_topics.items():
            topics.ensure(name, partitions=asked or partitions, replication_factor=options.replication_factor, config=config)
        topics.ensure(
            options.dead_letter_topic,
            partitions=options.partitions,
            replication_factor=options.replication_factor,
            config={"max.message.bytes": str(DEAD_LETTER_BYTES_MAX)},
        )

    async def on_first_start(self) -> None:
        """Check before anything starts."""
        try:
            await asyncio.get_running_loop().run_in_executor(None, self.preflight)
        except AntiphonError as error:
            self.failure = error
            raise
        await super().on_first_start()

    def _create_directories(self) -> None:
        """Create none: Faust's data directory is for its own RocksDB tables, and ours make theirs when they open."""

    async def check_output_topics(self, names: Iterable[str]) -> None:
        """Raise where an output topic does not exist and is not to be created.

        Raises:
            TopicMissing: Names the topic and how to create it.
        """
        missing = set(names) - self._topics_known
        if missing:
            await asyncio.get_running_loop().run_in_executor(None, self._check_output_topics, missing)
            self._topics_known |= missing

    def _check_output_topics(self, names: set[str]) -> None:
        topics = self._topics()
        found = {info.name for info in topics.list(internal=True)}
        for name in sorted(names - found):
            if not self.options.create_topics:
                raise TopicMissing(name, partitions=self.options.partitions)
            topics.ensure(name, partitions=self.options.partitions, replication_factor=self.options.replication_factor)

    def change(self, *, batch_records_max: int | None = None, stall_after_s: float | None = None) -> None:
        """Change what may change while the worker runs; batches already cut stay as they are."""
        new: dict[str, Any] = {"batch_records_max": batch_records_max, "stall_after_s": stall_after_s}
        self.options = replace(self.options, **{name: value for name, value in new.items() if value is not None})
        if self._consumer is not None:
            self._consumer.batch_records_max = self.options.batch_records_max
            if self._consumer.runner.lanes is not None:
                self._consumer.runner.lanes.batch_records_max = self.options.batch_records_max

    # ---- seeing

    def wake(self) -> None:
        """Give every source partition a batch now, with or without records: what processors decide by has changed."""
        if self._consumer is not None:
            self._consumer.runner.wake()

    def caught_up(self, topic: str, partition: int) -> bool | None:
        """Return whether the running batch of a partition goes to the end of what could be read at the last fetch.

        None: the partition is not this worker's. False also where nothing was fetched yet.
        """
        found: bool | None = None if self._consumer is None else self._consumer.caught_up(TP(topic, partition))
        return found

    def status(self) -> Status:
        """Return how this worker stands."""
        if self._consumer is not None:
            status: Status = self._consumer.watch.status(self._consumer)
            return status
        reason = "the worker is starting" if self.failure is None else str(self.failure)
        return Status(
            app_id=self.conf.id,
            instance=self.options.instance,
            generation=-1,
            state="starting",
            partitions=(),
            tables=(),
            reasons=(reason,),
            healthy=self.failure is None,
            ready=False,
        )

    def shared_instance_error(self) -> ProcessorError:
        """Return the error of a worker whose instance id is in use elsewhere."""
        return ProcessorError(
            f"another live worker of {self.conf.id} uses the instance id {self.options.instance!r} and fences this one: "
            "give every worker its own (--instance, ANTIPHON_WORKER__INSTANCE)"
        )

    # ---- stopping

    async def _stop_consumer(self) -> None:
        if self._consumer is not None:
            await self._consumer.close_gate(self.options.revoke_grace_s)
        await super()._stop_consumer()


def _with_dead_letters(options: Options, app_id: str) -> Options:
    return replace(options, dead_letter_topic=f"{app_id}.dead-letters")
