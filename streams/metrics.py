"""What prometheus sees of a worker: the one module that imports its client.

`PrometheusObserver` counts what the runtime tells an `Observer`. Every name begins with ``antiphon_``; docs/observability.md
lists them, and a test keeps that list true. Three rules:

* *Bounded.* Label values come from topics, partitions, tables and error classes, which others may invent. Beyond
  `SERIES_MAX` label sets, a counter counts under the value "other", a gauge is left out, and
  ``antiphon_metrics_overflow_total`` says so.
* *Nobody else's partitions.* What is measured of a partition goes when the partition is revoked, so that a sum over workers
  counts it once.
* *Own registry.* Nothing touches the client's global registry unless it is given; two apps in one process do not collide.
"""

# ruff: noqa: ARG002 - a hook has the arguments of every observer and counts some of them

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from streams.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from streams.status import Status

__all__ = ["SERIES_MAX", "PrometheusObserver", "add_faust_sensors"]

SERIES_MAX: Final = 2_000  # label sets a metric; a server keeps each for hours, and 1,000 partitions is a large worker
OTHER: Final = "other"
# A turn of one record takes a few ms, a full one tens to hundreds; a transaction times out at 10 s by default.
TURN_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
TURN_BUCKETS_RECORDS: Final = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536)
STATES: Final = ("starting", "recovering", "running", "rebalancing", "stopping")


