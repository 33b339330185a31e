"""The doubt of a lane: what calls whose answers were lost may still leave in Keycloak. Pure.

A request whose caller has given up may take effect later. What it would leave is known: the event's values, and, where a
write carries more than its event names, the values that were known when it began. A heal undoes these and nothing else
(docs/decisions/0043), so they are kept with the lane from the first such call until the last look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

import orjson

from consumer.frozen import quick_dataclass

__all__ = ["Doubt", "PasswordCall", "joined"]


@quick_dataclass(frozen=True, slots=True)
class PasswordCall:
    """A call that carried a password, and may set it until the server limit after its end has passed.

    Attributes:
        event_id: the event whose password it was.
        began: not before this moment, by the database's clock.
        ended: when its caller gave it up, by the same clock.
    """

    event_id: str
    began: datetime
    ended: datetime


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What may still happen to a user.

    Attributes:
        fields: per field of the fold, the values that calls in doubt may leave.
        passwords: calls in doubt that carried a password.
        deletes: a call in doubt deletes the user.
        asked: fields that an operator wants equal to the fold, whoever changed them; `exists` among them stands for the
            user's being there.
        accepted: fields that an operator leaves as others have changed them: they are not looked at any more.
    """

    fields: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, repr=False)
    passwords: tuple[PasswordCall, ...] = ()
    deletes: bool = False
    asked: frozenset[str] = frozenset()
    accepted: frozenset[str] = frozenset()

    def join(self, other: Doubt) -> Doubt:
        """What both may leave."""
        fields = {**self.fields}
        for name, values in other.fields.items():
            known = fields.get(name, ())
            fields[name] = (*known, *(value for value in values if value not in known))
        return Doubt(
            fields=fields,
            passwords=(*self.passwords, *(call for call in other.passwords if call not in self.passwords)),
            deletes=self.deletes or other.deletes,
            asked=self.asked | other.asked,
            accepted=self.accepted | other.accepted,
        )

    def dump(self) -> bytes:
        """The doubt as JSON."""
        return orjson.dumps(
            {
                "fields": {name: list(values) for name, values in self.fields.items()},
                "passwords": [
                    [call.event_id, call.began.isoformat(), call.ended.isoformat()] for call in self.passwords
                ],
                "deletes": self.deletes,
                "asked": sorted(self.asked),
                "accepted": sorted(self.accepted),
            }
        )

    @staticmethod
    def load(dumped: bytes | str) -> Doubt:
        """The inverse of `dump`."""
        document = orjson.loads(dumped)
        return Doubt(
            fields={name: tuple(values) for name, values in document["fields"].items()},
            passwords=tuple(
                PasswordCall(event, datetime.fromisoformat(began), datetime.fromisoformat(ended))
                for event, began, ended in document["passwords"]
            ),
            deletes=document["deletes"],
            asked=frozenset(document["asked"]),
            accepted=frozenset(document["accepted"]),
        )


def joined(doubts: Iterable[Doubt]) -> Doubt:
    """What all of them may leave."""
    whole = Doubt()
    for each in doubts:
        whole = whole.join(each)
    return whole
