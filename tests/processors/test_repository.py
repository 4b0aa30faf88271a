"""Reading a git repository as a history, on real repositories made for the test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from processors.history import Entry, HistoryError, Malformed
from processors.repository import agent_of, read_repository
from schemas.work import ChangeCommitted, FileChanged

NOW_MS = 1_800_000_000_000


class Repository:
    """A git repository with commits at given times."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str, author: str = "Ann", made: int = 1_000_000_000, landed: int = 1_000_000_000) -> str:
        names = {
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", author), ("EMAIL", f"{author}@x.org"))
        }
        dates = {"GIT_AUTHOR_DATE": f"{made} +0200", "GIT_COMMITTER_DATE": f"{landed} -0700"}
        clean = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(
            ["git", "-C", str(self.path), *words], env={**os.environ, **names, **dates, **clean}, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    def commit(
        self, message: str, files: dict[str, bytes], author: str = "Ann", made: int = 1_000_000_000, landed: int = 1_000_000_000
    ) -> str:
        for name, content in files.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        self.git("add", "-A")
        self.git(
            "commit",
            "-q",
            "--allow-empty",
            "--allow-empty-message",
            "--cleanup=verbatim",
            "-m",
            message,
            author=author,
            made=made,
            landed=landed,
        )
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


def read(repository: Repository) -> list[Entry]:
    return list(read_repository(repository.path, now_ms=NOW_MS))


def test_commits_become_changes_and_files(repository: Repository) -> None:
    """Each commit is a change with its totals, then its files: times in ms, hashed author, odd paths, binary files too."""
    first = repository.commit("one", {"a b/ü\n.txt": b"1\n2\n", "bin": b"\0\1"}, made=1_000_000_000, landed=1_000_000_100)
    second = repository.commit("\x01two\n\n1\t2\tthree", {"bin": b"\0\2", "c": b"x\n"}, author="Bob")
    events = [e.event for e in read(repository)]
    assert [e.line for e in read(repository)] == [1, 2, 3, 4, 5, 6]
    one, ann = events[0], agent_of(b"ann@X.org")
    assert one == ChangeCommitted(
        agent=ann,
        task=first[:12],
        ts=1_000_000_000_000,
        arrived=1_000_000_100_000,
        files=2,
        added=2,
        removed=0,
        reverts=None,
        seq=0,
    )
    assert [(e.path, e.added, e.removed) for e in events if isinstance(e, FileChanged) and e.task == first[:12]] == [
        ("a b/ü\n.txt", 2, 0),
        ("bin", 0, 0),
    ]
    assert {e.task for e in events[3:] if not isinstance(e, Malformed)} == {second[:12]}
    assert len({e.agent for e in events if not isinstance(e, Malformed)}) == 2
    assert [e.seq for e in events if not isinstance(e, Malformed)] == [0, 1, 2, 3, 4, 5]


def test_finds_reverts_and_leaves_merges_out(repository: Repository) -> None:
    """A revert names what it undoes; a merge commit is no change of its own, an empty commit is one without files."""
    undone = repository.commit("bad idea", {"a": b"1\n"})
    repository.git("revert", "--no-edit", "HEAD")
    repository.git("checkout", "-q", "-b", "side", "HEAD~1")
    repository.commit("side", {"s": b"s\n"})
    repository.git("checkout", "-q", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    repository.commit("", {})
    changes = [e.event for e in read(repository) if isinstance(e.event, ChangeCommitted)]
    assert [c.reverts for c in changes if c.reverts] == [undone[:12]]
    assert sorted(c.files for c in changes) == [0, 1, 1, 1]


def test_what_is_no_event_becomes_a_malformed_entry(repository: Repository) -> None:
    """A commit of the far future and a path that is not UTF-8 are set aside, with a reason and without an address."""
    repository.commit("ok", {"a": b"1\n"})
    (Path(os.fsdecode(os.fsencode(repository.path) + b"/\xff"))).write_bytes(b"x\n")
    repository.commit("path", {"b": b"1\n"})
    repository.commit("future", {"c": b"1\n"}, made=4_000_000_000)
    malformed = [e.event for e in read(repository) if isinstance(e.event, Malformed)]
    assert [m.error for m in malformed] == ["BadPath", "InTheFuture", "InTheFuture"]
    assert not any(b"@" in m.raw or "@" in m.reason for m in malformed)
    assert sum(not isinstance(e.event, Malformed) for e in read(repository)) == 4


def test_settings_of_the_repository_start_no_program(repository: Repository, tmp_path: Path) -> None:
    """Reading a repository runs nothing that its configuration or attributes name."""
    trap = tmp_path / "trap"
    for name in ("diff.external", "core.fsmonitor", "gpg.program", "diff.x.textconv", "diff.x.command", "core.pager"):
        repository.git("config", name, f"touch {trap}; false")
    repository.git("config", "log.showSignature", "true")
    (repository.path / ".git" / "info" / "attributes").write_text("* diff=x\n")
    env_before = repository.git("config", "--list")
    assert "fsmonitor" in env_before
    trap.unlink(missing_ok=True)
    subprocess.run(
        ["git", "-C", str(repository.path), "-c", "core.fsmonitor=false", "add", "-A"],
        check=True,
        env={**os.environ, "GIT_CONFIG_NOSYSTEM": "1"},
    )
    (repository.path / "a").write_bytes(b"1\n")
    git = ["git", "-C", str(repository.path), "-c", "core.fsmonitor=false", "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run([*git, "add", "a"], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    trap.unlink(missing_ok=True)
    assert [type(e.event) for e in read(repository)] == [ChangeCommitted, FileChanged]
    assert not trap.exists()


def test_progress_and_an_early_end(repository: Repository) -> None:
    """Progress is the part of the changes read; a reader that stops early leaves no git behind."""
    for n in range(4):
        repository.commit(str(n), {"a": b"x\n" * n})
    told: list[float] = []
    list(read_repository(repository.path, now_ms=NOW_MS, on_progress=told.append))
    assert told == [0.25, 0.5, 0.75, 1.0]
    entries = read_repository(repository.path, now_ms=NOW_MS)
    next(entries)
    entries.close()  # type: ignore[attr-defined]


def test_what_is_no_repository_is_one_clear_line(tmp_path: Path) -> None:
    """A missing path, a plain directory and a repository without a commit each say so."""
    Repository(tmp_path / "new")
    (tmp_path / "plain").mkdir()
    for name, words in (("no", "no such directory"), ("plain", "no git repository"), ("new", "no commit")):
        with pytest.raises(HistoryError, match=words) as caught:
            list(read_repository(tmp_path / name, now_ms=NOW_MS))
        assert "\n" not in str(caught.value)
