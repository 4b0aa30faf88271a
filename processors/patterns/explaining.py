"""Reads what is needed to explain a key of a pattern: its state from the worker's tables, its last event from the log.

    <app id>-cep-lanes-changelog     which versions there are, and their watermarks
    <app id>-cep-states-changelog    the partial matches of the key
    the pattern's topics             its last events, looked for from the end backwards

A table does not hold what is no more. So the key's events since a window ago are run once more: what the last of them ended is
told if the end is what the table holds, and left out if not (the worker knew something that the range read does not show).

Nothing is written and no group is joined. What a running worker has not committed yet is not seen.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from processors.cep import LANES, STATES
from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.explain import Ended, Explained, Wait, ended, explain, explain_begin
from processors.core.cep.model import Definition
from processors.core.cep.outputs import Outputs, SkipMissed
from processors.core.watermarks import BEGINNING
from processors.patterns.key_log import KeyLog
from processors.patterns.needs import Need
from processors.patterns.rows import Row
from processors.patterns.store import PatternStore
from streams.codec import Codec
from streams.errors import TopicMissing

if TYPE_CHECKING:
    from processors.patterns.key_log import Logged, OnRead
    from processors.patterns.options import CepOptions
    from processors.patterns.reading import Event

__all__ = ["KeyExplained", "Nothing", "explain_key"]


class Nothing(LookupError):
    """There is nothing to explain: says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class KeyExplained:
    """A key under one version of a pattern.

    Attributes:
        pattern: The pattern's name.
        version: The version.
        status: "active", "paused", "draining" or "dropping".
        key: The correlation key.
        partition: The partition that holds its state; None where it has none.
        watermark: Event time there, ms; None where no event has come.
        event: The key's last event; None where the log has none.
        partials: Its partial matches, explained.
        ended: Those that the event ended, or the time since, and why; empty as well where that cannot be known.
        begins: What would begin one, and why the event did not.
        waiting: Events that wait for the watermark; none of them is `event`.
        unseen: Why the event took no part under this version; empty where it did, as far as is known.
        matches: How many matches the event completed; 0 as well where that cannot be known.
        refused: Why workers refuse what was published last under this name; empty where they do not.
    """

    pattern: str
    version: int
    status: str
    key: str
    partition: int | None
    watermark: int | None
    event: Event | None
    partials: tuple[Explained, ...]
    ended: tuple[Ended, ...]
    begins: tuple[Wait, ...]
    waiting: int
    unseen: str = ""
    matches: int = 0
    refused: str = ""


def explain_key(
    name: str,
    key: str,
    *,
    app_id: str,
    options: CepOptions,
    config: Mapping[str, Any],
    on_read: OnRead | None = None,
) -> list[KeyExplained]:
    """Explain a key, under each version of a pattern that workers still run; the newest last.

    Args:
        name: The pattern.
        key: The correlation key, as text.
        app_id: The app whose workers run patterns.
        options: Topics.
        config: What every confluent-kafka client is made with.
        on_read: Called with the number of records read so far.

    Raises:
        Nothing: No worker runs such a pattern.
        BrokerError: The broker does not answer or refuses.
    """
    reading = KeyLog(config, on_read)
    try:
        lanes = reading.table(f"{app_id}-{LANES}-changelog", lambda _raw: True)
    except TopicMissing as error:
        raise Nothing(
            f"no worker of app {app_id!r} has run patterns here: start `antiphon worker cep`, or name its app"
        ) from error
    lane_of = _lanes_of(lanes)
    versions = {one: content for (kind, one, _), content in lane_of.items() if kind == "version" and content["name"] == name}
    stored = PatternStore(config, options).list(refusals=True).get(name)
    refused = "" if stored is None else stored.refused
    if not versions:
        if refused:
            raise Nothing(f"no worker runs pattern {name!r}, its last version is refused: {refused}")
        raise Nothing(f"no worker runs a pattern {name!r}: `antiphon cep ls` lists those that are published")
    wanted = {orjson.dumps([version, key]): version for version in versions}
    rows = reading.table(f"{app_id}-{STATES}-changelog", lambda raw: raw in wanted)
    codec = Codec()
    found = []
    for version in sorted(versions):
        definition = Definition.model_validate(versions[version]["definition"])
        matcher = Matcher(compile_pattern(definition.pattern), partial_matches_max=definition.partial_matches_max)
        held = [(partition, value) for (partition, raw), value in rows.items() if wanted[raw] == version]
        at = held[0][0] if held else None
        row = Row.read(held[0][1]) if held else None
        need = Need(definition, codec.catalogue, frozenset(options.keyed_topics))
        waiting = set() if row is None else {waiting["id"] for waiting, _ in row.waiting}
        read = reading.last_events(need, key, at, codec, options, app_id, over_ms=_span_ms(matcher))
        logged = [one for one in read if one.event["id"] not in waiting]
        event = logged[-1].event if logged else None
        state = None if row is None else row.state(matcher)
        lane = logged[-1].partition if logged else at
        mark = None if lane is None else _watermark(lane_of.get(("marks", version, lane)))
        told = {} if lane is None else lane_of.get(("version", version, lane), {}).get("told", {})
        unseen = _unseen(logged[-1], told, held=row is not None) if logged else ""
        judged = None if unseen else event
        seen = [one.event for one in logged if _active(one, told)]
        matches, gone = 0, tuple[Ended, ...]()
        if seen and seen[-1] is event:
            newest = mark == event["ts"] - definition.disorder_ms - 1
            matches, gone = _last(matcher, seen, state, mark, newest=newest)
        found.append(
            KeyExplained(
                name,
                version,
                versions[version]["status"],
                key,
                at,
                mark,
                event,
                () if state is None else tuple(explain(matcher, state, judged)),
                gone,
                explain_begin(matcher, judged),
                len(waiting),
                unseen,
                matches,
                refused,
            )
        )
    return found


