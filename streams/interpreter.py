"""How a worker has its Python interpreter: when threads change, and when the garbage collector looks for cycles.

Both are measured (docs/performance.md). What reference counting frees, which is everything a record or an event is, does not wait
for the collector; it is for cycles only, and those are rare here: an exception with its traceback, a closed connection.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

__all__ = ["tune"]

SWITCH_INTERVAL_S: Final = 0.001
"""How long a thread may hold the interpreter while others wait. At Python's 5 ms every call of the commit thread waits that
long behind the event loop, several times a kafka transaction."""

YOUNG_OBJECTS: Final = 50_000
"""New containers between two looks for cycles among them. At Python's 700 a worker spends half of its time on records that wait
for their batch; beyond 50,000 little is gained, and so many young objects take about 10 MiB."""
MIDDLE_LOOKS: Final = 20
FULL_LOOKS: Final = 20
"""Young looks before one at those that survived, and those before a look at everything. Python makes the last one only when what
survived has grown by a quarter, so large tables are not walked through again and again."""


def tune() -> None:
    """Tune this process; to be called once, when everything is imported and set up: what exists then is never looked at again."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, MIDDLE_LOOKS, FULL_LOOKS)