class PrometheusObserver(Observer):
    """Counts what a worker does; `exposition` is what /metrics answers."""

    def __init__(self, *, app_id: str = "antiphon", instance: str = "", registry: CollectorRegistry | None = None) -> None:
        """Makes the metrics.

        Args:
            app_id: The application, for ``antiphon_build_info``.
            instance: The worker's unique id, for the same.
            registry: Where to register; None: a new one, with the process's own numbers (memory, CPU, open files).
        """
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            GCCollector(registry=registry)
        self.registry: Final = registry
        self._seen: dict[int, set[tuple[str, ...]]] = {}
        self._recovering: set[tuple[str, int]] = set()
        self._stalled: dict[tuple[str, int], str] = {}
        self._status: Callable[[], Status] | None = None
        info = Info("antiphon_build", "Version and identity of this worker.", registry=registry)
        info.info(
            {"version": _own_version(), "python": platform.python_version(), "app_id": app_id, "worker": instance},
        )
        self._make_turns(registry)
        self._make_partitions(registry)
        self._make_tables(registry)
        registry.register(_StatusCollector(self))

    def _make_turns(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"antiphon_{name}", text, labels, registry=registry)

        self._turns = counter("turns", "Turns whose kafka transaction was committed.")
        self._batches = counter("batches", "Batches in committed turns, one a partition and turn.")
        self._events = counter("events", "Source records in committed turns.")
        self._outputs = counter("outputs", "Records written by committed turns: outputs, changelog, dead letters.")
        self._run_s = Histogram(
            "antiphon_turn_run_seconds", "Time the processors took in a turn.", buckets=TURN_BUCKETS_S, registry=registry
        )
        self._commit_s = Histogram(
            "antiphon_turn_commit_seconds",
            "Time a turn's kafka transaction was open.",
            buckets=TURN_BUCKETS_S,
            registry=registry,
        )
        self._turn_records = Histogram(
            "antiphon_turn_records", "Source records in a turn.", buckets=TURN_BUCKETS_RECORDS, registry=registry
        )
        self._refused = counter(
            "transactions_refused", "Kafka transactions that the broker refused, by step and Kafka's error name.", "step", "code"
        )
        self._dropped = counter(
            "turns_dropped", "Turns discarded before anything was visible; their records ran again.", "reason"
        )
        self._dead = counter(
            "dead_letters", "Records that left as dead letters, by source topic and error class.", "topic", "error"
        )
        self._overflow = counter("metrics_overflow", f"Observations beyond {SERIES_MAX} label sets of one metric.", "metric")

    def _make_partitions(self, registry: CollectorRegistry) -> None:
        place = ("topic", "partition")

        def gauge(name: str, text: str, labels: Iterable[str] = place) -> Gauge:
            return Gauge(f"antiphon_{name}", text, tuple(labels), registry=registry)

        self._rebalances = Counter("antiphon_rebalances", "Assignments this worker was given.", registry=registry)
        self._lag_records = gauge("lag_records", "Records between the committed position and the log's end.")
        self._lag_s = gauge("lag_seconds", "Age of the oldest record not yet processed.")
        self._paused = gauge("partition_paused", "1 while backpressure keeps a partition from being fetched.")
        self._pauses = Counter("antiphon_pauses", "Times backpressure paused a partition.", ("topic",), registry=registry)
        self._stalled_s = gauge("stalled_seconds", "How long a stalled batch has been in a processor.", (*place, "processor"))
        self._stalls = Counter("antiphon_stalls", "Batches that stalled.", ("topic", "processor"), registry=registry)

    def _make_tables(self, registry: CollectorRegistry) -> None:
        place = ("table", "partition")
        self._keys = Gauge("antiphon_table_keys", "Live keys of a table's partition.", place, registry=registry)
        self._remaining = Gauge(
            "antiphon_recovery_remaining", "Changelog offsets that recovery has still to pass.", place, registry=registry
        )
        self._recoveries = Counter(
            "antiphon_recoveries", "Table partitions read back from their changelog.", ("table",), registry=registry
        )

    def watch(self, status: Callable[[], Status]) -> None:
        """Adds the worker's state, health and assignment, read at each scrape.

        Args:
            status: The worker's snapshot, cheap to take.
        """
        self._status = status

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """What a scrape answers.

        Args:
            accept: The request's Accept header: OpenMetrics where it is asked for, else prometheus's text.

        Returns:
            The body and its content type.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _admitted(self, metric: Counter | Gauge, name: str, values: tuple[str, ...]) -> bool:
        """Whether these label values are within the limit; counted where they are not."""
        seen = self._seen.setdefault(id(metric), set())
        if values in seen:
            return True
        if len(seen) >= SERIES_MAX:
            self._overflow.labels(name).inc()
            return False
        seen.add(values)
        return True

    def _count(self, metric: Counter, name: str, *values: str) -> None:
        admitted = self._admitted(metric, name, values)
        metric.labels(*(values if admitted else [OTHER] * len(values))).inc()

    def _set(self, metric: Gauge, name: str, number: float, *values: str) -> None:
        if self._admitted(metric, name, values):
            metric.labels(*values).set(number)

    def _forget(self, metric: Gauge, *values: str) -> None:
        seen = self._seen.get(id(metric), set())
        if values in seen:
            seen.remove(values)
            metric.remove(*values)

    def turn_committed(self, *, batches: int, records: int, outputs: int, run_s: float, commit_s: float, turn: int = 0) -> None:
        """See `Observer.turn_committed`."""
        self._turns.inc()
        self._batches.inc(batches)
        self._events.inc(records)
        self._outputs.inc(outputs)
        self._run_s.observe(run_s)
        self._commit_s.observe(commit_s)
        self._turn_records.observe(records)

    def turn_refused(self, *, step: str, code: str, turn: int = 0) -> None:
        """See `Observer.turn_refused`."""
        self._count(self._refused, "transactions_refused", step, code)

    def turn_dropped(self, *, reason: str, turn: int = 0) -> None:
        """See `Observer.turn_dropped`."""
        self._count(self._dropped, "turns_dropped", reason)

    def record_dead_lettered(self, *, topic: str, partition: int, error: str) -> None:
        """See `Observer.record_dead_lettered`; the partition is left out, or a poisoned topic would fill the limit."""
        self._count(self._dead, "dead_letters", topic, error)

    def rebalanced(self, *, generation: int, partitions: int) -> None:
        """See `Observer.rebalanced`; generation and partitions are read from the status at each scrape."""
        self._rebalances.inc()

    def lag_measured(self, *, topic: str, partition: int, records: int, seconds: float) -> None:
        """See `Observer.lag_measured`."""
        self._set(self._lag_records, "lag_records", records, topic, str(partition))
        self._set(self._lag_s, "lag_seconds", seconds, topic, str(partition))

    def table_measured(self, *, table: str, partition: int, keys: int) -> None:
        """See `Observer.table_measured`."""
        self._set(self._keys, "table_keys", keys, table, str(partition))

    def stalled(self, *, topic: str, partition: int, offset: int, processor: str, seconds: float) -> None:
        """See `Observer.stalled`; a stall is counted once, its gauge grows. The offset is in the status and the log."""
        if self._stalled.get((topic, partition)) != processor:
            self.stall_ended(topic=topic, partition=partition)
            self._stalled[topic, partition] = processor
            self._count(self._stalls, "stalls", topic, processor)
        self._set(self._stalled_s, "stalled_seconds", seconds, topic, str(partition), processor)

    def stall_ended(self, *, topic: str, partition: int) -> None:
        """See `Observer.stall_ended`."""
        processor = self._stalled.pop((topic, partition), None)
        if processor is not None:
            self._forget(self._stalled_s, topic, str(partition), processor)

    def partition_paused(self, *, topic: str, partition: int) -> None:
        """See `Observer.partition_paused`."""
        self._count(self._pauses, "pauses", topic)
        self._set(self._paused, "partition_paused", 1, topic, str(partition))

    def partition_resumed(self, *, topic: str, partition: int) -> None:
        """See `Observer.partition_resumed`."""
        self._set(self._paused, "partition_paused", 0, topic, str(partition))

    def partitions_revoked(self, *, partitions: Sequence[tuple[str, int]]) -> None:
        """See `Observer.partitions_revoked`."""
        for topic, partition in partitions:
            for gauge in (self._lag_records, self._lag_s, self._paused):
                self._forget(gauge, topic, str(partition))
            self.stall_ended(topic=topic, partition=partition)

    def tables_revoked(self, *, partitions: Sequence[tuple[str, int]]) -> None:
        """See `Observer.tables_revoked`."""
        for table, partition in partitions:
            for gauge in (self._keys, self._remaining):
                self._forget(gauge, table, str(partition))
            self._recovering.discard((table, partition))

    def recovery_progress(self, *, table: str, partition: int, done: int, total: int) -> None:
        """See `Observer.recovery_progress`; counted once, when a recovery that had something to do is done."""
        self._set(self._remaining, "recovery_remaining", max(0, total - done), table, str(partition))
        if done < total:
            self._recovering.add((table, partition))
        elif (table, partition) in self._recovering:
            self._recovering.discard((table, partition))
            self._count(self._recoveries, "recoveries", table)


class _StatusCollector(Collector):
    """The worker's status as metrics, taken when it is scraped."""

    def __init__(self, observer: PrometheusObserver) -> None:
        self._observer = observer

    def describe(self) -> Iterator[Metric]:
        """The names alone, so that registering does not take a status."""
        return iter(self._families())

    def collect(self) -> Iterator[Metric]:
        """One snapshot as families; none before `PrometheusObserver.watch`."""
        if self._observer._status is None:
            return
        status = self._observer._status()
        state, ready, healthy, generation, assigned = families = self._families()
        for name in STATES:
            state.add_metric([name], float(status.state == name))
        ready.add_metric([], float(status.ready))
        healthy.add_metric([], float(status.healthy))
        generation.add_metric([], float(status.generation))
        assigned.add_metric([], float(len(status.partitions)))
        yield from families

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, ...]:
        return (
            GaugeMetricFamily("antiphon_worker_state", "1 for the state the worker is in.", labels=["state"]),
            GaugeMetricFamily("antiphon_ready", "1 when the worker processes what it is assigned."),
            GaugeMetricFamily("antiphon_healthy", "0 when only a restart or a fix helps."),
            GaugeMetricFamily("antiphon_generation", "The group's generation."),
            GaugeMetricFamily("antiphon_assigned_partitions", "Source partitions assigned to this worker."),
        )


def add_faust_sensors(app: object, registry: CollectorRegistry) -> bool:
    """Adds Faust's own numbers (``antiphon_faust_*``: rebalances, assignments, web requests, offsets) to a registry.

    Faust's sensors see what passes through Faust; with batch topics one of its events is a whole batch.

    Args:
        app: A `faust.App` that has not started.
        registry: Where to register.

    Returns:
        Whether they were added; False if this registry has them already, as when an app is made twice in one process.
    """
    from faust.sensors.prometheus import FaustMetrics, PrometheusMonitor

    try:
        metrics = FaustMetrics.create(registry, "antiphon_faust")
    except ValueError:  # the client's word for a name that is registered already
        return False
    app.monitor = PrometheusMonitor(metrics=metrics)  # type: ignore[attr-defined]  # faust has no types
    return True


def _own_version() -> str:
    try:
        return version("antiphon")
    except PackageNotFoundError:
        return "source"  # run from a checkout that was not installed
