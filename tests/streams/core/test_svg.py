"""Text and numbers of pictures."""

from __future__ import annotations

import pytest

from streams.core.svg import MONO, TEXT, Canvas, duration, shorten, wrap


@pytest.mark.parametrize(
    ("ms", "text"),
    [(1, "1 ms"), (999, "999 ms"), (1500, "1.5 s"), (60_000, "1 min"), (90_000, "1 min 30 s"), (5_400_000, "1 h 30 min"),
     (86_400_000, "1 d"), (60_001, "1 min 1 ms")],
)  # fmt: skip
def test_times_are_told_as_people_do(ms: int, text: str) -> None:
    """A time is exact, in the largest units that it has."""
    assert duration(ms) == text


def test_text_is_cut_to_its_width() -> None:
    """Lines are no wider than asked, words are kept whole if possible, and what is left out is three dots."""
    assert shorten("short", TEXT, 100) == "short"
    cut = shorten("a long sentence that has no room", TEXT, 100)
    assert cut.endswith("…")
    assert TEXT.width(cut) <= 100
    lines = wrap("one two three " + "x" * 60 + " 語語語語語語語語語語語語", MONO, 120, 9)
    assert lines[0] == "one two three"
    assert all(MONO.width(line) <= 120 for line in lines)
    assert wrap("one two three four", MONO, 60, 2)[-1].endswith("…")


def test_there_is_no_negative_zero() -> None:
    """Coordinates have one spelling."""
    canvas = Canvas()
    canvas.dot(-0.04, 2.0, 1.25, "rim")
    assert 'cx="0" cy="2" r="1.2"' in canvas.svg(10, 10, "", "")
