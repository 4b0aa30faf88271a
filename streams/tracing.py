"""OpenTelemetry spans for publish, turn and processor, and the W3C trace context through Kafka's record headers.

::

    publish (producer) ──traceparent header──▶ record
                                                  ┊ link, at most LINKS_MAX a batch
    turn 7 ─┬─ activity agents.events[0]  ◀┄┄┄┄┄┄┄┘
            └─ activity agents.events[1]

A batch has thousands of causes, so a processor's span does not continue one trace: it links to the traces of its records.
With the exporter "none" there is no provider, no span and no header: `Tracing.publish` hands out one shared object.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streams.errors import SettingsError
from streams.observer import ObservedBatch, Observer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opentelemetry.context import Context

    from streams.settings import TracingSettings

__all__ = ["LINKS_MAX", "Trace", "Tracing", "TracingObserver", "extract", "inject"]

LINKS_MAX: Final = 32  # links a span; OpenTelemetry's own limit is 128, and no screen shows more than a few
LINKS_SCANNED_MAX: Final = 256  # records looked at for links, so that a batch of 4,000 untraced ones costs nothing much
TURNS_OPEN_MAX: Final = 64  # turns with a span not yet ended; the runtime has two at a time
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_W3C: Final = TraceContextTextMapPropagator()


class Trace(NamedTuple):
    """A trace context as text, for an event's attributes; both empty when nothing is traced."""

    traceparent: str = ""
    tracestate: str = ""


_NO_TRACE: Final[AbstractContextManager[Trace]] = nullcontext(Trace())


class _FromHeaders(Getter["Sequence[tuple[str, bytes | None]]"]):
    """Reads ``traceparent``, or ``ce_traceparent`` as the CloudEvents extension writes it."""

    def get(self, carrier: Sequence[tuple[str, bytes | None]], key: str) -> list[str] | None:
        for name, value in carrier:
            if value is not None and name.lower() in (key, f"ce_{key}"):
                return [value.decode("ascii", "replace")]
        return None

    def keys(self, carrier: Sequence[tuple[str, bytes | None]]) -> list[str]:
        return [name for name, _ in carrier]


_GETTER: Final = _FromHeaders()


def extract(headers: Sequence[tuple[str, bytes | None]] | None) -> SpanContext | None:
    """The trace context of a record.

    Args:
        headers: A record's headers.

    Returns:
        The span that produced it; None if there is none, or what is there is not W3C's form.
    """
    if not headers:
        return None
    found = trace.get_current_span(_W3C.extract(headers, context=_empty(), getter=_GETTER)).get_span_context()
    return found if found.is_valid else None


def inject(headers: list[tuple[str, bytes]], context: Trace) -> None:
    """Writes a trace context into a record's headers, in place of any that is there.

    Args:
        headers: The headers, changed in place.
        context: As `Tracing.publish` or `Tracing.current` gave it; an empty one leaves the headers as they are.
    """
    if not context.traceparent:
        return
    headers[:] = [one for one in headers if one[0] not in (TRACEPARENT, TRACESTATE)]
    headers.append((TRACEPARENT, context.traceparent.encode("ascii")))
    if context.tracestate:
        headers.append((TRACESTATE, context.tracestate.encode("ascii")))


class Tracing:
    """Makes spans, or nothing at all: see the module."""

    def __init__(
        self,
        settings: TracingSettings,
        *,
        instance: str = "",
        exporter: SpanExporter | None = None,
        make_global: bool = False,
    ) -> None:
        """Sets the exporter up.

        Args:
            settings: Which exporter and how much of it.
            instance: This process's unique id, for the spans' resource.
            exporter: One to use instead of the settings' own.
            make_global: Also give it to `opentelemetry.trace`, so that the spans of a processor's own code join.

        Raises:
            SettingsError: The exporter's package is not installed.
        """
        self._provider: TracerProvider | None = None
        self._tracer: trace.Tracer | None = None
        if exporter is None and settings.exporter == "none":
            return
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": settings.service_name, "service.instance.id": instance}),
            sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _exporter(settings)))
        self._tracer = self._provider.get_tracer("antiphon")
        if make_global:
            trace.set_tracer_provider(self._provider)

    @property
    def enabled(self) -> bool:
        """Whether spans are made."""
        return self._tracer is not None

    def publish(
        self, *, topic: str, event_type: str = "", cause: Sequence[tuple[str, bytes | None]] | None = None
    ) -> AbstractContextManager[Trace]:
        """A span around publishing one record.

        Args:
            topic: Where to.
            event_type: The event's type.
            cause: Headers of the record that this one answers: its trace is continued when no span is current.

        Returns:
            A context manager that gives the context for the record's headers or the event's attributes.
        """
        if self._tracer is None:
            return _NO_TRACE
        return self._publish(self._tracer, topic, event_type, cause)

    @contextmanager
    def _publish(
        self,
        tracer: trace.Tracer,
        topic: str,
        event_type: str,
        cause: Sequence[tuple[str, bytes | None]] | None,
    ) -> Iterator[Trace]:
        context: Context | None = None
        caused = extract(cause)
        if caused is not None and not trace.get_current_span().get_span_context().is_valid:
            context = trace.set_span_in_context(trace.NonRecordingSpan(caused))
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
            "antiphon.event_type": event_type,
        }
        with tracer.start_as_current_span(f"publish {topic}", context, SpanKind.PRODUCER, attributes):
            yield self.current()

    def current(self) -> Trace:
        """The context of the span that is current here; empty when there is none or nothing is traced."""
        if self._tracer is None or not trace.get_current_span().get_span_context().is_valid:
            return Trace()
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return Trace(carrier.get(TRACEPARENT, ""), carrier.get(TRACESTATE, ""))

    def observer(self) -> Observer:
        """The worker's half: spans for turns and processors; an observer of nothing when nothing is traced."""
        return Observer() if self._tracer is None else TracingObserver(self._tracer)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Sends what is waiting.

        Args:
            timeout_s: How long to try.

        Returns:
            Whether all of it was sent.
        """
        return self._provider is None or self._provider.force_flush(int(timeout_s * 1000))

    def close(self) -> None:
        """Sends what is waiting and ends the exporter's thread."""
        if self._provider is not None:
            self._provider.shutdown()


