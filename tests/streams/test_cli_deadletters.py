"""`antiphon deadletters` on a real broker: what is listed, shown, redriven and put away, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas.work import ChangeCommitted
from streams.broker import EmbeddedBroker
from streams.codec import Codec
from streams.core.deadletters import dead_letter_headers
from streams.topics import Topics

Run = Callable[..., tuple[int, str, str]]
MakeTopic = Callable[..., str]


@pytest.fixture
def app(kafka: EmbeddedBroker, make_topic: MakeTopic) -> str:
    """An application (its source topic has its name) whose processors refused three rows, two keys and one event."""
    name = make_topic("cli-letters", partitions=2)
    conf = {"bootstrap.servers": kafka.bootstrap_servers}
    Topics(conf).ensure(f"{name}.dead-letters", 1)
    producer = Producer(conf)

    def refuse(key: bytes, value: bytes, error: Exception, processor: str, topic: str = name) -> None:
        headers = dead_letter_headers(
            [], app=name, topic=topic, partition=1, offset=7, timestamp_ms=1, processor=processor, error=error, reason=str(error),
            now_ms=1_767_225_600_000,
        )  # fmt: skip
        producer.produce(f"{name}.dead-letters", value, key, headers=list(headers))

    for n in range(3):
        refuse(b"row-%d" % n, b"not [an event] %d" % n, ValueError(f"bad row {n}"), "shop.count")
    for n in range(2):
        refuse(b"key-%d" % n, b"value", KeyError(f"no such item {n}"), "shop.price")
    event = ChangeCommitted(id="e-1", source="test", agent="ada", task="T-1", ts=1, arrived=2, files=3, added=4, removed=5)
    refuse(b"ada", Codec().encode(event).value, ZeroDivisionError("division by zero"), "shop.count")
    assert producer.flush(20) == 0
    return name


def _lines(answer: tuple[int, str, str]) -> list[dict[str, Any]]:
    assert answer[0] == 0, answer
    return [json.loads(line) for line in answer[1].splitlines()]


def test_what_failed_alike_is_one_row(run: Run, app: str) -> None:
    """The most frequent failure first, with its count, its first and its last letter; --all has each letter."""
    groups = _lines(run("deadletters", "ls", app, "--json"))
    assert [(one["count"], one["first"]["error"], one["last"]["key"]) for one in groups] == [
        (3, "ValueError", "row-2"),
        (2, "KeyError", "key-1"),
        (1, "ZeroDivisionError", "ada"),
    ]
    letters = _lines(run("deadletters", "ls", app, "--all", "--json"))
    assert [one["position"] for one in letters] == [f"{app}.dead-letters/0/{n}" for n in range(6)]
    assert {one["origin"] for one in letters} == {f"{app}/1/7"}
    code, out, _ = run("deadletters", "ls", app)
    assert code == 0
    assert "bad row 2" in out
    assert groups[0]["fingerprint"] in out
    assert "0/5" in run("deadletters", "ls", app, "--all")[1]


def test_filters_narrow_what_is_listed(run: Run, app: str) -> None:
    """By fingerprint (its beginning is enough), error, key, topic and processor; what is given must all hold."""

    def keys(*options: str) -> list[str]:
        return [one["key"] for one in _lines(run("deadletters", "ls", app, "--all", "--json", *options))]

    mark = _lines(run("deadletters", "ls", app, "--json"))[1]["fingerprint"]
    assert keys("--fingerprint", mark[:8]) == ["key-0", "key-1"]
    assert keys("--error", "ZeroDivisionError") == ["ada"]
    assert keys("--key", "row-1") == ["row-1"]
    assert keys("--processor", "count", "--error", "ValueError") == ["row-0", "row-1", "row-2"]
    assert len(keys("--topic", app)) == 6


def test_one_letter_is_shown_whole_and_decoded(run: Run, app: str) -> None:
    """Where it came from, why it is here, its headers, and the fields of an event instead of its bytes."""
    letter = _lines(run("deadletters", "show", "0/5", app, "--json"))[0]
    assert (letter["type"], letter["value"]["agent"], letter["processor"]) == ("change.committed", "ada", "shop.count")
    assert letter["headers"]["dl-error"] == "ZeroDivisionError"
    code, out, _ = run("deadletters", "show", f"{app}.dead-letters/0/1")
    assert code == 0
    assert "reason: bad row 1" in out
    assert "value: not [an event] 1" in out


def test_letters_go_back_once(run: Run, app: str) -> None:
    """The selected ones are in their topic again and no longer listed; a second run finds nothing to do and is no failure."""
    assert _lines(run("deadletters", "redrive", app, "--error", "KeyError", "--json")) == [
        {"redriven": 2, "settled_before": 0, "refused": {}}
    ]
    back = _lines(run("replay", app, "--json"))
    assert sorted((one["key"], one["partition"]) for one in back) == [("key-0", 1), ("key-1", 1)]
    assert len(_lines(run("deadletters", "ls", app, "--json"))) == 2
    assert run("deadletters", "redrive", app, "--error", "KeyError")[:2] == (0, "0 redriven, 2 were settled before\n")
    assert len(_lines(run("deadletters", "ls", app, "--all", "--settled", "--json"))) == 6


def test_one_letter_goes_back_by_its_place(run: Run, app: str) -> None:
    """--at takes what `ls --all` prints, with or without the topic."""
    assert run("deadletters", "redrive", app, "--at", "0/1")[1] == "1 redriven, 0 were settled before\n"
    assert run("deadletters", "purge", "--at", f"{app}.dead-letters/0/2", "--yes")[1] == "1 purged, 0 were settled before\n"
    assert [one["key"] for one in _lines(run("deadletters", "ls", app, "--all", "--json", "--error", "ValueError"))] == ["row-0"]


def test_what_is_purged_is_gone(run: Run, app: str, kafka: EmbeddedBroker) -> None:
    """It is not listed and not redriven again, and nothing went back."""
    assert _lines(run("deadletters", "purge", app, "--yes", "--json")) == [{"purged": 6, "settled_before": 0, "refused": {}}]
    assert run("deadletters", "ls", app)[0] == 4
    assert Topics({"bootstrap.servers": kafka.bootstrap_servers}).describe(app).records == 0


def test_purging_asks_first(run: Run, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --yes and without an answer nothing is put away, and the exit code says so."""
    monkeypatch.setattr("typer.confirm", lambda *_args, **_kwargs: False)
    assert run("deadletters", "purge", app)[0] == 1
    assert len(_lines(run("deadletters", "ls", app, "--all", "--json"))) == 6


