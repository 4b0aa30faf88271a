"""What goes wrong outside of us: bad bytes, wrong topics, a broker that is not there or refuses, a disk that is full.

Through the real commands, on real brokers: one line that says what to do, the right exit code, and nothing lost or doubled. The
processor is a package of its own, found by its entry point as any other.
"""

from __future__ import annotations

import collections
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from streams.broker import EmbeddedBroker, Listener
from streams.broker_properties import HOST
from streams.ports import free_port
from streams.topics import Topics
from tests.e2e.trial import read_committed, until
from tests.streams.test_codec_registry import Registry

ROOT = Path(__file__).parent.parent.parent
RUN = "from streams.cli import main; main()"
ENDS_S = 60.0
"""For a command that cannot succeed: it gives up after 5 to 20 s, plus a loaded machine."""
TRANSACTIONS_S = 40.0
"""For a worker to say that a broker has no kafka transactions: 20 s of asking, and a process that starts slowly under load."""
PARTITIONS = 4
KEYS = 7

TALLY = """
import os
from schemas.work import ChangeCommitted

def register(app):
    counts = app.Table("counts", default=int)

    @app.agent(app.batch_topic(os.environ["TALLY_SOURCE"]), name="tally")
    async def tally(stream):
        async for batch in stream:
            seen = batch.view(counts)
            for record, event in batch.events(ChangeCommitted):
                seen[event.agent] += 1
                seen[f"padding {batch.partition} {record.offset}"] = int(os.environ.get("TALLY_PADDING", "0")) * "x"
                batch.send(os.environ["TALLY_OUT"], key=record.key, value=b"%d:%d" % (batch.partition, record.offset))

def second(app):
    counts = app.Table("second", default=int)

    @app.agent(app.batch_topic(os.environ["TALLY_OUT"]), name="second")
    async def second(stream):
        async for batch in stream:
            batch.view(counts)["all"] += len(batch.records)
"""


def event(number: int) -> str:
    """A line for `antiphon produce`."""
    fields = {"agent": f"agent-{number % KEYS}", "task": f"T-{number}", "ts": 1_000 + number, "arrived": 2_000 + number}
    return json.dumps({"type": "change.committed", **fields, "files": 1, "added": 1, "removed": 0, "seq": number}) + "\n"


