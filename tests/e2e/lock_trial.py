"""Runs of clients that take locks while workers and clients are killed, frozen, joined and sent away; and who judges them."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processors.core.verify import Operation, Report, judge, read_history
from schemas.coordination import LockExpired, LockGranted, LockReleased
from tests.e2e.sync_trial import SyncTrial
from tests.e2e.trial import read_committed, until

LEASE_MS = 300
CLIENTS, TASKS, LOCKS = 2, 4, 3
RUN_S = 60.0
"""Of a client that nobody tells to stop."""
SHORT_FREEZE_S = (0.3, 1.0)
"""Of a worker, within its session; of a client, around its leases."""


@dataclass
class LockTrial(SyncTrial):
    """As `SyncTrial`, with clients that record what they see.

    Attributes:
        settings: For all processes.
        chance: Which faults, and when.
    """

    settings: dict[str, str] = field(default_factory=dict)
    chance: random.Random = field(default_factory=random.Random)
    runs: int = 0

    def _start(self, program: str, *args: str, **settings: str) -> tuple[subprocess.Popen[bytes], Path]:
        return super()._start(program, *args, **{**self.settings, **settings})

    # ---- a run

    def run(self, faults: Iterable[str] = ()) -> Path:
        """Run clients through faults, chosen at random unless named, and return their history."""
        self.runs += 1
        history = self.directory / f"{self.name}.run-{self.runs}.jsonl"
        resources = [f"d{self.runs}/{number}" for number in range(LOCKS)]
        working = self._clients(CLIENTS, history, resources)
        known = self.faults()
        for name in tuple(faults) or self.chance.sample(sorted(known), self.chance.choice([1, 1, 2])):
            self.moment()
            known[name](self, working)
            if any(process.poll() is not None for process in working):
                working = [process for process in working if process.poll() is None]
                working += self._clients(CLIENTS - len(working), history, resources)
        self.settle(history)
        for process in working:
            process.terminate()
        for process in working:
            assert process.wait(60) == 0, self.said()
        return history

    def settle(self, _: Path) -> None:
        """Let clients go on for a while after the last fault."""
        self.moment()

    def faults(self) -> dict[str, Callable[[Any, list[subprocess.Popen[bytes]]], None]]:
        """Return what may happen in a run."""
        return {**FAULTS}

    def said(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1_500:]}" for log in self.logs[-6:])

    def moment(self, low_s: float = 0.3, high_s: float = 0.8) -> None:
        """Let a moment pass; another one each run, and nothing is waited for."""
        time.sleep(self.chance.uniform(low_s, high_s))

    def _clients(self, count: int, history: Path, resources: list[str]) -> list[subprocess.Popen[bytes]]:
        """Start clients, and wait until they work."""
        settings = {"SYNC_SERVERS": self.servers, "SYNC_PREFIX": self.prefix}
        args = ("work", str(history), f"{RUN_S}", str(TASKS), str(LEASE_MS), *resources)
        started = [
            self._start("lock_client.py", *args, **settings, SYNC_CLIENT=f"{self.name}-p{len(self.logs)}") for _ in range(count)
        ]
        until(lambda: all("working" in log.read_text(errors="replace") for _, log in started), "the clients work", 60)
        return [process for process, _ in started]

    def register(self) -> dict[str, list[tuple[int, str]]]:
        """Return, for each lock, the tokens of guarded writes and what came of them, in order."""
        found: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for _, _, key, value in sorted(read_committed(self.servers, self.prefix + "register.log"), key=lambda one: one[:2]):
            token, _, verdict = (value or b"").decode().partition(":")
            found[(key or b"").decode()].append((int(token), verdict.partition(" ")[2]))
        return found

    # ---- faults

    def starts(self, log: Path) -> list[str]:
        """Return the lines of a worker's log that name the partitions it has begun with."""
        return [line for line in log.read_text(errors="replace").splitlines() if "turns start on" in line]

    def join(self) -> tuple[subprocess.Popen[bytes], Path]:
        """Start another worker, and wait until it has partitions."""
        worker, log = self._worker()

        def has_some() -> bool:
            assert worker.poll() is None, self.said()
            found = self.starts(log)
            return bool(found) and "@" in found[-1]

        until(has_some, "the new worker has partitions")
        return worker, log

    def stop(self, worker: subprocess.Popen[bytes]) -> None:
        """Stop a worker as an operator does."""
        worker.terminate()
        assert worker.wait(60) == 0, self.said()

    def worker_killed(self, _: list[subprocess.Popen[bytes]]) -> None:
        """Another one takes over."""
        self.kill_worker()
        self.join()

    def worker_frozen(self, _: list[subprocess.Popen[bytes]]) -> None:
        """It thaws when another one has taken over, and is a zombie."""
        zombie = self.workers.pop()
        zombie.send_signal(signal.SIGSTOP)
        self.join()
        self.moment()
        zombie.send_signal(signal.SIGCONT)
        self.moment()
        zombie.terminate()
        zombie.wait(60)

    def worker_hiccup(self, _: list[subprocess.Popen[bytes]]) -> None:
        """It is frozen for longer than leases last, and keeps its session."""
        self.workers[-1].send_signal(signal.SIGSTOP)
        self.moment(*SHORT_FREEZE_S)
        self.workers[-1].send_signal(signal.SIGCONT)

    def worker_replaced(self, _: list[subprocess.Popen[bytes]]) -> None:
        """Another one joins, and the first leaves."""
        old = self.workers.pop()
        self.join()
        self.moment()
        self.stop(old)

    def joiner_killed(self, _: list[subprocess.Popen[bytes]]) -> None:
        """Another one joins and is killed; the first has everything again."""
        self.join()
        self.moment()
        self.kill_worker()

    def client_killed(self, clients: list[subprocess.Popen[bytes]]) -> None:
        """With what it has and waits for."""
        clients[0].kill()
        clients[0].wait()

    def client_frozen(self, clients: list[subprocess.Popen[bytes]]) -> None:
        """It thaws and goes on as if nothing had happened."""
        clients[-1].send_signal(signal.SIGSTOP)
        self.moment(*SHORT_FREEZE_S)
        clients[-1].send_signal(signal.SIGCONT)


