"""A shell from two tables: which command calls what, and which outcome is which event.

For primitives whose requests are for one name (see `request_words`): what they share is told here, and each adds its own.

    commands    {ReleasePermits: lambda machine, fields, route, at: machine.release(...), ...}
    events      {Granted: PermitsGranted, ...}      fields of the same names are carried over
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as fields_of
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin

from processors.core.coordination.request_words import Queued, Refused, TimedOut
from schemas.coordination_answers import RequestQueued, RequestRefused, RequestTimedOut
from schemas.naming import NAME_CHARS_MAX, domain_of
from streams.machines.shells import Key, Machine, Row, Shell, place_problem

if TYPE_CHECKING:
    from schemas.events import Event
    from streams.core.at import At
    from streams.machines.answers import Answers

__all__ = ["Carry", "asked", "shell_of"]

Fields = dict[str, Any]
Carry = Callable[[Any, Fields, str, "At"], list[Any]]
"""Carries out one kind of command: the machine, the command's fields, the route of its answer, the moment."""

_SHARED: Final[dict[type[Any], type[Event]]] = {
    Queued: RequestQueued,
    Refused: RequestRefused,
    TimedOut: RequestTimedOut,
}
_NOT_TOLD: Final = frozenset({"route", "repeated"})
_EMPTY: Final[dict[Any, Any]] = {str: "", int: 0, bool: False, list: [], float: 0.0, dict: {}}

T = TypeVar("T")


def asked(cls: Callable[..., T], fields: Fields, route: str) -> T:
    """Return a command of the machine from the fields of its event, which has the same names and the domain besides."""
    rest = dict(fields)
    del rest["domain"]
    return cls(**rest, route=route)


def shell_of(
    name: str,
    commands: Mapping[type[Event], Carry],
    events: Mapping[type[Any], type[Event]],
    load: Callable[[Iterable[tuple[Key, Row]]], Machine],
) -> Shell:
    """Return a primitive of the coordination processor.

    Args:
        name: The first part of its rows' keys, and the `primitive` of its requests.
        commands: What carries out each.
        events: What tells each outcome, those of `request_words` excepted.
        load: Makes the machine from its rows.
    """
    by_kind = {cls.event_type: carry for cls, carry in commands.items()}
    told = {**_SHARED, **events}
    names = {cls: tuple(one.name for one in fields_of(cls) if one.name not in _NOT_TOLD) for cls in told}

    def carry_out(machine: Machine, kind: str, fields: Fields, key: bytes | None, route: str, at: At) -> list[Any]:
        about = fields.get("name", "")
        if problem := place_problem(key, fields["domain"], about):
            request_id = fields.get("request_id") or fields.get("grant", "")
            return [Refused(fields["owner"], request_id, route, about, "misplaced", problem)]
        return by_kind[kind](machine, fields, route, at)

    def tell(outcomes: Iterable[Any], answers: Answers, domain: str) -> None:
        for outcome in outcomes:
            kind = type(outcome)
            fields: Fields = {one: getattr(outcome, one) for one in names[kind]}
            own = domain_of(outcome.name) or domain
            everybody = not getattr(outcome, "repeated", False)
            if kind in _SHARED:
                fields["primitive"] = name
            if kind is Refused:
                fields["reason"] = fields.pop("text")
                if outcome.code.startswith("bad_") or outcome.code == "misplaced":
                    everybody, own = False, domain  # nothing happened; and what is bad may be large
                    for one in ("request_id", "owner", "name"):
                        fields[one] = fields[one][:NAME_CHARS_MAX]
            answers.write(told[kind], fields, domain=own, route=outcome.route, event=everybody)

    samples = tuple(_sample(cls) for cls in told.values())
    return Shell(name=name, commands=frozenset(by_kind), samples=samples, load=load, carry_out=carry_out, tell=tell)


def _sample(cls: type[Event]) -> Event:
    """Return an event of a class, with an empty value for each field that needs one."""
    needed = {name: one.annotation for name, one in cls.model_fields.items() if one.is_required()}
    return cls(id="-", source="-", **{name: _empty(kind) for name, kind in needed.items()})


def _empty(kind: Any) -> Any:  # noqa: ANN401 - an annotation, and a value of it
    if kind in _EMPTY:
        return _EMPTY[kind]
    if get_origin(kind) in _EMPTY:
        return _EMPTY[get_origin(kind)]
    options = get_args(kind)
    return None if type(None) in options else options[0]