@dataclass
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on standard error of a command that never began to work."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@dataclass
class Job:
    """An application `antiphon worker tally` of its own, and the commands around it."""

    directory: Path
    servers: str
    settings: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"bad-{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        self.source, self.out = f"{self.name}.in", f"{self.name}.out"
        package = self.directory / "installed"
        (package / "tally-1.0.dist-info").mkdir(parents=True, exist_ok=True)
        (package / "tally.py").write_text(TALLY)
        (package / "tally-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tally\nVersion: 1.0\n")
        (package / "tally-1.0.dist-info" / "entry_points.txt").write_text(
            "[antiphon.processors]\ntally = tally:register\nsecond = tally:second\n"
        )
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        self.environment = {
            **clean,
            "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)]),
            "ANTIPHON_KAFKA__BOOTSTRAP_SERVERS": self.servers,
            "ANTIPHON_WORKER__APP_ID": self.name,
            "ANTIPHON_WORKER__STATE_DIR": str(self.directory / "state"),
            "TALLY_SOURCE": self.source,
            "TALLY_OUT": self.out,
            **self.settings,
        }

    def topics(self) -> set[str]:
        """The topics of this application that exist."""
        return {info.name for info in Topics(self.servers).list() if info.name.startswith(self.name)}

    def start(self, *arguments: str, lines: str | bytes = "", **settings: str) -> subprocess.Popen[bytes]:
        """Start a command, with these lines as its input."""
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            env={**self.environment, **settings},
            cwd=self.directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin
        with process.stdin as into:
            into.write(lines.encode() if isinstance(lines, str) else lines)
        process.stdin = None
        return process

    def run(self, *arguments: str, lines: str | bytes = "", within_s: float = ENDS_S, **settings: str) -> Answer:
        """Run a command to its end."""
        return ended(self.start(*arguments, lines=lines, **settings), within_s)

    def create(self, *names: str, partitions: int = PARTITIONS) -> None:
        """Make topics as an operator does."""
        for name in names:
            answer = self.run("topics", "create", name, "--partitions", str(partitions))
            assert answer.code == 0, answer.err

    def produce(self, numbers: range) -> None:
        """Write good events."""
        answer = self.run("produce", self.source, lines="".join(map(event, numbers)))
        assert (answer.code, answer.err) == (0, "")

    def put(self, value: bytes, partition: int) -> int:
        """Write bytes as they are, and return their offset."""
        offsets: list[int] = []
        producer = Producer({"bootstrap.servers": self.servers})
        producer.produce(self.source, value, b"?", partition=partition, on_delivery=lambda _, m: offsets.append(m.offset() or 0))
        assert producer.flush(20) == 0
        return offsets[0]

    @contextmanager
    def working(self, *names: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker process, killed at the end if it still runs."""
        log = self.directory / "worker.log"
        with log.open("wb") as errors:
            worker = subprocess.Popen(
                [sys.executable, "-c", RUN, "worker", *(names or ("tally",))],
                env={**self.environment, **settings},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()

    @property
    def log(self) -> str:
        """What the last worker said."""
        return (self.directory / "worker.log").read_text(errors="replace")

    def wait_done(self, worker: subprocess.Popen[bytes]) -> None:
        """Wait until the group has committed everything in the source."""
        ends = {one.partition: one.next_offset for one in Topics(self.servers).describe(self.source).partitions}
        group = Consumer({"bootstrap.servers": self.servers, "group.id": self.name, "log_level": 0})

        def done() -> bool:
            assert worker.poll() is None, self.log
            try:
                found = group.committed([TopicPartition(self.source, number) for number in ends], timeout=20)
            except KafkaException:  # a broker that makes its group topic says so for a second
                return False
            return all(max(0, at.offset) >= ends[at.partition] for at in found)

        until(done, f"all of {self.source} is processed")
        group.close()

    def stop(self, worker: subprocess.Popen[bytes]) -> None:
        """Stop a worker as an operator does."""
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(ENDS_S) == 0, self.log
        assert "Traceback" not in self.log

    def verify(self, bad: set[tuple[int, int]] = frozenset()) -> None:  # type: ignore[assignment]
        """Every record but these gave one output and one count in the table."""
        good = [r for r in read_committed(self.servers, self.source, PARTITIONS) if (r[0], r[1]) not in bad]
        outputs = collections.Counter(value for *_, value in read_committed(self.servers, self.out, PARTITIONS))
        assert outputs == collections.Counter(b"%d:%d" % (partition, offset) for partition, offset, *_ in good)
        table = {}
        for partition, _, key, value in read_committed(self.servers, f"{self.name}-counts-changelog", PARTITIONS):
            table[partition, json.loads(key or b"")] = json.loads(value or b"null")
        counts = {at: value for at, value in table.items() if not at[1].startswith("padding")}
        assert counts == collections.Counter((partition, (key or b"").decode()) for partition, _, key, _ in good)


def ended(process: subprocess.Popen[bytes], within_s: float = ENDS_S) -> Answer:
    """Wait for a command's end; never a trace."""
    try:
        out, err = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"still runs after {within_s:.0f} s: {err.decode()}")
    assert b"Traceback" not in err, err.decode()
    return Answer(process.returncode, out.decode(), err.decode())


@pytest.fixture
def job(kafka: EmbeddedBroker, tmp_path: Path) -> Job:
    return Job(tmp_path, kafka.bootstrap_servers)


