"""What one realm can be asked about its users without changing anything, in the few ways that several parts share.

Every method raises `CallFailed` if Keycloak does not answer as it should, with the outcome that means.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from consumer.delivery.answer import Operation, parse_json, parse_problem
from consumer.delivery.classify import NO_SUCH_USER, classify_answer, unreadable_answer
from consumer.delivery.connection import RealmConnection, answer_of
from consumer.delivery.errors import CallFailed
from consumer.delivery.expected import expected

if TYPE_CHECKING:
    from consumer.delivery.address import RealmAddress

NOBODY = "kcsync-nobody"
"""An id that Keycloak gives nobody: its own are UUIDs, those of users of a federation begin with `f:`."""


class RealmLookups:
    """Reads of one realm.

    Args:
        connection: The realm's connection.
        address: Where the realm is.
    """

    def __init__(self, connection: RealmConnection, address: RealmAddress) -> None:
        self._connection = connection
        self._address = address

    async def search(self, **named: str) -> list[Any]:
        """Return the users of exactly this `username` or `email`, briefly; two at most."""
        query: dict[str, Any] = {**named, "exact": True, "briefRepresentation": True, "max": 2}
        return await self._list(Operation.FIND, self._address.users, query)

    async def user(self, user_id: str) -> dict[str, Any]:
        """Return a user's whole representation."""
        response = await expected(
            Operation.READ, 200, self._connection.a_raw_get(self._address.user(user_id))
        )
        user = parse_json(response.content)
        if isinstance(user, dict) and isinstance(user.get("username"), str):
            return user
        raise CallFailed(unreadable_answer(Operation.READ, answer_of(response)))

    async def nobody(self) -> None:
        """Read a user who does not exist: Keycloak looks into its own database, and asks no directory (26.4, 26.7).

        Raises:
            CallFailed: Keycloak did not say that there is no such user.
        """
        call = self._connection.a_raw_get(self._address.user(NOBODY))
        response = await expected(Operation.CONTROL, 404, call)
        problem = parse_problem(response.content)
        if problem is None or problem.code != NO_SUCH_USER:
            raise CallFailed(classify_answer(Operation.CONTROL, answer_of(response), datetime.now(UTC)))

    async def credentials(self, user_id: str) -> list[Any]:
        """Return a user's credentials, those in a directory among them."""
        return await self._list(Operation.CREDENTIALS, f"{self._address.user(user_id)}/credentials")

    async def credential_types_of_directory(self, user_id: str) -> list[Any]:
        """Return of which types a user's federation keeps credentials: none while it is disabled."""
        address = f"{self._address.user(user_id)}/configured-user-storage-credential-types"
        return await self._list(Operation.CREDENTIALS, address)

    async def federation_name(self, federation: str) -> str | None:
        """Return the name of a federation, or None if there is none of this id."""
        address = f"{self._address.admin}/user-storage/{quote(federation, safe='')}/name"
        try:
            response = await expected(Operation.FEDERATIONS, 200, self._connection.a_raw_get(address))
        except CallFailed as failed:
            if failed.outcome.failure.status != 404:
                raise
            return None
        match parse_json(response.content):
            case {"name": str(name)}:
                return name
        raise CallFailed(unreadable_answer(Operation.FEDERATIONS, answer_of(response)))

    async def federations(self) -> list[Any]:
        """Return the realm's user federations. It needs `view-realm`."""
        address = f"{self._address.admin}/components"
        query = {"type": "org.keycloak.storage.UserStorageProvider"}
        return await self._list(Operation.FEDERATIONS, address, query)

    async def _list(
        self, operation: Operation, address: str, query: dict[str, Any] | None = None
    ) -> list[Any]:
        response = await expected(operation, 200, self._connection.a_raw_get(address, **(query or {})))
        found = parse_json(response.content)
        if isinstance(found, list):
            return found
        raise CallFailed(unreadable_answer(operation, answer_of(response)))
