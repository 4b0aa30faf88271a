"""Settings: four sources in order, every mistake in one go, and no secret in any text."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from faust.auth import SASLCredentials
from pydantic import SecretStr

from streams.errors import SettingsError
from streams.settings import KafkaSettings, Settings, WorkerSettings, fields
from streams.settings_groups import user_directory
from streams.settings_report import markdown, rows
from streams.settings_words import env_name

SECRET = "hunter2-do-not-print"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but the test's own."""
    monkeypatch.chdir(tmp_path)
    for group, name, _ in fields():
        monkeypatch.delenv(env_name(group, name), raising=False)


def refused(*arguments: object, **groups: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings(*arguments, **groups)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


def test_arguments_win_over_environment_over_file_over_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each source wins over the next, field by field, and each value knows where it came from."""
    Path("antiphon.toml").write_text("[worker]\npartitions = 5\nheartbeat_s = 0.5\nstall_after_s = 9\n")
    monkeypatch.setenv("ANTIPHON_WORKER__PARTITIONS", "6")
    monkeypatch.setenv("ANTIPHON_WORKER__HEARTBEAT_S", "0.25")
    settings = Settings(worker={"partitions": 7})
    assert (settings.worker.partitions, settings.worker.heartbeat_s, settings.worker.stall_after_s) == (7, 0.25, 9)
    origins = [settings.origin(f"worker.{name}") for name in ("partitions", "heartbeat_s", "stall_after_s", "app_id")]
    assert origins == ["argument", "environment", "file", "default"]


def test_a_group_given_as_a_model_leaves_its_other_fields_to_the_other_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was set in the model is an argument."""
    monkeypatch.setenv("ANTIPHON_WORKER__APP_ID", "mine")
    settings = Settings(worker=WorkerSettings(partitions=7))
    assert (settings.worker.partitions, settings.worker.app_id) == (7, "mine")


def test_every_mistake_is_reported_at_once_with_name_value_source_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One line each, whichever source the value came from."""
    file = tmp_path / "other.toml"
    file.write_text('[log]\nlevel = "loud"\n')
    monkeypatch.setenv("ANTIPHON_WORKER__PARTITIONS", "0")
    monkeypatch.setenv("ANTIPHON_CLIENT__LINGER_MS", "soon")
    lines = refused(file, kafka={"bootstrap_servers": "kafka://x"})
    assert lines == [
        (
            "kafka.bootstrap_servers (ANTIPHON_KAFKA__BOOTSTRAP_SERVERS) = 'kafka://x', from the argument: "
            "allowed is host:port[,host:port...], such as kafka-1:9092,kafka-2:9092 or [::1]:9092"
        ),
        "worker.partitions (ANTIPHON_WORKER__PARTITIONS) = '0', from the environment: allowed is a whole number from 1 to 10000",
        "client.linger_ms (ANTIPHON_CLIENT__LINGER_MS) = 'soon', from the environment: allowed is a whole number from 0 to 10000",
        f"log.level (ANTIPHON_LOG__LEVEL) = 'loud', from {file}: allowed is one of debug, info, warning, error",
    ]


@pytest.mark.parametrize(
    ("variable", "suggestion"),
    [
        ("ANTIPHON_WORKER__PARTITONS", "worker.partitions"),
        ("ANTIPHON_WORKER_PARTITIONS", "worker.partitions"),
        ("ANTIPHON_WORKR__PARTITIONS", "worker.partitions"),
        ("ANTIPHON_BOOTSTRAP_SERVERS", "kafka.bootstrap_servers"),
        ("ANTIPHON_KAFKA__SASL_PASWORD", "kafka.sasl_password"),
    ],
)
def test_an_unknown_variable_is_refused_with_a_suggestion_and_without_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, suggestion: str
) -> None:
    """A misspelt name is found at start; its value may be a secret and is not shown."""
    monkeypatch.setenv(variable, SECRET)
    (line,) = refused()
    assert variable in line
    assert f"did you mean {suggestion} (" in line
    assert SECRET not in line


def test_an_unknown_key_in_the_file_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    """Sections and keys alike, and the file is named."""
    file = tmp_path / "antiphon.toml"
    file.write_text("[kafka]\nbootstrap_server = 'a:1'\n[wrker]\npartitions = 3\n")
    lines = refused(file)
    assert any("did you mean kafka.bootstrap_servers" in line and str(file) in line for line in lines)
    assert any(line.startswith("wrker") and "no such setting" in line for line in lines)


def test_variables_that_kubernetes_makes_for_a_service_of_our_name_are_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called antiphon must not keep its own pods from starting."""
    for name, value in {
        "ANTIPHON_SERVICE_HOST": "10.0.0.1",
        "ANTIPHON_SERVICE_PORT": "80",
        "ANTIPHON_SERVICE_PORT_HTTP": "80",
        "ANTIPHON_PORT": "tcp://10.0.0.1:80",
        "ANTIPHON_PORT_80_TCP": "tcp://10.0.0.1:80",
        "ANTIPHON_PORT_80_TCP_ADDR": "10.0.0.1",
        "ANTIPHON_WORKER_SERVICE_HOST": "10.0.0.2",
    }.items():
        monkeypatch.setenv(name, value)
    assert Settings().worker.partitions == 4


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files write them for what is not given."""
    monkeypatch.setenv("ANTIPHON_WORKER__PARTITIONS", "")
    assert Settings().worker.partitions == 4


@pytest.mark.parametrize("text", ["activity,overlap", "activity, overlap", "activity overlap"])
def test_names_in_a_variable_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A list needs no JSON in the environment."""
    monkeypatch.setenv("ANTIPHON_WORKER__PROCESSORS", text)
    assert Settings().worker.processors == ("activity", "overlap")


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (
            {"kafka": {"security_protocol": "SASL_SSL", "bootstrap_servers": "a:1", "sasl_mechanism": "PLAIN"}},
            "kafka.sasl_username",
        ),
        ({"kafka": {"sasl_username": "u"}}, "allowed is SASL_SSL or SASL_PLAINTEXT"),
        ({"kafka": {"ssl_ca_location": "/nowhere.pem"}}, "allowed is SSL or SASL_SSL"),
        (
            {"kafka": {"security_protocol": "SSL", "bootstrap_servers": "a:1", "ssl_key_location": __file__}},
            "ssl_certificate_location",
        ),
        (
            {"kafka": {"security_protocol": "SSL", "bootstrap_servers": "a:1", "ssl_ca_location": "/nowhere.pem"}},
            "a file that exists",
        ),
        ({"kafka": {"security_protocol": "SSL"}}, "kafka.bootstrap_servers"),
        ({"worker": {"heartbeat_s": 3}}, "worker.heartbeat_s (ANTIPHON_WORKER__HEARTBEAT_S) = '3.0': allowed is at most 2"),
        ({"worker": {"revoke_grace_s": 6}}, "allowed is less than 6"),
        ({"worker": {"transaction_timeout_ms": 5000}}, "allowed is at least 6000"),
        ({"registry": {"url": "http://r", "username": "u"}}, "go together"),
        ({"tracing": {"endpoint": "http://c/v1/traces"}}, "tracing.exporter"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(groups: dict[str, object], words: str) -> None:
    """Each is fine alone; together they would fail later, or not do what was meant."""
    assert any(words in line for line in refused(**groups))


def test_no_text_of_the_settings_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr, str, rows, JSON nor an error line."""
    monkeypatch.setenv("ANTIPHON_KAFKA__SASL_PASSWORD", SECRET)
    monkeypatch.setenv("ANTIPHON_KAFKA__SASL_USERNAME", "user")
    safe = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "bootstrap_servers": "a:1"}
    settings = Settings(kafka=safe)
    assert settings.kafka.sasl_password == SecretStr(SECRET)
    for text in (repr(settings), str(settings), settings.model_dump_json(), json.dumps(rows(settings))):
        assert SECRET not in text
    assert {row.name: row.value for row in rows(settings)}["kafka.sasl_password"] == "(secret)"
    for wrong in (
        {"kafka": {"sasl_password": {"x": SECRET}}},
        {"registry": {"url": f"http://u:{SECRET}@r"}},
        {"kafka": [SECRET]},
    ):
        assert not any(SECRET in line for line in refused(**wrong))
    monkeypatch.setenv("ANTIPHON_KAFKA", '{"sasl_password": ' + SECRET)
    assert not any(SECRET in line for line in refused())


@pytest.mark.parametrize(("content", "words"), [("[worker\n", "is not TOML"), ("worker = 3\n", "a group of settings, [worker]")])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str, words: str) -> None:
    """With what is wrong in it."""
    file = tmp_path / "bad.toml"
    file.write_text(content)
    (line,) = refused(file)
    assert words in line
    assert str(file) in line


def test_a_named_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file named by ANTIPHON_CONFIG is meant; only the default one may be absent."""
    monkeypatch.setenv("ANTIPHON_CONFIG", "nowhere.toml")
    assert refused() == ["settings file nowhere.toml, named by ANTIPHON_CONFIG, is not there: create it or name another"]


def test_plain_kafka_gives_clients_the_brokers_and_faust_no_credentials() -> None:
    """The resolved brokers of the embedded Kafka take the place of the configured ones."""
    kafka = KafkaSettings(bootstrap_servers="a:1, b:2")
    assert kafka.client_config() == {"bootstrap.servers": "a:1,b:2", "client.id": "antiphon"}
    assert kafka.client_config("c:3")["bootstrap.servers"] == "c:3"
    assert kafka.faust_broker() == "kafka://a:1;kafka://b:2"
    assert kafka.faust_credentials() is None


def test_sasl_over_tls_reaches_both_clients(tmp_path: Path) -> None:
    """Librdkafka gets its own words, Faust its credentials with a context of the same files."""
    pem = _certificate(tmp_path)
    kafka = KafkaSettings(
        bootstrap_servers="a:1",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="user",
        sasl_password=SecretStr(SECRET),
        ssl_ca_location=str(pem),
        ssl_check_hostname=False,
    )
    config = kafka.client_config()
    assert config["sasl.password"] == SECRET
    assert (config["security.protocol"], config["sasl.mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (config["ssl.ca.location"], config["ssl.endpoint.identification.algorithm"]) == (str(pem), "none")
    credentials = kafka.faust_credentials()
    assert isinstance(credentials, SASLCredentials)
    assert (credentials.username, credentials.password, credentials.mechanism.value) == ("user", SECRET, "SCRAM-SHA-512")
    assert credentials.protocol.value == "SASL_SSL"
    assert isinstance(credentials.ssl_context, ssl.SSLContext)
    assert not credentials.ssl_context.check_hostname
    assert credentials.ssl_context.cert_store_stats()["x509_ca"] == 1


def test_a_file_that_is_no_certificate_is_one_clear_line(tmp_path: Path) -> None:
    """The TLS library's own words are kept, with the settings to look at."""
    (tmp_path / "ca.pem").write_text("no certificate")
    kafka = KafkaSettings(bootstrap_servers="a:1", security_protocol="SSL", ssl_ca_location=str(tmp_path / "ca.pem"))
    with pytest.raises(SettingsError, match=r"kafka\.ssl_\*: the TLS files cannot be used") as caught:
        kafka.faust_credentials()
    assert len(str(caught.value).splitlines()) == 1


def test_every_setting_is_documented_and_the_document_is_current() -> None:
    """docs/settings.md is what the model says: `python -m streams.settings_report > docs/settings.md`."""
    for group, name, field in fields():
        assert field.description, f"{group}.{name} has no description"
    committed = Path(__file__).parents[2] / "docs" / "settings.md"
    assert committed.read_text(encoding="utf-8") == markdown()


def test_user_directories_follow_the_environment(tmp_path: Path) -> None:
    """Where the platform has a variable for it."""
    if sys.platform == "linux":
        assert user_directory("data", {"XDG_DATA_HOME": str(tmp_path)}) == tmp_path / "antiphon"
        assert user_directory("cache", {}) == Path.home() / ".cache" / "antiphon"


def _certificate(directory: Path) -> Path:
    """A self-signed authority, made by openssl; skipped with the reason where there is none."""
    pem = directory / "ca.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test", "-keyout"]
    try:
        subprocess.run([*command, str(directory / "key.pem"), "-out", str(pem)], check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no openssl command here to make a certificate with")
    return pem
