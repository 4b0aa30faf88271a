"""The groups of settings: every field with its type, its range and the reason for both.

`streams.settings.Settings` collects them; what this module says about a field is also what `antiphon settings`, the error
lines and docs/settings.md say. A field marked `live` may change while a worker runs (see `streams.live`).
"""

from __future__ import annotations

import re
import ssl
import sys
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from streams.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faust.types.auth import CredentialsT

__all__ = [
    "BrokerSettings",
    "ClientSettings",
    "KafkaSettings",
    "LogSettings",
    "RegistrySettings",
    "TracingSettings",
    "WorkerSettings",
    "user_directory",
]

PORT_MAX = 65_535  # sixteen bits
TRANSACTION_TIMEOUT_MAX_MS = 900_000  # the broker's own limit, transaction.max.timeout.ms, unless it was changed
SESSION_TIMEOUT_MAX_S = 1_800  # the broker's own limit, group.max.session.timeout.ms, unless it was changed
PARTITIONS_MAX = 10_000  # a topic wider than this is a slip: each partition costs files on every replica
TURN_RECORDS_MAX = 100_000  # 4,000 a partition saturates a core; past this a turn outlasts its transaction timeout
HEAP_MB_MIN = 256  # a smaller heap makes Kafka 4.1 spend its time in garbage collection

_HOST_PORT = re.compile(r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):(\d{1,5})$")
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


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KafkaSettings(_Group):
    """Which Kafka to use, and how to get in."""

    bootstrap_servers: str = Field("", description="Brokers as host:port, separated by commas. Empty: the embedded Kafka.")
    client_id: str = Field("antiphon", min_length=1, description="Name under which the broker's logs and quotas see us.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How connections are protected and who proves what."
    )
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="How the user is proven; needed by the SASL protocols."
    )
    sasl_username: str = Field("", description="User for SASL.")
    sasl_password: SecretStr = Field(SecretStr(""), description="Password for SASL.")
    ssl_ca_location: str = Field("", description="File of the authorities to trust (PEM). Empty: the system's.")
    ssl_certificate_location: str = Field("", description="File of our own certificate (PEM), for mutual TLS.")
    ssl_key_location: str = Field("", description="File of the certificate's private key (PEM).")
    ssl_key_password: SecretStr = Field(SecretStr(""), description="Password of the private key, if it has one.")
    ssl_check_hostname: bool = Field(
        True, description="Refuse a broker whose certificate names another host. Off only in a test bed."
    )
    replication_factor: int = Field(
        1, ge=1, le=15, description="Copies of each topic that we create. 3 wherever there are three brokers."
    )
    connect_timeout_s: float = Field(
        10.0, gt=0, le=300, description="How long a command or a starting worker looks for a broker before it gives up."
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _hosts(cls, value: str) -> str:
        parts = [part.strip() for part in value.split(",") if part.strip()]
        for part in parts:
            found = _HOST_PORT.match(part)
            if not found or not 0 < int(found[2]) <= PORT_MAX:
                raise ValueError("host:port[,host:port...], such as kafka-1:9092,kafka-2:9092 or [::1]:9092")
        return ",".join(parts)

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether a user is proven by SASL."""
        return self.security_protocol.startswith("SASL")

    def client_config(self, bootstrap_servers: str = "") -> dict[str, Any]:
        """What every confluent-kafka client of ours is made with.

        Args:
            bootstrap_servers: The resolved brokers, for the embedded Kafka; empty: the configured ones.

        Returns:
            A fresh dict in librdkafka's words. It holds passwords in clear: never print it.
        """
        config: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers or self.bootstrap_servers,
            "client.id": self.client_id,
        }
        if self.security_protocol != "PLAINTEXT":
            config["security.protocol"] = self.security_protocol
        if self.uses_sasl:
            config["sasl.mechanism"] = self.sasl_mechanism
            config["sasl.username"] = self.sasl_username
            config["sasl.password"] = self.sasl_password.get_secret_value()
        if self.uses_tls:
            files = {
                "ssl.ca.location": self.ssl_ca_location,
                "ssl.certificate.location": self.ssl_certificate_location,
                "ssl.key.location": self.ssl_key_location,
                "ssl.key.password": self.ssl_key_password.get_secret_value(),
            }
            config |= {name: value for name, value in files.items() if value}
            config["ssl.endpoint.identification.algorithm"] = "https" if self.ssl_check_hostname else "none"
        return config

    def faust_broker(self, bootstrap_servers: str = "") -> str:
        """The brokers as Faust's `broker` argument.

        Args:
            bootstrap_servers: The resolved brokers; empty: the configured ones.
        """
        return ";".join(f"kafka://{one}" for one in (bootstrap_servers or self.bootstrap_servers).split(","))

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context for Faust's aiokafka clients; None without TLS.

        Raises:
            SettingsError: A file is missing, not PEM, or the key's password is wrong.
        """
        if not self.uses_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_location or None)
            if self.ssl_certificate_location:
                context.load_cert_chain(
                    self.ssl_certificate_location,
                    self.ssl_key_location or None,
                    # A callable, because None would make OpenSSL ask on the terminal.
                    password=self.ssl_key_password.get_secret_value,
                )
        except (OSError, ssl.SSLError) as fault:
            raise SettingsError(
                f"kafka.ssl_*: the TLS files cannot be used ({type(fault).__name__}: {fault}); "
                "check that ca, certificate and key are PEM, belong together, and that kafka.ssl_key_password is right"
            ) from fault
        context.check_hostname = self.ssl_check_hostname
        return context

    def faust_credentials(self) -> CredentialsT | None:
        """The same way in for Faust's `broker_credentials`; None when connections are plain.

        Raises:
            SettingsError: As `ssl_context`.
        """
        if self.security_protocol == "PLAINTEXT":
            return None
        import faust.auth  # noqa: PLC0415 - importing faust costs half a second that a check of settings need not pay

        if self.uses_sasl:
            return faust.auth.SASLCredentials(
                username=self.sasl_username,
                password=self.sasl_password.get_secret_value(),
                mechanism=self.sasl_mechanism,
                ssl_context=self.ssl_context(),
            )
        return faust.auth.SSLCredentials(context=self.ssl_context())


class BrokerSettings(_Group):
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


class RegistrySettings(_Group):
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


class WorkerSettings(_Group):
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
        4_000,
        ge=1,
        le=TURN_RECORDS_MAX,
        description="Records a partition and turn. 1,000 halves the rate; more than 4,000 gains nothing, and waits longer.",
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


class ClientSettings(_Group):
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


class LogSettings(_Group):
    """What is logged and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged.", json_schema_extra=_LIVE
    )
    format: Literal["console", "json"] = Field("console", description="console for people, json for collectors.")

    @field_validator("level", "format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class TracingSettings(_Group):
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
