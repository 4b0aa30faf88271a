"""What prometheus sees: every hook counts, labels stay bounded, revoked partitions go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from streams import metrics
from streams.metrics import PrometheusObserver
from streams.observer import Observer, Observers
from streams.status import PartitionStatus, Status


def value(observer: PrometheusObserver, name: str, **labels: str) -> float | None:
    return observer.registry.get_sample_value(name, labels)


def test_a_committed_turn_counts_its_events_outputs_and_times() -> None:
    """Events are what was committed, never what was only read."""
    seen = PrometheusObserver()
    seen.turn_committed(batches=2, records=4_000, outputs=40, run_s=0.03, commit_s=0.006)
    seen.turn_committed(batches=1, records=1, outputs=1, run_s=0.001, commit_s=0.004)
    assert value(seen, "antiphon_turns_total") == 2
    assert value(seen, "antiphon_events_total") == 4_001
    assert value(seen, "antiphon_outputs_total") == 41
    assert value(seen, "antiphon_turn_run_seconds_sum") == pytest.approx(0.031)
    assert value(seen, "antiphon_turn_commit_seconds_bucket", le="0.005") == 1


def test_what_goes_wrong_is_counted_by_its_kind() -> None:
    """Refusals by step and Kafka's name, drops by reason, dead letters by topic and error."""
    seen = PrometheusObserver()
    seen.turn_refused(step="commit", code="ILLEGAL_GENERATION", turn=3)
    seen.turn_dropped(reason="refused", turn=3)
    seen.record_dead_lettered(topic="t", partition=1, error="ValueError")
    seen.record_dead_lettered(topic="t", partition=2, error="ValueError")
    assert value(seen, "antiphon_transactions_refused_total", step="commit", code="ILLEGAL_GENERATION") == 1
    assert value(seen, "antiphon_turns_dropped_total", reason="refused") == 1
    assert value(seen, "antiphon_dead_letters_total", topic="t", error="ValueError") == 2


def test_what_is_measured_of_a_partition_goes_when_it_is_revoked() -> None:
    """Another worker reports it from then on; a sum over workers counts it once."""
    seen = PrometheusObserver()
    for partition in (0, 1):
        seen.lag_measured(topic="t", partition=partition, records=7, seconds=1.5)
        seen.table_measured(table="rows", partition=partition, keys=9)
    seen.partition_paused(topic="t", partition=0)
    seen.stalled(topic="t", partition=0, offset=5, processor="p", seconds=31)
    seen.partitions_revoked(partitions=[("t", 0)])
    seen.tables_revoked(partitions=[("rows", 0)])
    assert value(seen, "antiphon_lag_records", topic="t", partition="0") is None
    assert value(seen, "antiphon_partition_paused", topic="t", partition="0") is None
    assert value(seen, "antiphon_stalled_seconds", topic="t", partition="0", processor="p") is None
    assert value(seen, "antiphon_table_keys", table="rows", partition="0") is None
    assert value(seen, "antiphon_lag_seconds", topic="t", partition="1") == 1.5
    assert value(seen, "antiphon_table_keys", table="rows", partition="1") == 9


def test_a_stall_is_counted_once_while_its_seconds_grow() -> None:
    """The watchdog reports it again and again; the count is of stalls, not of reports."""
    seen = PrometheusObserver()
    for seconds in (31.0, 32.0, 33.0):
        seen.stalled(topic="t", partition=0, offset=5, processor="p", seconds=seconds)
    assert value(seen, "antiphon_stalls_total", topic="t", processor="p") == 1
    assert value(seen, "antiphon_stalled_seconds", topic="t", partition="0", processor="p") == 33
    seen.stall_ended(topic="t", partition=0)
    assert value(seen, "antiphon_stalled_seconds", topic="t", partition="0", processor="p") is None


def test_a_recovery_is_counted_once_when_it_is_done() -> None:
    """Also when its end is reported twice."""
    seen = PrometheusObserver()
    for done in (0, 40, 100, 100):
        seen.recovery_progress(table="rows", partition=0, done=done, total=100)
    assert value(seen, "antiphon_recoveries_total", table="rows") == 1
    assert value(seen, "antiphon_recovery_remaining", table="rows", partition="0") == 0


def test_pauses_are_counted_and_shown_while_they_last() -> None:
    """A counter for how often, a gauge for now."""
    seen = PrometheusObserver()
    seen.partition_paused(topic="t", partition=0)
    assert value(seen, "antiphon_partition_paused", topic="t", partition="0") == 1
    seen.partition_resumed(topic="t", partition=0)
    assert value(seen, "antiphon_partition_paused", topic="t", partition="0") == 0
    assert value(seen, "antiphon_pauses_total", topic="t") == 1


