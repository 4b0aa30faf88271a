"""Every limit of the pattern language, with what chose the number. Beyond one is an error that names it.

`PARTIAL_MATCHES_MAX` bounds what a definition may ask for; the rest bounds the definition itself, so that a file from anywhere
can be read, compiled and stored without harm.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ALL_OF_MAX",
    "BRANCHES_MAX",
    "CHOICES_MAX",
    "DESCRIPTION_CHARS_MAX",
    "DISORDER_MS_MAX",
    "DOUBLE_MAX",
    "EXACT_MAX",
    "FIELD_CHARS_MAX",
    "GROUPS_DEPTH_MAX",
    "IDLE_AFTER_MS",
    "INT_MAX",
    "INT_MIN",
    "NAME_CHARS_MAX",
    "NODES_MAX",
    "OPERATORS_DEPTH_MAX",
    "PARTIAL_MATCHES_MAX",
    "STAGES_MAX",
    "STRING_CHARS_MAX",
    "TEXT_CHARS_MAX",
    "TIMES_MAX",
    "TOPICS_MAX",
    "TYPES_MAX",
    "WITHIN_MS_MAX",
]

NAME_CHARS_MAX: Final = 100
"""Characters of a stage's or pattern's name: it labels metrics and boxes of the drawing."""
TIMES_MAX: Final = 1000
"""Repetitions that can be counted: each is a state of the automaton."""
STAGES_MAX: Final = 100
"""Stages of a pattern, those in groups included: more would be a program, and each costs states."""
GROUPS_DEPTH_MAX: Final = 8
"""Groups inside groups: nobody can read deeper."""
BRANCHES_MAX: Final = 32
"""Branches of `any_of`: each is tried with each event."""
ALL_OF_MAX: Final = 6
"""Stages of `all_of`: each set of stages still missing is a state, so six make 63."""
WITHIN_MS_MAX: Final = (1 << 53) - 1
"""Milliseconds of a window: exact in every JSON reader, and 285,000 years."""
DESCRIPTION_CHARS_MAX: Final = 4000
"""Characters of a description: a page."""
TOPICS_MAX: Final = 20
"""Topics of one pattern: each is a consumer's subscription."""
TYPES_MAX: Final = 200
"""Event types of one pattern: the whole catalogue and more."""
PARTIAL_MATCHES_MAX: Final = 100_000
"""Partial matches of one key, at most: they are one value of a table, and a record of Kafka has 1 MB unless told otherwise."""
DISORDER_MS_MAX: Final = 7 * 86_400_000
"""A week: events wait in the table until the watermark has passed them."""
IDLE_AFTER_MS: Final = 30_000
"""A partition without an event for this long no longer holds time back: several polls and a rebalance take less."""

OPERATORS_DEPTH_MAX: Final = 40
"""Operators inside operators: deeper than anyone reads. Generated source nests twice as deep; Python's parser ends at 200."""
NODES_MAX: Final = 500
"""Parts of one condition: a page of text. Each part costs time with every event."""
CHOICES_MAX: Final = 1000
"""Values of one `in`: longer lists belong into a field of the event."""
STRING_CHARS_MAX: Final = 4096
"""Characters of a constant string: a path has at most as many."""
FIELD_CHARS_MAX: Final = 200
"""Characters of a field's or a stage's name."""
INT_MIN: Final = -(1 << 63)
"""The smallest whole number that every JSON and Avro reader takes."""
INT_MAX: Final = (1 << 63) - 1
"""The largest."""
EXACT_MAX: Final = 1 << 53
"""Whole numbers up to here are exact as doubles."""
DOUBLE_MAX: Final = 1 << 1023
"""Whole numbers below become finite doubles."""
TEXT_CHARS_MAX: Final = 10_000
"""Characters of a condition: `NODES_MAX` parts of twenty."""
