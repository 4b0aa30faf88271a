"""Logs: structlog for ours and for what Faust, mode, aiokafka and librdkafka log through the standard library.

One line an entry, as JSON or for a console, on standard error (standard output belongs to ``--json``). Every entry carries
the application, the worker and whatever `bind_event` or `bind` put around it: topic, partition and offset of a record, its
event's id, type and correlation. Passwords are covered wherever they turn up: by the name of a field, inside an address, and
in a text such as librdkafka's ``sasl.password=...``. An error of ours that is no bug is told in its own line, without a trace.
"""

from __future__ import annotations

import logging
import logging.config
import re
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from pydantic import SecretStr

from streams.errors import AntiphonError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from contextlib import AbstractContextManager
    from typing import TextIO

    from structlog.typing import Processor

    from streams.settings import LogSettings

__all__ = ["REDACTED", "LoggedRecord", "bind", "bind_event", "configure", "dict_config", "get", "redact", "set_level"]

REDACTED: Final = "***"
REDACT_DEPTH_MAX: Final = 4  # levels of nested values looked into; a log entry is not a document

# No bare "token": a fencing token is a number that an operator needs to read.
_SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|secret|authorization|credential|api[-_.]?key|private[-_.]?key|(access|auth|refresh|bearer)[-_.]?token)",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"(?i)\b([\w.-]*(?:password|passwd|passphrase|secret|api[-_.]?key|(?:access|auth|refresh|bearer)[-_.]?token))"
    r"(['\"]?\s*[=:]\s*['\"]?)(?!SecretStr)([^\s'\",;&]+)"
)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")

# The libraries' own talk that is no news at our level: one line a request, a poll or a commit.
_QUIET: Final[Mapping[str, str]] = {"aiohttp.access": "WARNING", "asyncio": "WARNING", "aiokafka": "WARNING"}

_HEADERS: Final[Mapping[str, str]] = {
    "ce_id": "event_id",
    "ce_type": "event_type",
    "ce_correlationid": "correlation_id",
    "ce_causationid": "causation_id",
}


class LoggedRecord(Protocol):
    """What a log entry takes from a record; aiokafka's has it."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def offset(self) -> int:
        """Its offset."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Its headers."""


def get(name: str = "antiphon") -> structlog.stdlib.BoundLogger:
    """A logger that takes fields: ``log.info("turn committed", records=4000)``.

    Args:
        name: As in the standard library; its level and handlers apply.
    """
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def bind(**fields: object) -> AbstractContextManager[None]:
    """Puts fields into every entry logged inside the block, in this task and those it starts.

    Args:
        **fields: Names and values.
    """
    return structlog.contextvars.bound_contextvars(**fields)


def bind_event(record: LoggedRecord) -> AbstractContextManager[None]:
    """Puts a record's place and its event's ids into every entry logged inside the block.

    Args:
        record: An aiokafka record, or one like it.
    """
    fields: dict[str, object] = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    for name, value in record.headers or ():
        field = _HEADERS.get(name)
        if field and value:
            fields[field] = value.decode("utf-8", "replace")
    return bind(**fields)


def redact(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that covers secrets; see the module for what it takes for one."""
    for name, value in entry.items():
        entry[name] = _covered(name, value, 0)
    return entry


def _covered(name: str, value: object, depth: int) -> object:
    if isinstance(value, SecretStr) or (value and not isinstance(value, int | float) and _SECRET_NAME.search(name)):
        return REDACTED
    if isinstance(value, str):
        return _SECRET_TEXT.sub(rf"\1\2{REDACTED}", _USERINFO.sub(REDACTED, value))
    if depth < REDACT_DEPTH_MAX:
        if isinstance(value, dict):
            return {key: _covered(str(key), one, depth + 1) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [_covered("", one, depth + 1) for one in value]
    return value


def _in_one_line(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Words in place of the trace where they say all: a full disk is not found by reading our code."""
    given = entry.get("exc_info")
    found = sys.exc_info() if given is True else given
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, AntiphonError) and error.fault != "bug":
        del entry["exc_info"]
        entry["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return entry


def _shared(identity: Mapping[str, str]) -> list[Processor]:
    """What happens to every entry, whoever logged it."""

    def identify(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in identity.items():
            entry.setdefault(name, value)
        return entry

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.UnicodeDecoder(),
        identify,
        _in_one_line,
    ]


def dict_config(settings: LogSettings, *, app_id: str = "", instance: str = "", stream: TextIO | None = None) -> dict[str, Any]:
    """The configuration as `logging.config.dictConfig` takes it: Faust's ``logging_config``.

    Without it, Faust's worker puts its own handlers in the place of ours when it starts.

    Args:
        settings: Level and format.
        app_id: The application, in every entry; empty: left out.
        instance: The worker, in every entry; empty: left out.
        stream: Where to; None: standard error.
    """
    out = stream or sys.stderr
    shared = _shared({name: value for name, value in (("app", app_id), ("worker", instance)) if value})
    # Plain tracebacks in both: the prettier ones print local variables, and with them passwords.
    renderer: list[Processor] = (
        [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer(default=str)]
        if settings.format == "json"
        else [
            redact,
            structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=_plain_traceback),
        ]
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [*shared, structlog.stdlib.ExtraAdder()],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"antiphon": formatter},
        "handlers": {"antiphon": {"class": "logging.StreamHandler", "stream": out, "formatter": "antiphon"}},
        "root": {"level": settings.level.upper(), "handlers": ["antiphon"]},
        "loggers": {name: {"level": level} for name, level in _QUIET.items() if settings.level != "debug"},
    }


def _plain_traceback(out: TextIO, exc_info: Any) -> None:  # noqa: ANN401 - structlog's own type is private
    text = structlog.processors.format_exc_info(None, "", {"exc_info": exc_info})["exception"]
    out.write("\n" + str(_covered("", text, 0)))


def configure(settings: LogSettings, *, app_id: str = "", instance: str = "", stream: TextIO | None = None) -> None:
    """Sets structlog and the standard library's logging up; a second call replaces the first.

    Args:
        settings: Level and format.
        app_id: The application, in every entry; empty: left out.
        instance: The worker, in every entry; empty: left out.
        stream: Where to; None: standard error.
    """
    identity = {name: value for name, value in (("app", app_id), ("worker", instance)) if value}
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(identity),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # loggers made at import must follow a later configure
    )
    logging.config.dictConfig(dict_config(settings, app_id=app_id, instance=instance, stream=stream))


def set_level(level: str) -> None:
    """Changes the level while running.

    Args:
        level: "debug", "info", "warning" or "error".
    """
    logging.getLogger().setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else quiet)
