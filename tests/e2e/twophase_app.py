"""As `txn_app.py`, with a process that dies or freezes at one step of two-phase commit.

`TXN_FATE` is `<event type>:<number>:<when>`: with this command of its type the process is killed `before` it is carried out,
`after` that and before anything of it is told or kept, or so many milliseconds later; `freeze` stops it before.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from processors.transacting import tables
from sagas.shells import twophase
from streams.machines.shells import Shell

kind_of_fate, number, when = os.environ["TXN_FATE"].split(":")
seen: Counter[str] = Counter()


def die() -> None:
    """Leave no chance to tell anybody."""
    os.kill(os.getpid(), signal.SIGKILL)


def fated(shell: Shell) -> Shell:
    """Return a machine's shell with the fate."""
    carry_out = shell.carry_out

    def carried(machine: Any, kind: str, fields: Any, *args: Any) -> Any:
        seen[kind] += kind == kind_of_fate
        struck = kind == kind_of_fate and seen[kind] == int(number)
        if struck and when == "before":
            die()
        if struck and when == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        outcomes = carry_out(machine, kind, fields, *args)
        if struck and when == "after":
            die()
        if struck and when.isdigit():
            timer = threading.Timer(int(when) / 1_000, die)
            timer.daemon = True
            timer.start()
        return outcomes

    return replace(shell, carry_out=carried)


of_tables, of_coordinator = tables.shell, twophase.shell
tables.shell = lambda *args, **options: fated(of_tables(*args, **options))
twophase.shell = lambda *args, **options: fated(of_coordinator(*args, **options))

runpy.run_path(str(Path(__file__).with_name("txn_app.py")), run_name="__main__")
