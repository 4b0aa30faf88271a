"""The configuration of the embedded broker: one KRaft node that is broker and controller, for one machine.

Every setting that differs from Kafka's default has its reason beside it. Nothing listens on anything but 127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["HOST", "Listener", "log4j_properties", "server_properties"]

HOST = "127.0.0.1"
"""An embedded broker is for this machine only; its default listener asks for no credentials."""

SETTINGS: Mapping[str, str] = {
    # One node: nothing can have a second replica.
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Kafka's 50 partitions each make a first start slow and a data directory of hundreds of files; 4 serve a machine's workers.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # A group of one machine gains nothing by waiting three seconds for more members.
    "group.initial.rebalance.delay.ms": "0",
    # Workers ask for short sessions so that a dead one is replaced soon; Kafka's floor is 6 s.
    "group.min.session.timeout.ms": "1000",
    # A mistyped name is an error, not an empty topic with the wrong number of partitions.
    "auto.create.topics.enable": "false",
    "num.partitions": "4",
    # The log is the state of everything (replay, rebuild), and records may carry times of years ago: nothing
    # expires by age, and no segment rolls because neighbouring records are years apart (100 years in ms, which no sum overflows).
    "log.retention.ms": "-1",
    "log.roll.ms": "3153600000000",
    # A killed worker's open kafka transaction holds back read-committed readers until it is aborted: look every second, not ten.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # 15 minutes, Kafka's default, stated because the settings of workers are checked against it.
    "transaction.max.timeout.ms": "900000",
    # After a crash the controller waits out the dead incarnation's session before it takes the new one.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # 128 MB of Kafka's default is a quarter of the heap; 16 MB dedupe 700,000 keys a pass.
    "log.cleaner.dedupe.buffer.size": "16777216",
    # Threads for the few connections of one machine.
    "num.network.threads": "2",
    "num.io.threads": "4",
}


@dataclass(frozen=True, slots=True)
class Listener:
    """One more way into the broker, beside the plain one.

    Attributes:
        name: capital letters; names the listener in :meth:`streams.broker.EmbeddedBroker.address`.
        protocol: Kafka's security protocol, e.g. ``SASL_PLAINTEXT``.
        port: 0 for a free one.
        advertised: what clients of this listener are told to connect to (a proxy's ``host:port``); the listener itself if empty.
        users: user to password, for SASL/PLAIN.
        properties: more settings, each put under ``listener.name.<name>.``.
    """

    name: str
    protocol: str = "PLAINTEXT"
    port: int = 0
    advertised: str = ""
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)

    def settings(self) -> dict[str, str]:
        """What this listener adds to ``server.properties`` beside its address."""
        prefix = f"listener.name.{self.name.lower()}."
        settings = {prefix + key: value for key, value in self.properties.items()}
        if self.users:
            users = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
            module = "org.apache.kafka.common.security.plain.PlainLoginModule"
            settings[f"{prefix}sasl.enabled.mechanisms"] = "PLAIN"
            settings[f"{prefix}plain.sasl.jaas.config"] = f"{module} required {users};"
        return settings


def server_properties(
    *, log_dir: Path, port: int, controller_port: int, listeners: Sequence[Listener] = (), extra: Mapping[str, str] | None = None
) -> str:
    """The text of ``server.properties``.

    Args:
        log_dir: where the topics are.
        port: of the plain listener.
        controller_port: of the controller's, which only the broker itself uses.
        listeners: more ways in; each has its port by now.
        extra: Kafka settings that win over ours.
    """
    addresses = [("PLAINTEXT", "PLAINTEXT", port, ""), *((one.name, one.protocol, one.port, one.advertised) for one in listeners)]
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listeners": ",".join(
            [*(f"{name}://{HOST}:{at}" for name, _, at, _ in addresses), f"CONTROLLER://{HOST}:{controller_port}"]
        ),
        "advertised.listeners": ",".join(f"{name}://{told or f'{HOST}:{at}'}" for name, _, at, told in addresses),
        "listener.security.protocol.map": ",".join(
            ["CONTROLLER:PLAINTEXT", *(f"{name}:{protocol}" for name, protocol, _, _ in addresses)]
        ),
        "log.dirs": str(log_dir),
        **SETTINGS,
    }
    for listener in listeners:
        settings |= listener.settings()
    settings |= extra or {}
    return "".join(f"{key}={_escaped(value)}\n" for key, value in settings.items())


def log4j_properties(log_file: Path) -> str:
    """Logging into one file that is rotated at 10 MB, three old ones kept: 40 MB at most."""
    return f"""\
status = error
name = embedded
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log_file}
appender.file.filePattern = {log_file}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}} %p %m (%c)%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
logger.state.name = state.change.logger
logger.state.level = warn
logger.configs.name = org.apache.kafka.common.config.AbstractConfig
logger.configs.level = warn
"""


def _escaped(value: str) -> str:
    """As ``java.util.Properties`` reads it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")
