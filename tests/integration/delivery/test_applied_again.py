"""Each kind applied twice, and again after an answer was lost at each point of its delivery, against a real Keycloak.

The realm remembers passwords, so that the one a user has is refused when it is set again. The drain is played: what may
have taken effect is said to the next call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest

from consumer.delivery.known_user import KnownUser
from consumer.delivery.late_effects import LateEffects, LateField, LatePassword
from consumer.delivery.outcome import Delivered, Outcome, Reason, Retry

if TYPE_CHECKING:
    from consumer.delivery.change import Change
    from tests.integration.delivery.conftest import Person, Workbench
    from tests.integration.support.keycloak_proxy import Call, KeycloakProxy

OLD = "first password 1"
NEW = "second password 2"
LATER = "third password 3"
MOST_CALLS = 12


pytestmark = pytest.mark.long


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A change, what it meets, and what it should leave.

    Attributes:
        meets: `nobody`, `somebody`, or `lost`: a user whom Keycloak had from us and has no more.
        leaves: what Keycloak shows of the user; None for nobody.
        opens: the password that logs in.
    """

    kind: str
    meets: str
    data: dict[str, Any] = field(default_factory=dict)
    password: str | None = None
    leaves: dict[str, Any] | None
    opens: str | None = None


BEFORE = {"first_name": "Ada", "last_name": "Lovelace"}
TEAM = {"team": ["blue"]}

CASES = {
    "create": Case(
        kind="user_create",
        meets="nobody",
        data={**BEFORE, "first_name": "Eve"},
        password=NEW,
        leaves={"firstName": "Eve", "lastName": "Lovelace", "enabled": True},
        opens=NEW,
    ),
    "create of somebody who is there": Case(
        kind="user_create",
        meets="somebody",
        data={"first_name": "Eve", "attributes": TEAM},
        password=NEW,
        leaves={"firstName": "Eve", "lastName": "Lovelace"},
        opens=NEW,
    ),
    "create of a lost user": Case(
        kind="user_create",
        meets="lost",
        data={"first_name": "Eve"},
        password=NEW,
        leaves={"firstName": "Eve", "lastName": "Lovelace"},
        opens=NEW,
    ),
    "update": Case(
        kind="user_update",
        meets="somebody",
        data={"first_name": "Eve"},
        leaves={"firstName": "Eve", "lastName": "Lovelace"},
        opens=OLD,
    ),
    "update with attributes": Case(
        kind="user_update",
        meets="somebody",
        data={"first_name": "Eve", "attributes": TEAM},
        leaves={"firstName": "Eve", "lastName": "Lovelace"},
        opens=OLD,
    ),
    "update of a lost user": Case(
        kind="user_update",
        meets="lost",
        data={"first_name": "Eve"},
        leaves={"firstName": "Eve", "lastName": "Lovelace"},
        opens=OLD,
    ),
    "update of nobody": Case(
        kind="user_update",
        meets="nobody",
        data={"first_name": "Eve", "last_name": "B"},
        leaves={"firstName": "Eve", "lastName": "B", "enabled": True},
    ),
    "password": Case(
        kind="password_change",
        meets="somebody",
        password=NEW,
        leaves={"firstName": "Ada", "lastName": "Lovelace", "requiredActions": []},
        opens=NEW,
    ),
    "password of a lost user": Case(
        kind="password_change",
        meets="lost",
        password=NEW,
        leaves={"firstName": "Ada", "lastName": "Lovelace"},
        opens=NEW,
    ),
    "password of nobody": Case(
        kind="password_change",
        meets="nobody",
        data={"temporary": True},
        password=NEW,
        leaves={"enabled": True, "requiredActions": ["UPDATE_PASSWORD"]},
    ),
    "delete": Case(kind="user_delete", meets="somebody", leaves=None),
    "delete of nobody": Case(kind="user_delete", meets="nobody", leaves=None),
    "delete that disables": Case(
        kind="user_delete",
        meets="somebody",
        data={"mode": "disable"},
        leaves={"firstName": "Ada", "lastName": "Lovelace", "enabled": False},
    ),
}


def as_known(person: Person, password: str) -> KnownUser:
    sealed = person.change("password_change", password=password)
    return KnownUser(
        realm=sealed.realm,
        username_key=sealed.username_key,
        exists=True,
        data={**BEFORE, "email": person.email, "enabled": True},
        credential=sealed.credential,
        credential_event_id=sealed.event_id,
        user_id="11111111-2222-4333-8444-555555555555",
    )


async def met(person: Person, case: Case) -> Change:
    """Bring about what the change meets; the change, as the drain would make it."""
    # Keycloak lets nobody log in whose profile has no e-mail address.
    data = {"email": person.email, **case.data} if case.kind == "user_create" else case.data
    change = person.change(case.kind, data, password=case.password)
    if case.meets == "nobody":
        return change
    known = as_known(person, OLD)
    if case.meets == "somebody":
        made = await person.apply("user_create", {**BEFORE, "email": person.email}, password=OLD)
        known = replace(known, user_id=made.user_id)
    return replace(change, known=lambda: known, user_id=known.user_id)


async def is_right(person: Person, case: Case) -> None:
    if case.leaves is None:
        assert await person.seen() is None
        return
    user = await person.there()
    assert {name: user.get(name) for name in case.leaves} == case.leaves
    if case.opens is not None:
        assert await person.logs_in(case.opens)


