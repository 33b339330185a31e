"""Groups by their paths, of which a path may be that of two.

A path is the names of a group and its parents behind slashes, and a name may hold slashes itself: `/a/b` is the group
`b` in `a`, and the group `a/b`. A server that was told to (`--spi-group--jpa--escape-slashes-in-group-path`) shows the
latter as `/a~/b`, which is also the group `b` in `a~`. Keycloak's own look-up takes the first that it meets, and finds
some groups by no path at all (seen with 26.7.4). So a path is followed from parent to child in the spelling that Keycloak
shows, and one that leads to two groups is refused.

Most realms have no such name. There its own look-up tells each step, and one request every now and then tells that there
is none.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from consumer.delivery.answer import Operation, parse_json
from consumer.delivery.classify import unreadable_answer
from consumer.delivery.connection import answer_of
from consumer.delivery.errors import CallFailed
from consumer.delivery.expected import expected
from consumer.delivery.looked_up import LookedUp
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Failure, Reason, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from consumer.delivery.address import RealmAddress
    from consumer.delivery.connection import RealmConnection

__all__ = ["REMEMBERED_SECONDS", "Group", "GroupPaths"]

REMEMBERED_SECONDS: Final = 60.0
"""How long a group is known by a path. One that was renamed in the meantime is still meant by the path it had."""

_PIECE: Final = 100
_MOST_PIECES: Final = 20
"""A list of groups is read in so many pieces of so many at most."""
_MOST_MEANINGS: Final = 10
"""A path that may mean more groups than this on its way is not followed any further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group.

    Attributes:
        id: Keycloak's id of it.
        name: Its name, without those of its parents.
        path: Its path, as Keycloak shows it.
        parent: The id of its parent, or None.
        realm_roles: Names of the realm roles that it gives by itself.
        clients: Names of the clients of which it gives roles by itself.
    """

    id: str
    name: str
    path: str
    parent: str | None
    realm_roles: tuple[str, ...]
    clients: frozenset[str]


Chain = tuple[Group, ...]
"""A group behind its parents, the topmost first."""


class GroupPaths:
    """Finds the groups of one realm by their paths. Needs no more than `manage-users` (seen with 26.4 and 26.7).

    Args:
        connection: The realm's connection.
        address: Where the realm is.
    """

    def __init__(self, connection: RealmConnection, address: RealmAddress) -> None:
        self._connection = connection
        self._admin = address.admin
        self._straight = LookedUp(self._look_by_path, REMEMBERED_SECONDS)
        self._any = LookedUp(self._look_for_any, REMEMBERED_SECONDS)
        self._holding = LookedUp(self._look_for_holding, REMEMBERED_SECONDS)

    async def find(self, path: str) -> Chain:
        """Return the group of this path behind its parents.

        One request is made for each step that leads to a group, and another one for each slash if names hold slashes.

        Raises:
            CallFailed: There is none (`group_missing`), it may be one of several (`group_ambiguous`), or Keycloak did not
                answer as it should.
        """
        slashed = await self._slashed_on(path)
        chains: dict[str | None, Chain] = {None: ()}
        level: list[Chain] = [()]
        for start, end in _steps(path):
            prefix, name = path[:end], path[start + 1 : end]
            found = [group for group in slashed if group.path == prefix]
            for chain in level:
                found += await self._children(chain, name, prefix, slashed)
            level = [(*chains[group.parent], group) for group in found if group.parent in chains]
            if len(level) > _MOST_MEANINGS:
                raise CallFailed(_ambiguous())
            chains |= {chain[-1].id: chain for chain in level}
        match level:
            case [chain]:
                return chain
            case []:
                failure = Failure(
                    blame=Blame.USER, status=404, detail="the realm has no group of exactly this path"
                )
                raise CallFailed(Retry(reason=Reason.GROUP_MISSING, failure=failure))
        raise CallFailed(_ambiguous())

    def forget(self, path: str) -> None:
        """Keycloak does not know a group of this path any more."""
        for _, end in _steps(path):
            self._straight.forget(path[:end])
        self._any.forget("/")
        for text in _within_names(path):
            self._holding.forget(text)

    async def _slashed_on(self, path: str) -> list[Group]:
        """Groups whose names hold slashes, of which this path may lead to some."""
        if "/" not in path[1:] or not await self._any.of("/"):
            return []
        found = [group for text in _within_names(path) for group in await self._holding.of(text)]
        return list({group.id: group for group in found}.values())

    async def _children(self, chain: Chain, name: str, path: str, slashed: Sequence[Group]) -> list[Group]:
        """The child of this name, if there is one, of the last group of a chain; of none, a topmost group."""
        if not _may_bend(path, slashed):
            return await self._straight.of(path)
        children = self._listed(f"groups/{quote(chain[-1].id, safe='')}/children", search=name, exact="true")
        # Exact as the search is called, it takes % and _ for any text and letter (seen with 26.7.4).
        return [group async for group in children if group.name == name][:1]

    async def _look_by_path(self, path: str) -> list[Group]:
        call = self._connection.a_raw_get(f"{self._admin}/group-by-path{quote(path, safe='/')}")
        try:
            response = await expected(Operation.GROUP, 200, call)
        except CallFailed as failed:
            if failed.outcome.reason is not Reason.GROUP_MISSING:
                raise
            return []
        group = _read(parse_json(response.content))
        if group is None:
            raise CallFailed(unreadable_answer(Operation.GROUP, answer_of(response)))
        # Keycloak compares as its database does: it also finds what differs in case or ends in a blank.
        return [group] if group.path == path else []

    async def _look_for_any(self, slash: str) -> bool:
        call = self._connection.a_raw_get(
            f"{self._admin}/groups", search=slash, populateHierarchy="false", max=1
        )
        response = await expected(Operation.GROUP, 200, call)
        match parse_json(response.content):
            case list(found):
                return bool(found)
        raise CallFailed(unreadable_answer(Operation.GROUP, answer_of(response)))

    async def _look_for_holding(self, text: str) -> list[Group]:
        found = self._listed("groups", search=text, populateHierarchy="false")
        return [group async for group in found if text in group.name]

    async def _listed(self, part: str, **query: str) -> AsyncIterator[Group]:
        """Groups of a list, piece by piece.

        Raises:
            CallFailed: There are more than we read; or Keycloak did not answer as it should.
        """
        for piece in range(_MOST_PIECES):
            call = self._connection.a_raw_get(
                f"{self._admin}/{part}",
                briefRepresentation="false",
                first=piece * _PIECE,
                max=_PIECE,
                **query,
            )
            response = await expected(Operation.GROUP, 200, call)
            match parse_json(response.content):
                case list(answer):
                    pass
                case _:
                    raise CallFailed(unreadable_answer(Operation.GROUP, answer_of(response)))
            for each in answer:
                if (group := _read(each)) is None:
                    raise CallFailed(unreadable_answer(Operation.GROUP, answer_of(response)))
                yield group
            if len(answer) < _PIECE:
                return
        raise CallFailed(
            _ambiguous(f"more than {_MOST_PIECES * _PIECE} groups of the realm come into question")
        )


def _steps(path: str) -> list[tuple[int, int]]:
    """Where each step of a path begins, at its slash, and where it ends."""
    slashes = [at for at, letter in enumerate(path) if letter == "/"]
    return list(zip(slashes, [*slashes[1:], len(path)], strict=True))


def _within_names(path: str) -> list[str]:
    """What a name holds, of those a path leads by, that has one of the path's slashes in it; in either spelling."""
    names = path[1:].split("/")
    found = []
    for left, right in itertools.pairwise(names):
        found.append(f"{left}/{right}")
        if left.endswith("~"):
            found.append(f"{left[:-1]}/{right}")
    return found


