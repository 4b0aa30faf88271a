"""What the work-history processors can be told, from the environment (`AGENT_WORK_...`); checked when they are registered."""

from __future__ import annotations

from typing import Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from processors.core.activity import DAY_MS, Windows
from processors.core.overlap import CHANGES_MAX, Limits
from streams.errors import SettingsError
from streams.machines.options import PrefixedOptions

__all__ = ["CHANGED_FILES", "ENV_PREFIX", "WorkOptions"]

ENV_PREFIX: Final = "AGENT_WORK_"
CHANGED_FILES: Final = "agents.files"
"""The changed files once more, keyed by path: written by the overlap processor for itself."""


class WorkOptions(PrefixedOptions):
    """Options of both processors. Other windows or limits need a new app id: the tables hold what the old ones made."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    window_ms: int = Field(DAY_MS, description="Length of an activity window.")
    lateness_ms: int = Field(7 * DAY_MS, description="How far behind the newest event one may be and still count in its window.")
    changes_max: int = Field(
        CHANGES_MAX, le=CHANGES_MAX, description="Changes remembered for a file; more would not fit a record."
    )
    reach_ms: int = Field(0, description="Forget changes that landed so long before a file's newest; 0: only the number counts.")

    @classmethod
    def load(cls) -> WorkOptions:
        """Read the environment.

        Raises:
            SettingsError: One line for each value that is not allowed.
        """
        options = cls.environment()
        try:
            _ = options.windows, options.limits
        except ValueError as e:
            raise SettingsError(f"{ENV_PREFIX}...: {e}") from None
        return options

    @property
    def windows(self) -> Windows:
        """The shape of the activity windows."""
        return Windows(size_ms=self.window_ms, lateness_ms=self.lateness_ms)

    @property
    def limits(self) -> Limits:
        """What the overlap processor remembers of a file."""
        return Limits(changes_max=self.changes_max, reach_ms=self.reach_ms)
