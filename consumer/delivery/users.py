"""One realm's users, as calls to Keycloak's Admin API.

The answers are read from the connection itself and not by python-keycloak's `KeycloakAdmin`: its exceptions lose the
headers (`Retry-After`), and its `TypeError` for an unexpected answer repeats the answer's body.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from consumer.delivery import federation
from consumer.delivery.address import RealmAddress
from consumer.delivery.answer import Operation, parse_json, parse_problem
from consumer.delivery.body import body_of
from consumer.delivery.classify import NO_SUCH_USER, classify_answer, unreadable_answer
from consumer.delivery.connection import RealmConnection, answer_of
from consumer.delivery.errors import CallFailed, GoesAlone
from consumer.delivery.expected import expected
from consumer.delivery.grants import RealmGrants
from consumer.delivery.imports import RealmImports
from consumer.delivery.new_user_rules import NewUserRules
from consumer.delivery.outcome import Blame, Defer, Failure, Reason
from consumer.delivery.protection import RoleWatch, needs_look
from consumer.delivery.together import current_seat
from consumer.delivery.transport import current_scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RealmUsers:
    """The users of one realm.

    Every method raises `CallFailed` if Keycloak does not answer as it should, with the outcome that means.

    Args:
        connection: The realm's connection.
        realm: The realm.
        protect_role_holders: Whether who may manage the realm is looked up before a call that hurts, and refused.
        bulk_creates: Whether users whose deliveries run together are created in one call.

    Attributes:
        grants: The realm's groups, roles and required actions.
    """

    def __init__(
        self,
        connection: RealmConnection,
        realm: str,
        *,
        protect_role_holders: bool = False,
        bulk_creates: bool = False,
    ) -> None:
        self._connection = connection
        address = RealmAddress(connection.keycloak_url, realm)
        self._admin, self._users, self._user = address.admin, address.users, address.user
        self._realm = realm
        self._roles = RoleWatch(self._may_manage) if protect_role_holders else None
        self._management: str | None = None
        self._imports = RealmImports(realm, self.new_user_rules, self._import_users) if bulk_creates else None
        self.grants = RealmGrants(connection, address)

    async def find(self, username_key: str) -> str | None:
        """Return the id of the user of exactly this username, or None if there is none."""
        response = await expected(
            Operation.FIND,
            200,
            self._connection.a_raw_get(
                self._users,
                username=username_key,
                exact=True,
                briefRepresentation=True,
                max=2,
            ),
        )
        match parse_json(response.content):
            case list(found):
                return federation.one_of(federation.ids_of(found, username_key))
        raise CallFailed(unreadable_answer(Operation.FIND, answer_of(response)))

    async def holder_of(self, email: str) -> str | None:
        """Return the username of a user who has exactly this e-mail address, or None if nobody has it."""
        response = await expected(
            Operation.FIND,
            200,
            self._connection.a_raw_get(self._users, email=email, exact=True, briefRepresentation=True, max=1),
        )
        match parse_json(response.content):
            case []:
                return None
            case [{"username": str(username)}, *_]:
                # As a lane names them; a directory may spell it otherwise.
                return username.lower()
        raise CallFailed(unreadable_answer(Operation.FIND, answer_of(response)))

    async def look_for_nobody(self, user_id: str) -> None:
        """Read a user who does not exist: Keycloak looks into its own database, and asks no directory (26.4, 26.7).

        Raises:
            CallFailed: Keycloak did not say that there is no such user.
        """
        response = await expected(Operation.CONTROL, 404, self._connection.a_raw_get(self._user(user_id)))
        problem = parse_problem(response.content)
        if problem is None or problem.code != NO_SUCH_USER:
            raise CallFailed(classify_answer(Operation.CONTROL, answer_of(response), datetime.now(UTC)))

    async def look_whether_we_may_write(self) -> None:
        """Ask for a user without a name: Keycloak looks first whether we may create any, and then refuses (26.4, 26.7).

        Nothing is created, and no event recorded.

        Raises:
            CallFailed: We may not, or Keycloak did not say.
        """
        response = await expected(
            Operation.CONTROL,
            400,
            self._connection.a_raw_post(self._users, data="{}"),
        )
        if parse_problem(response.content) is None:
            raise CallFailed(unreadable_answer(Operation.CONTROL, answer_of(response)))

    async def read(self, user_id: str) -> dict[str, Any]:
        """Return the user's whole representation."""
        response = await expected(Operation.READ, 200, self._connection.a_raw_get(self._user(user_id)))
        user = parse_json(response.content)
        if isinstance(user, dict) and isinstance(user.get("username"), str):
            return user
        raise CallFailed(unreadable_answer(Operation.READ, answer_of(response)))

    async def create(self, representation: Mapping[str, Any]) -> str | None:
        """Create a user; returns Keycloak's id, or None if the answer does not name it.

        Raises:
            GoesAlone: The delivery runs together with others, and this user cannot be created in one call with theirs.
        """
        if self._imports is not None and (seat := current_seat()) is not None:
            if not await self._imports.admits(representation):
                raise GoesAlone
            user_id = await seat.create(representation, self._imports)
            # Written by the one call of all, in the scope of whichever delivery was first.
            current_scope().wrote = True
            return user_id
        response = await expected(
            Operation.CREATE,
            201,
            self._connection.a_raw_post(self._users, data=body_of(representation)),
        )
        # The id of a user whom a federation stores has the federation's id and their name in it, percent-encoded here.
        return unquote(response.headers.get("Location", "").rpartition("/")[2]) or None

    async def new_user_rules(self) -> NewUserRules | None:
        """Read what the realm does to every new user; None if it is not understood.

        Raises:
            CallFailed: Keycloak did not say; our client needs `manage-realm` for it, as for the import itself.
        """
        urls = (self._admin, f"{self._users}/profile", f"{self._admin}/authentication/required-actions")
        answers = [
            await expected(Operation.NEW_USER_RULES, 200, self._connection.a_raw_get(url)) for url in urls
        ]
        return NewUserRules.read(*(parse_json(answer.content) for answer in answers))

    async def _import_users(self, representations: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        response = await expected(
            Operation.IMPORT,
            200,
            self._connection.a_raw_post(
                f"{self._admin}/partialImport",
                data=body_of({"ifResourceExists": "SKIP", "users": list(representations)}),
            ),
        )
        match parse_json(response.content):
            case {"results": list(results)}:
                return {
                    each["resourceName"]: each["id"]
                    for each in results
                    if each.get("action") == "ADDED" and each.get("resourceType") == "USER"
                }
        raise CallFailed(unreadable_answer(Operation.IMPORT, answer_of(response)))

    async def update(self, user_id: str, representation: Mapping[str, Any]) -> None:
        """Write the given fields of a user. With `attributes` among them, the rest of the profile is replaced."""
        if self._roles is not None and needs_look(representation):
            await self._roles.check(user_id)
        await expected(
            Operation.UPDATE,
            204,
            self._connection.a_raw_put(self._user(user_id), data=body_of(representation)),
        )

    async def set_password(self, user_id: str, password: str, *, temporary: bool) -> None:
        """Give a user a password. `temporary` makes them choose another at the next login."""
        if self._roles is not None:
            await self._roles.check(user_id)
        await expected(
            Operation.SET_PASSWORD,
            204,
            self._connection.a_raw_put(
                f"{self._user(user_id)}/reset-password",
                data=body_of({"type": "password", "value": password, "temporary": temporary}),
            ),
        )

    async def password_date(self, user_id: str) -> datetime | None:
        """Return when the user's newest password was set, by Keycloak's clock (UTC), or None if there is none."""
        response = await expected(
            Operation.CREDENTIALS,
            200,
            self._connection.a_raw_get(f"{self._user(user_id)}/credentials"),
        )
        match parse_json(response.content):
            case list(credentials):
                return max((date for each in credentials for date in _dates_of(each)), default=None)
        raise CallFailed(unreadable_answer(Operation.CREDENTIALS, answer_of(response)))

    async def delete(self, user_id: str) -> None:
        """Delete a user."""
        if self._roles is not None:
            await self._roles.check(user_id)
        await expected(Operation.DELETE, 204, self._connection.a_raw_delete(self._user(user_id)))

    async def end_sessions(self, user_id: str) -> None:
        """Log a user out everywhere; Keycloak tells the applications that want to know. Offline tokens end as well."""
        if self._roles is not None:
            await self._roles.check(user_id)
        call = self._connection.a_raw_post(f"{self._user(user_id)}/logout", data="{}")
        await expected(Operation.END_SESSIONS, 204, call)

    async def sessions_since(self, user_id: str) -> datetime | None:
        """Return when the oldest of the user's sessions began, by Keycloak's clock (UTC), or None if there is none."""
        call = self._connection.a_raw_get(f"{self._user(user_id)}/sessions")
        response = await expected(Operation.SESSIONS, 200, call)
        match parse_json(response.content):
            case list(sessions):
                return min((date for each in sessions for date in _begin_of(each)), default=None)
        raise CallFailed(unreadable_answer(Operation.SESSIONS, answer_of(response)))

    async def unmanaged_attributes(self) -> str | None:
        """Return what the realm's user profile says of attributes that it does not declare, or None if it says nothing.

        That is `ENABLED`, `ADMIN_EDIT` or `ADMIN_VIEW`. Reading it needs no more than `manage-users` (seen with 26.7.4).
        """
        call = self._connection.a_raw_get(f"{self._users}/profile")
        response = await expected(Operation.PROFILE, 200, call)
        match parse_json(response.content):
            case {"attributes": list()} as profile:
                policy = profile.get("unmanagedAttributePolicy")
                return None if policy is None else str(policy)
        raise CallFailed(unreadable_answer(Operation.PROFILE, answer_of(response)))

    async def look_at_roles(self) -> None:
        """Read what protecting role holders reads of the realm: does our client have `view-clients`?

        Raises:
            CallFailed: It has not, or Keycloak did not say.
        """
        await self._management_client()

    async def _may_manage(self, user_id: str) -> bool:
        """Whether a user holds a role of realm-management: their own, by another role, or by a group.

        Keycloak shows that only to a client with `view-clients`; with `manage-users` alone, `role-mappings` of anybody
        is an empty object (seen with 26.7.4).
        """
        if self._management is None:
            self._management = await self._management_client()
        response = await expected(
            Operation.ROLES,
            200,
            self._connection.a_raw_get(
                f"{self._user(user_id)}/role-mappings/clients/{quote(self._management, safe='')}/composite"
            ),
        )
        match parse_json(response.content):
            case list(roles):
                return bool(roles)
        raise CallFailed(unreadable_answer(Operation.ROLES, answer_of(response)))

    async def _management_client(self) -> str:
        # In the realm master, each realm's management client is named after that realm.
        name = "master-realm" if self._realm == "master" else "realm-management"
        response = await expected(
            Operation.ROLES, 200, self._connection.a_raw_get(f"{self._admin}/clients", clientId=name)
        )
        match parse_json(response.content):
            case [{"id": str(client)}]:
                return client
            case []:
                # Every realm has it: with `query-clients` alone, Keycloak leaves out what the client may not view.
                detail = f"the client {name} is not shown to ours"
                failure = Failure(blame=Blame.CONFIGURATION, status=response.status_code, detail=detail)
                raise CallFailed(Defer(reason=Reason.FORBIDDEN, failure=failure))
        raise CallFailed(unreadable_answer(Operation.ROLES, answer_of(response)))


def _dates_of(credential: Any) -> list[datetime]:
    match credential:
        # A directory's password has no date, and -1 in its place.
        case {"type": "password", "createdDate": int(milliseconds)} if milliseconds >= 0:
            return [datetime.fromtimestamp(milliseconds / 1000, UTC)]
    return []


def _begin_of(session: Any) -> list[datetime]:
    match session:
        case {"start": int(milliseconds)}:
            return [datetime.fromtimestamp(milliseconds / 1000, UTC)]
    return []
