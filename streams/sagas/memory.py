"""What a participant remembers: each action and each compensation that it has answered, so that it does none twice.

The log of its own answers is this memory, too: who takes a partition over reads the last answers of its service there, before it
takes a call of the partition up. So a call that comes again after a crash is answered as before, if the answer was written.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

__all__ = ["Key", "Memory"]

Key = tuple[str, str, bool]
"""Saga, node, and whether it is the compensation."""
Answer = dict[str, Any]

ANSWERS_MAX: Final = 100_000
"""Answers that are remembered: minutes of full load, and calls come again within seconds."""
CHARS_MAX: Final = 64_000_000
"""Characters of their results."""
_ANSWER_CHARS: Final = 200
"""What an answer takes beside its result."""


class Memory:
    """The answers of one service."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._chars = 0

    def __len__(self) -> int:
        return len(self._answers)

    def put(self, answer: Answer) -> None:
        """Remember an answer; a success stays, whatever is said later."""
        key = answer["saga"], answer["node"], answer["undo"]
        known = self._answers.pop(key, None)
        if known is not None:
            self._chars -= _ANSWER_CHARS + len(known["result"])
            if known["ok"] and not answer["ok"]:
                answer = known
        self._answers[key] = answer
        self._chars += _ANSWER_CHARS + len(answer["result"])
        while len(self._answers) > ANSWERS_MAX or self._chars > CHARS_MAX:
            _, oldest = self._answers.popitem(last=False)
            self._chars -= _ANSWER_CHARS + len(oldest["result"])

    def answer_to(self, key: Key, attempt: int) -> Answer | None:
        """Return what is answered to an attempt without doing anything: a success was one for ever, a failure only then."""
        known = self._answers.get(key)
        if known is not None and (known["ok"] or known["attempt"] >= attempt):
            return known if known["attempt"] == attempt else {**known, "attempt": attempt}
        return None

    def undone(self, saga: str, node: str) -> bool:
        """Return whether a step was undone, so that its action must not be done any more."""
        known = self._answers.get((saga, node, True))
        return known is not None and bool(known["ok"])
