"""The directories behind one realm's users: can they be seen now, and is it one of them that a call has failed for?

Keycloak says little of a directory that is away: a user whom it has never imported is not there, an imported one is shown
as disabled, and a call about one is a 500, a 400 or takes as long as the federation's timeouts (measured with 26.7.4,
docs/reference/user-federations.md). With `manage-users` alone there are two ways to know more, and both are used here:

- A user named in KCSYNC_FEDERATION_PROBES stands for the realm's directory. Their credentials are read before anything is
  made of an absence, and before a create.
- After a call has failed, the user it was about: one with a `federationLink` whose credentials cannot be read, while
  Keycloak itself answers. That costs requests only where something has failed.

A directory that hangs slows down calls about others, too. For as long as it does, creates wait, and calls about its users
do; of whom it is not known where they come from, one quick read tells.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from typing import Any, Final

from consumer.delivery.errors import CallFailed, NotCalled
from consumer.delivery.federation import federation_in, federation_of, ids_of, may_be_shown_by_outage, one_of
from consumer.delivery.lookups import RealmLookups
from consumer.delivery.outcome import Blame, Defer, Failure, NotDelivered, Reason, Retry
from consumer.delivery.transport import CallScope, current_scope

__all__ = ["Directories"]

IMPOSSIBLE_USERNAME: Final = "<kcsync looks for a directory>"
"""Keycloak's profile validation refuses the brackets, so nobody can bear this name; each directory is asked for it."""

_AT_ONCE: Final = 0.5
"""Seconds within which a well Keycloak reads a user of its own by id."""
_PATIENCE: Final = 2.0
"""Seconds after which a directory counts as one that hangs."""
_REST: Final = 5.0
"""Seconds for which a directory that hangs is not asked again."""
_MOST: Final = 100_000

_MAY_BE_A_DIRECTORY: Final = frozenset(
    {
        Reason.BAD_GATEWAY,
        Reason.SERVER_ERROR,
        Reason.TIMEOUT,
        Reason.UNEXPLAINED_REFUSAL,
        Reason.USER_READ_ONLY,
    }
)
_MAY_BE_A_REFUSAL: Final = frozenset({Reason.SERVER_ERROR, Reason.UNEXPLAINED_REFUSAL})
_MAY_BE_A_HANG: Final = frozenset({Reason.BAD_GATEWAY, Reason.TIMEOUT, Reason.UNEXPLAINED_REFUSAL})


class _State(Enum):
    UP = auto()
    DOWN = auto()
    DISABLED = auto()


