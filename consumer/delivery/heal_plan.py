"""What of a user is a late effect of ours, and what is somebody else's later change? Pure.

A field that holds what a call in doubt may have left, and not what was delivered since, is our own late effect: it gets
what was delivered. A field that holds anything else is somebody's later change: it stays, and is told. Attributes, groups,
roles and required actions count one by one (docs/decisions/0043).

A flag cannot tell who set it. So an account that is barred is never opened again here: whether it was our late request or
an administrator cannot be known, and only one of the two mistakes lets somebody in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from consumer.delivery.profile_rules import kept_values
from consumer.delivery.representation import UPDATE_PASSWORD, named_fields

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from consumer.delivery.late_effects import LateEffects, LateField

__all__ = ["Drift", "HealPlan", "plan_heal"]


class Drift(StrEnum):
    """How a user differs from what was delivered, by other hands as far as is known. The values are stored and shown."""

    CHANGED = "changed"
    """It holds another value than the one that was delivered, and none that a call in doubt could leave."""
    BARRED = "barred"
    """The account is disabled; what was delivered last says enabled."""
    UNKNOWN = "unknown"
    """A late call of ours may have set it; what stood there before is not known to us."""
    THERE = "there"
    """The user is there; what was delivered last says deleted."""
    GONE = "gone"
    """The user is missing; what was delivered last says that they exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealPlan:
    """What a heal writes, and what it leaves.

    Attributes:
        data: What is written, as the data of a `user_update` says it.
        drift: Per name, what was found and is left.
    """

    data: Mapping[str, Any] = field(repr=False)
    drift: Mapping[str, Drift]


def plan_heal(
    user: Mapping[str, Any], late: LateEffects, *, groups: Collection[str], realm_roles: Collection[str]
) -> HealPlan:
    """Decide field by field.

    Args:
        user: The user's whole representation, as Keycloak has it now.
        late: What calls in doubt may have left, and what was delivered.
        groups: Paths of the user's groups.
        realm_roles: Names of the user's own realm roles.
    """
    plan = _Plan(user=user)
    for each in late.fields:
        match each.part:
            case "field" if each.key in {"required_actions", "temporary"}:
                pass
            case "field":
                plan.decide_field(each)
            case "attribute":
                plan.decide_attribute(each)
            case "group":
                plan.decide_membership("groups", each, member=each.key in groups)
            case "realm_role":
                plan.decide_membership("realm_roles", each, member=each.key in realm_roles)
    plan.decide_actions(
        [each for each in late.fields if each.part == "field"], carries_password=bool(late.passwords)
    )
    return HealPlan(data=plan.data, drift=plan.drift)


@dataclass(slots=True)
class _Plan:
    user: Mapping[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Drift] = field(default_factory=dict)

    def decide_field(self, late: LateField) -> None:
        ((theirs, wanted),) = named_fields({late.key: late.wanted}).items()
        held = self.user.get(theirs)
        if late.is_known and _plain(held) == _plain(wanted):
            return
        ours = late.asked or any(
            _plain(held) == _plain(value)
            for each in late.late
            for value in named_fields({late.key: each}).values()
        )
        if late.key == "enabled" and late.is_known and not held and not late.asked:
            self.drift[late.name] = Drift.BARRED
        elif late.is_known and ours:
            self.data[late.key] = late.wanted
        elif late.is_known or ours:
            self.drift[late.name] = Drift.CHANGED if late.is_known else Drift.UNKNOWN

    def decide_attribute(self, late: LateField) -> None:
        held = kept_values((self.user.get("attributes") or {}).get(late.key))
        if late.is_known and held == kept_values(late.wanted):
            return
        ours = late.asked or any(held == kept_values(each) for each in late.late)
        if late.is_known and ours:
            self.data.setdefault("attributes", {})[late.key] = list(late.wanted or ())
        elif late.is_known or ours:
            self.drift[late.name] = Drift.CHANGED if late.is_known else Drift.UNKNOWN

    def decide_membership(self, kind: str, late: LateField, *, member: bool) -> None:
        if late.is_known and member is bool(late.wanted):
            return
        ours = late.asked or member in late.late
        if late.is_known and ours:
            self.data.setdefault(kind, {}).setdefault("add" if late.wanted else "remove", []).append(late.key)
        elif late.is_known or ours:
            self.drift[late.name] = Drift.CHANGED if late.is_known else Drift.UNKNOWN

    def decide_actions(self, fields: Sequence[LateField], *, carries_password: bool) -> None:
        """Each action for itself: a list is written whole, so what others set or have done is written as it stands."""
        held = [str(alias) for alias in self.user.get("requiredActions") or ()]
        left = list(held)
        for each in fields:
            if each.key == "required_actions":
                wanted = set(each.wanted or ()) if each.is_known else set()
                for alias in sorted({*held, *wanted, *_all(each.late)} - {UPDATE_PASSWORD}):
                    self._decide_action(
                        each,
                        alias,
                        left,
                        wanted=alias in wanted,
                        late=[alias in (value or ()) for value in each.late],
                    )
            elif each.key == "temporary" and not carries_password:
                # With a password, the demand for another one belongs to it.
                self._decide_action(
                    each,
                    UPDATE_PASSWORD,
                    left,
                    wanted=bool(each.wanted),
                    late=[bool(value) for value in each.late],
                )
        if left != held:
            self.data["required_actions"] = left

    def _decide_action(
        self, field_: LateField, alias: str, left: list[str], *, wanted: bool, late: Iterable[bool]
    ) -> None:
        held = alias in left
        if field_.is_known and held is wanted:
            return
        ours = field_.asked or held in late
        if field_.is_known and ours:
            if wanted:
                left.append(alias)
            else:
                left.remove(alias)
        elif field_.is_known or ours:
            self.drift[field_.name] = Drift.CHANGED if field_.is_known else Drift.UNKNOWN


def _all(lists: Iterable[Any]) -> set[str]:
    return {alias for each in lists for alias in each or ()}


def _plain(value: object) -> object:
    """Keycloak lower-cases e-mail addresses and leaves empty texts out."""
    return value.lower() if isinstance(value, str) else value or ""
