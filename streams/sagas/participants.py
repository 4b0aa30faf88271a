"""Participants of sagas: handlers that do the steps of one service, each once.

    sagas.calls ──▶ records of own handlers ──▶ handlers at work, `at_once` of them ──▶ sagas.commands (answers, bundled)

What a participant promises: a step whose answer was written is not done again, though it be called again, by whom and after
whatever crash; a call that comes while it is at work waits for the same answer; a compensation ends the action where that still
is at work, and none is begun after it. Between the effect of a handler and the record of its answer lies a moment in which a
crash lets it run again: have the effect bear that by `call.key`, which is the same for every attempt, as id of a transaction, of
an event, or as key in a database of one's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import orjson

from schemas.avro import PREFIX_BYTES, parsed, write_body
from schemas.cloudevents import CONTENT_TYPE, SPEC_VERSION, rfc3339
from schemas.errors import AntiphonError, SchemaError
from schemas.naming import name_problem
from schemas.sagas import CALLS_TOPIC, COMMANDS_TOPIC, HANDLER, SERVICE, AnswerCalls, CallHandler
from streams.bundling import Bundles
from streams.core.deadletters import one_line
from streams.core.patterns import TopicPattern
from streams.core.sagas.limits import PAYLOAD_CHARS_MAX
from streams.errors import SettingsError, TopicMissing
from streams.sagas.errors import StepFailed
from streams.sagas.memory import Key, Memory
from streams.transport import FeedOptions, Outgoing

if TYPE_CHECKING:
    from types import TracebackType

    from streams.client import Mesh
    from streams.transport import Feed, Lane, Record

__all__ = ["Handler", "Participant", "StepCall"]

log = logging.getLogger(__name__)

Handler = Callable[..., Any]
AT_ONCE: Final = 100
"""Handlers at work at once where nothing is said."""
AT_ONCE_MAX: Final = 10_000
DRAIN_S: Final = 5.0
"""How long handlers at work may finish when the block ends; what they have not finished is called again."""
APART_S: Final = 0.002
"""Between records of answers: several answers share one."""
MEMORY_MS: Final = 15 * 60_000
"""Calls are sent again within five minutes at the longest, so answers of the last fifteen are read back."""
MEMORY_MAX: Final = 100_000
"""Records that are read back of a partition."""
LATE_MS: Final = 10_000
"""So long behind its timeout a call is not taken up any more: its saga has given the attempt up; clocks may differ by less."""
ANSWERS_CHARS_MAX: Final = 500_000
"""Characters of results in one record of answers."""
_REASON_CHARS_MAX: Final = 500
_MADE_BY: Final = "antiphon worker sagas"


class StepCall(NamedTuple):
    """A call of a handler, for those that want to know more than their input.

    Attributes:
        saga: Whose step it is.
        node: The step, in a body with its pass.
        undo: Whether it is the compensation.
        attempt: From 1.
        key: Of the step: the same for every attempt, and another one for its compensation.
        resource: Of the lock that the saga holds for the step; empty: it holds none.
        token: Of its grant, for guards.
        timeout_s: How long the attempt may take; the handler is cancelled then.
        mesh: The participant's, for what the handler does on the log.
    """

    saga: str
    node: str
    undo: bool
    attempt: int
    key: str
    resource: str
    token: int
    timeout_s: float
    mesh: Mesh


class _Open:
    """A record of calls of which some are not answered yet."""

    __slots__ = ("lane", "left", "offset")

    def __init__(self, lane: Lane, offset: int, left: int) -> None:
        self.lane, self.offset, self.left = lane, offset, left


class Participant:
    """The handlers of one service, at work for the time of a block; made by `Mesh.participate`.

    Args:
        mesh: What it is connected with.
        handlers: By name. Each takes the input, or input and `StepCall`; it returns JSON, or raises `StepFailed`.
        service: Names the consumer group: participants of the same service share the calls, and remember together.
        at_once: Handlers at work at once.
        prefix: Before the names of topics.

    Attributes:
        done: Calls answered with a result.
        failed: Calls answered with a failure.
        repeated: Calls answered from memory, or while the same was at work.
        expired: Calls that came long behind their timeout.

    Raises:
        SettingsError: A name or a number is not allowed.
    """

    def __init__(
        self, mesh: Mesh, handlers: Mapping[str, Handler], *, service: str, at_once: int = AT_ONCE, prefix: str = ""
    ) -> None:
        problem = name_problem(service, "the service") or next(
            (p for one in handlers if (p := name_problem(one, "a handler"))), ""
        )
        if problem or not handlers:
            raise SettingsError(problem or f"service {service!r} has no handlers: give it one at least")
        if not 1 <= at_once <= AT_ONCE_MAX:
            raise SettingsError(f"at_once={at_once}: 1 to {AT_ONCE_MAX} are allowed")
        self._mesh, self.service, self._prefix = mesh, service, prefix
        self._handlers = {
            name.encode(): (one, _takes_call(one), inspect.iscoroutinefunction(one)) for name, one in handlers.items()
        }
        self._memory = Memory()
        self._slots = asyncio.Semaphore(at_once)
        self._at_work: dict[Key, asyncio.Task[dict[str, Any]]] = {}
        self._stopped: set[tuple[str, str]] = set()
        """Saga and node of actions that are ended because they are undone."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lanes: set[Lane] = set()
        self._answers: Bundles[tuple[int, dict[str, Any], _Open]] = Bundles(self._send_all, apart_s=APART_S)
        self._prefix_bytes: bytes | None = None
        self._schema: dict[str, Any] = {}
        self._instance, self._written = secrets.token_hex(8), 0
        self._feed: Feed | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self.done = self.failed = self.repeated = self.expired = 0

    async def __aenter__(self) -> Self:
        """Begin.

        Raises:
            TopicMissing: The orchestrator has never run.
        """
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End; what is not answered is called again, elsewhere."""
        await self.close()

    async def open(self) -> None:
        """Begin."""
        topic = self._prefix + CALLS_TOPIC
        group = f"{self._prefix}saga:{self.service}"
        feed = self._mesh.log.feed(FeedOptions(TopicPattern.parse(topic), group, "latest"))  # what was called before comes again
        try:
            await feed.start()
        except TopicMissing as error:
            await feed.close()
            raise TopicMissing(topic, made_by=_MADE_BY) from error
        self._feed = feed
        self._loop_task = asyncio.ensure_future(self._run(feed))

    async def wait(self) -> None:
        """Run until it is closed.

        Raises:
            AntiphonError: What ended it, where it ended by itself.
        """
        if self._loop_task is not None:
            await asyncio.shield(self._loop_task)

    async def close(self) -> None:
        """Take nothing more up, and let the handlers at work finish."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)  # `wait` raised what ended it
        until = time.monotonic() + DRAIN_S
        while self._tasks and time.monotonic() < until:
            await asyncio.wait(list(self._tasks), timeout=until - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        for task in [*self._tasks, *self._at_work.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._at_work.values(), return_exceptions=True)
        if self._feed is not None:
            await self._feed.close()

    # ---- calls

    async def _run(self, feed: Feed) -> None:
        try:
            while True:
                records = await feed.batch()
                if new := {lane for lane, _ in records} - self._lanes:
                    await self._remember(new)
                for lane, record in records:
                    if feed.take(lane, record.offset):
                        await self._take(feed, lane, record)
        except AntiphonError as error:
            log.error("service %s takes no calls any more: %s", self.service, error)  # noqa: TRY400 - one line; `wait` raises it
            raise

    async def _remember(self, lanes: set[Lane]) -> None:
        """Read back what this service has answered, where a partition is new here."""
        start_ms = time.time_ns() // 1_000_000 - MEMORY_MS
        topic, name = self._prefix + COMMANDS_TOPIC, self.service.encode()
        found = await asyncio.gather(
            *(self._mesh.log.read_back(topic, lane.partition, start_ms=start_ms, count_max=MEMORY_MAX) for lane in lanes)
        )
        for records in found:
            for record in records:
                if any(key == SERVICE and value == name for key, value in record.headers):
                    with contextlib.suppress(SchemaError):
                        for answer in self._mesh.codec.read(record)["answers"]:
                            self._memory.put(answer)
        self._lanes = {lane for lane in self._lanes if not lane.over} | lanes

    async def _take(self, feed: Feed, lane: Lane, record: Record) -> None:
        name = next((value for key, value in record.headers if key == HANDLER), b"")
        handler = self._handlers.get(name)
        if handler is None:
            feed.ack(lane, record.offset)
            return
        try:
            if self._mesh.codec.type_of(record) != CallHandler.event_type:
                raise SchemaError("no call")
            calls = self._mesh.codec.read(record)["calls"]
        except SchemaError as error:
            log.warning("a record of calls was skipped: %s", error)
            feed.ack(lane, record.offset)
            return
        record_open = _Open(lane, record.offset, len(calls))
        for call in calls:
            await self._take_call(handler, call, record_open, record.partition)

    async def _take_call(self, handler: tuple[Handler, bool, bool], call: dict[str, Any], opened: _Open, partition: int) -> None:
        key = call["saga"], call["node"], call["undo"]
        known = self._memory.answer_to(key, call["attempt"])
        if known is not None:
            self.repeated += 1
            self._answers.add([(partition, known, opened)])
            return
        if not call["undo"] and self._memory.undone(call["saga"], call["node"]):
            answer = _failure(call, "undone", "it was undone before it was done", final=True)
            self._answers.add([(partition, answer, opened)])
            return
        if call["at_ms"] + call["timeout_ms"] + LATE_MS < time.time_ns() // 1_000_000:
            self.expired += 1
            self._ack(opened)
            return
        at_work = self._at_work.get(key)
        if at_work is None:
            if not call["undo"]:  # an undo may have to end what has the slots
                await self._slots.acquire()
            at_work = asyncio.ensure_future(self._work(handler, call, key))
            self._at_work[key] = at_work
        else:
            self.repeated += 1
        task = asyncio.ensure_future(self._answer(at_work, call, opened, partition))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, at_work: asyncio.Task[dict[str, Any]], call: dict[str, Any], opened: _Open, partition: int) -> None:
        answer = await asyncio.shield(at_work)
        if answer["attempt"] != call["attempt"]:
            answer = {**answer, "attempt": call["attempt"]}
        self._answers.add([(partition, answer, opened)])

    async def _work(self, handler: tuple[Handler, bool, bool], call: dict[str, Any], key: Key) -> dict[str, Any]:
        """Do a call; what the handler raises is its answer."""
        try:
            if call["undo"]:
                await self._stop(call)
            answer = await self._called(handler, call)
            self._memory.put(answer)
            if answer["ok"]:
                self.done += 1
            else:
                self.failed += 1
            return answer
        finally:
            if not call["undo"]:
                self._slots.release()
            del self._at_work[key]

    async def _stop(self, call: dict[str, Any]) -> None:
        """End the action that is to be undone, where it still is at work."""
        place = call["saga"], call["node"]
        action = self._at_work.get((*place, False))
        if action is not None:
            self._stopped.add(place)
            action.cancel()
            await asyncio.wait([action])
            self._stopped.discard(place)

    async def _called(self, handler: tuple[Handler, bool, bool], call: dict[str, Any]) -> dict[str, Any]:
        function, takes_call, is_async = handler
        timeout_s = call["timeout_ms"] / 1000
        try:
            given: tuple[Any, ...] = (orjson.loads(call["input"]) if call["input"] else None,)
            if takes_call:
                given = (*given, self._step_call(call, timeout_s))
            async with asyncio.timeout(timeout_s):
                result = await (function(*given) if is_async else asyncio.to_thread(function, *given))
            text = orjson.dumps(result).decode()
        except StepFailed as error:
            return _failure(call, error.code, error.reason, final=error.final)
        except TimeoutError:
            return _failure(call, "timed_out", f"the handler took longer than {timeout_s:g} s")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if (call["saga"], call["node"]) in self._stopped and not call["undo"]:
                if task is not None:
                    task.uncancel()
                return _failure(call, "undone", "its saga undoes it", final=True)
            if task is not None and task.cancelling():
                raise  # the participant ends: whoever takes the partition over is called again
            return _failure(call, "cancelled", "the handler was cancelled by itself")
        except Exception as error:
            if not isinstance(error, AntiphonError):
                log.exception("the handler of step %s of saga %s raised", call["node"], call["saga"])
            return _failure(call, type(error).__name__, one_line(str(error)))
        if len(text) > PAYLOAD_CHARS_MAX:
            reason = f"the result has {len(text)} characters of JSON: at most {PAYLOAD_CHARS_MAX} are allowed"
            return _failure(call, "too_large", reason, final=True)
        return {**_of(call), "ok": True, "result": text, "code": "", "reason": "", "final": False}

    def _step_call(self, call: dict[str, Any], timeout_s: float) -> StepCall:
        undo = "/undo" if call["undo"] else ""
        key = f"{call['saga']}/{call['node']}{undo}"
        return StepCall(
            call["saga"],
            call["node"],
            call["undo"],
            call["attempt"],
            key,
            call["resource"],
            call["token"],
            timeout_s,
            self._mesh,
        )

    # ---- answers

    def _send_all(self, bundle: list[tuple[int, dict[str, Any], _Open]]) -> None:
        by_partition: dict[int, list[tuple[dict[str, Any], _Open]]] = {}
        for partition, answer, opened in bundle:
            by_partition.setdefault(partition, []).append((answer, opened))
        for partition, pairs in by_partition.items():
            start = chars = 0
            for number, (answer, _) in enumerate(pairs):
                chars += len(answer["result"])
                if chars > ANSWERS_CHARS_MAX and number > start:
                    self._send(partition, pairs[start:number])
                    start, chars = number, len(answer["result"])
            self._send(partition, pairs[start:])

    def _send(self, partition: int, pairs: list[tuple[dict[str, Any], _Open]]) -> None:
        task = asyncio.ensure_future(self._deliver(partition, pairs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, partition: int, pairs: list[tuple[dict[str, Any], _Open]]) -> None:
        """Write answers, and acknowledge what they answer when they are written; what is not is called again."""
        record = self._encoded(partition, [answer for answer, _ in pairs])
        try:
            await self._mesh.log.sender(prompt=True).send(record)
        except AntiphonError as error:
            log.warning("%d answers of %s could not be written, they are called for again: %s", len(pairs), self.service, error)
        for _, opened in pairs:
            self._ack(opened)

    def _encoded(self, partition: int, answers: list[dict[str, Any]]) -> Outgoing:
        """Write a record without the detour over its class: there is one for every few steps."""
        codec, topic = self._mesh.codec, self._prefix + COMMANDS_TOPIC
        if self._prefix_bytes is None:
            sample = AnswerCalls(id="-", source="-", domain=self.service, answers=[])
            self._prefix_bytes = codec.encode(sample, topic=topic).value[:PREFIX_BYTES]
            self._schema = parsed(codec.catalogue.schema(AnswerCalls))
        value = write_body(self._prefix_bytes, self._schema, {"domain": self.service, "answers": answers})
        self._written += 1
        headers = (
            ("ce_specversion", SPEC_VERSION.encode()),
            ("ce_type", AnswerCalls.event_type.encode()),
            ("ce_id", f"{self._instance}/{self._written}".encode()),
            ("ce_source", f"/{self.service}".encode()),
            ("ce_time", rfc3339(time.time_ns() // 1_000_000).encode()),
            ("content-type", CONTENT_TYPE.encode()),
            (SERVICE, self.service.encode()),
        )
        return Outgoing(topic, self.service.encode(), value, headers, partition)

    def _ack(self, opened: _Open) -> None:
        opened.left -= 1
        if opened.left == 0 and self._feed is not None:
            self._feed.ack(opened.lane, opened.offset)


def _of(call: dict[str, Any]) -> dict[str, Any]:
    return {"saga": call["saga"], "node": call["node"], "undo": call["undo"], "attempt": call["attempt"]}


def _failure(call: dict[str, Any], code: str, reason: str, *, final: bool = False) -> dict[str, Any]:
    told = {"ok": False, "result": "", "code": code[:100], "reason": reason[:_REASON_CHARS_MAX], "final": final}
    return {**_of(call), **told}


def _understood(handler: Handler) -> tuple[Handler, bool, bool]:
    """Return a handler, whether it wants to know more than its input, and whether it is asynchronous."""
    return handler, _takes_call(handler), inspect.iscoroutinefunction(handler)


def _takes_call(handler: Handler) -> bool:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [one for one in parameters if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
    return len(positional) > 1