class Directories:
    """The directories behind one realm's users.

    Args:
        look: Reads the realm.
        probes: Username keys of users of the realm's directories, one of each.

    Attributes:
        lookups: Those reads.
    """

    def __init__(self, look: RealmLookups, probes: Iterable[str] = ()) -> None:
        self.lookups = self._look = look
        self._probes = [_Probe(self, name) for name in sorted(probes)]
        self._seen: OrderedDict[str, str | None] = OrderedDict()
        self._hanging = False
        self._searches_fail = False
        self._rests_until = float("-inf")
        self._asking = asyncio.Lock()

    @property
    def probed(self) -> bool:
        """Whether a user is named whose credentials tell how the directory is."""
        return bool(self._probes)

    # What is known of users

    def learn(self, user: Any) -> None:
        """Remember where a user comes from whose representation was read for another reason."""
        if not isinstance(user, dict) or not isinstance(user_id := user.get("id"), str):
            return
        self._seen.pop(user_id, None)
        self._seen[user_id] = federation_of(user)
        if len(self._seen) > _MOST:
            self._seen.popitem(last=False)

    def known_of(self, user_id: str) -> str | None:
        """The federation a user comes from, as far as it was seen."""
        return federation_in(user_id) or self._seen.get(user_id)

    async def of(self, user_id: str) -> str | None:
        """The federation a user comes from; None for one of Keycloak's own.

        In a realm without a probe only what is known anyway is said: nothing is read for it.

        Raises:
            CallFailed: The user could not be read.
        """
        if user_id not in self._seen and self.probed and federation_in(user_id) is None:
            self.learn({**await self._look.user(user_id), "id": user_id})
        return self.known_of(user_id)

    # Whether something may be asked, or believed

    async def ensure_seen(self) -> None:
        """Let pass while the realm's directories can be seen, by what its probes answer from now on.

        Raises:
            CallFailed: One cannot (deferred), or Keycloak did not say.
        """
        for probe in self._probes:
            await probe.ensure_up()

    async def ensure_gone(self, federation: str) -> None:
        """Let pass if a user whom a federation stores is gone for good, where no probe tells.

        Raises:
            CallFailed: The federation is there: its directory may be away, or it may be disabled (deferred).
        """
        name = await self._look.federation_name(federation)
        if name is not None:
            detail = (
                f"whether federation {name} has lost this user or cannot show them cannot be told: name a user of it in "
                "KCSYNC_FEDERATION_PROBES"
            )
            raise CallFailed(_waits(Reason.DIRECTORY_UNAVAILABLE, detail))

    async def ensure_believable(self, user_id: str, user: Mapping[str, Any]) -> None:
        """Let pass if what is shown of a user is a fact, and not what an outage of their directory shows.

        Raises:
            CallFailed: It may not be (deferred), or Keycloak did not say.
        """
        federation = federation_of({**user, "id": user_id})
        if federation is not None and may_be_shown_by_outage({**user, "id": user_id}):
            await self.ensure_up(user_id, federation)

    async def ensure_up(self, user_id: str, federation: str) -> None:
        """Let pass while the directory of a federated user can be seen.

        Raises:
            CallFailed: It cannot (deferred), or Keycloak did not say.
        """
        state = await self._state_of(user_id)
        if state is not _State.UP:
            raise CallFailed(await self._trouble_of(federation, state))

    async def admit_create(self) -> None:
        """Let a create pass, unless a directory hangs or cannot be seen: it may have this name or address.

        Raises:
            CallFailed: One does (deferred), or Keycloak did not say.
        """
        if await self._still_hangs():
            raise CallFailed(_hangs())
        await self.ensure_seen()

    async def admit_search(self) -> None:
        """Let a search by name pass, unless a directory hangs for longer than a call may take.

        Raises:
            CallFailed: One does (deferred).
        """
        if self._searches_fail and await self._still_hangs():
            raise CallFailed(_hangs())

    async def admit(self, user_id: str) -> None:
        """Let a call about a user pass, unless their directory hangs.

        Raises:
            CallFailed: It does (deferred), or Keycloak did not say.
        """
        if not self._hanging or not await self._still_hangs():
            return
        if federation_in(user_id) is None and user_id not in self._seen:
            try:
                with _limited(_AT_ONCE):
                    self.learn({**await self._look.user(user_id), "id": user_id})
            except CallFailed as failed:
                if failed.outcome.reason is Reason.TIMEOUT:
                    raise CallFailed(_hangs()) from None
                raise
        if self.known_of(user_id) is not None:
            raise CallFailed(_hangs())

    # What a failure was about

    async def explained(self, failed: CallFailed, username_key: str, user_id: str | None) -> CallFailed:
        """Say of a failed delivery whether a directory is to blame; any other stays as it is.

        Args:
            failed: What the delivery came to.
            username_key: Whose it was.
            user_id: Keycloak's id of the user, if it is known.
        """
        outcome = failed.outcome
        if outcome.reason not in _MAY_BE_A_DIRECTORY:
            return failed
        try:
            trouble = await self._behind(outcome, username_key, user_id)
        except (CallFailed, NotCalled):
            # Keycloak itself does not answer as it should.
            return failed
        if trouble is None:
            return failed
        detail = f"{outcome.failure.detail}; {trouble.failure.detail}"
        failure = replace(outcome.failure, blame=trouble.failure.blame, detail=detail)
        return CallFailed(replace(trouble, failure=failure))

    async def _behind(
        self, outcome: NotDelivered, username_key: str, user_id: str | None
    ) -> NotDelivered | None:
        with _limited(_AT_ONCE):
            await self._look.nobody()
        if outcome.reason in _MAY_BE_A_HANG and await self._hangs():
            self._hanging, self._rests_until = True, _now() + _REST
            self._searches_fail = self._searches_fail or outcome.reason is not Reason.UNEXPLAINED_REFUSAL
            return _hangs()
        user_id = user_id or await self._id_of(username_key)
        if user_id is None:
            return None
        federation = federation_in(user_id)
        if federation is None:
            user = await self._look.user(user_id)
            federation = federation_of(user)
            self.learn({**user, "id": user_id})
        if federation is None:
            return None
        state = await self._state_of(user_id)
        if state is not _State.UP:
            return await self._trouble_of(federation, state)
        return await self._refused_by(federation) if outcome.reason in _MAY_BE_A_REFUSAL else None

    async def _refused_by(self, federation: str) -> Retry:
        """Neither done nor explained about one user of a directory, while that and Keycloak answer: it is not taken.

        It may be Keycloak's database all the same; so it is charged only where writes are seen to work.
        """
        name = await self._look.federation_name(federation) or federation
        detail = (
            f"Keycloak and the directory of user federation {name} answer, and this change of its user fails: see whether "
            "the directory takes it from Keycloak's account, and Keycloak's log; for users whom a federation does not import, "
            "Keycloak keeps no groups, roles, attributes or required actions"
        )
        return Retry(reason=Reason.DIRECTORY_REFUSED, failure=Failure(blame=Blame.UNCLEAR, detail=detail))

    async def _id_of(self, username_key: str) -> str | None:
        return one_of(ids_of(await self._look.search(username=username_key), username_key))

    async def _trouble_of(self, federation: str, state: _State) -> Defer:
        name = await self._look.federation_name(federation) or federation
        if state is _State.DISABLED:
            return _waits(
                Reason.FEDERATION_DISABLED,
                f"user federation {name} is disabled, and Keycloak lets nobody change its users: enable it",
            )
        return _waits(
            Reason.DIRECTORY_UNAVAILABLE, f"the directory of user federation {name} does not answer"
        )

    async def _state_of(self, user_id: str) -> _State:
        """How the directory of a federated user is."""
        try:
            with _limited(_PATIENCE):
                found = await self._look.credentials(user_id)
        except CallFailed as failed:
            if failed.outcome.reason not in {Reason.SERVER_ERROR, Reason.TIMEOUT}:
                raise
            await self._look.nobody()
            return _State.DOWN
        if any(isinstance(each, dict) and each.get("federationLink") for each in found):
            return _State.UP
        # One without a password in the directory is shown as enabled while it is there.
        if (await self._look.user(user_id)).get("enabled") is True:
            return _State.UP
        if await self._look.credential_types_of_directory(user_id):
            return _State.UP
        return _State.DISABLED

    async def _still_hangs(self) -> bool:
        """Whether a directory that hung still does; asked by one for all, and not before `_REST` is over."""
        if not self._hanging:
            return False
        async with self._asking:
            if self._hanging and _now() >= self._rests_until:
                self._hanging = await self._hangs()
                self._searches_fail = self._searches_fail and self._hanging
                self._rests_until = _now() + _REST
            return self._hanging

    async def _hangs(self) -> bool:
        """Whether a search by name, which asks every directory, is slow twice, and a read that asks none at once twice."""
        for _ in range(2):
            if await _seconds(self._look.nobody) >= _AT_ONCE:
                return False
            if await _seconds(partial(self._look.search, username=IMPOSSIBLE_USERNAME)) < _AT_ONCE:
                return False
        return True


