"""The producer over a connection that answers as each test says. Real Kafka: tests/integration/producer."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from producer_lib import (
    InvalidEvent,
    KafkaUnreachable,
    PartlyPublished,
    PasswordChange,
    PasswordForm,
    Producer,
    ProducerClosed,
    Published,
    PublishInterrupted,
    PublishRefused,
    PublishTimeout,
    SealedPassword,
    SealingKey,
    SealingKeyMissing,
    UserCreate,
    UserDelete,
    UserUpdate,
    check_event,
)
from producer_lib._kafka import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEY = SealingKey("k1", X25519PrivateKey.generate().public_key().public_bytes_raw())


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int


class Broker:
    """Kafka as one test wants it: what it was sent, and how it answers each event id."""

    def __init__(self) -> None:
        self.connections: list[Link] = []
        self.records: list[tuple[bytes, dict[str, Any], dict[str, bytes]]] = []
        self.answers: defaultdict[str, BaseException | str] = defaultdict(lambda: "yes")
        self.refuses_connections: BaseException | None = None
        self.reached = asyncio.Event()

    async def open(self, options: Mapping[str, Any], topic: str, *, within: float) -> Link:
        if self.refuses_connections is not None:
            raise self.refuses_connections
        self.connections.append(Link(self, topic))
        return self.connections[-1]

    @property
    def ids(self) -> list[str]:
        return [event["id"] for _, event, _ in self.records]


class Link:
    def __init__(self, broker: Broker, topic: str) -> None:
        self.broker = broker
        self.topic = topic
        self.broken = False
        self.closed = False

    async def send(
        self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> asyncio.Future[Record]:
        event = orjson.loads(value)
        behaviour = self.broker.answers[event["id"]]
        if behaviour == "buffer full":
            await asyncio.Event().wait()
        if isinstance(behaviour, MessageSizeTooLargeError | KafkaConnectionError):
            raise behaviour
        answer: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self.broker.records.append((key, event, dict(headers)))
        self.broker.reached.set()
        if isinstance(behaviour, BaseException):
            answer.set_exception(behaviour)
        elif behaviour == "yes":
            answer.set_result(Record(self.topic, 3, len(self.broker.records) - 1))
        return answer

    async def close(self, *, within: float) -> None:
        self.closed = True


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(Connection, "open", broker.open)
    return broker


def a_producer(
    *,
    realm: str | None = "customers",
    sealing_key: SealingKey | None = None,
    password_form: PasswordForm = "sealed",  # noqa: S107 - the name of a form.
    delivery_timeout: float = 0.05,
    kafka: dict[str, Any] | None = None,
) -> Producer:
    return Producer(
        bootstrap_servers="kafka:9092",
        source="/test",
        realm=realm,
        sealing_key=sealing_key,
        password_form=password_form,
        delivery_timeout=delivery_timeout,
        kafka=kafka,
    )


def update(event_id: str, username: str = "ada") -> UserUpdate:
    return UserUpdate(username=username, enabled=True, event_id=event_id)


class TestPublish:
    async def test_sends_a_valid_event_under_the_username_key(self, broker: Broker) -> None:
        async with a_producer() as producer:
            published = await producer.publish(UserUpdate(username="Ada", enabled=False, event_id="e-1"))

        key, event, headers = broker.records[0]
        check_event(event)
        assert (key, event["subject"], event["realm"], event["source"]) == (
            b"ada",
            "Ada",
            "customers",
            "/test",
        )
        assert headers == {"content-type": b"application/cloudevents+json"}
        assert published == Published(
            event_id="e-1", topic="kcsync.user-events", partition=3, offset=0, traceparent=None
        )

    async def test_prefers_the_realm_of_the_event(self, broker: Broker) -> None:
        async with a_producer() as producer:
            await producer.publish(UserDelete(username="ada", realm="staff"))

        assert broker.records[0][1]["realm"] == "staff"

    async def test_seals_a_password(self, broker: Broker) -> None:
        async with a_producer(sealing_key=KEY) as producer:
            await producer.publish(PasswordChange(username="ada", password="hunter2"))

        event = broker.records[0][1]
        assert event["data"]["password"]["sealed"]["kid"] == "k1"
        assert b"hunter2" not in orjson.dumps(event)

    async def test_hashes_passwords_where_it_is_told_to(self, broker: Broker) -> None:
        async with a_producer(sealing_key=KEY, password_form="prehashed") as producer:
            await producer.publish(PasswordChange(username="ada", password="hunter2"))
            await producer.publish_many([UserCreate(username="bob", password="hunter2")])

        for _, event, _ in broker.records:
            check_event(event)
            assert event["data"]["password"]["prehashed"]["sealed"]["kid"] == "k1"
            assert b"hunter2" not in orjson.dumps(event)

    async def test_sends_a_sealed_password_as_it_is_and_without_a_key(self, broker: Broker) -> None:
        sealed = SealedPassword(kid="k9", ciphertext="A" * 80)

        async with a_producer() as producer:
            await producer.publish(UserCreate(username="ada", password=sealed))

        assert broker.records[0][1]["data"]["password"]["sealed"]["ciphertext"] == "A" * 80

    async def test_refuses_a_password_in_clear_without_a_key(self, broker: Broker) -> None:
        async with a_producer() as producer:
            with pytest.raises(SealingKeyMissing):
                await producer.publish(PasswordChange(username="ada", password="hunter2"))

        assert broker.records == []

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            (UserUpdate(username="ada", email="nowhere"), "data.email"),
            (UserUpdate(username="ada"), "data"),
            (UserUpdate(username="x", enabled=True), "subject"),
            (UserDelete(username="ada", event_id=""), "id"),
            (UserDelete(username="ada", priority=99), "priority"),
            (UserDelete(username="ada", realm=""), "realm"),
            (PasswordChange(username="ada", password=" "), "data.password"),
            (PasswordChange(username="ada", password=b"hunter2"), "data.password"),  # type: ignore[arg-type]
            (
                PasswordChange(username="ada", password=SealedPassword(kid="/", ciphertext="A" * 80)),
                "data.password.sealed.kid",
            ),
            (UserUpdate(username="ada", attributes={f"a{i}": ["x" * 2000] * 2 for i in range(70)}), "event"),
            (UserUpdate(username="ada", attributes={"a": {"x"}}), "event"),  # type: ignore[dict-item]
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_names_the_field_of_an_invalid_change_and_sends_nothing(
        self, broker: Broker, change: UserUpdate, field: str
    ) -> None:
        async with a_producer(sealing_key=KEY) as producer:
            with pytest.raises(InvalidEvent) as refused:
                await producer.publish(change)

        assert refused.value.field == field
        assert "hunter2" not in str(refused.value)
        assert broker.records == []

    async def test_asks_for_a_realm(self, broker: Broker) -> None:
        async with a_producer(realm=None) as producer:
            with pytest.raises(InvalidEvent) as refused:
                await producer.publish(update("e-1"))

        assert refused.value.field == "realm"

    async def test_gives_up_after_the_delivery_timeout_and_says_what_to_do(self, broker: Broker) -> None:
        broker.answers["e-1"] = "never"

        async with a_producer() as producer:
            with pytest.raises(PublishTimeout, match=r"within 0.05 s.*same event id") as failed:
                await producer.publish(update("e-1"))
            await producer.publish(update("e-2"))

        assert failed.value.event_id == "e-1"
        # The first record is still in the buffer of the connection, ahead of the second.
        assert len(broker.connections) == 1

    async def test_gives_up_when_the_buffer_stays_full(self, broker: Broker) -> None:
        broker.answers["e-1"] = "buffer full"

        async with a_producer() as producer:
            with pytest.raises(PublishTimeout):
                await producer.publish(update("e-1"))

    async def test_replaces_the_connection_once_after_a_lost_sequence(self, broker: Broker) -> None:
        broker.answers["e-1"] = OutOfOrderSequenceNumber()

        async with a_producer() as producer:
            with pytest.raises(PublishInterrupted, match=r"OutOfOrderSequenceNumber.*may be in the topic"):
                await producer.publish(update("e-1"))
            broker.answers["e-1"] = "yes"
            await producer.publish(update("e-1"))
            await producer.publish(update("e-2"))

        assert broker.ids == ["e-1", "e-1", "e-2"]
        assert [link.closed for link in broker.connections] == [True, True]

    async def test_replaces_the_connection_when_it_dies_while_sending(self, broker: Broker) -> None:
        broker.answers["e-1"] = KafkaConnectionError("gone")

        async with a_producer() as producer:
            with pytest.raises(PublishInterrupted):
                await producer.publish(update("e-1"))
            await producer.publish(update("e-2"))

        assert len(broker.connections) == 2

    async def test_tries_again_to_replace_it_at_the_next_publish(self, broker: Broker) -> None:
        broker.answers["e-1"] = OutOfOrderSequenceNumber()

        async with a_producer() as producer:
            with pytest.raises(PublishInterrupted):
                await producer.publish(update("e-1"))
            broker.refuses_connections = KafkaUnreachable("kafka:9092", "down")
            with pytest.raises(KafkaUnreachable):
                await producer.publish(update("e-2"))
            broker.refuses_connections = None
            await producer.publish(update("e-3"))

        assert broker.ids == ["e-1", "e-3"]

    @pytest.mark.parametrize("answer", [MessageSizeTooLargeError(), TopicAuthorizationFailedError()])
    async def test_says_when_kafka_refuses(self, broker: Broker, answer: BaseException) -> None:
        broker.answers["e-1"] = answer

        async with a_producer() as producer:
            with pytest.raises(PublishRefused, match="not in the topic"):
                await producer.publish(update("e-1"))

    async def test_leaves_the_connection_alone_when_it_is_cancelled(self, broker: Broker) -> None:
        broker.answers["e-1"] = "never"

        async with a_producer(delivery_timeout=30.0) as producer:
            publishing = asyncio.ensure_future(producer.publish(update("e-1")))
            await asyncio.wait_for(broker.reached.wait(), 5)
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
            await producer.publish(update("e-2"))

        assert len(broker.connections) == 1


class TestPublishMany:
    async def test_keeps_the_order_given(self, broker: Broker) -> None:
        changes = [update(f"e-{number}", f"user{number % 7}") for number in range(200)]

        async with a_producer() as producer:
            published = await producer.publish_many(changes)

        assert broker.ids == [change.event_id for change in changes]
        assert [each.event_id for each in published] == broker.ids

    async def test_sends_nothing_if_one_is_invalid(self, broker: Broker) -> None:
        async with a_producer() as producer:
            with pytest.raises(InvalidEvent) as refused:
                await producer.publish_many([update("e-1"), UserUpdate(username="ada", email="nowhere")])

        assert refused.value.field == "events[1].data.email"
        assert broker.records == []

    async def test_of_nothing_is_nothing(self, broker: Broker) -> None:
        async with a_producer() as producer:
            assert await producer.publish_many([]) == []

    async def test_tells_what_was_published_what_failed_and_what_was_not_sent(self, broker: Broker) -> None:
        broker.answers |= {"e-2": "never", "e-3": "buffer full"}

        async with a_producer() as producer:
            with pytest.raises(PartlyPublished, match="1 events published, 2 failed, 1 not sent") as failed:
                await producer.publish_many([update(f"e-{number}") for number in range(1, 5)])

        assert [each.event_id for each in failed.value.published] == ["e-1"]
        assert {error.event_id for error in failed.value.failures if isinstance(error, PublishTimeout)} == {
            "e-2",
            "e-3",
        }
        assert failed.value.unsent == ("e-4",)

    async def test_fails_as_publish_does_when_not_even_the_first_could_be_sent(self, broker: Broker) -> None:
        broker.answers["e-1"] = "buffer full"

        async with a_producer() as producer:
            with pytest.raises(PublishTimeout):
                await producer.publish_many([update("e-1"), update("e-2")])

        assert broker.records == []


class TestOpening:
    async def test_a_producer_that_is_not_open_publishes_nothing(self, broker: Broker) -> None:
        producer = a_producer()

        with pytest.raises(ProducerClosed):
            await producer.publish(update("e-1"))

    async def test_a_closed_producer_publishes_nothing(self, broker: Broker) -> None:
        async with a_producer() as producer:
            pass

        with pytest.raises(ProducerClosed):
            await producer.publish(update("e-1"))

    async def test_a_failed_start_can_be_repeated(self, broker: Broker) -> None:
        producer = a_producer()
        broker.refuses_connections = KafkaUnreachable("kafka:9092", "down")
        with pytest.raises(KafkaUnreachable):
            await producer.start()
        with pytest.raises(ProducerClosed):
            await producer.publish(update("e-1"))

        broker.refuses_connections = None
        await producer.start()
        await producer.publish(update("e-1"))
        await producer.close()

        assert broker.ids == ["e-1"]

    async def test_many_first_publishes_open_one_connection(self, broker: Broker) -> None:
        async with a_producer() as producer:
            await asyncio.gather(*(producer.publish(update(f"e-{number}")) for number in range(20)))

        assert len(broker.connections) == 1

    @pytest.mark.parametrize("setting", ["acks", "enable_idempotence", "partitioner", "value_serializer"])
    def test_what_the_order_rests_on_cannot_be_set(self, setting: str) -> None:
        with pytest.raises(ValueError, match=setting):
            a_producer(kafka={setting: None})
