"""What a realm's directories cost, and what their probes decide, on a scripted Keycloak."""

from __future__ import annotations

from asyncio import gather
from typing import TYPE_CHECKING, Any

import pytest

from consumer.delivery.credential import set_password
from consumer.delivery.errors import CallFailed
from consumer.delivery.opened import Hashed
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Failure, NotDelivered, Reason, Retry
from producer_lib import PrehashedPassword
from tests.unit.delivery.local_server import answering
from tests.unit.delivery.scripted_keycloak import USERS, Script, scripted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from consumer.delivery.users import RealmUsers
    from tests.unit.delivery.local_server import Request, Respond

FIND, CREATE = f"GET {USERS}", f"POST {USERS}"
CREDENTIALS = f"GET {USERS}/p1/credentials"
NOBODY = (f"GET {USERS}/kcsync-nobody", 404, {"error": "User not found"})
BROKEN = {"error": "unknown_error"}
PROBE = {"id": "p1", "username": "probe", "federationLink": "dir1", "enabled": True}
ANN = {"id": "a1", "username": "ann", "federationLink": "dir1", "enabled": True}
IN_DIRECTORY = [{"type": "password", "createdDate": -1, "federationLink": "dir1"}]
NAME = ("GET /admin/realms/shop/user-storage/dir1/name", 200, {"name": "office"})
DETAIL = "user update: HTTP 500"


