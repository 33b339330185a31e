from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from consumer.delivery.errors import CallFailed
from consumer.delivery.keycloak import Keycloak
from consumer.delivery.outcome import Blame, DeadLetter, Defer, Delivered, Reason, Retry
from consumer.delivery.transport import KeycloakSender, Response

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import Observer, Person, Workbench

OLD = "first password 1"
NEW = "second password 2"

PROFILE = {
    "email_verified": True,
    "first_name": "Alice",
    "last_name": "Smith",
    "attributes": {"team": ["blue", "green"], "seq": ["1"]},
}


class TestCreate:
    async def test_makes_an_enabled_user_with_everything_it_names(self, person: Person) -> None:
        email = f"{person.username}@Example.org"

        outcome = await person.apply("user_create", {**PROFILE, "email": email}, password=OLD)

        user = await person.there()
        assert outcome == Delivered(reason=Reason.CREATED, user_id=user["id"], existed=False)
        assert user["username"] == person.username.lower()
        assert user["email"] == email.lower()
        assert user["enabled"] is True
        assert user["emailVerified"] is True
        assert (user["firstName"], user["lastName"]) == ("Alice", "Smith")
        assert user["attributes"] == PROFILE["attributes"]
        assert await person.logs_in(OLD)

    async def test_can_make_a_disabled_user(self, person: Person) -> None:
        await person.apply("user_create", {"enabled": False})

        assert (await person.there())["enabled"] is False

    async def test_splits_a_name(self, person: Person) -> None:
        await person.apply("user_create", {"name": "Mary Ann Evans"})

        user = await person.there()
        assert (user["firstName"], user["lastName"]) == ("Mary Ann", "Evans")

    async def test_twice_leaves_what_once_left(self, person: Person) -> None:
        change = person.change("user_create", {**PROFILE, "email": person.email}, password=OLD)
        first = await person.deliver(change)
        before = await person.there()

        second = await person.deliver(change)

        assert isinstance(first, Delivered)
        assert first.reason is Reason.CREATED
        assert second == Delivered(reason=Reason.CONVERGED, user_id=before["id"], existed=True)
        assert await person.there() == before
        assert await person.logs_in(OLD)

    async def test_that_meets_a_user_keeps_what_it_does_not_name(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "enabled": False}, password=OLD)

        outcome = await person.apply(
            "user_create", {"last_name": "Jones", "attributes": {"seq": ["2"]}}, password=NEW
        )

        user = await person.there()
        assert outcome.reason is Reason.CONVERGED
        assert (user["firstName"], user["lastName"]) == ("Alice", "Jones")
        assert user["attributes"] == {"team": ["blue", "green"], "seq": ["2"]}
        assert user["enabled"] is False
        assert user["emailVerified"] is True

    async def test_sets_the_password_of_a_user_it_meets(self, person: Person) -> None:
        await person.apply("user_create", password=OLD)

        await person.apply("user_create", {**PROFILE, "email": person.email}, password=NEW)

        assert await person.logs_in(NEW)
        assert not await person.logs_in(OLD)

    async def test_with_somebody_elses_email_is_tried_again(
        self, person: Person, workbench: Workbench
    ) -> None:
        await person.apply("user_create", {"email": person.email})
        other = workbench.person()

        outcome = await other.deliver(other.change("user_create", {"email": person.email}))

        assert isinstance(outcome, Retry)
        assert outcome.reason is Reason.EMAIL_IN_USE
        assert outcome.failure.blame is Blame.USER
        assert outcome.failure.holder == person.username.lower()
        assert await other.seen() is None

    async def test_in_a_realm_that_lets_users_share_an_email_is_done(
        self, strict_person: Person, observer: Observer
    ) -> None:
        share = {"loginWithEmailAllowed": False, "duplicateEmailsAllowed": True}
        await observer.call("PUT", f"/{strict_person.realm}", share)
        try:
            await strict_person.apply("user_create", {"email": strict_person.email})
            other = strict_person.workbench.person()
            assert (await other.apply("user_create", {"email": strict_person.email})).reason is Reason.CREATED
        finally:
            back = {"loginWithEmailAllowed": True, "duplicateEmailsAllowed": False}
            await observer.call("PUT", f"/{strict_person.realm}", back)

    async def test_of_eight_at_once_makes_one_user(self, person: Person) -> None:
        outcomes = await asyncio.gather(*(person.deliver(person.change("user_create")) for _ in range(8)))

        reasons = sorted(outcome.reason for outcome in outcomes)
        assert reasons == [*[Reason.CONVERGED] * 7, Reason.CREATED]

    async def test_with_invalid_data_is_a_dead_letter_that_shows_no_data(self, person: Person) -> None:
        outcome = await person.deliver(person.change("user_create", {"email": "not-an-email-of-alice"}))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.INVALID_DATA
        assert outcome.failure.detail == "user create: HTTP 400 error-invalid-email (field email)"
        assert await person.seen() is None


