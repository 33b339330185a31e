"""The fold: a lane's durable sum of what Keycloak accepted.

Per field the value and the position that set it, whether the user exists (yes, no, or unknown), the last credential,
and Keycloak's id. It is kept from the first delivery on; replay, repair and healing are all built on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field, replace
from datetime import datetime
from typing import Any, Final

import orjson

from consumer.frozen import quick_dataclass
from consumer.outbox.doubt import Doubt
from consumer.outbox.rows import Position

__all__ = [
    "ATTRIBUTE",
    "EVERY_OTHER",
    "EVERY_OTHER_ATTRIBUTE",
    "EXISTS",
    "GROUP",
    "PASSWORD",
    "REALM_ROLE",
    "Applied",
    "Credential",
    "Fold",
    "Value",
    "fields_of",
]

EVERY_OTHER = "*"
"""Stands in `Fold.fields` for every field that is not named there: set by a delete, and never by anything else."""

ATTRIBUTE: Final = "attributes."
"""Begins the name of a field that is one attribute."""

EVERY_OTHER_ATTRIBUTE: Final = "attributes"
"""Stands in `Fold.fields` for every attribute that is not named there: set by an event that replaces all attributes."""

GROUP: Final = "groups."
"""Begins the name of a field that is one group, by its path: true for a member, false for one who left."""

REALM_ROLE: Final = "realm_roles."
"""Begins the name of a field that is one realm role: true for a holder, false for one who lost it."""

EXISTS: Final = "exists"
"""In a doubt or a drift: the user's being there."""

PASSWORD: Final = "password"  # noqa: S105 - a name.
"""In a doubt or a drift: the user's password."""

_NOT_PLAIN: Final = frozenset(
    {"attributes", "attributes_mode", "groups", "realm_roles", "end_sessions", "mode", "reason"}
)
"""What of an event's data is no field of the user, or several."""

_EMAIL: Final = frozenset({"email", "email_verified"})


@quick_dataclass(frozen=True, slots=True)
class Value:
    """A field's last value, and the position that set it."""

    value: Any
    position: Position | None


