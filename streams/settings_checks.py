"""Settings that are fine alone and wrong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, SecretStr

from streams.settings_words import env_name, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.settings import Settings
    from streams.settings_groups import WorkerSettings
    from streams.settings_kafka import KafkaSettings

__all__ = ["disagreements"]

HEARTBEATS_PER_SESSION_MIN = 3  # so that two may be lost, as Kafka's own documentation advises

Refusal = tuple[str, str]
"""A setting's name within its group, and what is allowed instead."""


def disagreements(settings: Settings) -> list[str]:
    """One line for each setting that contradicts another one.

    Args:
        settings: Settings whose fields are each valid.
    """
    return [
        *_lines("kafka", settings.kafka, _kafka(settings.kafka)),
        *_lines("registry", settings.registry, _registry(settings)),
        *_lines("worker", settings.worker, _worker(settings.worker)),
        *_lines("tracing", settings.tracing, _tracing(settings)),
    ]


def _lines(group: str, model: BaseModel, refusals: Iterator[Refusal]) -> Iterator[str]:
    for name, words in refusals:
        value = shown(type(model).model_fields[name], getattr(model, name))
        yield f"{group}.{name} ({env_name(group, name)}) = {value!r}: {words}"


def _is_set(value: object) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)


def _kafka(kafka: KafkaSettings) -> Iterator[Refusal]:
    user = ("sasl_mechanism", "sasl_username", "sasl_password")
    files = ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location")
    if kafka.uses_sasl:
        for name in user:
            if not _is_set(getattr(kafka, name)):
                yield name, f"needed, because kafka.security_protocol is {kafka.security_protocol}"
    elif any(_is_set(getattr(kafka, name)) for name in user):
        yield "security_protocol", "kafka.sasl_* is set, so allowed is SASL_SSL or SASL_PLAINTEXT"
    if not kafka.uses_tls and any(_is_set(getattr(kafka, name)) for name in files):
        yield "security_protocol", "kafka.ssl_*_location is set, so allowed is SSL or SASL_SSL"
    if kafka.ssl_key_location and not kafka.ssl_certificate_location:
        yield "ssl_certificate_location", "needed, because kafka.ssl_key_location is set"
    if _is_set(kafka.ssl_key_password) and not kafka.ssl_key_location:
        yield "ssl_key_location", "needed, because kafka.ssl_key_password is set"
    for name in files:
        if getattr(kafka, name) and not Path(getattr(kafka, name)).is_file():
            yield name, "allowed is a file that exists"
    if kafka.security_protocol != "PLAINTEXT" and not kafka.bootstrap_servers:
        yield "bootstrap_servers", "needed, because the embedded Kafka speaks PLAINTEXT only"


def _registry(settings: Settings) -> Iterator[Refusal]:
    registry = settings.registry
    if bool(registry.username) != _is_set(registry.password):
        yield "username", "registry.username and registry.password go together"
    if registry.username and not registry.url:
        yield "url", "needed, because registry.username is set"


def _worker(worker: WorkerSettings) -> Iterator[Refusal]:
    session = worker.session_timeout_s
    most = session / HEARTBEATS_PER_SESSION_MIN
    if worker.heartbeat_s > most:
        yield "heartbeat_s", f"allowed is at most {most:g}, a third of worker.session_timeout_s, so that two may be lost"
    if worker.revoke_grace_s >= session:
        yield "revoke_grace_s", f"allowed is less than {session:g}, worker.session_timeout_s, or the group has gone on by then"
    if worker.transaction_timeout_ms < session * 1000:
        yield (
            "transaction_timeout_ms",
            f"allowed is at least {session * 1000:g}, as worker.session_timeout_s: a pause the group forgives must cost no turn",
        )


def _tracing(settings: Settings) -> Iterator[Refusal]:
    if settings.tracing.endpoint and settings.tracing.exporter != "otlp":
        yield "exporter", "tracing.endpoint is set, so allowed is otlp"
