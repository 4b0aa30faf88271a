"""A backtest for people, and as a JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from processors.patterns.counting import counted
from streams.cli.output import out, print_table

if TYPE_CHECKING:
    from processors.patterns.backtest import Backtest
    from processors.patterns.chosen import Chosen
    from processors.patterns.found import Found
    from processors.patterns.trial import Open, Trial
    from streams.reader import Bounds

__all__ = ["document", "show"]


# ---- JSON


def document(
    backtest: Backtest, chosen: Sequence[Chosen], *, bounds: Bounds, took_s: float, complete: bool, limit: int
) -> dict[str, Any]:
    """Return everything as a JSON document; lists have `limit` entries at most, their counts tell how many there are."""
    found: dict[str, Any] = {
        "complete": complete,
        "records": backtest.records,
        "from_ms": None if backtest.span_ms is None else backtest.span_ms[0],
        "to_ms": None if backtest.span_ms is None else backtest.span_ms[1],
        "offsets": {f"{topic}/{number}": [start, end] for (topic, number), (start, end) in sorted(bounds.items())},
        "took_s": round(took_s, 3),
        "records_per_s": round(backtest.records / took_s),
        "unreadable": backtest.unreadable_count,
        "unreadable_records": [
            {"topic": one.topic, "partition": one.partition, "offset": one.offset, "reason": one.reason}
            for one in backtest.unreadable
        ],
        "pattern": _trial(backtest.new, chosen[0], took_s, limit),
    }
    if backtest.old is not None and backtest.comparison is not None:
        compared = backtest.comparison.done()
        found["against"] = _trial(backtest.old, chosen[1], took_s, limit)
        found["comparison"] = {
            "equal": compared.equal,
            "both": compared.both,
            "only_new": len(compared.only_new),
            "only_old": len(compared.only_old),
            "only_new_matches": [_match(one) for one in compared.only_new[:limit]],
            "only_old_matches": [_match(one) for one in compared.only_old[:limit]],
        }
    return found


def _trial(trial: Trial, chosen: Chosen, took_s: float, limit: int) -> dict[str, Any]:
    counts, rest, (most, most_key) = trial.tally.counts, trial.open(limit), trial.most
    return {
        "name": trial.definition.name,
        "label": trial.label,
        "version": chosen.version,
        "file": chosen.file,
        "topics": list(trial.topics),
        "events": trial.taken - counts["late"] - counts["ahead"],
        "events_per_s": round(trial.taken / took_s),
        "late": counts["late"],
        "late_by_max_ms": trial.tally.late_by_max_ms,
        "ahead": counts["ahead"],
        "matches": counts["matched"],
        "timed_out": counts["timed_out"] if trial.definition.timed_out else None,
        "evicted": counts["evicted"],
        "failed": counts["failed"],
        "partial_matches_of_a_key": {"most": most, "key": most_key, "limit": trial.definition.partial_matches_max},
        "open": _open(rest),
        "found": [_match(one) for one in trial.tally.matches],
        "late_events": [
            {"topic": one.place[0], "partition": one.place[1], "offset": one.place[2], "ts": one.ts, "watermark": one.watermark,
             "reason": one.reason}
            for one in trial.tally.lates
        ],
        "failures": [{"key": key, "reason": reason} for key, reason in trial.tally.failures],
    }  # fmt: skip


def _open(rest: Open) -> dict[str, Any]:
    return {
        "keys": rest.keys,
        "partial_matches": rest.partial_matches,
        "pending": rest.pending,
        "waiting_events": rest.waiting,
        "first_deadline": rest.first_deadline,
        "watermarks": None if rest.watermarks is None else list(rest.watermarks),
        "partials": [{**_match(one.of), "deadline": one.deadline, "pending": one.pending} for one in rest.partials],
    }


def _match(one: Found) -> dict[str, Any]:
    return {
        "key": one.key,
        "started": one.started,
        "ended": one.ended,
        "stages": [
            {
                "stage": stage,
                "events": [
                    {"topic": topic, "partition": partition, "offset": offset, "ts": ts} for topic, partition, offset, ts in taken
                ],
            }
            for stage, taken in one.stages
        ],
    }


# ---- people


def show(backtest: Backtest, *, took_s: float, limit: int) -> None:
    """Print everything for a person."""
    _head(backtest, took_s)
    trials = backtest.trials
    rows = [
        ["events taken", *(one.taken - one.tally.counts["late"] - one.tally.counts["ahead"] for one in trials)],
        ["late", *(one.tally.counts["late"] for one in trials)],
        ["ahead of the clock", *(one.tally.counts["ahead"] for one in trials)],
        ["matches", *(one.tally.counts["matched"] for one in trials)],
        ["timed out", *(one.tally.counts["timed_out"] for one in trials)],
        ["evicted", *(one.tally.counts["evicted"] for one in trials)],
        ["failed", *(one.tally.counts["failed"] for one in trials)],
        ["most partial matches of a key", *(one.most[0] for one in trials)],
        ["  of which there may be", *(one.definition.partial_matches_max for one in trials)],
    ]
    print_table(["", *(one.label for one in trials)], rows)
    for trial in trials:
        _notes(trial, limit)
    compared = None if backtest.comparison is None else backtest.comparison.done()
    if compared is None or backtest.old is None:
        _list("matches", backtest.new.tally.counts["matched"], backtest.new.tally.matches, limit)
        return
    new, old = backtest.new.label, backtest.old.label
    _line(
        f"\nin both {compared.both:,}, only in {new} {len(compared.only_new):,}, only in {old} {len(compared.only_old):,}", "bold"
    )
    _list(f"only in {new}", len(compared.only_new), compared.only_new, limit)
    _list(f"only in {old}", len(compared.only_old), compared.only_old, limit)


def _head(backtest: Backtest, took_s: float) -> None:
    began, ended = backtest.span_ms or (0, 0)
    events = max(trial.taken for trial in backtest.trials)
    _line(
        f"{counted(backtest.records, 'record')} of {', '.join(backtest.topics)}, written {_when(began)} to {_when(ended)}, "
        f"in {took_s:.1f} s: {backtest.records / took_s:,.0f} records/s, {events / took_s:,.0f} events/s"
    )
    if backtest.unreadable_count:
        _line(f"{counted(backtest.unreadable_count, 'record')} cannot be read: dead letters, to a worker", "yellow")
        for one in backtest.unreadable:
            _line(f"  {one.topic}/{one.partition}/{one.offset}: {one.reason}")


def _notes(trial: Trial, limit: int) -> None:
    """Print what the numbers of a version alone do not say."""
    rest, counts, label = trial.open(0), trial.tally.counts, trial.label
    if counts["evicted"]:
        _line(f"{label}: partial_matches_max was reached; raise it, or bound the pattern (within_ms, until)", "yellow")
    if not trial.definition.timed_out:
        _line(f"{label}: timed_out is false, so what times out is not said")
    for key, reason in trial.tally.failures[: min(limit, 3)]:
        _line(f"{label}: gave up the partial matches of key {key}: {reason}", "yellow")
    if counts["late"]:
        late_ms = trial.tally.late_by_max_ms
        _line(f"{label}: late by up to {late_ms:,} ms more than disorder_ms ({trial.definition.disorder_ms:,}) allows", "yellow")
    if not rest.keys:
        _line(f"{label}: nothing is open at the end of the range")
        return
    said = f"{label}: open at the end of the range: {counted(rest.partial_matches, 'partial match', 'partial matches')} of "
    said += counted(rest.keys, "key")
    if rest.pending:
        said += f", {rest.pending:,} of them {'a match' if rest.pending == 1 else 'matches'} unless something comes in time"
    if rest.first_deadline is not None:
        said += f", the first decided at {_when(rest.first_deadline)}"
    if rest.waiting:
        said += f"; {counted(rest.waiting, 'event waits', 'events wait')} for the watermark, not matched yet"
    if rest.watermarks is not None:
        said += f"; event time stands at {_when(rest.watermarks[0])}"
        said += "" if rest.watermarks[0] == rest.watermarks[1] else f" to {_when(rest.watermarks[1])}, by partition"
    _line(said)


def _list(title: str, count: int, matches: Iterable[Found], limit: int) -> None:
    if not count or not limit:
        return
    _line(f"\n{title}" + (f", the first {limit:,} of {count:,} (--limit)" if count > limit else ""), "bold")
    for one in list(matches)[:limit]:
        stages = "  ".join(
            f"{stage}: " + ", ".join(f"{topic}/{partition}/{offset}" for topic, partition, offset, _ in taken)
            for stage, taken in one.stages
        )
        _line(f"{_when(one.ended)} {one.key} took {one.ended - one.started:,} ms  {stages}")


def _line(text: str, style: str | None = None) -> None:
    out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _when(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):  # a ts may be anything up to 2^53: beyond the calendar it is shown as it is
        return f"{ms} ms"
