"""The groups of settings, save for Kafka's own: every field with its type, its range and the reason for both.

`streams.settings.Settings` collects them; what this module says about a field is also what `antiphon settings`, the error
lines and docs/settings.md say. A field marked `live` may change while a worker runs (see `streams.live`).
"""

from __future__ import annotations

import re
import sys
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from streams.settings_kafka import PORT_MAX, Group

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BrokerSettings",
    "ClientSettings",
    "LogSettings",
    "RegistrySettings",
    "TracingSettings",
    "WorkerSettings",
    "user_directory",
]

TRANSACTION_TIMEOUT_MAX_MS = 900_000  # the broker's own limit, transaction.max.timeout.ms, unless it was changed
SESSION_TIMEOUT_MAX_S = 1_800  # the broker's own limit, group.max.session.timeout.ms, unless it was changed
PARTITIONS_MAX = 10_000  # a topic wider than this is a slip: each partition costs files on every replica
TURN_RECORDS_MAX = 100_000  # 16,000 a partition saturates a core; past this a turn outlasts its transaction timeout
HEAP_MB_MIN = 256  # a smaller heap makes Kafka 4.1 spend its time in garbage collection

_NAME = re.compile(r"^[A-Za-z0-9._-]{1,200}$")  # Kafka allows 249 characters in a topic's name; ours add a suffix
_LIVE: dict[str, Any] = {"live": True}


