"""What a call of the drain may leave in Keycloak if its answer is lost, and what a heal is told of that. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from consumer.delivery.late_effects import LateEffects, LateField, LatePassword
from consumer.delivery.representation import needs_merge, written_out
from consumer.drain.merge import merged
from consumer.drain.settle import DELETED_BY, carried_fields
from consumer.outbox.doubt import Doubt, PasswordCall
from consumer.outbox.drain_store import Head
from consumer.outbox.fold import (
    ATTRIBUTE,
    EVERY_OTHER,
    EVERY_OTHER_ATTRIBUTE,
    GROUP,
    REALM_ROLE,
    Fold,
    Value,
)
from producer_lib import kinds

__all__ = ["doubt_of", "late_effects", "of_restoring"]

_MERGED: Final = frozenset({"email", "first_name", "last_name"})
"""Fields that a write of attributes carries as they were just read (consumer.delivery.representation)."""


def doubt_of(group: Sequence[Head], *, began: datetime, ended: datetime, restoring: bool = False) -> Doubt:
    """What the call of an entry, or of a merge group, may leave.

    What a custom kind writes is its handler's to know: that is told when it has written it (`consumer.drain.settle`).

    Args:
        group: The entries of the call, with the fold as it was when the call began.
        began: When it cannot have begun yet, by the database's clock.
        ended: When its caller had given it up, by the same clock.
        restoring: A user whom Keycloak had lost was about to be made again.
    """
    doubt = _of_call(group, began=began, ended=ended)
    return doubt.join(of_restoring(group[0].fold, began=began, ended=ended)) if restoring else doubt


def of_restoring(fold: Fold, *, began: datetime, ended: datetime) -> Doubt:
    """What is left if a user is made again and the rest is never done: no memberships, and the password of that moment."""
    memberships = {
        name: (False,)
        for name, known in fold.fields.items()
        if name.startswith((GROUP, REALM_ROLE)) and known.value
    }
    passwords: tuple[PasswordCall, ...] = ()
    if fold.credential is not None:
        passwords = (PasswordCall(fold.credential.event_id, began, ended),)
    return Doubt(fields=memberships, passwords=passwords)


def _of_call(group: Sequence[Head], *, began: datetime, ended: datetime) -> Doubt:
    head = group[0]
    if head.kind not in kinds():
        return Doubt(fields=_carried(head.fold, {}))
    if head.kind == "user_delete":
        # Which of the two a delete without a mode means, delivery knows.
        mode = head.data.get("mode")
        return Doubt(fields={} if mode == "delete" else {"enabled": (False,)}, deletes=mode != "disable")
    what = merged(group)
    data = written_out(what.data)
    fields = carried_fields(data)
    if needs_merge(data):
        for name, values in _carried(head.fold, fields).items():
            fields.setdefault(name, values)
    passwords: tuple[PasswordCall, ...] = ()
    if what.credential is not None:
        passwords = (PasswordCall(what.credential_event_id, began, ended),)
    return Doubt(fields=fields, passwords=passwords)


def _carried(fold: Fold, written: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What a write of attributes leaves beside what it names: the user as just read, which is as the fold had it.

    What the fold did not know of then, Keycloak had not either, as far as it is ours: such a write takes it away.
    """
    carried: dict[str, tuple[Any, ...]] = dict.fromkeys(_MERGED, ("",))
    names = {name for name in (*fold.fields, *written) if name.startswith(ATTRIBUTE)}
    carried[EVERY_OTHER_ATTRIBUTE] = (sorted(name.removeprefix(ATTRIBUTE) for name in names),)
    return carried | {
        name: (known.value,)
        for name, known in fold.fields.items()
        if name in _MERGED or name.startswith(ATTRIBUTE)
    }


def late_effects(fold: Fold, *, server_limit: float, ahead: timedelta, only_looks: bool) -> LateEffects:
    """What a heal looks for, in the terms of delivery.

    Args:
        fold: The lane's fold, with its doubt.
        server_limit: Seconds after which a request can have no effect any more.
        ahead: How far this process's clock is ahead of the database's.
        only_looks: The doubt was healed before; this is one of the looks after it.
    """
    doubt = fold.doubt or Doubt()
    limit = timedelta(seconds=server_limit)

    def ours(theirs: datetime) -> datetime:
        return theirs.replace(tzinfo=UTC) + ahead

    return LateEffects(
        fields=tuple(_fields(fold, doubt)),
        passwords=tuple(
            LatePassword(call.event_id, ours(call.began), ours(call.ended + limit))
            for call in doubt.passwords
            # The last password itself, set once more, is no other than the last.
            if fold.credential is None or call.event_id != fold.credential.event_id
        ),
        deletes=doubt.deletes,
        asked=doubt.asked,
        password_date=None if fold.credential_date is None else fold.credential_date.replace(tzinfo=UTC),
        only_looks=only_looks,
    )


def _fields(fold: Fold, doubt: Doubt) -> Iterator[LateField]:
    replaced: tuple[Any, ...] = doubt.fields.get(EVERY_OTHER_ATTRIBUTE, ())
    names = {*doubt.fields, *(name for name in doubt.asked if name in fold.fields)}
    if replaced:
        names |= {name for name in fold.fields if name.startswith(ATTRIBUTE)}
    for name in sorted(names - {EVERY_OTHER, EVERY_OTHER_ATTRIBUTE, DELETED_BY}):
        late = doubt.fields.get(name, ())
        if name.startswith(ATTRIBUTE) and any(name.removeprefix(ATTRIBUTE) not in kept for kept in replaced):
            late = (*late, [])
        known = _known(fold, name)
        yield LateField(
            name=name,
            part=_part(name),
            key=name.removeprefix(ATTRIBUTE).removeprefix(GROUP).removeprefix(REALM_ROLE),
            late=late,
            is_known=known is not None,
            wanted=None if known is None else known.value,
            asked=name in doubt.asked,
        )


def _known(fold: Fold, name: str) -> Value | None:
    """What was delivered of a field; a replacement of all attributes says of each other one that it is gone."""
    known = fold.fields.get(name)
    if known is None and name.startswith(ATTRIBUTE):
        replaced = fold.fields.get(EVERY_OTHER_ATTRIBUTE)
        return None if replaced is None else Value([], replaced.position)
    return known


def _part(name: str) -> Any:
    if name.startswith(ATTRIBUTE):
        return "attribute"
    if name.startswith(GROUP):
        return "group"
    return "realm_role" if name.startswith(REALM_ROLE) else "field"
