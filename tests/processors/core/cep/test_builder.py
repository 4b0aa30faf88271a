"""The builder: every word of it is a word of the model, and every mistake is an error where it is made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from processors.core.cep import builder as cep
from processors.core.cep.automaton import PatternError
from processors.core.cep.builder import PatternBuilder, Term
from processors.core.cep.expressions import ExpressionError
from processors.core.cep.model import Definition, Pattern, Skip, Stage
from processors.core.cep.text import from_text

A = cep.begin("a")
X = cep.field("x")
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("built", "stages"),
    [
        (A.next("b"), [{"name": "a"}, {"name": "b"}]),
        (A.followed_by("b"), [{"name": "a"}, {"name": "b", "contiguity": "relaxed"}]),
        (A.followed_by_any("b"), [{"name": "a"}, {"name": "b", "contiguity": "any"}]),
        (A.not_next("n").next("b"), [{"name": "a"}, {"name": "n", "negated": True}, {"name": "b"}]),
        (
            A.not_followed_by("n").next("b"),
            [{"name": "a"}, {"name": "n", "negated": True, "contiguity": "relaxed"}, {"name": "b"}],
        ),
        (A.where(X == 1).where("y == 2"), [{"name": "a", "where": "x == 1 and y == 2"}]),
        (A.where(X == 1).or_where("y == 2"), [{"name": "a", "where": "x == 1 or y == 2"}]),
        (A.where(X == 1).where(X == 2).or_where(X == 3), [{"name": "a", "where": "(x == 1 and x == 2) or x == 3"}]),
        (A.where(True), [{"name": "a", "where": True}]),
        (A.times(3), [{"name": "a", "times": {"min": 3, "max": 3}}]),
        (A.times(0, 2), [{"name": "a", "times": {"min": 0, "max": 2}}]),
        (A.times(2, 4, within=MINUTE), [{"name": "a", "times": {"min": 2, "max": 4, "within_ms": 60_000}}]),
        (A.times_or_more(2), [{"name": "a", "times": {"min": 2}}]),
        (A.one_or_more().until(X == 0), [{"name": "a", "times": {"min": 1}, "until": "x == 0"}]),
        (A.next("b").optional().next("c"), [{"name": "a"}, {"name": "b", "optional": True}, {"name": "c"}]),
        (A.one_or_more().greedy().next("b"), [{"name": "a", "times": {"min": 1}, "greedy": True}, {"name": "b"}]),
        (A.times(2).consecutive(), [{"name": "a", "times": {"min": 2, "max": 2}, "consecutive": True}]),
        (A.times(2).allow_combinations(), [{"name": "a", "times": {"min": 2, "max": 2}, "allow_combinations": True}]),
        (
            A.followed_by(cep.begin("b").next("c")).times(2),
            [{"name": "a"}, {"group": [{"name": "b"}, {"name": "c"}], "contiguity": "relaxed", "times": {"min": 2, "max": 2}}],
        ),
        (cep.begin(A.next("b")), [{"group": [{"name": "a"}, {"name": "b"}]}]),
        (
            cep.begin(cep.any_of(A, cep.begin("b").next("c"))).next("d"),
            [{"any_of": [{"name": "a"}, [{"name": "b"}, {"name": "c"}]]}, {"name": "d"}],
        ),
        (
            A.followed_by(cep.all_of(cep.begin("b").where("x == 1"), cep.begin("c"))).consecutive(),
            [
                {"name": "a"},
                {"all_of": [{"name": "b", "where": "x == 1"}, {"name": "c"}], "contiguity": "relaxed", "consecutive": True},
            ],
        ),
        (
            A.next("b").within(seconds=5, between="previous_and_current").next("c"),
            [{"name": "a"}, {"name": "b", "within_ms": 5000, "within": "previous_and_current"}, {"name": "c"}],
        ),
        (
            A.absent("n", X == 1, minutes=5),
            [
                {"name": "a"},
                {
                    "name": "n",
                    "negated": True,
                    "contiguity": "relaxed",
                    "where": "x == 1",
                    "within_ms": 300_000,
                    "within": "previous_and_current",
                },
            ],
        ),
    ],
)
def test_every_word_is_a_word_of_the_model(built: PatternBuilder, stages: list[dict[str, Any]]) -> None:
    """What the builder makes is what YAML describes."""
    assert built.build() == Pattern.model_validate({"stages": stages})


@pytest.mark.parametrize(
    ("built", "data"),
    [
        (A.within(minutes=1, seconds=1.5), {"within_ms": 61_500}),
        (A.within(MINUTE, ms=1), {"within_ms": 60_001}),
        (A.within(days=1).within(hours=1), {"within_ms": 3_600_000}),
        (A.within(hours=1).within(days=1).next("b"), {"stages": [{"name": "a"}, {"name": "b"}], "within_ms": 3_600_000}),
        (A.skip_to_next(), {"skip": "to_next"}),
        (A.skip_past_last(), {"skip": "past_last"}),
        (A.skip_to_first("a"), {"skip": {"strategy": "to_first", "stage": "a"}}),
        (A.skip_to_last("a", throw_on_miss=True), {"skip": {"strategy": "to_last", "stage": "a", "throw_on_miss": True}}),
        (A.skip_to_next().no_skip(), {}),
    ],
)
def test_windows_and_skip_strategies(built: PatternBuilder, data: dict[str, Any]) -> None:
    """Windows of the whole add their units up, and the shortest counts; the last skip strategy counts."""
    assert built.build() == Pattern.model_validate({"stages": [{"name": "a"}]} | data)


@pytest.mark.parametrize(
    ("term", "text"),
    [
        (X > cep.last("a", "x"), "x > last(a.x)"),  # noqa: SIM300 the other way round
        (cep.last("a", "x", default=0) + 1 <= X, "last(a.x, 0) + 1 <= x"),
        ((X == 1) & (X != 2) & ~(X < 3), "x == 1 and x != 2 and not x < 3"),
        ((X >= 1) | (X == "a") | (X == None), "x >= 1 or x == 'a' or x == null"),  # noqa: E711 a term
        ((X == 1) | ((X == 2) & (X == 3)), "x == 1 or x == 2 and x == 3"),
        ((X == 1) & True, "x == 1 and true"),
        (X.is_in(["a", 1, None]), "x in ['a', 1, null]"),
        (~X.is_in(["a"]), "x not in ['a']"),
        (X.is_null(), "x == null"),
        (X.contains("a") | X.starts_with(cep.field("y")), "contains(x, 'a') or starts_with(x, y)"),
        (1 - X * 2 / cep.field("y") % 3, "1 - x * 2 / y % 3"),
        (1 + X - (2 * X), "1 + x - 2 * x"),
        ((1 / X) % (5 % X), "1 / x % (5 % x)"),
        (-X + abs(X) - 1, "-x + abs(x) - 1"),
        (cep.count("a") > 2, "count(a) > 2"),
        (cep.sum("a", "x") > cep.avg("a", "x", default=0), "sum(a.x) > avg(a.x, 0)"),
        (cep.min("a", "x") < cep.max("a", "x"), "min(a.x) < max(a.x)"),
        (cep.first("a", "x") == cep.ts(), "first(a.x) == ts"),
        (cep.const(1) < X, "1 < x"),
        (1 < X, "x > 1"),  # noqa: SIM300 the other way round
        (cep.text("x == 1") & cep.text("y == 2"), "x == 1 and y == 2"),
    ],
)  # fmt: skip
def test_operators_make_the_tree_of_the_text(term: Term, text: str) -> None:
    """A condition by operators is the condition that its text describes."""
    assert term.expr == from_text(text)
    assert repr(term) == repr(cep.text(text))


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        (lambda: A.where(lambda event: True), TypeError, "no function can"),  # type: ignore[arg-type] # the mistake
        (lambda: A.where(object()), TypeError, "a object is no value"),  # type: ignore[arg-type] # the mistake
        (lambda: A.where("x = 1"), ExpressionError, "column 3: write '=='"),
        (lambda: 1 < X < 2, TypeError, "for a < b < c"),
        (lambda: X == 1 and X == 2, TypeError, "write & | ~"),
        (lambda: (X == 1) & 2, TypeError, "each comparison in parentheses"),  # type: ignore[operator] # the mistake
        (lambda: X.is_in("abc"), TypeError, "takes a list of values"),
        (lambda: {X}, TypeError, "unhashable"),
        (lambda: cep.field(""), ExpressionError, "1 to 200 characters"),
        (lambda: A.or_where(X == 1), PatternError, "needs a `where` before it"),
        (lambda: A.times(2).one_or_more(), PatternError, "said twice how often"),
        (lambda: A.optional().optional(), PatternError, "`optional` is said twice"),
        (lambda: A.one_or_more().until(X == 1).until(X == 2), PatternError, "`until` is said twice"),
        (lambda: A.times(1001), PatternError, "a: times.min: at most 1000 is allowed"),
        (A.within, PatternError, "at least 1 ms"),
        (lambda: A.within(seconds=-1), PatternError, "at least 1 ms"),
        (lambda: A.within(ms=1.5), PatternError, "no whole number of milliseconds"),
        (lambda: A.absent("b"), PatternError, "at least 1 ms"),
        (lambda: A.absent("b", ms=1).next("c"), PatternError, "ends a pattern"),
        (lambda: cep.begin(""), PatternError, "the text is empty"),
        (lambda: cep.begin("a:b"), PatternError, "no ':'"),
        (lambda: A.next(cep.begin("b").within(ms=1)), PatternError, "belong to the whole pattern"),
        (lambda: cep.any_of(A, A.skip_to_next()), PatternError, "belong to the whole pattern"),
        (lambda: cep.begin(cep.any_of(A)), PatternError, "at least 2 is wanted"),
        (lambda: cep.all_of(A, cep.begin("b").next("c")), PatternError, "b: `all_of` takes single stages"),
        (lambda: cep.begin(cep.all_of(A, cep.begin("b").times(2))), PatternError, "nothing else"),
        (lambda: cep.begin(A).where(X == 1), PatternError, "'group' has no condition of its own"),
        (lambda: A.skip_to_first(""), PatternError, "the text is empty"),
        (lambda: A.greedy().build(), PatternError, "greedy"),
        (lambda: A.next("a").build(), PatternError, "two stages have this name"),
        (lambda: A.not_followed_by("n").build(), PatternError, "needs `within`"),
        (lambda: A.skip_to_last("b").build(), PatternError, "`skip` names the stage 'b'"),
        (lambda: A.definition(name="a b"), PatternError, "a b: name: a pattern's name has letters"),
        (lambda: A.definition(name="a", disorder=timedelta(microseconds=1)), PatternError, "no whole number"),
    ],
)
def test_a_mistake_is_an_error_where_it_is_made(wrong: Callable[[], object], error: type[Exception], reason: str) -> None:
    """A wrong call says what is wrong and what to do."""
    with pytest.raises(error) as caught:
        wrong()
    assert reason in str(caught.value)


def test_too_many_stages_is_an_error() -> None:
    """A pattern beyond the limits cannot be built."""
    builder = A
    for number in range(100):
        builder = builder.next(f"s{number}")
    with pytest.raises(PatternError, match="at most 100 are allowed"):
        builder.build()


def test_a_beginning_can_be_shared() -> None:
    """A builder never changes: two patterns may begin with the same one."""
    start = A.where(X == 1)
    one, two = start.next("b").build(), start.times(2).build()
    assert one.stages[0] == start.build().stages[0]
    assert two.stages[0].times is not None


def test_the_same_word_on_several_stages() -> None:
    """`where`, `times` and the rest are about the last stage only."""
    pattern = A.where(X == 1).next("b").where(X == 2).times(2).build()
    assert pattern.stages[0] == Stage(name="a", where=from_text("x == 1"))


def test_a_definition_has_everything() -> None:
    """Durations become milliseconds, and what is not said has the model's default."""
    definition = A.skip_past_last().definition(
        name="p",
        description="d",
        topics=["t"],
        key="agent",
        types=["x.y"],
        disorder=timedelta(seconds=1),
        idle_after=MINUTE,
        partial_matches_max=5,
        timed_out=False,
        on_replace="restart",
    )
    assert definition == Definition(
        name="p",
        description="d",
        topics=("t",),
        key="agent",
        types=("x.y",),
        disorder_ms=1000,
        idle_after_ms=60_000,
        partial_matches_max=5,
        timed_out=False,
        on_replace="restart",
        pattern=Pattern(stages=(Stage(name="a"),), skip=Skip(strategy="past_last")),
    )
    assert A.definition(name="p") == Definition.model_validate({"name": "p", "pattern": {"stages": [{"name": "a"}]}})
