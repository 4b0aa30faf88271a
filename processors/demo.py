"""`antiphon demo`: a real multi-agent history through Kafka and two workers, with every event accounted for and a replay proof.

    history ─┬▶ agents.events ───┬─▶ worker 1, worker 2 ─▶ tables, agents.files, agents.overlaps, agents.windows, agents.late
             ├▶ agents.landings ─┘   patterns of the library ─▶ antiphon.matches, antiphon.late
             └▶ demo.dead-letters (malformed lines)   └─▶ <app>.dead-letters (what a worker cannot take)

Exit code 0 when produced = processed + dead-lettered, every table equals its replay and every pattern its run offline, 1 when
not, 130 after Ctrl-C. The broker is the configured one, where topics get a prefix of their own and are removed afterwards, or an
embedded one with a data directory of its own.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from processors import report as reports
from processors.audit import audit
from processors.feeding import Fed, feed
from processors.history import Entry, HistoryError, HistoryMissing, read_file
from processors.repository import read_repository
from processors.stage import Stage, stage
from processors.waiting import Watch
from streams.cli.output import Exit, fail
from streams.settings import Settings

__all__ = ["BUNDLED", "command", "run"]

BUNDLED: Final = Path(__file__).with_name("data") / "kafka-history.jsonl.gz"
WORKERS_MAX: Final = 16
PARTITIONS_MAX: Final = 64
PARTS: Final = 1000
"""Steps of the progress bar of the reading."""


def command(
    events: Annotated[
        Path | None, typer.Option(help="A history as JSON lines (.jsonl, .jsonl.gz); else the bundled one.", show_default=False)
    ] = None,
    repo: Annotated[Path | None, typer.Option(help="A git repository, as a history.", show_default=False)] = None,
    workers: Annotated[int, typer.Option(min=1, max=WORKERS_MAX, help="Worker processes.")] = 2,
    partitions: Annotated[int, typer.Option(min=1, max=PARTITIONS_MAX, help="Partitions of every topic.")] = 4,
    report: Annotated[Path | None, typer.Option(help="Directory for report.json and report.svg.", show_default=False)] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave topics and data there, and say where.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run a real multi-agent history through Kafka and prove that nothing was lost, doubled or changed."""
    if events is not None and repo is not None:
        raise typer.BadParameter("--events and --repo exclude each other")
    console = Console(stderr=True) if json else Console()
    try:
        with _interruptible():
            done = run(events=events, repo=repo, workers=workers, partitions=partitions, keep=keep, console=Console(stderr=True))
    except HistoryMissing as e:
        raise fail(str(e), Exit.MISSING) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; nothing was left behind")
        raise typer.Exit(128 + signal.SIGINT) from None
    if report is not None:
        for path in reports.write(done, report):
            Console(stderr=True).print(f"wrote {path}", style="dim", soft_wrap=True)
    if json:
        typer.echo(orjson.dumps(done.document(), option=orjson.OPT_NON_STR_KEYS).decode())
    else:
        reports.show(done, console)
    raise typer.Exit(0 if done.good else 1)


def run(
    *,
    events: Path | None = None,
    repo: Path | None = None,
    workers: int = 2,
    partitions: int = 4,
    keep: bool = False,
    console: Console,
    settings: Settings | None = None,
) -> reports.Report:
    """Do the whole job and return the report; see the module.

    Raises:
        AntiphonError: The history cannot be read, the broker does not work, a worker ended or nothing moves any more.
    """
    started = time.perf_counter()
    settings = settings or Settings()
    now_ms = time.time_ns() // 1_000_000
    path = repo or events or BUNDLED
    name = path.resolve().name
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with ExitStack() as cleanup:
        cleanup.enter_context(progress)
        reading = progress.add_task("reading", total=PARTS)

        def read_so_far(part: float) -> None:
            progress.update(reading, completed=int(part * PARTS))

        read = read_repository if repo is not None else read_file
        entries = _begun(read(path, now_ms=now_ms, on_progress=read_so_far))  # what cannot be read must not start a broker
        on = cleanup.enter_context(stage(settings, partitions=partitions, keep=keep))
        report = reports.Report(history=name, workers=workers, partitions=partitions, kept=on.kept)
        with on.crew:
            working = time.perf_counter()
            fed = _work(on, entries, progress, now_ms=now_ms, history=name, workers=workers)
            report.seconds = time.perf_counter() - working
        progress.update(reading, completed=PARTS)
        report.read, report.produced, report.produce_rate = fed.read, fed.produced, fed.rate
        report.rate = fed.produced / report.seconds
        audit(on, fed, report, progress)
    report.total_seconds = time.perf_counter() - started
    return report


def _work(on: Stage, entries: Iterator[Entry], progress: Progress, *, now_ms: int, history: str, workers: int) -> Fed:
    """Start the workers, feed the history while they run, and wait until they are done with it."""
    for number in range(1, workers + 1):
        on.crew.start(f"{on.app_id}-worker-{number}")
    with on.reader() as reader:
        watch = Watch(on, reader, progress)
        fed = feed(
            entries,
            client=on.client,
            codec=on.codec,
            topic_of=on.options.topic,
            dead_letter_topic=on.history_dead_letters,
            history=history,
            tick=watch.look,
            now_ms=now_ms,
        )
        watch.finish(fed)
    return fed


def _begun(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Read the first entry now, so that what is wrong with the whole history shows before anything starts."""
    first = next(entries, None)
    if first is None:
        raise HistoryError("the history has no event")

    def whole() -> Iterator[Entry]:
        yield first
        yield from entries

    return whole()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP clean up as Ctrl-C does, and end with KeyboardInterrupt whatever the interrupted code made of it.

    An interrupt raised inside a C library may come out as another exception: of one in its `produce` confluent_kafka makes a
    TypeError.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except Exception as e:
        if received:
            raise KeyboardInterrupt from e
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
