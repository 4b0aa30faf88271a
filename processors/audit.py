"""The end of a run: reads everything back, read committed, checks that the numbers agree, and proves tables and patterns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from processors import activity, overlap
from processors.feeding import Fed
from processors.log_reader import LogReader, LogRecord
from processors.proof import Place, compare, decoded, live_rows, rebuild_activity, rebuild_overlap
from processors.report import Check, Report, findings
from processors.report_patterns import pattern_line
from processors.sightings import Offline, definitions, outcomes
from processors.sightings import compare as compare_outcomes
from schemas.cep import LateForPattern
from schemas.errors import SchemaError, UnknownSchema
from schemas.events import Event
from schemas.work import FileChanged, LateEvent, OverlapFound, WindowClosed

if TYPE_CHECKING:
    from rich.progress import Progress

    from processors.stage import Stage

__all__ = ["audit"]


def audit(on: Stage, fed: Fed, report: Report, progress: Progress) -> None:
    """Fill in the report: outputs, dead letters, findings, checks, replay and patterns. The workers have stopped: nothing moves.

    Raises:
        BrokerError: The broker does not answer.
    """
    bar = progress.add_task("replay", total=fed.produced + fed.files + fed.landings)
    with on.reader() as reader:
        lines, events = Counter[str](), Counter[str]()
        for record in reader.read(on.history_dead_letters):
            lines[_header(record, "dl-error")] += 1
        set_aside: set[Place] = set()
        for record in reader.read(on.worker_dead_letters):
            place = (_header(record, "dl-topic"), int(_header(record, "dl-partition")), int(_header(record, "dl-offset")))
            if place not in set_aside:
                set_aside.add(place)
                events[_header(record, "dl-error")] += 1
        report.dead_letters = dict(lines + events)
        report.outputs = {on.files: 0}
        for kind in (OverlapFound, WindowClosed, LateEvent):
            report.outputs[on.topic(kind.topic)] = _count(reader, on.topic(kind.topic))
        live_activity = live_rows(reader.read(on.changelog(activity.TABLE)))
        live_overlap = live_rows(reader.read(on.changelog(overlap.TABLE)))
        report.findings = findings(decoded(live_activity), decoded(live_overlap))
        seen, files_set_aside = dict.fromkeys((on.events, on.files, on.landings), 0), 0

        def watched(records: Iterable[LogRecord]) -> Iterator[LogRecord]:
            nonlocal files_set_aside
            for record in records:
                if record[:3] in set_aside and record.topic == on.events:
                    files_set_aside += _is_file(on, record)
                seen[record.topic] += 1
                if not seen[record.topic] % 1000:
                    progress.update(bar, completed=sum(seen.values()))
                yield record

        def decode(record: LogRecord) -> Event:
            """Read the value alone: headers say who sent it and when, and do not count here."""
            try:
                return on.codec.catalogue.decode(
                    record.value, topic=record.topic, partition=record.partition, offset=record.offset
                )
            except UnknownSchema:  # its id is a Schema Registry's
                return on.codec.decode(record)

        options = on.options
        again = rebuild_activity(watched(reader.read(on.events)), decode, options.windows, without=set_aside)
        report.replay = [compare(activity.TABLE, live_activity, again)]
        again = rebuild_overlap(watched(reader.read(on.files)), decode, options.limits, without=set_aside)
        report.replay.append(compare(overlap.TABLE, live_overlap, again))
        report.outputs[on.files] = seen[on.files]
        report.checks = _checks(on, fed, report, set_aside, lines.total())
        report.checks.insert(1, Check("produced = events in Kafka", fed.produced, seen[on.events]))
        report.checks.insert(
            3, Check("files produced = keyed by path + dead-lettered", fed.files, report.outputs[on.files] + files_set_aside)
        )
        _patterns(on, report, reader, lambda offline: offline.run(watched(reader.read(on.landings)), decode), set_aside)
        report.checks.append(Check("landings fed = landings in Kafka", fed.landings, seen[on.landings]))
        progress.update(bar, completed=fed.produced + fed.files + fed.landings)


def _patterns(on: Stage, report: Report, reader: LogReader, run: Callable[[Offline], None], set_aside: set[Place]) -> None:
    """Run the patterns offline over the landings, and compare with what the workers said."""
    report.versions, said = dict(on.versions), list[Event]()
    for topic in on.found:
        events = [on.codec.decode(record) for record in reader.read(topic)]
        report.outputs[topic] = len(events)
        said += events
    ahead = {
        (one.input_topic, one.input_partition, one.input_offset)
        for one in said
        if isinstance(one, LateForPattern) and one.reason == "ahead"
    }
    offline, live = Offline(definitions(), set_aside | ahead), outcomes(said, on.versions)
    run(offline)
    for name, found in offline.found.items():
        report.patterns.append(pattern_line(found, on.versions[name], compare_outcomes(name, live.pop(name), found)))
    report.checks.append(Check("nothing else was said of patterns", 0, sum(map(Counter.total, live.values()))))


def _checks(on: Stage, fed: Fed, report: Report, set_aside: set[Place], dead_lines: int) -> list[Check]:
    """Compare what was counted here with what was counted there."""
    found = report.findings
    if found is None:
        raise AssertionError("the findings come first")
    of = Counter(topic for topic, _, _ in set_aside)
    return [
        Check("lines read = produced + dead-lettered", fed.read, fed.produced + dead_lines),
        Check("produced = processed by activity + dead-lettered", fed.produced, found.events + of[on.events]),
        Check("keyed by path = folded by overlap + dead-lettered", report.outputs[on.files], found.changes + of[on.files]),
        Check("overlaps in the table = published", found.overlaps, report.outputs[on.topic(OverlapFound.topic)]),
        Check("closed windows in the table = published", found.windows_closed, report.outputs[on.topic(WindowClosed.topic)]),
        Check("late events in the table = published", found.late, report.outputs[on.topic(LateEvent.topic)]),
    ]


def _is_file(on: Stage, record: LogRecord) -> bool:
    try:
        return on.codec.type_of(record) == FileChanged.event_type
    except SchemaError:  # that is why it was set aside
        return False


def _count(reader: LogReader, topic: str) -> int:
    return sum(1 for _ in reader.read(topic))


def _header(record: LogRecord, name: str) -> str:
    return next((value.decode(errors="replace") for key, value in record.headers if key == name), "0")
