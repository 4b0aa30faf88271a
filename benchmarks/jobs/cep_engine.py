"""Our engine alone in a process. `python -m benchmarks.jobs.cep_engine PATTERN EVENTS [auto|general|generated]`.

What is timed is what the oracle's `run-bench nfa` times: every event through the matcher, and the checksum over every match.
Making the stream, and the interpreter's start, are not timed on either side.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Hashable
from typing import Any, Final, Literal, cast

from benchmarks.jobs.cep_stream import checksum, events, patterns
from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Pattern
from processors.core.cep.outputs import Outputs
from streams import interpreter

BATCH: Final = 4_000
"""Events a call: a worker's batch."""


def main(name: str, count: int, backend: str) -> None:
    """Run the pattern over the stream and print the result."""
    pattern = Pattern.model_validate(patterns()[name])
    matcher = Matcher(compile_pattern(pattern), backend=cast(Literal["auto", "general", "generated"], backend))
    interpreter.tune()  # as a worker does
    stream = events(count)
    states: dict[Hashable, Any] = {}
    run, matches, timed_out, total = matcher.run, 0, 0, 0
    began, cpu = time.perf_counter(), time.process_time()
    for at in range(0, count, BATCH):
        out = Outputs()
        run(states, stream[at : at + BATCH], out)
        matches += len(out.matches)
        timed_out += len(out.timed_out)
        for match in out.matches:
            total += checksum(match.stages)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    found = {
        "rate": count / seconds,
        "cpu_us": cpu / count * 1e6,
        "matches": matches,
        "timed_out": timed_out,
        "checksum": total,
        "backend": matcher.backend,
        "keys_left": len(states),
    }
    sys.stdout.write("RESULT " + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "auto")
