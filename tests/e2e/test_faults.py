"""Exactly once under real faults: every input is counted once in the read-committed output and in the table."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from streams.broker import EmbeddedBroker
from tests.e2e.trial import PARTITIONS, Trial, read_committed, until

SHORT_KILLS, LONG_KILLS = 3, 20


def killed_again_and_again(trial: Trial, kills: int, **settings: str) -> None:
    """Kill the only worker at random moments of its turns and start it anew."""
    chance = random.Random(time.time_ns())
    worker = trial.start(0, **settings)
    for _ in range(kills):
        before = trial.committed()
        trial.wait_committed(min(trial.sent, before + 1))
        moment = time.monotonic() + chance.random() * 0.5
        until(lambda at=moment: time.monotonic() >= at, "a random moment")  # type: ignore[misc]
        worker.kill()
        worker.wait()
        worker = trial.start(0, **settings)
    trial.finish()


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Trial:
    return Trial(kafka.bootstrap_servers, tmp_path, {"FAULT_PAUSE_S": "0.02"})


def test_a_worker_killed_in_the_middle_of_turns_loses_and_doubles_nothing(trial: Trial) -> None:
    """Three kill -9 at random moments leave every effect visible once."""
    with trial:
        trial.produce()
        killed_again_and_again(trial, SHORT_KILLS)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["memory", "rocksdb"])
def test_twenty_kills(trial: Trial, store: str) -> None:
    """Twenty kill -9 at random moments leave every effect visible once, with either store."""
    trial.records = 60_000
    with trial:
        trial.produce()
        killed_again_and_again(trial, LONG_KILLS, FAULT_STORE=store)


@pytest.mark.soak
def test_rocksdb_tables_survive_kills_with_their_offsets(trial: Trial) -> None:
    """State on disk and its changelog offset are one write, so a killed worker goes on from its own files without error."""
    with trial:
        trial.produce()
        killed_again_and_again(trial, 2, FAULT_STORE="rocksdb")
        assert (trial.directory / "state" / trial.name / "w0" / "counts").is_dir()


def test_a_worker_that_dies_with_a_kafka_transaction_open(trial: Trial) -> None:
    """Records and offsets that were sent but not committed are never seen; the restarted worker resolves them."""
    with trial:
        trial.produce()
        for how in ("before", "during"):
            dying = trial.start(FAULT_DIE_AT="4", FAULT_DIE_HOW=how)
            assert dying.wait(90) == -signal.SIGKILL
        trial.start()
        trial.finish()


def frozen_and_thawed(trial: Trial) -> None:
    """Freeze one of two workers past its session while it works, let the other take over, and thaw it."""
    trial.produce()
    workers = [trial.start(0), trial.start(1)]
    trial.wait_committed(trial.sent // 8)
    trial.wait_shared()
    before = trial.committed()
    trial.wait_committed(min(trial.sent, before + 200))
    starts = trial.starts(1)
    workers[0].send_signal(signal.SIGSTOP)
    until(lambda: trial.starts(1) > starts, "the other worker has taken over")
    trial.wait_committed(min(trial.sent, trial.committed() + 1_000))
    workers[0].send_signal(signal.SIGCONT)


def test_a_frozen_worker_is_fenced_when_it_thaws(trial: Trial) -> None:
    """A worker frozen past its session has its writes refused; what it held is processed once, by the other."""
    trial.records = 30_000
    with trial:
        frozen_and_thawed(trial)
        trial.finish()
        assert "turn refused" in trial.log_text() or "given up" in trial.log_text()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_without_the_fence_the_test_above_fails(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """With group metadata as stock Faust sends it a thawed worker writes again: doubles appear within a few runs."""
    for run in range(5):
        with Trial(
            kafka.bootstrap_servers, tmp_path / str(run), {"FAULT_PAUSE_S": "0.02", "FAULT_NO_FENCE": "1"}, records=30_000
        ) as trial:
            trial.directory.mkdir()
            frozen_and_thawed(trial)
            try:
                trial.finish()
            except AssertionError as error:
                if "doubled" in str(error) or "wrong" in str(error):
                    return
                raise
    pytest.fail("five unfenced runs without a double: this test sees nothing")


def test_workers_come_and_go_under_load(trial: Trial) -> None:
    """A second worker joins, the first leaves on SIGTERM, a third joins: nothing is lost or doubled; leaving takes no kill."""
    trial.records = 20_000
    with trial:
        trial.produce()
        first = trial.start(0)
        trial.wait_committed(trial.sent // 10)
        trial.start(1)
        trial.wait_committed(trial.sent // 4)
        trial.stop(first)
        trial.start(2)
        trial.finish()


@pytest.mark.soak
def test_one_of_two_workers_is_killed(trial: Trial) -> None:
    """The survivor takes over the dead worker's partitions and its part of the table."""
    trial.records = 20_000
    with trial:
        trial.produce()
        workers = [trial.start(0), trial.start(1)]
        trial.wait_committed(trial.sent // 4)
        random.choice(workers).kill()
        trial.finish()


def test_the_broker_is_killed_and_comes_back(tmp_path: Path) -> None:
    """A broker killed with -9 and started again stops nothing for good: the worker waits and goes on, with every record once."""
    settings = {"FAULT_PAUSE_S": "0.02", "FAULT_SESSION_S": "6"}
    with (
        EmbeddedBroker(data_dir=tmp_path / "kafka", heap_mb=384) as broker,
        Trial(broker.bootstrap_servers, tmp_path, settings) as trial,
    ):
        trial.produce()
        trial.start()
        trial.wait_committed(trial.sent // 4)
        broker.kill()
        broker.start()
        trial.finish()


def test_poison_among_good_records(trial: Trial) -> None:
    """Each record that raises is set aside with its bytes, in the transaction of its offset; all others are processed."""
    trial.settings["FAULT_PAUSE_S"] = "0"
    with trial:
        trial.produce(b"poison %d" % i if i % 500 == 77 else b"v%d" % i for i in range(6_000))
        trial.start()
        trial.finish()
        for partition in range(PARTITIONS):
            offsets = [
                int((v or b"").split(b":")[1])
                for p, _, _, v in sorted(read_committed(trial.servers, trial.out))
                if (v or b"").startswith(b"%d:" % partition)
            ]
            assert len(offsets) == len(set(offsets))


def test_a_slow_record_holds_up_its_own_partition_only(trial: Trial) -> None:
    """While one record takes eight seconds, the other partitions' outputs become visible; then everything is there once."""
    trial.settings |= {"FAULT_CONCURRENCY": "4", "FAULT_PAUSE_S": "0"}
    with trial:
        trial.produce([b"slow:8"], partition=0)
        for partition in range(1, PARTITIONS):
            trial.produce((b"v%d" % i for i in range(1_000)), partition=partition)
        trial.start()
        until(lambda: trial.committed() >= 3_000, "the other partitions committed")
        seen = Counter(v[:1] for *_, v in read_committed(trial.servers, trial.out) if v)
        assert seen == {b"1": 1_000, b"2": 1_000, b"3": 1_000}
        trial.finish()


def test_timers_fire_once_across_a_kill(trial: Trial) -> None:
    """A lease that ends while its worker is dead is expired by the restarted one, once."""
    trial.settings |= {"FAULT_LEASES": "1", "FAULT_PAUSE_S": "0"}
    with trial:
        worker = trial.start()
        trial.produce(b"lease:%d" % random.randrange(500, 3_000) for _ in range(40))
        trial.wait_committed(40)
        worker.kill()
        worker.wait()
        trial.start()

        def expired() -> Counter[bytes | None]:
            return Counter(k for _, _, k, v in read_committed(trial.servers, trial.out) if v and v.startswith(b"expired"))

        until(lambda: len(expired()) == 40, "all leases expired")
        trial.finish()
        assert set(expired().values()) == {1}


@pytest.mark.soak
def test_at_least_once_repeats_but_never_loses(trial: Trial) -> None:
    """Without kafka transactions a killed worker may repeat outputs; none is missing."""
    with trial:
        trial.produce()
        worker = trial.start(FAULT_GUARANTEE="at_least_once")
        trial.wait_committed(trial.sent // 4)
        worker.kill()
        worker.wait()
        trial.start(FAULT_GUARANTEE="at_least_once")
        trial.wait_committed(trial.sent)
        trial.verify(at_least_once=True)


@pytest.mark.soak
def test_two_workers_with_one_instance_id_stop_with_a_reason(trial: Trial) -> None:
    """Two live workers that share an instance id fence each other; one stops and says how to mend it, and nothing is doubled."""
    trial.records = 30_000
    with trial:
        trial.produce()
        pair = [trial.start(7), trial.start(7)]
        until(lambda: any(w.poll() is not None for w in pair), "one of the two stopped")
        assert "give every worker its own" in trial.log_text()
        trial.finish()


def test_an_idle_worker_leaves_no_lag_behind(trial: Trial) -> None:
    """Offsets move over the commit markers of a transactional topic, so a lag of zero means that nothing is left to do."""
    with trial:
        trial.produce(b"v%d" % i for i in range(100))
        trial.start()
        trial.wait_committed(100)
        chained = Trial(trial.servers, trial.directory, {"FAULT_SOURCE": trial.out}, name=f"{trial.name}-chained")
        with chained:
            chained.start()
            ends = [chained._group.get_watermark_offsets(at) for at in chained_partitions(trial)]

            def level() -> bool:
                answer = chained._group.committed(chained_partitions(trial), timeout=5)
                return [at.offset for at in answer] == [end for _, end in ends]

            until(level, "offsets at the very end of every partition")


def chained_partitions(trial: Trial) -> list[TopicPartition]:
    """Return the partitions of the trial's output topic."""
    return [TopicPartition(trial.out, p) for p in range(PARTITIONS)]
