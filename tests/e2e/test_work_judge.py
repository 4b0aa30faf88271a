"""The judge of the tests of pools sees what is wrong: each promise, broken once."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.agents import AgentStanding
from schemas.tasks import WorkAssigned, WorkEnded
from tests.e2e.work_trial import judge

EVENT: dict[str, Any] = {"id": "-", "source": "-", "domain": "coders", "owner": "-", "name": "coders", "agent": "ann"}
CAME = AgentStanding(
    **EVENT, request_id="A", capabilities=[], capacity=2, load=0, tasks=0, healthy=True, draining=False, lease_ms=1, expires_ms=1
)
ENDED = WorkEnded(**EVENT, request_id="1", how="finished", token=5, attempt=1, text="")


def given(task: str, token: int) -> WorkAssigned:
    """Return an event of an assignment to that agent."""
    return WorkAssigned(
        **EVENT, request_id=task, agent_id="A", token=token, attempt=1, weight=1, payload="", asked_ms=0, expires_ms=None
    )


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ([CAME, given("1", 5), given("1", 6)], "while A has it"),
        ([CAME, given("1", 5), given("2", 5)], "after token 5"),
        ([CAME, given("1", 5), ENDED, given("1", 6)], "after .*finished"),
        ([CAME, given("1", 5), ENDED, ENDED], "after .*finished"),
        ([CAME, given("1", 5), given("2", 6), given("3", 7)], "which has 2"),
        ([CAME, CAME.model_copy(update={"draining": True}), given("1", 5)], "draining=True"),
        ([CAME, CAME.model_copy(update={"healthy": False}), given("1", 5)], "healthy=False"),
        ([CAME, ENDED], "nobody has it"),
    ],
)
def test_what_is_wrong_is_seen(events: list[Any], wrong: str) -> None:
    """Two agents have a task, a token does not grow, a task ends twice, an agent gets what it may not have."""
    with pytest.raises(AssertionError, match=wrong):
        judge(events, "coders")
