"""The official Kafka image through testcontainers: what works on the embedded broker works there.

Skipped, with the reason, where no Docker answers or the image is neither present nor to be had.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from streams.broker_properties import HOST
from streams.errors import BrokerError
from streams.ports import free_port
from streams.topics import COMPACTED, Topics

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

IMAGE = "apache/kafka:4.1.1"
ROOT = Path(__file__).parent.parent.parent
READY_S = 120.0
"""For the container to answer: seconds, and a minute on a machine that unpacks the image first."""

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


@pytest.mark.usefixtures("docker_daemon")
def test_the_compose_file_is_valid() -> None:
    """Docker Compose reads the file and finds both services."""
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            answer = subprocess.run(
                [*command, "-f", str(ROOT / "docker-compose.yml"), "config", "--services"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except FileNotFoundError:
            continue
        if answer.returncode == 0:
            assert set(answer.stdout.split()) == {"kafka", "worker"}
            return
        reason = answer.stderr
        if "is not a docker command" not in reason and "unknown" not in reason:
            pytest.fail(reason)
    pytest.skip("no Docker Compose here: neither `docker compose` nor `docker-compose` runs")