class _Probe:
    """A user of a directory who stands for it.

    Attributes:
        name: The username key. It is never shown.
    """

    def __init__(self, directories: Directories, name: str) -> None:
        self.name = name
        self._directories = directories
        self._user_id: str | None = None
        self._asking = asyncio.Lock()
        self._began = float("-inf")
        self._said: NotDelivered | None = None

    async def ensure_up(self) -> None:
        """Let pass if the directory answers from now on; callers at once share an answer.

        Raises:
            CallFailed: It does not, or Keycloak did not say.
        """
        came = _now()
        async with self._asking:
            if self._began < came:
                began = _now()
                self._said = await self._ask()
                self._began = began
            if self._said is not None:
                raise CallFailed(self._said)

    async def _ask(self) -> NotDelivered | None:
        try:
            await self._look_at_it()
        except CallFailed as failed:
            return failed.outcome
        return None

    async def _look_at_it(self) -> None:
        directories = self._directories
        if self._user_id is None:
            self._user_id = await self._find()
        federation = await directories.of(self._user_id)
        if federation is None:
            raise CallFailed(
                _waits(
                    Reason.DIRECTORY_UNAVAILABLE,
                    "the user that KCSYNC_FEDERATION_PROBES names comes from no federation: name one who does",
                )
            )
        try:
            await directories.ensure_up(self._user_id, federation)
        except CallFailed as failed:
            if failed.outcome.reason is Reason.USER_MISSING:
                # Imported again, they have another id; not imported, they cannot be seen.
                self._user_id = None
                raise CallFailed(_not_seen()) from None
            raise

    async def _find(self) -> str:
        look = self._directories.lookups
        try:
            with _limited(_PATIENCE):
                found = await look.search(username=self.name)
        except CallFailed as failed:
            if failed.outcome.reason is not Reason.TIMEOUT:
                raise
            await look.nobody()
            raise CallFailed(_not_seen()) from None
        for user in found:
            self._directories.learn(user)
        user_id = one_of(ids_of(found, self.name))
        if user_id is None:
            raise CallFailed(_not_seen())
        return user_id


async def _seconds(ask: Callable[[], Awaitable[object]]) -> float:
    """How long a request takes from leaving on, `_PATIENCE` at most."""
    scope = _limited(_PATIENCE)
    try:
        with scope:
            await ask()
    except CallFailed as failed:
        if failed.outcome.reason is not Reason.TIMEOUT:
            raise
        return _PATIENCE
    return _now() - scope.left_at


@dataclass(slots=True)
class _Limited(CallScope):
    """The scope in force, with less time for each request; the limit of calls learns nothing of these.

    Attributes:
        left_at: When the last request left: waiting for a slot is no slowness of Keycloak.
    """

    left_at: float = float("inf")

    def leave(self) -> None:
        CallScope.leave(self)
        self.left_at = _now()


def _limited(seconds: float) -> _Limited:
    scope = current_scope()
    return _Limited(scope.before_call, min(seconds, scope.timeout_seconds), scope.slots)


def _now() -> float:
    """Seconds that never go back."""
    return asyncio.get_running_loop().time()


def _waits(reason: Reason, detail: str) -> Defer:
    return Defer(reason=reason, failure=Failure(blame=Blame.FEDERATION, detail=detail))


def _hangs() -> Defer:
    return _waits(
        Reason.DIRECTORY_UNAVAILABLE,
        "a directory of this realm does not answer: Keycloak waits for it in every search by name and every create",
    )


def _not_seen() -> Defer:
    return _waits(
        Reason.DIRECTORY_UNAVAILABLE,
        "the user that KCSYNC_FEDERATION_PROBES names is not to be seen: the directory is away, its federation disabled, or "
        "there is no such user",
    )
