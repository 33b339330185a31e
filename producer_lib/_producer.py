"""Publishes a user's changes, in the order they are given."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from producer_lib import _tracing
from producer_lib._changes import UserChange, as_event, as_message
from producer_lib._contract import CONTENT_TYPE, MAX_EVENT_BYTES, check_event
from producer_lib._custom import CustomChange
from producer_lib._errors import (
    InvalidEvent,
    PartlyPublished,
    ProducerClosed,
    ProducerError,
    PublishFailed,
    PublishInterrupted,
    PublishRefused,
    PublishTimeout,
)
from producer_lib._kafka import Connection, settings
from producer_lib._passwords import as_password, prehashed, prehashed_all
from producer_lib._prehashed import PasswordForm
from producer_lib._published import Published
from producer_lib._sealing import SealingKey
from producer_lib._username import username_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from aiokafka.structs import RecordMetadata
    from opentelemetry.trace import Span

# What the trace context adds to a message at most: two names and values of 55 and 512 characters, escaped.
_TRACE_ROOM: Final = 2048

# After this many events, publish_many lets other tasks run: sealing takes 60 µs each.
_BREATH: Final = 64

# How long a broken connection may take to send what its other partitions still hold, in seconds.
_REPLACE_TIMEOUT: Final = 2.0

_REFUSALS: Final = (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A checked event with its key."""

    key: bytes
    event: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _InFlight:
    """An event handed to Kafka."""

    event_id: str
    answer: asyncio.Future[RecordMetadata]
    deadline: float
    connection: Connection
    span: Span
    traceparent: str | None


