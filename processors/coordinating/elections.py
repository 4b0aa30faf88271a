"""Leader elections on Kafka: commands to the machine, its outcomes to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processors.coordinating.tables import asked, shell_of
from processors.core.coordination import election_words as words
from processors.core.coordination.elections import Elections
from schemas import elections as events

if TYPE_CHECKING:
    from streams.core.at import At
    from streams.machines.shells import Shell

__all__ = ["shell"]

Fields = dict[str, Any]


def shell(limits: words.ElectionLimits | None = None) -> Shell:
    """Return leader elections as a primitive of the coordination processor."""
    return shell_of(
        "elections",
        {
            events.StandForElection: _stand,
            events.RenewCandidacy: _renew,
            events.StepDown: _step_down,
            events.Resign: _resign,
            events.AskElection: _ask,
        },
        {
            words.Elected: events.LeaderElected,
            words.Renewed: events.CandidacyRenewed,
            words.Ended: events.CandidacyEnded,
            words.Standing: events.ElectionStanding,
        },
        lambda rows: Elections.load(rows, limits),
    )


def _stand(machine: Elections, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.stand(asked(words.Campaign, fields, route), at)


def _renew(machine: Elections, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.renew(fields["request_id"], fields["owner"], at, lease_ms=fields["lease_ms"], route=route)


def _step_down(machine: Elections, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.step_down(asked(words.StepDown, fields, route), at)


def _resign(machine: Elections, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.resign(fields["request_id"], fields["owner"], at, route=route)


def _ask(machine: Elections, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.standing(fields["name"], fields["owner"], at, request_id=fields["request_id"], route=route)
