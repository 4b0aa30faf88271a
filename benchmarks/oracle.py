"""Apache Flink's CEP as a yardstick: finds the oracle's sources, builds them once in the user's cache, runs its benchmark.

The oracle stands beside the repository (`../shared/cep-oracle`) or where `ANTIPHON_CEP_ORACLE` says, and may be read-only.
A build needs Maven and, the first time, Maven Central; it is kept under a name made of the sources, so a changed oracle is
built anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from streams.bench import Progress
from streams.settings_groups import user_directory

__all__ = ["Flink", "Found", "OracleMissing", "prepare"]

BUILD_TIMEOUT_S: Final = 900.0
"""The first build downloads about 100 MB."""
RUN_TIMEOUT_S: Final = 600.0
"""One run of two million events takes 4 to 60 s."""
JAR: Final = Path("oracle", "target", "cep-oracle-1.jar")
_LINE: Final = re.compile(
    r"(?P<mode>\w+) (?P<pattern>\w+) events=(?P<events>\d+) seconds=(?P<seconds>[\d.]+) events_per_s=(?P<rate>\d+)"
    r" matches=(?P<matches>\d+) timed_out=(?P<timed_out>\d+) checksum=(?P<checksum>-?\d+)"
)


class OracleMissing(Exception):
    """Flink cannot be measured here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one run over the stream found.

    Attributes:
        rate: Events a second.
        matches: How many matches.
        timed_out: How many partial matches timed out.
        checksum: The sum of `ts - FIRST_TS` over every event of every match.
    """

    rate: float
    matches: int
    timed_out: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Flink:
    """A built oracle in `directory`."""

    directory: Path

    def run(self, mode: Literal["nfa", "operator", "job"], pattern: str, events: int) -> Found:
        """Run Flink alone in a fresh JVM.

        Args:
            mode: The bare NFA, the operator in its test harness, or a whole job in a MiniCluster.
            pattern: P1, P2, P2x3, P3 or P2skip.
            events: How many events of the stream.

        Raises:
            RuntimeError: It ended without a result.
        """
        done = subprocess.run(
            [str(self.directory / "run-bench"), mode, pattern, str(events)],
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        if (found := parsed(done.stdout)) is None:
            raise RuntimeError(f"run-bench {mode} {pattern} ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
        return found


def parsed(text: str) -> Found | None:
    """Return the result that `run-bench` prints, if it is there."""
    match = _LINE.search(text)
    if match is None:
        return None
    return Found(float(match["rate"]), int(match["matches"]), int(match["timed_out"]), int(match["checksum"]))


def sources() -> Path:
    """Where the oracle's sources are.

    Raises:
        OracleMissing: Nowhere.
    """
    named = os.environ.get("ANTIPHON_CEP_ORACLE")
    at = Path(named) if named else Path(__file__).parent.parent.parent / "shared" / "cep-oracle"
    if not (at / "run-bench").is_file():
        raise OracleMissing(f"no CEP oracle at {at}: name its directory in ANTIPHON_CEP_ORACLE")
    return at


def fingerprint(directory: Path) -> str:
    """A name for what a build of these sources would be."""
    digest = hashlib.sha256()
    source = directory / "oracle"
    files = [*(source / "src").rglob("*"), source / "pom.xml", directory / "run-bench", directory / "run-oracle"]
    for file in sorted(file for file in files if file.is_file()):
        digest.update(str(file.relative_to(directory)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def prepare(progress: Progress) -> Flink:
    """Return a built oracle; build it if this is the first time.

    Raises:
        OracleMissing: Sources, Java or Maven are absent, or the build failed.
    """
    at = sources()
    if shutil.which("java") is None:
        raise OracleMissing("no java on PATH: Flink's side needs a JDK 17 or newer")
    home = user_directory("cache") / f"cep-oracle-{fingerprint(at)}"
    if (home / JAR).is_file():
        return Flink(home)
    maven = shutil.which("mvn")
    if maven is None:
        raise OracleMissing("no mvn on PATH: the oracle is built with Maven")
    progress(f"building Flink's side in {home} (once)")
    new = home.with_name(f"{home.name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(at, new, ignore=shutil.ignore_patterns("cases", "target"))
    done = subprocess.run(
        [maven, "-q", "-B", "package"], cwd=new / "oracle", capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    if done.returncode != 0 or not (new / JAR).is_file():
        shutil.rmtree(new, ignore_errors=True)
        raise OracleMissing(f"the oracle's build failed: {(done.stdout or done.stderr)[-400:].strip()}")
    try:
        new.rename(home)
    except OSError:  # another process was faster
        shutil.rmtree(new, ignore_errors=True)
    return Flink(home)
