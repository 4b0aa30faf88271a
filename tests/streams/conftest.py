"""The command line as a test calls it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from streams.broker import EmbeddedBroker
from streams.cli import commands as command_line

Answer = tuple[int, str, str]
Run = Callable[..., Answer]


@pytest.fixture
def run(kafka: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line against the session's broker: exit code, output, errors."""
    monkeypatch.setenv("ANTIPHON_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["antiphon", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call
