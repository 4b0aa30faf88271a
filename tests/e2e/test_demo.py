"""The main job end to end: a real broker, real worker processes, real signals; nothing lost and nothing left behind."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from rich.progress import Progress

from processors.audit import audit
from processors.demo import BUNDLED
from processors.feeding import feed
from processors.history import Malformed, read_file
from processors.log_reader import LogReader
from processors.report import Report
from processors.stage import stage
from processors.waiting import Watch
from schemas.work import FileChanged
from streams.broker import EmbeddedBroker
from streams.codec import Codec
from streams.settings import Settings

RUN = "from streams.cli import main; main()"
DEADLINE_S = 120.0
MARK = "ANTIPHON_TEST_RUN"


def environment(mark: str, bootstrap_servers: str = "", **more: str) -> dict[str, str]:
    """The environment of a run whose every process can be found again by its mark."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANTIPHON_", "AGENT_WORK_"))}
    servers = {"ANTIPHON_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers} if bootstrap_servers else {}
    return {**clean, **servers, **more, MARK: mark}


def marked(mark: str) -> set[int]:
    """The processes that have the mark in their environment."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{MARK}={mark}\0".encode() in (entry / "environ").read_bytes() and (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
            except OSError:  # gone meanwhile, or not ours
                continue
    return found


def wait_until(condition: Any, what: str, deadline_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def demo(arguments: list[str], env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", RUN, "demo", *arguments], env=env, cwd=cwd, capture_output=True, timeout=DEADLINE_S, check=False
    )


def topics(broker: EmbeddedBroker) -> set[str]:
    return {
        name
        for name in AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=10).topics
        if name.startswith("demo-")
    }


@pytest.fixture
def mark(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A mark for the processes of one test, which are ended if the test failed to."""
    name = f"{os.getpid()}-{request.node.name}-{tmp_path.name}"
    yield name
    for pid in marked(name):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 6,000 lines of the bundled history, with five malformed lines among them."""
    path = tmp_path_factory.mktemp("history") / "spoilt.jsonl"
    with gzip.open(BUNDLED) as file:
        lines = [next(file).rstrip(b"\n") for _ in range(6000)]
    broken = orjson.loads(lines[77])
    lines[10:10] = [b"{not json"]
    lines[500:500] = [orjson.dumps({**broken, "added": "7"}), orjson.dumps({**broken, "ts": 10**15})]
    lines[3000:3000] = [b"x" * 100_000, orjson.dumps({k: v for k, v in broken.items() if k != "task"})]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_accounts_for_every_line_and_proves_the_tables(kafka: EmbeddedBroker, spoilt: Path, mark: str, tmp_path: Path) -> None:
    """Good lines are processed, malformed ones dead-lettered, checks hold, replays are equal, topics and processes go."""
    done = demo(
        ["--events", str(spoilt), "--json", "--report", str(tmp_path / "report")],
        environment(mark, kafka.bootstrap_servers),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = orjson.loads(done.stdout)
    assert (report["read"], report["produced"]) == (6005, 6000)
    assert report["dead_letters"] == {"BadJson": 1, "WrongType": 1, "InTheFuture": 1, "LineTooLong": 1, "MissingField": 1}
    assert report["accounted"]
    assert all(check["holds"] for check in report["checks"])
    assert [(one["table"], one["equal"], one["rows"] > 0) for one in report["replay"]] == [
        ("activity", True, True),
        ("overlap", True, True),
    ]
    assert [(one["name"], one["equal"], one["late"]) for one in report["patterns"]] == [
        ("contended-file", True, 0),
        ("revert-after-landing", True, 0),
        ("thrash", True, 0),
    ]
    assert sum(one["matches"] for one in report["patterns"]) == sum(
        n for topic, n in report["outputs"].items() if topic.endswith(".antiphon.matches")
    )
    assert orjson.loads((tmp_path / "report" / "report.json").read_bytes())["produced"] == 6000
    assert (tmp_path / "report" / "report.svg").read_text().startswith("<svg")
    assert topics(kafka) == set()
    assert marked(mark) == set()


def test_keep_leaves_what_can_be_looked_at(kafka: EmbeddedBroker, spoilt: Path, mark: str, tmp_path: Path) -> None:
    """With --keep the topics stay; dead letters have line number and reason; the overlaps are those of a quadratic comparison."""
    done = demo(
        ["--events", str(spoilt), "--json", "--keep"], environment(mark, kafka.bootstrap_servers, TMPDIR=str(tmp_path)), tmp_path
    )
    assert done.returncode == 0, done.stderr.decode()
    (prefix,) = {name.partition(".")[0] for name in topics(kafka) if name.endswith(".agents.overlaps")}
    with LogReader({"bootstrap.servers": kafka.bootstrap_servers}, group="none") as reader:
        letters = {int(r.key or b"0"): dict(r.headers) for r in reader.read(f"{prefix}.demo.dead-letters")}
        overlaps = [Codec().decode(r) for r in reader.read(f"{prefix}.agents.overlaps")]
    assert {line: h["dl-error"] for line, h in letters.items()} == {
        11: b"BadJson",
        501: b"WrongType",
        502: b"InTheFuture",
        3001: b"LineTooLong",
        3002: b"MissingField",
    }
    assert letters[501]["dl-reason"].startswith(b"added is '7'")
    events = [e.event for e in read_file(spoilt, now_ms=time.time_ns() // 1_000_000) if not isinstance(e.event, Malformed)]
    files: dict[str, list[FileChanged]] = {}
    expected = set()
    for b in (e for e in events if isinstance(e, FileChanged)):
        for a in files.setdefault(b.path, []):
            if a.agent != b.agent and min(a.ts, a.arrived) < b.arrived and min(b.ts, b.arrived) < a.arrived:
                expected.add((b.path, frozenset({a.task, b.task})))
        files[b.path].append(b)
    found = [(o.path, frozenset({o.first_task, o.second_task})) for o in overlaps]  # type: ignore[attr-defined]
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert marked(mark) == set()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.delete_topics(list(topics(kafka))).values():
        future.result(20)


def test_a_git_repository_is_a_history(kafka: EmbeddedBroker, mark: str, tmp_path: Path) -> None:
    """--repo reads real commits, and the numbers of the report are those of the repository."""
    repo = tmp_path / "repo"
    git = ["git", "-C", str(repo), "-c", "user.name=Ann", "-c", "user.email=ann@x.org"]
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    for n in range(3):
        (repo / "a.txt").write_text(f"{n}\n")
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", str(n)], check=True)
    done = demo(
        ["--repo", str(repo), "--workers", "1", "--partitions", "2", "--json"],
        environment(mark, kafka.bootstrap_servers),
        tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = orjson.loads(done.stdout)
    assert (report["produced"], report["findings"]["agents"], report["findings"]["files"]) == (6, 1, 1)


def test_what_a_worker_cannot_take_is_accounted_for(
    kafka: EmbeddedBroker, spoilt: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that are no events are dead-lettered by the worker, counted and left out of the replay; all still adds up."""
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setenv("ANTIPHON_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    now_ms = time.time_ns() // 1_000_000
    report = Report(history="poison", workers=1, partitions=2)
    with stage(Settings(), partitions=2, keep=False) as on, Progress(disable=True) as progress:
        with on.crew, on.reader() as reader:
            watch = Watch(on, reader, progress)
            on.crew.start(f"{on.app_id}-worker-1")
            fed = feed(
                islice(read_file(spoilt, now_ms=now_ms), 400),
                client=on.client,
                codec=on.codec,
                topic_of=on.topic,
                dead_letter_topic=on.history_dead_letters,
                history="poison",
                tick=watch.look,
                now_ms=now_ms,
            )
            producer = Producer(on.client)
            for poison in (b"", b"\x00\x00", b"\x00\x7f\xff\xff\xff12345", b"plain text"):
                for topic in (on.events, on.landings):
                    producer.produce(topic, poison, key=b"poison")
                fed.produced += 1
                fed.read += 1
                fed.landings += 1
            assert producer.flush(20) == 0
            watch.finish(fed)
        audit(on, fed, report, progress)
    assert report.good, report.document()
    assert sum(report.dead_letters.values()) == 4 + 4 + 1
    assert marked(mark) - {os.getpid()} == set()


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGINT, marks=pytest.mark.soak), signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.soak)],
)
def test_no_process_is_left_behind(mark: str, tmp_path: Path, number: signal.Signals) -> None:
    """Interrupted in the middle, politely or not at all, a run takes its broker and its workers with it."""
    env = environment(mark, TMPDIR=str(tmp_path))
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, "demo"], env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        wait_until(
            lambda: len(list(tmp_path.glob("antiphon-demo-*/*worker-2.pid"))) == 1 or run.poll() is not None, "no second worker"
        )
        assert run.poll() is None, run.stderr.read().decode() if run.stderr else ""
        run.send_signal(number)
        _, errors = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    wait_until(lambda: not marked(mark), f"still there: {marked(mark)}", 40)
    if number is not signal.SIGKILL:
        assert run.returncode == 130, errors.decode()
        assert list(tmp_path.glob("antiphon-demo-*")) == []


