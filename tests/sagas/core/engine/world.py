"""A world around the orchestrator's machine: participants, operators and time, as a test says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from sagas.core.engine import commands
from sagas.core.engine.machine import Sagas
from sagas.core.engine.memory import lock_call
from sagas.core.engine.words import Fields, SagaLimits, Told
from streams.core.at import At
from streams.core.sagas.builder import Saga
from streams.core.sagas.definition import Definition
from streams.core.sagas.shapes import to_data

__all__ = ["World"]

ROUTE = "0|call|me.replies"


@dataclass
class World:
    """One partition. After each command its rows are kept as the table would keep them.

    Attributes:
        limits: Of the machine.
        twin: Whether a second machine is made anew from the rows before each command, and has to say the same.
    """

    limits: SagaLimits = field(default_factory=SagaLimits)
    twin: bool = False
    offset: int = 0
    now_ms: int = 1_000_000
    rows: dict[tuple[Any, ...], str] = field(default_factory=dict)
    calls: list[tuple[str, Fields]] = field(default_factory=list)
    """Calls that nobody has answered, oldest first: handler and call."""
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = Sagas(self.limits)

    # ---- one command

    def do(self, command: Any, *args: Any) -> list[Told]:
        """Carry a command out; what is due by its time first, as a cell does it."""
        self.offset += 1
        at = At(self.offset, 0, self.now_ms)
        other = Sagas.load(self._loaded(), self.limits) if self.twin else None
        told = self._carry_out(self.machine, command, args, at)
        calls, changes = self.machine.take_calls(), self.machine.changes()
        if other is not None:
            assert json.dumps(self._carry_out(other, command, args, at)) == json.dumps(told), "made anew it says something else"
            assert other.take_calls() == calls
            assert _text(other.changes()) == _text(changes)
            assert other.due_ms() == self.machine.due_ms()
        for key, row in changes.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = json.dumps(row)
        self.calls += [(handler, call) for handler, some in calls.items() for call in some]
        self.told += told
        return told

    def _carry_out(self, machine: Sagas, command: Any, args: tuple[Any, ...], at: At) -> list[Told]:
        due_ms = machine.due_ms()
        told = machine.tick(at) if due_ms is not None and due_ms <= at.now_ms else []
        return told + (command(machine, *args, at) if command is not None else [])

    def _loaded(self) -> list[tuple[tuple[Any, ...], Any]]:
        return [(key, json.loads(row)) for key, row in self.rows.items()]

    def reload(self) -> None:
        """Make the machine anew from its rows."""
        self.machine = Sagas.load(self._loaded(), self.limits)

    # ---- what others do

    def define(self, definition: Definition | Saga, *, home: bool = False, digest: str = "") -> Told:
        """Make a definition known; return the last that is said."""
        made = definition.definition() if isinstance(definition, Saga) else definition
        text = json.dumps(to_data(made))
        asked = {"domain": made.name, "version": made.version, "digest": digest or text, "definition": text, "home": home}
        return self.do(commands.define, asked, ROUTE)[-1]

    def start(
        self, definition: Definition | Saga, given: Any = None, saga: str = "s", *, follow: bool = True, **more: Any
    ) -> list[Told]:
        """Define and start a saga."""
        made = definition.definition() if isinstance(definition, Saga) else definition
        self.define(made)
        asked = {
            "saga": saga, "definition": made.name, "version": made.version, "digest": "", "input": json.dumps(given),
            "deadline_ms": 0, "follow": follow, "by": "me", **more,
        }  # fmt: skip
        return self.do(commands.start, asked, ROUTE)

    def answer(
        self, call: Fields, result: Any = None, *, ok: bool = True, code: str = "broken", final: bool = False
    ) -> list[Told]:
        """Answer a call; it is open no more."""
        self.calls = [(handler, one) for handler, one in self.calls if one is not call]
        told = {"result": json.dumps(result) if ok else "", "code": "" if ok else code, "reason": "" if ok else "it broke"}
        one = {name: call[name] for name in ("saga", "node", "undo", "attempt")} | {"ok": ok, "final": final} | told
        return self.do(lambda machine, asked, at: machine.answer(asked, at), {"answers": [one]})

    def take(self, handler: str = "") -> Fields:
        """Return the oldest open call, of a handler if one is said."""
        return next(call for name, call in self.calls if handler in {"", name})

    def work(
        self, failing: dict[str, str] | None = None, results: dict[str, Any] | None = None, limit: int = 10_000
    ) -> list[str]:
        """Answer calls in their order until none is open; return the handlers. `failing`: handler and code."""
        done: list[str] = []
        while self.calls and len(done) < limit:
            handler, call = self.calls[0]
            done.append(handler)
            if failing and handler in failing:
                self.answer(call, ok=False, code=failing[handler], final=True)
            else:
                self.answer(call, (results or {}).get(handler, {"of": handler}))
        return done

    def wait(self, ms: int) -> list[Told]:
        """Let time pass."""
        self.now_ms += ms
        return self.do(None)

    def ask(self, command: Any, saga: str = "s", **fields: Any) -> Told:
        """Give a command; return its answer."""
        return next(one for one in reversed(self.do(command, {"saga": saga, **fields}, ROUTE)) if one.route)

    def control(self, action: str, saga: str = "s") -> Told:
        """Pause, resume or cancel."""
        return self.ask(commands.control, saga, action=action, by="op", reason="because")

    def resolve(self, node: str, action: str, saga: str = "s", result: str = "", reason: str = "because") -> Told:
        """End an incident."""
        return self.ask(commands.resolve, saga, node=node, action=action, by="op", reason=reason, result=result)

    def signal(self, name: str, payload: Any = None, saga: str = "s", signal_id: str = "") -> Told:
        """Send a signal."""
        given = {"signal": name, "payload": json.dumps(payload), "signal_id": signal_id or f"id{self.offset}"}
        return self.ask(commands.signal, saga, **given)

    def approve(self, node: str, *, approved: bool = True, saga: str = "s") -> Told:
        """Say yes or no."""
        return self.ask(commands.approve, saga, node=node, approved=approved, by="op", reason="because")

    def lock(
        self, path: str, number: int = 1, saga: str = "s", *, granted: bool = True, token: int = 7, code: str = ""
    ) -> list[Told]:
        """Answer a request for a lock."""
        asked = {"call": lock_call(saga, path, number), "granted": granted, "token": token, "code": code, "reason": code}
        return self.do(lambda machine, fields, at: machine.lock_told(fields, at), asked)

    # ---- what is there

    def state(self, saga: str = "s") -> Fields:
        """Return what is known of a saga."""
        told = commands.query(self.machine, {"saga": saga, "follow": False}, ROUTE)[0]
        assert told.kind == "state", told
        found: Fields = json.loads(told.fields["state"])
        return found

    def moments(self, saga: str = "s") -> list[tuple[str, str]]:
        """Return all that was told of a saga: what and node."""
        told = [one for one in self.told if one.fields.get("saga") == saga and one.everybody]
        return [(one["what"], one["node"]) for each in told for one in each.fields.get("moments", [])]

    def end(self, saga: str = "s") -> Fields:
        """Return what was told of a saga's end: exactly one thing, to everybody."""
        ends = [one.fields for one in self.told if one.kind == "ended" and one.everybody and one.fields["saga"] == saga]
        assert len(ends) == 1, f"{len(ends)} ends"
        return ends[0]


def _text(changes: dict[Any, Any]) -> dict[Any, str]:
    return {key: json.dumps(row) for key, row in changes.items()}