class Losing:
    """Loses the answer to one call to the users of a realm, by its number."""

    def __init__(self, proxy: KeycloakProxy) -> None:
        self.proxy = proxy
        self.left = -1
        self.writes = False
        self.lost = False

    def __enter__(self) -> Self:
        self.proxy.loses = self.loses
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.loses = lambda _: False

    def loses(self, call: Call) -> bool:
        if "/admin/" not in call.path or self.left < 0:
            return False
        self.left -= 1
        if self.left >= 0:
            return False
        self.lost, self.writes = True, call.method != "GET"
        return True


async def again(person: Person, change: Change, since: datetime | None) -> Outcome:
    return await person.deliver(replace(change, maybe_applied_since=since))


@pytest.mark.parametrize("name", CASES)
async def test_twice_is_as_once(lossy_workbench: Workbench, name: str) -> None:
    case, person = CASES[name], lossy_workbench.person()
    change = await met(person, case)

    since = datetime.now(UTC)
    first = await again(person, change, None)
    await is_right(person, case)
    second = await again(person, change, since)

    assert isinstance(first, Delivered), first
    assert isinstance(second, Delivered), second
    await is_right(person, case)


@pytest.mark.parametrize("name", CASES)
async def test_a_lost_answer_at_any_point_is_made_good_by_the_next_call(
    lossy_workbench: Workbench, proxy: KeycloakProxy, name: str
) -> None:
    case = CASES[name]
    for number in range(MOST_CALLS):
        person = lossy_workbench.person()
        change = await met(person, case)
        since = datetime.now(UTC)
        with Losing(proxy) as losing:
            losing.left = number
            outcome = await again(person, change, None)
        if not losing.lost:
            # Delivered in fewer calls: every point has been tried.
            assert number > 0
            assert isinstance(outcome, Delivered), outcome
            break
        if isinstance(outcome, Delivered) and outcome.dropped:
            # Lost was the look at what the realm has kept, after all was written.
            assert not losing.writes
            continue
        assert isinstance(outcome, Retry), (number, outcome)
        assert outcome.failure.ambiguous or not losing.writes

        doubt = outcome.failure.ambiguous or outcome.failure.partial
        outcome = await again(person, change, since if doubt else None)

        assert isinstance(outcome, Delivered), (number, outcome)
        await is_right(person, case)
    else:
        raise AssertionError(f"still more than {MOST_CALLS} calls")


async def test_a_heal_whose_answer_was_lost_is_made_good_by_the_next(
    lossy_workbench: Workbench, proxy: KeycloakProxy
) -> None:
    for meets in ("somebody", "lost"):
        for number in range(MOST_CALLS):
            person = lossy_workbench.person()
            await met(person, Case(kind="user_update", meets=meets, leaves={}))
            known = replace(
                as_known(person, NEW), data={"email": person.email, **BEFORE, "first_name": "Eve"}
            )
            late = LateEffects(
                fields=(
                    LateField(
                        name="first_name",
                        part="field",
                        key="first_name",
                        late=("Ada",),
                        is_known=True,
                        wanted="Eve",
                    ),
                ),
                passwords=(
                    LatePassword(
                        "an older event",
                        datetime.now(UTC) - timedelta(minutes=1),
                        datetime.now(UTC) + timedelta(minutes=1),
                    ),
                ),
            )
            with Losing(proxy) as losing:
                losing.left = number
                outcome = await lossy_workbench.delivery.heal(known, late, lambda: None)
            if not losing.lost:
                assert isinstance(outcome, Delivered), outcome
                break
            # The password may be the user's by now, and the policy says so: there is nothing left to heal.
            outcome = await lossy_workbench.delivery.heal(known, late, lambda: None)
            assert isinstance(outcome, Delivered) or outcome.reason is Reason.HEAL_REFUSED_BY_HISTORY, outcome
            user = await person.there()
            assert (user["firstName"], user["lastName"]) == ("Eve", "Lovelace")
            assert await person.logs_in(NEW)


async def test_what_was_written_before_the_call_that_failed_is_in_doubt(
    lossy_workbench: Workbench, proxy: KeycloakProxy
) -> None:
    """The profile was written, and a definite refusal of the next call must not hide it."""
    person = lossy_workbench.person()
    change = await met(person, CASES["create of somebody who is there"])
    proxy.answer = lambda call: (429, "") if call.path.endswith("reset-password") else None

    outcome = await again(person, change, None)

    assert not isinstance(outcome, Delivered)
    assert (outcome.reason, outcome.failure.partial) == (Reason.THROTTLED, True)
    assert (await person.there())["firstName"] == "Eve"


class TestTheIdThatALaneKnows:
    async def test_of_a_user_who_was_made_anew_is_looked_up_by_every_kind(
        self, strict_person: Person
    ) -> None:
        stale = (await strict_person.apply("user_create", {"email": strict_person.email})).user_id
        await strict_person.apply("user_delete")
        fresh = (await strict_person.apply("user_create", {"email": strict_person.email})).user_id
        assert fresh != stale

        for kind, data, password in (
            ("user_update", {"first_name": "Anew"}, None),
            ("user_update", {"last_name": "B", "attributes": TEAM}, None),
            ("password_change", {}, LATER),
            ("user_delete", {"mode": "disable"}, None),
        ):
            change = strict_person.change(kind, data, password=password, user_id=stale)
            outcome = await strict_person.deliver(change)
            assert isinstance(outcome, Delivered), (kind, outcome)
            assert outcome.user_id == fresh

        gone = await strict_person.deliver(strict_person.change("user_delete", user_id=stale))
        assert isinstance(gone, Delivered)
        assert gone.reason is Reason.DELETED
        assert await strict_person.seen() is None
