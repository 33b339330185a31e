"""What our own deliveries left, against a real Keycloak: healing, lost users, reading back, looking at passwords."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from consumer.delivery.delivery import Delivery
from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects, LatePassword
from consumer.delivery.outcome import DeadLetter, Delivered, Outcome, Reason, Retry
from consumer.delivery.password_look import PasswordLook
from consumer.delivery.representation import written_out
from consumer.drain.late import late_effects
from consumer.drain.settle import carried_fields, event_fields
from consumer.outbox.doubt import Doubt
from consumer.outbox.fold import Fold, Value

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
    person: Person,
    data: dict[str, Any],
    *,
    password: str | None = None,
    exists: bool | None = True,
    user_id: str | None = None,
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
        credential_event_id=sealed.event_id if password is not None else "",
        user_id=user_id,
    )


def doubt(
    left: KnownUser,
    late: dict[str, Any] | None = None,
    *,
    asked: frozenset[str] = frozenset(),
    only_looks: bool = False,
    **more: Any,
) -> LateEffects:
    """What a heal is told: `late` are the fields of events whose calls are in doubt, beside what was delivered."""
    fields = {name: Value(value, None) for name, value in event_fields(written_out(left.data)).items()}
    fold = Fold(fields=fields, doubt=Doubt(fields=carried_fields(written_out(late or {})), asked=asked))
    told = late_effects(fold, server_limit=60.0, ahead=timedelta(0), only_looks=only_looks)
    return replace(told, **more)


async def heal(person: Person, left: KnownUser, late: LateEffects | None = None) -> Outcome:
    return await person.workbench.delivery.heal(left, late or doubt(left), lambda: None)


async def by_hand(person: Person, **fields: Any) -> None:
    """What an administrator, or the user in the account console, changes."""
    user = await person.there()
    path = f"/{person.realm}/users/{user['id']}"
    answer = await person.workbench.observer.call("PUT", path, fields)
    assert answer.status_code == 204, answer.text


async def password_date(person: Person, user_id: str) -> datetime:
    path = f"/{person.realm}/users/{user_id}/credentials"
    (credential,) = (await person.workbench.observer.call("GET", path)).json()
    return datetime.fromtimestamp(credential["createdDate"] / 1000, UTC)


async def own_password(person: Person, password: str) -> None:
    user = await person.there()
    path = f"/{person.realm}/users/{user['id']}/reset-password"
    body = {"type": "password", "value": password, "temporary": False}
    answer = await person.workbench.observer.call("PUT", path, body)
    assert answer.status_code == 204, answer.text


def calls_of(event_id: str, *, began_ago: float, ended_ago: float) -> tuple[LatePassword, ...]:
    now = datetime.now(UTC)
    return (
        LatePassword(
            event_id,
            now - timedelta(seconds=began_ago),
            now - timedelta(seconds=ended_ago) + timedelta(seconds=60),
        ),
    )


class TestALateEffectOfOurs:
    async def test_is_undone_and_the_rest_is_left(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "email": person.email}, password=NEW)
        late = {"first_name": "Old", "attributes": {"seq": ["0"], "own": ["kept"]}}
        await person.apply("user_update", {**late, "last_name": "Changed"})
        left = known(person, PROFILE)

        outcome = await heal(person, left, doubt(left, late))

        user = await person.there()
        assert isinstance(outcome, Delivered)
        assert (outcome.reason, outcome.user_id) == (Reason.HEALED, user["id"])
        assert (user["firstName"], user["lastName"], user["email"]) == ("Alice", "Changed", person.email)
        # What stood there before our late call is not known to us.
        assert user["attributes"] == {"team": ["blue"], "seq": ["1"], "own": ["kept"]}
        assert outcome.drift == {"attributes.own": "unknown"}

    async def test_of_replacing_all_attributes_brings_later_ones_back(self, person: Person) -> None:
        await person.apply("user_create", PROFILE)
        late = {"attributes": {"team": ["blue"]}, "attributes_mode": "replace"}
        await person.apply("user_update", late)
        left = known(person, PROFILE)

        outcome = await heal(person, left, doubt(left, late))

        assert outcome.reason is Reason.HEALED
        assert (await person.there())["attributes"] == PROFILE["attributes"]

    async def test_that_let_a_leaver_in_again_is_undone(self, person: Person) -> None:
        await person.apply("user_create", PROFILE)
        left = known(person, {**PROFILE, "enabled": False})

        outcome = await heal(person, left, doubt(left, {"enabled": True}))

        assert outcome.reason is Reason.HEALED
        assert (await person.there())["enabled"] is False

    async def test_of_an_older_password_is_undone(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "email": person.email}, password=NEW)
        await person.apply("password_change", password=OLD)
        left = known(person, PROFILE, password=NEW)

        passwords = calls_of("an older event", began_ago=10, ended_ago=5)
        outcome = await heal(person, left, doubt(left, passwords=passwords))

        assert outcome.reason is Reason.HEALED
        assert isinstance(outcome, Delivered)
        assert outcome.credential_date is not None
        assert await person.logs_in(NEW)
        assert not await person.logs_in(OLD)

    async def test_on_required_actions_is_undone_one_by_one(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "required_actions": []})
        await by_hand(person, requiredActions=["VERIFY_EMAIL", "CONFIGURE_TOTP"])
        left = known(person, {**PROFILE, "required_actions": []})

        outcome = await heal(person, left, doubt(left, {"required_actions": ["VERIFY_EMAIL"]}))

        assert outcome.reason is Reason.HEALED
        assert (await person.there())["requiredActions"] == ["CONFIGURE_TOTP"]

    async def test_of_a_delete_brings_the_user_back_whatever_is_done_about_lost_ones(
        self, strict_person: Person
    ) -> None:
        left = known(strict_person, PROFILE, password=NEW)
        delivery = Delivery(
            keycloak=strict_person.workbench.keycloak, keys=strict_person.workbench.keys, restores_lost=False
        )

        left_alone = await delivery.heal(left, doubt(left), lambda: None)
        nobody = await strict_person.seen()
        outcome = await delivery.heal(left, doubt(left, deletes=True), lambda: None)

        assert isinstance(left_alone, Delivered)
        assert (left_alone.reason, left_alone.drift) == (Reason.LEFT_AS_FOUND, {"exists": "gone"})
        assert nobody is None
        assert outcome.reason is Reason.RESTORED
        assert await strict_person.logs_in(NEW)


class TestWhatOthersHaveChanged:
    async def test_stays_where_nothing_of_ours_is_in_doubt(self, person: Person) -> None:
        await person.apply(
            "user_create", {**PROFILE, "email_verified": False, "required_actions": ["VERIFY_EMAIL"]}
        )
        # The user has confirmed the address; an administrator asks for a second factor, and bars the account.
        await by_hand(person, emailVerified=True, requiredActions=["CONFIGURE_TOTP"], enabled=False)
        before = await person.there()
        left = known(person, {**PROFILE, "email_verified": False, "required_actions": ["VERIFY_EMAIL"]})

        outcome = await heal(person, left, doubt(left, {"first_name": "Alice"}))

        assert outcome.reason is Reason.AS_DELIVERED
        assert await person.there() == before

    async def test_stays_where_the_same_field_is_in_doubt_and_is_told(self, person: Person) -> None:
        await person.apply("user_create", PROFILE)
        await by_hand(person, firstName="Married", requiredActions=["CONFIGURE_TOTP"])
        left = known(person, {**PROFILE, "required_actions": []})

        outcome = await heal(
            person, left, doubt(left, {"first_name": "Alicia", "required_actions": ["VERIFY_EMAIL"]})
        )

        user = await person.there()
        assert isinstance(outcome, Delivered)
        assert outcome.drift == {"first_name": "changed", "required_actions": "changed"}
        assert (outcome.reason, user["firstName"]) == (Reason.LEFT_AS_FOUND, "Married")
        assert user["requiredActions"] == ["CONFIGURE_TOTP"]

    @pytest.mark.parametrize("late", [{"enabled": False}, {"enabled": True}], ids=str)
    async def test_never_opens_an_account_that_is_barred(self, person: Person, late: dict[str, Any]) -> None:
        await person.apply("user_create", PROFILE)
        await by_hand(person, enabled=False)
        left = known(person, PROFILE)

        outcome = await heal(person, left, doubt(left, late))

        assert isinstance(outcome, Delivered)
        assert (outcome.reason, outcome.drift) == (Reason.LEFT_AS_FOUND, {"enabled": "barred"})
        assert (await person.there())["enabled"] is False

    async def test_opens_it_where_an_operator_asks_for_that(self, person: Person) -> None:
        await person.apply("user_create", PROFILE)
        await by_hand(person, enabled=False, firstName="Changed")
        left = known(person, PROFILE)

        outcome = await heal(person, left, doubt(left, asked=frozenset({"enabled"})))

        user = await person.there()
        assert outcome.reason is Reason.HEALED
        assert (user["enabled"], user["firstName"]) == (True, "Changed")

    async def test_keeps_the_password_that_the_user_has_chosen_since(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "email": person.email}, password=NEW)
        await own_password(person, "my own 3")
        left = known(person, PROFILE, password=NEW)

        # Long over.
        passwords = calls_of("an older event", began_ago=600, ended_ago=590)
        outcome = await heal(person, left, doubt(left, passwords=passwords))

        assert outcome.reason in {Reason.AS_DELIVERED, Reason.LEFT_AS_FOUND}
        assert await person.logs_in("my own 3")
        assert not await person.logs_in(NEW)

    async def test_leaves_a_password_whose_date_is_that_of_our_last_delivery(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "email": person.email}, password=NEW)
        user = await person.there()
        date = await password_date(person, user["id"])
        left = known(person, PROFILE, password=OLD)

        passwords = calls_of("an older event", began_ago=10, ended_ago=0)
        outcome = await heal(person, left, doubt(left, passwords=passwords, password_date=date))

        assert outcome.reason is Reason.AS_DELIVERED
        assert await person.logs_in(NEW)

    async def test_leaves_somebody_who_has_the_name_of_a_user_who_was_deleted(self, person: Person) -> None:
        await person.apply("user_create", PROFILE)

        left = known(person, {}, exists=False)
        outcome = await heal(person, left)

        assert isinstance(outcome, Delivered)
        assert (outcome.reason, outcome.drift) == (Reason.LEFT_AS_FOUND, {"exists": "there"})
        assert await person.seen() is not None
        asked = await heal(person, left, doubt(left, asked=frozenset({"exists"})))
        assert asked.reason is Reason.DELETED
        assert await person.seen() is None


class TestHealing:
    async def test_creates_a_user_who_should_be_there(self, person: Person) -> None:
        outcome = await heal(person, known(person, PROFILE, password=NEW))

        user = await person.there()
        assert outcome == Delivered(reason=Reason.RESTORED, user_id=user["id"], existed=False)
        assert await person.logs_in(NEW)

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
            await person.apply("user_create", {"first_name": "Old", "email": f"old-{person.email}"})
        left = known(person, PROFILE)

        outcome = await heal(person, left, doubt(left, {"first_name": "Old", "email": f"old-{person.email}"}))

        assert isinstance(outcome, Retry)
        assert outcome.reason is Reason.EMAIL_IN_USE
        assert outcome.failure.holder == other.username.lower()
        user = await person.seen()
        assert (None if user is None else user["firstName"]) == (None if lost else "Old")

    async def test_names_a_password_history_as_the_reason(self, strict_person: Person) -> None:
        await strict_person.apply("user_create", PROFILE, password=NEW)

        left = known(strict_person, PROFILE, password=NEW)
        passwords = calls_of("an older event", began_ago=10, ended_ago=0)
        outcome = await heal(strict_person, left, doubt(left, passwords=passwords))

        assert isinstance(outcome, DeadLetter)
        assert outcome.reason is Reason.HEAL_REFUSED_BY_HISTORY

    async def test_of_a_late_look_reports_a_password_and_sets_none(self, person: Person) -> None:
        await person.apply("user_create", {**PROFILE, "email": person.email}, password=OLD)
        left = known(person, PROFILE, password=NEW)

        passwords = calls_of("an older event", began_ago=10, ended_ago=0)
        outcome = await heal(person, left, doubt(left, passwords=passwords, only_looks=True))

        assert isinstance(outcome, Delivered)
        assert (outcome.reason, outcome.drift) == (Reason.LEFT_AS_FOUND, {"password": "unknown"})
        assert await person.logs_in(OLD)


class TestADeleteInDoubt:
    async def test_that_was_done_spares_who_has_the_name_since(self, person: Person) -> None:
        ours = (await person.apply("user_create", PROFILE)).user_id
        await person.apply("user_delete", {"mode": "delete"})
        newcomer = (await person.apply("user_create", {"first_name": "New"})).user_id
        since = datetime.now(UTC) - timedelta(seconds=60)

        for data in ({"mode": "delete"}, {"mode": "disable"}):
            change = person.change("user_delete", data, user_id=ours, maybe_applied_since=since)
            outcome = await person.deliver(change)
            assert outcome.reason is Reason.ALREADY_ABSENT

        user = await person.there()
        assert (user["id"], user["enabled"]) == (newcomer, True)

    async def test_whose_id_is_not_known_spares_who_was_made_since(self, person: Person) -> None:
        before = datetime.now(UTC) - timedelta(seconds=60)
        await person.apply("user_create", PROFILE)

        spared = await person.deliver(
            person.change("user_delete", {"mode": "delete"}, maybe_applied_since=before)
        )
        since = datetime.now(UTC) + timedelta(seconds=60)
        meant = await person.deliver(
            person.change("user_delete", {"mode": "delete"}, maybe_applied_since=since)
        )

        assert (spared.reason, meant.reason) == (Reason.ALREADY_ABSENT, Reason.DELETED)
        assert await person.seen() is None


class TestALookAtAPassword:
    @staticmethod
    def look(
        person: Person, user_id: str, password: str, *, began_ago: float = 5, ended_ago: float = 0
    ) -> PasswordLook:
        change = person.change("password_change", password=password)
        assert change.credential is not None
        now = datetime.now(UTC)
        return PasswordLook(
            realm=change.realm,
            username_key=change.username_key,
            user_id=user_id,
            credential=change.credential,
            event_id=change.event_id,
            temporary=False,
            began=now - timedelta(seconds=began_ago),
            ended=now - timedelta(seconds=ended_ago),
        )

    async def see(self, person: Person, look: PasswordLook) -> Delivered:
        outcome = await person.workbench.delivery.look_at_password(look, lambda: None)
        assert isinstance(outcome, Delivered)
        return outcome

    async def test_tells_its_date(self, person: Person) -> None:
        user_id = (await person.apply("user_create", password=NEW)).user_id
        assert user_id is not None

        seen = await self.see(person, self.look(person, user_id, NEW))

        assert seen.reason is Reason.AS_DELIVERED
        assert seen.credential_date is not None
        assert abs(seen.credential_date - datetime.now(UTC)) < timedelta(seconds=30)

    async def test_sets_it_again_where_an_older_one_is_there(self, person: Person) -> None:
        created = await person.apply("user_create", {**PROFILE, "email": person.email}, password=OLD)
        assert created.user_id is not None

        # As after a login that wrote the former password back: the credential is older than the call.
        look = self.look(person, created.user_id, NEW, began_ago=-30, ended_ago=-31)
        seen = await self.see(person, look)

        assert seen.reason is Reason.PASSWORD_SET
        assert await person.logs_in(NEW)

    async def test_leaves_one_that_was_chosen_since(self, person: Person) -> None:
        created = await person.apply("user_create", {**PROFILE, "email": person.email}, password=OLD)
        assert created.user_id is not None

        seen = await self.see(person, self.look(person, created.user_id, NEW, began_ago=600, ended_ago=590))

        assert (seen.reason, seen.credential_date) == (Reason.LEFT_AS_FOUND, None)
        assert await person.logs_in(OLD)


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
        assert outcome.reason is Reason.RESTORED
        assert user["firstName"] == "Alice"
        assert user["lastName"] == ("Smith" if kind == "password_change" else "Jones")
        assert await person.logs_in(NEW if kind == "password_change" else OLD)

    @pytest.mark.parametrize("kind", ["user_update", "password_change"])
    async def test_stays_away_where_somebody_elses_delete_is_to_stand(
        self, person: Person, kind: str
    ) -> None:
        delivery = Delivery(
            keycloak=person.workbench.keycloak,
            keys=person.workbench.keys,
            restores_lost=False,
            creates_missing=frozenset({kind}),
        )
        data = {} if kind == "password_change" else {"last_name": "Jones"}
        change = person.change(kind, data, password=NEW if kind == "password_change" else None)
        ours = replace(known(person, PROFILE, password=OLD), delete_in_doubt=True)

        outcome = await delivery.deliver(
            replace(change, known=lambda: replace(ours, delete_in_doubt=False)), lambda: None
        )
        nobody = await person.seen()
        # It may have been a late delete of ours.
        restored = await delivery.deliver(replace(change, known=lambda: ours), lambda: None)

        assert isinstance(outcome, DeadLetter)
        assert (outcome.reason, nobody) == (Reason.USER_LOST, None)
        assert restored.reason is Reason.RESTORED

    async def test_is_created_from_the_event_alone_where_somebody_elses_delete_is_to_stand(
        self, person: Person
    ) -> None:
        delivery = Delivery(
            keycloak=person.workbench.keycloak, keys=person.workbench.keys, restores_lost=False
        )
        change = person.change("user_create", {"last_name": "Jones"})

        outcome = await delivery.deliver(replace(change, known=lambda: known(person, PROFILE)), lambda: None)

        user = await person.there()
        assert outcome.reason is Reason.CREATED
        assert (user.get("firstName"), user["lastName"], user["attributes"]) == (None, "Jones", {})

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
