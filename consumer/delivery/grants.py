"""Groups, realm roles and required actions, by the names that events give them.

Everything an event names is looked up before anything is written, so that a name that does not exist refuses the whole
event. What was seen of Keycloak 26.7.4 (docs/decisions/0025):

- A client with `manage-users` alone may put anybody into any group and give them any realm role, also one that is
  composed of realm-management's. So nobody is put where rights over the realm come with it: into a group that has
  roles of realm-management, itself or from a parent, or into a composite role, whose parts the client does not see.
- An alias of a required action that the server does not know is dropped without a word.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from consumer.delivery.answer import Operation, parse_json
from consumer.delivery.body import body_of
from consumer.delivery.classify import unreadable_answer
from consumer.delivery.connection import RealmConnection, answer_of
from consumer.delivery.errors import CallFailed
from consumer.delivery.expected import expected
from consumer.delivery.group_paths import REMEMBERED_SECONDS, GroupPaths
from consumer.delivery.looked_up import LookedUp
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Failure, Reason, Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from consumer.delivery.address import RealmAddress

__all__ = ["Grants", "RealmGrants"]

_MISSING: Final = frozenset({Reason.GROUP_MISSING, Reason.ROLE_MISSING})
_NOT_TO_BE_GIVEN: Final = frozenset({Reason.GROUP_AMBIGUOUS, Reason.GRANT_REFUSED})
_EVERYWHERE: Final = frozenset({"CONFIGURE_TOTP", "UPDATE_PASSWORD", "UPDATE_PROFILE", "VERIFY_EMAIL"})
"""Required actions that every Keycloak has: asking for them needs no look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What an event changes of a user's groups and roles. All of it exists, and none of it gives rights over the realm.

    Attributes:
        leave: Paths of groups.
        join: Paths of groups.
        revoke: Names of realm roles.
        grant: Names of realm roles.
    """

    leave: tuple[str, ...] = ()
    join: tuple[str, ...] = ()
    revoke: tuple[str, ...] = ()
    grant: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.leave or self.join or self.revoke or self.grant)


_NONE = Grants()


class RealmGrants:
    """The groups, realm roles and required actions of one realm.

    Every method raises `CallFailed` if Keycloak does not answer as it should, with the outcome that means.

    Args:
        connection: The realm's connection.
        address: Where the realm is.
    """

    def __init__(self, connection: RealmConnection, address: RealmAddress) -> None:
        self._connection = connection
        self._realm = address.realm
        self._admin, self._user = address.admin, address.user
        self._paths = GroupPaths(connection, address)
        self._groups = LookedUp(self._look_at_group, REMEMBERED_SECONDS)
        self._roles = LookedUp(self._look_at_role)
        self._actions = LookedUp(self._look_at_action)

    async def look_up(self, data: Mapping[str, Any], *, lenient: bool = False) -> Grants:
        """Look up what an event names; nothing is asked for an event that names none of it, or was looked up lately.

        What does not exist cannot be taken from anybody, so that a removal of it is left out.

        Args:
            data: The event's data.
            lenient: Leave out what no longer exists, or may not be given any more, instead of refusing: for what was given
                once.

        Raises:
            CallFailed: Something does not exist (`group_missing`, `role_missing`, `required_action_missing`, each
                worth another try), may be one of several (`group_ambiguous`), gives rights over the realm
                (`grant_refused`), or cannot be looked at.
        """
        groups, roles = data.get("groups") or {}, data.get("realm_roles") or {}
        if not (groups or roles or data.get("required_actions")):
            return _NONE
        if not lenient:
            for place, alias in enumerate(data.get("required_actions") or ()):
                if alias not in _EVERYWHERE:
                    with _at(f"data.required_actions[{place}]"):
                        await self._actions.of(alias)
        return Grants(
            leave=await self._known(self._groups, "groups.remove", groups, lenient=lenient),
            join=await self._known(self._groups, "groups.add", groups, lenient=lenient),
            revoke=await self._known(self._roles, "realm_roles.remove", roles, lenient=lenient),
            grant=await self._known(self._roles, "realm_roles.add", roles, lenient=lenient),
        )

    async def apply(self, user_id: str, grants: Grants) -> None:
        """Give and take what was looked up. Repeated, it changes nothing."""
        if not grants:
            return
        user = self._user(user_id)
        for path in grants.leave:
            await self._on(self._groups, path, partial(self._leave, user))
        for path in grants.join:
            await self._on(self._groups, path, partial(self._join, user))
        for name in grants.revoke:
            await self._on(self._roles, name, partial(self._revoke, user, name))
        for name in grants.grant:
            await self._on(self._roles, name, partial(self._grant, user, name))

    async def held(self, user_id: str, data: Mapping[str, Any]) -> bool:
        """Whether a user is in the groups and has the roles that an event gives, and no other that it takes."""
        for named, read in (
            (data.get("groups"), self.groups_of),
            (data.get("realm_roles"), self.realm_roles_of),
        ):
            if not named:
                continue
            has = await read(user_id)
            if not has.issuperset(named.get("add", ())) or not has.isdisjoint(named.get("remove", ())):
                return False
        return True

    async def groups_of(self, user_id: str) -> frozenset[str]:
        """Return the paths of the groups that a user is a member of."""
        return await self._memberships(f"{self._user(user_id)}/groups", "path")

    async def realm_roles_of(self, user_id: str) -> frozenset[str]:
        """Return the names of the realm roles that were given to a user."""
        return await self._memberships(f"{self._user(user_id)}/role-mappings/realm", "name")

    async def _memberships(self, path: str, key: str) -> frozenset[str]:
        response = await expected(Operation.MEMBERSHIPS, 200, self._connection.a_raw_get(path))
        match parse_json(response.content):
            case list(found):
                return frozenset(str(each.get(key)) for each in found if isinstance(each, dict))
        raise CallFailed(unreadable_answer(Operation.MEMBERSHIPS, answer_of(response)))

    async def look_at_roles(self) -> None:
        """Look whether our client may read the realm's roles and required actions, as it must to give them.

        Raises:
            CallFailed: It may not (`roles_unreadable`), or Keycloak did not say.
        """
        with _needs_view_realm():
            await self._read_actions()

    async def _known(
        self, ids: LookedUp[str], side: str, named: Mapping[str, Any], *, lenient: bool
    ) -> tuple[str, ...]:
        known = []
        giving = side.endswith("add")
        for place, name in enumerate(named.get(side.rpartition(".")[2], ())):
            try:
                with _at(f"data.{side}[{place}]"):
                    self._refuse_master()
                    await ids.of(name)
            except CallFailed as failed:
                reason = failed.outcome.reason
                if (reason in _MISSING and (lenient or not giving)) or (
                    lenient and reason in _NOT_TO_BE_GIVEN
                ):
                    continue
                raise
            known.append(name)
        return tuple(known)

    def _refuse_master(self) -> None:
        if self._realm == "master":
            raise CallFailed(_refused("groups and roles of the realm master give rights over realms"))

    async def _on(self, ids: LookedUp[str], name: str, act: Callable[[str], Awaitable[None]]) -> None:
        try:
            await act(await ids.of(name))
        except CallFailed as failed:
            if failed.outcome.reason not in _MISSING:
                raise
            # Deleted, and perhaps made again under another id.
            ids.forget(name)
            if ids is self._groups:
                self._paths.forget(name)
            await act(await ids.of(name))

    async def _leave(self, user: str, group: str) -> None:
        await expected(
            Operation.LEAVE_GROUP,
            204,
            self._connection.a_raw_delete(f"{user}/groups/{quote(group, safe='')}"),
        )

    async def _join(self, user: str, group: str) -> None:
        call = self._connection.a_raw_put(f"{user}/groups/{quote(group, safe='')}", data="{}")
        await expected(Operation.JOIN_GROUP, 204, call)

    async def _revoke(self, user: str, name: str, role: str) -> None:
        call = self._connection.a_raw_delete(f"{user}/role-mappings/realm", data=_roles(role, name))
        await expected(Operation.REVOKE_ROLE, 204, call)

    async def _grant(self, user: str, name: str, role: str) -> None:
        call = self._connection.a_raw_post(f"{user}/role-mappings/realm", data=_roles(role, name))
        await expected(Operation.GRANT_ROLE, 204, call)

    async def _look_at_group(self, path: str) -> str:
        chain = await self._paths.find(path)
        for group in chain:
            if "realm-management" in group.clients:
                raise CallFailed(_refused("the group, or one above it, has a role of realm-management"))
            for role in group.realm_roles:
                await self._roles.of(role)
        return chain[-1].id

    async def _look_at_role(self, name: str) -> str:
        call = self._connection.a_raw_get(f"{self._admin}/roles/{quote(name, safe='')}")
        with _needs_view_realm():
            response = await expected(Operation.ROLE, 200, call)
        match parse_json(response.content):
            case {"id": str(role), "name": str(found), "composite": bool(composite)}:
                pass
            case _:
                raise CallFailed(unreadable_answer(Operation.ROLE, answer_of(response)))
        if found != name:
            raise CallFailed(_missing(Reason.ROLE_MISSING, "a role's name is written in another way"))
        if composite:
            raise CallFailed(_refused("a composite role may hold rights over the realm"))
        return role

    async def _look_at_action(self, alias: str) -> str:
        with _needs_view_realm():
            known = await self._read_actions()
        if alias not in known:
            detail = "the realm has no required action of this alias"
            raise CallFailed(_missing(Reason.REQUIRED_ACTION_MISSING, detail))
        return alias

    async def _read_actions(self) -> frozenset[str]:
        call = self._connection.a_raw_get(f"{self._admin}/authentication/required-actions")
        response = await expected(Operation.ACTIONS, 200, call)
        match parse_json(response.content):
            case list(found):
                return frozenset(str(each.get("alias")) for each in found if isinstance(each, dict))
        raise CallFailed(unreadable_answer(Operation.ACTIONS, answer_of(response)))


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Say of a refusal which part of the event it is about: its value is the user's, and is not shown."""
    try:
        yield
    except CallFailed as failed:
        outcome = failed.outcome
        if outcome.failure.blame is not Blame.USER:
            raise
        failure = replace(outcome.failure, detail=f"{place}: {outcome.failure.detail}")
        raise CallFailed(replace(outcome, failure=failure)) from None


@contextmanager
def _needs_view_realm() -> Iterator[None]:
    """Our own rights are not the event's fault: it waits until they are mended."""
    try:
        yield
    except CallFailed as failed:
        failure = failed.outcome.failure
        if failed.outcome.reason is not Reason.FORBIDDEN:
            raise
        detail = f"{failure.detail}; give the client the role view-realm of realm-management"
        raise CallFailed(
            Defer(
                reason=Reason.ROLES_UNREADABLE,
                failure=Failure(blame=Blame.LOCAL, status=failure.status, detail=detail),
            )
        ) from None


def _roles(role: str, name: str) -> str:
    return body_of([{"id": role, "name": name}])


def _missing(reason: Reason, detail: str) -> Retry:
    return Retry(reason=reason, failure=Failure(blame=Blame.USER, status=404, detail=detail))


def _refused(detail: str) -> DeadLetter:
    return DeadLetter(reason=Reason.GRANT_REFUSED, failure=Failure(blame=Blame.USER, detail=detail))