class TestUpdate:
    @pytest.mark.parametrize("known", [True, False], ids=["id known", "id unknown"])
    async def test_keeps_what_it_does_not_name(self, person: Person, known: bool) -> None:  # noqa: FBT001 - a table.
        created = await person.apply("user_create", {**PROFILE, "email": person.email})
        before = await person.there()
        user_id = created.user_id if known else None

        outcome = await person.deliver(
            person.change("user_update", {"first_name": "Alicia"}, user_id=user_id)
        )

        assert outcome == Delivered(reason=Reason.UPDATED, user_id=before["id"], existed=True)
        assert await person.there() == {**before, "firstName": "Alicia"}

    async def test_of_an_attribute_keeps_the_rest(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "email": person.email})
        before = await person.there()

        await person.apply("user_update", {"attributes": {"seq": ["42"]}})

        assert await person.there() == {**before, "attributes": {"team": ["blue", "green"], "seq": ["42"]}}

    async def test_of_attribute_and_field_writes_both(self, person: Person) -> None:
        await person.apply("user_create", PROFILE)

        await person.apply("user_update", {"last_name": "Jones", "attributes": {"new": ["x"]}})

        user = await person.there()
        assert user["lastName"] == "Jones"
        assert user["firstName"] == "Alice"
        assert user["attributes"] == {"team": ["blue", "green"], "seq": ["1"], "new": ["x"]}

    @pytest.mark.parametrize("data", [{"last_name": "Jones"}, {"attributes": {"seq": ["2"]}}])
    async def test_leaves_a_disabled_user_disabled(self, person: Person, data: dict[str, object]) -> None:
        await person.apply("user_create", {**PROFILE, "enabled": False})

        await person.apply("user_update", data)

        assert (await person.there())["enabled"] is False

    async def test_enables_when_it_says_so(self, person: Person) -> None:
        await person.apply("user_create", {"enabled": False})

        await person.apply("user_update", {"enabled": True})

        assert (await person.there())["enabled"] is True

    async def test_of_a_missing_user_is_a_dead_letter(self, person: Person) -> None:
        outcome = await person.deliver(person.change("user_update", {"first_name": "A"}))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.USER_MISSING

    async def test_finds_a_user_who_was_made_anew(self, person: Person) -> None:
        stale = (await person.apply("user_create")).user_id
        await person.apply("user_delete")
        fresh = (await person.apply("user_create")).user_id

        outcome = await person.deliver(person.change("user_update", {"first_name": "Anew"}, user_id=stale))

        assert stale != fresh
        assert outcome == Delivered(reason=Reason.UPDATED, user_id=fresh, existed=True)


class TestPasswordChange:
    async def test_makes_the_new_one_log_in_and_the_old_one_not(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "email": person.email}, password=OLD)
        assert await person.logs_in(OLD)

        outcome = await person.apply("password_change", password=NEW)

        assert outcome.reason is Reason.PASSWORD_SET
        assert await person.logs_in(NEW)
        assert not await person.logs_in(OLD)
        assert (await person.there())["requiredActions"] == []

    async def test_can_be_temporary(self, person: Person) -> None:
        await person.apply("user_create")

        await person.apply("password_change", {"temporary": True}, password=NEW)

        assert (await person.there())["requiredActions"] == ["UPDATE_PASSWORD"]

    async def test_of_a_missing_user_is_a_dead_letter(self, person: Person) -> None:
        outcome = await person.deliver(person.change("password_change", password=NEW))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.USER_MISSING


class TestPasswordHistory:
    async def test_a_password_applied_by_a_lost_call_is_recognised(self, strict_person: Person) -> None:
        await strict_person.apply("user_create", password=OLD)
        began = datetime.now(UTC)
        await strict_person.apply("password_change", password=NEW)

        again = strict_person.change("password_change", password=NEW, maybe_applied_since=began)
        outcome = await strict_person.deliver(again)

        assert isinstance(outcome, Delivered)
        assert outcome.reason is Reason.ALREADY_APPLIED
        assert outcome.credential_date is not None
        assert abs(outcome.credential_date - began) < timedelta(seconds=30)

    async def test_without_a_lost_call_it_is_refused(self, strict_person: Person) -> None:
        await strict_person.apply("user_create", password=OLD)

        outcome = await strict_person.deliver(strict_person.change("password_change", password=OLD))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.PASSWORD_HISTORY

    async def test_an_older_password_is_refused_even_after_a_lost_call(self, strict_person: Person) -> None:
        await strict_person.apply("user_create", password=OLD)
        await strict_person.apply("password_change", password=NEW)
        later = datetime.now(UTC) + timedelta(seconds=5)

        outcome = await strict_person.deliver(
            strict_person.change("password_change", password=OLD, maybe_applied_since=later)
        )

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.PASSWORD_HISTORY

    async def test_a_repeated_create_is_no_refusal(self, strict_person: Person) -> None:
        began = datetime.now(UTC)
        await strict_person.apply("user_create", password=OLD)

        again = strict_person.change("user_create", password=OLD, maybe_applied_since=began)
        outcome = await strict_person.deliver(again)

        assert isinstance(outcome, Delivered)
        assert outcome.reason is Reason.CONVERGED

    async def test_a_weak_password_is_refused_and_makes_no_user(self, strict_person: Person) -> None:
        outcome = await strict_person.deliver(strict_person.change("user_create", password="short"))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.PASSWORD_POLICY
        assert "short" not in outcome.failure.detail
        assert await strict_person.seen() is None


