"""What the pattern processor can be told, from the environment (`AGENT_CEP_...`); checked when it is registered."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from streams.errors import SettingsError
from streams.machines.options import PrefixedOptions

__all__ = ["ENV_PREFIX", "CepOptions"]

ENV_PREFIX: Final = "AGENT_CEP_"

TopicNames = Annotated[tuple[str, ...], NoDecode]
"""In the environment: names with commas between them."""


class CepOptions(PrefixedOptions):
    """Options of pattern matching. Topic names here and in definitions are without the prefix."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    topics: TopicNames = Field(
        ("agents.events",), description="Topics that patterns may name; all with the same number of partitions."
    )
    keyed_topics: TopicNames = Field(
        (),
        description="Further topics, with any number of partitions, whose events a worker of their own (`cep-keys`) keys anew: "
        "only for patterns with a key.",
    )
    patterns_topic: str = Field("antiphon.patterns", description="The compacted topic that holds the definitions.")
    matches_topic: str = Field("antiphon.matches", description="Matches.")
    timeouts_topic: str = Field("antiphon.timeouts", description="Partial matches whose window ended.")
    evictions_topic: str = Field("antiphon.evictions", description="Partial matches that had to go, and patterns that failed.")
    late_topic: str = Field("antiphon.late", description="Events that came too late for a pattern.")
    changes_topic: str = Field("antiphon.pattern-changes", description="Which version holds from which offset; refused records.")
    keyed_topic: str = Field("", description="Where events go that are keyed anew; empty: <app id>-cep-keyed.")

    @field_validator("topics", "keyed_topics", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @classmethod
    def load(cls) -> CepOptions:
        """Read the environment.

        Raises:
            SettingsError: One line for each value that is not allowed.
        """
        options = cls.environment()
        both = sorted(set(options.topics) & set(options.keyed_topics))
        if both:
            raise SettingsError(f"{ENV_PREFIX}KEYED_TOPICS: {both[0]} is among {ENV_PREFIX}TOPICS too: one of the two")
        return options

    def keyed(self, app_id: str) -> str:
        """Return the full name of the topic of events that are keyed anew, for the app that matches patterns."""
        return self.topic(self.keyed_topic or f"{app_id}-cep-keyed")
