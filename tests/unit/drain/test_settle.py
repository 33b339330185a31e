from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumer.delivery.outcome import Blame, Defer, NotDelivered, Outcome, Reason, Retry
from consumer.drain.known import known_user
from consumer.drain.policy import DrainPolicy
from consumer.drain.settle import DELETED_BY, Call, data_of, dead, fold_after, settle, split_apart
from consumer.outbox.drain_store import Head, Settlement, WriteBack
from consumer.outbox.fold import Applied, Credential, Fold, Value
from consumer.outbox.rows import EntryState
from tests.unit.drain.heads import (
    CLAIMED_AT,
    CONFLICT,
    EARLIER,
    ENDED_AT,
    FORBIDDEN,
    INVALID,
    NO_KEY,
    STARTED_AT,
    TIMEOUT,
    UNAVAILABLE,
    UNREACHABLE,
    UNREADABLE,
    call,
    delivered,
    failure,
    head,
    position,
)

PENDING, HELD, DELIVERED, DEAD_LETTER, _ = EntryState
POLICY = DrainPolicy()
SEALED = b'{"kid":"k1"}'


def written(of: Head, outcome: Outcome, made: Call | None = None) -> WriteBack:
    """Settle with a wait of as many seconds as failures are named."""
    return settle((of,), outcome, made or call(), POLICY, float)


def settled(of: Head, outcome: Outcome, made: Call | None = None) -> Settlement:
    (settlement,) = written(of, outcome, made).settlements
    return settlement


def values(fold: Fold) -> Mapping[str, Any]:
    return {name: known.value for name, known in fold.fields.items() if name != DELETED_BY}


class TestWhatBecomesOfTheEntry:
    @pytest.mark.parametrize(
        ("outcome", "state", "reason", "recorded", "charged"),
        [
            (delivered(), DELIVERED, "updated", "DELIVERED", False),
            (CONFLICT, PENDING, "conflict", "RETRY", None),
            (TIMEOUT, PENDING, "timeout", "RETRY", None),
            (UNAVAILABLE, PENDING, "unavailable", "DEFER", False),
            (FORBIDDEN, PENDING, "forbidden", "DEFER", False),
            (NO_KEY, PENDING, "unknown_sealing_key", "DEFER", False),
            (INVALID, DEAD_LETTER, "invalid_data", "DEAD_LETTER", True),
            (UNREADABLE, DEAD_LETTER, "password_unreadable", "DEAD_LETTER", False),
        ],
    )
    def test_by_outcome(
        self,
        outcome: Outcome,
        state: EntryState,
        reason: str,
        recorded: str,
        charged: bool | None,  # noqa: FBT001 - a row of the table
    ) -> None:
        settlement = settled(head(), outcome)

        assert (settlement.state, settlement.reason) == (state, reason)
        assert settlement.attempt is not None
        assert (settlement.attempt.outcome, settlement.attempt.charged) == (recorded, charged)

    def test_no_call_charges_an_attempt_before_it_is_judged(self) -> None:
        for outcome in (CONFLICT, TIMEOUT, UNAVAILABLE, INVALID, delivered()):
            assert settled(head(attempts=3), outcome).attempts == 3

    @pytest.mark.parametrize(("judged", "charged"), [(True, True), (False, False), (None, False)])
    def test_the_time_of_charging_is_written_when_earlier_calls_are_charged(
        self,
        judged: bool | None,  # noqa: FBT001 - a row of the table
        charged: bool,  # noqa: FBT001 - a row of the table
    ) -> None:
        settlement = settled(head(), CONFLICT, call(judged=judged))

        assert (settlement.judged, settlement.charged) == (judged, charged)

    def test_it_is_written_under_the_token_of_its_claim(self) -> None:
        assert written(head(), CONFLICT, call(token=9)).token == 9


