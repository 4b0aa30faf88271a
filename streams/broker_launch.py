"""One start of the embedded Kafka: its data directory formatted, its process launched, waited for, and explained if it ends.

Everything is written into the data directory: ``logs/kafka.log`` (Kafka's own), ``logs/console.log``, ``kafka.pid``. The
configuration must be there already (``server.properties``, ``log4j2.properties``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.broker_properties import HOST
from streams.errors import BrokerStartFailed, PortTaken
from streams.java import Java
from streams.ports import is_free, listens
from streams.processes import ProcessId, process_id

__all__ = ["Launch", "kafka_log"]

POLL_S = 0.05
"""Between two looks at a process that starts."""

ANSWER_S = 2.0
"""For one call of the readiness check."""

LOG_LINES_IN_ERROR = 3
"""Of the broker's own log, in the one line that says why it did not start."""

FORMAT_WORDS = 60
"""The last words of Kafka's format tool, in the one line that says why it failed."""


def kafka_log(data_dir: Path) -> Path:
    """Kafka's own log."""
    return data_dir / "logs" / "kafka.log"


class Launch:
    """One attempt to start Kafka on a data directory.

    Args:
        java: what runs it.
        paths: the jars.
        data_dir: with its configuration.
        heap_mb: the most heap that Java may take.
        timeout_s: for each step.
    """

    def __init__(self, java: Java, paths: Sequence[Path], *, data_dir: Path, heap_mb: int, timeout_s: float) -> None:
        self.data_dir = data_dir
        self.timeout_s = timeout_s
        self._keeper: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._java = [
            str(java.program),
            f"-Xmx{heap_mb}m",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={data_dir / 'log4j2.properties'}",
            "-cp",
            os.pathsep.join(map(str, paths)),
        ]

    def format(self) -> None:
        """Give a new data directory its cluster id and its feature levels, with Kafka's own tool.

        Raises:
            BrokerStartFailed: the tool refuses.
        """
        if (self.data_dir / "topics" / "meta.properties").exists():
            return
        cluster_id = secrets.token_urlsafe(16)  # 22 characters, as Kafka's Uuid writes it
        while cluster_id.startswith("-"):  # would read as an option
            cluster_id = secrets.token_urlsafe(16)
        command = [*self._java, "kafka.tools.StorageTool", "format", "-t", cluster_id]
        command += ["-c", str(self.data_dir / "server.properties"), "--ignore-formatted"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=self.timeout_s, check=False)
        if answer.returncode != 0:
            words = " ".join((answer.stderr + answer.stdout).split()[-FORMAT_WORDS:])
            shutil.rmtree(self.data_dir / "topics", ignore_errors=True)
            raise self._failure(words)

    def start(self, *, detached: bool) -> ProcessId | None:
        """Start the process; unless detached it ends with ours (:mod:`streams.keeper`).

        Returns:
            The broker's own process; None if it has ended already, which `await_ready` explains.

        Raises:
            BrokerStartFailed: it ended at once.
        """
        command = [*self._java, "kafka.Kafka", str(self.data_dir / "server.properties")]
        log = kafka_log(self.data_dir)
        self._log_start = log.stat().st_size if log.exists() else 0
        pid_file = self.data_dir / "kafka.pid"
        pid_file.unlink(missing_ok=True)
        with (self.data_dir / "logs" / "console.log").open("wb") as console:
            if not detached:
                keeper = str(Path(__file__).with_name("keeper.py"))
                command = [sys.executable, "-I", "-S", keeper, str(os.getpid()), str(pid_file), *command]
            # A session of its own: Ctrl-C at the terminal is for the owner, who then stops the broker in its own order.
            self._keeper = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True, cwd=self.data_dir
            )
        return process_id(self._keeper.pid if detached else self._await_pid(pid_file))

    def await_ready(self, ports: Sequence[int]) -> None:
        """Wait until a client's call is answered by a broker that takes part in the cluster.

        Args:
            ports: that it binds, the one for clients first.

        Raises:
            PortTaken: another program has taken one of them meanwhile.
            BrokerStartFailed: it ended, or was not ready in time.
        """
        assert self._keeper is not None
        deadline = time.monotonic() + self.timeout_s
        while not (listens(HOST, ports[0]) and _answers(f"{HOST}:{ports[0]}")):
            if self._keeper.poll() is not None:
                words = self._last_words()
                for port in ports:
                    if "Address already in use" in words and not is_free(HOST, port):
                        raise PortTaken(HOST, port)
                raise self._failure(words)
            if time.monotonic() > deadline:
                raise BrokerStartFailed(
                    f"the embedded broker was not ready after {self.timeout_s:.0f} s: see {kafka_log(self.data_dir)}"
                )
            time.sleep(POLL_S)

    def reap(self, timeout_s: float) -> None:
        """Collect the keeper, which ends with the broker."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        try:
            keeper.wait(timeout_s)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()

    def _await_pid(self, pid_file: Path) -> int:
        assert self._keeper is not None
        deadline = time.monotonic() + self.timeout_s
        while not pid_file.exists():
            if self._keeper.poll() is not None or time.monotonic() > deadline:
                raise self._failure(self._last_words())
            time.sleep(POLL_S)
        return int(pid_file.read_text(encoding="ascii"))

    def _last_words(self) -> str:
        """What the broker said before it ended: errors of its log, else its console."""
        text = ""
        with contextlib.suppress(OSError), kafka_log(self.data_dir).open("rb") as file:
            file.seek(self._log_start)
            text = file.read().decode("utf-8", "replace")
        lines = [
            line
            for line in text.splitlines()
            if " ERROR " in line or " FATAL " in line or line.startswith(("Caused by:", "java.", "org."))
        ]
        if not lines:
            with contextlib.suppress(OSError):
                lines = (self.data_dir / "logs" / "console.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[:LOG_LINES_IN_ERROR])

    def _failure(self, words: str) -> BrokerStartFailed:
        log = kafka_log(self.data_dir)
        return BrokerStartFailed(f"the embedded broker ended before it was ready ({words or 'it said nothing'}): see {log}")


def _answers(bootstrap_servers: str) -> bool:
    """Whether a broker takes part in the cluster and tells a client so."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient

    # What librdkafka would log here (connection refused, again) is what is being waited for.
    conf: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "log_level": 0, "error_cb": _ignore}
    client = AdminClient(conf)
    try:
        return bool(client.list_topics(timeout=ANSWER_S).brokers)
    except KafkaException as error:
        if error.args[0].code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT):
            return False
        raise


def _ignore(_error: object) -> None:
    """An error that the caller of the client sees anyway."""
