"""What calls of ours whose answers were lost may still leave of a user, in the terms of delivery."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal

from consumer.frozen import quick_dataclass

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

__all__ = ["EXISTS", "PASSWORD", "LateEffects", "LateField", "LatePassword"]

Part = Literal["field", "attribute", "group", "realm_role"]

EXISTS = "exists"
"""Names the user's being there among what was found or is asked for."""
PASSWORD = "password"  # noqa: S105 - a name.
"""Names the user's password there."""


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class LateField:
    """One field that calls in doubt carried. Its repr shows no value.

    Attributes:
        name: As what was found of it is kept: the field's name, `attributes.<name>`, `groups.<path>` or
            `realm_roles.<name>`.
        part: What it is a part of.
        key: The name within that part, as an event's data has it.
        late: The values that these calls may leave; a membership is true or false, an attribute a list of texts.
        is_known: Whether our own deliveries say what the value should be.
        wanted: That value.
        asked: An operator wants it equal to that value, whoever changed it.
    """

    name: str
    part: Part
    key: str
    late: tuple[Any, ...] = field(repr=False)
    is_known: bool
    wanted: Any = field(repr=False)
    asked: bool = False


@quick_dataclass(frozen=True, slots=True)
class LatePassword:
    """A call in doubt that carried a password.

    Attributes:
        event_id: The event whose password it was.
        earliest: Before this moment it cannot have been set (UTC, our clock).
        latest: After this moment neither: the call's end and the server limit.
    """

    event_id: str
    earliest: datetime
    latest: datetime


@quick_dataclass(frozen=True, slots=True, kw_only=True)
class LateEffects:
    """What may still happen to a user, or has happened unseen.

    Attributes:
        fields: What calls in doubt carried, field by field.
        passwords: Those of them that carried another password than the last that was delivered.
        deletes: One of them deletes the user.
        asked: What an operator wants as our deliveries left it, whoever changed it: fields, `EXISTS`, `PASSWORD`.
        password_date: Keycloak's own date of the password that we delivered last (its clock), or None if it is not known.
        only_looks: The doubt was healed before: nothing is written but over a late effect of ours, and no password at all.
    """

    fields: tuple[LateField, ...] = ()
    passwords: tuple[LatePassword, ...] = ()
    deletes: bool = False
    asked: Collection[str] = ()
    password_date: datetime | None = None
    only_looks: bool = False
