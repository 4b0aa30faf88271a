"""Single deadlocks, and what looks like one: who is told what, who is chosen, and what is left alone."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from processors.core.coordination.components import components
from processors.core.coordination.deadlock_graph import cores, edges
from processors.core.coordination.deadlocks import AGAIN_MS, GIVES_UP_MS, Deadlock, Detector, Policy
from processors.core.coordination.lock_report import dot, report
from processors.core.coordination.lock_view import LockView

T = 1_000_000


class Log:
    """Events as they come, and a detector that reads them."""

    def __init__(self, policy: Policy = "youngest") -> None:
        self.detector = Detector(LockView(), policy=policy, nonce="n")
        self.now_ms = T

    def take(self, kind: str, name: str, request_id: str, owner: str = "", **fields: Any) -> None:
        self.now_ms += 1
        names = {"resources": [name]} if kind.startswith("lock.") else {"name": name, "primitive": "semaphores"}
        rest = {"mode": "exclusive", "priority": 0, "order": [1, self.now_ms], "tokens": [self.now_ms], "token": self.now_ms}
        given = {**names, **rest, "expires_ms": self.now_ms + 30_000, "code": "cancelled", **fields}
        self.detector.take(kind, {"domain": name[0], "request_id": request_id, "owner": owner, **given}, self.now_ms)

    def has(self, owner: str, name: str, **fields: Any) -> None:
        self.take("lock.granted", name, f"{owner}-{name}", owner, **fields)

    def wants(self, owner: str, name: str, **fields: Any) -> None:
        self.take("lock.queued", name, f"{owner}-{name}", owner, **fields)

    def has_permits(self, owner: str, name: str, permits: int) -> None:
        self.take("semaphore.granted", name, f"{owner}-{name}", owner, permits=permits)

    def wants_permits(self, owner: str, name: str, permits: int, capacity: int) -> None:
        self.take("request.queued", name, f"{owner}-{name}+", owner, permits=permits, capacity=capacity)

    def step(self) -> tuple[list[tuple[str, str]], list[Deadlock]]:
        checks, found = self.detector.step(self.now_ms)
        return [(one.domain, one.check_id) for one in checks], found

    def found(self) -> list[Deadlock]:
        """Look until there is nothing more, and answer every check at once."""
        all_found: list[Deadlock] = []
        for _ in range(10):
            checks, found = self.step()
            all_found += found
            self.answer(checks)
        return all_found

    def answer(self, checks: list[tuple[str, str]]) -> None:
        for domain, check_id in checks:
            self.detector.take("wait.checked", {"domain": domain, "request_id": check_id}, self.now_ms)


def pair(log: Log) -> None:
    """Ann and bob, each with what the other one wants; bob came last and has two."""
    log.has("ann", "a")
    log.has("bob", "b")
    log.has("bob", "c")
    log.wants("ann", "b", priority=1)
    log.wants("bob", "a", priority=2)


@pytest.mark.parametrize(
    ("policy", "victim", "why"),
    [
        ("youngest", "bob", "it began last"),
        ("fewest_locks", "ann", "it has the fewest locks"),
        ("lowest_priority", "ann", "it has the lowest priority"),
    ],
)
def test_the_victim_is_chosen_by_policy_and_told_all(policy: Policy, victim: str, why: str) -> None:
    """The whole cycle is in the reason, and why it was this one."""
    log = Log(policy)
    pair(log)
    (found,) = log.found()
    assert found.victim.owner == victim
    assert found.reason in {
        f"deadlock: ann waits for b, which bob holds; bob waits for a, which ann holds. {victim} is to give up: {why}",
        f"deadlock: bob waits for a, which ann holds; ann waits for b, which bob holds. {victim} is to give up: {why}",
    }


def test_nothing_is_found_before_all_domains_have_answered() -> None:
    """Each domain is asked once, and again where no answer comes."""
    log = Log()
    pair(log)
    checks, found = log.step()
    assert (checks, found) == ([("a", "n.1"), ("b", "n.1")], [])
    log.detector.take("wait.checked", {"domain": "a", "request_id": "n.1"}, log.now_ms)
    log.detector.take("wait.checked", {"domain": "b", "request_id": "another's"}, log.now_ms)
    log.has("cyd", "d")
    assert log.step() == ([], [])
    log.now_ms += AGAIN_MS
    assert log.step() == ([("b", "n.1")], [])


def test_waits_that_were_not_there_at_one_time_are_no_deadlock() -> None:
    """Ann's wait had timed out before bob's began; of that the detector hears last."""
    log = Log()
    pair(log)
    checks, _ = log.step()
    log.take("lock.timed_out", "b", "ann-b", "ann")
    log.answer(checks)
    assert log.step() == ([], [])


def test_a_victim_is_chosen_once_and_anew_only_where_it_does_not_listen() -> None:
    """Until its end is told it counts as gone."""
    log = Log()
    pair(log)
    assert len(log.found()) == 1
    log.has("cyd", "d")
    assert log.found() == []
    log.now_ms += GIVES_UP_MS
    assert [one.victim.owner for one in log.found()] == ["bob"]
    log.take("lock.refused", "a", "bob-a", "bob", code="victim")
    assert log.found() == []
    assert not log.detector.victims


def test_an_owner_alone_is_no_deadlock() -> None:
    """Who has all permits and asks for more may be two tasks of one name."""
    log = Log()
    log.has_permits("ann", "a", 2)
    log.wants_permits("ann", "a", 1, 2)
    assert log.found() == []


def test_an_owner_with_several_waits_is_stuck_when_all_of_them_are() -> None:
    """While ann may go on with one of them she may give back what bob waits for."""
    log = Log()
    pair(log)
    log.has("cyd", "e")
    log.wants("ann", "e")
    assert log.found() == []
    log.wants("cyd", "a")
    (found,) = log.found()
    assert found.core.owners == {"ann", "bob", "cyd"}


def test_those_that_only_stand_between_are_not_in_it() -> None:
    """Dan waits between bob and eve in a queue: if he gave up, that would help nobody."""
    log = Log()
    log.has("eve", "xy")
    log.take("lock.queued", "xx", "bob", "bob", resources=["xx", "xy"])
    log.wants("dan", "xx")
    log.wants("eve", "xx")
    (found,) = log.found()
    assert found.core.owners == {"bob", "eve"}
    assert "eve waits for xx behind bob" in found.reason


def test_permits_of_several_holders() -> None:
    """Three have the permits; two of them wait in the circle, and the third can give enough back, until it waits too."""
    log = Log()
    for owner in ("bob", "cyd", "dan"):
        log.has_permits(owner, "s", 1)
    log.has("ann", "a")
    log.wants_permits("ann", "s", 1, 3)
    log.wants("bob", "a")
    log.wants("cyd", "a")
    assert log.found() == []
    log.wants("dan", "a")
    (found,) = log.found()
    assert found.core.owners == {"ann", "bob", "cyd", "dan"}
    assert "ann waits for permits of s, which bob, cyd and dan hold" in found.reason
    assert "cyd waits for a behind bob" not in found.reason


def test_a_queue_of_ten_thousand_is_no_burden() -> None:
    """A look at it takes less than a look may; and a deadlock behind it is told without those that wait."""
    log = Log()
    log.has("bob", "b")
    for number in range(10_000):
        log.wants(f"w{number}", "b")
    log.has("ann", "a")
    log.wants("ann", "b")
    began = time.process_time()
    assert cores(log.detector.view) == []
    log.wants("bob", "a")
    (core,) = cores(log.detector.view)
    assert core.owners == {"ann", "bob"}
    assert time.process_time() - began < 2.0


def test_a_long_circle_is_found_whole() -> None:
    """Fifty in a circle; sixteen waits are told in words."""
    log = Log()
    for number in range(50):
        log.has(f"o{number}", f"{number}")
    for number in range(50):
        log.wants(f"o{number}", f"{(number + 1) % 50}")
    (found,) = log.found()
    assert len(found.core.owners) == 50
    assert "and 34 more waits" in found.reason


def test_components_lead_from_the_ends() -> None:
    """Those that lead nowhere come first, and cycles are together."""
    assert components({"a": ["b"], "b": ["c", "a"], "c": ["d"], "d": ["d"]}) == [{"d"}, {"c"}, {"a", "b"}]


def test_the_report_and_its_picture() -> None:
    """Holders, queues, ages, the graph and its deadlocks; odd names do not break the picture."""
    log = Log()
    pair(log)
    log.has_permits("cyd", "gpu", 2)
    log.wants_permits('d"an', "gpu", 1, 2)
    log.detector.take(
        "wait.began",
        {"domain": "s", "request_id": "w", "owner": "saga", "kind": "saga", "waits_for": ["cyd"], "priority": 0},
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


def test_another_wait_besides_is_another_state() -> None:
    """What was suspected of ann with one wait says nothing of ann with two."""
    log = Log()
    pair(log)
    checks, _ = log.step()
    log.has("cyd", "e")
    log.wants("ann", "e")
    log.answer(checks)
    assert log.step() == ([], [])


def test_a_reason_that_has_come_back_is_another_one() -> None:
    """Bob's lease has ended and he has the lock by another grant: in between there may have been no deadlock."""
    log = Log()
    pair(log)
    checks, _ = log.step()
    log.take("lock.expired", "b", "bob-b", "bob")
    log.take("lock.granted", "b", "bob-again", "bob")
    log.answer(checks)
    assert log.step() == ([("a", "n.2"), ("b", "n.2")], [])


