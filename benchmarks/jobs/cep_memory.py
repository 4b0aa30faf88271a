"""A million keys, each with one partial match that times out. `python -m benchmarks.jobs.cep_memory KEYS rss|traced`.

    before ─▶ one event a key: a partial match each (peak) ─▶ every deadline passes ─▶ after

`rss` reads the process's resident pages, which is what an operator sees; `traced` counts the bytes that Python handed out, which
says what a key costs, and runs in a process of its own because counting takes memory too.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.jobs.cep_stream import FIRST_TS, patterns
from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Pattern
from processors.core.cep.outputs import Outputs
from streams import interpreter
from streams.turns.stores import compact

BATCH: Final = 4_000
WINDOW_MS: Final = 10_000
"""P1's window."""
KEYS_OF_WARM_UP: Final = 20_000
"""Run first, so that what an allocator keeps for good is part of *before*."""


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _traced() -> int:
    return tracemalloc.get_traced_memory()[0]


def _batches(keys: int) -> Iterator[list[dict[str, Any]]]:
    for at in range(0, keys, BATCH):
        yield [{"type": 0, "key": f"agent-{key:07d}", "value": 1.0, "ts": FIRST_TS} for key in range(at, min(at + BATCH, keys))]


def _fill(matcher: Matcher, states: dict[Hashable, Any], keys: int) -> None:
    for batch in _batches(keys):
        out = Outputs()
        matcher.run(states, batch, out)
        if out:
            raise RuntimeError("a first event is neither a match nor late")


def _empty(matcher: Matcher, states: dict[Hashable, Any]) -> int:
    timed_out, late = 0, FIRST_TS + WINDOW_MS + 1
    keys = list(states)
    for at in range(0, len(keys), BATCH):
        out = Outputs()
        for key in keys[at : at + BATCH]:
            matcher.advance(states, key, late, out)
        timed_out += len(out.timed_out)
    return timed_out


def main(keys: int, how: str) -> None:
    """Fill, time out, and print the bytes before, at the peak and after."""
    measure: Callable[[], int] = _resident
    if how == "traced":
        tracemalloc.start()
        measure = _traced
    matcher = Matcher(compile_pattern(Pattern.model_validate(patterns()["P1"])))
    states: dict[Hashable, Any] = {}
    interpreter.tune()
    _fill(matcher, states, KEYS_OF_WARM_UP)
    _empty(matcher, states)
    gc.collect()
    before = measure()
    _fill(matcher, states, keys)
    gc.collect()
    peak, held = measure(), len(states)
    timed_out = _empty(matcher, states)
    states = compact(states, held)  # as a worker's table does
    gc.collect()
    found = {"before": before, "peak": peak, "after": measure(), "keys": held, "timed_out": timed_out, "keys_left": len(states)}
    sys.stdout.write("RESULT " + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
