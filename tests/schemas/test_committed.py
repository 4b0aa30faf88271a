"""The committed schemas are what the classes say, and a committed version never changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.committed import INDEX, load, main, problems, write
from schemas.errors import IncompatibleSchema
from schemas.events import Event
from schemas.families import BUILT_IN


def order(version: int, doc: str = "An order.", **fields: Any) -> type[Event]:
    """Make a version of an event type; fields are types, or types with a default."""
    annotations = {"number": str, **{n: f[0] if isinstance(f, tuple) else f for n, f in fields.items()}}
    defaults = {n: f[1] for n, f in fields.items() if isinstance(f, tuple)}
    declared = {"event_type": "order.placed", "schema_version": version, "topic": "orders", "key_field": "number", "__doc__": doc}
    return type("Order", (Event,), {"__module__": __name__, "__annotations__": annotations, **defaults, **declared})


def test_the_committed_schemas_are_what_the_classes_say() -> None:
    """Every built-in class equals its committed file; a difference means a new version, or an undo."""
    assert problems(BUILT_IN, load()) == []


def test_ids_are_never_given_again() -> None:
    """The ids that are out there stay what they are."""
    known = {(c.event_type, c.version): c.schema_id for c in load()}
    assert known["change.committed", 1] == 1
    assert known["file.changed", 1] == 2
    assert known["overlap.found", 1] == 3
    assert len(set(known.values())) == len(known)


def test_writing_adds_and_never_replaces(tmp_path: Path) -> None:
    """New versions get the next ids; a changed class is refused with what to do, and nothing is written."""
    assert write(tmp_path, [order(1)]) == ["order.placed.v1.avsc"]
    assert write(tmp_path, [order(1)]) == []
    before = (tmp_path / "order.placed.v1.avsc").read_bytes()
    with pytest.raises(
        IncompatibleSchema, match=r"fields note.*a committed version never changes; undo it, or raise schema_version to 2"
    ):
        write(tmp_path, [order(1, note=(str, ""))])
    assert write(tmp_path, [order(2, note=(str, ""))]) == ["order.placed.v2.avsc"]
    assert (tmp_path / "order.placed.v1.avsc").read_bytes() == before
    assert json.loads((tmp_path / INDEX).read_text()) == {
        "1": {"type": "order.placed", "version": 1},
        "2": {"type": "order.placed", "version": 2},
    }


def test_a_version_that_cannot_read_the_last_is_not_written(tmp_path: Path) -> None:
    """An incompatible next version, or a skipped one, is refused and leaves no file."""
    write(tmp_path, [order(1)])
    with pytest.raises(IncompatibleSchema, match=r"the version after 1 cannot read it: note: is new and has no default"):
        write(tmp_path, [order(2, note=str)])
    with pytest.raises(IncompatibleSchema, match="schema_version is 3, and the next after what is committed is 2"):
        write(tmp_path, [order(3, note=(str, ""))])
    assert sorted(p.name for p in tmp_path.iterdir()) == [INDEX, "order.placed.v1.avsc"]


def test_documentation_may_change(tmp_path: Path) -> None:
    """A better sentence is no new version; the file follows."""
    write(tmp_path, [order(1)])
    assert problems([order(1, doc="Better.")], load(tmp_path)) == []
    assert write(tmp_path, [order(1, doc="Better.")]) == ["order.placed.v1.avsc"]
    assert json.loads((tmp_path / "order.placed.v1.avsc").read_text())["doc"] == "Better."


def test_the_check_finds_what_a_careless_edit_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed class, a class that is not committed, a file that is gone and a version that went back are each named."""
    write(tmp_path, [order(1)])
    write(tmp_path, [order(2, note=(str, ""))])
    directory = ["--directory", str(tmp_path)]
    assert main([order(2, note=(str, ""))], ["--check", *directory]) == 0
    assert main([order(2, note=(int, 0))], ["--check", *directory]) == 1
    assert main([order(3, note=(str, ""))], ["--check", *directory]) == 1
    assert main([order(1)], ["--check", *directory]) == 1
    (tmp_path / "order.placed.v1.avsc").unlink()
    assert main([order(2, note=(str, ""))], ["--check", *directory]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "fields note" in said[0]
    assert "version 3 is not committed" in said[1]
    assert "version 2 is committed, so the class must be that or the next" in said[2]
    assert "order.placed.v1.avsc is not there" in said[3]


def test_the_command_runs() -> None:
    """`python -m schemas.catalogue --check` answers 0 without warnings."""
    command = [sys.executable, "-W", "error", "-m", "schemas.catalogue", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
