from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.errors import LeaseTooShort
from consumer.delivery.known_user import KnownUser
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Delivered, Reason, Retry
from consumer.delivery.passwords import KeyRing, generate_key
from producer_lib import SealingKey, seal
from tests.unit.delivery.local_server import until
from tests.unit.delivery.scripted_keycloak import TOKEN_PATH, USERS, Script, scripted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from consumer.delivery.outcome import Outcome
    from tests.unit.delivery.local_server import Request

SINCE = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
PASSWORD = "correct horse"

FIND = f"GET {USERS}"
CREATE = f"POST {USERS}"
READ = f"GET {USERS}/0b5c"
UPDATE = f"PUT {USERS}/0b5c"
RESET = f"PUT {USERS}/0b5c/reset-password"
CREDENTIALS = f"GET {USERS}/0b5c/credentials"
DELETE = f"DELETE {USERS}/0b5c"

FOUND = [{"id": "0b5c", "username": "alice"}]
ALICE = {
    "id": "0b5c",
    "username": "alice",
    "email": "alice@example.org",
    "firstName": "Alice",
    "lastName": "Smith",
    "enabled": True,
    "attributes": {"team": ["blue"]},
}
BOB = [{"id": "77aa", "username": "bob"}]
NO_USER = {"error": "User not found"}
SAME_USERNAME = {"errorMessage": "User exists with same username"}
SAME_EMAIL = {"errorMessage": "User exists with same email"}
HISTORY = {"error": "invalidPasswordHistoryMessage"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    folder: Path = tmp_path_factory.mktemp("keys")
    generate_key(folder, "k1")
    return KeyRing.load(folder)


def sealed(keys: KeyRing) -> dict[str, str]:
    key = SealingKey.from_text(keys.public_keys()["k1"])
    closed = seal(PASSWORD, key=key, realm="shop", username_key="alice", event_id="e-1")
    return {"kid": closed.kid, "alg": closed.alg, "ciphertext": closed.ciphertext}


def change(
    kind: str,
    data: dict[str, Any] | None = None,
    *,
    credential: dict[str, str] | None = None,
    user_id: str | None = None,
    maybe_applied_since: datetime | None = None,
    known: KnownUser | None = None,
    realm: str = "shop",
) -> Change:
    return Change(
        event_id="e-1",
        kind=kind,
        realm=realm,
        username="Alice",
        username_key="alice",
        data=data or {},
        credential=credential,
        credential_event_id="e-1",
        known=None if known is None else lambda: known,
        user_id=user_id,
        maybe_applied_since=maybe_applied_since,
    )


def nothing() -> None:
    pass


async def deliver(
    script: Script, keys: KeyRing, what: Change, before_call: Callable[[], None] = nothing, **settings: Any
) -> Outcome:
    async with scripted(script) as (keycloak, _):
        return await Delivery(keycloak=keycloak, keys=keys, **settings).deliver(what, before_call)


class TestCreate:
    async def test_takes_the_id_from_the_answer(self, keys: KeyRing) -> None:
        location = {"Location": f"http://keycloak{USERS}/0b5c"}
        script = Script().on(CREATE, 201, headers=location)

        outcome = await deliver(
            script, keys, change("user_create", {"first_name": "Alice"}, credential=sealed(keys))
        )

        assert outcome == Delivered(reason=Reason.CREATED, user_id="0b5c", existed=False)
        assert script.bodies(CREATE) == [
            {
                "username": "alice",
                "enabled": True,
                "firstName": "Alice",
                "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
            }
        ]

    async def test_looks_the_id_up_if_the_answer_does_not_name_it(self, keys: KeyRing) -> None:
        script = Script().on(CREATE, 201).on(FIND, 200, FOUND)

        outcome = await deliver(script, keys, change("user_create"))

        assert outcome == Delivered(reason=Reason.CREATED, user_id="0b5c", existed=False)

    async def test_converges_a_user_who_is_there(self, keys: KeyRing) -> None:
        script = Script().on(CREATE, 409, SAME_USERNAME).on(FIND, 200, FOUND).on(UPDATE, 204).on(RESET, 204)
        what = change("user_create", {"last_name": "Jones"}, credential=sealed(keys))

        outcome = await deliver(script, keys, what)

        assert outcome == Delivered(reason=Reason.CONVERGED, user_id="0b5c", existed=True)
        assert script.calls == [CREATE, FIND, UPDATE, RESET]
        assert script.bodies(UPDATE) == [{"lastName": "Jones"}]
        assert script.bodies(RESET) == [{"type": "password", "value": PASSWORD, "temporary": False}]

    async def test_converging_merges_attributes(self, keys: KeyRing) -> None:
        script = (
            Script().on(CREATE, 409, SAME_USERNAME).on(FIND, 200, FOUND).on(READ, 200, ALICE).on(UPDATE, 204)
        )

        await deliver(script, keys, change("user_create", {"attributes": {"seq": ["7"]}}))

        assert script.bodies(UPDATE) == [
            {
                "username": "alice",
                "email": "alice@example.org",
                "firstName": "Alice",
                "lastName": "Smith",
                "attributes": {"team": ["blue"], "seq": ["7"]},
            }
        ]

    @pytest.mark.parametrize(
        "message", ["User exists with same email", "User exists with same username or email", "something new"]
    )
    async def test_which_conflict_it_is_does_not_matter_if_the_user_is_there(
        self, keys: KeyRing, message: str
    ) -> None:
        script = Script().on(CREATE, 409, {"errorMessage": message}).on(FIND, 200, FOUND).on(UPDATE, 204)

        outcome = await deliver(script, keys, change("user_create", {"email": "alice@example.org"}))

        assert isinstance(outcome, Delivered)
        assert outcome.reason is Reason.CONVERGED

    async def test_somebody_elses_email_is_tried_again(self, keys: KeyRing) -> None:
        script = Script().on(CREATE, 409, SAME_EMAIL).on(FIND, 200, []).on(FIND, 200, BOB)

        outcome = await deliver(script, keys, change("user_create", {"email": "taken@example.org"}))

        assert isinstance(outcome, Retry)
        assert outcome.reason is Reason.EMAIL_IN_USE
        assert outcome.failure.blame is Blame.USER
        assert outcome.failure.holder == "bob"
        assert "bob" not in repr(outcome)
        assert script.calls == [CREATE, FIND, FIND]

    async def test_an_email_that_was_freed_meanwhile_has_no_holder(self, keys: KeyRing) -> None:
        script = Script().on(CREATE, 409, SAME_EMAIL).on(FIND, 200, [])

        outcome = await deliver(script, keys, change("user_create", {"email": "freed@example.org"}))

        assert isinstance(outcome, Retry)
        assert (outcome.reason, outcome.failure.holder) == (Reason.EMAIL_IN_USE, None)

    async def test_an_email_whose_holder_cannot_be_asked_for_is_keycloaks_trouble(
        self, keys: KeyRing
    ) -> None:
        script = (
            Script().on(CREATE, 409, SAME_EMAIL).on(FIND, 200, []).on(FIND, 500, {"error": "unknown_error"})
        )

        outcome = await deliver(script, keys, change("user_create", {"email": "taken@example.org"}))

        assert isinstance(outcome, Retry)
        assert (outcome.reason, outcome.failure.ambiguous) == (Reason.SERVER_ERROR, False)

    async def test_somebody_elses_email_for_a_user_who_is_there_is_tried_again(self, keys: KeyRing) -> None:
        script = Script().on(CREATE, 409, SAME_EMAIL).on(FIND, 200, FOUND).on(UPDATE, 409, SAME_EMAIL)

        outcome = await deliver(script, keys, change("user_create", {"email": "taken@example.org"}))

        assert isinstance(outcome, Retry)
        assert outcome.reason is Reason.EMAIL_IN_USE

    async def test_a_user_who_vanished_meanwhile_is_tried_again(self, keys: KeyRing) -> None:
        script = Script().on(CREATE, 409, SAME_USERNAME).on(FIND, 200, [])

        outcome = await deliver(script, keys, change("user_create"))

        assert isinstance(outcome, Retry)
        assert outcome.reason is Reason.USERNAME_IN_USE

    async def test_a_repeated_create_recognises_its_own_password(self, keys: KeyRing) -> None:
        set_at = SINCE + timedelta(seconds=3)
        script = (
            Script()
            .on(CREATE, 409, SAME_USERNAME)
            .on(FIND, 200, FOUND)
            .on(UPDATE, 204)
            .on(RESET, 400, HISTORY)
        )
        script.on(CREDENTIALS, 200, [{"type": "password", "createdDate": int(set_at.timestamp() * 1000)}])
        what = change("user_create", credential=sealed(keys), maybe_applied_since=SINCE)

        outcome = await deliver(script, keys, what)

        expected = Delivered(reason=Reason.CONVERGED, user_id="0b5c", existed=True, credential_date=set_at)
        assert outcome == expected


class TestUpdate:
    async def test_writes_only_what_the_event_names(self, keys: KeyRing) -> None:
        script = Script().on(FIND, 200, FOUND).on(UPDATE, 204)

        outcome = await deliver(script, keys, change("user_update", {"name": "Alice van Dam"}))

        assert outcome == Delivered(reason=Reason.UPDATED, user_id="0b5c", existed=True)
        assert script.bodies(UPDATE) == [{"firstName": "Alice van", "lastName": "Dam"}]

    async def test_a_known_id_saves_the_search(self, keys: KeyRing) -> None:
        script = Script().on(UPDATE, 204)

        await deliver(script, keys, change("user_update", {"enabled": False}, user_id="0b5c"))

        assert script.calls == [UPDATE]
        assert script.bodies(UPDATE) == [{"enabled": False}]

    async def test_a_stale_id_is_looked_up_once(self, keys: KeyRing) -> None:
        script = Script().on(f"PUT {USERS}/old", 404, NO_USER).on(FIND, 200, FOUND).on(UPDATE, 204)

        outcome = await deliver(script, keys, change("user_update", {"enabled": True}, user_id="old"))

        assert outcome == Delivered(reason=Reason.UPDATED, user_id="0b5c", existed=True)

    async def test_a_missing_user_is_a_dead_letter(self, keys: KeyRing) -> None:
        outcome = await deliver(Script().on(FIND, 200, []), keys, change("user_update", {"enabled": True}))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.USER_MISSING
        assert outcome.failure.blame is Blame.USER

    async def test_a_missing_user_can_be_created_instead(self, keys: KeyRing) -> None:
        location = {"Location": f"http://keycloak{USERS}/0b5c"}
        script = Script().on(FIND, 200, []).on(CREATE, 201, headers=location)

        outcome = await deliver(
            script,
            keys,
            change("user_update", {"last_name": "Smith"}),
            creates_missing=frozenset({"user_update"}),
        )

        assert outcome == Delivered(reason=Reason.CREATED, user_id="0b5c", existed=False)
        assert script.bodies(CREATE) == [{"username": "alice", "enabled": True, "lastName": "Smith"}]

    @pytest.mark.parametrize("federated", [True, False])
    async def test_a_refusal_says_that_a_user_is_federated(self, keys: KeyRing, federated: bool) -> None:  # noqa: FBT001 - a table.
        link = {"federationLink": "f00d"} if federated else {}
        refusal = {"errorMessage": "error-user-attribute-read-only", "field": "department"}
        script = Script().on(READ, 200, {**ALICE, **link}).on(UPDATE, 400, refusal)
        what = change("user_update", {"attributes": {"department": ["x"]}}, user_id="0b5c")

        outcome = await deliver(script, keys, what)

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.ATTRIBUTE_READ_ONLY
        assert ("linked to a user federation" in outcome.failure.detail) == federated

    async def test_a_user_who_goes_between_search_and_write_is_missing(self, keys: KeyRing) -> None:
        script = Script().on(FIND, 200, FOUND).on(UPDATE, 404, NO_USER)

        outcome = await deliver(script, keys, change("user_update", {"enabled": True}))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.USER_MISSING

    async def test_an_error_text_does_not_show_the_user(self, keys: KeyRing) -> None:
        script = Script().on(UPDATE, 400, {"errorMessage": "Could not update ALICE of Wonderland"})
        what = change("user_update", {"last_name": "Wonderland"}, user_id="0b5c")

        outcome = await deliver(script, keys, what)

        assert isinstance(outcome, Retry)
        assert outcome.failure.detail == "user update: HTTP 400 Could not update … of …"


class TestPasswordChange:
    async def test_is_permanent_unless_the_event_says_otherwise(self, keys: KeyRing) -> None:
        script = Script().on(RESET, 204)
        for data in ({}, {"temporary": True}):
            outcome = await deliver(
                script, keys, change("password_change", data, credential=sealed(keys), user_id="0b5c")
            )
            assert outcome == Delivered(reason=Reason.PASSWORD_SET, user_id="0b5c", existed=True)

        assert [body["temporary"] for body in script.bodies(RESET)] == [False, True]
        assert [body["value"] for body in script.bodies(RESET)] == [PASSWORD, PASSWORD]

    @pytest.mark.parametrize(
        ("offset_seconds", "applied"),
        [
            pytest.param(5, True, id="set after the first call"),
            pytest.param(0, True, id="set at the moment of the first call"),
            pytest.param(-1, True, id="within the allowance for clocks"),
            pytest.param(-1.5, False, id="set before"),
            pytest.param(None, False, id="no password"),
        ],
    )
    async def test_a_history_refusal_after_a_lost_call_is_looked_into(
        self,
        keys: KeyRing,
        offset_seconds: float | None,
        applied: bool,  # noqa: FBT001 - a table.
    ) -> None:
        set_at = None if offset_seconds is None else SINCE + timedelta(seconds=offset_seconds)
        older = {"type": "password", "createdDate": 1}
        newest = [{"type": "password", "createdDate": int(set_at.timestamp() * 1000)}] if set_at else []
        one_time_code = {"type": "otp", "createdDate": int((SINCE + timedelta(days=1)).timestamp() * 1000)}
        script = Script().on(RESET, 400, HISTORY).on(CREDENTIALS, 200, [older, *newest, one_time_code])
        what = change("password_change", credential=sealed(keys), user_id="0b5c", maybe_applied_since=SINCE)

        outcome = await deliver(script, keys, what)

        if applied:
            expected = Delivered(
                reason=Reason.ALREADY_APPLIED, user_id="0b5c", existed=True, credential_date=set_at
            )
            assert outcome == expected
        else:
            assert isinstance(outcome, DeadLetter)
            assert outcome.reason is Reason.PASSWORD_HISTORY

    async def test_a_missing_user_can_be_created_with_the_password(self, keys: KeyRing) -> None:
        script = (
            Script().on(FIND, 200, []).on(CREATE, 201, headers={"Location": f"http://keycloak{USERS}/0b5c"})
        )
        what = change("password_change", {"temporary": True}, credential=sealed(keys))

        outcome = await deliver(script, keys, what, creates_missing=frozenset({"password_change"}))

        assert outcome == Delivered(reason=Reason.CREATED, user_id="0b5c", existed=False)
        assert script.bodies(CREATE)[0]["credentials"] == [
            {"type": "password", "value": PASSWORD, "temporary": True}
        ]

    async def test_a_history_refusal_of_a_first_call_is_one(self, keys: KeyRing) -> None:
        script = Script().on(RESET, 400, HISTORY)

        outcome = await deliver(
            script, keys, change("password_change", credential=sealed(keys), user_id="0b5c")
        )

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.PASSWORD_HISTORY
        assert script.calls == [RESET]

    async def test_an_unknown_key_waits(self, keys: KeyRing) -> None:
        what = change("password_change", credential={**sealed(keys), "kid": "k9"}, user_id="0b5c")

        outcome = await deliver(Script(), keys, what)

        assert isinstance(outcome, Defer)
        assert outcome.reason is Reason.UNKNOWN_SEALING_KEY
        assert outcome.failure.blame is Blame.LOCAL
        assert "k9" in outcome.failure.detail

    @pytest.mark.parametrize("kind", ["password_change", "user_create"])
    async def test_a_password_that_does_not_open_is_a_dead_letter(self, keys: KeyRing, kind: str) -> None:
        script = Script()
        what = change(kind, credential={**sealed(keys), "ciphertext": "AAAA"}, user_id="0b5c")

        outcome = await deliver(script, keys, what)

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.PASSWORD_UNREADABLE
        assert script.calls == []


class TestDelete:
    async def test_deletes(self, keys: KeyRing) -> None:
        script = Script().on(FIND, 200, FOUND).on(DELETE, 204)

        outcome = await deliver(script, keys, change("user_delete"))

        assert outcome == Delivered(reason=Reason.DELETED, user_id=None, existed=True)

    @pytest.mark.parametrize(
        ("data", "settings"),
        [({"mode": "disable"}, {}), ({}, {"delete_mode": "disable"})],
    )
    async def test_disables_if_the_event_or_the_setting_says_so(
        self, keys: KeyRing, data: dict[str, str], settings: dict[str, Any]
    ) -> None:
        script = Script().on(UPDATE, 204)

        outcome = await deliver(script, keys, change("user_delete", data, user_id="0b5c"), **settings)

        assert outcome == Delivered(reason=Reason.DISABLED, user_id="0b5c", existed=True)
        assert script.bodies(UPDATE) == [{"enabled": False}]

    async def test_the_events_mode_wins(self, keys: KeyRing) -> None:
        script = Script().on(DELETE, 204)
        what = change("user_delete", {"mode": "delete"}, user_id="0b5c")

        outcome = await deliver(script, keys, what, delete_mode="disable")

        assert isinstance(outcome, Delivered)
        assert outcome.reason is Reason.DELETED

    @pytest.mark.parametrize("user_id", [None, "0b5c"])
    async def test_a_missing_user_is_what_it_wants(self, keys: KeyRing, user_id: str | None) -> None:
        script = Script().on(DELETE, 404, NO_USER).on(FIND, 200, [])

        outcome = await deliver(script, keys, change("user_delete", user_id=user_id))

        assert outcome == Delivered(reason=Reason.ALREADY_ABSENT, user_id=None, existed=False)

    async def test_a_missing_realm_is_not(self, keys: KeyRing) -> None:
        script = Script().on(DELETE, 404, {"error": "Realm not found."})

        outcome = await deliver(script, keys, change("user_delete", user_id="0b5c"))

        assert isinstance(outcome, Defer)
        assert outcome.reason is Reason.REALM_MISSING

    async def test_a_failed_delete_may_have_happened(self, keys: KeyRing) -> None:
        script = Script().on(DELETE, 500, {"error": "unknown_error"})

        outcome = await deliver(script, keys, change("user_delete", user_id="0b5c"))

        assert isinstance(outcome, Retry)
        assert outcome.failure.ambiguous


class TestEveryKind:
    async def test_each_call_is_asked_for_as_it_leaves(self, keys: KeyRing) -> None:
        script = Script().on(FIND, 200, FOUND).on(READ, 200, ALICE).on(UPDATE, 204)
        sent_before: list[int] = []

        await deliver(
            script,
            keys,
            change("user_update", {"attributes": {"a": ["b"]}}),
            lambda: sent_before.append(len(script.requests)),
        )

        assert script.calls == [FIND, READ, UPDATE]
        # At first what the realm keeps, and before the last how users are named, which no script counts.
        assert sent_before == [0, 0, 1, 2, 2]

    async def test_a_short_lease_stops_it_without_a_trace(self, keys: KeyRing) -> None:
        def too_short() -> None:
            raise LeaseTooShort

        script = Script()

        with pytest.raises(LeaseTooShort):
            await deliver(script, keys, change("user_update", {"enabled": True}, user_id="0b5c"), too_short)

        assert script.calls == []

    @pytest.mark.parametrize("call", [UPDATE, f"POST {TOKEN_PATH}"], ids=["update", "token"])
    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize("form", ["seconds", "date"])
    async def test_a_pause_that_keycloak_asks_for_is_handed_on(
        self, keys: KeyRing, call: str, status: int, form: str
    ) -> None:
        until = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
        header = "300" if form == "seconds" else until
        script = Script().on(call, status, headers={"retry-after": header})

        outcome = await deliver(script, keys, change("user_update", {"enabled": True}, user_id="0b5c"))

        assert isinstance(outcome, Defer)
        assert outcome.not_before_seconds == pytest.approx(300.0, abs=0 if form == "seconds" else 60)
        assert outcome.failure.blame is Blame.KEYCLOAK
        assert not outcome.failure.ambiguous

    async def test_a_lost_token_is_no_doubt_about_the_write(self, keys: KeyRing) -> None:
        script = Script().on(f"POST {TOKEN_PATH}", 502)

        outcome = await deliver(script, keys, change("user_update", {"enabled": True}, user_id="0b5c"))

        assert isinstance(outcome, Retry)
        assert not outcome.failure.ambiguous

    async def test_an_unknown_kind_waits_for_a_newer_version(self, keys: KeyRing) -> None:
        outcome = await deliver(Script(), keys, change("user_rename"))

        assert isinstance(outcome, Defer)
        assert outcome.reason is Reason.KIND_UNREGISTERED

    async def test_a_realm_that_is_not_served_waits(self, keys: KeyRing) -> None:
        outcome = await deliver(Script(), keys, change("user_delete", realm="elsewhere"))

        assert isinstance(outcome, Defer)
        assert outcome.reason is Reason.REALM_NOT_SERVED

    async def test_cancelling_goes_through(self, keys: KeyRing) -> None:
        async def never(_: Request, __: asyncio.StreamWriter) -> None:
            await asyncio.Event().wait()

        script = Script().does(UPDATE, never)
        async with scripted(script) as (keycloak, _):
            delivery = Delivery(keycloak=keycloak, keys=keys)
            what = change("user_update", {"enabled": True}, user_id="0b5c")
            task = asyncio.create_task(delivery.deliver(what, nothing))
            await until(lambda: script.calls == [UPDATE])
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


def test_a_change_shows_neither_user_nor_data() -> None:
    shown = repr(change("user_update", {"email": "a@b"}, credential={"ciphertext": "c2VhbGVk"}))

    assert shown == (
        "Change(event_id='e-1', kind='user_update', realm='shop', credential_event_id='e-1', user_id=None,"
        " maybe_applied_since=None)"
    )
