"""Runs the orchestrator of sagas over its commands topic: the answers of participants in its log are what sagas follow from.

    sagas.commands (by the id's domain) ─▶ sagas ─┬─▶ sagas.calls             calls of steps, to participants, by handler
                                          │       ├─▶ coordination.commands   locks that steps hold
                                          │       ├─▶ <client id>.replies     to who asked
                                    table sagas   └─▶ sagas.events            every decision, to everybody
    sagas.replies (what is said about locks) ─▶ saga-locks ─▶ sagas.commands

See docs/sagas.md. The number of partitions of `sagas.commands` is for ever, and `sagas.calls` and `sagas.replies` have the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from sagas.core.engine.words import SagaLimits
from sagas.shells import orchestrating
from schemas import coordination as locks
from schemas.sagas import CALLS_TOPIC, COMMANDS_TOPIC, EVENTS_TOPIC, REPLIES_TOPIC, LockTold
from streams.machines.options import PrefixedOptions
from streams.machines.running import BROKERS_TIME, register_machines
from streams.requests import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams import App, Batch

__all__ = ["TABLE", "SagaOptions", "register"]

TABLE: Final = "sagas"
ENV_PREFIX: Final = "AGENT_SAGAS_"
COMMIT_WITHIN_S: Final = 0.05
"""Calls and answers do not wait for the kafka transaction."""
_DAY_MS: Final = 86_400_000
_TOLD: Final = frozenset({locks.LockGranted.event_type, locks.LockRefused.event_type, locks.LockTimedOut.event_type})


class SagaOptions(PrefixedOptions):
    """What the processor can be told, from the environment."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    ended_max: int = Field(SagaLimits().ended_max, ge=1, le=1_000_000, description="Ended sagas remembered by a partition.")
    live_max: int = Field(SagaLimits().live_max, ge=1, le=1_000_000, description="Sagas of a partition that have not ended.")


def register(app: App, options: SagaOptions | None = None, *, limits: SagaLimits | None = None) -> None:
    """Declare the processor, its table and its topics.

    Args:
        app: The app.
        options: Else from the environment.
        limits: Of sagas; else the usual ones, as the options change them.
    """
    options = options or SagaOptions.environment()
    limits = limits or SagaLimits(ended_max=options.ended_max, live_max=options.live_max)
    register_machines(
        app,
        [orchestrating.shell(limits, topic_prefix=options.topic_prefix)],
        name=TABLE,
        commands=options.topic(COMMANDS_TOPIC),
        events=options.topic(EVENTS_TOPIC),
        at_once={options.topic(CALLS_TOPIC): {"retention.ms": str(_DAY_MS)}, options.topic(locks.COMMANDS_TOPIC): BROKERS_TIME},
        commit_within_s=COMMIT_WITHIN_S,
    )
    _register_locks(app, options)


def _register_locks(app: App, options: SagaOptions) -> None:
    """Put what is said about locks into the log of commands, where it has its place among the answers."""
    replies = app.own_topic(options.topic(REPLIES_TOPIC), config={"retention.ms": str(_DAY_MS)})
    commands = options.topic(COMMANDS_TOPIC)

    @app.agent(app.batch_topic(replies), name="saga-locks")
    async def told(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            for record in batch.records:
                kind = app.codec.type_of(record)
                if kind not in _TOLD:
                    continue
                fields = app.codec.read(record)
                call = next((value for name, value in record.headers or () if name == REQUEST_ID), b"").decode("ascii", "replace")
                event = LockTold(domain=fields["domain"], call=call, **_said(kind, fields))
                stamped = app.codec.stamp(
                    event,
                    id=f"{batch.topic}/{batch.partition}/{record.offset}",
                    source=f"/antiphon/{batch.topic}/{batch.partition}",
                    time_ms=time.time_ns() // 1_000_000,
                    cause=None,
                )
                topic, key, value, headers = app.codec.encode(stamped, topic=commands)
                batch.send(topic, key=key, value=value, headers=headers, partition=batch.partition)


def _said(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    if kind == locks.LockGranted.event_type:
        return {"granted": True, "token": fields["tokens"][0], "ends_ms": fields["expires_ms"]}
    if kind == locks.LockTimedOut.event_type:
        return {"granted": False, "code": "lock_timed_out", "reason": f"not free within {fields['waited_ms']} ms"}
    return {"granted": False, "code": fields["code"], "reason": fields["reason"]}