class TestDelete:
    async def test_removes_the_user(self, person: Person) -> None:
        await person.apply("user_create")

        outcome = await person.apply("user_delete")

        assert outcome == Delivered(reason=Reason.DELETED, user_id=None, existed=True)
        assert await person.seen() is None

    @pytest.mark.parametrize("known", [True, False], ids=["id known", "id unknown"])
    async def test_twice_is_done(self, person: Person, known: bool) -> None:  # noqa: FBT001 - a table.
        created = await person.apply("user_create")
        await person.apply("user_delete")
        user_id = created.user_id if known else None

        outcome = await person.deliver(person.change("user_delete", user_id=user_id))

        assert outcome == Delivered(reason=Reason.ALREADY_ABSENT, user_id=None, existed=False)

    async def test_can_disable_instead(self, person: Person) -> None:
        await person.apply("user_create", PROFILE)
        before = await person.there()

        outcome = await person.apply("user_delete", {"mode": "disable"})

        assert outcome.reason is Reason.DISABLED
        assert await person.there() == {**before, "enabled": False}


class TestConfiguration:
    async def call(
        self,
        observer: Observer,
        *,
        realm: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
    ) -> Defer:
        stack = observer.endpoints
        asked = realm or stack.realm
        keycloak = Keycloak(
            url=stack.keycloak_url,
            realms=[asked],
            client_id=client_id or stack.client_id,
            client_secret=client_secret or stack.client_secret,
        )
        try:
            control = await keycloak.control_call(asked)
            with pytest.raises(CallFailed) as failed, keycloak.calls(lambda: None):
                await keycloak.users(asked).update("0b5c", {"enabled": True})
        finally:
            await keycloak.aclose()
        outcome = failed.value.outcome
        assert isinstance(outcome, Defer)
        assert outcome.failure.blame is Blame.CONFIGURATION
        assert not outcome.failure.ambiguous
        assert control.trouble is not None
        assert control.trouble.reason is outcome.reason
        return outcome

    async def test_a_wrong_secret(self, observer: Observer) -> None:
        outcome = await self.call(observer, client_secret="wrong-secret")

        assert outcome.reason is Reason.CREDENTIALS_REFUSED
        assert "wrong-secret" not in outcome.failure.detail

    async def test_an_unknown_client(self, observer: Observer) -> None:
        assert (await self.call(observer, client_id="nobody")).reason is Reason.CREDENTIALS_REFUSED

    async def test_an_unknown_realm(self, observer: Observer) -> None:
        assert (await self.call(observer, realm="no-such-realm")).reason is Reason.REALM_MISSING

    async def test_a_client_without_the_role(self, observer: Observer, strict_realm: str) -> None:
        client = {"clientId": "powerless", "secret": "powerless", "serviceAccountsEnabled": True}
        await observer.call("POST", f"/{strict_realm}/clients", client)

        outcome = await self.call(
            observer, realm=strict_realm, client_id="powerless", client_secret="powerless"
        )

        assert outcome.reason is Reason.FORBIDDEN

    async def test_everything_right(self, workbench: Workbench) -> None:
        result = await workbench.keycloak.control_call(workbench.realm)

        assert result.ok
        assert result.ended > result.began


async def test_fifty_cold_calls_make_one_token_request(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []
    send = KeycloakSender.request

    async def counted(self: KeycloakSender, method: str, url: str, **given: Any) -> Response:
        paths.append(urlsplit(url).path)
        return await send(self, method, url, **given)

    monkeypatch.setattr(KeycloakSender, "request", counted)

    results = await asyncio.gather(*(absent(workbench) for _ in range(50)))

    assert results == [Reason.ALREADY_ABSENT] * 50
    assert sum(path.endswith("/openid-connect/token") for path in paths) == 1
    # One more is shared: whether usernames change in this realm.
    assert len(paths) == 52


async def absent(workbench: Workbench) -> Reason:
    return (await workbench.person().apply("user_delete")).reason
