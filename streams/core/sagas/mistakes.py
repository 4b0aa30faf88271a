"""What is wrong with a definition, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from schemas.errors import AntiphonError, Fault
from streams.core.documents import Path, spelled
from streams.core.sagas.limits import MISTAKES_MAX

__all__ = ["DefinitionErrors", "Mistake"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing that is wrong.

    Attributes:
        path: Where in the definition's data, as `("nodes", 2, "timeout_ms")`.
        reason: What is wrong and what is allowed, on one line.
        node: The node that it is about, or empty.
        column: Where in the text at `path`, from 1; 0: it is about the whole.
        at_key: Whether the key is wrong, and not its value.
        line: Of the file, from 1; 0: it was no file.
        line_column: The same in its line.
    """

    path: Path
    reason: str
    node: str = ""
    column: int = 0
    at_key: bool = False
    line: int = 0
    line_column: int = 0

    def __str__(self) -> str:
        """Return `line:column: path: node 'name': reason`."""
        place = f"{self.line}:{self.line_column}: " if self.line else ""
        path = f"{spelled(self.path)}: " if self.path else ""
        node = f"node {self.node!r}: " if self.node else ""
        column = f"column {self.column} of the text: " if self.column and not self.line else ""
        return f"{place}{path}{node}{column}{self.reason}"


class DefinitionErrors(AntiphonError, ValueError):
    """A definition of a saga that cannot run: mend what the message says, line by line.

    Attributes:
        source: The file's or the definition's name.
        mistakes: Everything that is wrong, in order of the file.
    """

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        """One line a mistake: `source:line:column: path: reason`."""
        self.source = source
        self.mistakes = tuple(dict.fromkeys(sorted(mistakes, key=lambda one: (one.line, one.line_column))))
        lines = [f"{source}:{'' if one.line else ' '}{one}" for one in self.mistakes[:MISTAKES_MAX]]
        if len(self.mistakes) > MISTAKES_MAX:
            lines.append(f"{source}: and {len(self.mistakes) - MISTAKES_MAX} more")
        super().__init__("\n".join(lines))
