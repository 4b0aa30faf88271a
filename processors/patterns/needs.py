"""What a pattern needs of the log: which topics, which records of them, which fields, and how they are keyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.core.cep.expressions import Agg, Expr, Field, walk
from processors.core.cep.model import Definition, stages_in

if TYPE_CHECKING:
    from schemas.catalogue import Catalogue

__all__ = ["RESERVED", "Need", "drains_into", "fields_of"]

RESERVED = frozenset({"id", "key", "ts", "type"})
"""What every event has, whatever its payload says."""


class Need:
    """What one definition needs.

    Args:
        definition: The definition.
        catalogue: The event types, which tell the keys of records.
        rekeyed: Topics whose events are always keyed anew.

    Attributes:
        definition: The definition.
        fields: The payload fields that its conditions name.
        keyed: The field by which its events are keyed anew; None where the record's own key will do.
        buffered: Whether events wait for the watermark: they may be out of order, or come from several logs.
    """

    __slots__ = ("buffered", "definition", "fields", "keyed")

    def __init__(self, definition: Definition, catalogue: Catalogue, rekeyed: frozenset[str] = frozenset()) -> None:
        self.definition = definition
        self.fields = fields_of(definition)
        as_it_is = _is_record_key(definition, catalogue) and rekeyed.isdisjoint(definition.topics)
        self.keyed = None if as_it_is else definition.key
        self.buffered = definition.disorder_ms > 0 or self.keyed is not None or len(definition.topics) > 1


def fields_of(definition: Definition) -> frozenset[str]:
    """Return the payload fields that the conditions of a pattern name, reserved ones left out."""
    found: set[str] = set()
    for stage in stages_in(definition.pattern.stages):
        for condition in (stage.where, stage.until):
            if condition is not None:
                found |= {name for part in walk(condition) if (name := _field(part)) is not None}
    return frozenset(found - RESERVED)


def _field(part: Expr) -> str | None:
    if isinstance(part, Field):
        return part.name
    return part.field if isinstance(part, Agg) else None


def _is_record_key(definition: Definition, catalogue: Catalogue) -> bool:
    """Whether every record that the pattern reads has the correlation field as its key, by what its event class says."""
    if definition.key is None:
        return True
    classes = {cls.event_type: cls for cls in catalogue.classes()}
    return bool(definition.types) and all(
        (cls := classes.get(name)) is not None and cls.key_field == definition.key for name in definition.types
    )


def drains_into(old: Need, new: Need) -> str:
    """Return why partial matches of `old` cannot finish once `new` is what the topic holds; empty where they can.

    Events reach the partitions of a key because the newest definition asks for them. An old version that needs others would
    wait for what nobody sends any more.
    """
    if old.keyed is None:
        return ""
    if new.keyed != old.keyed:
        return f"its events were keyed by {old.keyed!r} and the new version's are not"
    before, after = old.definition, new.definition
    if missing := sorted(set(before.topics) - set(after.topics)):
        return f"the new version does not read topic {missing[0]!r}"
    if after.types and (not before.types or set(before.types) - set(after.types)):
        return "the new version reads fewer event types"
    return ""
