"""Keycloak, as this process knows it: one client, several realms."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consumer.delivery.answer import Operation, TransportCause
from consumer.delivery.classify import classify_silence, refuses_writes
from consumer.delivery.connection import RealmConnection, answer_of
from consumer.delivery.errors import CallFailed
from consumer.delivery.keycloak_clock import KeycloakClock
from consumer.delivery.naming import Naming
from consumer.delivery.outcome import Blame, Defer, Failure, NotDelivered, Reason
from consumer.delivery.presence import Sighting, discovery_url, sighting_of_answer, sighting_of_silence
from consumer.delivery.together import current_seat
from consumer.delivery.transport import CallScope, KeycloakSender, NoAnswer
from consumer.delivery.users import RealmUsers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from consumer.delivery.transport import CallWatch

CONTROL_TIMEOUT_SECONDS = 5.0
"""A control call that takes longer, token included, counts as failed."""

LOOK_TIMEOUT_SECONDS = 2.0
"""Whoever has not shown a public document by then is asked again a moment later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResult:
    """How a control call went.

    Attributes:
        realm: The realm asked.
        began: When it began, by the monotonic clock, in seconds.
        ended: When it ended, by the same clock.
        trouble: What went wrong, or None if the realm answered as it should.
    """

    realm: str
    began: float
    ended: float
    trouble: NotDelivered | None

    @property
    def ok(self) -> bool:
        """Whether Keycloak answered, knew us and let us read."""
        return self.trouble is None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmanagedAttributes:
    """What a realm does with attributes that its user profile does not declare.

    Attributes:
        realm: The realm.
        policy: Keycloak's word for it: `ENABLED`, `ADMIN_EDIT`, `ADMIN_VIEW`, or None for none of them.
        not_editable: Names of attributes that it declares and lets administrators not edit.
        trouble: Why that could not be read, else None.
    """

    realm: str
    policy: str | None
    not_editable: tuple[str, ...] = ()
    trouble: NotDelivered | None

    @property
    def advice(self) -> str | None:
        """What to do about it; None where such attributes are kept."""
        if self.trouble is not None:
            return (
                f"whether realm {self.realm} keeps attributes that its user profile does not declare cannot be read "
                f"({self.trouble.failure.detail}): look at Unmanaged Attributes in its settings"
            )
        if self.policy in {"ENABLED", "ADMIN_EDIT"}:
            if not self.not_editable:
                return None
            return (
                f"realm {self.realm} lets administrators not edit {', '.join(self.not_editable)}: a create drops such an "
                "attribute without a word, an update that names it is refused"
            )
        return (
            f"realm {self.realm} drops attributes that its user profile does not declare, without a word: declare those that "
            "events name, or set unmanagedAttributePolicy to ADMIN_EDIT (Realm settings, General, Unmanaged Attributes: "
            "Only administrators can write)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationSight:
    """What can be told of a realm's user federations, and of their directories.

    Attributes:
        realm: The realm.
        listed: The federations, each with its edit mode; None where they may not be listed.
        probed: Whether a user is named who tells whether their directories can be seen.
        trouble: Why that user cannot be seen, or why nothing could be asked, else None.
    """

    realm: str
    listed: tuple[str, ...] | None
    probed: bool
    trouble: NotDelivered | None

    @property
    def found(self) -> str:
        """In a few words."""
        names = "not to be listed" if self.listed is None else ", ".join(self.listed) or "none"
        if not self.probed:
            return names
        return f"{names}; probe {'seen' if self.trouble is None else self.trouble.reason}"

    @property
    def is_wrong(self) -> bool:
        """Whether something keeps users waiting, or will let them be taken for missing."""
        return (self.probed and self.trouble is not None) or (bool(self.listed) and not self.probed)

    @property
    def advice(self) -> str | None:
        """What to do about it; None where nothing is to be done."""
        realm = self.realm
        if self.probed:
            if self.trouble is None:
                return None
            return f"realm {realm}: users who are not found, and creates, wait: {self.trouble.failure.detail}"
        if self.listed == ():
            return None
        while_away = (
            "while its directory is away, users who are not found are taken for missing, and creates may take the names of "
            f"people in it: name one user of the directory in KCSYNC_FEDERATION_PROBES ({realm}=username)"
        )
        if self.listed:
            return f"realm {realm} has users of a directory ({', '.join(self.listed)}); {while_away}"
        return f"whether realm {realm} has a user federation (LDAP) cannot be told without view-realm; if it has, {while_away}"


class Keycloak:
    """The connections of this process to one Keycloak. Build it inside the running event loop; close it.

    Args:
        url: Base URL, such as `https://sso.example.org` or `https://example.org/auth`.
        realms: The realms served.
        client_id: The service client; each realm has one of this name.
        client_secret: Its secret. It is never shown.
        timeout_seconds: Limit of one call as a whole. A third of it is left for connecting.
        max_calls: Calls under way at a time, all realms together. Further ones wait for a free slot before they start.
        control_timeout_seconds: Limit of a control call, token included.
        ssl_context: Trust and client certificate; None means the system's trust.
        protect_role_holders: Whether holders of realm-management roles are looked up and never touched.
        bulk_creates: Whether users whose deliveries run together are created in one call.
        federation_probes: By realm, username keys of users of its directories, who tell whether these can be seen.
        monotonic: Seconds that never go back, for `ControlResult`.

    Attributes:
        clock: What is known of Keycloak's own clock.
    """

    def __init__(
        self,
        *,
        url: str,
        realms: Iterable[str],
        client_id: str,
        client_secret: str,
        timeout_seconds: float = 10.0,
        max_calls: int = 16,
        control_timeout_seconds: float = CONTROL_TIMEOUT_SECONDS,
        ssl_context: ssl.SSLContext | None = None,
        protect_role_holders: bool = False,
        bulk_creates: bool = False,
        federation_probes: Mapping[str, Iterable[str]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = KeycloakClock()
        self._timeout_seconds = timeout_seconds
        self._control_timeout_seconds = control_timeout_seconds
        self._monotonic = monotonic
        self._url = url.rstrip("/") + "/"
        self._slots = asyncio.Semaphore(max_calls)
        names = frozenset(realms)
        context = ssl_context or ssl.create_default_context()
        # Beside the slots, each realm may have one token request and one control call under way, and there is `look`.
        self._sender = KeycloakSender(
            ssl_context=context,
            max_connections=max_calls + 2 * len(names) + 1,
            connect_seconds=timeout_seconds / 3,
        )
        self._connections = {
            realm: RealmConnection(
                url=self._url,
                realm=realm,
                client_id=client_id,
                client_secret=client_secret,
                sender=self._sender,
                token_timeout_seconds=timeout_seconds,
                clock=self.clock,
                ssl_context=context,
            )
            for realm in names
        }
        self._users = {
            realm: RealmUsers(
                connection,
                realm,
                clock=self.clock,
                protect_role_holders=protect_role_holders,
                bulk_creates=bulk_creates,
                probes=(federation_probes or {}).get(realm, ()),
            )
            for realm, connection in self._connections.items()
        }
        self._control_slots = {realm: asyncio.Semaphore(1) for realm in names}

    def users(self, realm: str) -> RealmUsers:
        """Return a realm's users.

        Raises:
            CallFailed: The realm is not served here.
        """
        if (users := self._users.get(realm)) is not None:
            return users
        detail = f"realm {realm!r} is not among the realms served: add it to KCSYNC_KEYCLOAK_REALMS"
        failure = Failure(blame=Blame.CONFIGURATION, detail=detail)
        raise CallFailed(Defer(reason=Reason.REALM_NOT_SERVED, failure=failure))

    def calls(self, before_call: Callable[[], None], watch: CallWatch | None = None) -> CallScope:
        """Let the calls made inside its block share the slots, each checked by `before_call` as it leaves.

        Those of deliveries that run together share their own. `watch` is told of each.
        """
        seat = current_seat()
        slots = self._slots if seat is None else seat.slots
        return CallScope(before_call, self._timeout_seconds, slots, watch)

    async def control_call(self, realm: str) -> ControlResult:
        """Ask the realm something cheap that needs everything: network, Keycloak, its database, token and role.

        It reads a user who cannot exist, by id, and asks for one who cannot be created: reading alone would leave users
        to blame for a role that is missing (docs/decisions/0033), and a search by name would ask the directories of the
        realm's user federations as well (docs/decisions/0054). It has slots and a limit of its own, so that neither slow
        deliveries nor a slow Keycloak hold it up.
        """
        began = self._monotonic()
        trouble = await self._trouble(realm, Operation.CONTROL, _look_and_ask_to_write)
        return ControlResult(realm=realm, began=began, ended=self._monotonic(), trouble=trouble)

    async def look(self, realm: str) -> Sighting:
        """Look whether Keycloak is there, by a document that it shows to everybody: no token, and nothing in a trace.

        One at a time has its own connection beside those of the calls.
        """
        try:
            response = await self._sender.glance(
                discovery_url(self._url, realm), seconds=LOOK_TIMEOUT_SECONDS
            )
        except NoAnswer as lost:
            return sighting_of_silence(lost.cause)
        return sighting_of_answer(realm, answer_of(response), datetime.now(UTC))

    async def write_check(self, realm: str) -> ControlResult:
        """Write something that stands for no user; it shows whether Keycloak's database takes writes.

        All tokens of our client are void afterwards: for where writes are in doubt, not for every control call
        (docs/decisions/0049).
        """
        began = self._monotonic()
        trouble = await self._trouble(realm, Operation.WRITE_CHECK, RealmUsers.look_whether_writes_work)
        if trouble is not None:
            trouble = refuses_writes(trouble)
        return ControlResult(realm=realm, began=began, ended=self._monotonic(), trouble=trouble)

    async def roles_trouble(self, realm: str) -> NotDelivered | None:
        """Say why it cannot be read who holds roles of realm-management; None if it can."""
        return await self._trouble(realm, Operation.ROLES, RealmUsers.look_at_roles)

    async def bulk_trouble(self, realm: str) -> NotDelivered | None:
        """Say why it cannot be read what new users of a realm are given; None if it can."""
        return await self._trouble(realm, Operation.NEW_USER_RULES, RealmUsers.new_user_rules)

    async def grants_trouble(self, realm: str) -> NotDelivered | None:
        """Say why realm roles, and required actions that not every Keycloak has, cannot be given; None if they can."""
        return await self._trouble(realm, Operation.ACTIONS, lambda users: users.grants.look_at_roles())

    async def user_federations(self, realm: str) -> FederationSight:
        """Look what can be told of the realm's user federations, and whether its probes can be seen."""
        listed: tuple[str, ...] | None = None
        probed = False

        async def look(users: RealmUsers) -> None:
            nonlocal listed, probed
            probed = users.directories.probed
            listed = await users.user_federations()
            await users.directories.ensure_seen()

        trouble = await self._trouble(realm, Operation.FEDERATIONS, look)
        return FederationSight(realm=realm, listed=listed, probed=probed, trouble=trouble)

    async def unmanaged_attributes(self, realm: str) -> UnmanagedAttributes:
        """Read what the realm does with attributes that its user profile does not declare."""
        policy: str | None = None
        not_editable: tuple[str, ...] = ()

        async def read(users: RealmUsers) -> None:
            nonlocal policy, not_editable
            rules = await users.profile_rules()
            policy = rules.policy
            not_editable = rules.not_editable

        trouble = await self._trouble(realm, Operation.PROFILE, read)
        return UnmanagedAttributes(realm=realm, policy=policy, not_editable=not_editable, trouble=trouble)

    async def naming(self, realm: str) -> Naming:
        """Read how usernames change in the realm, as far as the realm itself says it."""
        known = Naming(by_address=None, by_hand=None)

        async def read(users: RealmUsers) -> None:
            nonlocal known
            known = await users.naming.of_realm()

        await self._trouble(realm, Operation.REALM, read)
        return known

    async def _trouble(
        self, realm: str, operation: Operation, ask: Callable[[RealmUsers], Awaitable[object]]
    ) -> NotDelivered | None:
        try:
            users = self.users(realm)
            with CallScope(_nothing, self._control_timeout_seconds, self._control_slots[realm]):
                async with asyncio.timeout(self._control_timeout_seconds):
                    await ask(users)
        except CallFailed as failed:
            return failed.outcome
        except TimeoutError:
            return classify_silence(operation, TransportCause.TIMEOUT)
        return None

    async def aclose(self) -> None:
        """Close every connection. Calls under way fail."""
        for connection in self._connections.values():
            await connection.aclose()
        await self._sender.aclose()


async def _look_and_ask_to_write(users: RealmUsers) -> None:
    await users.look_for_nobody()
    await users.look_whether_we_may_write()


def _nothing() -> None:
    pass
