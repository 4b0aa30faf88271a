"""Spans for publish, turn and processor, and the W3C context through record headers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from streams.observer import Observer, Observers
from streams.settings import TracingSettings
from streams.tracing import LINKS_MAX, Trace, Tracing, extract, inject

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Record:
    offset: int = 0
    headers: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass
class Batch:
    records: list[Record]
    topic: str = "agents.events"
    partition: int = 2


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exported: InMemorySpanExporter) -> Iterator[Tracing]:
    made = Tracing(TracingSettings(), instance="w1", exporter=exported)
    yield made
    made.close()


def finished(tracing: Tracing, exported: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    assert tracing.flush()
    return {span.name: span for span in exported.get_finished_spans()}


def test_a_published_record_carries_its_spans_context(tracing: Tracing, exported: InMemorySpanExporter) -> None:
    """What was injected is what a reader extracts."""
    headers: list[tuple[str, bytes]] = [("ce_id", b"1"), ("traceparent", b"stale")]
    with tracing.publish(topic="t", event_type="change.committed") as context:
        inject(headers, context)
    span = finished(tracing, exported)["publish t"]
    assert span.kind is SpanKind.PRODUCER
    found = extract(headers)
    assert found is not None
    assert (found.trace_id, found.span_id) == (span.context.trace_id, span.context.span_id)
    assert [name for name, _ in headers] == ["ce_id", "traceparent"]


def test_an_answer_continues_the_trace_of_its_cause(tracing: Tracing, exported: InMemorySpanExporter) -> None:
    """The state of other vendors travels on."""
    cause: list[tuple[str, bytes | None]] = [("traceparent", PARENT.encode()), ("tracestate", b"vendor=1")]
    with tracing.publish(topic="t", cause=cause) as context:
        assert context.tracestate == "vendor=1"
    span = finished(tracing, exported)["publish t"]
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]


@pytest.mark.parametrize("value", [b"", b"nonsense", b"00-00000000000000000000000000000000-b7ad6b7169203331-01", b"\xff\xfe"])
def test_a_header_that_is_not_w3cs_form_is_no_context(value: bytes) -> None:
    """A stranger's bytes never raise."""
    assert extract([("traceparent", value)]) is None
    assert extract([]) is None
    assert extract(None) is None


def test_the_cloudevents_extension_is_read_too() -> None:
    """Producers that only write CloudEvents attributes are linked as well."""
    found = extract([("ce_traceparent", PARENT.encode())])
    assert found is not None
    assert f"{found.span_id:016x}" == PARENT.split("-")[2]


def test_a_turn_is_a_span_over_its_processors_linked_to_their_records(tracing: Tracing, exported: InMemorySpanExporter) -> None:
    """One child a batch; links to the records' producers, not to all of thousands."""
    observer = tracing.observer()
    records = [Record(offset=7 + n, headers=[("traceparent", f"00-{1:032x}-{n + 1:016x}-01".encode())]) for n in range(100)]
    with observer.processor_span(Batch(records), processor="activity", turn=5):
        pass
    observer.turn_committed(batches=1, records=100, outputs=3, run_s=0.1, commit_s=0.01, turn=5)
    spans = finished(tracing, exported)
    turn, work = spans["turn 5"], spans["activity agents.events[2]"]
    assert work.parent is not None
    assert work.parent.span_id == turn.context.span_id
    assert len(work.links) == LINKS_MAX
    assert work.attributes is not None
    assert work.attributes["messaging.batch.message_count"] == 100
    assert work.attributes["messaging.kafka.offset"] == 7
    assert turn.attributes is not None
    assert turn.attributes["antiphon.outputs"] == 3


def test_what_a_processor_raises_passes_through_and_marks_its_span(tracing: Tracing, exported: InMemorySpanExporter) -> None:
    """And the dropped turn says why."""
    observer = Observers(tracing.observer())
    with pytest.raises(ValueError, match="poison"), observer.processor_span(Batch([Record()]), processor="p", turn=6):
        raise ValueError("poison")
    observer.turn_refused(step="commit", code="ILLEGAL_GENERATION", turn=6)
    observer.turn_dropped(reason="raised", turn=6)
    spans = finished(tracing, exported)
    assert spans["p agents.events[2]"].status.status_code is StatusCode.ERROR
    assert spans["turn 6"].status.description == "dropped: raised"
    assert spans["turn 6"].events[0].name == "refused"


def test_turns_that_nobody_ends_do_not_pile_up(tracing: Tracing, exported: InMemorySpanExporter) -> None:
    """The oldest is ended as lost."""
    observer = tracing.observer()
    for turn in range(1, 200):
        with observer.processor_span(Batch([Record()]), processor="p", turn=turn):
            pass
    assert "lost" in str(finished(tracing, exported)["turn 1"].status.description)


def test_without_an_exporter_nothing_is_made_and_nothing_is_spent() -> None:
    """The same shared object each time, no header, an observer that overrides nothing: well under 5 µs a publish."""
    off = Tracing(TracingSettings())
    assert not off.enabled
    assert type(off.observer()) is Observer
    assert off.publish(topic="t") is off.publish(topic="u")
    headers: list[tuple[str, bytes]] = []
    rounds = 20_000
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(rounds):
            with off.publish(topic="t") as context:
                inject(headers, context)
        best = min(best, (time.perf_counter() - begin) / rounds)
    assert headers == []
    assert off.current() == Trace()
    assert best < 5e-6
    assert off.flush()
    off.close()


def test_the_console_exporter_writes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to --json."""
    made = Tracing(TracingSettings(exporter="console"))
    with made.publish(topic="t"):
        pass
    made.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "publish t" in err


def test_a_turn_without_a_number_is_a_span_of_its_length(tracing: Tracing, exported: InMemorySpanExporter) -> None:
    """Drawn when it is committed; its processors then have no parent."""
    observer = tracing.observer()
    with observer.processor_span(Batch([Record()]), processor="p"):
        pass
    observer.turn_committed(batches=1, records=1, outputs=0, run_s=1.5, commit_s=0.5)
    spans = finished(tracing, exported)
    assert spans["p agents.events[2]"].parent is None
    turn = spans["turn"]
    assert turn.start_time is not None
    assert turn.end_time is not None
    assert 1.9e9 < turn.end_time - turn.start_time < 3e9


async def test_otlp_over_http_reaches_a_collector() -> None:
    """A real POST of protobuf to the endpoint that the settings name."""
    import asyncio

    from aiohttp import web

    pytest.importorskip(
        "opentelemetry.exporter.otlp.proto.http.trace_exporter", reason="the extra antiphon[otlp] is not installed"
    )
    got: list[tuple[str, bytes]] = []

    async def collect(request: web.Request) -> web.Response:
        got.append((request.content_type, await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/traces", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
        made = Tracing(TracingSettings(exporter="otlp", endpoint=endpoint, service_name="orders"))
        with made.publish(topic="t"):
            pass
        await asyncio.to_thread(made.close)
    finally:
        await runner.cleanup()
    ((content_type, body),) = got
    assert content_type == "application/x-protobuf"
    assert b"publish t" in body
    assert b"orders" in body
