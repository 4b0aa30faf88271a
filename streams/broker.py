"""The embedded broker: a real Apache Kafka 4.1.1 as a child process, for one machine.

::

    with EmbeddedBroker() as broker:            # the user's own data directory and jars; downloads at the first start
        client = Producer({"bootstrap.servers": broker.bootstrap_servers})

What it guarantees:

* ``start`` returns when a client's call was answered, or raises one line that says why not and leaves no process behind.
* The broker ends with the process that made it, however that ends (:mod:`streams.keeper`), unless it was started ``detached``.
* Topics stay in the data directory and are there after a stop, a kill, and the next start.
* A process is signalled only if it is the one that was started: number and start time are compared.
* It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import atexit
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from streams import jars
from streams.broker_files import RunningBroker, running_broker, start_lock, write_running
from streams.broker_launch import Launch, kafka_log
from streams.broker_properties import HOST, Listener, log4j_properties, server_properties
from streams.errors import BrokerStartFailed, PortTaken, StateDirFull
from streams.java import Java, find_java
from streams.ports import free_port, is_free
from streams.processes import ProcessId, is_alive, send_signal, wait_gone
from streams.settings_groups import user_directory

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["EmbeddedBroker", "Listener", "RunningBroker", "resolve_bootstrap", "running_broker"]

START_TIMEOUT_S = 60.0
"""From start to the first answered call: 2-3 s as a rule, more on a loaded machine or with a long log to recover."""

STOP_S = 30.0
"""From SIGTERM to SIGKILL: a shutdown flushes the log, which takes seconds after heavy writing."""

HEAP_MB = 512
"""128 passes every check of a single-node broker; 512 leaves room for batches and the page of a busy test run."""

FREE_PORT_ATTEMPTS = 20
"""Another program may take a port between our look and the broker's; then the next is tried."""


