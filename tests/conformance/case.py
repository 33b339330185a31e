"""What the cases of conformance are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from tests.conformance.keycloak import Realm

Case = Callable[[Realm], Awaitable[None]]

DONE = (204, b"")


def a_name() -> str:
    return f"case-{uuid4().hex[:12]}"


async def made(realm: Realm, **fields: Any) -> str:
    """Create a user; give the path to them."""
    answer = await realm.ask("POST", "/users", {"username": a_name(), "enabled": True, **fields})
    assert answer.status == 201, answer
    assert answer.location is not None
    return "/users/" + answer.location.rpartition("/")[2]


async def seen(realm: Realm, user: str) -> dict[str, Any]:
    """What of a user is looked at."""
    answer = await realm.ask("GET", user)
    assert answer.status == 200, answer
    shown = answer.json()
    names = (
        "username",
        "email",
        "emailVerified",
        "firstName",
        "lastName",
        "enabled",
        "attributes",
        "requiredActions",
    )
    return {name: shown[name] for name in names if name in shown}


def a_password(value: str | None, *, temporary: bool = False) -> dict[str, Any]:
    return {"type": "password", "temporary": temporary} | ({} if value is None else {"value": value})