@quick_dataclass(frozen=True, slots=True)
class Credential:
    """The last password that was applied, and the event it is bound to.

    Attributes:
        sealed: still sealed; None once it is not kept any more.
        event_id: the event.
        position: the event's.
        delivered_at: when, by the database's clock; None once it is not kept.
    """

    sealed: bytes | None = field(repr=False)
    event_id: str
    position: Position | None
    delivered_at: datetime | None = None


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What one accepted event sets, and what Keycloak said of it: the user's id, and its own date of the password."""

    position: Position | None
    exists: bool
    fields: Mapping[str, Any] = field(default_factory=dict)
    credential: Credential | None = None
    user_id: str | None = None
    credential_date: datetime | None = None


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """The sum of a lane.

    Attributes:
        exists: whether the user exists; None while nothing is known.
        exists_position: the position that said so.
        fields: per field the last value.
        user_id: Keycloak's id of the user, or None.
        credential: the last password.
        credential_date: Keycloak's own date of it, by Keycloak's clock.
        suspect_since: when the last call ended whose effect is unknown; None where nothing is in doubt.
        suspect_kind: why it is unknown.
        held_by_entry: the dead letter that holds the lane.
        held_reason: why that entry died.
        heal_refused: why Keycloak refused the last heal, until what it refused is delivered anew or a heal succeeds.
        doubt: what calls in doubt may still leave; kept after the heal for as long as looks are due.
        looks: how many looks were made since the heal.
        look_at: when the next one is due, by the database's clock; None: there is none.
        drift: per field what was found in Keycloak that no delivery of ours has left there.
        drift_at: when that was found, by the database's clock.
    """

    exists: bool | None = None
    exists_position: Position | None = None
    fields: Mapping[str, Value] = field(default_factory=dict)
    user_id: str | None = None
    credential: Credential | None = None
    credential_date: datetime | None = None
    suspect_since: datetime | None = None
    suspect_kind: str | None = None
    held_by_entry: int | None = None
    held_reason: str | None = None
    heal_refused: str | None = None
    doubt: Doubt | None = None
    looks: int = 0
    look_at: datetime | None = None
    drift: Mapping[str, str] = field(default_factory=dict)
    drift_at: datetime | None = None

    def join(self, applied: Applied) -> Fold:
        """Take in one accepted event: per field the later position wins.

        A delete writes every field, also those that nobody has named yet: they are gone, and stay gone for any event
        before it, even when the user has been created again; an event that replaces all attributes does so with every
        attribute. Positions of two partitions do not compare; then the
        event that is joined later is the later one, because a lane delivers in the order in which its events arrived.

        What was written anew has drifted no longer, and a dead letter holds the lane no longer. Of a user who is gone
        nothing can be left any more: requests name the user by Keycloak's id.
        """
        position = applied.position
        fields = dict(self.fields)
        floor = fields[EVERY_OTHER].position if EVERY_OTHER in fields else None
        if not applied.exists:
            fields = {name: known for name, known in fields.items() if not _later(position, known.position)}
            fields.setdefault(EVERY_OTHER, Value(None, position))
        if EVERY_OTHER_ATTRIBUTE in applied.fields and _later(position, _floor(fields, ATTRIBUTE)):
            fields = {
                name: known
                for name, known in fields.items()
                if not (name.startswith(ATTRIBUTE) and _later(position, known.position))
            }
            fields[EVERY_OTHER_ATTRIBUTE] = Value(None, position)
        for name, value in applied.fields.items():
            if name != EVERY_OTHER_ATTRIBUTE and _later(
                position, fields[name].position if name in fields else _floor(fields, name)
            ):
                fields[name] = Value(value, position)
        exists, exists_position, user_id = self.exists, self.exists_position, self.user_id
        if _later(position, exists_position):
            exists, exists_position = applied.exists, position
            user_id = applied.user_id or user_id if applied.exists else None
        credential, credential_date = self.credential, self.credential_date
        if applied.credential is not None or not applied.exists:
            before = credential.position if credential else floor
            if _later(position, before):
                # Keycloak's date of the old one says nothing about the new one.
                credential, credential_date = applied.credential, None
        after = replace(
            self,
            exists=exists,
            exists_position=exists_position,
            fields=fields,
            user_id=user_id,
            credential=credential,
            credential_date=applied.credential_date or credential_date,
            held_by_entry=None,
            held_reason=None,
            doubt=self.doubt if self.doubt is None or applied.exists else Doubt(deletes=self.doubt.deletes),
        )
        return _without_ended_drift(self, after) if self.drift else after

    def doubting(self, doubt: Doubt | None) -> Fold:
        """The same, with one more doubt."""
        if doubt is None:
            return self
        return replace(self, doubt=doubt if self.doubt is None else self.doubt.join(doubt))

    def accepting(self, names: Collection[str]) -> Fold:
        """The same, with these fields left as others have changed them: no drift, and nothing to be undone in them."""
        if not names:
            return self
        doubt = self.doubt and replace(
            self.doubt,
            fields={name: late for name, late in self.doubt.fields.items() if name not in names},
            passwords=() if PASSWORD in names else self.doubt.passwords,
        )
        drift = {name: found for name, found in self.drift.items() if name not in names}
        return replace(self, doubt=doubt, drift=drift, drift_at=self.drift_at if drift else None)

    def without_password(self) -> Fold:
        """The same, with the password itself forgotten. Which event set it stays known: an older one must not win."""
        if self.credential is None or self.credential.sealed is None:
            return self
        return replace(self, credential=replace(self.credential, sealed=None, delivered_at=None))

    def without_email(self) -> Fold:
        """The same, with the e-mail address not known, nor whether it is verified."""
        return replace(
            self, fields={name: known for name, known in self.fields.items() if name not in _EMAIL}
        )

    def dump_fields(self) -> bytes:
        """The fields as JSON: {name: [value, topic_id, partition, offset]}."""
        return orjson.dumps(
            {
                name: [
                    known.value,
                    *((p.topic_id, p.partition, p.offset) if (p := known.position) else (None,) * 3),
                ]
                for name, known in self.fields.items()
            }
        )

    @staticmethod
    def load_fields(dumped: bytes | str) -> dict[str, Value]:
        """The inverse of `dump_fields`."""
        return {
            name: Value(value, None if topic_id is None else Position(topic_id, partition, offset))
            for name, (value, topic_id, partition, offset) in orjson.loads(dumped).items()
        }


def fields_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event's data, one a fold field: each attribute, group and role stands for itself."""
    fields = {name: value for name, value in data.items() if name not in _NOT_PLAIN}
    if data.get("attributes_mode") == "replace":
        fields[EVERY_OTHER_ATTRIBUTE] = None
    for name, values in (data.get("attributes") or {}).items():
        fields[ATTRIBUTE + name] = values
    for prefix, memberships in ((GROUP, data.get("groups")), (REALM_ROLE, data.get("realm_roles"))):
        if memberships:
            for side, has in (("add", True), ("remove", False)):
                fields |= dict.fromkeys([prefix + name for name in memberships.get(side, ())], has)
    return fields


def _floor(fields: Mapping[str, Value], name: str) -> Position | None:
    """The position of what wrote a field that is not named: all attributes, or all fields."""
    # Both may stand there only if all attributes were replaced after the delete.
    if name.startswith(ATTRIBUTE) and EVERY_OTHER_ATTRIBUTE in fields:
        return fields[EVERY_OTHER_ATTRIBUTE].position
    return fields[EVERY_OTHER].position if EVERY_OTHER in fields else None


def _later(position: Position | None, other: Position | None) -> bool:
    if position is None or other is None:
        return True
    if (position.topic_id, position.partition) != (other.topic_id, other.partition):
        return True
    return position.offset >= other.offset


def _without_ended_drift(before: Fold, after: Fold) -> Fold:
    """The fold without the drift of what has just been written anew."""
    written = {name for name, known in after.fields.items() if known is not before.fields.get(name)}
    if after.exists_position != before.exists_position:
        written.add(EXISTS)
    if after.credential is not before.credential:
        written.add(PASSWORD)
    left = {
        name: found
        for name, found in before.drift.items()
        if name not in written and (after.exists is not False or name == EXISTS)
    }
    return replace(after, drift=left, drift_at=before.drift_at if left else None)
