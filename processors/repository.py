"""Reads a git repository as a work history: every commit is a change, by its author, landed by its committer.

    git log ─▶ tokens (NUL) ─▶ change.committed, then one file.changed a file

* `ts` is the author's time, `arrived` the committer's; git keeps seconds.
* Agents are hashed like in the bundled history: nobody's address gets into Kafka. Tasks are the first 12 digits of the commit.
* A commit that says "This reverts commit <id>." reverts it.
* Merge commits are left out: what they bring in is there as commits of its own. Renames count as a file removed and a file added.
* Order is that of `git log --reverse`: parents before children.

The repository is read and never run: the settings in it that would start programs or change the output are overruled.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import orjson

from processors.history import BadEvent, Entry, HistoryError, HistoryMissing, Malformed, WorkEvent, from_fields

__all__ = ["read_repository"]

FILES_MAX: Final = 100_000
"""Files of one change, in memory together; the largest commit of Linux has 36 k. A larger change becomes one dead letter."""
TOKEN_BYTES_MAX: Final = 16 * 1024 * 1024
"""Longest piece of git's output: a commit message or a path. Longer is no repository that people work in."""
_CHUNK_BYTES: Final = 64 * 1024

_FORMAT: Final = "%x00%x01%H %at %ct %aE%x00%B%x00"
_GIT: Final = (
    "git",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "log.showSignature=false",
    "-c",
    "diff.external=",
    "-c",
    "core.quotePath=false",
)
_LOG: Final = (
    "log",
    "-z",
    "--reverse",
    "--no-merges",
    "--numstat",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-show-signature",
    "--no-color",
    "--encoding=UTF-8",
    f"--format={_FORMAT}",
)
_REVERTS: Final = re.compile(rb"This reverts commit ([0-9a-f]{7,64})")
_TASK_DIGITS: Final = 12


def read_repository(path: Path, *, now_ms: int, on_progress: Callable[[float], None] | None = None) -> Iterator[Entry]:
    """Read the history of a git repository's current branch; the line number of an entry counts changes and files from 1.

    Args:
        path: The repository, bare or not.
        now_ms: The time now, to refuse events of the future.
        on_progress: Told with every change which part of them is read, 0 to 1.

    Raises:
        HistoryError: There is no git, the path is no repository, it has no commit, or git failed on the way.
    """
    changes = _count(path)
    with tempfile.TemporaryFile() as complaints:
        git = subprocess.Popen(
            [*_GIT, "-C", str(path), *_LOG], stdout=subprocess.PIPE, stderr=complaints, stdin=subprocess.DEVNULL
        )
        try:
            if git.stdout is None:
                raise AssertionError("the pipe was asked for")
            line = 0
            for number, fields in enumerate(_changes(_tokens(git.stdout)), 1):
                if on_progress is not None:
                    on_progress(number / max(number, changes))
                for parsed in _events(fields, line, now_ms):
                    line += 1
                    yield Entry(line, parsed)
            if git.wait() != 0:
                complaints.seek(0)
                raise HistoryError(f"{path}: git log failed: {_first_line(complaints.read())}")
            if not line:
                raise HistoryError(f"{path}: the repository has no change on its current branch")
        finally:
            git.kill()
            git.wait()
            if git.stdout is not None:
                git.stdout.close()


def agent_of(address: bytes) -> str:
    """Return the agent name of an author's address: a hash, so that the address does not travel."""
    return "agent-" + hashlib.sha256(address.strip().lower()).hexdigest()[:8]


def _count(path: Path) -> int:
    """Return how many changes there are, or raise where that question makes no sense."""
    if not path.exists():
        raise HistoryMissing(f"{path}: there is no such directory; give a git repository")
    try:
        inside = _git(path, "rev-parse", "--git-dir")
    except FileNotFoundError:
        raise HistoryError("git is not installed; install it, or give a file with --events") from None
    if inside.returncode != 0:
        raise HistoryError(f"{path}: this is no git repository: {_first_line(inside.stderr)}")
    if _git(path, "rev-parse", "--verify", "-q", "HEAD").returncode != 0:
        raise HistoryError(f"{path}: the repository has no commit yet")
    return int(_git(path, "rev-list", "--count", "--no-merges", "HEAD").stdout or 0)