def by_name(**found: list[Any]) -> Respond:
    """A search that finds these by username, and nobody else."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        named = [users for name, users in found.items() if f"username={name}&" in request.target]
        await answering(200, named[0] if named else [])(request, writer)

    return answer


async def with_users(
    script: Script, act: Callable[[RealmUsers], Awaitable[Any]], *, probe: str | None = "probe"
) -> Any:
    probes = {} if probe is None else {"shop": [probe]}
    async with scripted(script, federation_probes=probes) as (keycloak, _):
        with keycloak.calls(lambda: None):
            return await act(keycloak.users("shop"))


async def refusal(
    script: Script, act: Callable[[RealmUsers], Awaitable[Any]], *, probe: str | None = "probe"
) -> NotDelivered:
    with pytest.raises(CallFailed) as failed:
        await with_users(script, act, probe=probe)
    return failed.value.outcome


class TestARealmWithoutAProbe:
    async def test_costs_no_request_more(self) -> None:
        script = Script().on(FIND, 200, []).on(CREATE, 201).on(f"DELETE {USERS}/0b5c", 204)
        script.on(f"PUT {USERS}/0b5c", 204).on(f"PUT {USERS}/0b5c/reset-password", 204)

        async def everything(users: RealmUsers) -> None:
            await users.find("alice", known_id="0b5c")
            await users.create({"username": "alice"})
            await users.update("0b5c", {"enabled": True})
            await users.set_password("0b5c", "secret", temporary=False)
            await users.delete("0b5c")

        await with_users(script, everything, probe=None)

        assert len(script.calls) == 5

    @pytest.mark.parametrize(("status", "gone"), [(200, False), (404, True)])
    async def test_takes_who_was_not_imported_for_gone_only_with_the_federation(
        self, status: int, *, gone: bool
    ) -> None:
        script = Script().on(FIND, 200, [])
        script.on("GET /admin/realms/shop/user-storage/dir1/name", status, {"name": "office"})

        async def find(users: RealmUsers) -> None:
            assert await users.find("ann", known_id="f:dir1:Ann") is None

        if gone:
            await with_users(script, find, probe=None)
        else:
            outcome = await refusal(script, find, probe=None)
            assert (outcome.reason, outcome.failure.blame) == (
                Reason.DIRECTORY_UNAVAILABLE,
                Blame.FEDERATION,
            )


class TestAProbe:
    async def test_that_is_seen_makes_an_absence_one(self) -> None:
        script = Script().does(FIND, by_name(probe=[PROBE])).on(CREDENTIALS, 200, IN_DIRECTORY)

        assert await with_users(script, lambda users: users.find("ann")) is None

        # Between two good answers of the probe.
        assert script.calls == [FIND, FIND, CREDENTIALS, FIND, CREDENTIALS]

    async def test_is_not_asked_about_who_is_found(self) -> None:
        script = Script().does(FIND, by_name(ann=[ANN]))

        assert await with_users(script, lambda users: users.find("ann")) == "a1"

        assert script.calls == [FIND]

    @pytest.mark.parametrize("act", ["find", "create"])
    @pytest.mark.parametrize(
        ("search", "status", "body", "reason"),
        [
            ([PROBE], 500, BROKEN, Reason.DIRECTORY_UNAVAILABLE),
            ([PROBE], 200, [], Reason.FEDERATION_DISABLED),
            ([PROBE], 404, {"error": "User not found"}, Reason.DIRECTORY_UNAVAILABLE),
            ([], 200, IN_DIRECTORY, Reason.DIRECTORY_UNAVAILABLE),
            ([{"id": "p1", "username": "probe"}], 200, [], Reason.DIRECTORY_UNAVAILABLE),
        ],
    )
    async def test_that_is_not_seen_as_it_should_lets_nothing_pass(
        self, act: str, search: list[Any], status: int, body: object, reason: Reason
    ) -> None:
        script = Script().does(FIND, by_name(probe=search)).on(CREDENTIALS, status, body)
        script.on(*NOBODY).on(*NAME).on(f"GET {USERS}/p1", 200, {**PROBE, "enabled": False})
        script.on(f"GET {USERS}/p1/configured-user-storage-credential-types", 200, [])

        outcome = await refusal(
            script, lambda users: users.find("ann") if act == "find" else users.create({"username": "ann"})
        )

        assert isinstance(outcome, Defer)
        assert (outcome.reason, outcome.failure.blame) == (reason, Blame.FEDERATION)
        assert "probe" not in outcome.failure.detail.replace("PROBES", "")
        assert CREATE not in script.calls

    async def test_that_fails_with_keycloak_blames_keycloak(self) -> None:
        script = Script().does(FIND, by_name(probe=[PROBE])).on(CREDENTIALS, 500, BROKEN)
        script.on(NOBODY[0], 500, BROKEN)

        outcome = await refusal(script, lambda users: users.find("ann"))

        assert (outcome.reason, outcome.failure.blame) == (Reason.SERVER_ERROR, Blame.KEYCLOAK)

    async def test_is_asked_once_for_creates_at_the_same_time(self) -> None:
        script = (
            Script().does(FIND, by_name(probe=[PROBE])).on(CREDENTIALS, 200, IN_DIRECTORY).on(CREATE, 201)
        )

        async def create(users: RealmUsers) -> None:
            await gather(*(users.create({"username": f"u{n}"}) for n in range(8)))

        await with_users(script, create)

        assert script.calls.count(CREDENTIALS) <= 2
        assert script.calls.count(CREATE) == 8


class TestAFailure:
    async def explained(self, script: Script, reason: Reason, user_id: str | None = "a1") -> NotDelivered:
        failure = Failure(blame=Blame.KEYCLOAK, status=500, ambiguous=True, detail=DETAIL)
        outcome = Retry(reason=reason, failure=failure)

        async def explain(users: RealmUsers) -> CallFailed:
            return await users.directories.explained(CallFailed(outcome), "ann", user_id)

        said: CallFailed = await with_users(script, explain, probe=None)
        return said.outcome

    def of_ann(self, *, credentials: int = 500) -> Script:
        script = Script().on(*NOBODY).on(*NAME).does(FIND, by_name(ann=[ANN])).on(f"GET {USERS}/a1", 200, ANN)
        return script.on(f"GET {USERS}/a1/credentials", credentials, IN_DIRECTORY)

    @pytest.mark.parametrize("user_id", ["a1", None])
    async def test_of_a_user_whose_directory_is_away_is_the_directorys(self, user_id: str | None) -> None:
        outcome = await self.explained(self.of_ann(), Reason.SERVER_ERROR, user_id)

        assert isinstance(outcome, Defer)
        assert (outcome.reason, outcome.failure.blame) == (Reason.DIRECTORY_UNAVAILABLE, Blame.FEDERATION)
        # What may have been done may have been done all the same.
        assert outcome.failure.ambiguous
        assert outcome.failure.detail.startswith(DETAIL)
        assert "office" in outcome.failure.detail

    @pytest.mark.parametrize("reason", [Reason.SERVER_ERROR, Reason.UNEXPLAINED_REFUSAL])
    async def test_of_a_user_whose_directory_answers_is_the_changes(self, reason: Reason) -> None:
        outcome = await self.explained(self.of_ann(credentials=200), reason)

        assert isinstance(outcome, Retry)
        assert (outcome.reason, outcome.failure.blame) == (Reason.DIRECTORY_REFUSED, Blame.UNCLEAR)

    async def test_that_says_why_of_a_user_whose_directory_answers_stays_what_it_is(self) -> None:
        outcome = await self.explained(self.of_ann(credentials=200), Reason.USER_READ_ONLY)

        assert outcome.reason is Reason.USER_READ_ONLY

    async def test_of_one_of_keycloaks_own_costs_two_reads_and_stays(self) -> None:
        script = Script().on(*NOBODY).on(f"GET {USERS}/a1", 200, {"id": "a1", "username": "ann"})

        outcome = await self.explained(script, Reason.SERVER_ERROR)

        assert isinstance(outcome, Retry)
        assert len(script.calls) == 2

    async def test_while_keycloak_is_not_well_costs_one_read_and_stays(self) -> None:
        script = self.of_ann()
        script.routes[NOBODY[0]] = [answering(500, BROKEN)]

        outcome = await self.explained(script, Reason.SERVER_ERROR)

        assert isinstance(outcome, Retry)
        assert len(script.calls) == 1

    @pytest.mark.parametrize("reason", [Reason.CONNECTION_FAILED, Reason.THROTTLED, Reason.EMAIL_IN_USE])
    async def test_of_another_kind_costs_nothing(self, reason: Reason) -> None:
        script = self.of_ann()

        assert (await self.explained(script, reason)).reason is reason
        assert script.calls == []


class TestPasswords:
    async def test_a_hash_is_refused_for_a_user_of_a_directory(self) -> None:
        script = Script().on(f"GET {USERS}/a1", 200, ANN)
        password = Hashed(await PrehashedPassword.of("secret"))

        outcome = await refusal(
            script, lambda users: set_password(users, "a1", password, temporary=False, demanded=False)
        )

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.HASH_NOT_FOR_DIRECTORY