def _may_bend(path: str, slashed: Sequence[Group]) -> bool:
    """Whether a slash in this path, the first aside, may be part of a group's name."""
    return "~/" in path or any(path == group.path or path.startswith(f"{group.path}/") for group in slashed)


def _read(group: Any) -> Group | None:
    """The group that Keycloak shows, or None if this is none.

    Raises:
        CallFailed: It is shown without its roles.
    """
    match group:
        case {"id": str(found), "name": str(name), "path": str(path)}:
            pass
        case _:
            return None
    match group:
        case {"realmRoles": list(realm_roles), "clientRoles": dict(client_roles)}:
            pass
        case _:
            # Keycloak 26.8, by its notes, leaves them out for whoever may not see them. That is not the same as having none.
            detail = "Keycloak shows a group without its roles: give the client a right to view groups"
            failure = Failure(blame=Blame.LOCAL, status=200, detail=detail)
            raise CallFailed(Defer(reason=Reason.ROLES_UNREADABLE, failure=failure))
    parent = group.get("parentId")
    return Group(
        id=found,
        name=name,
        path=path,
        parent=parent if isinstance(parent, str) else None,
        realm_roles=tuple(map(str, realm_roles)),
        clients=frozenset(client_roles),
    )


def _ambiguous(
    why: str = "the path may mean several groups, because the name of one holds a slash",
) -> DeadLetter:
    detail = f"{why}: rename one, so that it is clear which of them is meant"
    return DeadLetter(reason=Reason.GROUP_AMBIGUOUS, failure=Failure(blame=Blame.USER, detail=detail))
