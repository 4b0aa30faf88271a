"""Options of the transactions processor: from the environment, checked, each mistake one line."""

from __future__ import annotations

import pytest

from processors.core.transactions.words import TableLimits
from processors.transactions import TransactionOptions
from streams.errors import SettingsError

MERGES = {"sums": lambda base, theirs, mine: theirs + mine - (base or 0)}
NOT_MERGES = {"sums": 1}


def test_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable arrives where it belongs; without any, the defaults hold."""
    assert TransactionOptions.environment().merges is None
    assert TransactionOptions.environment().keys_max == TableLimits().keys_max
    given = {"TOPIC_PREFIX": "p.", "MERGES": f"{__name__}:MERGES", "KEYS_MAX": "9", "VERSIONS_MAX": "3", "HORIZON_MS": "5000"}
    for name, value in given.items():
        monkeypatch.setenv(f"AGENT_TABLES_{name}", value)
    options = TransactionOptions.environment()
    assert options.topic("x") == "p.x"
    assert options.merges is not None
    assert options.merges["sums"](1, 5, 3) == 7
    assert (options.keys_max, options.versions_max, options.horizon_ms) == (9, 3, 5_000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYS_MAX", "0"),
        ("VERSIONS_MAX", "many"),
        ("HORIZON_MS", "-1"),
        ("TOPIC_PREFIX", "a b"),
        ("MERGES", "no.such.module:MERGES"),
        ("MERGES", f"{__name__}:NOT_MERGES"),
        ("MERGES", f"{__name__}:MISSING"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """What is not allowed is one line with the name and the value."""
    monkeypatch.setenv(f"AGENT_TABLES_{name}", value)
    with pytest.raises(SettingsError, match=f"AGENT_TABLES_{name}") as caught:
        TransactionOptions.environment()
    assert "\n" not in str(caught.value)
