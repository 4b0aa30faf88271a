"""The codec with a Schema Registry: a real HTTP server that answers the REST calls, with the registry's own rules."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest
from pydantic import SecretStr

from schemas.catalogue import CATALOGUE, Catalogue
from schemas.compatibility import is_backward
from schemas.errors import IncompatibleSchema, MalformedRecord, UnknownSchema
from schemas.events import Event
from schemas.work import ChangeCommitted, FileChanged
from streams.codec import Codec, Plain
from streams.registry import RegistryRefused, RegistryUnavailable, SchemaRegistry
from streams.settings_groups import RegistrySettings

FIRST_ID = 41
USER, PASSWORD = "worker", "s3cret"
STAMP: dict[str, Any] = {"id": "1", "source": "/s", "time_ms": 5}
CHANGE = ChangeCommitted(agent="a", task="t", ts=1, arrived=2, files=1, added=1, removed=0).stamped(**STAMP)
FILE = FileChanged(agent="a", task="t", ts=1, arrived=2, path="p", added=3, removed=4).stamped(**STAMP)


class Registry(ThreadingHTTPServer):
    """Subjects, versions, compatibility levels and ids in memory; refuses what the real one refuses."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.subjects: dict[str, list[int]] = {}
        self.schemas: dict[int, str] = {}
        self.levels: dict[str, str] = {}
        self.calls: list[str] = []
        self.authorization = ""
        self.read_only = False
        self.broken: int = 0
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, text: str) -> int:
        for number, known in self.schemas.items():
            if json.loads(known) == json.loads(text):
                return number
        self.schemas[FIRST_ID + len(self.schemas)] = text
        return FIRST_ID + len(self.schemas) - 1

    def answer(self, method: str, path: list[str], body: Any) -> tuple[int, Any]:  # noqa: PLR0911 - a return a call
        match method, path:
            case "POST", ["subjects", subject]:
                if subject not in self.subjects:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                number = self.add(body["schema"])
                if number not in self.subjects[subject]:
                    return 404, {"error_code": 40403, "message": "Schema not found"}
                return 200, {"subject": subject, "id": number, "version": 1, "schema": body["schema"]}
            case "POST", ["subjects", subject, "versions"]:
                if self.read_only:
                    return 403, {"error_code": 40301, "message": "User is denied operation Write"}
                versions = self.subjects.setdefault(subject, [])
                if versions and self.levels.get(subject, "BACKWARD") == "BACKWARD":
                    problems = is_backward(json.loads(self.schemas[versions[-1]]), json.loads(body["schema"]))
                    if problems:
                        return 409, {"error_code": 409, "message": f"Schema being registered is incompatible: {problems}"}
                number = self.add(body["schema"])
                versions.append(number)
                return 200, {"id": number}
            case "GET", ["schemas", "ids", number] if int(number) in self.schemas:
                return 200, {"schema": self.schemas[int(number)]}
            case "GET", ["schemas", "ids", _]:
                return 404, {"error_code": 40403, "message": "Schema not found"}
            case "GET", ["config", subject] if subject in self.levels:
                return 200, {"compatibilityLevel": self.levels[subject]}
            case "GET", ["config", subject]:
                return 404, {"error_code": 40408, "message": f"Subject '{subject}' does not have a level configured"}
            case "PUT", ["config", subject]:
                self.levels[subject] = body["compatibility"]
                return 200, body
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}


class Handler(BaseHTTPRequestHandler):
    """Speaks the REST calls."""

    server: Registry
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        path = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        self.server.calls.append(f"{self.command} /{'/'.join(path)}")
        self.server.hold.wait(30)
        if self.server.broken:
            status, answer = self.server.broken, {"error_code": 50001, "message": "Error in the backend data store"}
        elif self.server.authorization and self.headers.get("Authorization") != self.server.authorization:
            status, answer = 401, {"error_code": 401, "message": "Unauthorized"}
        else:
            status, answer = self.server.answer(self.command, path, body)
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - http.server's names

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.hold.set()
        server.shutdown()
        thread.join(10)


