"""Single deadlocks, and what looks like one: who is told what, who is chosen, and what is left alone."""

from __future__ import annotations

import time

import pytest

from processors.core.coordination.components import components
from processors.core.coordination.deadlock_graph import cores
from processors.core.coordination.deadlocks import AGAIN_MS, GIVES_UP_MS, Detector, Policy
from processors.core.coordination.lock_view import LockView
from tests.processors.core.coordination.wait_log import Log, pair


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


def test_waits_that_are_told_make_a_deadlock_by_themselves() -> None:
    """Two sagas that wait for each other, and hold nothing that is known here; said again it is the same wait."""
    log = Log()
    for owner, other in (("ann", "bob"), ("bob", "ann"), ("bob", "ann")):
        fields = {
            "domain": "s",
            "request_id": owner,
            "owner": owner,
            "kind": "saga",
            "waits_for": [other],
            "priority": 0,
            "lease_ms": 0,
        }
        log.now_ms += 1
        log.detector.take("wait.began", fields, log.now_ms)
    checks, _ = log.step()
    assert checks == [("s", "n.1")]
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


def test_a_reason_that_lies_with_others_is_told_before_one_of_ones_own() -> None:
    """Ann waits behind herself, and for bob too."""
    log = Log()
    log.has_permits("bob", "s", 2)
    log.has("ann", "a")
    log.wants_permits("ann", "s", 2, 3)
    log.take("request.queued", "s", "ann-a", "ann", permits=2, capacity=3)
    log.wants("bob", "a")
    (found,) = log.found()
    assert all(edge.foreign for edge in found.core.edges)


def test_one_more_that_waits_changes_nothing_for_the_others() -> None:
    """Each that is queued for permits says how many there are; that is news only where there were others."""
    log = Log()
    log.has_permits("bob", "s", 2)
    log.has("ann", "a")
    log.wants_permits("ann", "s", 1, 2)
    log.wants("bob", "a")
    checks, _ = log.step()
    log.wants_permits("cyd", "s", 1, 2)
    log.answer(checks)
    assert len(log.step()[1]) == 1


def test_a_told_wait_ends_where_it_is_not_told_again() -> None:
    """By the detector's clock, from when it has heard it; also one that was in its checkpoint."""
    log = Log()
    log.has("ann", "a")
    log.wants("bob", "a")
    fields = {"domain": "s", "request_id": "w", "owner": "ann", "kind": "saga", "waits_for": ["bob"], "priority": 0}
    for _ in range(3):
        log.detector.take("wait.began", {**fields, "lease_ms": 1_000}, 0)
        log.step()
        log.now_ms += 1_000
        log.step()
        assert "ann" in log.detector.view.waiting_of
    loaded = Detector(LockView.load(log.detector.view.rows().items()), nonce="m")
    for detector in (log.detector, loaded):
        detector.step(log.now_ms)
        detector.step(log.now_ms + 1_001)
        assert "ann" not in detector.view.waiting_of
