"""Answers are told before they are committed: whoever told one and died, or thawed late, has said what everybody says."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from processors.core.verify import Verdict
from schemas.coordination import COMMANDS_TOPIC, AcquireLock, LockExpired, LockGranted, LockRenewed, RenewLock
from streams.broker import EmbeddedBroker
from streams.coordination import LockRefused
from tests.e2e import lock_trial
from tests.e2e.lock_trial import LockTrial, guarded, judged, read, replayed
from tests.e2e.trial import until

OUTAGE_LEASE_S = 6.0
"""Longer than a loaded machine keeps a client from renewing."""
RENEWALS = 20
"""Each a tenth of the lease after the one before: the outage is twice as long as the lease."""
LIMIT_S = 200


@dataclass
class ToldTrial(LockTrial):
    """As `LockTrial`, with workers that wait where they are told to."""

    def __post_init__(self) -> None:
        self.commit_waits, self.run_waits = self.directory / "commit", self.directory / "run"
        self.settings |= {"TOLD_COMMIT": str(self.commit_waits), "TOLD_RUN": str(self.run_waits)}

    def _start(self, program: str, *args: str, **settings: str) -> tuple[subprocess.Popen[bytes], Path]:
        return super()._start("told_app.py" if program == "lock_app.py" else program, *args, **settings)

    def killed_after_telling(self, _: list[subprocess.Popen[bytes]]) -> None:
        """It tells answers for a moment and commits none of them; then it is killed, and another one takes over."""
        self.commit_waits.touch()
        self.moment()
        self.kill_worker()
        self.commit_waits.unlink()
        self.join()

    def answers(self, client: str) -> dict[tuple[str, str], list[str]]:
        """Return all that a client was answered by whichever worker: each time, by the answer's id and its request's."""
        topic = f"{self.name}-{client}.replies"
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": f"{self.name}-answers",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        partitions = consumer.list_topics(topic, 20).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        ended: set[int | None] = set()

        def all_read() -> bool:
            for message in consumer.consume(1_000, 0.5):
                if message.error():
                    ended.add(message.partition())
                else:
                    headers = {str(name): value for name, value in dict(message.headers() or ()).items()}
                    said = repr((message.key(), message.value(), message.headers()))
                    found[repr(headers["ce_id"]), repr(headers["request-id"])].append(said)
            return len(ended) == len(partitions)

        until(all_read, "all answers are read")
        consumer.close()
        return found


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[ToldTrial]:
    with ToldTrial(kafka.bootstrap_servers, tmp_path) as made:
        yield made


async def granted(trial: ToldTrial) -> list[LockGranted]:
    """Return the grants that are committed."""
    return [event for event in await asyncio.to_thread(trial.events) if isinstance(event, LockGranted)]


async def test_a_grant_that_was_told_and_not_committed_is_kept(trial: ToldTrial) -> None:
    """The worker is killed in between: the next one grants the same request with the same token, and nobody else gets it."""
    await trial.begin()
    async with trial.mesh("a") as mesh, trial.mesh("b") as other, asyncio.timeout(LIMIT_S):
        async with other.lock("r/b"):
            before = await granted(trial)
        trial.commit_waits.touch()
        first = await mesh.lock("r/a", owner="first", lease_s=60).acquire()
        assert await granted(trial) == before, "the answer came before its commit"
        await asyncio.to_thread(trial.kill_worker)
        trial.commit_waits.unlink()
        await asyncio.to_thread(trial.join)
        with pytest.raises(LockRefused) as busy:
            async with other.lock("r/a", owner="second", wait_s=0):
                pass
        assert busy.value.code == "busy"
        await first.renew()
        (again,) = [event for event in await granted(trial) if event not in before and event.owner == "first"]
        assert again.tokens == list(first.tokens)
        await first.release()
        async with other.lock("r/a", owner="second", wait_s=0) as second:
            assert second.token > first.token
    assert replayed(await asyncio.to_thread(trial.events)) == len(before) + 2
    said = await asyncio.to_thread(trial.answers, "a")
    assert all(len(set(one)) == 1 for one in said.values()), "who told it twice told the same"
    assert max(len(one) for one in said.values()) > 1, "one has told it, and then the other"


async def test_histories_of_workers_that_die_after_telling_have_an_order(
    trial: ToldTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients work on all the while, with answers whose commit never came; each lock's history is linearizable."""
    monkeypatch.setitem(lock_trial.FAULTS, "killed_after_telling", ToldTrial.killed_after_telling)
    await trial.begin()
    history = await asyncio.to_thread(trial.run, ["killed_after_telling", "killed_after_telling"])
    report = judged(history)
    assert not report.of(Verdict.UNKNOWN)
    assert not report.of(Verdict.NOT_LINEARIZABLE), [one.conflict for one in report.of(Verdict.NOT_LINEARIZABLE)]
    done = [one for one in read(history) if f"{one.kind.value} {one.outcome.value}" == "acquire ok"]
    assert len(done) >= 10
    assert guarded(await asyncio.to_thread(trial.register))["taken"] > 0
    assert replayed(await asyncio.to_thread(trial.events)) >= len(done) / 2


