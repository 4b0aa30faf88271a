"""When a partition stops being fetched, and when it is fetched again.

A gate closes when the records waiting reach `high` and opens when they have fallen to `low`; between the two it stays as it
was, so a partition near its limit does not flap.

    waiting   0 ───── low ───────────── high ──▶
    closed    opens ◀──┘   as it was    └──▶ closes
"""

from dataclasses import dataclass

__all__ = ["Gate"]


@dataclass(slots=True)
class Gate:
    """Hysteresis between two marks, in records.

    Attributes:
        low: The gate opens again at this many waiting records or fewer.
        high: The gate closes at this many waiting records or more.
        closed: Whether it is closed now.
    """

    low: int
    high: int
    closed: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(f"backpressure marks must hold 0 <= low < high, not low={self.low} and high={self.high}")

    def measure(self, waiting: int) -> bool:
        """Take the number of waiting records; return whether the gate is closed from now on."""
        if waiting >= self.high:
            self.closed = True
        elif waiting <= self.low:
            self.closed = False
        return self.closed