def user_directory(kind: Literal["data", "cache"], environment: Mapping[str, str] = environ) -> Path:
    """The user's directory for our data or cache, as the platform has it.

    Args:
        kind: "data" is to keep, "cache" may be deleted at any time.
        environment: The process environment, where XDG_DATA_HOME, XDG_CACHE_HOME and LOCALAPPDATA are honoured.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / ("Application Support" if kind == "data" else "Caches") / "antiphon"
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "antiphon" / kind
    named = environment.get("XDG_DATA_HOME" if kind == "data" else "XDG_CACHE_HOME")
    default = Path.home() / (".local/share" if kind == "data" else ".cache")
    return Path(named or default) / "antiphon"


def _split(value: object) -> object:
    """A comma-separated text as a list, for the environment; a list stays one."""
    return [part for part in re.split(r"[,\s]+", value) if part] if isinstance(value, str) else value


def _spread(value: object) -> object:
    """A leading ~ is the home directory."""
    return Path(value).expanduser() if isinstance(value, str | Path) and str(value) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Directory = Annotated[Path, BeforeValidator(_spread)]


class BrokerSettings(Group):
    """The embedded Kafka, which starts where `kafka.bootstrap_servers` is empty."""

    port: int = Field(29_092, ge=0, le=PORT_MAX, description="Port for clients, on 127.0.0.1. 0: a free one.")
    controller_port: int = Field(0, ge=0, le=PORT_MAX, description="Port of its KRaft controller. 0: a free one.")
    data_dir: Directory = Field(
        default_factory=lambda: user_directory("data") / "broker", description="Where its log is kept across restarts."
    )
    heap_mb: int = Field(512, ge=HEAP_MB_MIN, le=65_536, description="Java heap in MB; Kafka itself needs 256.")
    jars_dir: Directory = Field(
        default_factory=lambda: user_directory("cache") / "jars", description="Where Kafka's jars are cached (60 MB)."
    )
    start_timeout_s: float = Field(
        60.0, gt=0, le=600, description="How long it may take to answer; 3 s is usual, a loaded machine needs more."
    )


class RegistrySettings(Group):
    """The Schema Registry; without one the ids come from the committed catalogue."""

    url: str = Field("", description="Address, http or https. Empty: ids from the committed catalogue.")
    username: str = Field("", description="User for basic authentication.")
    password: SecretStr = Field(SecretStr(""), description="Password for basic authentication.")
    timeout_s: float = Field(10.0, gt=0, le=120, description="How long one answer may take.")

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not re.match(r"^https?://[^/@\s]+(/[^@\s]*)?$", value):
            raise ValueError("http(s)://host[:port][/path], with the user in registry.username, not in the address")
        return value.rstrip("/")


class WorkerSettings(Group):
    """A worker: its group, its turns, its tables and its web pages."""

    app_id: str = Field("antiphon", description="Application and consumer group; prefix of its own topics.")
    instance: str = Field("", description="Unique id of this worker. Empty: host and process id.")
    processors: Names = Field((), description="Processors to run, by entry point name. Empty: all that are installed.")
    partitions: int = Field(4, ge=1, le=PARTITIONS_MAX, description="Partitions of the topics that we create.")
    create_topics: bool = Field(False, description="Create missing topics at start; otherwise a missing one is an error.")
    guarantee: Literal["exactly_once", "at_least_once"] = Field(
        "exactly_once", description="at_least_once leaves out the kafka transactions: a crash may repeat a turn's outputs."
    )
    turn_records_max: int = Field(
        16_000,
        ge=1,
        le=TURN_RECORDS_MAX,
        description="The most records of a partition and turn. Slow ones come in smaller turns; at 4,000 cheap ones lose 30 %.",
        json_schema_extra=_LIVE,
    )
    transaction_timeout_ms: int = Field(
        10_000,
        ge=1_000,
        le=TRANSACTION_TIMEOUT_MAX_MS,
        description="After this the broker aborts what a dead worker left open; takeover waits for session plus this.",
    )
    session_timeout_s: float = Field(
        6.0,
        ge=1,
        le=SESSION_TIMEOUT_MAX_S,
        description="Silence after which the group takes a worker for dead. Brokers refuse less than 6 unless changed.",
    )
    heartbeat_s: float = Field(1.0, gt=0, le=600, description="Between signs of life; at most a third of the session.")
    revoke_grace_s: float = Field(
        3.0, ge=0, le=600, description="How long a running turn may finish when its partitions are taken away."
    )
    stall_after_s: float = Field(
        30.0,
        gt=0,
        le=86_400,
        description="A batch longer in a processor than this is reported, and the worker is not healthy.",
        json_schema_extra=_LIVE,
    )
    store: Literal["memory", "rocksdb"] = Field("memory", description="Where tables live; rocksdb if larger than memory.")
    state_dir: Directory = Field(
        default_factory=lambda: user_directory("data") / "state", description="Directory of the RocksDB tables."
    )
    web: bool = Field(True, description="Serve /metrics, /health and /ready.")
    web_host: str = Field("127.0.0.1", min_length=1, description="Address to serve on; 0.0.0.0 inside a container.")
    web_port: int = Field(0, ge=0, le=PORT_MAX, description="Port to serve on. 0: a free one, named in the log.")

    @field_validator("app_id")
    @classmethod
    def _legal_in_topics(cls, value: str) -> str:
        if not _NAME.match(value):
            raise ValueError("1 to 200 letters, digits, dots, underscores and dashes, because topics are named after it")
        return value


class ClientSettings(Group):
    """The client facade, `streams.connect()`."""

    request_timeout_s: float = Field(10.0, gt=0, le=3_600, description="How long a request waits for its reply.")
    delivery_timeout_s: float = Field(30.0, gt=0, le=3_600, description="How long a publish is retried before it fails.")
    linger_ms: int = Field(5, ge=0, le=10_000, description="How long a record waits for company in its batch.")
    in_flight_max: int = Field(
        10_000, ge=1, le=10_000_000, description="Records published and not yet acknowledged; publishers wait beyond it."
    )
    buffer_max: int = Field(
        1_000, ge=1, le=1_000_000, description="Deliveries fetched ahead of a subscriber; fetching pauses beyond it."
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "lz4", description="Of record batches; lz4 costs the least processor time."
    )
    coordination_topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,200}$",
        description="AGENT_COORDINATION_TOPIC_PREFIX of the coordination processor that is asked.",
    )


class LogSettings(Group):
    """What is logged and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged.", json_schema_extra=_LIVE
    )
    format: Literal["console", "json"] = Field("console", description="console for people, json for collectors.")

    @field_validator("level", "format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class TracingSettings(Group):
    """OpenTelemetry spans."""

    exporter: Literal["none", "console", "otlp"] = Field(
        "none", description="Where spans go; none makes none. otlp needs the extra antiphon[otlp]."
    )
    endpoint: str = Field(
        "", description="Traces address for otlp over http. Empty: OpenTelemetry's own environment, or localhost:4318."
    )
    service_name: str = Field("antiphon", min_length=1, description="How the spans name this service.")
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of traces begun here that are kept; a caller's decision is followed."
    )

    @field_validator("endpoint")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not re.match(r"^https?://[^/@\s]+(/[^@\s]*)?$", value):
            raise ValueError("http(s)://host[:port]/v1/traces")
        return value
