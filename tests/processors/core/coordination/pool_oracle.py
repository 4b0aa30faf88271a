"""Pools as plainly as they can be written: a list of agents and one of tasks, all else is found by looking through them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from processors.core.coordination.strategies import rendezvous

Said = tuple[Any, ...]


@dataclass
class Worker:
    id: str
    owner: str
    pool: str
    agent: str
    capabilities: set[str]
    capacity: int
    healthy: bool
    lease_ms: int
    deadline: int
    draining: bool = False
    state: str = "here"


@dataclass
class Job:
    number: int
    id: str
    pool: str
    needs: set[str]
    weight: int
    priority: int
    strategy: str
    key: str
    wait_ms: int | None
    attempts_max: int
    backoff_ms: int
    attempt_ms: int | None
    asked_ms: int = 0
    state: str = "waiting"
    deadline: int | None = None
    attempts: int = 0
    worker: str = ""
    held: int = 0
    """How often it was assigned: stands for the token."""


class Oracle:
    """`log` has what happened since it was last emptied."""

    def __init__(self, ageing_ms: int) -> None:
        self.ageing_ms = ageing_ms
        self.workers: list[Worker] = []
        self.jobs: list[Job] = []
        self.log: list[Said] = []
        self.latest_ms = 0

    def worker(self, worker_id: str) -> Worker:
        return next(w for w in self.workers if w.id == worker_id)

    def job(self, job_id: str) -> Job:
        return next(j for j in self.jobs if j.id == job_id)

    def held_by(self, worker: Worker) -> list[Job]:
        return [j for j in self.jobs if j.state == "held" and j.worker == worker.id]

    def load(self, worker: Worker) -> int:
        return sum(j.weight for j in self.held_by(worker))

    def queue(self, pool: str) -> list[Job]:
        waiting = [j for j in self.jobs if j.pool == pool and j.state == "waiting"]
        return sorted(waiting, key=lambda j: (j.asked_ms - j.priority * self.ageing_ms, j.number))

    def fit(self, job: Job, worker: Worker) -> bool:
        there = worker.state == "here" and worker.pool == job.pool and worker.healthy and not worker.draining
        return there and job.needs <= worker.capabilities and job.weight <= worker.capacity

    def free_for(self, job: Job) -> list[Worker]:
        """Who may have it now: fit, with room, and with nothing to do that comes before it."""
        return [
            w
            for w in self.workers
            if self.fit(job, w)
            and self.load(w) + job.weight <= w.capacity
            and next(j for j in self.queue(job.pool) if self.fit(j, w)) is job
        ]

    def best(self, job: Job, workers: list[Worker]) -> Worker:
        workers = [w for w in workers if w.id != job.worker] or workers
        rank: dict[str, Any] = {
            "least_loaded": lambda w: Fraction(self.load(w) + job.weight, w.capacity),
            "weighted": lambda w: rendezvous(job.id, w.agent, w.capacity),
            "hash": lambda w: rendezvous(job.key or job.id, w.agent, w.capacity),
            "last_name": lambda w: -ord(w.agent[0]),
        }
        return min(workers, key=lambda w: (rank[job.strategy](w), w.agent, w.id))

    def settle(self, now_ms: int) -> None:
        again = True
        while again:
            again = False
            for job in [j for pool in sorted({j.pool for j in self.jobs}) for j in self.queue(pool)]:
                if workers := self.free_for(job):
                    job.worker = self.best(job, workers).id
                    job.state, job.attempts, job.held = "held", job.attempts + 1, job.held + 1
                    job.deadline = None if job.attempt_ms is None else now_ms + job.attempt_ms
                    self.log.append(("assigned", job.id, job.worker, job.attempts))
                    again = True
                    break

    def announce(self, worker: Worker, now_ms: int) -> None:
        self.tick(now_ms)
        known = next((w for w in self.workers if w.id == worker.id), None)
        if known is not None and known.state == "gone":
            self.log.append(("expired", worker.id))
            return
        worker.deadline = now_ms + worker.lease_ms
        if known is not None:
            worker.draining = known.draining
            self.workers.remove(known)
        self.workers.append(worker)
        self.log.append(("standing", worker.id, self.load(worker)))
        self.settle(now_ms)

    def leave(self, worker_id: str, now_ms: int) -> None:
        self.tick(now_ms)
        worker = self.worker(worker_id)
        if worker.state == "here":
            self.go(worker, "left", now_ms)
            self.settle(now_ms)
        else:
            self.log.append(("left or not", worker_id))

    def go(self, worker: Worker, how: str, now_ms: int) -> None:
        self.log.append((how, worker.id))
        for job in self.held_by(worker):
            self.back(job, "lost", 0, now_ms)
        worker.state = "gone"

    def drain(self, pool: str, agent: str, draining: bool, now_ms: int) -> None:
        self.tick(now_ms)
        found = [w for w in self.workers if (w.pool, w.agent, w.state) == (pool, agent, "here")]
        for worker in found:
            worker.draining = draining
            self.log.append(("standing", worker.id, self.load(worker)))
        if not found:
            self.log.append(("no_agent", "drain"))
        self.settle(now_ms)

    def submit(self, job: Job, now_ms: int) -> None:
        self.tick(now_ms)
        self.latest_ms = max(self.latest_ms, now_ms)
        job.asked_ms = self.latest_ms
        job.deadline = None if job.wait_ms is None else now_ms + job.wait_ms
        self.jobs.append(job)
        self.settle(now_ms)
        if job.state == "waiting" and job.wait_ms == 0:
            job.state = "busy" if any(self.fit(job, w) for w in self.workers) else "no_agent"
            self.log.append((job.state, job.id))
        elif job.state == "waiting":
            self.log.append(("waiting", job.id))

    def back(self, job: Job, how: str, delay_ms: int, now_ms: int) -> None:
        if how == "given_back":
            job.attempts -= 1
        elif job.attempts == job.attempts_max:
            job.state, job.deadline = "given_up", None
            self.log.append(("given_up", job.id))
            return
        self.log.append(("returned", job.id, how))
        if delay_ms:
            job.state, job.deadline = "delayed", now_ms + delay_ms
        else:
            self.wait(job, now_ms)

    def wait(self, job: Job, now_ms: int) -> None:
        job.state, job.deadline = "waiting", None if job.wait_ms is None else now_ms + job.wait_ms

    def report(self, job_id: str, how: str, delay_ms: int | None, now_ms: int, *, held: int) -> None:
        """An agent says how its attempt went: the last one there was, or an earlier one."""
        self.tick(now_ms)
        job = self.job(job_id)
        last = held == job.held > 0
        if job.state == "held" and last:
            if how == "finished":
                job.state, job.deadline = "finished", None
                self.log.append(("finished", job_id))
            else:
                if delay_ms is None:
                    delay_ms = job.backoff_ms * 2 ** (job.attempts - 1) if how == "failed" else job.backoff_ms
                self.back(job, how, delay_ms, now_ms)
            self.settle(now_ms)
        elif job.state in ("waiting", "delayed") and last and how != "finished":
            self.log.append(("returned", job_id, how))
        elif last and job.state == ("finished" if how == "finished" else "given_up"):
            self.log.append((job.state, job_id))
        else:
            self.log.append(("lost" if job.state in ("waiting", "delayed", "held") else "ended", job_id))

    def cancel(self, job_id: str, now_ms: int) -> None:
        self.tick(now_ms)
        job = self.job(job_id)
        if job.state in ("waiting", "delayed", "held"):
            job.state, job.deadline = "cancelled", None
        self.log.append((job.state if job.state == "cancelled" else "ended", job_id))
        self.settle(now_ms)

    def tick(self, now_ms: int) -> None:
        for job in [j for j in self.jobs if j.deadline is not None and j.deadline <= now_ms]:
            if job.state == "held":
                self.back(job, "overdue", 0, now_ms)
            elif job.state == "delayed":
                self.wait(job, now_ms)
            elif job.state == "waiting":
                job.state = "timed_out"
                self.log.append(("timed_out", job.id))
        for worker in [w for w in self.workers if w.state == "here" and w.deadline <= now_ms]:
            self.go(worker, "expired", now_ms)
        self.settle(now_ms)
