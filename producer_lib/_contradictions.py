"""What one event must not say at the same time, where JSON Schema has no words for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from producer_lib._errors import InvalidEvent

_PROFILE: Final = frozenset({"email", "firstName", "lastName", "username"})
_ATTRIBUTE: Final = "attributes."


def refuse_contradictions(event: Mapping[str, Any]) -> None:
    """Refuse an event that its schema accepts and that says two things of one field.

    Raises:
        InvalidEvent: The first field that does.
    """
    data = event["data"]
    for place, cleared in enumerate(data.get("clear", ())):
        attribute = cleared.removeprefix(_ATTRIBUTE) if cleared.startswith(_ATTRIBUTE) else None
        if attribute in _PROFILE:
            raise InvalidEvent(
                f"data.clear[{place}]",
                "must not name what has a field of its own: email, first_name, last_name",
            )
        if (
            cleared in data
            or (cleared in {"first_name", "last_name"} and "name" in data)
            or (attribute is not None and attribute in data.get("attributes", {}))
        ):
            raise InvalidEvent(
                f"data.clear[{place}]",
                "must not name a field that this event gives a value: do one of the two",
            )
    for field in ("groups", "realm_roles"):
        membership = data.get(field, {})
        added = set(membership.get("add", ()))
        for place, removed in enumerate(membership.get("remove", ())):
            if removed in added:
                raise InvalidEvent(f"data.{field}.remove[{place}]", "must not be added by the same event")