def test_label_values_that_others_invent_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a counter counts as "other", a gauge is left out, and both are counted."""
    monkeypatch.setattr(metrics, "SERIES_MAX", 3)
    seen = PrometheusObserver()
    for number in range(10):
        seen.record_dead_lettered(topic=f"t{number}", partition=0, error="E")
        seen.lag_measured(topic=f"t{number}", partition=0, records=1, seconds=0)
    assert value(seen, "antiphon_dead_letters_total", topic="other", error="other") == 7
    assert value(seen, "antiphon_metrics_overflow_total", metric="lag_records") == 7
    samples = [one for family in seen.registry.collect() for one in family.samples if one.name == "antiphon_lag_records"]
    assert len(samples) == 3


def test_the_status_is_read_at_each_scrape() -> None:
    """State, readiness and assignment cannot be stale."""
    seen = PrometheusObserver()
    now = [Status(app_id="a", instance="i")]
    seen.watch(lambda: now[0])
    assert value(seen, "antiphon_ready") == 0
    now[0] = Status(
        app_id="a", instance="i", generation=4, state="running", ready=True, partitions=(PartitionStatus(topic="t", partition=0),)
    )
    assert value(seen, "antiphon_ready") == 1
    assert value(seen, "antiphon_generation") == 4
    assert value(seen, "antiphon_worker_state", state="running") == 1
    assert value(seen, "antiphon_assigned_partitions") == 1


def test_the_exposition_is_what_prometheus_parses_and_open_metrics_where_asked_for() -> None:
    """Both formats, by the request's Accept header."""
    seen = PrometheusObserver(app_id="orders", instance="w1")
    seen.turn_committed(batches=1, records=5, outputs=0, run_s=0.1, commit_s=0.1)
    body, content_type = seen.exposition()
    assert content_type.startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert families["antiphon_events"].samples[0].value == 5
    assert families["antiphon_build_info"].samples[0].labels["worker"] == "w1"
    body, content_type = seen.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_two_apps_in_one_process_do_not_collide_and_a_given_registry_is_used() -> None:
    """Each observer has a registry of its own unless it is given one."""
    PrometheusObserver()
    PrometheusObserver()
    registry = CollectorRegistry()
    assert PrometheusObserver(registry=registry).registry is registry


def test_fausts_own_numbers_join_once() -> None:
    """A second app on the same registry is told so, and nothing raises."""
    faust = pytest.importorskip("faust")
    registry = CollectorRegistry()
    app = faust.App("metrics-join", broker="kafka://127.0.0.1:1", set_as_current=False)
    assert metrics.add_faust_sensors(app, registry)
    assert not metrics.add_faust_sensors(app, registry)
    assert type(app.monitor).__name__ == "PrometheusMonitor"
    assert registry.get_sample_value("antiphon_faust_messages_received_total") == 0


def test_the_documented_metrics_are_those_there_are() -> None:
    """docs/observability.md names each, and no other; the alert rules and the dashboard use only these."""
    root = Path(__file__).parents[2]
    seen = PrometheusObserver()
    seen.watch(lambda: Status(app_id="a", instance="i"))
    real = {family.name for family in seen.registry.collect() if family.name.startswith("antiphon_")}
    document = (root / "docs" / "observability.md").read_text(encoding="utf-8")
    named = {name.removesuffix("_total").removesuffix("_info") for name in re.findall(r"`(antiphon_\w+)", document)}
    assert {name for name in named if not name.startswith("antiphon_faust")} == real
    for file in ("prometheus-rules.yml", "grafana-dashboard.json"):
        used = set(re.findall(r"\b(antiphon_\w+)", (root / "deploy" / file).read_text(encoding="utf-8")))
        used = {re.sub(r"_(total|bucket|sum|count|info)$", "", name) for name in used}
        assert used, f"{file} uses no metric"
        assert used <= real, f"{file} uses metrics that do not exist"


def test_observers_pass_every_hook_on_and_the_fault_of_one_touches_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """An observer that raises is logged; turn and other observers go on."""

    class Broken(Observer):
        def rebalanced(self, *, generation: int, partitions: int) -> None:
            raise RuntimeError("broken")

    seen = PrometheusObserver()
    both = Observers(Broken(), seen)
    both.rebalanced(generation=1, partitions=2)
    assert value(seen, "antiphon_rebalances_total") == 1
    assert "observer Broken failed in rebalanced" in caplog.text


def test_every_hook_is_passed_on() -> None:
    """A hook added to Observer and forgotten in Observers would be lost without a word."""
    hooks = {name for name, one in vars(Observer).items() if callable(one) and not name.startswith("_")}
    assert hooks <= set(vars(Observers))
