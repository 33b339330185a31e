"""A lane's fold, in the terms of delivery. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from consumer.delivery.known_user import KnownUser
from consumer.drain.settle import DELETED_BY, FEDERATION
from consumer.outbox.drain_store import ReadyLane
from consumer.outbox.fold import ATTRIBUTE, EVERY_OTHER, EVERY_OTHER_ATTRIBUTE, GROUP, REALM_ROLE, Fold, Value

__all__ = ["known_user"]


def known_user(lane: ReadyLane, fold: Fold) -> KnownUser:
    """Say what Keycloak should hold of the lane's user."""
    data: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    groups: dict[str, list[str]] = {}
    realm_roles: dict[str, list[str]] = {}
    for name, known in fold.fields.items():
        if name in {EVERY_OTHER, DELETED_BY, FEDERATION}:
            continue
        if name == EVERY_OTHER_ATTRIBUTE:
            data["attributes_mode"] = "replace"
        elif name.startswith(ATTRIBUTE):
            attributes[name.removeprefix(ATTRIBUTE)] = known.value
        elif name.startswith(GROUP):
            groups.setdefault(_side(known), []).append(name.removeprefix(GROUP))
        elif name.startswith(REALM_ROLE):
            realm_roles.setdefault(_side(known), []).append(name.removeprefix(REALM_ROLE))
        else:
            data[name] = known.value
    several = {"attributes": attributes, "groups": groups, "realm_roles": realm_roles}
    data |= {name: values for name, values in several.items() if values}
    credential, federation = fold.credential, fold.fields.get(FEDERATION)
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
        delete_in_doubt=fold.doubt is not None and fold.doubt.deletes,
        federation=None if federation is None else federation.value,
    )


def _side(membership: Value) -> str:
    return "add" if membership.value else "remove"
