"""When an event of coordination happened, by its attributes and by its record."""

from __future__ import annotations

import pytest

from processors.coordinating.following import happened_ms
from processors.log_reader import LogRecord
from schemas.cloudevents import rfc3339

WRITTEN_MS, HAPPENED_MS = 1_700_000_000_050, 1_700_000_000_001


@pytest.mark.parametrize(
    ("kind", "headers", "expected"),
    [
        ("lock.granted", [("ce_time", rfc3339(HAPPENED_MS).encode())], HAPPENED_MS),
        ("lock.granted", [], WRITTEN_MS),
        ("wait.began", [("ce_time", rfc3339(HAPPENED_MS).encode())], WRITTEN_MS),
    ],
)
def test_the_processor_says_when_and_clients_do_not(kind: str, headers: list[tuple[str, bytes]], expected: int) -> None:
    """Several events of one kafka transaction have one time as records; a client's clock may be an hour off."""
    record = LogRecord("coordination.events", 0, 7, WRITTEN_MS, b"k", b"v", headers)
    assert happened_ms(record, kind) == expected
