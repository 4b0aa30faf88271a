"""What the tests share: one embedded broker for the whole session, and topics of their own on it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

import hypothesis
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker import EmbeddedBroker

TOPIC_VISIBLE_S = 20.0
"""For a created topic to have its leaders; milliseconds as a rule."""

MakeTopic = Callable[..., str]

hypothesis.settings.register_profile("shared-machine", deadline=None)
hypothesis.settings.load_profile("shared-machine")  # three tests run at a time on two cores: an example's time says nothing


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests do not read the developer's own settings, nor write into the developer's own data directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ANTIPHON_CONFIG", raising=False)
        patch.delenv("ANTIPHON_KAFKA__BOOTSTRAP_SERVERS", raising=False)
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker for the whole session, on a free port; tests that break a broker start their own."""
    quick = {"group.min.session.timeout.ms": "1000"}  # takeover after a kill waits for the session: fault tests use two seconds
    with EmbeddedBroker(data_dir=tmp_path_factory.mktemp("kafka"), heap_mb=512, properties=quick) as broker:
        yield broker


@pytest.fixture
def make_topic(kafka: EmbeddedBroker) -> Iterator[MakeTopic]:
    """Makes topics with names of their own: ``make_topic("orders", partitions=4, **{"cleanup.policy": "compact"})``."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    made: list[str] = []

    def make(name: str = "topic", partitions: int = 4, **config: str) -> str:
        topic = f"{name}-{secrets.token_hex(4)}"
        futures = admin.create_topics(
            [NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)], operation_timeout=TOPIC_VISIBLE_S
        )
        futures[topic].result(TOPIC_VISIBLE_S)
        made.append(topic)
        deadline = time.monotonic() + TOPIC_VISIBLE_S
        while admin.list_topics(topic, TOPIC_VISIBLE_S).topics[topic].error is not None:  # made, and not known to its broker yet
            assert time.monotonic() < deadline, f"{topic} was made and is not seen"
        return topic

    yield make
    if made:
        for future in admin.delete_topics(made, operation_timeout=TOPIC_VISIBLE_S).values():
            future.exception(TOPIC_VISIBLE_S)  # one that the test deleted itself is as good


@pytest.fixture
def topic(make_topic: MakeTopic) -> MakeTopic:
    """The factory under the name that most tests use."""
    return make_topic
