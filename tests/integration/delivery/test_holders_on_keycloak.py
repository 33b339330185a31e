"""A name or an address that somebody else has: who that is, as a real Keycloak tells it."""

from __future__ import annotations

import pytest

from consumer.delivery.outcome import Outcome, Reason, Retry
from tests.integration.delivery.conftest import Person


def holder_in(outcome: Outcome) -> tuple[Reason, str | None]:
    """Why the change was refused, and who stands in its way; nothing else of the outcome says who."""
    assert isinstance(outcome, Retry), outcome
    assert outcome.failure.holder is None or outcome.failure.holder not in f"{outcome}"
    return outcome.reason, outcome.failure.holder


@pytest.fixture
async def holder(strict_person: Person) -> Person:
    """Somebody with an address."""
    await strict_person.apply("user_create", {"email": f"jose-{strict_person.email}"})
    return strict_person


def somebody_called(person: Person, username: str) -> Person:
    return Person(person.realm, username, person.workbench)


async def other_than(person: Person) -> Person:
    """Another user, who exists."""
    other = person.workbench.person()
    await other.apply("user_create")
    return other


@pytest.mark.parametrize(("start", "reason"), [("jose", Reason.EMAIL_IN_USE), ("jos\u00e9", Reason.CONFLICT)])
async def test_an_address_of_somebodys(holder: Person, start: str, reason: Reason) -> None:
    name = holder.username.lower()
    data = {"email": f"{start}-{holder.email}"}
    new, other = holder.workbench.person(), await other_than(holder)

    assert holder_in(await new.deliver(new.change("user_create", data))) == (reason, name)
    assert holder_in(await other.deliver(other.change("user_update", data))) == (reason, name)
    assert await new.seen() is None
    assert "email" not in await other.there()


async def test_an_address_that_is_somebodys_name(strict_person: Person) -> None:
    named = somebody_called(strict_person, strict_person.email)
    await named.apply("user_create")
    data = {"email": strict_person.email}
    new, other = strict_person.workbench.person(), await other_than(strict_person)

    taken = (Reason.EMAIL_IN_USE, strict_person.email)
    assert holder_in(await new.deliver(new.change("user_create", data))) == taken
    assert holder_in(await other.deliver(other.change("user_update", data))) == taken


async def test_a_name_that_is_somebodys_address(holder: Person) -> None:
    new = somebody_called(holder, f"jose-{holder.email}")

    outcome = await new.deliver(new.change("user_create"))

    assert holder_in(outcome) == (Reason.USERNAME_IN_USE, holder.username.lower())


async def test_a_name_that_differs_from_anothers_in_accents(strict_person: Person) -> None:
    """On MariaDB; nobody is taken for somebody else."""
    plain = somebody_called(strict_person, f"{strict_person.username}-muller")
    accented = somebody_called(strict_person, f"{strict_person.username}-m\u00fcller")
    await plain.apply("user_create", {"first_name": "Plain"})
    before = await plain.there()

    outcome = await accented.deliver(accented.change("user_create", {"first_name": "Accented"}))

    assert holder_in(outcome) == (Reason.CONFLICT, plain.username.lower())
    assert await plain.there() == before
