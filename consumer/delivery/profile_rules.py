"""What a realm keeps of a user's attributes. Pure.

Keycloak drops attributes without a word (seen with 26.4 and 26.7): those that the realm's user profile does not declare,
unless its policy lets administrators write such; `locale` while internationalization is off, under every policy; its own
book-keeping; and on a create, not on an update, those that the profile lets only users edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ProfileRules", "is_keycloaks_own", "kept_values"]

_POLICIES: Final = frozenset({"ENABLED", "ADMIN_EDIT"})
"""Under which administrators write attributes that the profile does not declare."""
_LOCALE: Final = "locale"
_BOOK_KEEPING: Final = frozenset({"terms_and_conditions", "kc.email.pending"})

_OWN: Final = frozenset(
    {
        "terms_and_conditions",
        _LOCALE,
        "disabledReason",
        "KERBEROS_PRINCIPAL",
        "CREATED_TIMESTAMP",
        "createTimestamp",
        "modifyTimestamp",
    }
)
_OWN_PREFIXES: Final = ("saml.persistent.", "kc.", "LDAP_")


def is_keycloaks_own(name: str) -> bool:
    """Whether Keycloak keeps something of its own in this attribute: who replaces all attributes means theirs.

    Ids by which SAML partners know a user, accepted terms, the language chosen, a pending address, why somebody was locked
    out, and what binds a user to a directory.
    """
    return name in _OWN or name.startswith(_OWN_PREFIXES)


def kept_values(values: Iterable[str] | None) -> list[str]:
    """The values of an attribute as Keycloak keeps them: without blank ones, in no order, here sorted."""
    return sorted(value for value in values or () if value.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRules:
    """A realm's user profile, as far as it says which attributes are kept.

    Attributes:
        policy: Keycloak's word for what happens to undeclared attributes, or None.
        declared: Names of declared attributes, each with whether administrators may edit it.
    """

    policy: str | None
    declared: Mapping[str, bool]

    @classmethod
    def read(cls, profile: Any) -> ProfileRules | None:
        """Read Keycloak's answer to `GET …/users/profile`; None if this is another answer."""
        match profile:
            case {"attributes": list(fields)}:
                pass
            case _:
                return None
        policy = profile.get("unmanagedAttributePolicy")
        return cls(
            policy=None if policy is None else str(policy),
            declared={
                str(each.get("name")): "admin" in ((each.get("permissions") or {}).get("edit") or ())
                for each in fields
                if isinstance(each, dict)
            },
        )

    @property
    def not_editable(self) -> tuple[str, ...]:
        """Names of declared attributes that administrators may not edit."""
        return tuple(sorted(name for name, editable in self.declared.items() if not editable))

    def may_drop(self, attributes: Mapping[str, Iterable[str]]) -> dict[str, str]:
        """Of attributes that an event gives values, those that Keycloak may not keep, each with the reason."""
        found = {name: self._why(name) for name, values in attributes.items() if kept_values(values)}
        return {name: why for name, why in found.items() if why}

    def _why(self, name: str) -> str:
        if name in self.declared:
            return "" if self.declared[name] else "administrators may not edit it"
        if name in _BOOK_KEEPING:
            return "Keycloak keeps it for itself"
        if name == _LOCALE:
            return "internationalization is off"
        return "" if self.policy in _POLICIES else "the user profile does not declare it"
