"""The report: what it reads from the tables, when it is good, and its three forms."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import orjson
from rich.console import Console

from processors.proof import Comparison
from processors.report import Check, Report, findings, show, write
from processors.report_patterns import PatternLine, Sighting

ROW = {"changes": 2, "reverts": 0, "files": 5, "added": 1, "removed": 1, "first_ms": 5, "last_ms": 6, "late": 1, "closed": True}
LATE_ONLY = {**ROW, "changes": 0, "files": 0, "first_ms": None, "last_ms": None}
FILE = {
    "changes": [[1, 1, "a", "t"], [2, 0, "b", "u"]],
    "found": 1,
    "repeated": 1,
    "forgotten": 3,
    "forgotten_until": 0,
    "uncertain": 0,
}


def full_report() -> Report:
    """Return a good report about two agents and a file whose name is markup in both languages."""
    report = Report(history="h<&[red]", workers=2, partitions=4, read=10, produced=9, dead_letters={"Bad[/]Json": 1})
    report.findings = findings(
        {(0, "a|b|0"): ROW, (1, "c|86400000"): LATE_ONLY, (0, "clock~"): {}, (0, "0/0~"): {}},
        {(0, "<p>&[bold]"): FILE, (0, "quiet"): {**FILE, "found": 0}},
    )
    report.checks = [Check("one = one", 1, 1)]
    report.replay = [Comparison("activity", 2, equal=True)]
    report.versions = {"thrash": 7}
    seen = Sighting("src/<p>&[bold]", ("ann[red]", "bob"), 86_400_000, 90_000)
    report.patterns = [
        PatternLine("thrash", "in <turn>", "path", 7, 3, 1, 2, [seen], [("q[/]", 3)], [1, 2, 86_400_000], equal=True)
    ]
    return report


def test_findings_are_read_from_the_rows() -> None:
    """Bookkeeping rows do not count, agents may hold the separator, a row of late events only is no closed window."""
    found = full_report().findings
    assert found is not None
    assert (found.events, found.agents, found.windows, found.windows_closed, found.late) == (9, 2, 2, 1, 2)
    assert (found.files, found.changes, found.overlaps, found.contended) == (2, 12, 1, 1)
    assert list(found.busiest) == [("a|b", 8, 2), ("c", 1, 0)]
    assert [(f.path, f.overlaps, f.changes) for f in found.most_contended] == [("<p>&[bold]", 1, 5)]
    assert found.per_year == {1970: 9}


def test_good_means_accounted_for_and_equal() -> None:
    """One check that differs, one unequal table or pattern, or nothing checked at all: not good."""
    report = full_report()
    assert report.good
    report.checks.append(Check("a = b", 1, 2))
    assert not report.good
    report = full_report()
    report.replay.append(Comparison("overlap", 1, equal=False, difference="key [x]"))
    assert not report.good
    assert not Report(history="h", workers=1, partitions=1).good
    report = full_report()
    report.patterns = [replace(report.patterns[0], equal=False, difference="one [more]")]
    assert not report.good
    written = io.StringIO()
    show(report, Console(file=written, width=200))
    assert "pattern thrash offline: 3 matches, NOT EQUAL: one [more]" in written.getvalue()
    report.patterns = []  # published, and nothing was compared
    assert not report.good


def test_all_forms_survive_names_that_look_like_markup(tmp_path: Path) -> None:
    """Text, JSON and SVG show names from outside as they are."""
    report = full_report()
    written = io.StringIO()
    show(report, Console(file=written, width=200))
    for words in ("h<&[red]", "Bad[/]Json", "<p>&[bold]", "ann[red], bob", "1 min 30 s", "q[/]", "all good"):
        assert words in written.getvalue()
    document, picture = write(report, tmp_path / "new")
    assert orjson.loads(document.read_bytes())["accounted"] is True
    assert "<p>&[bold]" in "".join(ET.parse(picture).getroot().itertext())


def test_a_difference_is_shown() -> None:
    """What failed stands in the text with its numbers and places."""
    report = full_report()
    report.checks.append(Check("in = out", 5, 4))
    report.replay.append(Comparison("overlap", 1, equal=False, difference="partition 0, key [x]"))
    written = io.StringIO()
    show(report, Console(file=written, width=200))
    for words in ("NOT accounted for", "DIFFERS", "NOT EQUAL: partition 0, key [x]", "failed"):
        assert words in written.getvalue()
