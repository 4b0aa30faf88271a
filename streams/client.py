"""The client facade: everything an agent service needs, from one call.

    async with connect() as mesh:
        position = await mesh.publish(ChangeCommitted(agent="ada", ...))      # acknowledged by the broker
        await mesh.publish_soon(FileChanged(...))                             # in the background, bounded
        async for delivery in mesh.subscribe("agents.*", group="reviewers"):
            print(delivery.event, delivery.position)
        reply = await mesh.request(ReviewAsked(...), reply_type=ReviewGiven)

Guarantees: what `publish` returns is on all replicas; what `publish_soon` accepted is delivered, or its error is raised by
`flush` or at the end of the block, or given to `on_error`. Memory is bounded: a slow broker makes publishers wait. Each event
gets an id that sorts by time, its source, its time and the current trace, where it has none. A mesh belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, overload

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.events import Event
from streams.codec import Codec
from streams.coordination.facade import Coordination
from streams.core.patterns import TopicPattern
from streams.errors import SettingsError
from streams.requests import Handling, Requester
from streams.sagas.facade import SagaFacade
from streams.subscriptions import Ack, OnPoison, Subscription
from streams.tables.facade import Tables
from streams.tracing import Tracing
from streams.transport import FeedOptions, Outgoing, Position

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from types import TracebackType

    import reactivex

    from schemas.errors import AntiphonError
    from streams.coordination.session import Session
    from streams.sagas.session import Sagas
    from streams.settings import Settings
    from streams.tables.session import TableSession
    from streams.transport import Log

__all__ = ["UNACKED_MAX", "Mesh", "connect", "new_id"]

E = TypeVar("E", bound=Event)

UNACKED_MAX: Final = 10_000
"""Records of one partition handed out and not acknowledged: past this a forgotten `ack()` would cost memory without end."""

_W3C: Final = TraceContextTextMapPropagator()


def new_id() -> str:
    """Return a UUID of version 7 (RFC 9562): sorts by the millisecond it was made in, and 74 random bits tell two apart."""
    stamp = time.time_ns() // 1_000_000
    chance = int.from_bytes(os.urandom(10), "big")
    number = (stamp & (1 << 48) - 1) << 80 | 0x7 << 76 | (chance >> 68 & 0xFFF) << 64 | 0b10 << 62 | chance & (1 << 62) - 1
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class connect:  # noqa: N801 - used as a function, in `async with` or with `await`
    """Connect to the log: `async with connect() as mesh`, or `mesh = await connect()` and later `await mesh.close()`.

    Args:
        settings: The settings; read from environment and file where not given.
        codec: For event types that are not in the built-in catalogue.
        source: The CloudEvents source of what is published; default `/<client id>`.
        **groups: Settings that win, by group: `kafka={"bootstrap_servers": "kafka:9092"}`, `client={"linger_ms": 0}`.

    Raises:
        SettingsError: A setting is not allowed.
        BrokerUnavailable: Nobody answers.
        BrokerAuthenticationFailed: The broker refuses the credentials.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        codec: Codec | None = None,
        source: str = "",
        log: Log | None = None,
        **groups: object,
    ) -> None:
        self._arguments = (settings, codec, source, log, groups)
        self._mesh: Mesh | None = None

    async def _connect(self) -> Mesh:
        from streams.settings import Settings

        settings, codec, source, log, groups = self._arguments
        if settings is not None and groups:
            raise SettingsError("connect: settings or groups of settings are allowed, not both")
        chosen = settings if settings is not None else Settings(**groups)
        if log is None:
            from streams.broker import resolve_bootstrap
            from streams.kafkalog import KafkaLog

            log = KafkaLog(chosen, await asyncio.to_thread(resolve_bootstrap, chosen))
        await log.open()
        if codec is None:
            codec = await asyncio.to_thread(Codec.from_settings, chosen)
        return Mesh(log, chosen, codec=codec, source=source)

    def __await__(self) -> Any:  # noqa: ANN401 - a generator, as `await` wants it
        """Connect."""
        return self._connect().__await__()

    async def __aenter__(self) -> Mesh:
        """Connect."""
        self._mesh = await self._connect()
        return self._mesh

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Flush and close."""
        assert self._mesh is not None
        await self._mesh.__aexit__(kind, error, trace)


class Mesh(Coordination, Tables, SagaFacade):
    """A connection; see the module. Made by `connect`."""

    def __init__(self, log: Log, settings: Settings, *, codec: Codec, source: str = "", tracing: Tracing | None = None) -> None:
        """Take an open log."""
        self._log, self._settings, self._codec = log, settings, codec
        self._source = source or f"/{settings.kafka.client_id}"
        self._tracing = tracing or Tracing(settings.tracing, instance=settings.kafka.client_id)
        self._own_tracing = tracing is None
        self._sender = log.sender()
        self._subscriptions: set[Subscription[Any]] = set()
        self._handlings: set[Handling] = set()
        self._prepared: set[tuple[type[Event], str | None]] = set()
        self._preparing = asyncio.Lock()
        self._requester = Requester(self, log, service=settings.kafka.client_id)
        self._closed = False

    # ---- publishing

    async def publish(
        self,
        event: Event,
        *,
        topic: str | None = None,
        key: bytes | None = None,
        partition: int = -1,
        cause: Event | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> Position:
        """Publish an event and wait until all replicas have it.

        Args:
            event: The event; attributes it already has are kept.
            topic: Where to, else its class's own topic.
            key: The record key, else the event's own.
            partition: Where to in the topic, else where the key says.
            cause: The event that led to this one: gives causation, correlation and trace.
            headers: More headers, beside the CloudEvents ones.

        Returns:
            Where it lies.

        Raises:
            InvalidEvent: It cannot be encoded.
            TopicMissing: There is no such topic.
            QueueFull: There was no room for longer than the delivery timeout.
            BrokerError: It was not delivered; the message says why.
        """
        with self._tracing.publish(topic=topic or event.topic, event_type=event.event_type):
            return await self._sender.send(await self._outgoing(event, topic, key, partition, cause, headers))

    async def publish_soon(
        self,
        event: Event,
        *,
        topic: str | None = None,
        key: bytes | None = None,
        partition: int = -1,
        cause: Event | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        on_error: Callable[[AntiphonError, Outgoing], None] | None = None,
    ) -> None:
        """Publish an event in the background; waits only while too much is in flight.

        Args:
            event: As for `publish`, and so are the others.
            topic: Where to.
            key: The record key.
            partition: Where to in the topic.
            cause: The event that led to this one.
            headers: More headers.
            on_error: Called with the error and the record if it is not delivered; without it `flush` and the end of the block
            raise.

        Raises:
            InvalidEvent: It cannot be encoded.
            TopicMissing: There is no such topic.
            QueueFull: There was no room for longer than the delivery timeout.
        """
        with self._tracing.publish(topic=topic or event.topic, event_type=event.event_type):
            outgoing = await self._outgoing(event, topic, key, partition, cause, headers)
        await self._sender.send_soon(outgoing, on_error)

    async def flush(self) -> None:
        """Wait until everything published so far is delivered.

        Raises:
            DeliveryFailed: Something was not, and had no `on_error`.
        """
        await self._sender.flush()

    async def send(self, record: Outgoing) -> Position:
        """Append a record as it is, for what is no event; waits as `publish` and raises as it does."""
        return await self._sender.send(record)

    async def _outgoing(
        self,
        event: Event,
        topic: str | None,
        key: bytes | None,
        partition: int,
        cause: Event | None,
        headers: tuple[tuple[str, bytes], ...],
    ) -> Outgoing:
        if (type(event), topic) not in self._prepared:
            async with (
                self._preparing
            ):  # a Schema Registry is asked over the network, and the codec is not shared between threads
                await asyncio.to_thread(self._codec.prepare, [type(event)], topic)
                self._prepared.add((type(event), topic))
        encoded = self._codec.encode(self.stamp(event, cause=cause), topic=topic)
        return Outgoing(
            encoded.topic, encoded.key if key is None else key, encoded.value, (*encoded.headers, *headers), partition
        )

    def stamp(self, event: Event, *, cause: Event | None = None) -> Event:
        """Return the event as it is published: with id, source, time and trace where it has none, and as an effect of `cause`."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        if cause is not None:
            event = event.stamped(
                traceparent=carrier.get("traceparent", ""),
                tracestate=carrier.get("tracestate", ""),
            ).caused_by(cause)
        return event.stamped(
            id=new_id(),
            source=self._source,
            time_ms=time.time_ns() // 1_000_000,
            traceparent=carrier.get("traceparent", ""),
            tracestate=carrier.get("tracestate", ""),
        )

    # ---- receiving

    @overload
    def subscribe(
        self,
        pattern: str,
        *,
        group: str | None = None,
        types: Collection[type[E]],
        start: Literal["earliest", "latest"] | None = None,
        ack: Ack = "auto",
        on_error: OnPoison = "raise",
        assignor: Literal["cooperative", "range"] = "cooperative",
        buffer_max: int | None = None,
        unacked_max: int = UNACKED_MAX,
    ) -> Subscription[E]: ...

    @overload
    def subscribe(
        self,
        pattern: str,
        *,
        group: str | None = None,
        start: Literal["earliest", "latest"] | None = None,
        ack: Ack = "auto",
        on_error: OnPoison = "raise",
        assignor: Literal["cooperative", "range"] = "cooperative",
        buffer_max: int | None = None,
        unacked_max: int = UNACKED_MAX,
    ) -> Subscription[Any]: ...

    def subscribe(
        self,
        pattern: str,
        *,
        group: str | None = None,
        types: Collection[type[Any]] = (),
        start: Literal["earliest", "latest"] | None = None,
        ack: Ack = "auto",
        on_error: OnPoison = "raise",
        assignor: Literal["cooperative", "range"] = "cooperative",
        buffer_max: int | None = None,
        unacked_max: int = UNACKED_MAX,
    ) -> Subscription[Any]:
        """Subscribe to topics; iterate over the result, best inside `async with`.

        Args:
            pattern: A topic, a glob such as `agents.*`, or a regular expression that begins with ^; new matches are picked up.
            group: Subscribers of one group share the events, and the group remembers how far it is. None: this one sees all.
            types: Only these event classes; other records are skipped by their schema id, undecoded.
            start: Where to begin where nothing is remembered: "earliest" is the default with a group, "latest" without.
            ack: "auto" acknowledges a delivery when the next one is asked for, "explicit" leaves it to `Delivery.ack`.
            on_error: What to do with a record that is no event: see `streams.subscriptions`.
            assignor: How partitions are shared in the group; all members need the same.
            buffer_max: Records fetched ahead, else the setting `client.buffer_max`.
            unacked_max: Records of a partition that may be unacknowledged before its reading pauses.

        Raises:
            SettingsError: The pattern is not allowed.
        """
        options = FeedOptions(
            TopicPattern.parse(pattern),
            group,
            start or ("earliest" if group is not None else "latest"),
            assignor,
            buffer_max or self._settings.client.buffer_max,
            unacked_max,
        )
        return self.subscription(options, types=types, ack=ack, on_error=on_error)

    def subscription(
        self, options: FeedOptions, *, types: Collection[type[Any]] = (), ack: Ack = "auto", on_error: OnPoison = "raise"
    ) -> Subscription[Any]:
        """Subscribe with options made by hand; see `subscribe`."""
        made: Subscription[Any] = Subscription(
            self._log.feed(options),
            codec=self._codec,
            sender=self._sender,
            app=options.group or self._settings.worker.app_id,
            types=types,
            ack=ack,
            on_error=on_error,
            on_closed=self._subscriptions.discard,
        )
        self._subscriptions.add(made)
        return made

    def observable(self, pattern: str, **options: Any) -> reactivex.Observable[Any]:  # noqa: ANN401 - those of `subscribe`
        """Return the events of a subscription as a reactivex Observable; see `streams.observable`."""
        from streams.observable import observable

        return observable(lambda: self.subscribe(pattern, **options))

    # ---- request and reply

    async def request(self, event: Event, *, reply_type: type[E], topic: str | None = None, timeout_s: float | None = None) -> E:
        """Publish a request and wait for its reply.

        Args:
            event: The request. Ask again with the same id (`mesh.stamp(event)` gives it one): its handler answers once.
            reply_type: What the reply is.
            topic: Where the request goes, else its class's own topic.
            timeout_s: How long to wait, else the setting `client.request_timeout_s`.

        Raises:
            RequestTimedOut: No reply came in time; the message names what and how long.
            RequestFailed: The handler raised, or replied with another type.
            TopicMissing: The request's topic does not exist.
            BrokerError: The request was not delivered.
        """
        limit_s = self._settings.client.request_timeout_s if timeout_s is None else timeout_s
        return await self._requester.request(event, reply_type=reply_type, topic=topic, timeout_s=limit_s)

    @property
    def late_replies(self) -> int:
        """Replies that came after their request had timed out, or twice; they are dropped."""
        return self._requester.late

    async def handle(
        self, request_type: type[E], handler: Callable[[E], Awaitable[Event]], *, topic: str | None = None, group: str
    ) -> Handling:
        """Answer requests of one type until the mesh closes or `Handling.close` is called.

        Requests with the same key are handled one after another, others at the same time.

        Args:
            request_type: Which requests.
            handler: Gets the request and returns the reply; what it raises goes back to the caller as `RequestFailed`.
            topic: Where requests come from, else the class's own topic.
            group: The handlers of one group share the requests.

        Returns:
            The handling, which is already running.

        Raises:
            TopicMissing: The topic does not exist.
        """
        subscription = self.subscribe(
            topic or request_type.topic, group=group, types=[request_type], ack="explicit", on_error="skip"
        )
        handling = Handling(self, subscription, handler, codec=self._codec, on_closed=self._handlings.discard)
        await handling.open()
        self._handlings.add(handling)
        return handling

    @property
    def log(self) -> Log:
        """The log."""
        return self._log

    @property
    def codec(self) -> Codec:
        """What encodes and decodes."""
        return self._codec

    def _new_session(self) -> Session:
        from streams.coordination.channel import Channel
        from streams.coordination.session import Session

        client_id = self._settings.kafka.client_id
        sender = self._log.sender(prompt=True)
        channel = Channel(
            self._log,
            codec=self._codec,
            sender=sender,
            service=client_id,
            source=self._source,
            topic_prefix=self._settings.client.coordination_topic_prefix,
        )
        return Session(channel, name=client_id, answer_s=self._settings.client.request_timeout_s)

    def _new_tables(self) -> TableSession:
        from streams.tables.session import TableSession

        client = self._settings.client
        return TableSession(
            self._log,
            self.session,
            source=self._source,
            prefix=client.coordination_topic_prefix,
            answer_s=client.request_timeout_s,
            waiting_for=lambda *args, **kwargs: self.waiting_for(*args, **kwargs),  # noqa: PLW0108 - looked up when it is called
        )

    def _new_sagas(self) -> Sagas:
        from streams.sagas.session import Sagas

        client = self._settings.client
        return Sagas(
            self.session.channel,
            name=self._settings.kafka.client_id,
            source=self._source,
            prefix=client.coordination_topic_prefix,
            answer_s=client.request_timeout_s,
        )

    # ---- the end

    async def close(self) -> None:
        """End what runs, commit what is acknowledged, deliver what was published.

        Raises:
            DeliveryFailed: Something published in the background was not delivered, and had no `on_error`.
        """
        if self._closed:
            return
        self._closed = True
        async with contextlib.AsyncExitStack() as stack:  # each is tried, whatever another one raises
            if self._own_tracing:
                stack.callback(self._tracing.close)
            stack.push_async_callback(self._log.close)
            for subscription in list(self._subscriptions):
                stack.push_async_callback(subscription.close)
            for handling in list(self._handlings):
                stack.push_async_callback(handling.close)
            stack.push_async_callback(self._requester.close)
            if self._session is not None:
                stack.push_async_callback(self._session.close)
            if self._tables is not None:
                stack.push_async_callback(self._tables.close)
            for participant in list(self._participants):
                stack.push_async_callback(participant.close)

    async def __aenter__(self) -> Self:
        """The mesh itself."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        await self.close()