async def test_a_frozen_worker_with_commands_in_hand_says_nothing_new(trial: ToldTrial) -> None:
    """It thaws when another one has carried them out and more: whatever it still tells was told before, word for word."""
    await trial.begin()
    async with trial.mesh("a") as mesh, asyncio.timeout(LIMIT_S):
        held = await mesh.lock("r/a", owner="first", lease_s=60).acquire()
        trial.run_waits.touch()
        asked = [asyncio.create_task(mesh.lock("r/a", owner=f"next {n}", lease_s=60).acquire()) for n in range(3)]
        reached = trial.run_waits.with_suffix(".reached")
        await asyncio.to_thread(until, reached.exists, "the worker has commands in hand")
        zombie, log = trial.workers.pop(), trial.logs[0]
        zombie.send_signal(signal.SIGSTOP)
        trial.run_waits.unlink()
        starts = len(trial.starts(log))
        await asyncio.to_thread(trial.join)
        await held.release()
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        (winner,) = done
        grant = winner.result()
        zombie.send_signal(signal.SIGCONT)
        await asyncio.to_thread(until, lambda: len(trial.starts(log)) > starts, "the zombie has joined again")
        assert grant.held
        with pytest.raises(LockRefused):
            async with mesh.lock("r/a", owner="another", wait_s=0):
                pass
        tokens = [held.token]
        while True:
            assert grant.token > tokens[-1]
            tokens.append(grant.token)
            await grant.release()
            if len(tokens) == 4:
                break
            left = [one for one in asked if one not in done]
            new, _ = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            (winner,) = new
            done, grant = done | new, winner.result()
    assert replayed(await asyncio.to_thread(trial.events)) == 4
    said = await asyncio.to_thread(trial.answers, "a")
    assert all(len(set(one)) == 1 for one in said.values())


async def test_renewals_in_the_log_keep_a_lease_while_no_worker_runs(trial: ToldTrial) -> None:
    """The outage is longer than the lease; what the log took in time counts, though it is read much later."""
    await trial.begin()
    async with trial.mesh("a") as mesh, asyncio.timeout(LIMIT_S):
        commands, lease_ms = trial.prefix + COMMANDS_TOPIC, int(OUTAGE_LEASE_S * 1_000)
        who: dict[str, Any] = {"domain": "r", "owner": "first"}
        await mesh.publish(AcquireLock(**who, request_id="it", resources=["r/a"], lease_ms=lease_ms), topic=commands)
        with pytest.raises(LockRefused):  # so it is granted
            async with mesh.lock("r/a", owner="second", wait_s=0):
                pass
        await asyncio.to_thread(trial.kill_worker)
        renewals, enough, stopped = 0, asyncio.Event(), asyncio.Event()

        async def renew() -> None:
            nonlocal renewals
            while not stopped.is_set():
                await mesh.publish(RenewLock(**who, grant="it"), topic=commands)
                renewals += 1
                if renewals == RENEWALS:
                    enough.set()
                await asyncio.sleep(OUTAGE_LEASE_S / 10)

        renewing = asyncio.create_task(renew())
        await enough.wait()
        trial.start_worker()
        with pytest.raises(LockRefused) as busy:  # this command lies behind them in the log
            async with mesh.lock("r/a", owner="second", wait_s=0):
                pass
        assert busy.value.code == "busy"
        stopped.set()
        await renewing
        async with mesh.lock("r/a", owner="second") as second:
            pass
    events = await asyncio.to_thread(trial.events)
    told = [event for event in events if isinstance(event, LockGranted | LockRenewed | LockExpired)]
    assert [type(event) for event in told[: RENEWALS + 1]] == [LockGranted] + [LockRenewed] * RENEWALS
    (expired,) = [event for event in told if isinstance(event, LockExpired)]
    assert expired.owner == "first"
    assert second.token > expired.tokens[0]


async def test_commands_with_their_writers_time_stop_the_worker(trial: ToldTrial) -> None:
    """An operator made the topic without LogAppendTime: one line that says what, where and what to do, and no dead letter."""
    commands = trial.prefix + COMMANDS_TOPIC
    admin = AdminClient({"bootstrap.servers": trial.servers})
    admin.create_topics([NewTopic(commands, 4, 1, config={"message.timestamp.type": "CreateTime"})])[commands].result(60)
    await trial.begin()
    async with trial.mesh("a") as mesh, asyncio.timeout(LIMIT_S):
        await mesh.publish(RenewLock(domain="r", grant="g", owner="o"), topic=commands)
        worker = trial.workers.pop()
        assert await asyncio.to_thread(worker.wait, 60) != 0
    text = trial.logs[0].read_text(errors="replace")
    said = [
        line for line in text.splitlines() if f"topic '{commands}'" in line and "message.timestamp.type=LogAppendTime" in line
    ]
    assert said, text[-2_000:]
    assert "dead letter:" not in text
