"""Which offset may be committed when acknowledgements come in any order.

    taken   10 11 12 13        acked 12      ─▶ position 10     10 and 11 are still at work
                               acked 10      ─▶ position 11
                               acked 11      ─▶ position 13     12 was waiting for it

Guarantees: no offset at or above `position` was acknowledged together with everything before it, and none below it is
unacknowledged.
So a commit of `position` never skips a record, and a crash repeats at most what was not acknowledged, or came after such a
record.
"""

from __future__ import annotations

from collections import deque

__all__ = ["AckWindow"]


class AckWindow:
    """The records of one partition that were handed out and are not all acknowledged.

    Attributes:
        position: The offset to commit: everything below it is done.
    """

    __slots__ = ("_acked", "_taken", "position")

    def __init__(self, position: int) -> None:
        """Begin.

        Args:
            position: The offset of the first record to come, or -1 where it is not known yet.
        """
        self.position = position
        self._taken: deque[int] = deque()
        self._acked: set[int] = set()

    def __len__(self) -> int:
        """How many records were taken and hold the position back."""
        return len(self._taken)

    @property
    def unacked(self) -> int:
        """How many records are at work."""
        return len(self._taken) - len(self._acked)

    def take(self, offset: int) -> None:
        """Note that a record is handed out; offsets come in growing order."""
        assert not self._taken or offset > self._taken[-1], f"offset {offset} was taken after {self._taken[-1]}"
        if not self._taken and self.position < 0:
            self.position = offset
        self._taken.append(offset)

    def ack(self, offset: int) -> bool:
        """Note that a record is done. Returns whether the position moved; a second ack of the same record changes nothing."""
        taken, acked = self._taken, self._acked
        if not taken or offset < taken[0] or offset in acked:
            return False
        if offset != taken[0]:
            acked.add(offset)
            return False
        taken.popleft()
        self.position = offset + 1
        while taken and taken[0] in acked:
            acked.discard(taken[0])
            self.position = taken.popleft() + 1
        return True
