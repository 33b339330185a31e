"""What our own deliveries left, against a real Keycloak: healing, restoring a lost user, reading back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from consumer.delivery.known_user import KnownUser
from consumer.delivery.outcome import DeadLetter, Delivered, Outcome, Reason, Retry

if TYPE_CHECKING:
    from tests.integration.delivery.conftest import Person

OLD = "first password 1"
NEW = "second password 2"
PROFILE: dict[str, Any] = {
    "first_name": "Alice",
    "last_name": "Smith",
    "enabled": True,
    "attributes": {"team": ["blue"], "seq": ["1"]},
}


def known(
    person: Person, data: dict[str, Any], *, password: str | None = None, exists: bool | None = True
) -> KnownUser:
    # Keycloak lets nobody log in whose profile has no e-mail address.
    data = {"email": person.email, **data}
    sealed = person.change("password_change", password=password)
    return KnownUser(
        realm=sealed.realm,
        username_key=sealed.username_key,
        exists=exists,
        data=data,
        credential=sealed.credential,
        credential_event_id=sealed.event_id,
        user_id=None,
    )


async def heal(person: Person, left: KnownUser) -> Outcome:
    return await person.workbench.delivery.heal(left, lambda: None)


class TestHealing:
    async def test_undoes_what_took_effect_late_and_leaves_the_rest(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "email": person.email}, password=NEW)
        late = {"first_name": "Old", "attributes": {"seq": ["0"], "own": ["kept"]}}
        await person.apply("user_update", late)
        await person.apply("password_change", password=OLD)

        outcome = await heal(person, known(person, PROFILE, password=NEW))

        user = await person.there()
        assert outcome == Delivered(reason=Reason.HEALED, user_id=user["id"], existed=True)
        assert (user["firstName"], user["email"]) == ("Alice", person.email)
        assert user["attributes"] == {"team": ["blue"], "seq": ["1"], "own": ["kept"]}
        assert await person.logs_in(NEW)
        assert not await person.logs_in(OLD)

    async def test_creates_a_user_who_should_be_there(self, person: Person) -> None:
        outcome = await heal(person, known(person, PROFILE, password=NEW))

        user = await person.there()
        assert outcome == Delivered(reason=Reason.RESTORED, user_id=user["id"], existed=False)
        assert await person.logs_in(NEW)

    async def test_deletes_a_user_who_should_not_be_there(self, person: Person) -> None:
        await person.apply("user_create", PROFILE)

        outcome = await heal(person, known(person, {}, exists=False))

        assert outcome == Delivered(reason=Reason.DELETED, user_id=None, existed=True)
        assert await person.seen() is None

    @pytest.mark.parametrize("exists", [None, False])
    async def test_makes_no_user_where_none_is_known(self, person: Person, *, exists: bool | None) -> None:
        outcome = await heal(person, known(person, PROFILE, exists=exists))

        assert isinstance(outcome, Delivered)
        assert outcome.reason is Reason.ALREADY_ABSENT
        assert await person.seen() is None

    @pytest.mark.parametrize("lost", [True, False])
    async def test_names_the_user_who_has_the_address_by_now(self, person: Person, *, lost: bool) -> None:
        other = person.workbench.person()
        await other.apply("user_create", {"email": person.email})
        if not lost:
            await person.apply("user_create", {"first_name": "Old"})

        outcome = await heal(person, known(person, PROFILE))

        assert isinstance(outcome, Retry)
        assert outcome.reason is Reason.EMAIL_IN_USE
        assert outcome.failure.holder == other.username.lower()
        user = await person.seen()
        assert (None if user is None else user["firstName"]) == (None if lost else "Old")

    async def test_names_a_password_history_as_the_reason(self, strict_person: Person) -> None:
        await strict_person.apply("user_create", PROFILE, password=NEW)

        outcome = await heal(strict_person, known(strict_person, PROFILE, password=NEW))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.HEAL_REFUSED_BY_HISTORY


class TestALostUser:
    @pytest.mark.parametrize("kind", ["user_create", "user_update", "password_change"])
    async def test_is_created_from_what_is_known_before_the_change(self, person: Person, kind: str) -> None:
        change = person.change(
            kind,
            {} if kind == "password_change" else {"last_name": "Jones"},
            password=NEW if kind == "password_change" else None,
        )

        outcome = await person.deliver(replace(change, known=lambda: known(person, PROFILE, password=OLD)))

        assert isinstance(outcome, Delivered), outcome
        user = await person.there()
        assert user["firstName"] == "Alice"
        assert user["lastName"] == ("Smith" if kind == "password_change" else "Jones")
        assert await person.logs_in(NEW if kind == "password_change" else OLD)

    async def test_stays_away_after_a_delete(self, person: Person) -> None:
        change = person.change("user_delete", {"mode": "delete"})

        outcome = await person.deliver(replace(change, known=lambda: known(person, PROFILE)))

        assert isinstance(outcome, Delivered)
        assert outcome.reason is Reason.ALREADY_ABSENT
        assert await person.seen() is None


class TestReadingBack:
    @staticmethod
    async def ask(
        person: Person, kind: str, data: dict[str, Any], *, password: str | None = None, ago: float = 60
    ) -> Reason:
        since = datetime.now(UTC) - timedelta(seconds=ago)
        change = person.change(kind, data, password=password, maybe_applied_since=since)
        return (await person.workbench.delivery.read_back(change, lambda: None)).reason

    async def test_finds_what_was_applied(self, person: Person) -> None:
        data = {**PROFILE, "email": person.email.upper(), "attributes": {**PROFILE["attributes"], "none": []}}
        await person.apply("user_create", data, password=OLD)
        before = await person.there()

        assert await self.ask(person, "user_create", data, password=OLD) is Reason.ALREADY_APPLIED
        assert await self.ask(person, "user_update", {"name": "Alice Smith"}) is Reason.ALREADY_APPLIED
        assert await self.ask(person, "password_change", {}, password=OLD) is Reason.ALREADY_APPLIED
        assert await person.there() == before

    @pytest.mark.parametrize(
        ("kind", "data"),
        [
            ("user_update", {"last_name": "Jones"}),
            ("user_update", {"enabled": False}),
            ("user_update", {"attributes": {"seq": ["2"]}}),
            ("user_delete", {"mode": "delete"}),
            ("user_delete", {"mode": "disable"}),
        ],
    )
    async def test_finds_what_was_not(self, person: Person, kind: str, data: dict[str, Any]) -> None:
        await person.apply("user_create", PROFILE)
        before = await person.there()

        assert await self.ask(person, kind, data) is Reason.NOT_APPLIED
        assert await person.there() == before

    async def test_takes_an_older_password_for_another(self, person: Person) -> None:
        await person.apply("user_create", PROFILE, password=OLD)

        assert await self.ask(person, "password_change", {}, password=NEW, ago=-60) is Reason.NOT_APPLIED

    async def test_of_somebody_who_is_not_there(self, person: Person) -> None:
        assert await self.ask(person, "user_create", PROFILE) is Reason.NOT_APPLIED
        assert await self.ask(person, "user_delete", {"mode": "delete"}) is Reason.ALREADY_ABSENT
