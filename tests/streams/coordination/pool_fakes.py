"""A channel that answers as a test says, for agents, tasks and their handles; and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from schemas.agents import AgentStanding, AnnounceAgent
from schemas.coordination_answers import RequestRefused
from schemas.errors import AntiphonError
from schemas.events import Event
from schemas.tasks import WorkAssigned, WorkEnded, WorkReturned
from streams.coordination.channel import Channel as RealChannel

Answer = tuple[str, dict[str, Any]]
Listener = Callable[[Answer | AntiphonError], None]


class Channel(RealChannel):
    """Answers what is sent as the test says: a list of answers for each command, by its type."""

    def __init__(self) -> None:
        self._listeners: dict[str, Listener] = {}
        self._calls = 0
        self.instance = "me"
        self.sent: list[Event] = []
        self.spoken = asyncio.Event()
        self.answers: dict[str, list[list[Answer]]] = {}

    @property
    def is_open(self) -> bool:
        return True

    async def open(self) -> None: ...

    async def send(self, command: Event, call: str) -> None:
        self.sent.append(command)
        self.spoken.set()
        waiting = self.answers.get(command.event_type, [])
        for answer in waiting.pop(0) if waiting else []:
            its_own = isinstance(command, AnnounceAgent) and answer[0] == WorkAssigned.event_type
            self.tell("me.1" if its_own else call, answer)

    def tell(self, call: str, answer: Answer | AntiphonError) -> None:
        if call in self._listeners:
            self._listeners[call](answer)

    def kinds(self) -> list[str]:
        return [command.event_type for command in self.sent]


class FakeSession:
    def __init__(self) -> None:
        self.channel, self.answer_s = Channel(), 5.0
        self.held: set[Any] = set()

    def owner(self) -> str:
        return "me"


def new_session() -> Any:
    return FakeSession()


def stands(tasks: int = 0, **fields: Any) -> Answer:
    return AgentStanding.event_type, {"request_id": "me.1", "lease_ms": 60_000, "tasks": tasks, "draining": False} | fields


def assigned(task: str, token: int, payload: str = "") -> Answer:
    fields = {"request_id": task, "name": "coders", "payload": payload, "token": token, "attempt": 1, "weight": 1}
    return WorkAssigned.event_type, fields | {"agent": "ann"}


def ended(task: str, token: int, how: str = "finished", text: str = "") -> Answer:
    return WorkEnded.event_type, {"request_id": task, "token": token, "how": how, "text": text, "attempt": 1, "agent": "ann"}


def returned(task: str, token: int, how: str) -> Answer:
    return WorkReturned.event_type, {"request_id": task, "token": token, "how": how}


def refused(code: str) -> Answer:
    return RequestRefused.event_type, {"request_id": "", "code": code, "reason": f"because of {code}"}