def _git(path: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*_GIT, "-C", str(path), *words], capture_output=True, check=False, stdin=subprocess.DEVNULL)


def _first_line(complaint: bytes) -> str:
    return next(iter(complaint.decode(errors="replace").strip().splitlines()), "it gives no reason")


def _tokens(stream: IO[bytes]) -> Iterator[bytes]:
    """Split git's output at NUL, without ever holding more than one piece."""
    rest = b""
    while chunk := stream.read(_CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
        if len(rest) > TOKEN_BYTES_MAX:
            raise HistoryError(f"git gave a message or a path of more than {TOKEN_BYTES_MAX} bytes")
    if rest:
        yield rest


def _changes(tokens: Iterator[bytes]) -> Iterator[tuple[bytes, bytes, list[bytes]]]:
    """Group tokens to (header, message, numstat of each file); of more than `FILES_MAX` files one more is kept, to tell."""
    header: bytes | None = None
    message = b""
    stats: list[bytes] = []
    for token in tokens:
        if token.startswith(
            b"\x01"
        ):  # only a header does: the message is taken by its place, and numstat starts with a digit, "-" or newline
            if header is not None:
                yield header, message, stats
            header, message, stats = token[1:], next(tokens, b""), []
        elif token and len(stats) <= FILES_MAX:
            stats.append(token.removeprefix(b"\n"))
    if header is not None:
        yield header, message, stats


def _events(change: tuple[bytes, bytes, list[bytes]], line: int, now_ms: int) -> Iterator[WorkEvent | Malformed]:
    header, message, stats = change
    commit, made, landed, address = header.split(b" ", 3)
    if len(stats) > FILES_MAX:
        yield Malformed(commit, "TooManyFiles", f"change {commit.decode()[:_TASK_DIGITS]} has more than {FILES_MAX} files")
        return
    common = {
        "ts": _ms(made),
        "arrived": _ms(landed),
        "agent": agent_of(address),
        "task": commit[:_TASK_DIGITS].decode(),
    }
    files = [_numstat(s) for s in stats]
    total = {"files": len(files), "added": sum(f[0] for f in files), "removed": sum(f[1] for f in files)}
    reverted = _REVERTS.search(message)
    undoes = {"reverts": reverted[1][:_TASK_DIGITS].decode()} if reverted else {}
    yield _event({"type": "change.committed", "seq": line, **common, **total, **undoes}, now_ms)
    for number, (added, removed, name) in enumerate(files, 1):
        try:
            path = name.decode()
        except UnicodeDecodeError:
            yield Malformed(name, "BadPath", f"a path of change {common['task']} is not UTF-8")
            continue
        yield _event(
            {"type": "file.changed", "seq": line + number, **common, "path": path, "added": added, "removed": removed}, now_ms
        )


def _event(fields: dict[str, Any], now_ms: int) -> WorkEvent | Malformed:
    try:
        return from_fields(fields, now_ms=now_ms)
    except BadEvent as e:
        return Malformed(
            orjson.dumps(fields), e.error, f"change {fields['task']}: {e}"
        )  # not git's words: the address is in them


def _ms(seconds: bytes) -> int | str:
    try:
        return int(seconds) * 1000
    except ValueError:
        return seconds.decode(errors="replace")  # no whole number: the check of the fields says so


def _numstat(stat: bytes) -> tuple[int, int, bytes]:
    added, removed, name = stat.split(b"\t", 2)
    return (int(added), int(removed), name) if added != b"-" else (0, 0, name)  # "-" is a binary file: it has no lines