def test_what_cannot_go_back_stays_and_is_code_1(run: Run, app: str, kafka: EmbeddedBroker) -> None:
    """A letter whose topic is gone is counted by reason; the others go."""
    conf = {"bootstrap.servers": kafka.bootstrap_servers}
    producer = Producer(conf)
    producer.produce(f"{app}.dead-letters", b"foreign", b"no headers of ours")
    assert producer.flush(20) == 0
    code, out, err = run("deadletters", "redrive", app, "--json")
    answer = json.loads(out)
    assert (code, answer["redriven"], list(answer["refused"].values())) == (1, 6, [1])
    assert "1 stay" in err
    assert "no dead letter of ours" in err


def test_nothing_found_is_code_4_and_one_line(run: Run, app: str) -> None:
    """No such application, no letter at the place, none that the filter takes."""
    for arguments in (
        ("ls", "no-such-app"),
        ("ls", app, "--error", "OSError"),
        ("ls", app, "--all", "--key", "nobody"),
        ("show", "0/99", app),
        ("redrive", app, "--error", "OSError"),
        ("purge", app, "--yes", "--fingerprint", "ffffffffff"),
        ("redrive", "no-such-app"),
    ):
        code, out, err = run("deadletters", *arguments, "--json")
        assert (code, err.count("\n")) == (4, 1), (arguments, err)
        assert out == "" or arguments[0] in ("redrive", "purge")


@pytest.mark.parametrize("arguments", [("show", "5"), ("show", "a/b"), ("redrive", "--at", "x"), ("ls", "--settled")])
def test_wrong_usage_is_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    """A place that is none, and an option without the one it needs."""
    assert run("deadletters", *arguments)[:2] == (2, "")
