"""`antiphon cep explain PATTERN KEY`: what waits, for what, until when, and why the last event did not move it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from processors.patterns.counting import counted
from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json

if TYPE_CHECKING:
    from processors.core.cep.explain import Ended, Explained, Wait
    from processors.core.cep.outputs import EventFields
    from processors.patterns.explaining import KeyExplained

__all__ = ["explain"]


def explain(
    pattern: Annotated[str, typer.Argument(help="The pattern's name.", show_default=False)],
    key: Annotated[str, typer.Argument(help="The correlation key, as text.", show_default=False)],
    app: Annotated[str | None, typer.Option("--app", help="The app whose workers run patterns; else the settings'.")] = None,
    json: JsonFlag = False,
) -> None:
    """List the partial matches of a key: what each waits for, its deadline, and why the last event did not advance it.

    Reads the committed state of the workers and the end of the log; nothing is written. Exit code 4 where no worker runs the
    pattern; where the workers refuse it, with their reason.
    """
    from processors.patterns.explaining import Nothing, explain_key
    from processors.patterns.options import CepOptions
    from streams.settings import Settings

    with _progress() as read:
        try:
            found = explain_key(
                pattern,
                key,
                app_id=app or Settings().worker.app_id,
                options=CepOptions.load(),
                config=cluster_config(),
                on_read=read,
            )
        except Nothing as error:
            raise fail(str(error), Exit.MISSING) from None
    if json:
        print_json([_document(one) for one in found])
        return
    if found[0].refused:
        _say(f"the last version is refused by the workers: {found[0].refused}", style="yellow")
    for one in found:
        _show(one)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    with err.status("reading the log") as status:
        yield lambda count: status.update(f"reading the log: {counted(count, 'record')}")


def _document(found: KeyExplained) -> dict[str, Any]:
    return asdict(found)


def _show(found: KeyExplained) -> None:
    where = f"{'no state' if found.partition is None else f'partition {found.partition}'}, watermark {_time(found.watermark)}"
    _say(f"{found.pattern} version {found.version} ({found.status}), key {found.key}: {where}", style="bold")
    if found.waiting:
        _say(f"{counted(found.waiting, 'event waits', 'events wait')} for the watermark")
    if found.event is None:
        _say("the log has no event of this key that the pattern reads")
    else:
        topic, partition, offset = found.event["id"]
        _say(f"last event: {found.event['type']} at {_time(found.event['ts'])} ({topic}/{partition}/{offset})")
        if found.unseen:
            _say(f"   {found.unseen}", style="yellow")
        if found.matches:
            _say(f"   it completed {counted(found.matches, 'match', 'matches')}", style="yellow")
    for number, partial in enumerate(found.partials, 1):
        _show_partial(number, partial)
    for ended in found.ended:
        _show_ended(ended)
    if not found.partials:
        _say("\nno partial match")
        _show_waits(found.begins, "one would begin with")


def _show_partial(number: int, partial: Explained) -> None:
    ends = "never" if partial.deadline is None else _time(partial.deadline)
    becomes = "is a match" if partial.pending else "times out"
    _say(f"\n{number}. began {_time(partial.started)}, {becomes} {ends}", style="bold")
    for stage, events in partial.stages.items():
        _say(f"   has {stage}: {_places(events)}")
    _show_waits(partial.waits, "waits for")
    if partial.outcome:
        _say(f"   {partial.outcome}", style="yellow")


def _show_ended(ended: Ended) -> None:
    _say(f"\nno more: began {_time(ended.started)}, {ended.how} {_time(ended.at)}", style="bold")
    for stage, events in ended.stages.items():
        _say(f"   had {stage}: {_places(events)}")
    _say(f"   {ended.why}", style="yellow")


def _places(events: list[EventFields]) -> str:
    return ", ".join("/".join(map(str, event["id"])) for event in events)


def _show_waits(waits: tuple[Wait, ...], verb: str) -> None:
    for wait in waits:
        _say(f"   {'would be ended by' if wait.ends else verb} {wait.stage}: {wait.condition}")
        if verb != "waits for":
            for why in wait.why:
                _say(f"      the last event: {why}", style="yellow")


def _say(text: str, style: str | None = None) -> None:
    out.print(text, style=style, soft_wrap=True, highlight=False, markup=False)


def _time(ms: int | None) -> str:
    return "-" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