class TestTheAttempt:
    def test_says_when_how_and_why(self) -> None:
        attempt = settled(head(), CONFLICT).attempt

        assert attempt is not None
        assert (attempt.started_at, attempt.ended_at) == (STARTED_AT, STARTED_AT + timedelta(seconds=1.5))
        assert (attempt.http_status, attempt.trace_id, attempt.error) == (409, b"t" * 16, "why it failed")

    def test_of_a_delivery_says_what_keycloak_did_not_keep(self) -> None:
        outcome = delivered(dropped={"locale": "internationalization is off", "a": "why"})
        settlement = settled(head(), outcome)

        assert settlement.state is DELIVERED
        assert settlement.attempt is not None
        said = "Keycloak did not keep attributes.a (why), attributes.locale (internationalization is off)"
        assert settlement.attempt.error == said

    def test_of_a_delivery_has_no_error(self) -> None:
        attempt = settled(head(), delivered()).attempt

        assert attempt is not None
        assert (attempt.http_status, attempt.error) == (None, None)


class TestTheWait:
    @pytest.mark.parametrize(("calls", "failures"), [(0, 1), (1, 2), (4, 5), (60_000, 60_001)])
    def test_after_a_retry_grows_with_the_calls_charged_or_not(self, calls: int, failures: int) -> None:
        assert settled(head(calls=calls, attempts=0), CONFLICT).delay == failures

    @pytest.mark.parametrize(("calls", "failures"), [(0, 1), (2, 3), (3, 4), (4, 4), (60_000, 4)])
    def test_after_a_defer_grows_with_the_calls_but_not_for_ever(self, calls: int, failures: int) -> None:
        assert settled(head(calls=calls), NO_KEY).delay == failures

    @pytest.mark.parametrize(("asked", "delay"), [(None, 1), (0.5, 1), (30.0, 30)])
    def test_after_a_defer_is_as_long_as_keycloak_asks(self, asked: float | None, delay: float) -> None:
        outcome = Defer(reason=Reason.THROTTLED, failure=failure(Blame.KEYCLOAK), not_before_seconds=asked)

        assert settled(head(), outcome).delay == delay


class TestTheSuspectedCause:
    @pytest.mark.parametrize("outcome", [TIMEOUT, UNREACHABLE, UNAVAILABLE])
    def test_is_held_at_the_third_opening(self, outcome: Retry | Defer) -> None:
        assert settled(head(), outcome, call(openings=2)).state is PENDING
        third = settled(head(), outcome, call(openings=3))

        assert (third.state, third.reason, third.openings) == (HELD, "suspected_cause", 3)
        assert third.attempt is not None
        assert third.attempt.reason == outcome.reason.value

    @pytest.mark.parametrize(("outcome", "state"), [(delivered(), DELIVERED), (INVALID, DEAD_LETTER)])
    def test_is_none_if_it_comes_to_an_end(self, outcome: Outcome, state: EntryState) -> None:
        assert settled(head(), outcome, call(openings=3)).state is state

    def test_is_held_with_its_doubt(self) -> None:
        third = settled(head(), TIMEOUT, call(openings=3))

        assert third.maybe_applied_since == CLAIMED_AT

    def test_a_delivery_clears_the_count(self) -> None:
        assert settled(head(openings=2), delivered(), call(openings=2)).openings == 0


class TestARenamedUser:
    RENAMED = Retry(reason=Reason.RENAMED, failure=failure())

    def test_is_held_and_not_charged(self) -> None:
        settlement = settled(head(attempts=2), self.RENAMED)

        assert (settlement.state, settlement.reason, settlement.attempts) == (HELD, "renamed", 2)
        assert settlement.attempt is not None

    def test_keeps_the_doubt_of_a_write_that_renamed_them(self) -> None:
        after = replace(self.RENAMED, failure=replace(failure(), partial=True))
        result = written(head(), after)

        assert result.settlements[0].maybe_applied_since == CLAIMED_AT
        assert result.fold is not None
        assert result.fold.suspect_since == ENDED_AT

    def test_leaves_nothing_to_whoever_gets_the_name(self) -> None:
        theirs = Applied(
            position=position(1),
            exists=True,
            fields={"first_name": "Ada", "groups./staff": True},
            credential=Credential(SEALED, "e-1", position(1)),
            user_id="0a0a",
        )
        before = replace(Fold().join(theirs), suspect_since=EARLIER, suspect_kind="timeout")
        outcome = delivered(Reason.CREATED, existed=False, anew=True)

        fold = fold_after(head("user_create", data={"email": "b"}, fold=before), outcome)

        assert values(fold) == {"email": "b", "enabled": True}
        assert (fold.exists, fold.user_id, fold.credential) == (True, "0b5c", None)
        # A late call of ours may still find the name.
        assert (fold.suspect_since, fold.suspect_kind) == (EARLIER, "timeout")