FAULTS: dict[str, Callable[[LockTrial, list[subprocess.Popen[bytes]]], None]] = {
    one.__name__: one
    for one in (
        LockTrial.client_frozen,
        LockTrial.client_killed,
        LockTrial.joiner_killed,
        LockTrial.worker_frozen,
        LockTrial.worker_hiccup,
        LockTrial.worker_killed,
        LockTrial.worker_replaced,
    )
}


def read(history: Path) -> tuple[Operation, ...]:
    """Return the operations of a history."""
    return read_history([(history.name, history.read_bytes().splitlines())])


def judged(history: Path) -> Report:
    """Return what `antiphon verify locks` finds."""
    return judge(read(history))


def guarded(register: dict[str, list[tuple[int, str]]]) -> Counter[str]:
    """Check that no write was taken after one with a larger token; return how many were taken and refused.

    Args:
        register: As `LockTrial.register` returns it.
    """
    seen: Counter[str] = Counter()
    for name, writes in register.items():
        taken = [token for token, verdict in writes if verdict == "taken"]
        assert taken == sorted(taken), f"{name}: a smaller token was taken after a larger one"
        seen += Counter(verdict.partition(":")[0] for _, verdict in writes)
    return seen


def replayed(events: list[Any]) -> int:
    """Follow what everybody was told: who holds excludes others, tokens grow, a request is granted once; return the grants.

    Args:
        events: In the order of the log.
    """
    holders: dict[str, dict[str, tuple[str, bool, int]]] = {}
    largest: dict[str, int] = {}
    granted: set[str] = set()
    for event in events:
        if isinstance(event, LockGranted):
            assert event.request_id not in granted, f"{event} was granted before"
            granted.add(event.request_id)
            for name, token in zip(event.resources, event.tokens, strict=True):
                held, exclusive = holders.setdefault(name, {}), event.mode == "exclusive"
                others = [one for one in held.values() if one[0] != event.owner and (one[1] or exclusive)]
                assert not others, f"{event} while {others} have {name}"
                nested = any(owner == event.owner and token == its for owner, _, its in held.values())
                assert nested or token > largest.get(name, 0), f"{event} after token {largest[name]}"
                largest[name] = max(token, largest.get(name, 0))
                held[event.request_id] = (event.owner, exclusive, token)
        elif isinstance(event, LockReleased | LockExpired):
            for name in event.resources:
                assert event.request_id in holders.get(name, {}), f"{event} of what is not held"
                del holders[name][event.request_id]
    return len(granted)