class TracingObserver(Observer):
    """One span a turn, and under it one a processor and batch, linked to the traces of its records."""

    def __init__(self, tracer: trace.Tracer) -> None:
        """Takes the tracer that makes the spans."""
        self._tracer = tracer
        self._turns: dict[int, trace.Span] = {}

    @contextmanager
    def processor_span(self, batch: ObservedBatch, *, processor: str = "", turn: int = 0) -> Iterator[None]:
        """See `Observer.processor_span`; what the processor raises is recorded and passes through."""
        first = batch.records[0].offset if batch.records else -1
        attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.destination.name": batch.topic,
            "messaging.destination.partition.id": str(batch.partition),
            "messaging.batch.message_count": len(batch.records),
            "messaging.kafka.offset": first,
            "antiphon.processor": processor,
        }
        name = f"{processor or 'processor'} {batch.topic}[{batch.partition}]"
        parent = trace.set_span_in_context(self._turn(turn), _empty()) if turn else _empty()
        links = _links(batch.records)
        with self._tracer.start_as_current_span(name, parent, SpanKind.CONSUMER, attributes, links):
            yield

    def _turn(self, turn: int) -> trace.Span:
        span = self._turns.get(turn)
        if span is None:
            while len(self._turns) >= TURNS_OPEN_MAX:
                self._end(next(iter(self._turns)), "lost: neither committed nor dropped was reported")
            span = self._tracer.start_span(f"turn {turn}", _empty())
            self._turns[turn] = span
        return span

    def _end(self, turn: int, failure: str = "") -> None:
        span = self._turns.pop(turn, None)
        if span is None:
            return
        if failure:
            span.set_status(Status(StatusCode.ERROR, failure))
        span.end()

    def turn_committed(self, *, batches: int, records: int, outputs: int, run_s: float, commit_s: float, turn: int = 0) -> None:
        """See `Observer.turn_committed`."""
        span = self._turns.get(turn)
        if span is None:  # an unnumbered turn, whose span is drawn when all of it is known
            begin = time.time_ns() - int((run_s + commit_s) * 1e9)
            span = self._turns[turn] = self._tracer.start_span("turn", _empty(), start_time=begin)
        span.set_attributes(
            {
                "antiphon.batches": batches,
                "antiphon.records": records,
                "antiphon.outputs": outputs,
                "antiphon.run_s": run_s,
                "antiphon.commit_s": commit_s,
            }
        )
        self._end(turn)

    def turn_refused(self, *, step: str, code: str, turn: int = 0) -> None:
        """See `Observer.turn_refused`."""
        span = self._turns.get(turn)
        if span is not None:
            span.add_event("refused", {"antiphon.step": step, "antiphon.code": code})

    def turn_dropped(self, *, reason: str, turn: int = 0) -> None:
        """See `Observer.turn_dropped`."""
        self._end(turn, f"dropped: {reason}")


def _links(records: Iterable[object]) -> list[Link]:
    """Links to the distinct spans that produced these records, at most `LINKS_MAX`."""
    found: dict[int, SpanContext] = {}
    for record in islice(records, LINKS_SCANNED_MAX):
        context = extract(getattr(record, "headers", None))
        if context is not None:
            found.setdefault(context.span_id, context)
            if len(found) >= LINKS_MAX:
                break
    return [Link(context) for context in found.values()]


def _empty() -> Context:
    """A context without a span, so that what runs around us is not taken for a parent."""
    return trace.set_span_in_context(trace.INVALID_SPAN)


def _exporter(settings: TracingSettings) -> SpanExporter:
    if settings.exporter == "console":
        return ConsoleSpanExporter(out=sys.stderr)  # standard output belongs to --json
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as fault:
        raise SettingsError(
            "tracing.exporter (ANTIPHON_TRACING__EXPORTER) = 'otlp': its package is not installed; "
            "pip install 'antiphon[otlp]', or set it to none or console"
        ) from fault
    return OTLPSpanExporter(endpoint=settings.endpoint or None)
