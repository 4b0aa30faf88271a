"""Words of messages."""

from __future__ import annotations

import pytest

from streams.core.words import SHOWN_CHARS_MAX, did_you_mean, shown


def test_the_word_that_was_meant_is_named() -> None:
    """A word that is close is named, and nothing where none is or it is no word."""
    assert did_you_mean("stpe", ("step", "join")) == " Did you mean 'step'?"
    assert not did_you_mean("zebra", ("step", "join"))
    assert not did_you_mean(3, ("step", "join"))


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "nothing"), (True, "true"), (3, "the number 3"), ("a", "the text 'a'"), ([1], "a list"), ({}, "a mapping")],
)
def test_a_wrong_value_is_named_on_one_line(value: object, words: str) -> None:
    """Each kind of value has its words."""
    assert shown(value) == words
    assert len(shown("x" * 500)) < SHOWN_CHARS_MAX + 20
