"""What `cleanup` says: how much of what went, or would go, and after how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from consumer.outbox.purge import Purged
from consumer.setting_values import LAST_PASSWORD, NEVER, NO_PASSWORDS
from consumer.settings import Settings

__all__ = ["cleanup_lines"]

_RETENTION = {
    Purged.DELIVERED: "delivered_retention",
    Purged.SUPERSEDED: "delivered_retention",
    Purged.DEAD_LETTER: "dead_letter_retention",
}


def cleanup_lines(removed: Mapping[Purged, int], settings: Settings, *, dry_run: bool) -> Iterator[str]:
    """One line for each thing that can be removed."""
    verb = "Would remove" if dry_run else "Removed"
    for what, setting in _RETENTION.items():
        usual = settings.masked()[setting]
        own = {
            each.kind: value
            for each in settings.kind_overrides
            if (value := settings.of_kind(each.kind).masked()[setting]) != usual
        }
        if usual == NEVER and not own:
            yield f"Kept all {what} (retention: never)"
            continue
        ages = [_age(usual), *(f"{kind} {_age(value)}" for kind, value in own.items())]
        yield f"{verb} {removed[what]} {what} ({', '.join(ages)})"
    poison = settings.masked()["dead_letter_retention"]
    if poison == NEVER:
        yield f"Kept all {Purged.POISON} (retention: never)"
    else:
        yield f"{verb} {removed[Purged.POISON]} {Purged.POISON} (>{poison})"
    remembered = settings.masked()["ledger_retention"]
    for what in (Purged.EVENT, Purged.MARK):
        if remembered == NEVER:
            yield f"Kept all {what} (retention: never)"
        else:
            yield f"{verb} {removed[what]} {what} (>{remembered}, and no longer in Kafka)"
    passwords = settings.masked()["credential_retention"]
    if passwords == LAST_PASSWORD:
        yield f"Kept all {Purged.PASSWORD} (retention: {passwords})"
    else:
        yield f"{verb} {removed[Purged.PASSWORD]} {Purged.PASSWORD} ({'none is kept' if passwords == NO_PASSWORDS else _age(passwords)})"
    yield f"{verb} {removed[Purged.INSTANCE]} {Purged.INSTANCE} (>24h)"


def _age(value: str) -> str:
    return value if value == NEVER else f">{value}"
