from __future__ import annotations

from datetime import timedelta

import pytest

from consumer.environment import SettingsError
from consumer.from_settings import drain_policy, kinds_that_create
from consumer.settings import Settings
from tests.unit.settings.test_settings import REQUIRED, load, refusal

VARIABLE = "KCSYNC_KIND_OVERRIDES"


def test_a_kind_has_values_of_its_own_and_the_others_those_of_all() -> None:
    settings = load(
        kind_overrides="user_delete.max_attempts=10, user_create.backoff_base=2s,user_delete.batch_size=3",
        max_attempts="7",
    )

    of_delete, of_create = settings.of_kind("user_delete"), settings.of_kind("user_create")
    assert (of_delete.max_attempts, of_delete.batch_size, of_delete.backoff_base) == (
        10,
        3,
        timedelta(seconds=1),
    )
    assert (of_create.max_attempts, of_create.backoff_base) == (7, timedelta(seconds=2))
    assert settings.of_kind("user_update") is settings


def test_the_drain_looks_them_up_by_kind() -> None:
    policy = drain_policy(
        load(
            kind_overrides="user_delete.pending_max_age=never,user_delete.backoff_cap=1h,user_update.batch_size=4"
        )
    )

    assert policy.of("user_delete").pending_max_age is None
    assert policy.of("user_delete").backoff_cap == 3600
    assert policy.of("user_update").batch == 4
    assert policy.of("user_create") is policy
    assert policy.pending_max_age == 7 * 86_400


def test_entries_of_a_kind_stay_for_a_time_of_their_own() -> None:
    settings = load(
        kind_overrides="user_delete.delivered_retention=90d,user_delete.dead_letter_retention=never"
    )

    own = settings.of_kind("user_delete")

    assert (own.delivered_retention, own.dead_letter_retention) == (timedelta(days=90), "never")
    assert (settings.delivered_retention, settings.dead_letter_retention) == (
        timedelta(days=7),
        timedelta(days=30),
    )


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, set()),
        ({"missing_user": "create"}, {"user_update", "password_change"}),
        ({"kind_overrides": "user_update.missing_user=create"}, {"user_update"}),
        (
            {"missing_user": "create", "kind_overrides": "user_update.missing_user=dead_letter"},
            {"password_change"},
        ),
    ],
)
def test_a_missing_user_is_created_by_the_kinds_that_may(changes: dict[str, str], kinds: set[str]) -> None:
    assert kinds_that_create(load(**changes)) == kinds


def test_there_are_none_by_default() -> None:
    assert load().kind_overrides == ()
    assert drain_policy(load()).kinds == {}


def test_they_are_shown_as_they_were_written() -> None:
    shown = load(kind_overrides="user_delete.max_attempts=10,user_create.backoff_base=2s").masked()

    assert shown["kind_overrides"] == "user_delete.max_attempts=10, user_create.backoff_base=2s"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("user_delete", "'user_delete' is not <kind>.<setting>=<value>"),
        ("max_attempts=3", "'max_attempts=3' is not <kind>.<setting>=<value>"),
        ("user_delete.max_attempts=3,", "'' is not <kind>.<setting>=<value>"),
        ("user_delete.lease=3s", "lease cannot differ by kind"),
        ("user_delete.max_attempts=3,user_delete.max_attempts=4", "it sets user_delete.max_attempts twice"),
        (
            "user_create.missing_user=create",
            "missing_user is for user_update and password_change alone",
        ),
        ("user_delete.max_attempts=0", "user_delete.max_attempts: it is too small"),
        ("user_delete.max_attempts=many", "user_delete.max_attempts: it is not a whole number"),
        ("user_delete.pending_max_age=1s", "user_delete.pending_max_age: it is too small"),
        ("user_delete.delivered_retention=1s", "user_delete.delivered_retention: it is too small"),
        (
            "user_delete.backoff_base=30s,user_delete.backoff_cap=10s",
            "user_delete.backoff_cap: it is below the first wait, KCSYNC_BACKOFF_BASE",
        ),
    ],
)
def test_a_wrong_one_is_refused_with_its_reason(text: str, reason: str) -> None:
    error = refusal({**REQUIRED, VARIABLE: text})

    (problem,) = error.problems
    assert (problem.variable, problem.value, problem.reason) == (VARIABLE, text, reason)
    assert problem.allowed


def test_all_that_is_wrong_is_named() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.load(
            {
                **REQUIRED,
                VARIABLE: "user_delete.max_attempts=0,user_create.backoff_factor=0,user_create.batch_size=x",
            }
        )

    assert [problem.reason.partition(":")[0] for problem in error.value.problems] == [
        "user_create.batch_size",
        "user_create.backoff_factor",
        "user_delete.max_attempts",
    ]