@pytest.fixture
def codec(server: Registry) -> Iterator[Codec]:
    codec = Codec(CATALOGUE, SchemaRegistry(server.url, timeout_s=5))
    yield codec
    codec.close()


def record(codec: Codec, event: Event) -> Plain:
    """Return an event as the record that it becomes."""
    encoded = codec.encode(event)
    return Plain(encoded.topic, 0, 7, 0, encoded.key, encoded.value, encoded.headers)


def placed(value: bytes) -> Plain:
    return Plain("agents.events", 0, 7, 0, None, value, ())


def test_ids_come_from_the_registry(server: Registry, codec: Codec) -> None:
    """Each event type is registered once under its own subject, promised BACKWARD, and written with the registry's id."""
    codec.prepare([ChangeCommitted, FileChanged])
    assert server.subjects == {"agents.events-change.committed": [41], "agents.events-file.changed": [42]}
    assert set(server.levels.values()) == {"BACKWARD"}
    asked = len(server.calls)
    assert codec.encode(FILE).value[:5] == b"\x00\x00\x00\x00\x2a"
    assert codec.decode(record(codec, FILE)) == FILE
    assert codec.type_of(record(codec, CHANGE)) == "change.committed"
    assert len(server.calls) == asked


def test_a_level_that_an_operator_set_stays(server: Registry, codec: Codec) -> None:
    """A subject with a compatibility level of its own keeps it."""
    server.levels["agents.events-file.changed"] = "FULL"
    codec.prepare([FileChanged])
    assert server.levels["agents.events-file.changed"] == "FULL"


def test_an_unknown_id_is_fetched_once(server: Registry, codec: Codec) -> None:
    """A worker that only reads learns the writer's schema from the registry, once."""
    written = record(codec, FILE)
    with SchemaRegistry(server.url) as registry:
        reader = Codec(CATALOGUE, registry)
        before = len(server.calls)
        assert reader.type_of(written) == "file.changed"
        assert reader.decode(written) == FILE
        assert reader.read(written)["path"] == "p"
        assert server.calls[before:] == ["GET /schemas/ids/41"]


def test_the_registry_may_go_once_ids_are_known(server: Registry, codec: Codec) -> None:
    """With everything learnt, encoding and decoding go on while the registry answers nothing but errors."""
    written = record(codec, FILE)
    server.broken = 500
    assert codec.decode(written) == FILE
    assert record(codec, FILE) == written
    with pytest.raises(RegistryUnavailable, match=r"agents\.events: the Schema Registry at http.*start it, or correct") as caught:
        codec.encode(CHANGE)
    assert caught.value.retryable
    assert caught.value.fault == "broker"


def test_an_id_that_the_registry_does_not_have_is_asked_for_once(server: Registry, codec: Codec) -> None:
    """Bad records in number are no flood of requests, and each is explained with its place."""
    for _ in range(3):
        with pytest.raises(
            UnknownSchema, match=r"agents\.events partition 0 offset 7 schema id 999: the Schema Registry .* has no such id"
        ):
            codec.decode(placed(b"\x00\x00\x00\x03\xe7abc"))
    assert server.calls == ["GET /schemas/ids/999"]
    with pytest.raises(MalformedRecord):
        codec.decode(placed(b"junk"))


def test_credentials_are_sent_and_refusals_are_one_line(server: Registry) -> None:
    """User and password come from the settings; a refusal names the settings and never the password."""
    server.authorization = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    good = RegistrySettings(url=server.url, username=USER, password=SecretStr(PASSWORD))
    registry = SchemaRegistry.from_settings(good)
    assert registry is not None
    with registry:
        assert Codec(CATALOGUE, registry).encode(FILE).value[:5] == b"\x00\x00\x00\x00\x29"
    with SchemaRegistry(server.url, username=USER, password="wr0ng") as refused:
        with pytest.raises(RegistryRefused, match=r"refuses the credentials .*HTTP 401.*ANTIPHON_REGISTRY__PASSWORD") as caught:
            Codec(CATALOGUE, refused).encode(FILE)
        assert "wr0ng" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert SchemaRegistry.from_settings(RegistrySettings(url="")) is None


