"""Patterns on the log, from the command line: publish, list, show, pause, resume, remove, and their matches as they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from processors.patterns.counting import counted
from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json, print_table

if TYPE_CHECKING:
    from processors.core.cep.model import Definition
    from processors.patterns.store import PatternStore, StoredPattern

__all__ = ["list_patterns", "matches", "pause", "publish", "remove", "resume", "show"]

Name = Annotated[str, typer.Argument(help="The pattern.", show_default=False)]


def publish(
    files: Annotated[
        list[Path], typer.Argument(help="Definitions, YAML or JSON; - reads standard input.", allow_dash=True, show_default=False)
    ],
    replace: Annotated[
        Literal["drain", "restart"] | None,
        typer.Option(
            help="What becomes of partial matches of the version before; else as the definition says.", show_default=False
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Publish patterns, or their next versions; they take effect on running workers at once.

    Exit code 2 where a file has mistakes: nothing is published then. Workers refuse a pattern that names a topic which they do
    not read (AGENT_CEP_TOPICS); `antiphon cep ls` shows that.
    """
    from processors.patterns.control import ControlError, encode

    definitions = [(str(file), one) for file in files for one in _definitions(str(file))]
    for file, definition in definitions:
        try:
            encode(definition, now_ms=0)
        except ControlError as error:
            raise fail(f"{file}: pattern {definition.name!r}: {error}", Exit.USAGE) from None
    with _store() as store:
        for _, definition in definitions:
            done = store.publish(definition, on_replace=replace)
            for warning in done.warnings:
                err.print(f"warning: {done.name}: {warning}", style="yellow", soft_wrap=True, markup=False)
            if json:
                print_json(
                    {"name": done.name, "version": done.version, "replaces": done.replaces, "warnings": list(done.warnings)}
                )
            else:
                replaces = "" if done.replaces is None else f", replaces {done.replaces} ({replace or definition.on_replace})"
                out.print(f"{done.name} version {done.version}{replaces}", highlight=False, soft_wrap=True)
    err.print("`antiphon cep ls` shows whether the workers refuse it, and why", style="dim", highlight=False, soft_wrap=True)


def list_patterns(json: JsonFlag = False) -> None:
    """List the patterns on the log: active, paused, or refused by the workers, with the reason."""
    with _store() as store:
        found = list(store.list(refusals=True).values())
    if json:
        print_json([_line(one) for one in found])
        return
    rows = [
        [one.name, _shown(one.version), _status(one), _when(one.published_at), _topics(one), _problem(one) or _described(one)]
        for one in found
    ]
    print_table(["pattern", "version", "status", "published", "topics", ""], rows)


def show(name: Name, json: JsonFlag = False) -> None:
    """Print a pattern's definition, as YAML."""
    from processors.core.cep.loading import to_yaml

    with _store() as store:
        stored = store.get(name, refusals=True)
    if json:
        definition = None if stored.definition is None else stored.definition.to_data()
        print_json({**_line(stored), "definition": definition, "versions": [version for version, _ in stored.history]})
        return
    err.print(f"{stored.name} version {_shown(stored.version)}, {_status(stored)}", style="dim", highlight=False)
    if stored.problem:
        err.print(f"its last record is not taken: {stored.problem}", style="yellow", soft_wrap=True, markup=False)
    if stored.refused:
        err.print(f"the workers refuse it: {stored.refused}", style="yellow", soft_wrap=True, markup=False)
    if stored.definition is not None:
        typer.echo(to_yaml(stored.definition), nl=False)


def pause(name: Name) -> None:
    """Let a pattern rest: events pass unseen, and nothing of it times out until it is resumed."""
    with _store() as store:
        before = store.get(name)
        done = before if before.paused else store.pause(name)
    out.print(f"{done.name} version {_shown(done.version)} is {'already ' if before.paused else ''}paused", highlight=False)


def resume(name: Name) -> None:
    """Let a paused pattern go on."""
    with _store() as store:
        before = store.get(name)
        rests = before.paused or before.definition is None
        done = store.resume(name) if rests else before
    out.print(f"{done.name} version {_shown(done.version)} {'goes on' if rests else 'is not paused'}", highlight=False)