def test_permits_that_were_free_in_between() -> None:
    """The capacity was more for a moment, so the permits that are missing are so anew."""
    log = Log()
    log.has_permits("ann", "s", 2)
    log.has("bob", "b")
    log.wants("ann", "b")
    log.wants_permits("bob", "s", 1, 2)
    checks, _ = log.step()
    for capacity in (3, 2):
        log.take("semaphore.resized", "s", f"resize-{capacity}", "operator", capacity=capacity)
    log.answer(checks)
    assert log.step() == ([("b", "n.2"), ("s", "n.2")], [])


@pytest.mark.parametrize("capacity", [0, 1])
def test_permits_that_there_are_not(capacity: int) -> None:
    """Who asks for more than there are waits for an operator, or has been refused, which is told next."""
    log = Log()
    log.has_permits("ann", "s", 2)
    log.has("bob", "b")
    log.wants("ann", "b")
    log.wants_permits("bob", "s", 2, capacity)
    assert log.found() == []


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


def test_waits_that_are_told_make_a_deadlock_by_themselves() -> None:
    """Two sagas that wait for each other, and hold nothing that is known here; said again it is the same wait."""
    log = Log()
    for owner, other in (("ann", "bob"), ("bob", "ann"), ("bob", "ann")):
        fields = {"domain": "s", "request_id": owner, "owner": owner, "kind": "saga", "waits_for": [other], "priority": 0}
        log.now_ms += 1
        log.detector.take("wait.began", fields, log.now_ms)
    checks, _ = log.step()
    log.detector.take("wait.began", fields, log.now_ms)
    log.answer(checks)
    _, (found,) = log.step()
    assert found.reason.startswith("deadlock: ann waits for bob (saga); bob waits for ann (saga). bob is to give up")


def test_who_has_too_much_itself_is_no_victim_of_others() -> None:
    """Ann asks for four of six and has three: that bob waits for her does not make it his deadlock."""
    log = Log()
    for owner in ("ann", "bob"):
        log.has_permits(owner, "s", 3)
    log.has("ann", "a")
    log.wants_permits("ann", "s", 4, 6)
    log.wants("bob", "a")
    assert log.found() == []


def test_the_request_that_ends_is_one_that_waits_for_others() -> None:
    """There is room for what ann asks for second, but she stands behind herself: to end that request would change nothing."""
    log = Log()
    log.has_permits("bob", "s", 2)
    log.has("ann", "a")
    log.wants_permits("ann", "s", 2, 3)
    log.take("request.queued", "s", "ann-a", "ann", permits=1, capacity=3)
    log.wants("bob", "a")
    (found,) = log.found()
    assert found.victim.request == ("semaphores", "s", "ann-s+")
    assert [edge.foreign for edge in found.core.edges if edge.request[2] == "ann-a"] == [False]


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