def test_reading_needs_no_permission_to_write(server: Registry, codec: Codec) -> None:
    """A schema that somebody registered is looked up; registering a new one without permission is refused clearly."""
    codec.prepare([FileChanged])
    server.read_only = True
    with SchemaRegistry(server.url) as registry:
        other = Codec(CATALOGUE, registry)
        assert other.encode(FILE).value[:5] == b"\x00\x00\x00\x00\x29"
        with pytest.raises(RegistryRefused, match="HTTP 403"):
            other.encode(CHANGE)


def test_a_registry_that_is_silent_or_gone_is_one_line(server: Registry) -> None:
    """No answer in time, and nobody at the address, are retryable errors that name it."""
    server.hold.clear()
    with (
        SchemaRegistry(server.url, timeout_s=0.2) as slow,
        pytest.raises(RegistryUnavailable, match=f"{server.url} gave no answer"),
    ):
        Codec(CATALOGUE, slow).encode(FILE)
    server.hold.set()
    with (
        SchemaRegistry("http://127.0.0.1:9") as gone,
        pytest.raises(RegistryUnavailable, match=r"http://127\.0\.0\.1:9 gave no answer"),
    ):
        Codec(CATALOGUE, gone).decode(placed(b"\x00\x00\x00\x00\x29abc"))


class OrderPlaced(Event):
    """The reader's version."""

    event_type: ClassVar[str] = "order.placed"
    schema_version: ClassVar[int] = 2
    topic: ClassVar[str] = "agents.events"
    key_field: ClassVar[str] = "number"
    number: str
    count: int = 1


def order_schema(*fields: dict[str, Any]) -> str:
    return json.dumps(
        {"type": "record", "name": "placed", "namespace": "order", "fields": [{"name": "number", "type": "string"}, *fields]}
    )


def test_versions_of_others_are_resolved_or_refused(server: Registry) -> None:
    """An older or a newer schema of a known type is read through ours; one that cannot be is refused with the reason."""
    catalogue = Catalogue()
    catalogue.register(OrderPlaced)
    old = server.add(order_schema())
    newer = server.add(order_schema({"name": "count", "type": "long"}, {"name": "note", "type": "string"}))
    wrong = server.add(order_schema({"name": "count", "type": "string"}))
    foreign = server.add(json.dumps({"type": "record", "name": "x", "namespace": "y", "fields": [{"name": "a", "type": "long"}]}))
    protobuf = server.add(json.dumps({"type": "array", "items": "null"}))
    prefix = {number: b"\x00" + number.to_bytes(4, "big") for number in (old, newer, wrong, foreign, protobuf)}
    with SchemaRegistry(server.url) as registry:
        codec = Codec(catalogue, registry)
        assert codec.decode(placed(prefix[old] + b"\x02a")) == OrderPlaced(number="a", count=1)
        assert codec.decode(placed(prefix[newer] + b"\x02a\x06\x02n")) == OrderPlaced(number="a", count=3)
        with pytest.raises(
            IncompatibleSchema, match=r"offset 7 schema id 43: order\.placed .*cannot read it: count: was string and is long"
        ):
            codec.decode(placed(prefix[wrong] + b"\x02a\x02n"))
        assert codec.type_of(placed(prefix[foreign] + b"\x02")) == "y.x"
        with pytest.raises(UnknownSchema, match=r"schema id 44: y\.x has no class here"):
            codec.decode(placed(prefix[foreign] + b"\x02"))
        with pytest.raises(IncompatibleSchema, match="schema id 45: an event is an Avro record"):
            codec.decode(placed(prefix[protobuf] + b"\x02"))


def test_a_subject_a_topic_holds_a_single_type(server: Registry) -> None:
    """Under TopicNameStrategy a registry refuses a second event type, which is why subjects have the type in their names."""
    with SchemaRegistry(server.url, subjects="topic") as registry:
        codec = Codec(CATALOGUE, registry)
        codec.prepare([FileChanged])
        assert list(server.subjects) == ["agents.events-value"]
        with pytest.raises(
            IncompatibleSchema, match=r"refuses subject agents\.events-value \(HTTP 409, .*keep to its compatibility level"
        ):
            codec.prepare([ChangeCommitted])
