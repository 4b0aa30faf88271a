"""What is wrong with a command of consensus, before and after it is known what it is about."""

from __future__ import annotations

from processors.core.coordination.consensus_state import Book, Group
from processors.core.coordination.consensus_words import Await, ConsensusLimits, Join, Leave, Propose, Vote
from processors.core.coordination.request_checks import Problem, command_problem, range_problem
from schemas.naming import name_problem

__all__ = ["bad", "join_problem", "leave_problem", "propose_problem", "vote_problem", "wait_problem"]


def bad(asked: Join | Leave | Propose | Vote | Await, limits: ConsensusLimits) -> Problem | None:
    """Return what is wrong with a command by itself."""
    problem = command_problem(asked.request_id, asked.owner, asked.name, "the consensus")
    if problem is not None:
        return problem
    match asked:
        case Join():
            return _settings_problem(asked, limits)
        case Leave():
            text = name_problem(asked.member, "the member")
            return ("bad_member", text) if text else None
        case Propose():
            return _value_problem(asked.value, limits)
        case Vote():
            return None
        case Await():
            return range_problem("bad_wait", "wait_ms", asked.wait_ms, 0, limits.wait_ms_max, "; ask again to wait longer")


def _settings_problem(asked: Join, limits: ConsensusLimits) -> Problem | None:
    if asked.quorum not in (None, "majority", "all"):
        return "bad_quorum", f"quorum is {str(asked.quorum)[:40]!r}: majority or all is allowed"
    if asked.size_min is not None and (problem := range_problem("bad_size", "size_min", asked.size_min, 1, limits.members_max)):
        return problem
    if asked.round_ms is None:
        return None
    return range_problem("bad_round", "round_ms", asked.round_ms, limits.round_ms_min, limits.round_ms_max)


def _value_problem(value: str, limits: ConsensusLimits) -> Problem | None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "bad_value", "the value has lone surrogates: text that UTF-8 can hold is allowed"
    if size <= limits.value_bytes_max:
        return None
    text = f"the value has {size} bytes: at most {limits.value_bytes_max} are allowed"
    return "bad_value", f"{text}; store it elsewhere and decide about its hash"


def join_problem(book: Book, asked: Join, limits: ConsensusLimits) -> Problem | None:
    """Return why somebody cannot become a member."""
    group = book.groups.get(asked.name)
    if group is None:
        if len(book.groups) < limits.groups_max:
            return None
        text = f"{limits.groups_max} groups are remembered on this partition, for ever"
        return "full", f"{text}: use more partitions, or another topic"
    if len(group.members) >= limits.members_max:
        return "members_full", f"{asked.name} has {limits.members_max} members: let some leave"
    has = (group.size_min, group.quorum_rule, group.round_ms)
    wanted = (asked.size_min, asked.quorum, asked.round_ms)
    if group.members and any(mine not in (None, theirs) for mine, theirs in zip(wanted, has, strict=True)):
        text = f"{asked.name} decides by {has[1]} of at least {has[0]} members, with rounds of {has[2]} ms"
        return "settings_differ", f"{text}: join as it is, or when it has no members"
    return None


def leave_problem(book: Book, asked: Leave) -> Problem | None:
    """Return why somebody cannot be taken out."""
    group = book.groups.get(asked.name)
    if group is None or asked.member not in group.members:
        return "not_member", f"{asked.member} is no member of {asked.name}"
    return _no_member(group, asked.name, asked.owner)


def propose_problem(book: Book, asked: Propose, limits: ConsensusLimits) -> Problem | None:
    """Return why a value cannot be put up for vote."""
    group, size = book.groups.get(asked.name), len(asked.value.encode())
    if problem := _no_member(group, asked.name, asked.owner):
        return problem
    assert group is not None, "who is a member has a group"
    if len(group.proposals) >= limits.proposals_max:
        return "proposals_full", f"{limits.proposals_max} proposals are up for vote in {asked.name}: vote for one of them"
    if group.open_bytes + size > limits.open_bytes_max:
        text = f"the values up for vote in {asked.name} would have {group.open_bytes + size} bytes"
        return "proposals_full", f"{text}, and {limits.open_bytes_max} are allowed: propose a smaller one, or vote"
    if book.values_bytes + size > limits.values_bytes_max:
        return "full", f"{limits.values_bytes_max} bytes of values are kept on this partition: use more partitions"
    return None


def vote_problem(book: Book, asked: Vote) -> Problem | None:
    """Return why a vote does not count, a repeated one excepted."""
    group = book.groups.get(asked.name)
    if problem := _no_member(group, asked.name, asked.owner):
        return problem
    assert group is not None, "who is a member has a group"
    if asked.term != group.term:
        return "stale_term", f"{asked.name} is in term {group.term}, and the vote is for term {asked.term}: vote anew"
    member = group.members[asked.owner]
    if member.voted_term == group.term and member.proposal != asked.proposal:
        return "voted", f"{asked.owner} has voted for {member.proposal} in term {group.term}: one vote a member and term"
    if asked.proposal not in group.proposals:
        return "no_proposal", f"nothing is up for vote as {asked.proposal[:40]!r} in {asked.name}"
    if len(group.members) < group.quorum:
        text = f"{asked.name} has {len(group.members)} members, and {group.quorum} votes decide"
        return "too_few", f"{text}: vote when more have joined, which begins another term"
    return None


def wait_problem(book: Book, asked: Await, limits: ConsensusLimits) -> Problem | None:
    """Return why somebody cannot wait for a decision."""
    if asked.wait_ms == 0:
        return "undecided", f"nothing is decided in {asked.name}: wait, or ask again later"
    if len(book.ledger.requests) >= limits.requests_max:
        return "full", f"{limits.requests_max} requests wait on this partition: let some end, or use more partitions"
    if len(book.waiting.get(asked.name, ())) >= limits.waiters_max:
        return "queue_full", f"{limits.waiters_max} wait for the decision of {asked.name}: try again later"
    return None


def _no_member(group: Group | None, name: str, owner: str) -> Problem | None:
    if group is None:
        return "not_member", f"{name} has no members: join first"
    return None if owner in group.members else ("not_member", f"{owner} is no member of {name}: join first")