def remove(name: Name) -> None:
    """Remove a pattern with its state."""
    with _store() as store:
        store.remove(name)
    out.print(f"{name} is removed", highlight=False)


def matches(
    pattern: Annotated[str | None, typer.Argument(help="Only of this pattern.", show_default=False)] = None,
    beginning: Annotated[bool, typer.Option("--beginning", "-b", help="From the first match on.")] = False,
    count: Annotated[int | None, typer.Option("--count", "-n", help="Stop after so many.", min=1)] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more at the end, or stop there.")] = True,
    json: JsonFlag = False,
) -> None:
    """Print matches as they come, from now on unless told otherwise; Ctrl-C ends it."""
    from processors.patterns.options import CepOptions
    from schemas.cep import PatternMatched
    from streams.cli.tail import Start, records
    from streams.codec import Codec, as_record

    options, codec, shown = CepOptions.load(), Codec(), 0
    try:
        start = Start(beginning=beginning, offset=None, since_ms=None)
        topic = options.topic(options.matches_topic)
        for message in records(cluster_config(), topic, start, partition=None, follow=follow, uncommitted=False):
            record = as_record(message)
            if codec.type_of(record) != PatternMatched.event_type:
                continue
            match = codec.read(record)
            if pattern is not None and match["pattern"] != pattern:
                continue
            _print_match(match, json=json)
            shown += 1
            if count is not None and shown >= count:
                break
    except KeyboardInterrupt:
        err.print(counted(shown, "match", "matches"), style="dim", highlight=False)


# ---- inside


def _print_match(match: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(match)
        return
    stages = "  ".join(
        f"{of['stage']}: " + ", ".join(f"{place['topic']}/{place['partition']}/{place['offset']}" for place in of["events"])
        for of in match["stages"]
    )
    at = datetime.fromtimestamp(match["ended"] / 1000, UTC).isoformat(timespec="milliseconds")
    out.print(
        f"{at} {match['pattern']}@{match['version']} {match['correlation_key']} took {match['took_ms']} ms  {stages}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


@contextmanager
def _store() -> Iterator[PatternStore]:
    from processors.patterns.options import CepOptions
    from processors.patterns.store import PatternMissing, PatternStore
    from streams.settings import Settings

    try:
        yield PatternStore(cluster_config(), CepOptions.load(), replication_factor=Settings().kafka.replication_factor)
    except PatternMissing as error:
        raise fail(str(error), Exit.MISSING) from None


def _definitions(file: str) -> list[Definition]:
    """The definitions in a file, each with something to read."""
    from processors.core.cep.loading import DefinitionError, load_definitions
    from processors.patterns.chosen import ChoiceError, NotThere, content_of

    try:
        found = load_definitions(content_of(file), file)
    except NotThere as error:
        raise fail(str(error), Exit.MISSING) from None
    except (ChoiceError, DefinitionError) as error:  # a mistake a line
        raise fail(str(error), Exit.USAGE) from None
    for one in found:
        if not one.topics:
            raise fail(f"{file}: pattern {one.name!r} names no topic to read: give it `topics: [...]`", Exit.USAGE)
    return found


def _line(stored: StoredPattern) -> dict[str, Any]:
    return {
        "name": stored.name,
        "version": stored.version,
        "status": _status(stored),
        "published_at": stored.published_at,
        "topics": [] if stored.definition is None else list(stored.definition.topics),
        "key": None if stored.definition is None else stored.definition.key,
        "problem": _problem(stored),
    }


def _status(stored: StoredPattern) -> str:
    if stored.definition is None:
        return "not taken"
    if stored.refused:
        return "refused"
    return "paused" if stored.paused else "active"


def _problem(stored: StoredPattern) -> str:
    return "; ".join(filter(None, (stored.problem, stored.refused)))


def _shown(version: int | None) -> str:
    return "-" if version is None else str(version)


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds") if ms else "-"


def _topics(stored: StoredPattern) -> str:
    return "" if stored.definition is None else ", ".join(stored.definition.topics)


def _described(stored: StoredPattern) -> str:
    return "" if stored.definition is None else stored.definition.description.partition("\n")[0]
