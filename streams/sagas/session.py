"""What an agent service says to the orchestrator: it starts sagas, waits for their end, signals, approves, mends."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from schemas import sagas as events
from schemas.naming import domain_of
from streams.core.sagas.builder import Saga
from streams.core.sagas.checking import checked
from streams.core.sagas.definition import Child, Definition, walk
from streams.core.sagas.limits import PAYLOAD_CHARS_MAX
from streams.core.sagas.shapes import to_data
from streams.errors import RequestTimedOut
from streams.sagas.errors import SagaFailed, SagaRefused
from streams.tables.wire import Wire

if TYPE_CHECKING:
    from schemas.events import Event
    from streams.coordination.channel import Answer, Channel

__all__ = ["SagaHandle", "Sagas"]

FOLLOW_S: Final = 20.0
"""Who waits for an end says so again after this: a follower is remembered, and a topic of replies may have moved."""
UNKNOWN: Final = "unknown_definition"

_SAGA: Final[dict[str, Any]] = {"id": "-", "source": "-", "domain": "", "saga": ""}
_SAMPLES: Final[tuple[Event, ...]] = (
    events.StartSaga(**_SAGA, definition="", version=1, digest="", input=""),
    events.DefineSaga(id="-", source="-", domain="", version=1, digest="", definition=""),
    events.SignalSaga(**_SAGA, signal="", payload="", signal_id=""),
    events.ApproveNode(**_SAGA, node="", approved=True, by=""),
    events.ControlSaga(**_SAGA, action="", by=""),
    events.ResolveSaga(**_SAGA, node="", action="", by="", reason=""),
    events.ForkSaga(**_SAGA, fork="", node="", by=""),
    events.QuerySaga(**_SAGA),
)


class _Known:
    """A definition as it is sent."""

    __slots__ = ("children", "definition", "digest", "text")

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.text = orjson.dumps(to_data(definition)).decode()
        self.digest = hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()
        self.children = [(one.definition, one.version) for one in walk(definition.nodes) if isinstance(one, Child)]


class Sagas:
    """The sagas of a mesh.

    Args:
        channel: The conversation, which has the answers.
        name: Who starts sagas.
        source: The CloudEvents source of commands.
        prefix: Before the names of topics.
        answer_s: How long a command may stay without an answer.
    """

    def __init__(self, channel: Channel, *, name: str, source: str, prefix: str, answer_s: float) -> None:
        self._wire = Wire(
            channel,
            source=source,
            prefix=prefix,
            answer_s=answer_s,
            samples=_SAMPLES,
            made_by="`antiphon worker sagas`",
        )
        self.prefix, self._name = prefix, name
        self._known: dict[tuple[str, int], _Known] = {}

    # ---- definitions

    async def define(self, definition: Definition | Saga) -> None:
        """Make a definition known, and let its schedules run from now on.

        Raises:
            DefinitionErrors: It cannot run: every mistake with its place.
            SagaRefused: Another definition has this name and version.
        """
        known = self._learn(definition)
        await self._define(known, known.definition.name, home=True)

    def _learn(self, definition: Definition | Saga) -> _Known:
        made = definition.definition() if isinstance(definition, Saga) else definition
        name = made.name, made.version
        known = self._known.get(name)
        if known is None or (known.definition is not made and known.definition != made):
            known = self._known[name] = _Known(checked(made))
        return known

    async def _define(self, known: _Known, domain: str, *, home: bool) -> None:
        """Tell the partition of a domain a definition, and those of its children."""
        waiting, seen = [known], set[tuple[str, int]]()
        while waiting:
            one = waiting.pop()
            name = one.definition.name, one.definition.version
            if name in seen:
                continue
            seen.add(name)
            waiting += [self._known[child] for child in one.children if child in self._known]
            fields = {
                "domain": name[0],
                "version": name[1],
                "digest": one.digest,
                "definition": one.text,
                "home": home and one is known,
            }
            await self._ask(events.DefineSaga, fields, domain, f"definition {name[0]}, version {name[1]}")

    # ---- beginnings and ends

    async def start(
        self,
        definition: Definition | Saga | str,
        input: Any = None,  # noqa: A002, ANN401 - as steps call it; any JSON value
        *,
        id: str = "",  # noqa: A002 - as everybody calls it
        version: int = 1,
        deadline_s: float | None = None,
    ) -> SagaHandle:
        """Start a saga; returns when it has begun.

        Args:
            definition: What it is to do, or the name of a definition that was made known.
            input: JSON for its steps.
            id: Its id, which is also its idempotency key: starting it twice starts it once. Sagas whose ids have the same part
                before the first slash are decided in one partition. Made up where not given.
            version: Of the definition, where its name is given.
            deadline_s: When it is given up; else as the definition says.

        Raises:
            DefinitionErrors: The definition cannot run.
            SagaRefused: Its input is not what it needs, too large, another saga has the id, or the definition was changed.
            RequestTimedOut: No orchestrator answers.
        """
        handle, fields, known = self._starting(definition, input, id, version, deadline_s)
        await self._start(fields, known)
        return handle

    async def run(
        self,
        definition: Definition | Saga | str,
        input: Any = None,  # noqa: A002, ANN401 - as steps call it; any JSON value
        *,
        id: str = "",  # noqa: A002 - as everybody calls it
        version: int = 1,
        deadline_s: float | None = None,
        timeout_s: float | None = None,
    ) -> Any:  # noqa: ANN401 - any JSON value
        """Start a saga and return its result. See `start`; `timeout_s` is for the waiting, the saga goes on.

        Raises:
            SagaFailed: It was compensated or cancelled.
            TimeoutError: It has not ended in time.
        """
        handle, fields, known = self._starting(definition, input, id, version, deadline_s)
        fields["follow"] = True
        began = time.monotonic()
        first_s = self._wire.answer_s if timeout_s is None else min(timeout_s, self._wire.answer_s)
        try:
            answer = await self._start(fields, known, wait_s=first_s)
        except RequestTimedOut:
            if timeout_s is not None and time.monotonic() - began >= timeout_s:
                raise TimeoutError(f"saga {handle.id} has not ended within {timeout_s:g} s") from None
            await handle.state()  # raises where nobody is there, or it never began
            return await handle.result(timeout_s=None if timeout_s is None else timeout_s - (time.monotonic() - began))
        return _result(answer)

    def _starting(
        self,
        definition: Definition | Saga | str,
        given: Any,  # noqa: ANN401 - any JSON value
        saga: str,
        version: int,
        deadline_s: float | None,
    ) -> tuple[SagaHandle, dict[str, Any], _Known | None]:
        known = self._known.get((definition, version)) if isinstance(definition, str) else self._learn(definition)
        name = definition if isinstance(definition, str) else known.definition.name if known else ""
        saga = saga or f"{name}-{secrets.token_hex(8)}"
        fields: dict[str, Any] = {
            "domain": domain_of(saga),
            "saga": saga,
            "definition": name,
            "version": known.definition.version if known else version,
            "digest": known.digest if known else "",
            "input": _text(given),
            "deadline_ms": 0 if deadline_s is None else max(1, round(deadline_s * 1000)),
            "follow": False,
            "by": self._name,
        }
        return SagaHandle(self, saga), fields, known

    async def _start(self, fields: dict[str, Any], known: _Known | None, *, wait_s: float | None = None) -> Answer:
        what = f"saga {fields['saga']}"
        try:
            return await self._ask(events.StartSaga, fields, fields["domain"], what, wait_s=wait_s)
        except SagaRefused as error:
            if error.code != UNKNOWN or known is None:
                raise
        await self._define(known, fields["domain"], home=False)
        return await self._ask(events.StartSaga, fields, fields["domain"], what, wait_s=wait_s)

    def handle(self, saga: str) -> SagaHandle:
        """Return the handle of a saga that somebody started."""
        return SagaHandle(self, saga)

    async def result(self, saga: str, *, timeout_s: float | None = None) -> Any:  # noqa: ANN401 - any JSON value
        """Wait for a saga's end and return its result.

        Raises:
            SagaFailed: It was compensated or cancelled.
            SagaRefused: It is not known.
            TimeoutError: It has not ended in time.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        fields: dict[str, Any] = {"domain": domain_of(saga), "saga": saga, "follow": True}
        while True:
            left = FOLLOW_S if until is None else min(FOLLOW_S, until - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"saga {saga} has not ended within {timeout_s:g} s")
            try:
                return _result(await self._ask(events.QuerySaga, fields, fields["domain"], f"saga {saga}", wait_s=left))
            except RequestTimedOut:
                continue

    async def state(self, saga: str) -> dict[str, Any]:
        """Return what a saga is doing.

        Returns:
            `saga`, `definition`, `version`, `status`, `code`, `reason`, `input`, `result`, times, `nodes` by path, `undos`,
            `incidents`, `approvals`, `locks` and more.

        Raises:
            SagaRefused: It is not known.
        """
        fields = {"domain": domain_of(saga), "saga": saga, "follow": False}
        return await self._state(events.QuerySaga, fields, f"saga {saga}")

    # ---- what a saga waits for, and what operators do

    async def signal(self, saga: str, name: str, payload: Any = None, *, id: str = "") -> dict[str, Any]:  # noqa: A002, ANN401
        """Send a signal; the same id again is the same signal. Returns the saga's state.

        Raises:
            SagaRefused: It has ended, or is not known, or the payload is too large.
        """
        more = {"signal": name, "payload": _text(payload), "signal_id": id or secrets.token_hex(12)}
        return await self._state(events.SignalSaga, self._of(saga) | more, f"the signal {name} to saga {saga}")

    async def approve(self, saga: str, node: str, *, approved: bool = True, by: str, reason: str = "") -> dict[str, Any]:
        """Say yes or no where a saga asks a human. Returns the saga's state.

        Raises:
            SagaRefused: It does not wait for that.
        """
        more = {"node": node, "approved": approved, "by": by, "reason": reason}
        return await self._state(events.ApproveNode, self._of(saga) | more, f"the approval of {node} of saga {saga}")

    async def pause(self, saga: str, *, by: str, reason: str = "") -> dict[str, Any]:
        """Let a saga begin nothing more until it is resumed; what is at work ends. Returns its state."""
        return await self._control(saga, "pause", by, reason)

    async def resume(self, saga: str, *, by: str, reason: str = "") -> dict[str, Any]:
        """Let a paused saga go on. Returns its state."""
        return await self._control(saga, "resume", by, reason)

    async def cancel(self, saga: str, *, by: str, reason: str = "") -> dict[str, Any]:
        """Have a saga undo what it did, and end. Returns its state.

        Raises:
            SagaRefused: Its pivot has succeeded, or it has ended.
        """
        return await self._control(saga, "cancel", by, reason)

    async def _control(self, saga: str, action: str, by: str, reason: str) -> dict[str, Any]:
        more = {"action": action, "by": by, "reason": reason}
        return await self._state(events.ControlSaga, self._of(saga) | more, f"{action} of saga {saga}")

    async def resolve(
        self,
        saga: str,
        node: str,
        *,
        action: Literal["retry", "skip", "done"],
        by: str,
        reason: str,
        result: Any = None,  # noqa: ANN401
    ) -> dict[str, Any]:
        """End an incident: have it tried again, skip it, or say that it is done. Returns the saga's state.

        Raises:
            SagaRefused: There is no such incident, or no reason.
        """
        more = {"node": node, "action": action, "by": by, "reason": reason, "result": "" if result is None else _text(result)}
        return await self._state(events.ResolveSaga, self._of(saga) | more, f"{action} of {node} of saga {saga}")

    async def fork(self, saga: str, node: str, *, by: str, reason: str = "", id: str = "") -> SagaHandle:  # noqa: A002
        """Run a saga again from a node, as a new one that keeps the results of what does not follow this node.

        Args:
            saga: The old one; nothing of it is changed.
            node: From where.
            by: Who does it.
            reason: Why.
            id: Of the new one, of the same domain.

        Raises:
            SagaRefused: What is before the node was undone or has not ended, or the saga is not known.
        """
        new = id or f"{saga}/fork-{secrets.token_hex(4)}"
        more = {"fork": new, "node": node, "by": by, "reason": reason, "follow": False}
        await self._ask(events.ForkSaga, self._of(saga) | more, domain_of(saga), f"the fork of saga {saga} from {node}")
        return SagaHandle(self, new)

    # ---- inside

    def _of(self, saga: str) -> dict[str, Any]:
        return {"domain": domain_of(saga), "saga": saga}

    async def _state(self, cls: type[Event], fields: dict[str, Any], what: str) -> dict[str, Any]:
        kind, answer = await self._ask(cls, fields, fields["domain"], what)
        found: dict[str, Any] = orjson.loads(answer["state"]) if kind == events.SagaState.event_type else dict(answer)
        return found

    async def _ask(self, cls: type[Event], fields: dict[str, Any], key: str, what: str, *, wait_s: float | None = None) -> Answer:
        call = self._wire.channel.new_id()
        answer = await self._wire.call(cls, fields, key=key, call=call, what=what, limit_s=wait_s)
        if answer[0] == events.SagaRefused.event_type:
            raise SagaRefused(what, code=answer[1]["code"], reason=answer[1]["reason"])
        return answer


