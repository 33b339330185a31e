"""A lane's fold, in the terms of delivery. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from consumer.delivery.known_user import KnownUser
from consumer.drain.settle import DELETED_BY
from consumer.outbox.drain_store import ReadyLane
from consumer.outbox.fold import ATTRIBUTE, EVERY_OTHER, Fold

__all__ = ["known_user"]


def known_user(lane: ReadyLane, fold: Fold) -> KnownUser:
    """Say what Keycloak should hold of the lane's user."""
    data: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for name, known in fold.fields.items():
        if name in {EVERY_OTHER, DELETED_BY}:
            continue
        if name.startswith(ATTRIBUTE):
            attributes[name.removeprefix(ATTRIBUTE)] = known.value
        else:
            data[name] = known.value
    if attributes:
        data["attributes"] = attributes
    credential = fold.credential
    return KnownUser(
        realm=lane.realm,
        username_key=lane.username_key,
        exists=fold.exists,
        data=data,
        credential=None
        if credential is None or credential.sealed is None
        else orjson.loads(credential.sealed),
        credential_event_id="" if credential is None else credential.event_id,
        user_id=fold.user_id,
    )
