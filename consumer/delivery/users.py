"""One realm's users, as calls to Keycloak's Admin API.

The answers are read from the connection itself and not by python-keycloak's `KeycloakAdmin`: its exceptions lose the
headers (`Retry-After`), and its `TypeError` for an unexpected answer repeats the answer's body.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from consumer.delivery.address import RealmAddress
from consumer.delivery.answer import Operation, parse_json, parse_problem
from consumer.delivery.body import body_of
from consumer.delivery.classify import unreadable_answer
from consumer.delivery.connection import RealmConnection, answer_of
from consumer.delivery.directories import Directories
from consumer.delivery.errors import CallFailed, GoesAlone, NotCalled
from consumer.delivery.expected import expected
from consumer.delivery.federation import described, federation_in, ids_of, one_of, passwords_kept
from consumer.delivery.grants import RealmGrants
from consumer.delivery.imports import RealmImports
from consumer.delivery.keycloak_clock import KeycloakClock
from consumer.delivery.looked_up import LookedUp
from consumer.delivery.lookups import RealmLookups
from consumer.delivery.naming import RealmNaming, Renamed, would_rename
from consumer.delivery.new_user_rules import NewUserRules
from consumer.delivery.outcome import Blame, Defer, Failure, Reason
from consumer.delivery.profile_rules import ProfileRules, kept_values
from consumer.delivery.protection import RoleWatch, needs_look
from consumer.delivery.together import current_seat
from consumer.delivery.transport import current_scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class RealmUsers:
    """The users of one realm.

    Every method raises `CallFailed` if Keycloak does not answer as it should, with the outcome that means.

    Args:
        connection: The realm's connection.
        realm: The realm.
        clock: What is known of Keycloak's clock.
        protect_role_holders: Whether who may manage the realm is looked up before a call that hurts, and refused.
        bulk_creates: Whether users whose deliveries run together are created in one call.
        probes: Username keys of users of the realm's directories, who tell whether these can be seen.

    Attributes:
        clock: What is known of Keycloak's clock.
        grants: The realm's groups, roles and required actions.
        directories: What stands behind the realm's user federations.
        naming: How usernames change in the realm.
    """

    def __init__(
        self,
        connection: RealmConnection,
        realm: str,
        *,
        clock: KeycloakClock | None = None,
        protect_role_holders: bool = False,
        bulk_creates: bool = False,
        probes: Iterable[str] = (),
    ) -> None:
        self._connection = connection
        address = RealmAddress(connection.keycloak_url, realm)
        self._admin, self._users, self._user = address.admin, address.users, address.user
        self._realm = realm
        self.clock = clock or KeycloakClock()
        self._roles = RoleWatch(self._may_manage) if protect_role_holders else None
        self._management: str | None = None
        self._imports = RealmImports(realm, self.new_user_rules, self._import_users) if bulk_creates else None
        self._look = RealmLookups(connection, address)
        self.grants = RealmGrants(connection, address)
        self.directories = Directories(self._look, probes)
        self.naming = RealmNaming(connection, address)
        self._rules = LookedUp(self._look_at_rules)

    async def find(self, username_key: str, *, known_id: str | None = None) -> str | None:
        """Return the id of the user of exactly this username, or None if there is none.

        Where a probe tells whether the realm's directories can be seen, nobody is taken for absent whom they may have.

        Args:
            username_key: The username as Keycloak stores it.
            known_id: The id this user had when they were last seen, if they were.
        """
        await self.directories.admit_search()
        found = await self._search(username_key)
        if found is None and self.directories.probed:
            await self.directories.ensure_seen()
            # Asked again, and between two good answers of the probe: the directory may have come back since the first.
            found = await self._search(username_key)
            if found is None:
                await self.directories.ensure_seen()
        elif found is None and known_id is not None:
            await self.ensure_gone(known_id)
        return found

    async def ensure_gone(self, user_id: str) -> None:
        """Let pass if a user whose id Keycloak does not know is gone for good, and not only not to be seen now.

        Raises:
            CallFailed: They come from a federation that does not import its users, and it cannot be told (deferred).
        """
        federation = federation_in(user_id)
        if federation is not None and self.directories.probed:
            await self.directories.ensure_seen()
        elif federation is not None:
            await self.directories.ensure_gone(federation)

    async def _search(self, username_key: str) -> str | None:
        found = await self._look.search(username=username_key)
        for user in found:
            self.directories.learn(user)
        return one_of(ids_of(found, username_key))

    async def called(self, username: str) -> frozenset[str]:
        """Return the ids of the users whom an exact search for a username gives, by whatever name they are shown.

        Where addresses are usernames, Keycloak finds a user by the name they have, and shows them by their address.
        """
        return frozenset(user["id"] for user in await self._look.search(username=username) if _is_user(user))

    async def bearers(
        self, *, username: str | None = None, email: str | None = None
    ) -> list[tuple[str, str]]:
        """Return ids and names, in lower case, of users who have this name or this e-mail address.

        Keycloak compares as its database does: on MariaDB, a user whose text differs in accents only is among them.
        """
        asked = {"username": username} if username is not None else {"email": email}
        # As a lane names them; a directory may spell it otherwise.
        found = await self._look.search(**asked)
        return [(user["id"], user["username"].lower()) for user in found if _is_user(user)]

    async def look_for_nobody(self) -> None:
        """Read a user who does not exist, which needs Keycloak's database and no directory."""
        await self._look.nobody()

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

    async def look_whether_writes_work(self) -> None:
        """End the sessions of our client's own user, its service account: it has none, and Keycloak writes when that was asked.

        It is written like any user, but nobody's, and no event names it. Keycloak refuses it like other writes where its
        database takes none (26.7.4: 500). Tokens of our client from before are void then (401): each process renews its own.

        Raises:
            CallFailed: It was refused, or it cannot be said.
        """
        account = await self._connection.account_id()
        if account is None:
            detail = "the token does not name the service account (sub)"
            failure = Failure(blame=Blame.CONFIGURATION, detail=detail)
            raise CallFailed(Defer(reason=Reason.UNEXPECTED_ANSWER, failure=failure))
        call = self._connection.a_raw_post(f"{self._user(account)}/logout", data="{}")
        await expected(Operation.WRITE_CHECK, 204, call)
        await self._connection.renew_token()

    async def read(self, user_id: str) -> dict[str, Any]:
        """Return the user's whole representation."""
        await self.directories.admit(user_id)
        user = await self._look.user(user_id)
        self.directories.learn({**user, "id": user_id})
        return user

    async def read_as_it_is(self, user_id: str) -> dict[str, Any]:
        """Return the same, unless their directory is away: an outage shows other things than are so."""
        user = await self.read(user_id)
        await self.directories.ensure_believable(user_id, user)
        return user

    async def made_at(self, user_id: str) -> datetime | None:
        """Return when a user was made, by Keycloak's clock (UTC), or None if it does not say."""
        made = (await self.read(user_id)).get("createdTimestamp")
        return datetime.fromtimestamp(made / 1000, UTC) if isinstance(made, int) else None

    async def create(self, representation: Mapping[str, Any]) -> str | None:
        """Create a user; returns Keycloak's id, or None if the answer does not name it.

        Raises:
            GoesAlone: The delivery runs together with others, and this user cannot be created in one call with theirs.
            CallFailed: As every method; the user would not have this name (`would_rename`).
        """
        await self.directories.admit_create()
        email = str(representation.get("email") or "").lower()
        # Without an address, a realm that makes names from it takes nobody.
        if email and email != representation.get("username") and (await self.naming.of_realm()).by_address:
            raise would_rename()
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
        """Write the given fields of a user. With `attributes` among them, the rest of the profile is replaced.

        Raises:
            CallFailed: As every method; the user would have another name afterwards (`would_rename`), or has, where that
                could not be told before (`renamed`).
        """
        await self.directories.admit(user_id)
        if self._roles is not None and needs_look(representation):
            await self._roles.check(user_id)
        by_address = (await self.naming.of_users(user_id)).by_address
        if by_address:
            await self._look_whether_they_keep_their_name(user_id, representation)
        before = await self.read(user_id) if by_address is None and "email" in representation else None
        await expected(
            Operation.UPDATE,
            204,
            self._connection.a_raw_put(self._user(user_id), data=body_of(representation)),
        )
        if before is not None and (await self.read(user_id))["username"] != before["username"]:
            raise Renamed(name_is_free=False)

    async def _look_whether_they_keep_their_name(
        self, user_id: str, representation: Mapping[str, Any]
    ) -> None:
        email = representation.get("email")
        if email is None:
            email = (await self.read(user_id)).get("email")
        # Without one, Keycloak refuses the write.
        if email and user_id not in await self.called(str(email).lower()):
            raise would_rename()

    async def set_password(self, user_id: str, password: str, *, temporary: bool) -> None:
        """Give a user a password. `temporary` makes them choose another at the next login.

        One that Keycloak keeps for a user of a directory, such as an earlier hash, goes before the directory's: where the
        new password went into the directory, the old one in Keycloak is removed.
        """
        await self.directories.admit(user_id)
        if self._roles is not None:
            await self._roles.check(user_id)
        federated = await self.directories.of(user_id) is not None
        kept = passwords_kept(await self._look.credentials(user_id)) if federated else frozenset()
        await expected(
            Operation.SET_PASSWORD,
            204,
            self._connection.a_raw_put(
                f"{self._user(user_id)}/reset-password",
                data=body_of({"type": "password", "value": password, "temporary": temporary}),
            ),
        )
        if kept:
            for credential, _ in kept & passwords_kept(await self._look.credentials(user_id)):
                address = f"{self._user(user_id)}/credentials/{quote(credential, safe='')}"
                await expected(Operation.REMOVE_CREDENTIAL, 204, self._connection.a_raw_delete(address))

    async def password_date(self, user_id: str) -> datetime | None:
        """Return when the user's newest password was set, by Keycloak's clock (UTC), or None if there is none."""
        credentials = await self._look.credentials(user_id)
        return max((date for each in credentials for date in _dates_of(each)), default=None)

    async def delete(self, user_id: str) -> None:
        """Delete a user; one of a directory only while it can be seen, as it would come back with it."""
        await self.directories.admit(user_id)
        if (federation := await self.directories.of(user_id)) is not None:
            await self.directories.ensure_up(user_id, federation)
        if self._roles is not None:
            await self._roles.check(user_id)
        await expected(Operation.DELETE, 204, self._connection.a_raw_delete(self._user(user_id)))

    async def end_sessions(self, user_id: str) -> None:
        """Log a user out everywhere; Keycloak tells the applications that want to know. Offline tokens end as well."""
        await self.directories.admit(user_id)
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

    async def profile_rules(self) -> ProfileRules:
        """Return what the realm keeps of attributes, read anew. It needs no more than `manage-users` (seen with 26.7.4)."""
        response = await expected(
            Operation.PROFILE, 200, self._connection.a_raw_get(f"{self._users}/profile")
        )
        rules = ProfileRules.read(parse_json(response.content))
        if rules is None:
            raise CallFailed(unreadable_answer(Operation.PROFILE, answer_of(response)))
        return rules

    async def may_drop(self, data: Mapping[str, Any]) -> dict[str, str]:
        """Return which attributes of an event's data Keycloak may not keep, each with the reason.

        Nothing is asked for an event without attributes. A profile that cannot be read tells of none.
        """
        if not data.get("attributes"):
            return {}
        rules = await self._rules.of(self._realm)
        return {} if rules is None else rules.may_drop(data["attributes"])

    async def _look_at_rules(self, _realm: str) -> ProfileRules | None:
        try:
            return await self.profile_rules()
        except CallFailed as failed:
            if failed.outcome.failure.blame is Blame.KEYCLOAK:
                raise
            return None

    async def dropped(
        self, user_id: str, data: Mapping[str, Any], may_drop: Mapping[str, str]
    ) -> dict[str, str]:
        """Return which of these attributes a user has not, after they were written; all, if that cannot be read."""
        try:
            held = (await self.read(user_id)).get("attributes") or {}
        except (CallFailed, NotCalled):
            # The change is made, whatever comes of looking.
            return dict(may_drop)
        named = data["attributes"]
        return {
            name: why
            for name, why in may_drop.items()
            if kept_values(held.get(name)) != kept_values(named[name])
        }

    async def user_federations(self) -> tuple[str, ...] | None:
        """Return the realm's user federations, each with its edit mode; None if our client may not list them.

        With `manage-users` alone Keycloak does not list them (seen with 26.7.4).
        """
        try:
            found = await self._look.federations()
        except CallFailed as failed:
            if failed.outcome.reason is not Reason.FORBIDDEN:
                raise
            return None
        return tuple(text for each in found if (text := described(each)) is not None)

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


def _is_user(user: Any) -> bool:
    match user:
        case {"id": str(), "username": str()}:
            return True
    return False


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
