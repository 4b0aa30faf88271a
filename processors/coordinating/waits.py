"""Whether a partition has come so far: each `wait.check` is answered by `wait.checked`, after all that came before it.

It keeps nothing. Since a domain's commands are carried out in order and its events stand in that order, who reads the answer on
the events topic has read everything that the domain did before it was asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.naming import NAME_CHARS_MAX
from schemas.waits import CheckWaits, WaitsChecked
from streams.machines.shells import Shell, place_problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.core.at import At
    from streams.machines.answers import Answers
    from streams.machines.shells import Key, Row

__all__ = ["shell"]


@dataclass(frozen=True, slots=True)
class Checked:
    """A check was come to."""

    domain: str
    request_id: str
    route: str


class Checks:
    """The machine: without any state."""

    def tick(self, at: At) -> list[Any]:  # noqa: ARG002 - as all machines have it
        """Nothing comes of time."""
        return []

    def due_ms(self) -> int | None:
        """Never."""
        return None

    def changes(self) -> dict[Key, Row | None]:
        """Nothing is kept."""
        return {}


def shell() -> Shell:
    """Return the answering of checks as a primitive of the coordination processor."""
    return Shell(
        name="waits",
        commands=frozenset({CheckWaits.event_type}),
        samples=(WaitsChecked(id="-", source="-", domain="", request_id=""),),
        load=lambda _: Checks(),
        carry_out=_carry_out,
        tell=_tell,
    )


def _carry_out(_: Checks, __: str, fields: dict[str, Any], key: bytes | None, route: str, ___: At) -> list[Checked]:
    domain, request_id = fields["domain"], fields["request_id"]
    if place_problem(key, domain) or not 0 < len(request_id) <= NAME_CHARS_MAX:
        return []  # an answer from another partition would say something else than was asked
    return [Checked(domain, request_id, route)]


def _tell(outcomes: Iterable[Checked], answers: Answers, _: str) -> None:
    for one in outcomes:
        answers.write(WaitsChecked, {"request_id": one.request_id}, domain=one.domain, route=one.route)
