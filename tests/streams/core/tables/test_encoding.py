"""The hand-written encoding of commits."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.avro import parsed, write_body
from schemas.catalogue import CATALOGUE
from schemas.tables import CommitTransaction, PrepareTransaction
from streams.core.tables.bodies import VALIDATED, Part
from streams.core.tables.encoding import ISOLATIONS, Said, commit_body

TEXT = st.text(st.characters(codec="utf-8"), max_size=700)
NUMBER = st.integers(-(2**62), 2**62) | st.integers(-600, 600)
PLACES = st.lists(st.tuples(TEXT, TEXT), max_size=4, unique=True)


def fields_of(part: Part, isolation: str) -> dict[str, Any]:
    """Return what a commit says of a part, as the general writer wants it."""
    snapshot, reads, spans = VALIDATED[isolation]
    return {
        "isolation": isolation,
        "snapshot": part.snapshot if snapshot else -1,
        "reads": [{"table": table, "key": key} for table, key in part.reads] if reads else [],
        "spans": [{"table": table, "prefix": prefix} for table, prefix in part.spans] if spans else [],
        "expects": [{"table": table, "key": key, "version": version} for (table, key), version in part.expects.items()],
        "writes": [
            {"table": table, "key": key, "value": value, "policy": policy}
            for (table, key), (value, policy) in part.writes.items()
        ],
    }


SCHEMAS = {cls: parsed(CATALOGUE.schema(cls)) for cls in (CommitTransaction, PrepareTransaction)}


@st.composite
def parts(draw: st.DrawFn) -> Part:
    part = Part()
    part.snapshot = draw(NUMBER)
    part.reads = dict.fromkeys(draw(PLACES))
    part.spans = dict.fromkeys(draw(PLACES))
    part.writes = {place: (draw(st.none() | TEXT), draw(st.sampled_from(["", "merge"]))) for place in draw(PLACES)}
    part.expects = {place: draw(NUMBER) for place in draw(PLACES)}
    return part


@given(
    parts(), st.sampled_from(ISOLATIONS), st.lists(st.tuples(TEXT, NUMBER), max_size=2), NUMBER, TEXT, st.booleans(), st.data()
)
def test_it_writes_what_the_general_writer_writes(
    part: Part, isolation: str, fences: list[tuple[str, int]], priority: int, name: str, again: bool, data: st.DataObject
) -> None:
    """Byte for byte, for commits and for prepares."""
    participants = data.draw(st.none() | st.lists(TEXT, max_size=3))
    said = Said(name, "t", "o", isolation, part, fences, priority, participants, 10_000)
    fields = fields_of(part, isolation)
    fields |= {"domain": name, "txn": "t", "owner": "o", "priority": priority, "again": again}
    fields["fences"] = [{"resource": resource, "token": token} for resource, token in fences]
    cls: Any = CommitTransaction
    if participants is not None:
        cls = PrepareTransaction
        fields |= {"participants": participants, "timeout_ms": 10_000}
    assert commit_body(said, again=again) == write_body(b"", SCHEMAS[cls], fields)
