"""The pattern benchmark's stream, its reading of Flink's figures, and the shape of its report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cep, oracle
from benchmarks.jobs.cep_stream import FIRST_TS, checksum, draws, events, patterns
from benchmarks.oracle import Found, OracleMissing

FIRST_FIVE = [
    (14, 26, 635.38, 1700000000000),
    (3, 294, 261.56, 1700000000001),
    (9, 710, 231.66, 1700000000002),
    (5, 304, 23.9, 1700000000003),
    (2, 514, 453.88, 1700000000004),
]
"""What the oracle's `run-bench gen x 5` prints."""

NFA = "nfa P1 events=200000 seconds=0.82 events_per_s=245063 matches=876 timed_out=8527 checksum=272563137"


def ours(rate: float, **changed: Any) -> dict[str, Any]:
    return {"rate": rate, "matches": 876, "timed_out": 8527, "checksum": 272563137, "backend": "generated"} | changed


def memory(after: int) -> dict[str, Any]:
    return {"before": 10 << 20, "peak": 110 << 20, "after": after, "keys": 100_000, "timed_out": 100_000, "keys_left": 0}


class FakeFlink:
    """Half as fast as ours on every pattern."""

    def run(self, mode: str, pattern: str, count: int) -> Found:
        return Found(500.0, 876, 8527, 272563137)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the child processes are said to have found; a test changes it."""
    said: dict[str, Any] = {"cep_engine": ours(2_000.0), "cep_memory": memory(10 << 20)}
    monkeypatch.setattr(cep, "result", lambda command: said[command[2].rpartition(".")[2]])
    monkeypatch.setattr(cep, "prepare", lambda progress: FakeFlink())
    monkeypatch.setattr(cep, "PARTS", frozenset({"engine", "memory"}))
    return said


def failing() -> set[str]:
    return {bar.name for bar in cep.bench(lambda line: None).bars if not bar.holds}


def test_the_stream_is_the_oracle_s() -> None:
    """The generator draws what Flink's side draws, number for number."""
    assert list(draws(5)) == FIRST_FIVE
    assert [tuple(event[name] for name in ("type", "key", "value", "ts")) for event in events(5)] == FIRST_FIVE


def test_the_checksum_adds_times_over_all_stages() -> None:
    """Each event of a match counts with its time since the stream began."""
    assert checksum({"A": [{"ts": FIRST_TS + 3}], "B": [{"ts": FIRST_TS + 4}, {"ts": FIRST_TS + 10}]}) == 17


def test_patterns_name_types_as_the_source_does() -> None:
    """In a process the type is a number, on the log it is an event type's name."""
    assert patterns()["P1"]["stages"][0]["where"] == {"op": "==", "args": [{"field": "type"}, 0]}
    assert patterns("t{}".format)["P2"]["stages"][0]["where"] == {"op": "in", "args": [{"field": "type"}, ["t3", "t4", "t5"]]}


def test_flink_s_line_is_read() -> None:
    """The result is found among whatever else a JVM prints."""
    assert oracle.parsed(f"WARNING: something\n{NFA}\n") == Found(245063.0, 876, 8527, 272563137)
    assert oracle.parsed("Exception in thread main") is None


def test_a_report_has_rates_counts_and_ratios(children: dict[str, Any]) -> None:
    """Every pattern has both rates, the three counts and the ratio; every bar holds here."""
    report = cep.bench(lambda line: None)
    found = {row.name: row for row in report.rows}
    assert report.holds
    assert found["P2x3: ours, generated"].value == 2_000
    assert found["P2x3: Flink's NFA"].value == 500
    assert found["P2x3: ours / Flink's NFA"].value == 4.0
    assert found["P2x3: matches"].value == 876
    assert len(found["P1: ours, generated"].rounds) == cep.ROUNDS
    assert found["memory peak, 1,000,000 keys"].value == 110.0
    assert {bar.name: bar.bar for bar in report.bars}["P2: ours / Flink's NFA"] == ">= 3.0"


def test_a_slow_engine_fails_its_bars(children: dict[str, Any]) -> None:
    """Twice Flink's speed is enough with a skip strategy only."""
    children["cep_engine"] = ours(1_000.0)
    assert failing() == {f"{name}: ours / Flink's NFA" for name in ("P1", "P2", "P2x3", "P3")}


@pytest.mark.parametrize("count", ["matches", "timed_out", "checksum"])
def test_a_count_that_differs_fails_the_bar(children: dict[str, Any], count: str) -> None:
    """A fast engine that finds something else has not won."""
    children["cep_engine"] = ours(9_000.0, **{count: 1})
    assert failing() == {f"{name}: matches, timed out, checksum that differ" for name in cep.RATIO_MIN}


def test_memory_that_stays_fails_the_bar(children: dict[str, Any]) -> None:
    """Six of a hundred MiB left are too many."""
    children["cep_memory"] = memory(16 << 20)
    assert failing() == {"resident memory left of the growth", "Python's memory left of the growth"}


def test_without_flink_no_ratio_is_claimed(children: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is still measured, and a row says what was missing."""

    def missing(progress: object) -> None:
        raise OracleMissing("no mvn on PATH")

    monkeypatch.setattr(cep, "prepare", missing)
    report = cep.bench(lambda line: None)
    assert report.rows[0].name == "Flink not measured: no mvn on PATH"
    assert not any("Flink" in bar.name or "differ" in bar.name for bar in report.bars)
    assert any(row.name == "P1: ours, generated" for row in report.rows)


def test_without_maven_the_oracle_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources alone are not enough, and nothing is left in the cache."""
    at = tmp_path / "oracle"
    at.mkdir()
    monkeypatch.setenv("ANTIPHON_CEP_ORACLE", str(at))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(OracleMissing, match="ANTIPHON_CEP_ORACLE"):
        oracle.prepare(lambda line: None)
    for name in ("run-bench", "run-oracle"):
        (at / name).write_text("#!/bin/sh\n")
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/java" if name == "java" else None)
    with pytest.raises(OracleMissing, match="mvn"):
        oracle.prepare(lambda line: None)
    assert not (tmp_path / "cache").exists()


def test_a_built_oracle_is_used_until_its_sources_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build's name is made of the sources."""
    at = tmp_path / "oracle"
    (at / "oracle" / "src").mkdir(parents=True)
    for name in ("run-bench", "run-oracle", "oracle/src/Bench.java"):
        (at / name).write_text(f"echo {NFA}\n")
    monkeypatch.setenv("ANTIPHON_CEP_ORACLE", str(at))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/java" if name == "java" else None)
    home = tmp_path / "cache" / "antiphon" / f"cep-oracle-{oracle.fingerprint(at)}"
    (home / oracle.JAR).parent.mkdir(parents=True)
    (home / oracle.JAR).touch()
    (home / "run-bench").write_text(f"#!/bin/sh\necho {NFA}\n")
    (home / "run-bench").chmod(0o755)
    assert oracle.prepare(lambda line: None).run("nfa", "P1", 5).matches == 876
    (at / "oracle" / "src" / "Bench.java").write_text("another\n")
    with pytest.raises(OracleMissing, match="mvn"):
        oracle.prepare(lambda line: None)
