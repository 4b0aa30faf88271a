"""Processes that lead and agree, and what the events must say afterwards."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient

from schemas import consensus, elections
from schemas.coordination import EVENTS_TOPIC
from tests.e2e.sync_trial import SyncTrial
from tests.e2e.trial import until


class Speaker:
    """A client process, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log

    def said(self, word: str) -> list[list[str]]:
        """Return the words of each line that begins with this one."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line.split()[1:] for line in lines if line.split()[:1] == [word]]

    def wait(self, word: str, times: int = 1) -> list[str]:
        """Wait until it has said this so often, and return the last one's words."""

        def enough() -> bool:
            assert self.process.poll() is None or len(self.said(word)) >= times, self._log.read_text(errors="replace")[-3_000:]
            return len(self.said(word)) >= times

        until(enough, f"it says {word} {times} times")
        return self.said(word)[times - 1]


class LeadersTrial(SyncTrial):
    """As `SyncTrial`, with other clients."""

    async def begin(self) -> None:
        """Start the first worker, and wait until it has made the topic that observers read."""
        self.start_worker()
        admin, topic = AdminClient({"bootstrap.servers": self.servers}), self.prefix + EVENTS_TOPIC
        await asyncio.to_thread(until, lambda: topic in admin.list_topics(timeout=10).topics, f"there is {topic}")

    def speaker(self, *args: str) -> Speaker:
        """Start a client process."""
        settings = {"SYNC_SERVERS": self.servers, "SYNC_CLIENT": f"{self.name}-p{len(self.logs)}", "SYNC_PREFIX": self.prefix}
        return Speaker(*self._start("leaders_client.py", *args, **settings))

    def kill(self, *speakers: Speaker) -> None:
        """Kill client processes, with SIGKILL."""
        for one in speakers:
            one.process.kill()
        for one in speakers:
            one.process.wait()


def judge_election(events: list[Any], name: str) -> list[str]:
    """Check that one leads at a time, that terms go 1, 2, 3 and tokens grow; return the owners in the order of terms.

    Args:
        events: Of its partition, in order.
        name: The election.
    """
    leader: elections.LeaderElected | None = None
    token, owners = 0, list[str]()
    for event in events:
        if getattr(event, "name", None) != name:
            continue
        if isinstance(event, elections.LeaderElected):
            assert leader is None, f"{event} while {leader} leads"
            assert event.term == len(owners) + 1, f"{event} after {len(owners)} terms"
            assert event.token > token, f"{event} after token {token}"
            leader, token = event, event.token
            owners.append(event.owner)
        elif isinstance(event, elections.CandidacyEnded) and event.term:
            assert leader is not None
            assert (event.request_id, event.term, event.token) == (leader.request_id, leader.term, leader.token)
            leader = None
    return owners


def judge_consensus(events: list[Any], name: str, *, size_min: int = 1) -> str | None:
    """Check that what was decided was proposed and had a majority of the members of its term, once; return its text.

    Args:
        events: Of its partition, in order.
        name: The consensus.
        size_min: Of how many members at least.
    """
    term, members, decided = 0, set[str](), list[consensus.ValueDecided]()
    votes: dict[int, dict[str, str]] = {}
    proposed: dict[str, tuple[str, str]] = {}
    for event in events:
        if getattr(event, "name", None) != name:
            continue
        if isinstance(event, consensus.TermBegan):
            assert event.term == term + 1
            term = event.term
            members = members | {event.member} if event.why == "joined" else members - {event.member}
            assert event.members == len(members)
        elif isinstance(event, consensus.ValueProposed):
            proposed[event.request_id] = (event.owner, event.value)
        elif isinstance(event, consensus.VoteCounted):
            assert event.term == term
            assert event.owner in members
            assert event.owner not in votes.setdefault(term, {}), f"{event.owner} votes twice in term {term}"
            votes[term][event.owner] = event.proposal
        elif isinstance(event, consensus.ValueDecided):
            decided.append(event)
            assert event.term == term
            assert proposed[event.proposal] == (event.proposer, event.value)
            assert Counter(votes[term].values())[event.proposal] == len(event.voters) > max(len(members), size_min) // 2
            assert set(event.voters) <= members
    assert len(decided) <= 1
    return decided[0].value if decided else None
