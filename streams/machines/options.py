"""What the options of every processor share: they come from the environment, and topics have a prefix."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings

from streams.errors import SettingsError

__all__ = ["PrefixedOptions"]

_LEGAL = re.compile(r"[A-Za-z0-9._-]{0,100}")
"""What may stand in a topic's name; Kafka allows 249 characters in all."""


class PrefixedOptions(BaseSettings):
    """Options with a prefix for topics; subclasses set `env_prefix` in their `model_config`."""

    topic_prefix: str = Field("", description="Goes before every topic name, so that several installations share a cluster.")

    @field_validator("topic_prefix", "keyed_topic", check_fields=False)
    @classmethod
    def _legal_in_topics(cls, value: str) -> str:
        if not _LEGAL.fullmatch(value):
            raise ValueError("up to 100 letters, digits, dots, underscores and dashes are allowed")
        return value

    @classmethod
    def environment(cls) -> Self:
        """Read the environment.

        Raises:
            SettingsError: One line for each value that is not allowed.
        """
        try:
            return cls()
        except ValidationError as e:
            prefix = cls.model_config.get("env_prefix", "")
            lines = [
                f"{prefix}{str(one['loc'][0]).upper()} = {one['input']!r}: {one['msg']}" for one in e.errors(include_url=False)
            ]
            raise SettingsError("\n".join(lines)) from None

    def topic(self, name: str) -> str:
        """Return the full name of a topic."""
        return self.topic_prefix + name
