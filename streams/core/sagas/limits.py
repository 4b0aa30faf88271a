"""Every limit of a saga's definition and data, with its reason."""

from __future__ import annotations

from typing import Final

__all__ = [
    "APPROVERS_CHARS_MAX",
    "ATTEMPTS_MAX",
    "BACKOFF_MS_MAX",
    "BODIES_DEPTH_MAX",
    "CASES_MAX",
    "CODES_MAX",
    "DEADLINE_MS",
    "DEADLINE_MS_MAX",
    "DEFINITION_CHARS_MAX",
    "DESCRIPTION_CHARS_MAX",
    "EVERY_MS_MIN",
    "EXPRESSION_CHARS_MAX",
    "EXPRESSION_DEPTH_MAX",
    "FACTOR_MAX",
    "INPUTS_MAX",
    "ITEMS_MAX",
    "LEASE_MS",
    "MISTAKES_MAX",
    "NAME_CHARS_MAX",
    "NODES_MAX",
    "PASSES_MAX",
    "PAYLOAD_CHARS_MAX",
    "SCHEDULES_MAX",
    "TEMPLATE_DEPTH_MAX",
    "TEMPLATE_VALUES_MAX",
    "TEXT_CHARS_MAX",
    "TIMEOUT_MS",
    "TIMEOUT_MS_MAX",
    "VERSION_MAX",
]

_DAY_MS: Final = 86_400_000

NAME_CHARS_MAX: Final = 100
"""Characters of a name: it is in every call's id, and a call's id is a key of tables."""
DESCRIPTION_CHARS_MAX: Final = 2_000
"""Characters of a description: some paragraphs."""
APPROVERS_CHARS_MAX: Final = 200
"""Characters that say who may approve: one line of a list."""
VERSION_MAX: Final = 2**31 - 1
"""The largest version: 32 bits, which every language can hold."""
NODES_MAX: Final = 200
"""Nodes of a definition, bodies included: more cannot be read as a picture, and each has a record in the instance's state."""
BODIES_DEPTH_MAX: Final = 4
"""Bodies inside bodies: a list of lists of lists and a loop around them; each level multiplies what an instance holds."""
CASES_MAX: Final = 20
"""Cases of a choice: more are a table that belongs into a handler."""
CODES_MAX: Final = 50
"""Error codes that are not retried."""
INPUTS_MAX: Final = 100
"""Names that a definition may ask of its input."""
SCHEDULES_MAX: Final = 10
"""Schedules of a definition: more are one cron line with a list in it."""
ATTEMPTS_MAX: Final = 1_000
"""Attempts at a step: at the longest backoff that is forty days."""
BACKOFF_MS_MAX: Final = 3_600_000
"""The longest wait between two attempts: an operator who mends something is noticed within the hour."""
PASSES_MAX: Final = 1_000
"""Passes of a loop: each adds to the instance's history, which is kept whole."""
ITEMS_MAX: Final = 1_000
"""Items that a list fans out to: each has its own records in the instance's state."""
TIMEOUT_MS: Final = 30_000
"""How long an attempt may take where nothing is said: ten times what a slow service takes."""
TIMEOUT_MS_MAX: Final = 366 * _DAY_MS
"""The longest wait for anything: a year, for humans and timers."""
DEADLINE_MS: Final = 7 * _DAY_MS
"""When a saga without a deadline of its own is given up: a week, so that nothing waits for ever."""
DEADLINE_MS_MAX: Final = 366 * _DAY_MS
"""The latest deadline: a year; what lasts longer is a schedule."""
LEASE_MS: Final = 30_000
"""The lease of a lock where nothing is said; the orchestrator renews it."""
PAYLOAD_CHARS_MAX: Final = 65_536
"""Characters of JSON of an input, an answer or a signal: sixteen of them fit into a record of Kafka's default size."""
DEFINITION_CHARS_MAX: Final = 262_144
"""Characters of a definition as JSON: it travels in one record."""
TEMPLATE_DEPTH_MAX: Final = 20
"""Values inside values of a template."""
TEMPLATE_VALUES_MAX: Final = 2_000
"""Values of a template: what is more is data, which belongs into the input."""
TEXT_CHARS_MAX: Final = 16_384
"""Characters of one text in a template."""
EXPRESSION_CHARS_MAX: Final = 1_000
"""Characters of an expression: longer ones belong into a handler."""
EXPRESSION_DEPTH_MAX: Final = 30
"""Operators inside operators: evaluation is recursive."""
MISTAKES_MAX: Final = 100
"""Mistakes that are told at once: nobody reads more."""
FACTOR_MAX: Final = 10.0
"""The steepest backoff: the third wait is a hundred times the first."""
EVERY_MS_MIN: Final = 1_000
"""The shortest time between two sagas of a schedule: what is more often is a stream of events."""