def test_a_worker_that_dies_is_named_with_its_reason(kafka: EmbeddedBroker, spoilt: Path, mark: str, tmp_path: Path) -> None:
    """When a worker ends, the run does not wait for ever: it fails, says which one and why, and cleans up."""
    env = environment(mark, kafka.bootstrap_servers, ANTIPHON_WORKER__WEB_HOST="203.0.113.7")  # an address this machine has not
    done = demo(["--events", str(spoilt), "--workers", "1"], env, tmp_path)
    assert done.returncode == 1
    assert b"worker-1 ended with exit code" in done.stderr
    assert b"Traceback" not in done.stderr
    assert topics(kafka) == set()
    assert marked(mark) == set()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--events", "no-such-file"], 4, b"there is no such file"),
        (["--repo", "no-such-directory"], 4, b"there is no such directory"),
        (["--repo", "."], 1, b"no git repository"),
        (["--events", "empty"], 1, b"is empty"),
        (["--events", "x", "--repo", "y"], 2, b"exclude each other"),
        (["--workers", "0"], 2, b"--workers"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_starts_nothing(
    tmp_path: Path, arguments: list[str], code: int, words: bytes, mark: str
) -> None:
    """A wrong history or option ends at once with a clear line, and no broker was started for it."""
    (tmp_path / "empty").touch()
    env = environment(mark, TMPDIR=str(tmp_path), GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    done = demo(arguments, env, tmp_path)
    assert done.returncode == code, done.stderr.decode()
    assert words in b" ".join(done.stderr.split())
    assert b"Traceback" not in done.stderr
    assert list(tmp_path.glob("antiphon-demo-*")) == []
