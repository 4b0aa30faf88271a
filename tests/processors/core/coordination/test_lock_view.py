"""The view of locks: the same as the machines, from events and from its rows; and what is shown of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processors.core.coordination.deadlock_graph import edges
from processors.core.coordination.lock_report import dot, report
from processors.core.coordination.lock_view import LockView
from tests.processors.core.coordination.wait_log import Log, T, pair
from tests.processors.core.coordination.wait_world import Domain, World


def test_the_report_and_its_picture() -> None:
    """Holders, queues, ages, the graph and its deadlocks; odd names do not break the picture."""
    log = Log()
    pair(log)
    log.has_permits("cyd", "gpu", 2)
    log.wants_permits('d"an', "gpu", 1, 2)
    log.detector.take(
        "wait.began",
        {"domain": "s", "request_id": "w", "owner": "saga", "kind": "saga", "waits_for": ["cyd"], "priority": 0, "lease_ms": 0},
        log.now_ms,
    )
    found = report(log.detector.view, log.now_ms + 500)
    assert [one["name"] for one in found["locks"]] == ["a", "b", "c"]
    (gpu,) = found["semaphores"]
    assert (gpu["capacity"], gpu["out"], gpu["holders"][0]["permits"], gpu["queue"][0]["owner"]) == (2, 2, 2, 'd"an')
    assert found["locks"][0]["holders"][0]["age_ms"] == log.now_ms + 500 - T - 1
    assert found["locks"][0]["holders"][0]["token"] == T + 1
    assert [one["waits_for"] for one in found["told"]] == [["cyd"]]
    assert {(one["owner"], *one["waits_for"]) for one in found["deadlocks"][0]} == {("ann", "bob"), ("bob", "ann")}
    lines = dot(found).splitlines()
    assert '  "ann" -> "bob" [label="b", color=red, penwidth=2];' in lines
    assert '  "d\\"an" -> "cyd" [label="gpu"];' in lines
    assert [one["name"] for one in report(log.detector.view, T, prefix="a")["locks"]] == ["a"]
    assert [one["name"] for one in report(log.detector.view, T, contended=True)["locks"]] == ["a", "b"]


def test_those_that_share_do_not_wait_for_each_other() -> None:
    """Of those that go first only they count that conflict, whoever is left out of account."""
    log = Log()
    log.has("zoe", "x")
    for owner, mode in (("ann", "shared"), ("bob", "exclusive"), ("cyd", "shared"), ("dan", "shared")):
        log.wants(owner, "x", mode=mode)
    view = log.detector.view
    dan = view.requests["locks", "x", "dan-x"]
    everybody = {"ann", "bob", "cyd", "dan", "zoe"}
    assert [edge.owners for edge in edges(view, dan, everybody)] == [("zoe",), ("bob",)]
    assert [edge.owners for edge in edges(view, dan, everybody, near=True)] == [("zoe",), ("bob",)]
    assert [edge.owners for edge in edges(view, dan, everybody - {"bob"})] == [("zoe",)]
    assert edges(view, dan, {"ann", "cyd", "dan"}) == []


@pytest.mark.parametrize(
    ("code", "owner", "remains"),
    [("not_granted", "bob", 1), ("id_reused", "bob", 1), ("busy", "cyd", 1), ("cancelled", "bob", 0)],
)
def test_what_a_refusal_ends(code: str, owner: str, remains: int) -> None:
    """A command that names a request and is refused leaves it as it is; and a grant is not ended by any."""
    log = Log()
    pair(log)
    log.take("lock.refused", "a", "bob-a", owner, code=code)
    log.take("lock.refused", "b", "bob-b", "bob", code=code)
    assert len(log.detector.view.waiting_of.get("bob", ())) == remains
    assert len(log.detector.view.holding_of["bob"]) == 2


def test_the_view_survives_its_rows() -> None:
    """Loaded from the rows of its changes it says the same; from then on too."""
    log = Log()
    rows: dict[Any, Any] = {}
    pair(log)
    for owner in ("eve", "zoe"):
        log.has(owner, "d", mode="shared")
    log.has_permits("eve", "s", 1)
    log.wants_permits("bob", "s", 2, 2)
    for _ in range(2):
        rows |= log.detector.view.changes()
        rows = {key: json.loads(json.dumps(row)) for key, row in rows.items() if row is not None}
        loaded = LockView.load(reversed(rows.items()))
        assert report(loaded, T) == report(log.detector.view, T)
        assert loaded.number == max(one.number for one in loaded.requests.values())
        assert not loaded.changes()
        log.take("semaphore.released", "s", "eve-s", "eve")
        log.take("request.timed_out", "s", "bob-s+", "bob")
        log.take("lock.expired", "a", "ann-a", "ann")
    assert ("semaphores", "s") not in rows


def test_queues_are_in_the_order_of_the_machines() -> None:
    """By priority and age, and among equals as they came; upgrades first."""
    world = World({"a": Domain("a")})
    world.lock("ann", ("a/x",), "shared", None, 0)
    world.lock("bob", ("a/x",), "shared", None, 0)
    world.permits("ann", "a/gpu", 3, None, 0)
    for number, priority in enumerate((0, 3, 0, 3, -2, 100)):
        world.lock(f"o{number}", ("a/x",), "exclusive", None, priority)
        world.permits(f"o{number}", "a/gpu", 1, None, priority)
        world.now_ms += number % 2
    world.lock("bob", ("a/x",), "exclusive", None, 0)
    view, (locks, semaphores) = LockView(), world.domains["a"].machines
    for told in world.domains["a"].told:
        view.take(*told)
    for key, queue in (
        (("locks", "a/x"), locks._book.resources["a/x"].queue),
        (("semaphores", "a/gpu"), semaphores._book.semaphores["a/gpu"].queue),
    ):
        assert [one.key[2] for one in view.places[key].line()] == [request_id for _, request_id in queue]
    assert view.places["semaphores", "a/gpu"].line()[0].priority == 100
