"""A delivery of several requests, broken off anywhere and repeated, ends as if nothing had happened."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from consumer.delivery.change import Change
from consumer.delivery.delivery import Delivery
from consumer.delivery.errors import LeaseTooShort
from consumer.delivery.outcome import Delivered, Outcome, Reason
from consumer.delivery.passwords import Keys
from producer_lib import SEALING_ALG
from tests.simulation.direct_link import DirectKeycloak, Fate, lost_after, lost_before, turned_away
from tests.simulation.fake_keycloak import FakeKeycloak, User

REALM = "shop"
SINCE = datetime(1970, 1, 1, tzinfo=UTC)

EVERYTHING: dict[str, Any] = {
    "email": "new@example.org",
    "last_name": "",
    "enabled": False,
    "attributes": {"team": ["blue"], "city": []},
    "attributes_mode": "replace",
    "required_actions": ["VERIFY_EMAIL"],
    "temporary": False,
    "groups": {"add": ["/a/b", "/c"], "remove": ["/a"]},
    "realm_roles": {"add": ["x"], "remove": ["y"]},
    "end_sessions": True,
}
CASES = [
    ("user_update", EVERYTHING, False),
    ("user_create", {name: value for name, value in EVERYTHING.items() if name != "end_sessions"}, True),
    ("password_change", {"temporary": True, "end_sessions": True}, True),
    ("user_delete", {"mode": "disable", "end_sessions": True}, False),
    ("user_delete", {"mode": "delete", "end_sessions": True}, False),
]


class Opened:
    """Keys of a password that is not sealed."""

    def open(self, sealed: dict[str, str], _: bytes) -> bytes:
        return sealed["password"].encode()


def a_keycloak(*, exists: bool) -> FakeKeycloak:
    fake = FakeKeycloak(
        frozenset({REALM}),
        password_history=3,
        groups=frozenset({"/a", "/a/b", "/c"}),
        realm_roles=frozenset({"x", "y"}),
    )
    if exists:
        fake.users[REALM]["u-0"] = User(
            id="u-0",
            username="alice",
            email="old@example.org",
            first_name="Alice",
            last_name="Smith",
            enabled=True,
            attributes={"city": ["Rome"], "old": ["1"]},
            groups={"/a"},
            realm_roles={"y"},
            password="former",
            password_set_at=1,
            sessions=[1],
        )
    return fake


def change(kind: str, data: dict[str, Any], *, password: bool, maybe: datetime | None = None) -> Change:
    return Change(
        event_id="e-1",
        kind=kind,
        realm=REALM,
        username="Alice",
        username_key="alice",
        data=data,
        credential={"alg": SEALING_ALG, "password": "correct horse"} if password else None,
        credential_event_id="e-1",
        known=None,
        user_id=None,
        maybe_applied_since=maybe,
    )


def kept(fake: FakeKeycloak) -> dict[str, Any] | None:
    user = fake.find(REALM, "alice")
    return None if user is None else asdict(user) | {"password_set_at": 0, "former_passwords": []}


async def deliver(keycloak: DirectKeycloak, what: Change) -> Outcome:
    return await Delivery(keycloak=keycloak, keys=cast(Keys, Opened())).deliver(what, lambda: None)


@pytest.mark.parametrize("fate", [lost_before, lost_after, turned_away], ids=lambda fate: fate.__name__)
@pytest.mark.parametrize("exists", [True, False], ids=["there", "new"])
@pytest.mark.parametrize(
    ("kind", "data", "password"), CASES, ids=[f"{c[0]}-{c[1].get('mode')}" for c in CASES]
)
async def test_repeated_it_ends_as_if_nothing_had_happened(
    kind: str,
    data: dict[str, Any],
    password: bool,  # noqa: FBT001 - a row of the table
    exists: bool,  # noqa: FBT001 - the same
    fate: Fate,
) -> None:
    smooth = a_keycloak(exists=exists)
    link = DirectKeycloak(smooth, [REALM])
    outcome = await deliver(link, change(kind, data, password=password))
    if not exists and kind not in {"user_create", "user_delete"}:
        assert not isinstance(outcome, Delivered)
        return
    assert isinstance(outcome, Delivered), outcome

    for broken in range(1, len(link.asked) + 1):
        fake = a_keycloak(exists=exists)
        first = await deliver(
            DirectKeycloak(fake, [REALM], {broken: fate}), change(kind, data, password=password)
        )
        assert not isinstance(first, Delivered)
        left_traces = first.failure.ambiguous or first.failure.partial
        assert left_traces or kept(fake) == kept(a_keycloak(exists=exists))

        again = change(kind, data, password=password, maybe=SINCE if left_traces else None)
        repeated = await deliver(DirectKeycloak(fake, [REALM]), again)

        assert isinstance(repeated, Delivered), (link.asked[broken - 1], repeated)
        assert kept(fake) == kept(smooth), link.asked[broken - 1]


@pytest.mark.parametrize(
    ("kind", "data", "password"), CASES, ids=[f"{c[0]}-{c[1].get('mode')}" for c in CASES]
)
async def test_what_was_delivered_is_recognised_when_it_is_read_back(
    kind: str,
    data: dict[str, Any],
    password: bool,  # noqa: FBT001 - a row of the table
) -> None:
    what = change(kind, data, password=password, maybe=SINCE)
    fake = a_keycloak(exists=True)
    link = DirectKeycloak(fake, [REALM])
    delivery = Delivery(keycloak=link, keys=cast(Keys, Opened()))
    before = await delivery.read_back(
        change(kind, data, password=password, maybe=datetime.now(UTC)), lambda: None
    )

    await delivery.deliver(what, lambda: None)
    after = await delivery.read_back(what, lambda: None)

    assert before.reason is Reason.NOT_APPLIED
    assert isinstance(after, Delivered), after


@pytest.mark.parametrize("field", ["groups", "realm_roles", "required_actions", "attributes"])
async def test_each_part_that_is_missing_is_noticed_when_it_is_read_back(field: str) -> None:
    fake = a_keycloak(exists=True)
    delivery = Delivery(keycloak=DirectKeycloak(fake, [REALM]), keys=cast(Keys, Opened()))
    what = change("user_update", EVERYTHING, password=False, maybe=SINCE)
    await delivery.deliver(what, lambda: None)

    left = getattr(fake.users[REALM]["u-0"], field)
    left.clear()

    assert (await delivery.read_back(what, lambda: None)).reason is Reason.NOT_APPLIED


async def test_a_lease_that_ends_between_two_requests_leaves_the_entry_in_doubt() -> None:
    fake = a_keycloak(exists=True)
    delivery = Delivery(keycloak=DirectKeycloak(fake, [REALM]), keys=cast(Keys, Opened()))
    left = 3

    def before_call() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise LeaseTooShort

    what = change("password_change", {"end_sessions": True}, password=True)
    outcome = await delivery.deliver(what, before_call)
    assert isinstance(outcome, Delivered)
    left = 2
    outcome = await delivery.deliver(
        change("user_delete", {"mode": "disable", "end_sessions": True}, password=False), before_call
    )

    assert not isinstance(outcome, Delivered)
    assert (outcome.reason, outcome.failure.partial) == (Reason.BROKEN_OFF, True)


async def test_a_lease_that_ends_before_anything_was_written_leaves_no_doubt() -> None:
    def before_call() -> None:
        raise LeaseTooShort

    delivery = Delivery(keycloak=DirectKeycloak(a_keycloak(exists=True), [REALM]), keys=cast(Keys, Opened()))

    with pytest.raises(LeaseTooShort):
        await delivery.deliver(change("user_update", EVERYTHING, password=False), before_call)
