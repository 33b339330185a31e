"""Whether the users of a realm may come to other usernames, and how that is kept from making two people one.

A realm may take e-mail addresses for usernames (`registrationEmailAsUsername`): there any write of a user makes their
address their name, also of a user from before, whose name was another; Keycloak shows such a user by the address already,
and finds them by the name they have. A realm may let users and administrators rename (`editUsernameAllowed`). In all others
a name is for ever (seen with 26.4 and 26.7, docs/decisions/0053).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from consumer.delivery.answer import Operation, parse_json
from consumer.delivery.errors import CallFailed
from consumer.delivery.expected import expected
from consumer.delivery.outcome import Blame, DeadLetter, Failure, Reason, Retry

if TYPE_CHECKING:
    from consumer.delivery.address import RealmAddress
    from consumer.delivery.connection import RealmConnection

__all__ = ["Naming", "RealmNaming", "Renamed", "would_rename"]

_REMEMBERED_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How usernames change in a realm; None where that could not be read.

    Attributes:
        by_address: Any write of a user makes their e-mail address their name.
        by_hand: Users and administrators may rename.
    """

    by_address: bool | None
    by_hand: bool | None

    @property
    def is_for_ever(self) -> bool:
        """Whether a user surely has the name they once had."""
        return self.by_address is False and self.by_hand is False

    @property
    def found(self) -> str:
        """What is known, in a few words."""
        if self.by_address is None:
            return "unknown: neither the realm nor its users tell"
        if self.by_address:
            return "made from e-mail addresses"
        if self.by_hand is None:
            return "not made from e-mail addresses; whether they may be edited is not shown"
        return "may be edited" if self.by_hand else "for ever"

    def advice(self, realm: str) -> str | None:
        """What to do about it, or None where there is nothing to do."""
        if self.by_address:
            return (
                f"realm {realm} makes usernames from e-mail addresses: name users by their address in every event; a change "
                f"that would give a user another name is refused ({Reason.WOULD_RENAME})"
            )
        if self.by_address is None or self.by_hand:
            return (
                f"realm {realm} may let usernames change: the changes of a user who bears another name than their events say "
                f"are held ({Reason.RENAMED}), and nothing of them is written"
            )
        return None


class Renamed(CallFailed):
    """The user whom our own deliveries left bears another name by now.

    Attributes:
        name_is_free: Nobody else bears the name they had.
    """

    def __init__(self, *, name_is_free: bool) -> None:
        detail = (
            "the user whom this name's changes were delivered to bears another name in Keycloak now: nothing is written until "
            "it is clear who is meant"
        )
        super().__init__(Retry(reason=Reason.RENAMED, failure=Failure(blame=Blame.USER, detail=detail)))
        self.name_is_free = name_is_free


def would_rename() -> CallFailed:
    """What is made of a write after which the user would bear another name than the event's."""
    detail = (
        "the realm takes e-mail addresses for usernames: this write would give the user another name than the event's; there, "
        "events name users by their address, and a new address is a new user"
    )
    return CallFailed(
        DeadLetter(reason=Reason.WOULD_RENAME, failure=Failure(blame=Blame.USER, detail=detail))
    )


class RealmNaming:
    """Knows how usernames change in one realm. It needs no more than `manage-users`.

    Args:
        connection: The realm's connection.
        address: Where the realm is.
    """

    def __init__(self, connection: RealmConnection, address: RealmAddress) -> None:
        self._connection = connection
        self._address = address
        self._realm: tuple[float, Naming] | None = None
        self._users: tuple[float, Naming] | None = None
        self._reading = asyncio.Lock()

    async def of_realm(self) -> Naming:
        """Return what the realm itself says. Renaming by hand is shown to a client with `view-realm` only.

        Raises:
            CallFailed: Keycloak did not answer.
        """
        # Who asks at the same time shares the answer.
        async with self._reading:
            if (known := _fresh(self._realm)) is None:
                known = await self._read_realm()
                self._realm = (_now(), known)
            return known

    async def of_users(self, user_id: str) -> Naming:
        """Return what Keycloak says by a user, if it was not asked lately: it tells which of their fields may be written.

        Raises:
            CallFailed: Keycloak did not answer, or has no such user.
        """
        if (known := _fresh(self._users)) is None:
            known = await self._read_by(user_id)
            self._users = (_now(), known)
        return known

    async def _read_realm(self) -> Naming:
        try:
            response = await expected(Operation.REALM, 200, self._connection.a_raw_get(self._address.admin))
        except CallFailed as failed:
            if failed.outcome.failure.blame not in {Blame.CONFIGURATION, Blame.USER}:
                raise
            return Naming(by_address=None, by_hand=None)
        realm = parse_json(response.content)
        shown = realm if isinstance(realm, dict) else {}
        return Naming(
            by_address=_flag(shown.get("registrationEmailAsUsername")),
            by_hand=_flag(shown.get("editUsernameAllowed")),
        )

    async def _read_by(self, user_id: str) -> Naming:
        call = self._connection.a_raw_get(self._address.user(user_id), userProfileMetadata=True)
        response = await expected(Operation.READ, 200, call)
        match parse_json(response.content):
            case {"userProfileMetadata": {"attributes": list(fields)}, **user}:
                named = [each for each in fields if isinstance(each, dict) and each.get("name") == "username"]
            case _:
                return await self.of_realm()
        match named:
            case [{"required": bool(required), "readOnly": bool(read_only)}]:
                # Only where it is made from the address, a name need not be given.
                by_address = not required
            case _:
                return await self.of_realm()
        # Who may write the name of a federation's user is the federation's to say, and it may rename.
        by_hand = None if user.get("federationLink") else not read_only
        return Naming(by_address=by_address, by_hand=by_hand)


def _fresh(known: tuple[float, Naming] | None) -> Naming | None:
    return None if known is None or _now() - known[0] >= _REMEMBERED_SECONDS else known[1]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
