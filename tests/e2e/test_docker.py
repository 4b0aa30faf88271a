"""The official Kafka image through testcontainers, and the compose file: what works on the embedded broker works there.

Skipped, with the reason, where no Docker answers or the image is neither present nor to be had.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from schemas.work import FileChanged, OverlapFound
from streams.broker_properties import HOST
from streams.codec import Codec, Plain
from streams.errors import BrokerError
from streams.ports import free_port
from streams.topics import COMPACTED, Topics
from tests.e2e.trial import read_committed, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

IMAGE = "apache/kafka:4.1.1"
ROOT = Path(__file__).parent.parent.parent
READY_S = 120.0
"""For the container to answer: seconds, and a minute on a machine that unpacks the image first."""
BUILD_S = 480.0
"""For the worker's image: the packages are fetched, of which the JDK alone has 100 MB."""
UNREACHABLE = ("No matching distribution found", "Could not fetch URL", "Temporary failure in name resolution")
"""What pip says where it reaches no package index."""

LISTENERS = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_LISTENERS": "INSIDE://:9094,OUTSIDE://:9092,CONTROLLER://:9093",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # The broker asks itself about kafka transactions, and the published port is not reachable from inside.
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
    "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
}


@pytest.fixture(scope="module")
def docker_daemon() -> None:
    """Skips where no Docker answers."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env()
        client.ping()
        client.close()
    except DockerException as error:
        pytest.skip(f"no Docker answers here: {' '.join(str(error).split())}")


@pytest.fixture(scope="module")
def topics(docker_daemon: None) -> Iterator[Topics]:
    """The topics of a Kafka in a container, which is gone afterwards."""
    from docker.errors import APIError, ImageNotFound
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    testcontainers_config.ryuk_disabled = True  # its image would have to be fetched; the fixture stops the container itself
    port = free_port(HOST, set())
    container = DockerContainer(IMAGE)
    container.ports[9092] = (HOST, port)  # type: ignore[index, assignment]  # docker-py takes an address too, with_bind_ports does not
    for name, value in {**LISTENERS, "KAFKA_ADVERTISED_LISTENERS": f"INSIDE://localhost:9094,OUTSIDE://{HOST}:{port}"}.items():
        container.with_env(name, value)
    try:
        container.start()
    except ImageNotFound as error:
        pytest.skip(f"no image {IMAGE} here, and none to be had: {error.explanation}")
    except APIError as error:
        if "pull" in str(error) or "registry" in str(error) or "lookup" in str(error):
            pytest.skip(f"no image {IMAGE} here, and none to be had: {error.explanation}")
        raise
    try:
        yield _ready(f"{HOST}:{port}")
    finally:
        container.stop()


def _ready(address: str) -> Topics:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            topics = Topics(address)
            topics.list()
        except BrokerError:
            if time.monotonic() > deadline:
                raise
        else:
            return topics


def test_topics_work_on_the_official_image(topics: Topics) -> None:
    """Created, described and deleted as on the embedded broker."""
    name = f"docker-{secrets.token_hex(4)}"
    assert topics.ensure(name, 3, COMPACTED)
    described = topics.describe(name)
    assert (len(described.partitions), described.config["cleanup.policy"]) == (3, "compact")
    topics.delete(name)
    assert not topics.exists(name)


def test_kafka_transactions_work_on_the_official_image(topics: Topics) -> None:
    """A read-committed reader sees the committed records and not the aborted ones."""
    name = f"docker-{secrets.token_hex(4)}"
    topics.create(name, partitions=1)
    producer = Producer({"bootstrap.servers": topics.bootstrap_servers, "transactional.id": name})
    producer.init_transactions(30)
    for value, commit in ((b"aborted", False), (b"committed", True)):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.flush(30)
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    consumer = Consumer(
        {
            "bootstrap.servers": topics.bootstrap_servers,
            "group.id": name,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([name])
    try:
        deadline = time.monotonic() + 60
        found: list[bytes] = []
        while not found and time.monotonic() < deadline:
            found += [message.value() or b"" for message in consumer.consume(10, 0.5)]
    finally:
        consumer.close()
    assert found == [b"committed"]


# ---- Docker Compose


@dataclass
class Compose:
    """The compose file as a project of its own, on a port of its own."""

    command: list[str]
    project: str
    port: int

    def run(self, *arguments: str, within_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run Docker Compose."""
        return subprocess.run(
            [*self.command, "-p", self.project, "-f", str(ROOT / "docker-compose.yml"), *arguments],
            env={**os.environ, "ANTIPHON_KAFKA_PORT": str(self.port)},
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def inside(self, service: str, *command: str) -> str:
        """Run a command in a service's container; what it printed, or nothing where it failed."""
        answer = self.run("exec", "-T", service, *command)
        return answer.stdout if answer.returncode == 0 else ""


@pytest.fixture(scope="module")
def compose(docker_daemon: None) -> Iterator[Compose]:
    """Docker Compose, whichever is installed; what a test leaves behind is taken down."""
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            works = subprocess.run([*command, "version"], capture_output=True, timeout=60, check=False).returncode == 0
        except FileNotFoundError:
            continue
        if works:
            break
    else:
        pytest.skip("no Docker Compose here: neither `docker compose` nor `docker-compose` runs")
    compose = Compose(command, f"antiphon-test-{secrets.token_hex(4)}", free_port(HOST, set()))
    yield compose
    compose.run("down", "--volumes", "--rmi", "local", "--timeout", "10", within_s=120)


def test_the_compose_file_is_valid(compose: Compose) -> None:
    """Docker Compose reads the file and finds both services."""
    answer = compose.run("config", "--services")
    assert answer.returncode == 0, answer.stderr
    assert set(answer.stdout.split()) == {"kafka", "worker"}


def test_compose_runs_kafka_and_a_worker(compose: Compose) -> None:
    """Built and started from the compose file, the worker is ready, finds an overlap, and stops with exit code 0."""
    built = compose.run("build", "worker", within_s=BUILD_S)
    if built.returncode != 0 and any(words in built.stdout + built.stderr for words in UNREACHABLE):
        pytest.skip(
            "the worker's image cannot be built: no package index is reached from a container (see deploy/Dockerfile: BASE)"
        )
    assert built.returncode == 0, built.stdout[-2_000:] + built.stderr[-2_000:]
    started = compose.run("up", "-d", within_s=READY_S)
    assert started.returncode == 0, started.stderr
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:6066/ready').read().decode())"
    until(lambda: '"ready":true' in compose.inside("worker", "python", "-c", fetch), "the worker is ready", READY_S)
    codec, producer = Codec(), Producer({"bootstrap.servers": f"{HOST}:{compose.port}"})
    for number, agent in enumerate(("ada", "bob")):
        event = FileChanged(agent=agent, task="T", ts=1_000 + number, arrived=2_000 + number, path="core.py", added=1, removed=1)
        record = codec.encode(event.stamped(id=agent, source="/test", time_ms=2_000))
        producer.produce(record.topic, record.value, record.key, headers=[*record.headers])
    assert producer.flush(30) == 0
    topics = Topics(f"{HOST}:{compose.port}")
    until(lambda: topics.exists(OverlapFound.topic) and topics.describe(OverlapFound.topic).records > 0, "an overlap is found")
    (found,) = [value for *_, value in read_committed(topics.bootstrap_servers, OverlapFound.topic)]
    overlap = codec.decode(Plain(OverlapFound.topic, 0, 0, 0, None, found, ()))
    assert (overlap.first_agent, overlap.second_agent) == ("ada", "bob")  # type: ignore[attr-defined]
    container = compose.run("ps", "-q", "worker").stdout.strip()
    assert compose.run("stop", "worker").returncode == 0
    state = subprocess.run(
        ["docker", "inspect", container, "--format", "{{.State.ExitCode}} {{.Config.User}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert state.stdout.split() == ["0", "antiphon"]
