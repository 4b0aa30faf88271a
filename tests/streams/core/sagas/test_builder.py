"""Sagas written in Python."""

from __future__ import annotations

import pytest

from streams.core.sagas.builder import Body, Saga
from streams.core.sagas.definition import Approval, Case, Choice, Each, Join, Retry, Step
from streams.core.sagas.loading import load_saga
from streams.core.sagas.mistakes import DefinitionErrors


def test_functions_become_steps() -> None:
    """A decorated function is a step with its name and its handler, and can still be called; `undo` names its compensation."""
    trip = Saga("trip", inputs=["customer"], version=3)

    @trip.step
    def book_flight(given: int) -> int:
        return given + 1

    @book_flight.undo
    def cancel_flight(given: int) -> int:
        return given - 1

    @trip.step(name="pay", pivot=True, retry=Retry(attempts=9), input="=book_flight.price")
    def charge(given: int) -> int:
        return given

    definition = trip.definition()
    assert definition.nodes == (
        Step(name="book_flight", handler="book_flight", compensation="cancel_flight"),
        Step(
            name="pay", after=("book_flight",), handler="charge", pivot=True, retry=Retry(attempts=9), input="=book_flight.price"
        ),
    )
    assert definition.version == 3
    assert {name: handler(1) for name, handler in trip.handlers.items()} == {"book_flight": 2, "cancel_flight": 0, "charge": 1}
    assert (book_flight(1), cancel_flight(1), charge(1)) == (2, 0, 1)


def test_python_and_yaml_mean_the_same() -> None:
    """Order, `after`, choices and bodies give the definition that the file gives."""
    saga = Saga("s", result="=mails")
    first = saga.step("first", handler="h")
    saga.step("beside", after=())
    saga.add(Join(name="both"), after=[first, "beside"])
    saga.add(Choice(name="big", cases=(Case("first.price > 5", "ask"),), otherwise="mails"))
    saga.add(Approval(name="ask"))
    body = Body()
    body.step("mail", input="=item")
    body.step("told")
    saga.add(Each(name="mails", items="input.people", items_max=9, body=body.nodes()), after=["ask"])
    assert saga.definition() == load_saga("""
        name: s
        result: =mails
        nodes:
          - {name: first, handler: h}
          - {name: beside, after: []}
          - {name: both, kind: join, after: [first, beside]}
          - {name: big, kind: choice, cases: [{when: first.price > 5, to: ask}], otherwise: mails}
          - {name: ask, kind: approval}
          - name: mails
            kind: each
            after: ask
            items: input.people
            items_max: 9
            body: [{name: mail, input: =item}, {name: told}]
    """)


def test_mistakes_are_told_when_it_is_finished_or_at_once() -> None:
    """An attribute that a step has not is a TypeError where it is written; what cannot run is refused as a whole."""
    saga = Saga("s")
    with pytest.raises(TypeError, match="a step has no 'timeout'"):
        saga.step("a", timeout=5)
    named = saga.step("a", input="=b.x")
    with pytest.raises(TypeError, match="'a' was added by its name"):
        named()
    with pytest.raises(DefinitionErrors, match=r"s: nodes\[0\]\.input: node 'a': column 2 of the text: the missing input 'b'"):
        saga.definition()
