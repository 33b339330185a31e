"""Publishes changes of users to kcsync, which applies them to Keycloak in order.

An application needs a `Producer` and the changes: `UserCreate`, `UserUpdate`, `PasswordChange`, `UserDelete`, with `Membership` for groups and roles, and
`CustomChange` for kinds that other packages bring. What it may
have to catch is in the picture of `producer_lib._errors`; all of it is a `ProducerError`. The rest is the contract itself, for
those who read the topic or write to it in their own way.
"""

from __future__ import annotations

from producer_lib._changes import Membership, PasswordChange, UserChange, UserCreate, UserDelete, UserUpdate
from producer_lib._contract import (
    MAX_EVENT_BYTES,
    NewerSchema,
    NotOurs,
    Recognised,
    UnregisteredKind,
    check_envelope,
    check_event,
    event_type,
    kinds,
    parse_event,
    recognise,
)
from producer_lib._custom import CustomChange, CustomKind
from producer_lib._errors import (
    InvalidEvent,
    InvalidKind,
    InvalidSealingKey,
    KafkaUnreachable,
    PartlyPublished,
    ProducerClosed,
    ProducerError,
    PublishFailed,
    PublishInterrupted,
    PublishRefused,
    PublishTimeout,
    SealingKeyMissing,
    UnknownTopic,
)
from producer_lib._prehashed import PREHASHED_ALG, PasswordForm, PrehashedPassword
from producer_lib._producer import Producer
from producer_lib._published import Published
from producer_lib._sealing import (
    SEALING_ALG,
    SealedPassword,
    SealingKey,
    prehashed_info,
    seal,
    sealing_info,
)
from producer_lib._username import username_key

__all__ = [
    "MAX_EVENT_BYTES",
    "PREHASHED_ALG",
    "SEALING_ALG",
    "CustomChange",
    "CustomKind",
    "InvalidEvent",
    "InvalidKind",
    "InvalidSealingKey",
    "KafkaUnreachable",
    "Membership",
    "NewerSchema",
    "NotOurs",
    "PartlyPublished",
    "PasswordChange",
    "PasswordForm",
    "PrehashedPassword",
    "Producer",
    "ProducerClosed",
    "ProducerError",
    "PublishFailed",
    "PublishInterrupted",
    "PublishRefused",
    "PublishTimeout",
    "Published",
    "Recognised",
    "SealedPassword",
    "SealingKey",
    "SealingKeyMissing",
    "UnknownTopic",
    "UnregisteredKind",
    "UserChange",
    "UserCreate",
    "UserDelete",
    "UserUpdate",
    "check_envelope",
    "check_event",
    "event_type",
    "kinds",
    "parse_event",
    "prehashed_info",
    "recognise",
    "seal",
    "sealing_info",
    "username_key",
]
