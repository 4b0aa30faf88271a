"""Random conditions, patterns and definitions, within the limits of the language; whether they compile is left open."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from processors.core.cep.expressions import AGGREGATES, Agg, Const, Expr, Field, Op, Scalar, Ts
from processors.core.cep.model import Definition, Pattern, Skip, Stage, Times

names = st.one_of(
    st.sampled_from(["a", "b", "failed", "not c", "b*", "ts", "true", "and", "type", "grün", "'", '"', "x y", "123", "a.b"]),
    st.text(min_size=1, max_size=8),
)
scalars: st.SearchStrategy[Scalar] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["it's", 'say "x"', "\n", "null", "#", "1e3", "on"]),
)
leaves: st.SearchStrategy[Expr] = st.one_of(
    st.builds(Const, scalars),
    st.builds(Field, names),
    st.just(Ts()),
    st.builds(Agg, st.sampled_from(AGGREGATES), names, st.none() | names, scalars),
)


def _operators(inner: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    two = st.tuples(inner, inner)
    return st.one_of(
        st.builds(Op, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "contains", "starts_with"]), two),
        st.builds(Op, st.just("in"), st.tuples(inner, st.builds(Const, st.lists(scalars, max_size=3).map(tuple)))),
        st.builds(Op, st.sampled_from(["and", "or"]), st.lists(inner, max_size=3).map(tuple)),
        st.builds(Op, st.sampled_from(["not", "neg", "abs"]), st.tuples(inner)),
        st.builds(Op, st.sampled_from(["+", "-", "*", "/", "mod"]), st.lists(inner, min_size=1, max_size=3).map(tuple)),
    )


expressions: st.SearchStrategy[Expr] = st.recursive(leaves, _operators, max_leaves=12)

stage_names = st.sampled_from(["a", "b", "not c", "b*", "null", "5", "on", "c d", "é", "#x", "- y"]) | st.text(
    st.characters(categories=("L", "N", "P"), exclude_characters=":"), min_size=1, max_size=6
)
within = st.sampled_from(["first_and_last", "previous_and_current"])
ms = st.none() | st.integers(1, (1 << 53) - 1)
times = st.builds(Times, min=st.integers(0, 1000), max=st.none() | st.integers(0, 1000), within_ms=ms)


def _common(*, first: bool) -> dict[str, st.SearchStrategy[Any]]:
    return {
        "contiguity": st.sampled_from(["strict", "relaxed"] if not first else ["strict", "relaxed", "any"]),
        "times": st.none() | times,
        "until": st.none() | expressions,
        "optional": st.booleans(),
        "consecutive": st.booleans(),
        "allow_combinations": st.booleans(),
        "within_ms": ms,
        "within": within,
    }


def _plain(*, first: bool) -> st.SearchStrategy[Stage]:
    where = st.none() | expressions
    negated = st.just(False) if first else st.booleans()
    return st.builds(Stage, name=stage_names, negated=negated, where=where, greedy=st.booleans(), **_common(first=first))


def _sequence(inner: st.SearchStrategy[tuple[Stage, ...]]) -> st.SearchStrategy[tuple[Stage, ...]]:
    member = st.builds(Stage, name=stage_names, where=st.none() | expressions)

    def stage(*, first: bool) -> st.SearchStrategy[Stage]:
        return st.one_of(
            _plain(first=first),
            st.builds(Stage, group=inner, **_common(first=first)),
            st.builds(Stage, any_of=st.lists(inner, min_size=2, max_size=3).map(tuple), **_common(first=first)),
            st.builds(Stage, all_of=st.lists(member, min_size=2, max_size=3).map(tuple), **_common(first=first)),
        )

    return st.tuples(stage(first=True), st.lists(stage(first=False), max_size=2)).map(lambda s: (s[0], *s[1]))


sequences = st.recursive(_plain(first=True).map(lambda s: (s,)), _sequence, max_leaves=4)
skips = st.one_of(
    st.builds(Skip, strategy=st.sampled_from(["no_skip", "to_next", "past_last"])),
    st.builds(Skip, strategy=st.sampled_from(["to_first", "to_last"]), stage=stage_names, throw_on_miss=st.booleans()),
)
patterns = st.builds(Pattern, stages=sequences, within_ms=ms, within=within, skip=skips)
definitions = st.builds(
    Definition,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True),
    description=st.text(st.characters(codec="utf-8"), max_size=20),
    topics=st.lists(st.from_regex(r"[a-z][A-Za-z0-9._-]{0,9}", fullmatch=True), max_size=2).map(tuple),
    key=st.none() | st.sampled_from(["agent", "a key"]),
    types=st.lists(st.sampled_from(["tool.failed", "on", "1"]), max_size=2).map(tuple),
    disorder_ms=st.integers(0, 1000),
    idle_after_ms=st.integers(1, 1000),
    partial_matches_max=st.integers(1, 100_000),
    timed_out=st.booleans(),
    on_replace=st.sampled_from(["drain", "restart"]),
    pattern=patterns,
)
