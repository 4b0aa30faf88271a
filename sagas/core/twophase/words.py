"""What the coordinator of two-phase commit answers, and its limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from schemas.naming import name_problem
from schemas.transactions import MANAGER_PREFIX

__all__ = ["CoordinatorLimits", "Fields", "Problem", "Told", "managers_problem", "names_problem"]

Fields = dict[str, Any]
Problem = tuple[str, str]
"""A code for programs, and a reason for people."""

MINUTE_MS: Final = 60_000
DAY_MS: Final = 24 * 60 * MINUTE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorLimits:
    """What is refused or forgotten, and why there is a limit.

    Attributes:
        participants_max: Of one transaction: each is a round trip that can fail.
        live_max: Transactions of one partition that have not ended; more is an outage of participants.
        ended_max: Ends of one partition that are remembered for who asks: minutes of full load.
        again_within_ms: A client asks within so long; where one that ended since is forgotten, it may be what is asked for.
        skew_ms: So far a client's clock may be off.
        timeout_ms_max: An hour: rows are locked for so long.
        again_ms: After which a decision is told again that was not done, and then twice as long each time.
        again_ms_max: The longest of these pauses.
        silent_after: So many times of telling in vain are an incident: with these pauses after a minute.
        incident_ms: An incident that nobody has ended is told again after so long: before its event is gone from the topic.
        payload_chars_max: What a resource manager is asked to do.
        payloads_chars_max: All of them: they are in one row.
    """

    participants_max: int = 64
    live_max: int = 100_000
    ended_max: int = 100_000
    again_within_ms: int = 5 * MINUTE_MS
    skew_ms: int = 10_000
    timeout_ms_max: int = 60 * MINUTE_MS
    again_ms: int = 1_000
    again_ms_max: int = MINUTE_MS
    silent_after: int = 6
    incident_ms: int = DAY_MS
    payload_chars_max: int = 65_536
    payloads_chars_max: int = 131_072


class Told(NamedTuple):
    """Something that is said.

    Attributes:
        kind: "decide", "prepare_manager", "decide_manager" to participants; "decided", "ended", "incident" to everybody.
        fields: Of the event.
        route: Who asked.
        everybody: Whether it is an event, too.
    """

    kind: str
    fields: Fields
    route: str = ""
    everybody: bool = False


def names_problem(txn: str, owner: str, participants: list[str], timeout_ms: int, limits: CoordinatorLimits) -> Problem | None:
    """Return why a transaction is not taken on."""
    if problem := name_problem(txn, "the transaction") or name_problem(owner, "the owner"):
        return "bad_name", problem
    for one in participants:
        if problem := name_problem(one, "a participant"):
            return "bad_name", problem
    if not 1 <= len(participants) <= limits.participants_max or len(set(participants)) != len(participants):
        text = f"{len(participants)} participants: 1 to {limits.participants_max} different ones are allowed"
        return "bad_participants", text
    if not 1 <= timeout_ms <= limits.timeout_ms_max:
        return "bad_timeout", f"a timeout of {timeout_ms} ms: 1 to {limits.timeout_ms_max} are allowed"
    return None


def managers_problem(participants: Iterable[str], payloads: dict[str, str], limits: CoordinatorLimits) -> Problem | None:
    """Return what is wrong with a transaction's resource managers."""
    named = {one for one in participants if one.startswith(MANAGER_PREFIX)}
    if differ := sorted(named ^ set(payloads)):
        return "bad_participants", f"{differ[0]} is named only once: name it among the participants and ask it for something"
    if large := next((one for one, text in payloads.items() if len(text) > limits.payload_chars_max), ""):
        return "too_large", f"what {large} is asked for has more than {limits.payload_chars_max} characters"
    if sum(map(len, payloads.values())) > limits.payloads_chars_max:
        return "too_large", f"what managers are asked for has more than {limits.payloads_chars_max} characters in all"
    return None
