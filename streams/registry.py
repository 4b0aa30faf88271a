"""Schema ids from a Confluent Schema Registry, where `registry.url` is set.

::

    SchemaError                     (schemas.errors)
    ├── RegistryUnavailable         broker    no answer, or a server error (retryable)
    └── RegistryRefused             operator  wrong credentials, or no permission

A schema is asked for once and kept: with its ids known, a worker goes on while the registry is away. An id that the registry
does not have is asked for again after `MISSING_KEPT_S`. Each call blocks for at most the timeout and one retry of it;
`Codec.prepare` makes them at start.

Subjects are `<topic>-<event type>` (TopicRecordNameStrategy), because a topic here carries several event types: under one
subject `<topic>-value` (TopicNameStrategy) a registry would refuse the second of them as an incompatible version of the first.
For topics of a single type, `subjects="topic"` gives that name.
"""

from __future__ import annotations

import importlib
import json
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NoReturn, Self, cast

from schemas.errors import Fault, IncompatibleSchema, SchemaError, UnknownSchema
from streams.errors import SettingsError

if TYPE_CHECKING:
    from schemas.avro import Schema
    from streams.settings_groups import RegistrySettings

__all__ = ["COMPATIBILITY", "MISSING_KEPT_S", "RegistryRefused", "RegistryUnavailable", "SchemaRegistry"]

COMPATIBILITY: Final = "BACKWARD"
"""What a subject of ours promises; one that has a level of its own keeps it."""
RETRIES: Final = 1
"""Tries after the first: a dropped connection needs one, and a restart takes longer than a call may block."""
RETRY_WAIT_MS: Final = 200
"""Before the second try; long enough for a load balancer to choose another server."""
MISSING_KEPT_S: Final = 30.0
"""How long an id counts as unknown before it is asked for again: a flood of bad records must not become a flood of requests."""
MISSING_MAX: Final = 1000
"""Unknown ids remembered; a flood of random ids forgets the oldest."""

_UNAUTHORIZED: Final = (401, 403)
_NOT_FOUND: Final = 404
_REFUSED_SCHEMA: Final = (409, 422)

Subjects = Literal["topic-record", "topic"]


