r"""Which topics a subscription means: a name, a glob, or a regular expression.

    agents.events       that topic
    agents.*            every topic that begins so; `?` is one character, `[ab]` one of these
    ^agents\.(a|b)$     a regular expression, because it begins with ^

A glob or an expression never means Kafka's own topics (`__consumer_offsets`), nor those that begin with a dot or an underscore.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import Final

from streams.errors import SettingsError

__all__ = ["PATTERN_CHARS_MAX", "TopicPattern"]

PATTERN_CHARS_MAX: Final = 1_000
"""Characters of a pattern: four of the longest topic names; an expression longer than that is a mistake."""

_LITERAL: Final = re.compile(r"[A-Za-z0-9._-]{1,249}\Z")
_GLOB: Final = frozenset("*?[")
_HIDDEN: Final = ("_", ".")


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """A parsed pattern.

    Attributes:
        text: As it was given.
        literal: The topic it names, or empty where it is a glob or an expression.
        regex: What topic names must match from the beginning.
    """

    text: str
    literal: str
    regex: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> TopicPattern:
        """Read a pattern.

        Raises:
            SettingsError: It is neither a topic name nor a glob nor an expression.
        """
        if len(text) > PATTERN_CHARS_MAX:
            raise SettingsError(f"topic pattern of {len(text)} characters: {PATTERN_CHARS_MAX} are allowed")
        if text.startswith("^"):
            try:
                return cls(text, "", re.compile(text))
            except re.error as error:
                raise SettingsError(f"topic pattern {text!r} is no regular expression: {error}") from error
        if _LITERAL.match(text):
            return cls(text, text, re.compile(re.escape(text) + r"\Z"))
        if _GLOB & set(text):
            return cls(text, "", re.compile(fnmatch.translate(text)))
        raise SettingsError(
            f"topic pattern {text!r}: a topic name, a glob such as agents.*, or an expression that begins with ^ is allowed"
        )

    def matches(self, topic: str) -> bool:
        """Return whether the pattern means this topic."""
        if self.literal:
            return topic == self.literal
        return not topic.startswith(_HIDDEN) and self.regex.match(topic) is not None
