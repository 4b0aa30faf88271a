"""Consensus on Kafka: commands to the machine, its outcomes to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processors.coordinating.tables import asked, shell_of
from processors.core.coordination import consensus_words as words
from processors.core.coordination.consensus import Consensus
from schemas import consensus as events

if TYPE_CHECKING:
    from streams.core.at import At
    from streams.machines.shells import Shell

__all__ = ["shell"]

Fields = dict[str, Any]


def shell(limits: words.ConsensusLimits | None = None) -> Shell:
    """Return consensus as a primitive of the coordination processor."""
    return shell_of(
        "consensus",
        {
            events.JoinConsensus: _join,
            events.LeaveConsensus: _leave,
            events.ProposeValue: _propose,
            events.VoteForProposal: _vote,
            events.AwaitDecision: _wait,
            events.CancelWait: _cancel,
            events.AskConsensus: _ask,
        },
        {
            words.TermBegan: events.TermBegan,
            words.Proposed: events.ValueProposed,
            words.Voted: events.VoteCounted,
            words.Decided: events.ValueDecided,
            words.Standing: events.ConsensusStanding,
        },
        lambda rows: Consensus.load(rows, limits),
    )


def _join(machine: Consensus, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.join(asked(words.Join, fields, route), at)


def _leave(machine: Consensus, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.leave(asked(words.Leave, fields, route), at)


def _propose(machine: Consensus, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.propose(asked(words.Propose, fields, route), at)


def _vote(machine: Consensus, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.vote(asked(words.Vote, fields, route), at)


def _wait(machine: Consensus, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.wait(asked(words.Await, fields, route), at)


def _cancel(machine: Consensus, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.cancel(fields["request_id"], fields["owner"], at, route=route)


def _ask(machine: Consensus, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.standing(fields["name"], fields["owner"], at, request_id=fields["request_id"], route=route)