class TestDoubt:
    @pytest.mark.parametrize(
        ("outcome", "since"),
        [
            (TIMEOUT, CLAIMED_AT),
            (UNREACHABLE, None),
            (CONFLICT, None),
            (UNAVAILABLE, None),
            (delivered(), None),
        ],
    )
    def test_begins_with_the_claim_of_a_call_that_may_have_taken_effect(
        self, outcome: Outcome, since: datetime | None
    ) -> None:
        assert settled(head(), outcome).maybe_applied_since == since

    @pytest.mark.parametrize("outcome", [TIMEOUT, UNREACHABLE, CONFLICT, UNAVAILABLE])
    def test_keeps_its_first_moment_until_the_entry_is_delivered(self, outcome: Outcome) -> None:
        assert settled(head(maybe_applied_since=EARLIER), outcome).maybe_applied_since == EARLIER

    def test_ends_with_the_delivery(self) -> None:
        assert settled(head(maybe_applied_since=EARLIER), delivered()).maybe_applied_since is None


class TestASuspectLane:
    @pytest.mark.parametrize("openings", [0, 3])
    def test_is_one_with_a_call_whose_result_is_unknown(self, openings: int) -> None:
        fold = written(head(), TIMEOUT, call(openings=openings)).fold

        assert fold is not None
        assert (fold.suspect_since, fold.suspect_kind) == (ENDED_AT, "timeout")

    @pytest.mark.parametrize("outcome", [CONFLICT, UNREACHABLE, UNAVAILABLE, INVALID])
    def test_is_none_after_a_definite_answer(self, outcome: Outcome) -> None:
        assert written(head(), outcome).fold is None

    def test_is_suspect_from_its_latest_doubt_on(self) -> None:
        suspect = Fold(suspect_since=EARLIER, suspect_kind="connection_lost")

        fold = written(head(fold=suspect), TIMEOUT).fold

        assert fold is not None
        assert (fold.suspect_since, fold.suspect_kind) == (ENDED_AT, "timeout")

    def test_stays_suspect_when_the_next_call_delivers(self) -> None:
        suspect = Fold(suspect_since=EARLIER, suspect_kind="timeout")
        fold = written(head(fold=suspect), delivered()).fold

        assert fold is not None
        assert (fold.suspect_since, fold.suspect_kind) == (EARLIER, "timeout")

    @pytest.mark.parametrize("outcome", [CONFLICT, UNREACHABLE, UNAVAILABLE, INVALID])
    def test_that_was_taken_over_is_written_down_whatever_the_outcome(self, outcome: Outcome) -> None:
        suspect = Fold(suspect_since=EARLIER, suspect_kind="takeover")
        taken_over = head(claimed_at=EARLIER, maybe_applied_since=EARLIER, fold=suspect)

        assert written(taken_over, outcome).fold == suspect

    def test_keeps_what_is_known_of_the_user(self) -> None:
        known = Fold().join(Applied(position=position(1), exists=True, fields={"email": "a"}))

        fold = written(head(fold=known), TIMEOUT).fold

        assert fold == replace(known, suspect_since=ENDED_AT, suspect_kind="timeout")


def partly(outcome: NotDelivered) -> NotDelivered:
    """The same, after a first request of the delivery was done."""
    return replace(outcome, failure=replace(outcome.failure, partial=True))


