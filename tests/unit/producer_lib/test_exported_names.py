from __future__ import annotations

import producer_lib


def test_the_public_names_are_exactly_these() -> None:
    assert producer_lib.__all__ == [
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


def test_nothing_else_is_public() -> None:
    public = {name for name in vars(producer_lib) if not name.startswith("_")}

    assert public - {"annotations"} == set(producer_lib.__all__)


def test_every_error_is_a_producer_error() -> None:
    errors = [
        value
        for name in producer_lib.__all__
        if isinstance(value := getattr(producer_lib, name), type) and issubclass(value, Exception)
    ]

    assert len(errors) == 13
    assert all(issubclass(error, producer_lib.ProducerError) for error in errors)
