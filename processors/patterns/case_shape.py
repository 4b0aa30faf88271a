"""What a recorded case must look like to be run at all: a file of something else is wrong usage, not a difference.

The pattern is not looked at here: one that does not compile is a case of its own, which expects just that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError, model_validator

__all__ = ["shape_problem"]

Ids = dict[str, list[StrictStr]]
"""Stage to the ids of its events."""


class _Item(BaseModel):
    """An event, or a watermark."""

    id: StrictStr | None = None
    ts: StrictInt | None = None
    watermark: StrictInt | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.watermark is None and (self.id is None or self.ts is None):
            raise ValueError("an event has an `id` (text) and a `ts` (ms); else it is {'watermark': ms}")
        return self


class _TimedOut(BaseModel):
    match: Ids
    ts: StrictInt


class _Expect(BaseModel):
    """What Flink made of it."""

    error: StrictStr | None = None
    ties: StrictStr | None = None
    matches: list[Ids] | None = None
    at: list[StrictInt] | None = None
    timed_out: list[_TimedOut] | None = None
    late: list[StrictStr] | None = None

    @model_validator(mode="after")
    def _has_a_time_for_each(self) -> Self:
        if self.at and len(self.at) != len(self.matches or ()):
            raise ValueError(f"`at` has {len(self.at)} times for {len(self.matches or ())} matches")
        return self


class _Case(BaseModel):
    model_config = ConfigDict(extra="ignore")

    mode: Literal["nfa", "operator"] | None = None
    events: list[_Item]
    final_watermark: StrictInt | Literal["max"] | None = None
    expect: Annotated[_Expect | None, Field(default=None)]


def shape_problem(case: Mapping[str, Any]) -> str:
    """Return what is wrong with a case, where and in one line; empty where nothing is."""
    try:
        _Case.model_validate(case)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        place = ".".join(map(str, details["loc"]))
        return f"{place}: {details['msg']}"
    return ""
