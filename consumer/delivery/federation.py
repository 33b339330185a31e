"""Users who come from a directory: what can be believed of them, and when. Pure.

A user federation lets a realm have the users of a directory (LDAP). Whom Keycloak imports has a `federationLink` and an id
of Keycloak's own; whom it does not import has an id `f:<federation>:<name>`, in the directory's own spelling. While the
directory is away, or its federation disabled, Keycloak goes on answering, and not all it says is so (seen with 26.7.4,
docs/reference/user-federations.md).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from consumer.delivery.errors import CallFailed
from consumer.delivery.outcome import Blame, Defer, Failure, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOT_IMPORTED = "f:"
_SAID_OF_A_PROVIDER = (
    (re.compile(r"The user storage provider '([^']+)' is disabled"), Reason.FEDERATION_DISABLED),
    (re.compile(r"The user storage provider '([^']+)'"), Reason.DIRECTORY_UNAVAILABLE),
    (re.compile(r"Failed to fetch results from the LDAP \[([^\]]+)\]"), Reason.DIRECTORY_UNAVAILABLE),
)


def federation_of(user: Mapping[str, Any]) -> str | None:
    """The id of the federation a user comes from, by their representation; None for a user of Keycloak's own."""
    link, user_id = user.get("federationLink"), user.get("id")
    if isinstance(link, str) and link:
        return link
    return federation_in(user_id) if isinstance(user_id, str) else None


def federation_in(user_id: str) -> str | None:
    """The id of the federation in the id of a user whom Keycloak does not import; None for any other id."""
    if not user_id.startswith(_NOT_IMPORTED):
        return None
    return user_id.removeprefix(_NOT_IMPORTED).partition(":")[0] or None


def may_be_shown_by_outage(user: Mapping[str, Any]) -> bool:
    """Whether what a user's representation shows may be an outage and no fact.

    A federated user is shown as disabled while the directory is away or the federation disabled, and in the second case
    without attributes. So `enabled: false` and missing attributes of such a user say nothing, until the user's credentials
    can be read; the other fields are as they are. A federated user who is shown as enabled is seen as they are.
    """
    return federation_of(user) is not None and user.get("enabled") is not True


def ids_of(found: Sequence[Any], username_key: str) -> list[str]:
    """The ids of the users of one name among those that an exact search gave.

    Keycloak's own users, and those it imports, have their name in lower case; one whom it does not import is shown as the
    directory spells the name.
    """
    return [
        user["id"]
        for user in found
        if isinstance(user, dict) and isinstance(user.get("id"), str)
        if isinstance(name := user.get("username"), str) and name.lower() == username_key
    ]


def one_of(ids: Sequence[str]) -> str | None:
    """The one id among these, or None if there is none.

    Raises:
        CallFailed: There are several: a federation that does not import its users has one, and somebody made a second one
            in Keycloak. Which of them is meant, nobody can tell.
    """
    if len(ids) > 1:
        detail = (
            "two users have this name, one in Keycloak and one in a directory: remove the one in Keycloak"
        )
        raise CallFailed(
            Defer(reason=Reason.TWO_USERS, failure=Failure(blame=Blame.FEDERATION, detail=detail))
        )
    return ids[0] if ids else None


def passwords_kept(credentials: Sequence[Any]) -> frozenset[tuple[str, int]]:
    """The passwords that Keycloak itself keeps among a user's credentials: id, and when each was set (ms since 1970)."""
    return frozenset(
        (each["id"], each["createdDate"])
        for each in credentials
        if isinstance(each, dict) and each.get("type") == "password" and not each.get("federationLink")
        if isinstance(each.get("id"), str) and isinstance(each.get("createdDate"), int)
    )


def said_of_a_provider(text: str) -> tuple[str, Reason] | None:
    """Which federation one of Keycloak's own texts names, and what is the matter with it; None for any other text."""
    for pattern, reason in _SAID_OF_A_PROVIDER:
        if (named := pattern.search(text)) is not None:
            return named[1], reason
    return None


def described(component: Any) -> str | None:
    """A user federation in a few words, by its component: name, edit mode, and what else matters; None if it is none."""
    match component:
        case {"name": str(name), "config": dict(config)}:
            pass
        case _:
            return None

    def has(setting: str, value: str) -> bool:
        return config.get(setting) == [value]

    words = [str(mode) for mode in config.get("editMode") or ()]
    words += ["does not import"] if has("importEnabled", "false") else []
    words += ["disabled"] if has("enabled", "false") else []
    return f"{name} ({', '.join(words)})" if words else name
