"""The page on schemas is run: its example makes an event, and its table of headers is what is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Final

from schemas.catalogue import CATALOGUE, Catalogue
from schemas.cloudevents import to_headers
from schemas.events import Event
from schemas.work import FileChanged

PAGE = (Path(__file__).parents[2] / "docs" / "schemas.md").read_text(encoding="utf-8")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_example_is_a_working_event_type() -> None:
    """The ten lines run as they stand, and what they define goes over the wire and back."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    module: dict[str, Any] = {"__name__": "locks", "Event": Event, "ClassVar": ClassVar, "Final": Final}
    exec(compile(code, "docs/schemas.md", "exec"), module)
    catalogue = Catalogue()
    catalogue.register(module["LockGranted"], schema_id=1000)
    made = module["LockGranted"](resource="r", token=1)
    assert made.key() == b"r"
    assert catalogue.decode(catalogue.encode(made)) == made
    assert module["EVENTS"] == (type(made),)


def test_the_table_of_headers_is_what_is_written() -> None:
    """Every header that an event can have is in the table, and no other."""
    value = CATALOGUE.encode(FileChanged(agent="a", task="t", ts=1, arrived=2, path="p", added=3, removed=4))
    texts = dict.fromkeys(("id", "source", "subject", "tracestate", "correlation_id", "causation_id"), "x")
    event = CATALOGUE.decode(value, attributes={**texts, "time_ms": 1, "traceparent": TRACE})
    table = PAGE.split("| header |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(ce_[a-z]+|content-type)`", table)) == {name for name, _ in to_headers(event)}
