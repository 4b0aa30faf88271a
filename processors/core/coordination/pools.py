"""Pools: agents that say what they can do, and tasks that go to one of them at a time. A queue of work is a pool, too.

One machine holds the pools of one partition. Who takes from a queue is an agent in it whose capacity is how much it takes ahead,
so there is one set of rules. What holds after every command:

* A task is with one agent or with nobody. Each attempt has a token of its own, larger than that of every attempt before, and
  only its agent ends it, naming the token: what is late changes nothing.
* An agent never gets more than it has room for, nor a task that needs what it has not; none while it is unhealthy or drained.
* Tasks wait in one order: first come, first served among equals; a higher priority goes first, but each `ageing_ms` of waiting
  is worth one step. An agent takes the first one that it is fit for, and none behind it while it has no room for that: so
  neither a low priority nor a large weight is passed over for ever. A task that nobody fits keeps nobody else.
* No task waits while an agent could have it by these rules. Which of several gets it, its strategy says; but not the one that
  had it last, if another could.
* What an agent holds returns when it goes or its lease ends, to the millisecond of the partition's time; an attempt may have a
  limit of its own. All that time ends, it ends before anything is assigned, so nobody gets a task whose own lease is over.
* A task ends once: finished, given up after so many attempts, cancelled, refused or timed out; who wants it done is told, and
  is answered the same when asking again, as long as that is remembered.

            submit ┌─────────┐ assigned   ┌──────┐ finish
           ───────▶│ waiting │───────────▶│ held │─────────▶ ended: finished
                   └─────────┘◀───────────└──────┘─────────▶ ended: given up    (the last attempt failed)
                        │        failed, given back, lost, overdue; perhaps after a delay
                        └──▶ ended: refused (busy, no_agent, queue_full, ...), timed out, cancelled (from anywhere)

Not promised: that a task is done once. An agent that is frozen may do it beside the next one; the token tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Self

from processors.core.coordination.lock_checks import identity_problem
from processors.core.coordination.lock_rows import Key, Row
from processors.core.coordination.pool_answers import (
    assigned,
    ended,
    known_task,
    pool_standing,
    queued,
    spread,
    standing,
    task_of,
)
from processors.core.coordination.pool_checks import (
    announce_problem,
    cannot_wait,
    drain_problem,
    no_room,
    submit_problem,
)
from processors.core.coordination.pool_moves import Moves
from processors.core.coordination.pool_state import Book, Task
from processors.core.coordination.pool_words import (
    Announce,
    Drain,
    Finish,
    Gone,
    Outcome,
    PoolLimits,
    Return,
    ReturnHow,
    Submit,
)
from processors.core.coordination.request_checks import Problem, command_problem
from processors.core.coordination.request_words import Refused, TimedOut
from processors.core.coordination.strategies import STRATEGIES, Strategy
from streams.core.at import At

__all__ = ["Pools"]

_STAYED: Final = frozenset({"left", "expired", "refused"})


class Pools:
    """The pools of one partition; see the module.

    Args:
        limits: What is refused.
        strategies: Strategies of one's own, by name.
    """

    def __init__(self, limits: PoolLimits | None = None, strategies: Mapping[str, Strategy] | None = None) -> None:
        self.limits = limits or PoolLimits()
        self._strategies = {**STRATEGIES, **(strategies or {})}
        self._book = Book(ended_max=self.limits.ended_max)
        self._moves = Moves(self._book, self.limits, self._strategies)

    @classmethod
    def load(
        cls,
        rows: Iterable[tuple[Key, Row]],
        limits: PoolLimits | None = None,
        strategies: Mapping[str, Strategy] | None = None,
    ) -> Self:
        """Return the machine that wrote these rows."""
        pools = cls(limits, strategies)
        pools._book.load(rows)
        return pools

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that changed since the last call, None for those to delete."""
        return self._book.ledger.changes()

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        return self._book.ledger.due.next_ms()

    # ---- agents

    def announce(self, asked: Announce, at: At) -> list[Outcome]:
        """Take an agent in, or hear of it again: `Standing`, then what it gets; `Refused` where its stay has ended."""
        outcomes, book = self.tick(at), self._book
        who = (asked.owner, asked.request_id, asked.route, asked.name)
        identity = (asked.request_id, asked.owner, asked.name, asked.route)
        if problem := announce_problem(asked, self.limits):
            outcomes.append(Refused(*who, *problem))
            return outcomes
        agent, past = book.agent(asked.request_id), book.ledger.ended.get(asked.request_id)
        if reused := book.ledger.reused(*identity, ends=_STAYED, waits=agent is not None):
            outcomes.append(reused)
        elif past is not None:
            text = f"the stay has {past.kind}, and what it held went to others: announce with another id"
            outcomes.append(book.ledger.repeated(asked.request_id, past, asked.route) or Refused(*who, "expired", text))
        elif agent is None and asked.again:
            outcomes.append(book.ledger.forgotten(*identity))
        elif agent is None and (problem := no_room(book, asked, self.limits)):
            outcomes.append(self._refused(who, problem))
        else:
            before = None if agent is None else (agent.agent, agent.capabilities, agent.capacity, agent.healthy)
            agent = self._moves.take_in(asked, agent, at)
            changed = before != (agent.agent, agent.capabilities, agent.capacity, agent.healthy)
            outcomes.append(standing(agent, asked.route, repeated=not changed))
            if asked.resume:
                outcomes += [assigned(self._task(one), agent, agent.route, repeated=True) for one in agent.tasks]
            if changed:
                self._moves.settle(asked.name, at, outcomes)
        return outcomes

    def leave(self, agent_id: str, owner: str, at: At, *, route: str = "") -> list[Outcome]:
        """Let an agent go: `Gone`, and what it holds goes to others."""
        outcomes, book = self.tick(at), self._book
        agent, past = book.agent(agent_id), book.ledger.ended.get(agent_id)
        if problem := identity_problem(agent_id, owner):
            outcomes.append(Refused(owner, agent_id, route, "", *problem))
        elif agent is not None and agent.owner == owner:
            self._moves.go(agent, "left", route, at, outcomes)
            self._moves.settle(agent.name, at, outcomes)
        elif past is not None and past.owner == owner and past.kind == "left":
            outcomes.append(Gone(owner, agent_id, route, past.resources[0], past.arguments[0], "left", repeated=True))
        elif agent is not None:
            outcomes.append(Refused(owner, agent_id, route, agent.name, "not_owner", f"the agent is {agent.owner}'s"))
        else:
            text = "there is no such agent: its lease ended, or it never came"
            outcomes.append(Refused(owner, agent_id, route, "", "no_agent", text))
        return outcomes

    def drain(self, asked: Drain, at: At) -> list[Outcome]:
        """Let agents of one name have no more tasks, or have them again: `Standing` for each, to them and to who says so."""
        outcomes = self.tick(at)
        who = (asked.owner, asked.request_id, asked.route, asked.name)
        if problem := drain_problem(asked):
            outcomes.append(Refused(*who, *problem))
            return outcomes
        pool = self._book.pools.get(asked.name)
        agents = [] if pool is None else sorted(pool.agents.items())
        found = [agent for _, agent in agents if agent.agent == asked.agent]
        for agent in found:
            changed, agent.draining = agent.draining != asked.draining, asked.draining
            self._book.keep(agent)
            if changed:
                outcomes += spread(standing(agent, agent.route), asked.route)
            else:
                outcomes.append(standing(agent, asked.route, repeated=True))
        if not found:
            outcomes.append(Refused(*who, "no_agent", f"no agent {asked.agent!r} is in {asked.name}"))
        self._moves.settle(asked.name, at, outcomes)
        return outcomes

    def standing(self, name: str, owner: str, at: At, *, request_id: str, route: str = "") -> list[Outcome]:
        """Say how a pool stands: `PoolStanding`, or `Refused` where there can be none of that name."""
        outcomes = self.tick(at)
        if problem := command_problem(request_id, owner, name, "the pool"):
            outcomes.append(Refused(owner, request_id, route, name, *problem))
        else:
            outcomes.append(pool_standing(self._book, name, owner, request_id, route))
        return outcomes

    # ---- tasks

    def submit(self, asked: Submit, at: At) -> list[Outcome]:
        """Have something done: `Queued` or `Assigned`, with `Ended` or `TimedOut` to come; or `Refused`."""
        outcomes, book = self.tick(at), self._book
        who = (asked.owner, asked.request_id, asked.route, asked.name)
        if problem := submit_problem(asked, self.limits, self._strategies):
            outcomes.append(Refused(*who, *problem))
        elif known := known_task(book, asked):
            outcomes.append(known)
        elif asked.again:
            outcomes.append(book.ledger.forgotten(asked.request_id, asked.owner, asked.name, asked.route))
        elif problem := no_room(book, asked, self.limits):
            outcomes.append(self._refused(who, problem))
        else:
            task = self._moves.new_task(asked, at)
            book.wait(task, task.until_ms)
            self._moves.settle(task.name, at, outcomes)
            if not task.held:
                if problem := cannot_wait(book.pools[task.name], task, self.limits):
                    book.end(task, "refused", problem)
                    outcomes.append(Refused(*who, *problem))
                else:
                    outcomes.append(queued(book, task))
        return outcomes

    def finish(self, asked: Finish, at: At) -> list[Outcome]:
        """End a task that has been done: `Ended`, to its agent and to who wanted it done; or `Refused`."""
        outcomes = self.tick(at)
        task = task_of(self._book, asked, self.limits)
        if not isinstance(task, Task):
            outcomes.append(task)
        else:
            self._moves.end(task, "finished", asked.result, (asked.route, task.route), outcomes)
            self._moves.settle(task.name, at, outcomes)
        return outcomes

    def give_back(self, asked: Return, at: At) -> list[Outcome]:
        """End an attempt without a result: `Returned`, or `Ended` where it was the last one; or `Refused`."""
        outcomes = self.tick(at)
        task = task_of(self._book, asked, self.limits)
        if not isinstance(task, Task):
            outcomes.append(task)
        else:
            how: ReturnHow = "failed" if asked.failed else "given_back"
            self._moves.take_back(task, how, asked.error, at, outcomes, route=asked.route, delay_ms=asked.delay_ms)
            self._moves.settle(task.name, at, outcomes)
        return outcomes

    def cancel(self, request_id: str, owner: str, at: At, *, route: str = "") -> list[Outcome]:
        """End a task that its owner does not want done any more: `Ended`, also to the agent that has it; or `Refused`."""
        outcomes, book = self.tick(at), self._book
        task, past = book.task(request_id), book.ledger.ended.get(request_id)
        if problem := identity_problem(request_id, owner):
            outcomes.append(Refused(owner, request_id, route, "", *problem))
        elif task is not None and task.owner == owner:
            agent = book.agent(task.agent_id) if task.held else None
            routes = (route, task.route, "" if agent is None else agent.route)
            self._moves.end(task, "cancelled", "", routes, outcomes)
            self._moves.settle(task.name, at, outcomes)
        elif past is not None and past.owner == owner and past.kind == "cancelled":
            outcomes.append(ended(request_id, past, route))
        else:
            known = task or past
            name = task.name if task is not None else past.resources[0] if past is not None else ""
            if known is not None and known.owner != owner:
                problem = ("not_owner", f"the task is {known.owner}'s: only its owner cancels it")
            else:
                problem = ("ended", "there is no such task: it ended, or never was")
            outcomes.append(Refused(owner, request_id, route, name, *problem))
        return outcomes

    def tick(self, at: At) -> list[Outcome]:
        """Let time pass: waits, delays, attempts and leases end, and then what that frees is assigned."""
        outcomes: list[Outcome] = []
        book, due = self._book, self._book.ledger.due.next_ms()
        if due is None or due > at.now_ms:
            return outcomes
        ids = list(book.ledger.due.take(at.now_ms))
        tasks = [task for one in ids if (task := book.task(one)) is not None]
        agents = [agent for one in ids if (agent := book.agent(one)) is not None]
        for task in tasks:  # before the agents: what these held is not due yet
            if task.held:
                self._moves.take_back(task, "overdue", "the attempt took too long", at, outcomes)
            elif task.delayed:
                self._moves.wait(task, at)
            else:
                waited = at.now_ms - task.asked_ms
                book.end(task, "timed_out", (waited,))
                outcomes.append(TimedOut(*task.who, waited))
        for agent in agents:
            self._moves.go(agent, "expired", agent.route, at, outcomes)
        names = [task.name for task in tasks] + [agent.name for agent in agents]
        for name in dict.fromkeys(names):
            self._moves.settle(name, at, outcomes)
        return outcomes

    # ---- inside

    def _refused(self, who: tuple[str, str, str, str], problem: Problem) -> Refused:
        owner, request_id, _, name = who
        self._book.ledger.remember(request_id, owner, name, "refused", problem)
        return Refused(*who, *problem)

    def _task(self, request_id: str) -> Task:
        task = self._book.task(request_id)
        assert task is not None, "what an agent holds is a live task"
        return task
