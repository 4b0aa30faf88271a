"""What landed: one piece of work gives its landings, with the time at which it landed."""

from __future__ import annotations

from processors.core.landings import landings
from schemas.fleet import ChangeLanded, ChangeReverted, FileLanded
from schemas.work import ChangeCommitted, FileChanged


def test_a_change_lands_when_it_arrived() -> None:
    """The time of a landing is that of its arrival; when it was begun is kept."""
    (landed,) = landings(ChangeCommitted(agent="a", task="t", ts=5, arrived=9, files=2, added=1, removed=0), id="n", source="/s")
    assert landed == ChangeLanded(id="n-landed", source="/s", time_ms=9, task="t", agent="a", ts=9, begun=5, files=2)


def test_a_revert_is_said_of_the_change_that_it_takes_back() -> None:
    """A change that reverts another lands as well, and says so under the other's task, by which the two are found together."""
    change = ChangeCommitted(agent="b", task="u", ts=5, arrived=9, files=2, added=1, removed=0, reverts="t")
    landed, reverted = landings(change)
    assert (landed.key(), reverted.key()) == (b"u", b"t")
    assert isinstance(reverted, ChangeReverted)
    assert (reverted.agent, reverted.by_task, reverted.ts) == ("b", "u", 9)
    assert landed.id != reverted.id


def test_a_file_lands_under_its_path() -> None:
    """A changed file is keyed by its path."""
    (landed,) = landings(FileChanged(agent="a", task="t", ts=5, arrived=9, path="p", added=1, removed=0))
    assert isinstance(landed, FileLanded)
    assert (landed.key(), landed.ts, landed.begun) == (b"p", 9, 5)