def _lanes_of(lanes: Mapping[tuple[int, bytes], bytes]) -> dict[tuple[str, int, int], dict[str, Any]]:
    """What the lanes hold: by "version" or "marks" (its clock), version, and partition."""
    found = {}
    for (partition, raw), value in lanes.items():
        kind, *version = orjson.loads(raw)
        if kind in {"version", "marks"}:
            found[kind, version[0], partition] = orjson.loads(value)
    return found


def _span_ms(matcher: Matcher) -> int:
    """How long before the last event the events lie that a partial match may have; 0: nothing says so."""
    return matcher.automaton.window_ms or max((state.window_ms or 0 for state in matcher.automaton.states), default=0)


def _active(logged: Logged, told: Mapping[str, Any]) -> bool:
    """Whether a version surely was active when it came to an event."""
    status, since = told.get(logged.topic, ("", 0))
    return bool(status == "active" and logged.offset >= since)


def _unseen(logged: Logged, told: Mapping[str, Any], *, held: bool) -> str:
    """Why a version did not see a key's last event, by what its lane has said of it; empty where that is not known.

    What is said holds from an offset on, and of a resumed version that is the resumption: where the key holds something, the
    version has seen events before it.
    """
    status, since = told.get(logged.topic, ("", 0))
    if status == "active" and logged.offset < since and not held:
        return "it came before this version was activated, or last resumed"
    if status == "paused" and logged.offset >= since:
        return "it came after this version was paused, and passed unseen"
    return ""


def _last(
    matcher: Matcher,
    events: Sequence[Event],
    state: Any,  # noqa: ANN401 the engine's own
    mark: int | None,
    *,
    newest: bool,
) -> tuple[int, tuple[Ended, ...]]:
    """How many matches the last event completed; and what it and the time since ended.

    Both only if running the events again comes to what the worker holds. That says nothing of an event that leaves no trace: its
    matches count where it is the `newest` of its lane, so not late.
    """
    again, matches = _again(matcher, events, mark)
    began = {event["id"] for event in events}
    known = [] if state is None else [places for places in _spelled(matcher, state) if places[0] in began]
    if again != known:
        return 0, ()
    if matches and not newest and _again(matcher, events[:-1], mark)[0] == again:
        matches = 0
    return matches, ended(matcher, events, clock_ms=mark)


def _again(matcher: Matcher, events: Sequence[Event], mark: int | None) -> tuple[list[list[Any]], int]:
    """Run events of a key again: the partial matches by their places, and how many matches the last event completed."""
    if not events:
        return [], 0
    *before, last = events
    key, states, out = last["key"], dict[Hashable, Any](), Outputs()
    try:
        matcher.run(states, before, Outputs())
        matcher.advance(states, key, last["ts"], Outputs())
        matcher.run(states, [last], out)
        if mark is not None:
            matcher.advance(states, key, mark, Outputs())
    except SkipMissed:
        pass  # `ended` tells it; a worker has dropped the state too
    return ([] if key not in states else _spelled(matcher, states[key])), len(out.matches)


def _spelled(matcher: Matcher, state: Any) -> list[list[Any]]:  # noqa: ANN401 the engine's own
    """The places of each partial match's events."""
    return sorted([event["id"] for events in partial.stages.values() for event in events] for partial in matcher.view(state))


def _watermark(stored: Any) -> int | None:  # noqa: ANN401 what the table holds
    """The watermark of a lane; None before its first event."""
    if stored is None or stored["marks"]["mark"] == BEGINNING:
        return None
    mark: int = stored["marks"]["mark"]
    return mark