class TestABrokenOffDelivery:
    @pytest.mark.parametrize("outcome", [CONFLICT, UNAVAILABLE, INVALID], ids=lambda outcome: outcome.reason)
    def test_leaves_the_lane_to_be_healed(self, outcome: NotDelivered) -> None:
        fold = written(head(), partly(outcome)).fold

        assert fold is not None
        assert (fold.suspect_since, fold.suspect_kind) == (ENDED_AT, outcome.reason.value)
        assert written(head(), outcome).fold is None

    def test_is_repeated_as_maybe_applied(self) -> None:
        assert settled(head(), partly(UNAVAILABLE)).maybe_applied_since == CLAIMED_AT
        assert settled(head(), UNAVAILABLE).maybe_applied_since is None

    def test_of_a_create_does_not_wait_for_the_server_limit(self) -> None:
        assert (
            settled(head("user_create"), partly(CONFLICT)).delay
            == settled(head("user_create"), CONFLICT).delay
        )

    def test_of_a_group_is_split_into_calls_that_may_find_it_done(self) -> None:
        group = [head(), head(entry_id=12)]

        write_back = split_apart(group, partly(INVALID), call())

        assert [each.maybe_applied_since for each in write_back.settlements] == [CLAIMED_AT, CLAIMED_AT]
        assert write_back.fold is not None
        assert write_back.fold.suspect_since == ENDED_AT
        assert split_apart(group, INVALID, call()).fold is None


class TestWhatIsKeptOfMemberships:
    def test_comes_back_as_an_event_would_say_it(self) -> None:
        data = {
            "attributes": {"a": ["1"]},
            "attributes_mode": "replace",
            "clear": ["email", "attributes.b"],
            "groups": {"add": ["/x"], "remove": ["/y"]},
            "realm_roles": {"add": ["r"]},
            "required_actions": ["UPDATE_PASSWORD", "VERIFY_EMAIL"],
        }
        of = head(data=data)

        known = known_user(of.lane, fold_after(of, delivered()))

        assert known.data == {
            "attributes": {"a": ["1"], "b": []},
            "attributes_mode": "replace",
            "email": "",
            "groups": {"add": ["/x"], "remove": ["/y"]},
            "realm_roles": {"add": ["r"]},
            "required_actions": ["VERIFY_EMAIL"],
            "temporary": True,
        }


