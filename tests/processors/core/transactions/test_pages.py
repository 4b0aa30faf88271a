"""Pages of old states."""

from __future__ import annotations

from processors.core.transactions.words import TableLimits
from tests.processors.core.transactions.commands import Log, commit, writes


def test_a_row_whose_old_versions_are_gone_hides_none_of_those_before_it() -> None:
    """The page ends before it, and the next one says that it is too old: who wants a row and not its neighbours has it."""
    log = Log(TableLimits(versions_max=2))
    log.take("commit", commit("both", "d/a", "d/a/child", "d/b"))
    for number in range(3):
        log.take("commit", commit(f"w{number}", writes=writes("d/a/child", value=str(number))))
    page = log.read(prefix="d/a", at_position=1)
    assert [row["key"] for row in page["rows"]] == ["d/a"]
    assert (page["more"], page["code"]) == (True, "")
    assert log.read(prefix="d/a", at_position=1, after_table="t", after_key="d/a")["code"] == "too_old"
