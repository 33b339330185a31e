"""The script of the demo: which users there are and what happens to them, act by act. Pure.

Every create and update writes the user's own running number into an attribute, so that Keycloak's admin events show
in which order the changes arrived there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from producer_lib import PasswordChange, UserChange, UserCreate, UserDelete, UserUpdate

SEQUENCE: Final = "demo_seq"
"""The attribute that holds the running number."""

# fmt: off
_FIRST: Final = (
    "Ada", "Alan", "Åsa", "Barbara", "Chinua", "Dennis", "Edsger", "Fatima", "Frances", "Grace",
    "Hedy", "Ines", "Jörg", "Katherine", "Ken", "Leslie", "Margaret", "Niklaus", "Radia", "Zoë",
)
_LAST: Final = (
    "Allen", "Borg", "Dijkstra", "Goldberg", "Hamilton", "Hopper", "Johnson", "Kay", "Lamarr", "Lamport",
    "Liskov", "Lovelace", "Mäkinen", "Okafor", "Perlman", "Ritchie", "Thompson", "Turing", "Wirth", "Ångström",
)
# fmt: on
_PLAIN: Final = str.maketrans("ÅåäöëÖ", "AaaoeO")
_DEPARTMENTS: Final = ("sales", "support", "finance", "research", "field")
_CITIES: Final = ("Aachen", "Bergen", "Córdoba", "Łódź", "Tromsø")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The acts, each a list of changes in the order in which they are published.

    Attributes:
        before: Keycloak is there.
        outage: Keycloak is away.
        after: Keycloak is on its way back.
    """

    before: tuple[UserChange, ...]
    outage: tuple[UserChange, ...]
    after: tuple[UserChange, ...]

    @property
    def changes(self) -> tuple[UserChange, ...]:
        """All of it."""
        return self.before + self.outage + self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """How much happens in one act.

    Attributes:
        creates: New users.
        updates: Changes of users who are there.
        passwords: New passwords of users who are there.
        deletes: Users who go.
        returns: Users who went, and are created again under the same name.
    """

    creates: int
    updates: int
    passwords: int
    deletes: int
    returns: int


BEFORE: Final = Act(creates=260, updates=300, passwords=50, deletes=20, returns=4)
OUTAGE: Final = Act(creates=40, updates=260, passwords=50, deletes=20, returns=6)
AFTER: Final = Act(creates=0, updates=100, passwords=15, deletes=6, returns=2)


def write_script(run: str, chance: random.Random) -> Script:
    """Write the script of one run.

    Args:
        run: begins every username, so that runs do not meet.
        chance: decides what happens to whom.
    """
    cast = _Cast(run, chance)
    before, outage, after = (tuple(cast.play(act)) for act in (BEFORE, OUTAGE, AFTER))
    return Script(before=before, outage=outage, after=after)


@dataclass(slots=True)
class _Person:
    username: str
    slug: str
    first: str
    last: str
    sequence: int = 0

    def next(self) -> list[str]:
        self.sequence += 1
        return [str(self.sequence)]


class _Cast:
    """Who is there, who went, and who has not come yet."""

    def __init__(self, run: str, chance: random.Random) -> None:
        self._run = run
        self._chance = chance
        self._coming = [(first, last) for first in _FIRST for last in _LAST]
        chance.shuffle(self._coming)
        self._there: list[_Person] = []
        self._gone: list[_Person] = []

    def play(self, act: Act) -> Iterator[UserChange]:
        """Give the act's changes in a random order in which each is possible."""
        left = {
            self._create: act.creates,
            self._update: act.updates,
            self._change_password: act.passwords,
            self._delete: act.deletes,
            self._return: act.returns,
        }
        while any(left.values()):
            possible = [
                step
                for step, count in left.items()
                if count
                and (step == self._create or (self._gone if step == self._return else len(self._there) > 1))
            ]
            if not possible:
                # Nobody has gone yet whom this act could bring back.
                return
            (step,) = self._chance.choices(possible, [left[step] for step in possible])
            left[step] -= 1
            yield step()

    def _create(self) -> UserChange:
        first, last = self._coming.pop()
        name = f"{first}.{last}".translate(_PLAIN)
        slug = name.lower()
        # Keycloak knows usernames in lower case only; an application may not.
        username = f"{self._run}-{name if self._chance.random() < 0.1 else slug}"
        person = _Person(username, slug, first, last)
        self._there.append(person)
        return self._creation(person)

    def _return(self) -> UserChange:
        person = self._gone.pop(self._chance.randrange(len(self._gone)))
        self._there.append(person)
        return self._creation(person)

    def _creation(self, person: _Person) -> UserChange:
        return UserCreate(
            username=person.username,
            email=f"{person.slug}@{self._run}.example",
            email_verified=self._chance.random() < 0.5,
            first_name=person.first,
            last_name=person.last,
            attributes={
                SEQUENCE: person.next(),
                "department": [self._chance.choice(_DEPARTMENTS)],
                "cities": self._chance.sample(_CITIES, 2),
            },
            password=self._new_password() if self._chance.random() < 0.25 else None,
        )

    def _update(self) -> UserChange:
        person = self._anybody()
        # A tenth names no attribute at all: those that are there must stay.
        match self._chance.randrange(10):
            case 0:
                return UserUpdate(username=person.username, email_verified=True)
            case 1 | 2:
                person.last = self._chance.choice(_LAST)
                return UserUpdate(
                    username=person.username,
                    last_name=person.last,
                    attributes={SEQUENCE: person.next()},
                )
            case 3:
                return UserUpdate(
                    username=person.username,
                    enabled=self._chance.random() < 0.5,
                    attributes={SEQUENCE: person.next()},
                )
            case 4:
                return UserUpdate(
                    username=person.username,
                    email=f"{person.slug}.{person.sequence}@{self._run}.example",
                    attributes={SEQUENCE: person.next()},
                )
            case 5:
                return UserUpdate(
                    username=person.username.upper(),
                    attributes={SEQUENCE: person.next(), "cities": self._chance.sample(_CITIES, 3)},
                )
            case _:
                return UserUpdate(
                    username=person.username,
                    attributes={SEQUENCE: person.next(), "department": [self._chance.choice(_DEPARTMENTS)]},
                )

    def _change_password(self) -> UserChange:
        return PasswordChange(username=self._anybody().username, password=self._new_password())

    def _delete(self) -> UserChange:
        person = self._there.pop(self._chance.randrange(len(self._there)))
        self._gone.append(person)
        return UserDelete(username=person.username, mode="delete", reason="left the company")

    def _anybody(self) -> _Person:
        """Somebody who is there; a fifth of them have most of the changes, as in life."""
        busy = max(2, len(self._there) // 5)
        return self._there[self._chance.randrange(busy if self._chance.random() < 0.5 else len(self._there))]

    def _new_password(self) -> str:
        return f"pw-{self._chance.getrandbits(64):016x}"