@pytest.fixture(scope="module")
def stern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker that asks for a password at one door, and that cannot make the topic of its kafka transactions."""
    listener = Listener("SECURE", "SASL_PLAINTEXT", users={"ada": "right"})
    with EmbeddedBroker(
        data_dir=tmp_path_factory.mktemp("stern"),
        heap_mb=384,
        listeners=[listener],
        properties={"transaction.state.log.replication.factor": "3", "transaction.state.log.min.isr": "2"},
    ) as broker:
        yield broker


# ---- bytes


def test_bytes_that_are_no_event_are_set_aside_and_the_rest_goes_on(job: Job) -> None:
    """Wrong bytes and an unknown schema id become dead letters that name their place; every other record counts once."""
    job.create(job.source, job.out)
    job.produce(range(100))
    bad = {
        b"plain text": "MalformedRecord",
        b"\x00\x00\x0f\x42\x3f rest": "UnknownSchema",
        b"\x00\x00\x00": "MalformedRecord",
        b"": "MalformedRecord",
        b"\x00\x00\x00\x00\x01\x06ada": "MalformedRecord",  # an event's beginning
    }
    places = {(1, job.put(value, 1)): (value, error) for value, error in bad.items()}
    job.produce(range(100, 200))
    with job.working() as worker:
        job.wait_done(worker)
        job.stop(worker)
    job.verify(set(places))
    listed = job.run("deadletters", "ls", "--all", "--json")
    letters = [json.loads(line) for line in listed.out.splitlines()]
    assert len(letters) == len(places)
    for letter in letters:
        topic, partition, offset = letter["origin"].split("/")
        value, error = places[int(partition), int(offset)]
        assert (topic, letter["error"], letter["value"]) == (job.source, error, value.decode("utf-8", "backslashreplace"))
        assert letter["reason"].startswith(f"{job.source} partition {partition} offset {offset}")
        assert "\n" not in letter["reason"]
        if error == "UnknownSchema":
            assert "schema id 999999" in letter["reason"]


def test_lines_that_are_no_event_are_named_and_left_out(job: Job) -> None:
    """`produce` writes the good lines, names the number of each malformed one, and its exit code tells."""
    job.create(job.source)
    wrong = ["{not json\n", '{"type": "no.such.event"}\n', event(1).replace('"files": 1', '"files": "many"')]
    answer = job.run("produce", job.source, lines="".join([event(0), *wrong, event(2)]))
    assert answer.code == 1
    assert [line.partition(":")[0] for line in answer.err.splitlines()] == ["line 2", "line 3", "line 4"]
    assert len(read_committed(job.servers, job.source, PARTITIONS)) == 2


# ---- topics


def test_a_missing_source_is_refused_and_nothing_is_made(job: Job) -> None:
    """The worker says which topic is missing and how to make it; the command it names works."""
    answer = job.run("worker", "tally")
    assert answer.code == 4
    assert f"topic {job.source} does not exist" in answer.error
    assert job.topics() == set()
    advice = re.search(r"`antiphon (topics create .*?)`", answer.error)
    assert advice
    assert job.run(*advice[1].split()).code == 0
    assert job.topics() == {job.source}


def test_a_missing_output_stops_the_worker_before_anything_is_lost(job: Job) -> None:
    """The first output to a topic that is not there stops the worker with its name; made, the same records count once."""
    job.create(job.source)
    job.produce(range(50))
    with job.working() as worker:
        assert worker.wait(ENDS_S) == 4, job.log
    errors = [line for line in job.log.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert f"topic {job.out} does not exist: create it with `antiphon topics create {job.out}" in errors[0]
    assert "Traceback" not in job.log
    assert job.out not in job.topics()
    job.create(job.out)
    with job.working() as worker:
        job.wait_done(worker)
        job.stop(worker)
    job.verify()


def test_commands_name_a_missing_topic(job: Job) -> None:
    """Exit code 4, one line, and the topic is not made by asking for it."""
    commands = [["produce"], ["tail"], ["replay"], ["topics", "describe"], ["topics", "delete", "--yes"]]
    started = [job.start(*command, job.source, lines=event(0)) for command in commands]
    for command, answer in zip(commands, [ended(process) for process in started], strict=True):
        assert answer.code == 4, (command, answer.err)
        assert f"topic {job.source} does not exist" in answer.error
    assert job.topics() == set()


def test_a_source_with_other_partitions_than_its_table_is_refused(job: Job) -> None:
    """Keys would land elsewhere than their state: the worker says so with both numbers, and changes nothing."""
    job.create(job.source, job.out)
    job.create(f"{job.name}-counts-changelog", partitions=2)
    answer = job.run("worker", "tally")
    assert answer.code == 1
    assert f"topic {job.name}-counts-changelog has 2 partitions and 4 are needed" in answer.error
    assert job.topics() == {job.source, job.out, f"{job.name}-counts-changelog"}


def test_two_sources_of_one_application_with_different_partitions_are_refused(job: Job) -> None:
    """The tables of an application are partitioned as its sources, so these must agree."""
    job.create(job.source)
    job.create(job.out, partitions=3)
    answer = job.run("worker", "tally", "second")
    assert answer.code == 1
    assert re.search(r"has \d partitions and \d are needed", answer.error)
    assert job.topics() == {job.source, job.out}


def test_a_source_that_is_created_gets_the_partitions_of_the_others(job: Job) -> None:
    """With worker.create_topics, a missing source is made to fit those that are there, not to be refused at once."""
    job.create(job.source, partitions=2)
    with job.working("tally", "second", ANTIPHON_WORKER__CREATE_TOPICS="true") as worker:
        until(lambda: "turns start on" in job.log or worker.poll() is not None, "the worker runs")
        job.stop(worker)
    assert len(Topics(job.servers).describe(job.out).partitions) == 2


# ---- brokers

COMMANDS = [["worker", "tally"], ["produce", "t"], ["tail", "t"], ["replay", "t"], ["topics", "ls"], ["deadletters", "ls"]]


def all_fail_alike(job: Job, words: str, **settings: str) -> None:
    """Every command ends with exit code 3 and one line with these words."""
    started = [job.start(*command, lines=event(0), **settings) for command in COMMANDS]
    for command, answer in zip(COMMANDS, [ended(process) for process in started], strict=True):
        assert answer.code == 3, (command, answer.err)
        assert words in answer.error, command
        assert answer.out == "", command


def test_no_broker(tmp_path: Path) -> None:
    """Every command says that nobody answers, where, and how to name another."""
    port = free_port(HOST, set())
    all_fail_alike(Job(tmp_path, f"{HOST}:{port}"), f"no Kafka broker answers at {HOST}:{port}")


def test_wrong_credentials(stern: EmbeddedBroker, tmp_path: Path) -> None:
    """Every command says that they are refused and which settings to correct; no password is shown."""
    job = Job(
        tmp_path,
        stern.address("SECURE"),
        {
            "ANTIPHON_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "ANTIPHON_KAFKA__SASL_MECHANISM": "PLAIN",
            "ANTIPHON_KAFKA__SASL_USERNAME": "ada",
            "ANTIPHON_KAFKA__SASL_PASSWORD": "wrong-secret",
        },
    )
    all_fail_alike(job, "refuses the credentials")
    answer = job.run("topics", "ls")
    assert "ANTIPHON_KAFKA__SASL_PASSWORD" in answer.error
    assert "wrong-secret" not in answer.error
    assert job.run("topics", "ls", ANTIPHON_KAFKA__SASL_PASSWORD="right").code == 0


def test_a_broker_without_kafka_transactions(stern: EmbeddedBroker, tmp_path: Path) -> None:
    """The worker says so in good time; with the guarantee that the line proposes it runs, through the same listener."""
    secure = {
        "ANTIPHON_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "ANTIPHON_KAFKA__SASL_MECHANISM": "PLAIN",
        "ANTIPHON_KAFKA__SASL_USERNAME": "ada",
        "ANTIPHON_KAFKA__SASL_PASSWORD": "right",
    }
    job = Job(tmp_path, stern.bootstrap_servers)
    job.environment |= secure | {"ANTIPHON_KAFKA__BOOTSTRAP_SERVERS": stern.address("SECURE")}
    job.create(job.source, job.out)
    job.produce(range(50))
    answer = job.run("worker", "tally", within_s=TRANSACTIONS_S)
    assert answer.code == 3
    assert "does not do kafka transactions" in answer.error
    assert job.topics() == {job.source, job.out}
    (advice,) = re.findall(r"set (ANTIPHON_\w+)=(\w+)", answer.error)
    with job.working(**{advice[0]: advice[1]}) as worker:
        job.wait_done(worker)
        job.stop(worker)
    job.verify()


# ---- a Schema Registry


def test_records_wait_while_the_schema_registry_is_away(job: Job) -> None:
    """What cannot be read for want of an answer is good: it is tried again, not set aside, and counts once in the end."""
    with Registry() as registry:
        serving = threading.Thread(target=registry.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        job.environment["ANTIPHON_REGISTRY__URL"] = registry.url
        job.create(job.source, job.out)
        job.produce(range(20))
        registry.broken = 503
        with job.working() as worker:
            until(lambda: "is tried again in 1.6 s" in job.log or worker.poll() is not None, "three attempts")
            assert worker.poll() is None, job.log
            registry.broken = 0
            job.wait_done(worker)
            job.stop(worker)
        registry.shutdown()
        serving.join()
    assert f"the Schema Registry at {registry.url} gave no answer" in job.log
    job.verify()
    assert job.run("deadletters", "ls", "--all", "--json").out == ""


# ---- disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    directory = tmp_path / "small"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def fill(directory: Path, left_bytes: int) -> Path:
    """Take up the space of a file system but for so many bytes."""
    usage = os.statvfs(directory)
    ballast = directory / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, usage.f_bavail * usage.f_frsize - left_bytes))
    return ballast


def test_a_full_disk_at_the_start(job: Job, small_disk: Path) -> None:
    """A worker with tables on disk does not start where there is no room for them, and says where."""
    job.create(job.source, job.out)
    fill(small_disk, 1 << 20)
    answer = job.run("worker", "tally", ANTIPHON_WORKER__STORE="rocksdb", ANTIPHON_WORKER__STATE_DIR=str(small_disk))
    assert answer.code == 3
    assert f"cannot write to {small_disk}" in answer.error
    assert "free some space" in answer.error
    assert job.topics() == {job.source, job.out}


def test_a_disk_that_fills_up_while_a_worker_runs(job: Job, small_disk: Path) -> None:
    """The worker stops with one line; with space again it goes on where it was, with nothing lost and nothing doubled."""
    job.create(job.source, job.out)
    job.produce(range(200))
    settings = {
        "ANTIPHON_WORKER__STORE": "rocksdb",
        "ANTIPHON_WORKER__STATE_DIR": str(small_disk),
        "ANTIPHON_WORKER__INSTANCE": "w1",
        "ANTIPHON_WORKER__TURN_RECORDS_MAX": "50",
        "TALLY_PADDING": "20000",
    }
    with job.working(**settings) as worker:
        job.wait_done(worker)
        ballast = fill(small_disk, 64 << 10)
        job.produce(range(200, 1_000))
        assert worker.wait(ENDS_S) == 3, job.log
    errors = [line for line in job.log.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, job.log
    assert f"cannot write to {small_disk}" in errors[0]
    assert "free some space" in errors[0]
    assert "Traceback" not in job.log
    ballast.unlink()
    with job.working(**settings) as worker:
        job.wait_done(worker)
        job.stop(worker)
    job.verify()
