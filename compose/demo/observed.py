"""What the demo saw in Keycloak, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One user, as the Admin API shows them.

    Attributes:
        user_id: Keycloak's own id.
        username: In lower case.
        email: The e-mail address.
        email_verified: Whether it is trusted.
        first_name: First name.
        last_name: Last name.
        enabled: Whether the user may log in.
        attributes: Values by name; Keycloak gives them in no fixed order.
    """

    user_id: str
    username: str
    email: str | None
    email_verified: bool
    first_name: str | None
    last_name: str | None
    enabled: bool
    attributes: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminEvent:
    """One entry of Keycloak's own diary of what was done through the Admin API. Only what succeeded stands there.

    Attributes:
        time: Milliseconds since 1970, by Keycloak's clock when the request came; two events may have the same.
        operation: CREATE, UPDATE, DELETE or ACTION (a password was set).
        user_id: Keycloak's own id of the user.
        written: What the request wrote; None where Keycloak does not tell.
    """

    time: int
    operation: str
    user_id: str
    written: Mapping[str, Any] | None


class Login(Enum):
    """What Keycloak said to a user name and a password."""

    ACCEPTED = "accepted"
    WRONG_PASSWORD = "wrong password"  # noqa: S105 (a message)
    REFUSED = "refused for another reason"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginTrial:
    """Two logins of one user, each tried for real.

    Attributes:
        username: Whose.
        current: With the password that must be in force.
        former: With the one before it.
    """

    username: str
    current: Login
    former: Login
