"""Which due entries of a lane share one call, and what that call says. Pure.

A create takes in the updates and password changes behind it, an update the updates, a password change the password
changes: the later one wins per field, the last password wins. Everything else is a barrier, a delete above all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from consumer.delivery.representation import split_name
from consumer.drain.settle import data_of
from consumer.outbox.drain_store import Head
from consumer.outbox.rows import EntryState

__all__ = ["Merged", "group_of", "merged"]

_TAKES_IN: Final[Mapping[str, frozenset[str]]] = {
    "user_create": frozenset({"user_update", "password_change"}),
    "user_update": frozenset({"user_update"}),
    "password_change": frozenset({"password_change"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What one call applies for a group.

    Attributes:
        kind: the kind of the first entry.
        data: what the members say together.
        credential: the last password, sealed, or None.
        credential_event_id: the event it is bound to.
    """

    kind: str
    data: Mapping[str, Any] = field(repr=False)
    credential: bytes | None = field(repr=False)
    credential_event_id: str


def group_of(head: Head, *, limit: int) -> tuple[Head, ...]:
    """The head and the followers that share its call, at most `limit` entries.

    An entry in doubt is repeated as it was called: alone, or with those that were called with it.
    """
    takes_in = _TAKES_IN.get(head.kind, frozenset())
    members = [head]
    for follower in head.followers[: limit - 1]:
        if (
            follower.kind not in takes_in
            or follower.state is not EntryState.PENDING
            or follower.due_in > 0
            or (follower.maybe_applied_since, follower.claimed_at)
            != (head.maybe_applied_since, head.claimed_at)
        ):
            break
        members.append(follower)
    return tuple(members)


def merged(group: Sequence[Head]) -> Merged:
    """Say in one change what the group's entries say one after the other."""
    head = group[0]
    if head.kind not in _TAKES_IN:
        # Always alone; what the data of a custom kind means is its handler's to know.
        return Merged(
            kind=head.kind,
            data=head.data,
            credential=head.credential,
            credential_event_id=head.event_id,
        )
    data: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    password = None
    for member in group:
        of_member = dict(data_of(member))
        attributes.update(of_member.pop("attributes", None) or {})
        if member.credential is not None:
            password = member
            data["temporary"] = of_member.pop("temporary", False)
        if len(group) > 1 and "name" in of_member:
            # A name is both names: an earlier or later first name must meet it on the same ground.
            of_member["first_name"], of_member["last_name"] = split_name(of_member.pop("name"))
        data.update(of_member)
    if attributes:
        data["attributes"] = attributes
    return Merged(
        kind=group[0].kind,
        data=data,
        credential=None if password is None else password.credential,
        credential_event_id=group[0].event_id if password is None else password.event_id,
    )
