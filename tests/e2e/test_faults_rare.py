"""Exactly once under rarer faults: lost answers, slow processors in a rebalance, standbys, a compacted changelog."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from streams.broker import EmbeddedBroker, Listener
from streams.ports import free_port
from tests.e2e.proxy import END_TXN, TXN_OFFSET_COMMIT, LossyProxy
from tests.e2e.trial import Trial, until


def test_lost_answers_to_commits_lose_and_double_nothing(tmp_path: Path) -> None:
    """A commit that is carried out but never answered is neither repeated nor forgotten: the worker asks the log."""
    port = free_port("127.0.0.1", set())
    listener = Listener("LOSSY", advertised=f"127.0.0.1:{port}")
    with EmbeddedBroker(data_dir=tmp_path / "kafka", heap_mb=384, listeners=[listener]) as broker:
        host, _, real = broker.address("LOSSY").partition(":")
        with (
            LossyProxy((host, int(real)), [END_TXN, TXN_OFFSET_COMMIT], every=6, port=port) as proxy,
            Trial(broker.bootstrap_servers, tmp_path, {"FAULT_PAUSE_S": "0.02", "FAULT_SESSION_S": "6"}, records=8_000) as trial,
        ):
            trial.produce()
            trial.start(FAULT_SERVERS=f"127.0.0.1:{port}")
            trial.finish()
            assert proxy.lost >= 3


@pytest.mark.soak
def test_a_processor_slower_than_the_revoke_grace(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """A batch that does not end while its partition is taken away is given up; its record is processed once."""
    with Trial(kafka.bootstrap_servers, tmp_path, {"FAULT_CONCURRENCY": "4"}) as trial:
        for partition in range(4):
            trial.produce([b"slow:12"], partition=partition)
        trial.produce(b"v%d" % i for i in range(400))
        trial.start(0)
        until(lambda: trial.starts(0) > 0, "the first worker runs")
        trial.start(1)
        until(lambda: "given up" in trial.log_text(), "batches given up")
        trial.finish()


@pytest.mark.soak
def test_a_standby_takes_over_with_the_whole_table(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """With standby replicas the survivor of a kill goes on from its own copy, with every count right."""
    with Trial(kafka.bootstrap_servers, tmp_path, {"FAULT_PAUSE_S": "0.02", "FAULT_STANDBYS": "1"}, records=16_000) as trial:
        trial.produce()
        workers = [trial.start(0), trial.start(1)]
        trial.wait_committed(trial.sent // 4)
        trial.wait_shared()
        trial.wait_committed(trial.sent // 2)
        workers[0].send_signal(signal.SIGKILL)
        trial.finish()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_recovery_from_a_compacted_changelog(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """A changelog whose older records were compacted away still gives the whole table."""
    with Trial(kafka.bootstrap_servers, tmp_path, records=40_000) as trial:
        trial.produce()
        worker = trial.start()
        trial.wait_committed(trial.sent)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        changelog = f"{trial.name}-counts-changelog"
        quick = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "max.compaction.lag.ms": "100"}
        entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in quick.items()]
        resource = ConfigResource(ResourceType.TOPIC, changelog, incremental_configs=entries)
        for future in admin.incremental_alter_configs([resource]).values():
            future.result()
        trial.produce(b"more %d" % i for i in range(2_000))
        trial.wait_committed(trial.sent)
        trial.stop(worker)
        trial.start()
        trial.produce(b"again %d" % i for i in range(2_000))
        trial.finish()
