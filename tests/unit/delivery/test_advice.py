from __future__ import annotations

import pytest

from consumer.delivery.advice import ADVICE, DONE, explained
from consumer.delivery.answer import Operation
from consumer.delivery.classify import MAY_BE_THE_USERS, NO_ANSWER, classify_silence
from consumer.delivery.outcome import Blame, NotDelivered, Reason
from tests.unit.delivery.test_classify import TABLE, judge

OUTCOMES = [
    *(judge(operation, status, body) for operation, status, body, *_ in TABLE),
    *(classify_silence(Operation.UPDATE, cause) for cause in NO_ANSWER),
]


@pytest.mark.parametrize(
    "outcome",
    {
        outcome.reason: outcome
        for outcome in OUTCOMES
        if outcome.failure.blame in {Blame.KEYCLOAK, Blame.CONFIGURATION}
    }.values(),
    ids=lambda outcome: outcome.reason.value,
)
def test_whatever_is_not_a_users_fault_is_followed_by_what_to_do(outcome: NotDelivered) -> None:
    assert explained(outcome) == f"{outcome.failure.detail}; {ADVICE[outcome.reason].remedy}"


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.failure.detail[:40])
def test_what_a_token_request_meets_is_never_a_users_fault(outcome: NotDelivered) -> None:
    if outcome.failure.detail.startswith(Operation.TOKEN.value):
        assert outcome.failure.blame in {Blame.KEYCLOAK, Blame.CONFIGURATION}
        assert outcome.reason not in MAY_BE_THE_USERS


def test_every_reason_says_what_it_means_and_what_to_do() -> None:
    assert ADVICE.keys() | DONE.keys() == set(Reason)
    assert not ADVICE.keys() & DONE.keys()
    for advice in ADVICE.values():
        assert advice.meaning
        assert advice.remedy
        assert not advice.meaning.endswith("."), "they are parts of a line"
        assert not advice.remedy.endswith(".")
