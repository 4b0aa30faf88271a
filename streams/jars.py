"""The jars of the embedded Apache Kafka: which they are, where they are kept, and that they are the pinned ones.

``jars.txt`` lists each by Maven coordinate, SHA-256 and size. :func:`ensure` gives their paths: what is missing is fetched by
``jgo`` (a Maven resolver in Python) into a staging directory, hashed, and only then moved into place. A marker file keeps each
jar's size and modification time from the moment it was hashed; a start compares those, and a jar that differs is hashed again
and, if it is not the pinned one, fetched again. A lock lets several processes start at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from streams.errors import DownloadFailed
from streams.settings_groups import user_directory

__all__ = ["KAFKA_VERSION", "Jar", "default_jars_dir", "ensure", "pinned_jars"]

KAFKA_VERSION = "4.1.1"

DOWNLOADS_AT_ONCE = 4
"""Connections to the repository: enough to hide its latency, few enough to be polite."""

DOWNLOAD_TIMEOUT_S = 60
"""For one connection or one silent read of it; a jar is 13 MB at most."""

DOWNLOAD_ATTEMPTS = 3
"""A broken connection is tried again; a jar that is wrong three times is wrong at its source."""

Fetched = Callable[[int], None]
"""Is told each number of bytes as they come."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned artifact."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """Its name in the cache, the one that Maven gives it."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinate(self) -> str:
        """Group, artifact and version, as ``jars.txt`` has them."""
        return f"{self.group}:{self.artifact}:{self.version}"


def pinned_jars() -> tuple[Jar, ...]:
    """The list of ``jars.txt``, in its order, which is the order of the class path."""
    jars = []
    for line in resources.files("streams").joinpath("jars.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        coordinate, digest, size = line.split()
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group, artifact, version, digest.removeprefix("sha256:"), int(size)))
    return tuple(jars)


def default_jars_dir() -> Path:
    """In the user's cache, where the settings look too."""
    return user_directory("cache") / "jars"


def ensure(directory: Path | None = None, *, announce: bool = True, jars: tuple[Jar, ...] | None = None) -> tuple[Path, ...]:
    """The paths of all jars, each known to be the pinned one.

    Args:
        directory: where they are kept; the user's cache if not given.
        announce: show a progress bar on standard error while downloading.
        jars: another list than the packaged one.

    Raises:
        DownloadFailed: one could not be fetched, or is not the pinned one; the message names it and what to do.
    """
    jars = pinned_jars() if jars is None else jars
    directory = default_jars_dir() if directory is None else directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory / ".lock"):
            _bring_up_to_date(directory, jars, announce=announce)
    except OSError as error:
        raise DownloadFailed(
            f"cannot keep the embedded broker's jars in {directory} ({error}): free it or set ANTIPHON_BROKER__JARS_DIR"
        ) from error
    return tuple(directory / jar.filename for jar in jars)


def _bring_up_to_date(directory: Path, jars: tuple[Jar, ...], *, announce: bool) -> None:
    """Hash what changed since it was last hashed, fetch what is missing or wrong, and write the marker."""
    marker = directory / f".verified-{_list_key(jars)}"
    trusted = _read_marker(marker)
    wanting = [jar for jar in jars if trusted.get(jar.filename) != _stamp(directory / jar.filename)]
    if not wanting:
        return
    missing = [jar for jar in wanting if _sha256(directory / jar.filename) != jar.sha256]
    if missing:
        with _progress(sum(jar.size for jar in missing), announce=announce) as fetched:
            _fetch_all(directory, missing, fetched)
    stamps = {jar.filename: _stamp(directory / jar.filename) for jar in jars}
    staged = marker.with_suffix(".new")
    staged.write_text(json.dumps(stamps), encoding="utf-8")
    staged.replace(marker)


def _fetch_all(directory: Path, jars: list[Jar], fetched: Fetched) -> None:
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=directory))
    try:
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE, thread_name_prefix="jars") as pool:
            for done in [pool.submit(_fetch, directory, staging, jar, fetched) for jar in jars]:
                done.result()
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _fetch(directory: Path, staging: Path, jar: Jar, fetched: Fetched) -> None:
    """One jar through the staging directory into its place, hashed in between."""
    from jgo.maven import MavenContext  # costs 0.2 s, and only the first start downloads
    from jgo.maven._resolver import PythonResolver

    @contextmanager
    def reported(_filename: str, _size: int) -> Iterator[Fetched]:
        yield fetched

    reason = ""
    for attempt in range(DOWNLOAD_ATTEMPTS):
        repository = staging / f"{jar.filename}.{attempt}"
        try:
            maven = MavenContext(
                repo_cache=repository, resolver=PythonResolver(progress_callback=reported), timeout=DOWNLOAD_TIMEOUT_S
            )
            path = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except Exception as error:  # noqa: BLE001 jgo raises RuntimeError, requests' errors and assertions alike
            reason = " ".join(str(error).split()) or type(error).__name__
            continue
        found = _sha256(Path(path))
        if found == jar.sha256:
            Path(path).replace(directory / jar.filename)
            return
        reason = f"its SHA-256 is {found}, pinned is {jar.sha256}"
    raise DownloadFailed(
        f"cannot fetch {jar.coordinate} for the embedded broker ({reason}): check the network and the Maven repository and try "
        f"again, or name a running broker in ANTIPHON_KAFKA__BOOTSTRAP_SERVERS"
    )


@contextmanager
def _progress(total: int, *, announce: bool) -> Iterator[Fetched]:
    """A bar on standard error; silent where ``announce`` is off."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    guard = threading.Lock()
    with Progress(*columns, console=Console(stderr=True), disable=not announce) as progress:
        task = progress.add_task(f"Apache Kafka {KAFKA_VERSION} (first start only)", total=total)

        def fetched(count: int) -> None:
            with guard:
                progress.advance(task, count)

        yield fetched


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the system lets go when the holder dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_marker(marker: Path) -> dict[str, list[int]]:
    try:
        stamps = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _stamp(path: Path) -> list[int]:
    """Size and modification time in ns; empty for no such file, which no marker holds."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _list_key(jars: tuple[Jar, ...]) -> str:
    """Changes with the list, so that a marker of an older one is not believed."""
    return hashlib.sha256("\n".join(f"{jar.coordinate} {jar.sha256}" for jar in jars).encode()).hexdigest()[:16]
