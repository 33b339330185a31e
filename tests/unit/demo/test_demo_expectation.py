from __future__ import annotations

import pytest

from compose.demo.expectation import Expectation, Expected
from producer_lib import PasswordChange, UserChange, UserCreate, UserDelete, UserUpdate

CREATE = UserCreate(
    username="Run-Ada",
    email="ada@run.example",
    first_name="Ada",
    last_name="Lovelace",
    attributes={"demo_seq": ["1"], "cities": ["Bergen", "Aachen"]},
    password="first",
)


def after(*changes: UserChange) -> Expected:
    (user,) = Expectation(changes).users.values()
    return user


class TestTheExpectation:
    def test_knows_a_user_by_the_name_that_keycloak_stores(self) -> None:
        user = after(CREATE, UserUpdate(username="RUN-ADA", last_name="Byron"))

        assert user.username == "run-ada"
        assert user.last_name == "Byron"

    def test_takes_a_new_user_for_enabled_and_unverified_unless_told(self) -> None:
        assert after(CREATE).enabled is True
        assert after(CREATE).email_verified is False

    def test_leaves_what_an_update_does_not_name(self) -> None:
        user = after(CREATE, UserUpdate(username="run-ada", attributes={"demo_seq": ["2"]}))

        assert user.email == "ada@run.example"
        assert user.attributes == {"demo_seq": frozenset({"2"}), "cities": frozenset({"Aachen", "Bergen"})}
        assert user.sequences == (1, 2)

    def test_takes_the_words_of_false_for_a_value(self) -> None:
        assert after(CREATE, UserUpdate(username="run-ada", enabled=False)).enabled is False

    def test_keeps_passwords_in_their_order(self) -> None:
        user = after(CREATE, PasswordChange(username="run-ada", password="second"))

        assert user.passwords == ("first", "second")

    def test_begins_a_new_life_after_a_delete(self) -> None:
        again = UserCreate(username="run-ada", email="new@run.example", attributes={"demo_seq": ["2"]})
        user = after(
            CREATE,
            PasswordChange(username="run-ada", password="second"),
            UserDelete(username="run-ada"),
            again,
        )

        assert (user.exists, user.lives) == (True, 2)
        assert (user.email, user.first_name) == ("new@run.example", None)
        assert user.passwords == ()
        assert user.attributes == {"demo_seq": frozenset({"2"})}
        assert user.sequences == (1, 2)

    def test_counts_a_deleted_user_among_those_gone(self) -> None:
        expectation = Expectation([CREATE, UserDelete(username="run-ada")])

        assert expectation.alive == ()
        assert [user.username for user in expectation.gone] == ["run-ada"]

    def test_chooses_for_logins_those_changed_last_who_may_log_in(self) -> None:
        names = ("run-a", "run-b", "run-c", "run-d")
        creates = [UserCreate(username=name, password="first") for name in names]
        changes = [PasswordChange(username=name, password="second") for name in names[:3]]
        barred = UserUpdate(username="run-b", enabled=False)
        touched = UserUpdate(username="run-a", first_name="A")
        expectation = Expectation([*creates, *changes, barred, touched])

        assert [user.username for user in expectation.with_new_password(2)] == ["run-c", "run-a"]
        assert [user.username for user in expectation.with_new_password(1)] == ["run-a"]

    def test_refuses_a_change_it_does_not_know(self) -> None:
        with pytest.raises(TypeError, match="UserChange"):
            Expectation([UserChange(username="run-ada")])

    def test_shows_no_password(self) -> None:
        assert "first" not in repr(after(CREATE)).replace("first_name", "")