class TestTheFoldAfterADelivery:
    def test_of_an_update_holds_what_it_names(self) -> None:
        data = {"email": "b", "attributes": {"team": ["x"]}}
        before = Fold().join(
            Applied(position=position(1), exists=True, fields={"email": "a", "enabled": False})
        )

        fold = fold_after(head(data=data, fold=before), delivered())

        assert fold.fields == {
            "email": Value("b", position()),
            "attributes.team": Value(["x"], position()),
            "enabled": Value(False, position(1)),
        }
        assert (fold.exists, fold.exists_position, fold.user_id) == (True, position(), "0b5c")

    def test_of_a_create_is_enabled_where_keycloak_made_the_user(self) -> None:
        fold = fold_after(head("user_create", data={"email": "a"}), delivered(Reason.CREATED, existed=False))

        assert values(fold) == {"email": "a", "enabled": True}

    def test_of_an_update_that_made_the_user_is_enabled_and_of_those_merged_with_it_is_what_they_say(
        self,
    ) -> None:
        first = head(data={"email": "a"}, position=position(1))
        second = head(data={"enabled": False}, position=position(2), entry_id=12)
        third = head(data={"email": "b"}, position=position(3), entry_id=13)
        made = delivered(Reason.CREATED, existed=False)

        fold = settle((first, second, third), made, call(), DrainPolicy(), lambda _: 0.0).fold

        assert fold is not None
        assert fold.exists is True
        assert values(fold) == {"email": "b", "enabled": False}

    def test_of_a_create_that_met_the_user_holds_what_it_wrote(self) -> None:
        fold = fold_after(head("user_create", data={"email": "a"}), delivered(Reason.CONVERGED))

        assert values(fold) == {"email": "a"}

    def test_remembers_where_the_user_comes_from_until_keycloak_has_one_of_its_own(self) -> None:
        seen = replace(delivered(), federation="dir1")
        from_directory = fold_after(head(data={"email": "a"}), seen)
        later = fold_after(head(data={"email": "b"}, fold=from_directory, position=position(43)), delivered())
        made = fold_after(
            head("user_create", fold=later, position=position(44)),
            delivered(Reason.CREATED, existed=False),
        )

        (lane,) = {head().lane}
        assert known_user(lane, from_directory).federation == "dir1"
        assert known_user(lane, later).federation == "dir1"
        assert known_user(lane, later).data == {"email": "b"}
        assert known_user(lane, made).federation is None

    def test_of_a_create_says_what_the_event_says_of_enabled(self) -> None:
        of = head("user_create", data={"enabled": False})

        assert values(fold_after(of, delivered(Reason.CREATED, existed=False))) == {"enabled": False}

    @pytest.mark.parametrize(
        ("name", "first", "last"),
        [("Ada Lovelace", "Ada", "Lovelace"), ("Ada", "Ada", ""), ("A B C", "A B", "C")],
    )
    def test_holds_a_name_as_keycloak_does_in_two_fields(self, name: str, first: str, last: str) -> None:
        before = Fold().join(Applied(position=position(1), exists=True, fields={"first_name": "Old"}))

        fold = fold_after(head(data={"name": name}, fold=before), delivered())

        assert values(fold) == {"first_name": first, "last_name": last}

    @pytest.mark.parametrize("kind", ["user_create", "password_change"])
    def test_of_a_password_holds_it_sealed_with_its_event(self, kind: str) -> None:
        fold = fold_after(head(kind, credential=SEALED), delivered())

        assert fold.credential == Credential(SEALED, "e-1", position())

    def test_of_a_password_holds_when_it_was_delivered(self) -> None:
        fold = written(head("password_change", credential=SEALED), delivered()).fold

        assert fold is not None
        assert fold.credential == Credential(SEALED, "e-1", position(), ENDED_AT)

    def test_of_something_else_leaves_when_the_password_was_delivered(self) -> None:
        before = Fold(credential=Credential(b"old", "e-0", position(1), EARLIER))

        fold = written(head(fold=before), delivered()).fold

        assert fold is not None
        assert fold.credential == before.credential

    @pytest.mark.parametrize("suspect", [None, EARLIER])
    def test_keeps_a_password_only_for_a_doubt_where_none_is_kept(self, suspect: datetime | None) -> None:
        policy = replace(POLICY, keep_passwords=False)
        of = head("password_change", credential=SEALED, fold=Fold(suspect_since=suspect))

        fold = settle((of,), delivered(), call(), policy, float).fold

        assert fold is not None
        assert fold.credential is not None
        # Which event set it stays known: an older one must not win.
        assert (fold.credential.event_id, fold.credential.position) == ("e-1", position())
        assert (fold.credential.sealed is not None) is (suspect is not None)

    def test_of_a_password_forgets_that_a_heal_was_refused(self) -> None:
        before = Fold(heal_refused="heal_refused_by_history")

        assert fold_after(head(fold=before), delivered()).heal_refused == "heal_refused_by_history"
        of = head("password_change", credential=SEALED, fold=before)
        assert fold_after(of, delivered()).heal_refused is None

    def test_of_an_email_address_forgets_that_a_heal_was_refused_for_it(self) -> None:
        before = Fold(heal_refused="email_in_use")

        of = head("password_change", credential=SEALED, fold=before)
        assert fold_after(of, delivered()).heal_refused == "email_in_use"
        of = head("user_update", data={"email": "a@example.org"}, fold=before)
        assert fold_after(of, delivered()).heal_refused is None

    def test_of_a_password_says_whether_it_is_temporary(self) -> None:
        temporary = head("password_change", credential=SEALED, data={"temporary": True})
        fold = fold_after(temporary, delivered(Reason.PASSWORD_SET))
        assert values(fold) == {"temporary": True}

        lasting = head("password_change", credential=SEALED, fold=fold, position=position(43))
        assert values(fold_after(lasting, delivered(Reason.PASSWORD_SET))) == {"temporary": False}

    def test_of_an_update_leaves_the_password(self) -> None:
        before = Fold(credential=Credential(b"old", "e-0", position(1)))

        assert fold_after(head(fold=before), delivered()).credential == before.credential

    def test_of_a_delete_holds_nothing_but_that(self) -> None:
        before = Fold(user_id="0b5c", credential=Credential(b"old", "e-0", position(1))).join(
            Applied(position=position(1), exists=True, fields={"email": "a"})
        )

        fold = fold_after(head("user_delete", fold=before), delivered(Reason.DELETED, user_id=None))

        assert (fold.exists, fold.user_id, fold.credential) == (False, None, None)
        assert "email" not in fold.fields

    def test_of_a_delete_of_nobody_is_the_same(self) -> None:
        gone = delivered(Reason.ALREADY_ABSENT, user_id=None, existed=False)

        assert fold_after(head("user_delete"), gone).exists is False

    def test_of_a_delete_that_disables_keeps_the_user(self) -> None:
        before = Fold().join(Applied(position=position(1), exists=True, fields={"email": "a"}))

        fold = fold_after(
            head("user_delete", data={"mode": "disable"}, fold=before), delivered(Reason.DISABLED)
        )

        assert (fold.exists, fold.user_id) == (True, "0b5c")
        assert values(fold) == {"email": "a", "enabled": False}

    def test_takes_keycloaks_own_date_of_the_password_in_utc(self) -> None:
        date = datetime(2026, 11, 21, 22, 40, tzinfo=UTC)

        fold = fold_after(head("password_change", credential=SEALED), delivered(credential_date=date))

        assert fold.credential_date == date.replace(tzinfo=None)

    def test_does_not_keep_the_date_of_an_older_password(self) -> None:
        before = Fold(credential=Credential(b"old", "e-0", position(1)), credential_date=EARLIER)

        assert (
            fold_after(head("password_change", credential=SEALED, fold=before), delivered()).credential_date
            is None
        )


