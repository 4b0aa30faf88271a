"""Logs: one form for every library, the event's ids bound, secrets covered."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from streams import logs
from streams.errors import AntiphonError, ProcessorError, StateDirFull
from streams.settings import LogSettings

SECRET = "hunter2-do-not-print"


@dataclass
class Record:
    topic: str = "agents.events"
    partition: int = 3
    offset: int = 41
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The process's logging as it was before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def configured(out: io.StringIO, **settings: Any) -> None:
    logs.configure(LogSettings(**{"format": "json", **settings}), app_id="orders", instance="w1", stream=out)


def entries(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_ours_and_the_libraries_entries_have_one_form() -> None:
    """Structlog's and the standard library's alike: time, level, logger, application, worker."""
    out = io.StringIO()
    configured(out)
    logs.get("streams.turns").info("turn committed", records=4)
    logging.getLogger("faust.app").warning("%s of %s", 1, 2)
    ours, faust = entries(out)
    assert (ours["event"], ours["records"], ours["level"], ours["logger"]) == ("turn committed", 4, "info", "streams.turns")
    assert (faust["event"], faust["level"], faust["logger"]) == ("1 of 2", "warning", "faust.app")
    for entry in (ours, faust):
        assert (entry["app"], entry["worker"]) == ("orders", "w1")
        assert entry["timestamp"].endswith("Z")


def test_the_ids_of_an_event_are_in_every_entry_while_it_is_handled() -> None:
    """Also in what a library logs meanwhile, and no longer afterwards."""
    out = io.StringIO()
    configured(out)
    record = Record(headers=[("ce_id", b"e-1"), ("ce_type", b"change.committed"), ("ce_correlationid", b"c-1"), ("other", None)])
    with logs.bind_event(record):
        logging.getLogger("a.library").error("inside")
    logging.getLogger("a.library").error("outside")
    inside, outside = entries(out)
    assert {name: inside[name] for name in ("topic", "partition", "offset", "event_id", "event_type", "correlation_id")} == {
        "topic": "agents.events",
        "partition": 3,
        "offset": 41,
        "event_id": "e-1",
        "event_type": "change.committed",
        "correlation_id": "c-1",
    }
    assert "topic" not in outside


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_covered_wherever_they_turn_up(form: str) -> None:
    """By a field's name, nested, in an address, in a librdkafka text, in a traceback; numbers named token stay."""
    out = io.StringIO()
    configured(out, format=form)
    log = logs.get("x")
    log.error("a", password=SECRET, nested={"deep": [{"api_key": SECRET}]}, typed=SecretStr(SECRET), fencing_token=42)
    text = f"cannot set sasl.password={SECRET}, https://user:{SECRET}@host/"  # as librdkafka words it
    log.error(text)
    logging.getLogger("lib").error("config %s", {"sasl.password": SECRET, "client.id": "me"})
    try:
        local = SECRET
        raise ValueError(f"password: {local}")
    except ValueError:
        log.exception("raised")
    text = out.getvalue()
    assert SECRET not in text
    assert "42" in text
    assert "me" in text
    assert "ValueError" in text


def test_a_traceback_is_part_of_its_one_json_line() -> None:
    """A collector reads lines; an entry must not spread over several."""
    out = io.StringIO()
    configured(out)
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("lib").exception("failed")
    (entry,) = entries(out)
    assert "ValueError: boom" in entry["exception"]


def test_the_level_holds_and_can_change_while_running() -> None:
    """For structlog's loggers and the library's."""
    out = io.StringIO()
    configured(out, level="warning")
    log = logs.get("streams.x")
    log.info("not yet")
    logs.set_level("debug")
    log.info("now")
    logging.getLogger("lib").debug("now too")
    assert [entry["event"] for entry in entries(out)] == ["now", "now too"]


def test_faust_keeps_our_handlers_when_it_sets_up_its_own_logging() -> None:
    """Faust's worker replaces the root's handlers by what `logging_config` says: ours."""
    from mode.utils.logging import setup_logging

    out = io.StringIO()
    config = logs.dict_config(LogSettings(format="json"), app_id="orders", stream=out)
    setup_logging(loglevel="INFO", logging_config=config)
    logging.getLogger("faust.worker").info("ready")
    (entry,) = entries(out)
    assert (entry["event"], entry["app"]) == ("ready", "orders")


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_error_that_is_no_bug_is_told_without_a_trace(form: str) -> None:
    """A full disk is one line that says what to do, whoever logs it; a bug keeps its trace."""
    for error, traced in ((StateDirFull("/srv/state"), False), (ProcessorError("no such processor"), True)):
        for name in ("structlog", "logging"):
            out = io.StringIO()
            configured(out, format=form)
            logger: Any = logs.get("streams.turns") if name == "structlog" else logging.getLogger("mode.services")
            try:
                raise error
            except AntiphonError:
                logger.exception("crashed")
            assert ("Traceback" in out.getvalue()) is traced, name
            assert str(error) in out.getvalue(), name
            if not traced:
                assert out.getvalue().count("\n") == 1, name
