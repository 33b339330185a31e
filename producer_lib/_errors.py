"""Everything that producer_lib raises.

* ProducerError
  x InvalidEvent          the event breaks the contract; nothing was sent
  x InvalidKind           a custom kind cannot be one
  x InvalidSealingKey     the text or bytes are no sealing key
  x SealingKeyMissing     a password in clear, and no key to seal it with; nothing was sent
  x KafkaUnreachable      no connection; nothing was sent
  x UnknownTopic          Kafka has no such topic, or hides it; nothing was sent
  x ProducerClosed        published before `start()` or after `close()`; nothing was sent
  · PublishFailed         Kafka was asked, and did not say yes
    x PublishRefused      Kafka said no; the event is not in the topic
    x PublishInterrupted  the connection became unusable and is replaced; the event may be in the topic
    x PublishTimeout      no answer in time; the event may be in the topic
  x PartlyPublished       what `publish_many` could and could not do

No message holds a value of the event: a log that shows an error shows no password and no username.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producer_lib._published import Published

__all__ = [
    "InvalidEvent",
    "InvalidKind",
    "InvalidSealingKey",
    "KafkaUnreachable",
    "PartlyPublished",
    "ProducerClosed",
    "ProducerError",
    "PublishFailed",
    "PublishInterrupted",
    "PublishRefused",
    "PublishTimeout",
    "SealingKeyMissing",
    "UnknownTopic",
]


class ProducerError(Exception):
    """The base of all errors of this library.

    Catch it where any failure to publish is handled in the same way:

        try:
            await producer.publish(change)
        except ProducerError as error:
            log.warning("not published: %s", error)
    """


class InvalidEvent(ProducerError):
    """The event breaks the contract. Nothing was sent; sending it again cannot help.

    Attributes:
        field: Where, as a path in the message: `data.email`, `subject` (the username), `event` (the whole).
        reason: Why, without the value.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


class InvalidKind(ProducerError):
    """A custom kind cannot be one.

    Attributes:
        kind: Its name.
        reason: Why.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"The kind {kind!r} cannot be used: {reason}.")
        self.kind = kind
        self.reason = reason


class InvalidSealingKey(ProducerError):
    """The text or the bytes are no sealing key.

    Attributes:
        reason: Why, without the text.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Not a sealing key: {reason}. It reads `<kid>:<32 bytes as base64url>`; ask the operator for it."
        )
        self.reason = reason


class SealingKeyMissing(ProducerError):
    """A password in clear, and no key to seal it with. Nothing was sent."""

    def __init__(self) -> None:
        super().__init__(
            "The event has a password in clear and this Producer has no sealing key; nothing was sent. "
            "Give it one: Producer(..., sealing_key=SealingKey.from_text(...))."
        )


class KafkaUnreachable(ProducerError):
    """No connection to Kafka. Nothing was sent.

    Attributes:
        bootstrap_servers: The addresses tried.
        reason: What happened there.
    """

    def __init__(self, bootstrap_servers: str, reason: str) -> None:
        super().__init__(
            f"Kafka cannot be reached at {bootstrap_servers}: {reason}. "
            "Check the addresses, the network and the security settings (the log of `aiokafka` says more)."
        )
        self.bootstrap_servers = bootstrap_servers
        self.reason = reason


class UnknownTopic(ProducerError):
    """Kafka has no such topic, or does not show it to this user. Nothing was sent.

    Attributes:
        topic: The topic asked for.
    """

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"Kafka does not know the topic {topic!r}, or does not show it to this user. "
            "Check its name, and the right to describe and write it."
        )
        self.topic = topic


class ProducerClosed(ProducerError):
    """The producer is not open. Nothing was sent."""

    def __init__(self) -> None:
        super().__init__(
            "This Producer is not open; nothing was sent. Use it inside `async with Producer(...)`."
        )


class PublishFailed(ProducerError):
    """Kafka was asked, and did not say yes.

    Publishing the same object again is right in every case: it has the same event id, and a consumer that meets the id twice
    applies it once.

    Attributes:
        event_id: The event's id.
        reason: What happened.
    """

    remedy = "Publish it again with the same event id."

    def __init__(self, event_id: str, reason: str) -> None:
        super().__init__(f"Event {event_id}: {reason}. {self.remedy}")
        self.event_id = event_id
        self.reason = reason


class PublishRefused(PublishFailed):
    """Kafka said no. The event is not in the topic."""

    remedy = "It is not in the topic. Remove the cause, then publish it again with the same event id."


class PublishInterrupted(PublishFailed):
    """The connection became unusable, and the next publish opens another. The event may be in the topic."""

    remedy = "It may be in the topic. Publish it again with the same event id; a duplicate is recognised."


class PublishTimeout(PublishFailed):
    """Kafka gave no answer in time. The event may be in the topic, or still arrive there."""

    remedy = "It may be in the topic. Publish it again with the same event id; a duplicate is recognised."


class PartlyPublished(ProducerError):
    """Some events of a `publish_many` are not known to be in the topic.

    Publishing the whole list again is right: what is there already is recognised by its event id.

    Attributes:
        published: What Kafka has confirmed.
        failures: What was handed to Kafka and not confirmed, one error for each event.
        unsent: The ids of events that were not handed to Kafka, in their order.
    """

    def __init__(
        self, published: tuple[Published, ...], failures: tuple[ProducerError, ...], unsent: tuple[str, ...]
    ) -> None:
        super().__init__(
            f"{len(published)} events published, {len(failures)} failed, {len(unsent)} not sent; "
            f"the first failure: {failures[0]} Publish the same list again; what is there is recognised."
        )
        self.published = published
        self.failures = failures
        self.unsent = unsent
