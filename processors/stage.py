"""Where a demo run plays: a broker, topics of its own, patterns, a directory, workers. All of it goes away afterwards."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from processors import activity, cep, overlap
from processors.crew import Crew
from processors.log_reader import LogReader
from processors.options import CHANGED_FILES, ENV_PREFIX, WorkOptions
from processors.patterns.options import ENV_PREFIX as CEP_ENV_PREFIX
from processors.patterns.options import CepOptions
from processors.patterns.store import PatternStore
from processors.sightings import LANDINGS, definitions
from schemas.work import FileChanged, LateEvent, OverlapFound, WindowClosed
from streams.broker import EmbeddedBroker
from streams.codec import Codec
from streams.settings import Settings
from streams.topics import COMPACTED, Topics

__all__ = ["Stage", "stage"]

DEAD_LETTERS: Final = "demo.dead-letters"
OUTPUTS: Final = (OverlapFound.topic, WindowClosed.topic, LateEvent.topic)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a run needs to know of its place.

    Attributes:
        app_id: Of the workers; also their consumer group.
        client: librdkafka settings that reach the broker.
        options: What the processors of work are told, the topics' prefix included.
        cep: What the pattern processor is told, likewise.
        codec: For events.
        crew: For the workers; not started yet.
        directory: For logs.
        versions: The patterns that are published, each with its version.
        kept: Where everything stays, in words; empty when it goes.
    """

    app_id: str
    client: dict[str, Any]
    options: WorkOptions
    cep: CepOptions
    codec: Codec
    crew: Crew
    directory: Path
    versions: Mapping[str, int]
    kept: str

    def topic(self, name: str) -> str:
        """Return the full name of a topic."""
        return self.options.topic(name)

    @property
    def events(self) -> str:
        """The topic of the agents' events."""
        return self.topic(FileChanged.topic)

    @property
    def files(self) -> str:
        """The topic of the changed files by path."""
        return self.topic(CHANGED_FILES)

    @property
    def landings(self) -> str:
        """The topic of what landed, which the patterns read."""
        return self.topic(LANDINGS)

    @property
    def found(self) -> tuple[str, ...]:
        """The topics of what the patterns find: matches, late events, evictions."""
        return tuple(map(self.cep.topic, (self.cep.matches_topic, self.cep.late_topic, self.cep.evictions_topic)))

    @property
    def history_dead_letters(self) -> str:
        """Where malformed lines go."""
        return self.topic(DEAD_LETTERS)

    @property
    def worker_dead_letters(self) -> str:
        """Where workers set aside what they cannot take."""
        return f"{self.app_id}.dead-letters"

    def changelog(self, table: str) -> str:
        """Return the topic that holds a table."""
        return f"{self.app_id}-{table}-changelog"

    def reader(self) -> LogReader:
        """Return a reader of this run's topics."""
        return LogReader(self.client, group=self.app_id)


@contextmanager
def stage(settings: Settings, *, partitions: int, keep: bool) -> Iterator[Stage]:
    """Set up broker, topics, patterns and directory, and take them down again.

    Args:
        settings: Where the broker is; without one, an embedded one of the run's own is started on a free port.
        partitions: Of every topic.
        keep: Leave topics and directory there.

    Raises:
        AntiphonError: The broker or the topics cannot be had.
    """
    run_id = f"demo-{secrets.token_hex(4)}"
    configured = settings.kafka.bootstrap_servers
    with ExitStack() as cleanup:
        directory = Path(tempfile.mkdtemp(prefix=f"antiphon-{run_id}-"))
        if not keep:
            cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        servers = configured
        if not configured:
            broker = EmbeddedBroker(
                data_dir=directory / "broker", heap_mb=settings.broker.heap_mb, jars_dir=settings.broker.jars_dir
            )
            servers = cleanup.enter_context(broker).bootstrap_servers
        options = WorkOptions.load()
        prefix = options.topic_prefix + (f"{run_id}." if configured else "")
        options = options.model_copy(update={"topic_prefix": prefix})
        matching = CepOptions.load().model_copy(update={"topic_prefix": prefix, "topics": (LANDINGS,), "keyed_topics": ()})
        client = settings.kafka.client_config(servers)
        app_id = run_id if configured else "antiphon-demo"
        environment = {
            "ANTIPHON_KAFKA__BOOTSTRAP_SERVERS": servers,
            "ANTIPHON_WORKER__APP_ID": app_id,
            "ANTIPHON_WORKER__PARTITIONS": str(partitions),
            "ANTIPHON_WORKER__WEB_PORT": "0",
            "ANTIPHON_WORKER__STATE_DIR": str(directory / "state"),
            f"{ENV_PREFIX}TOPIC_PREFIX": prefix,
            f"{CEP_ENV_PREFIX}TOPIC_PREFIX": prefix,
            f"{CEP_ENV_PREFIX}TOPICS": LANDINGS,
            f"{CEP_ENV_PREFIX}KEYED_TOPICS": "",
        }
        crew = Crew(["worker", activity.TABLE, overlap.TABLE, "cep"], directory=directory, environment=environment)
        kept = f"data and logs in {directory}; topics {prefix}* at {servers}" if configured else f"data and logs in {directory}"
        on = Stage(app_id, client, options, matching, Codec.from_settings(settings), crew, directory, {}, kept if keep else "")
        _make_topics(on, settings, partitions, cleanup, keep=keep or not configured)
        store = PatternStore(client, matching)
        yield replace(on, versions={one.name: store.publish(one).version for one in definitions()})


def _make_topics(on: Stage, settings: Settings, partitions: int, cleanup: ExitStack, *, keep: bool) -> None:
    topics = Topics(on.client)
    plain = [
        on.events,
        on.files,
        on.landings,
        on.history_dead_letters,
        on.worker_dead_letters,
        *map(on.topic, OUTPUTS),
        *on.found,
    ]
    plain += [on.cep.topic(on.cep.timeouts_topic), on.cep.topic(on.cep.changes_topic), on.cep.keyed(on.app_id)]
    patterns = on.cep.topic(on.cep.patterns_topic)
    compacted = [patterns, *map(on.changelog, (activity.TABLE, overlap.TABLE, cep.LANES, cep.STATES))]
    for name in [*plain, *compacted]:
        topics.create(
            name,
            partitions=1 if name == patterns else partitions,
            replication_factor=settings.kafka.replication_factor,
            config=COMPACTED if name in compacted else None,
        )
        if not keep:
            cleanup.callback(topics.delete, name)
