"""What is to be changed: one event, as the drain hands it over."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

from consumer.frozen import quick_dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from consumer.delivery.known_user import KnownUser


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change to one user.

    Its repr shows neither the user nor what is written: the event id is the handle in logs and traces.

    Attributes:
        event_id: The event's id.
        kind: `user_create`, `user_update`, `password_change`, `user_delete`, or one that another package brings.
        realm: The realm the user lives in.
        username: The username as the event wrote it.
        username_key: The username as Keycloak stores it.
        data: The event's data, checked against its schema, without the password, and `written_out`
            (consumer.delivery.representation).
        credential: The sealed password `{kid, alg, ciphertext}`, or None.
        credential_event_id: The event that password is bound to: another one's after a merge.
        known: Tells how our own deliveries left the user, if they say that the user exists, else None. Asked where it
            is needed, which is rare.
        user_id: Keycloak's id of the user if the lane's fold knows it. It may be stale.
        maybe_applied_since: When an earlier call of this entry may have taken effect without our knowing (UTC, our
            clock), else None.
        last_reason: Why the last call of this entry came to nothing, as a reason code, or None.
    """

    event_id: str
    kind: str
    realm: str
    username: str = field(repr=False)
    username_key: str = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    credential: Mapping[str, Any] | None = field(repr=False)
    credential_event_id: str
    known: Callable[[], KnownUser] | None = field(repr=False)
    user_id: str | None
    maybe_applied_since: datetime | None
    last_reason: str | None = field(default=None, repr=False)