class EmbeddedBroker:
    """One Kafka node on this machine. Not for use by several threads at once.

    Args:
        data_dir: topics, configuration and logs; the user's data directory if not given.
        port: of the plain listener; 0 picks a free one and keeps it over restarts.
        controller_port: of the controller's; 0 picks a free one.
        heap_mb: the most heap that Java may take.
        jars_dir: where the jars are kept; the user's cache if not given.
        listeners: more ways in (SASL, a proxy's advertised address).
        properties: Kafka settings that win over ours.
        start_timeout_s: how long it may take to answer.
        announce: show progress on standard error while downloading.
    """

    def __init__(
        self,
        *,
        data_dir: Path | str | None = None,
        port: int = 0,
        controller_port: int = 0,
        heap_mb: int = HEAP_MB,
        jars_dir: Path | str | None = None,
        listeners: Sequence[Listener] = (),
        properties: Mapping[str, str] | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        announce: bool = True,
    ) -> None:
        self.data_dir = Path(data_dir) if data_dir else user_directory("data") / "broker"
        self.heap_mb = heap_mb
        self.jars_dir = Path(jars_dir) if jars_dir else None
        self.listeners = tuple(listeners)
        self.properties = dict(properties or {})
        self.start_timeout_s = start_timeout_s
        self.announce = announce
        self._wanted = (port, controller_port)
        self._ports: tuple[int, int] | None = None
        self._launch: Launch | None = None
        self._broker: ProcessId | None = None

    @classmethod
    def from_settings(cls, settings: Settings, *, announce: bool = True) -> Self:
        """The broker that ``settings.broker`` describes."""
        broker = settings.broker
        return cls(
            data_dir=broker.data_dir,
            port=broker.port,
            controller_port=broker.controller_port,
            heap_mb=broker.heap_mb,
            jars_dir=broker.jars_dir,
            start_timeout_s=broker.start_timeout_s,
            announce=announce,
        )

    # -- what it is --------------------------------------------------------

    @property
    def port(self) -> int:
        """Of the plain listener; 0 before the first start of one that picks its own."""
        return self._ports[0] if self._ports else self._wanted[0]

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's own process, or ``None`` while it does not run."""
        return self._broker.pid if self._broker and is_alive(self._broker) else None

    @property
    def log_file(self) -> Path:
        """Kafka's own log."""
        return kafka_log(self.data_dir)

    def address(self, listener: str) -> str:
        """Where the listener of that name is bound, as ``host:port``."""
        return next(f"{HOST}:{one.port}" for one in self.listeners if one.name == listener)

    # -- its life ----------------------------------------------------------

    def start(self, *, detached: bool = False) -> Self:
        """Start it and wait until it answers. Does nothing while it runs.

        Args:
            detached: let it outlive this process; :func:`running_broker` finds it again.

        Raises:
            PortTaken: another program listens on the port that was asked for.
            BrokerStartFailed: another broker runs on the data directory, or this one ended or was not ready in time.
            JavaMissing: no Java 17 or newer.
            DownloadFailed: the jars could not be fetched.
            StateDirFull: the data directory cannot be written.
        """
        if self.pid is not None:
            return self
        paths = jars.ensure(self.jars_dir, announce=self.announce)
        java = find_java()
        try:
            (self.data_dir / "logs").mkdir(parents=True, exist_ok=True)
            with start_lock(self.data_dir):
                if other := running_broker(self.data_dir):
                    raise BrokerStartFailed(
                        f"a broker runs on {self.data_dir} already (process {other.pid}, {other.bootstrap_servers}): "
                        f"use it, or stop it with `antiphon broker stop`"
                    )
                self._start_on_free_ports(java, paths, detached=detached)
        except OSError as error:
            raise StateDirFull(str(self.data_dir), error.strerror or str(error)) from error
        if not detached:
            atexit.register(self.stop)
        return self

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stop it gracefully, and with SIGKILL after the time. Does nothing where it does not run."""
        atexit.unregister(self.stop)
        broker, self._broker = self._broker, None
        if broker is not None and send_signal(broker, signal.SIGTERM) and not wait_gone(broker, timeout_s):
            send_signal(broker, signal.SIGKILL)
        self._reap()

    def kill(self) -> None:
        """SIGKILL, as a crash would do it; the data directory stays as it is."""
        broker, self._broker = self._broker, None
        if broker is not None:
            send_signal(broker, signal.SIGKILL)
        self._reap()

    def restart(self) -> Self:
        """Stop it if it runs, and start it again on the same ports and data."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        """Start it."""
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it."""
        self.stop()

    # -- how it starts -----------------------------------------------------

    def _start_on_free_ports(self, java: Java, paths: Sequence[Path], *, detached: bool) -> None:
        for attempt in range(FREE_PORT_ATTEMPTS):
            self._choose_ports()
            self._write_configuration()
            launch = Launch(java, paths, data_dir=self.data_dir, heap_mb=self.heap_mb, timeout_s=self.start_timeout_s)
            launch.format()
            self._launch = launch
            try:
                self._broker = launch.start(detached=detached)
                launch.await_ready([*(self._ports or ()), *(one.port for one in self.listeners)])
            except PortTaken as error:  # lost the race for a port between the look and the bind
                self.kill()
                if error.port in self._wanted or attempt == FREE_PORT_ATTEMPTS - 1:
                    raise
                self._ports = None
                self.listeners = tuple(replace(one, port=0) if one.port == error.port else one for one in self.listeners)
            except BaseException:
                self.kill()
                raise
            else:
                self._record(detached=detached)
                return

    def _choose_ports(self) -> None:
        """Look whether the ports that were asked for are free, and pick the others; once picked, they stay over restarts."""
        taken: set[int] = set()
        ports = self._ports or self._wanted
        for port in [*ports, *(one.port for one in self.listeners)]:
            if port and not is_free(HOST, port):
                raise PortTaken(HOST, port)
            taken.add(port)
        plain, controller = (port or free_port(HOST, taken) for port in ports)
        self._ports = (plain, controller)
        self.listeners = tuple(one if one.port else replace(one, port=free_port(HOST, taken)) for one in self.listeners)

    def _write_configuration(self) -> None:
        assert self._ports is not None
        port, controller_port = self._ports
        text = server_properties(
            log_dir=self.data_dir / "topics",
            port=port,
            controller_port=controller_port,
            listeners=self.listeners,
            extra=self.properties,
        )
        path = self.data_dir / "server.properties"
        path.touch(mode=0o600)  # may hold passwords
        path.write_text(text, encoding="utf-8")
        (self.data_dir / "log4j2.properties").write_text(log4j_properties(self.log_file), encoding="utf-8")

    def _record(self, *, detached: bool) -> None:
        assert self._broker is not None
        assert self._ports is not None
        running = RunningBroker(self._broker.pid, self._broker.started, *self._ports, detached, int(time.time() * 1000))
        write_running(self.data_dir, running)

    def _reap(self) -> None:
        launch, self._launch = self._launch, None
        if launch is not None:
            launch.reap(STOP_S)


def resolve_bootstrap(settings: Settings, *, announce: bool = True) -> str:
    """Where to connect: the configured servers, else the embedded broker that runs on the data directory, else a new one.

    A broker that is started here ends with this process.

    Raises:
        BrokerError: the embedded broker could not be started; see :meth:`EmbeddedBroker.start`.
    """
    if settings.kafka.bootstrap_servers:
        return settings.kafka.bootstrap_servers
    if running := running_broker(Path(settings.broker.data_dir)):
        return running.bootstrap_servers
    return EmbeddedBroker.from_settings(settings, announce=announce).start().bootstrap_servers