class RegistryUnavailable(SchemaError):
    """The Schema Registry does not answer. Start it, or correct ``ANTIPHON_REGISTRY__URL``; what is in the log waits."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "broker"


class RegistryRefused(SchemaError):
    """The Schema Registry refuses the credentials. Correct ``registry.username`` and ``registry.password``."""


class SchemaRegistry:
    """A client that keeps what it learns. Use it from one thread; close it when done."""

    def __init__(
        self, url: str, *, username: str = "", password: str = "", timeout_s: float = 10.0, subjects: Subjects = "topic-record"
    ) -> None:
        """Make the client; nothing is asked yet.

        Args:
            url: Its address.
            username: For basic authentication; empty for none.
            password: For basic authentication.
            timeout_s: How long one answer may take.
            subjects: How subjects are named, see the module.

        Raises:
            SettingsError: The packages for it are not installed, or the address is none.
        """
        try:
            self._library: Any = importlib.import_module("confluent_kafka.schema_registry")
        except ImportError as e:
            raise SettingsError(
                f"registry.url is {url} and the packages for it are missing ({e}): pip install 'antiphon[registry]'"
            ) from e
        conf = {"url": url, "timeout": timeout_s, "max.retries": RETRIES, "retries.wait.ms": RETRY_WAIT_MS}
        if username:
            conf["basic.auth.user.info"] = f"{username}:{password}"
        try:
            self._client = self._library.SchemaRegistryClient(conf)
        except (ValueError, TypeError) as e:
            raise SettingsError(f"registry.url is {url}: {e}") from e
        self.url: Final = url
        self._subjects = subjects
        self._missing: dict[int, float] = {}

    @classmethod
    def from_settings(cls, settings: RegistrySettings) -> SchemaRegistry | None:
        """Return the registry that the settings name, or None where they name none."""
        if not settings.url:
            return None
        return cls(
            settings.url, username=settings.username, password=settings.password.get_secret_value(), timeout_s=settings.timeout_s
        )

    def subject(self, topic: str, event_type: str) -> str:
        """Return the subject that holds an event type's versions on a topic."""
        return f"{topic}-value" if self._subjects == "topic" else f"{topic}-{event_type}"

    def id_of(self, topic: str, event_type: str, schema: Schema) -> int:
        """Return the id of a schema, registering it where it is new.

        Raises:
            RegistryUnavailable: No answer.
            RegistryRefused: The credentials, or the permission to register.
            IncompatibleSchema: The registry's rules refuse it as the next version of its subject.
        """
        subject = self.subject(topic, event_type)
        asked = self._library.Schema(json.dumps(schema), "AVRO")
        try:
            try:
                return cast(int, self._client.lookup_schema(subject, asked).schema_id)
            except self._library.SchemaRegistryError as e:
                if e.http_status_code != _NOT_FOUND:
                    raise
            self._promise(subject)
            return cast(int, self._client.register_schema(subject, asked))
        except Exception as e:  # noqa: BLE001 - the client lets its HTTP library's own kinds through
            self._explain(e, f"subject {subject}", topic=topic)

    def schema(self, schema_id: int) -> Schema:
        """Return the schema that has an id.

        Raises:
            UnknownSchema: The registry has no such id.
            RegistryUnavailable: No answer.
            RegistryRefused: The credentials.
            IncompatibleSchema: It is no Avro.
        """
        if time.monotonic() < self._missing.get(schema_id, 0.0):
            self._unknown(schema_id)
        try:
            found = self._client.get_schema(schema_id)
            if found.schema_type not in (None, "AVRO"):
                raise IncompatibleSchema(f"the registry has it as {found.schema_type}: Avro is read here", schema_id=schema_id)
            return cast("Schema", json.loads(found.schema_str))
        except Exception as e:  # noqa: BLE001 - the client lets its HTTP library's own kinds through
            if getattr(e, "http_status_code", 0) == _NOT_FOUND:
                while len(self._missing) >= MISSING_MAX:
                    del self._missing[next(iter(self._missing))]
                self._missing[schema_id] = time.monotonic() + MISSING_KEPT_S
                self._unknown(schema_id)
            self._explain(e, "its schema", schema_id=schema_id)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _promise(self, subject: str) -> None:
        try:
            self._client.get_compatibility(subject)
        except self._library.SchemaRegistryError as e:
            if e.http_status_code != _NOT_FOUND:
                raise
            self._client.set_compatibility(subject, COMPATIBILITY)

    def _unknown(self, schema_id: int) -> NoReturn:
        raise UnknownSchema(
            f"the Schema Registry at {self.url} has no such id: find the record's producer and its registry", schema_id=schema_id
        )

    def _explain(self, error: Exception, what: str, *, topic: str | None = None, schema_id: int | None = None) -> NoReturn:
        """Raise one line for anything that the client raised."""
        if isinstance(error, SchemaError):
            raise error
        words = " ".join(str(getattr(error, "error_message", None) or error).split()) or type(error).__name__
        status = getattr(error, "http_status_code", 0)
        at = f"the Schema Registry at {self.url}"
        place: dict[str, Any] = {"topic": topic, "schema_id": schema_id}
        if status in _UNAUTHORIZED:
            raise RegistryRefused(
                f"{at} refuses the credentials or the permission for {what} (HTTP {status}, {words}): "
                f"correct ANTIPHON_REGISTRY__USERNAME and ANTIPHON_REGISTRY__PASSWORD, or allow it there",
                **place,
            ) from error
        if status in _REFUSED_SCHEMA:
            raise IncompatibleSchema(
                f"{at} refuses {what} (HTTP {status}, {words}): keep to its compatibility level", **place
            ) from error
        raise RegistryUnavailable(
            f"{at} gave no answer for {what} ({words}): start it, or correct ANTIPHON_REGISTRY__URL", **place
        ) from error
