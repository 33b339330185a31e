"""What a realm does to every new user, which `partialImport` leaves out. Pure.

A user who is created one by one passes the realm's user profile and gets its default role, default groups and default
required actions. A user who is imported gets none of these and is not validated (seen with 26.7.4; docs/decisions/0035).
So the import is given what the realm would have added, and only users of whom we can tell that the profile takes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["NewUserRules"]

_PLAIN: Final = frozenset(
    {"username", "enabled", "emailVerified", "email", "firstName", "lastName", "credentials"}
)
"""Fields of a representation that an import takes as a create does. Any other goes one by one."""

_PROFILE: Final = ("username", "email", "firstName", "lastName")

# Stricter than Keycloak's own: what does not match is not refused, it goes one by one, and Keycloak decides.
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._@+-]*")
_EMAIL = re.compile(
    r"[a-z0-9](?:[a-z0-9_+-]|\.(?!\.|@)){0,62}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,18}"
)
_NAME = re.compile(r"[^\W\d_]+(?:[ .'-]{1,2}[^\W\d_]+)*\.?")

_KNOWN: Final[Mapping[str, re.Pattern[str] | None]] = {
    "length": None,
    "email": _EMAIL,
    "username-prohibited-characters": _USERNAME,
    "up-username-not-idn-homograph": _USERNAME,
    "person-name-prohibited-characters": _NAME,
}
"""Validators of the user profile that can be foreseen, with what passes them for sure."""


@dataclass(frozen=True, slots=True)
class NewUserRules:
    """One realm's rules for new users.

    Attributes:
        roles: names of the realm roles that every new user gets.
        groups: paths of the groups that every new user joins.
        required_actions: aliases of what every new user must do at the first login.
        profile: per profile field its configuration in the realm's user profile; None if imports cannot be foreseen at all.
    """

    roles: tuple[str, ...]
    groups: tuple[str, ...]
    required_actions: tuple[str, ...]
    profile: Mapping[str, Mapping[str, Any]] | None

    @classmethod
    def read(cls, realm: Any, profile: Any, actions: Any) -> NewUserRules | None:
        """Read Keycloak's answers to `GET /{realm}`, `…/users/profile` and `…/authentication/required-actions`.

        Returns:
            The rules; None if these are other answers than Keycloak gives.
        """
        match realm, profile, actions:
            case {"defaultRole": {"name": str(role)}}, {"attributes": list(fields)}, list():
                pass
            case _:
                return None
        # An extra attribute that must be there, or an e-mail address as username, is for a create to judge.
        known = {field.get("name"): field for field in fields}
        foreseen = not realm.get("registrationEmailAsUsername") and not any(
            _is_required(field) for name, field in known.items() if name not in _PROFILE
        )
        return cls(
            roles=(role,),
            groups=tuple(realm.get("defaultGroups") or ()),
            required_actions=tuple(
                action["alias"] for action in actions if action.get("enabled") and action.get("defaultAction")
            ),
            profile=known if foreseen else None,
        )

    def admits(self, user: Mapping[str, Any]) -> bool:
        """Whether a create of this representation would surely be accepted by the profile, so that it may be imported."""
        if self.profile is None or not user.keys() <= _PLAIN:
            return False
        if any("value" in each or each.get("temporary") for each in user.get("credentials", ())):
            # In clear, hashing is the work, and a password that a policy refuses would spoil the whole call. A temporary
            # hash asks for a required action, which a create adds and an import was never seen to.
            return False
        return all(self._passes(name, user.get(name)) for name in _PROFILE)

    def complete(self, user: Mapping[str, Any]) -> dict[str, Any]:
        """The representation with what a create would have added."""
        return {
            **user,
            "realmRoles": list(self.roles),
            "groups": list(self.groups),
            "requiredActions": list(self.required_actions),
        }

    def _passes(self, name: str, value: Any) -> bool:
        field = (self.profile or {}).get(name)
        if field is None:
            return value is None
        if value is None:
            return not _is_required(field)
        validations: Mapping[str, Any] = field.get("validations") or {}
        return (
            isinstance(value, str)
            and "admin" in field.get("permissions", {}).get("edit", ())
            and not field.get("selector")
            and validations.keys() <= _KNOWN.keys()
            and _fits(value, validations.get("length") or {})
            and all(pattern.fullmatch(value) for rule in validations if (pattern := _KNOWN[rule]) is not None)
        )


def _is_required(field: Mapping[str, Any]) -> bool:
    """Whether an administrator, too, must give this field."""
    match field.get("required"):
        case None:
            return False
        case {"roles": [*roles]}:
            return "admin" in roles
    return True


def _fits(value: str, length: Mapping[str, Any]) -> bool:
    try:
        least, most = int(length.get("min", 0)), int(length.get("max", 255))
    except (TypeError, ValueError):
        return False
    # Java counts UTF-16 units.
    return least <= len(value.encode("utf-16-le", "replace")) // 2 <= most