class Producer:
    """Publishes changes of users to the topic that kcsync reads.

    Use it as an asynchronous context manager, one for the whole application:

        async with Producer(bootstrap_servers="kafka:9092", source="/shop", realm="customers") as producer:
            await producer.publish(UserUpdate(username="ada", email="ada@example.com"))

    The changes of one user are applied in the order in which they are published. So wait for each publish of a user
    before the next one, or give them to `publish_many` together.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        source: str,
        realm: str | None = None,
        sealing_key: SealingKey | None = None,
        password_form: PasswordForm = "sealed",  # noqa: S107 - the name of a form.
        topic: str = "kcsync.user-events",
        delivery_timeout: float = 30.0,
        kafka: Mapping[str, Any] | None = None,
    ) -> None:
        """Nothing is connected yet.

        Args:
            bootstrap_servers: One or more `host:port`, with commas between them.
            source: Names the application, as a URI reference such as `/shop`. With the event's id it identifies an event, so keep it
                stable.
            realm: The Keycloak realm of events that name none.
            sealing_key: Seals passwords, and the hashes of passwords. None: such events are refused.
            password_form: What becomes of passwords given in clear. `sealed`: Keycloak gets the password itself, checks it by
                the realm's policies and hashes it. `prehashed`: it is hashed here (some 30 ms of CPU each, in threads), and
                Keycloak takes the hash as it is: many times faster there, and **past all of the realm's password
                policies**. An event may have its own form: `password=await PrehashedPassword.of(...)`.
            topic: The topic to publish to.
            delivery_timeout: How long each wait for Kafka may take, in seconds: to start, to publish an event, to close.
            kafka: Further settings of aiokafka's producer, such as `security_protocol`, `ssl_context`, `sasl_mechanism`,
                `sasl_plain_username`, `sasl_plain_password`, `compression_type` (default: lz4), `linger_ms` (default: 5).

        Raises:
            ValueError: `kafka` holds a setting on which each user's order rests.
        """
        self._source = source
        self._realm = realm
        self._sealing_key = sealing_key
        self._prehashes = password_form == "prehashed"  # noqa: S105 - the name of a form.
        self._topic = topic
        self._delivery_timeout = delivery_timeout
        self._options = settings(bootstrap_servers, delivery_timeout, kafka or {})
        self._connecting = asyncio.Lock()
        self._connection: Connection | None = None
        self._open = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaUnreachable: No broker answered within the delivery timeout. Try again later; the Producer can be reused.
            UnknownTopic: The topic is not there, or not for this user.
        """
        self._open = True
        try:
            await self._connected()
        except BaseException:
            self._open = False
            raise

    async def close(self) -> None:
        """Send what is buffered, for at most the delivery timeout, then disconnect."""
        self._open = False
        async with self._connecting:
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.close(within=self._delivery_timeout)

    async def publish(self, change: UserChange) -> Published:
        """Publish one change, and wait until Kafka has it.

        Raises:
            InvalidEvent: The change breaks the contract; the error names the field. Nothing was sent.
            SealingKeyMissing: A password in clear, and no key. Nothing was sent.
            ProducerClosed: The Producer is not open. Nothing was sent.
            KafkaUnreachable: The connection had to be replaced, and could not be. Nothing was sent.
            PublishRefused: Kafka said no.
            PublishInterrupted: Unknown whether Kafka has it. Publish the same object again.
            PublishTimeout: Unknown whether Kafka has it. Publish the same object again.
        """
        if self._prehashes:
            change = await prehashed(change)
        in_flight = await self._send(self._prepare(change))
        await _answers([in_flight])
        return self._conclude(in_flight)

    async def publish_many(self, changes: Iterable[UserChange]) -> list[Published]:
        """Publish changes together, much faster than one by one. The changes of one user stay in the order given.

        All are checked before the first is sent, and all are held in memory: give some thousands at a time.

        Returns:
            One `Published` for each change, in the order given.

        Raises:
            InvalidEvent: As `publish`; the field begins with the change's index: `events[3].data.email`. Nothing was sent.
            PartlyPublished: Some have failed; it says which. Publish the same list again.
            ProducerError: As `publish`, when not even the first could be sent.
        """
        ready = []
        for index, change in enumerate(await prehashed_all(changes) if self._prehashes else changes):
            try:
                ready.append(self._prepare(change))
            except InvalidEvent as error:
                raise InvalidEvent(f"events[{index}].{error.field}", error.reason) from None
            if index % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)

        flight: list[_InFlight] = []
        failures: list[ProducerError] = []
        for event in ready:
            try:
                flight.append(await self._send(event))
            except ProducerError as error:
                if not flight:
                    raise
                failures.append(error)
                break
        unsent = tuple(event.event["id"] for event in ready[len(flight) + len(failures) :])

        await _answers(flight)
        published = []
        for in_flight in flight:
            try:
                published.append(self._conclude(in_flight))
            except PublishFailed as error:
                failures.append(error)
        if failures:
            raise PartlyPublished(tuple(published), tuple(failures), unsent)
        return published

    def _prepare(self, change: UserChange) -> _Ready:
        realm = change.realm if change.realm is not None else self._realm
        if realm is None:
            raise InvalidEvent("realm", "is missing: give it to the Producer or to the event")
        key = username_key(change.username)
        if isinstance(change, CustomChange):
            event = as_message(
                change, type_=change.of.type, data=dict(change.data), source=self._source, realm=realm
            )
            change.of.check(event)
        else:
            password = as_password(change, key=self._sealing_key, realm=realm, username_key=key)
            event = as_event(change, source=self._source, realm=realm, password=password)
            check_event(event)
        if len(orjson.dumps(event)) + _TRACE_ROOM > MAX_EVENT_BYTES:
            raise InvalidEvent("event", f"must have {MAX_EVENT_BYTES - _TRACE_ROOM:,} bytes or fewer as JSON")
        return _Ready(key=key.encode(), event=event)

    async def _connected(self) -> Connection:
        if not self._open:
            raise ProducerClosed
        connection = self._connection
        if connection is not None and not connection.broken:
            return connection
        async with self._connecting:
            if self._connection is not None and self._connection.broken:
                broken, self._connection = self._connection, None
                await broken.close(within=_REPLACE_TIMEOUT)
            if self._connection is None:
                self._connection = await Connection.open(
                    self._options, self._topic, within=self._delivery_timeout
                )
            return self._connection

    async def _send(self, ready: _Ready) -> _InFlight:
        event_id = ready.event["id"]
        span, context = _tracing.begin(self._topic, ready.event)
        headers = [("content-type", CONTENT_TYPE.encode())]
        headers += [(name, value.encode()) for name, value in context.items()]
        value = orjson.dumps({**ready.event, **context})
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._delivery_timeout) as limit:
                connection = await self._connected()
                answer = await connection.send(ready.key, value, headers)
        except TimeoutError:
            error: ProducerError = self._timed_out(event_id)
        except KafkaError as cause:
            error = _failure(event_id, cause)
            if connection is not None:
                connection.broken = not isinstance(error, PublishRefused)
        except ProducerError as cause:
            error = cause
        except BaseException as cause:
            _tracing.fail(span, cause)
            raise
        else:
            deadline = limit.when()
            assert deadline is not None
            return _InFlight(
                event_id=event_id,
                answer=answer,
                deadline=deadline,
                connection=connection,
                span=span,
                traceparent=context.get("traceparent"),
            )
        _tracing.fail(span, error)
        raise error

    def _conclude(self, in_flight: _InFlight) -> Published:
        if not in_flight.answer.done():
            # The record stays in the buffer. Taking it out could let a later change of the same user pass it.
            error: PublishFailed = self._timed_out(in_flight.event_id)
        elif (cause := in_flight.answer.exception()) is not None:
            in_flight.connection.broken = True
            error = _failure(in_flight.event_id, cause)
        else:
            record = in_flight.answer.result()
            published = Published(
                event_id=in_flight.event_id,
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                traceparent=in_flight.traceparent,
            )
            _tracing.succeed(in_flight.span, published)
            return published
        _tracing.fail(in_flight.span, error)
        raise error

    def _timed_out(self, event_id: str) -> PublishTimeout:
        return PublishTimeout(event_id, f"Kafka did not confirm it within {self._delivery_timeout:g} s")


async def _answers(flight: list[_InFlight]) -> None:
    """Wait for Kafka's answers, as long as the last one may take. Cancels none of them."""
    if not flight:
        return
    left = max(in_flight.deadline for in_flight in flight) - asyncio.get_running_loop().time()
    try:
        await asyncio.wait({in_flight.answer for in_flight in flight}, timeout=max(left, 0.0))
    except BaseException as error:
        for in_flight in flight:
            _tracing.fail(in_flight.span, error)
        raise


def _failure(event_id: str, cause: BaseException) -> PublishFailed:
    if isinstance(cause, _REFUSALS):
        return PublishRefused(event_id, f"Kafka refused it: {cause}")
    return PublishInterrupted(event_id, f"the connection to Kafka failed: {cause}")
