from __future__ import annotations

import random
from collections import Counter

import pytest

from compose.demo.expectation import Expectation
from compose.demo.story import AFTER, BEFORE, OUTAGE, SEQUENCE, Script, write_script
from producer_lib import PasswordChange, UserCreate, UserDelete, UserUpdate, username_key


@pytest.fixture(params=range(5))
def script(request: pytest.FixtureRequest) -> Script:
    return write_script("run", random.Random(request.param))


class TestTheScript:
    def test_is_the_same_for_the_same_chance(self) -> None:
        def told(seed: int) -> list[tuple[type, str]]:
            changes = write_script("run", random.Random(seed)).changes
            return [(type(change), change.username) for change in changes]

        assert told(1) == told(1)
        assert told(1) != told(2)

    def test_never_changes_somebody_who_is_not_there_nor_creates_somebody_who_is(
        self, script: Script
    ) -> None:
        there: set[str] = set()
        for change in script.changes:
            key = username_key(change.username)
            assert (key not in there) == isinstance(change, UserCreate)
            if isinstance(change, UserDelete):
                there.remove(key)
            else:
                there.add(key)

    def test_plays_every_act_in_full(self, script: Script) -> None:
        for act, changes in ((BEFORE, script.before), (OUTAGE, script.outage), (AFTER, script.after)):
            counts = Counter(type(change) for change in changes)

            assert counts[UserCreate] == act.creates + act.returns
            assert counts[UserUpdate] == act.updates
            assert counts[PasswordChange] == act.passwords
            assert counts[UserDelete] == act.deletes

    def test_numbers_each_users_writes_upwards_from_one(self, script: Script) -> None:
        for user in Expectation(script.changes).users.values():
            assert user.sequences == tuple(range(1, len(user.sequences) + 1))

    def test_gives_every_user_a_name_and_an_address_of_their_own(self, script: Script) -> None:
        users = Expectation(script.changes).alive
        addresses = [user.email for user in users]

        assert len(set(addresses)) == len(users)
        assert all(user.username.startswith("run-") for user in users)
        # Without these, Keycloak lets nobody log in.
        assert all(user.email and user.first_name and user.last_name for user in users)

    def test_has_what_makes_it_hard(self, script: Script) -> None:
        changes = script.changes
        updates = [change for change in changes if isinstance(change, UserUpdate)]

        assert any(change.username != username_key(change.username) for change in updates)
        assert any(change.attributes is None for change in updates)
        assert any(SEQUENCE in (change.attributes or {}) for change in updates)
        assert any(change.enabled is False for change in updates)
        assert any(user.lives > 1 for user in Expectation(changes).alive)
        assert any(isinstance(change, UserCreate) and change.password for change in script.outage)

    def test_leaves_enough_users_whose_password_can_be_tried(self, script: Script) -> None:
        assert len(Expectation(script.changes).with_new_password(30)) >= 20
