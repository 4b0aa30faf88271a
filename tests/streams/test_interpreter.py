"""The interpreter of a worker, looked at in a process of its own."""

from __future__ import annotations

import subprocess
import sys

CYCLES = """
import gc, sys, weakref
from streams import interpreter

class Node:
    pass

interpreter.tune()
assert gc.get_freeze_count() > 1_000, gc.get_freeze_count()
first = Node()
first.self = first
gone = weakref.ref(first)
del first
made = 0
while gone() is not None and made < 200_000:
    node = Node()
    node.self = node
    made += 1
print(made, sys.getswitchinterval())
"""


def test_cycles_are_still_found_in_bounded_time() -> None:
    """A cycle is freed after the young objects of one look, not never, and threads change every millisecond."""
    made, interval = subprocess.run(
        [sys.executable, "-c", CYCLES], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert 10_000 < int(made) <= 60_000
    assert float(interval) == 0.001
