"""Options of the work-history processors: from the environment, checked, each mistake one line."""

from __future__ import annotations

import pytest

from processors.core.activity import Windows
from processors.core.overlap import Limits
from processors.options import WorkOptions
from streams.errors import SettingsError


def test_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable arrives where it belongs; without any, the defaults hold."""
    assert (WorkOptions.load().windows, WorkOptions.load().limits) == (Windows(), Limits())
    for name, value in {"TOPIC_PREFIX": "p.", "WINDOW_MS": "10", "LATENESS_MS": "5", "CHANGES_MAX": "7", "REACH_MS": "9"}.items():
        monkeypatch.setenv(f"AGENT_WORK_{name}", value)
    options = WorkOptions.load()
    assert options.topic("x") == "p.x"
    assert options.windows == Windows(size_ms=10, lateness_ms=5)
    assert options.limits == Limits(changes_max=7, reach_ms=9)


@pytest.mark.parametrize(
    ("name", "value"),
    [("WINDOW_MS", "0"), ("WINDOW_MS", "x"), ("CHANGES_MAX", "5000"), ("REACH_MS", "-1"), ("TOPIC_PREFIX", "a b")],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """What is not allowed is one line with the name and the value."""
    monkeypatch.setenv(f"AGENT_WORK_{name}", value)
    with pytest.raises(SettingsError, match=rf"AGENT_WORK_.*{value}") as caught:
        WorkOptions.load()
    assert "\n" not in str(caught.value)