class TestARehire:
    @staticmethod
    def disabled_by_a_delete() -> Fold:
        return fold_after(head("user_delete", position=position(1)), delivered(Reason.DISABLED))

    def test_after_a_delete_that_disabled_enables(self) -> None:
        of = head("user_create", data={"email": "a"}, fold=self.disabled_by_a_delete())

        assert data_of(of) == {"email": "a", "enabled": True}
        assert values(fold_after(of, delivered(Reason.CONVERGED)))["enabled"] is True

    def test_enables_once(self) -> None:
        of = head("user_create", fold=self.disabled_by_a_delete())
        fold = fold_after(of, delivered(Reason.CONVERGED))

        assert data_of(head("user_create", fold=fold)) == {}

    def test_says_itself_whether_to_enable(self) -> None:
        of = head("user_create", data={"enabled": False}, fold=self.disabled_by_a_delete())

        assert data_of(of) == {"enabled": False}

    def test_leaves_a_login_that_was_barred_by_an_update(self) -> None:
        barred = Fold().join(Applied(position=position(1), exists=True, fields={"enabled": False}))

        assert data_of(head("user_create", fold=barred)) == {}

    def test_leaves_a_login_that_was_barred_after_the_delete(self) -> None:
        update = head(data={"enabled": False}, position=position(2), fold=self.disabled_by_a_delete())
        barred = fold_after(update, delivered())

        assert data_of(head("user_create", fold=barred)) == {}

    def test_is_meant_by_a_create_alone(self) -> None:
        of = head("user_update", data={"email": "a"}, fold=self.disabled_by_a_delete())

        assert data_of(of) == {"email": "a"}


@pytest.mark.parametrize("judged", [True, None])
def test_an_entry_that_is_given_up_says_whether_its_last_call_was_charged(
    judged: bool | None,  # noqa: FBT001 - a row of the table
) -> None:
    given_up = dead(head(attempts=5, openings=1), token=9, reason="conflict", judged=judged)
    (settlement,) = given_up.settlements

    assert (settlement.state, settlement.reason, given_up.token) == (DEAD_LETTER, "conflict", 9)
    assert (settlement.attempts, settlement.charged, settlement.judged) == (5, judged is True, judged)
    assert (settlement.attempt, given_up.fold) == (None, None)