class SagaHandle:
    """A saga.

    Attributes:
        id: Its id.
    """

    __slots__ = ("_sagas", "id")

    def __init__(self, sagas: Sagas, id: str) -> None:  # noqa: A002 - as everybody calls it
        """Made by `Sagas.start`, `Sagas.fork` and `Sagas.handle`."""
        self._sagas, self.id = sagas, id

    async def result(self, *, timeout_s: float | None = None) -> Any:  # noqa: ANN401 - any JSON value
        """Wait for its end and return its result. See `Sagas.result`."""
        return await self._sagas.result(self.id, timeout_s=timeout_s)

    async def state(self) -> dict[str, Any]:
        """Return what it is doing. See `Sagas.state`."""
        return await self._sagas.state(self.id)

    async def signal(self, name: str, payload: Any = None, *, id: str = "") -> dict[str, Any]:  # noqa: A002, ANN401
        """Send it a signal. See `Sagas.signal`."""
        return await self._sagas.signal(self.id, name, payload, id=id)

    async def cancel(self, *, by: str, reason: str = "") -> dict[str, Any]:
        """Have it undo what it did, and end. See `Sagas.cancel`."""
        return await self._sagas.cancel(self.id, by=by, reason=reason)


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return an input or a payload as it travels.

    Raises:
        SagaRefused: It is no JSON, or too large.
    """
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError) as error:
        raise SagaRefused("the input", code="bad_input", reason=f"it is no JSON: {error}") from None
    if len(text) > PAYLOAD_CHARS_MAX:
        reason = f"it has {len(text)} characters of JSON: at most {PAYLOAD_CHARS_MAX} are allowed; keep large things in a table"
        raise SagaRefused("the input", code="too_large", reason=reason)
    return text


def _result(answer: Answer) -> Any:  # noqa: ANN401 - any JSON value
    kind, fields = answer
    assert kind == events.SagaEnded.event_type, f"who waits for an end is told {kind}"
    if fields["outcome"] != "completed":
        raise SagaFailed(fields["saga"], outcome=fields["outcome"], code=fields["code"], reason=fields["reason"])
    return orjson.loads(fields["result"]) if fields["result"] else None
