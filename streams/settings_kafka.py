"""The settings of the way to Kafka, and what they mean to each of the two Kafka clients."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from streams.errors import SettingsError

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

__all__ = ["PORT_MAX", "Group", "KafkaSettings"]

PORT_MAX: Final = 65_535  # sixteen bits

_HOST_PORT = re.compile(r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):(\d{1,5})$")


class Group(BaseModel):
    """What every group has: it does not change, and knows no other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KafkaSettings(Group):
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
        import faust.auth

        if self.uses_sasl:
            return faust.auth.SASLCredentials(
                username=self.sasl_username,
                password=self.sasl_password.get_secret_value(),
                mechanism=self.sasl_mechanism,
                ssl_context=self.ssl_context(),
            )
        return faust.auth.SSLCredentials(context=self.ssl_context())
