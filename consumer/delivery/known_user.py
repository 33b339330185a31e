"""A user as our own deliveries left them: what a lane's fold says, in the terms of an event's data."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any

from consumer.frozen import quick_dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class KnownUser:
    """What Keycloak should hold of a user. Its repr shows neither the user nor what is known of them.

    Attributes:
        realm: The realm the user lives in.
        username_key: The username as Keycloak stores it.
        exists: Whether there should be such a user; None where nothing is known.
        data: The fields that were applied, named as in an event's data, attributes under `attributes`.
        credential: The last password, sealed `{kid, alg, ciphertext}`, or None if there is none or it was not kept.
        credential_event_id: The event it is bound to.
        user_id: Keycloak's id of the user if it is known. It may be stale.
        delete_in_doubt: Whether a delete of ours may take effect late: then it is not somebody else who has deleted a
            user who is missing.
        federation: The id of the user federation they were seen to come from, or None.
    """

    realm: str
    username_key: str = field(repr=False)
    exists: bool | None
    data: Mapping[str, Any] = field(repr=False)
    credential: Mapping[str, Any] | None = field(repr=False)
    credential_event_id: str
    user_id: str | None
    delete_in_doubt: bool = False
    federation: str | None = None
