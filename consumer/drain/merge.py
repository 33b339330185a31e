"""Which due entries of a lane share one call, and what that call says. Pure.

A create takes in the updates and password changes behind it, an update the updates, a password change the password
changes: the later one wins per field, attribute, group and role, the last password wins, and sessions are ended if one of
them says so. Everything else is a barrier, a delete above all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from consumer.delivery.representation import split_name
from consumer.drain.settle import data_of
from consumer.frozen import quick_dataclass
from consumer.outbox.drain_store import Head
from consumer.outbox.rows import EntryState

__all__ = ["Merged", "group_of", "merged"]

_TAKES_IN: Final[Mapping[str, frozenset[str]]] = {
    "user_create": frozenset({"user_update", "password_change"}),
    "user_update": frozenset({"user_update"}),
    "password_change": frozenset({"password_change"}),
}


@quick_dataclass(frozen=True, slots=True, kw_only=True)
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
    password = next((member for member in reversed(group) if member.credential is not None), None)
    return Merged(
        kind=head.kind,
        data=_said(head) if len(group) == 1 else _said_together(group),
        credential=None if password is None else password.credential,
        credential_event_id=head.event_id if password is None else password.event_id,
    )


def _said(member: Head) -> dict[str, Any]:
    data = dict(data_of(member))
    if member.credential is not None:
        # A password says whether it is temporary, also by not saying so.
        data.setdefault("temporary", False)
    return data


def _said_together(group: Sequence[Head]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    memberships: dict[str, dict[str, str]] = {"groups": {}, "realm_roles": {}}
    end_sessions = False
    for member in group:
        said = _said(member)
        if said.pop("attributes_mode", None) == "replace":
            attributes = {}
            data["attributes_mode"] = "replace"
        attributes |= said.pop("attributes", {})
        for of_kind, sides in memberships.items():
            for side, names in said.pop(of_kind, {}).items():
                sides.update(dict.fromkeys(names, side))
        end_sessions |= said.pop("end_sessions", False)
        if "name" in said:
            # A name is both names: an earlier or later first name must meet it on the same ground.
            said["first_name"], said["last_name"] = split_name(said.pop("name"))
        data |= said
    if attributes or "attributes_mode" in data:
        data["attributes"] = attributes
    for of_kind, sides in memberships.items():
        for name, side in sides.items():
            data.setdefault(of_kind, {}).setdefault(side, []).append(name)
    if end_sessions:
        data["end_sessions"] = True
    return data
