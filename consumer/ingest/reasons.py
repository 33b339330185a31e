"""Why a record cannot become an entry: reason codes of poison, each with what it means and what to do."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from consumer.delivery.advice import Advice

__all__ = ["POISON_ADVICE", "PoisonReason"]


class PoisonReason(StrEnum):
    """Why a record is poison. The values are stored and shown: they do not change."""

    TOMBSTONE = "tombstone"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    FOREIGN_TYPE = "foreign_type"
    INVALID = "invalid"
    REALM_UNKNOWN = "realm_unknown"
    ID_REUSED = "id_reused"


POISON_ADVICE: Final[dict[PoisonReason, Advice]] = {
    PoisonReason.TOMBSTONE: Advice(
        "the record has no value", "see who writes to the topic; it must not be compacted"
    ),
    PoisonReason.TOO_LARGE: Advice(
        "the record is larger than an event may be: of what is poison the first 64 KiB are kept, with its length and SHA-256",
        "see who writes to the topic; publish by `producer_lib`, which refuses it",
    ),
    PoisonReason.NOT_JSON: Advice(
        "the record is no JSON object", "see who writes to the topic; publish by `producer_lib`"
    ),
    PoisonReason.FOREIGN_TYPE: Advice(
        "the event's type is none of kcsync", "see who writes to the topic; give other events another topic"
    ),
    PoisonReason.INVALID: Advice(
        "the event breaks its schema; the detail names the field",
        "correct it where it comes from, and publish it again, under a new event id",
    ),
    PoisonReason.REALM_UNKNOWN: Advice(
        "the event is of a realm that is not served",
        "correct the realm, or add it to KCSYNC_KEYCLOAK_REALMS; then publish the event again, under a new event id",
    ),
    PoisonReason.ID_REUSED: Advice(
        "another event had the same source and id, and said something else; the detail says where",
        "publish it again under an id of its own",
    ),
}
"""What each means and asks for."""
