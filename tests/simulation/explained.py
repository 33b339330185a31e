"""What is said of a change, held against the users as they were: a refusal, an absence and "not applied" must be true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from consumer.delivery.outcome import Blame, Delivered, Outcome, Reason
from tests.simulation.expected import EVERY_ATTRIBUTE, fields_of
from tests.simulation.history import History

if TYPE_CHECKING:
    from tests.simulation.keycloak_link import Errand
    from tests.simulation.our_calls import OurCall

__all__ = ["Explained"]

_NEVER_ASKED: Final = frozenset({"dropped", "invalid_data"})
"""Reasons of dead letters that come from an operator, or from reading the event."""


@dataclass(slots=True)
class Explained:
    """Judges what the drain was told.

    Attributes:
        restores: whether a user who is missing is made again.
        fail: told what is not so.
    """

    history: History
    restores: bool
    fail: Callable[[str, str], None]
    _told: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def delivery(self, errand: Errand, call: OurCall, outcome: Outcome) -> None:
        """What came of a delivery or a heal."""
        known = call.expected.value("email")
        self._judge(errand, call.begun, outcome, {errand.carries.get("email"), known} - {None})

    def look(self, errand: Errand, begun: float, outcome: Outcome) -> None:
        """What a look has found."""
        self._judge(errand, begun, outcome, set())

    def may_die(self, event_id: str, reason: str | None) -> bool:
        """Whether an event may be given up for this reason: it was told so, and it was so."""
        return reason in _NEVER_ASKED or reason in self._told[event_id]

    def _judge(self, errand: Errand, begun: float, outcome: Outcome, addresses: set[str]) -> None:
        said = outcome.reason
        about_the_user = isinstance(outcome, Delivered) or outcome.failure.blame is Blame.USER
        if about_the_user and not self._is_so(errand, begun, said, addresses):
            what = errand.event_id or f"the heal of {errand.username_key}"
            self.fail("I1", f"{what} is told {said.value}, and nothing explains it")
        if errand.event_id is not None:
            self._told[errand.event_id].add(said.value)

    def _is_so(self, errand: Errand, begun: float, said: Reason, addresses: set[str]) -> bool:
        history, realm, name = self.history, errand.realm, errand.username_key
        match said:
            case Reason.USER_MISSING | Reason.ALREADY_ABSENT:
                # A heal, a look and a delete in doubt ask for the one they know, whoever has the name by now.
                by_id = errand.kind in {None, "user_delete"} and history.gone(realm, name) is not None
                return by_id or history.was_absent(realm, name, begun)
            case Reason.USER_LOST:
                return not self.restores and history.was_absent(realm, name, begun)
            case Reason.EMAIL_IN_USE:
                return any(history.others_had(realm, each, name, begun) for each in addresses)
            case Reason.NOT_APPLIED:
                return history.was_absent(realm, name, begun) or not self._holds(errand, begun)
            case Reason.ALREADY_APPLIED:
                return self._holds(errand, begun, else_changed=True)
            case Reason.CREATED | Reason.CONVERGED | Reason.UPDATED | Reason.PASSWORD_SET | Reason.DISABLED:
                return True
            case Reason.USERNAME_IN_USE:
                # And gone when it was looked for.
                return history.was_absent(realm, name, begun) and history.was_there(realm, name, begun)
            case (
                Reason.DELETED | Reason.HEALED | Reason.RESTORED | Reason.AS_DELIVERED | Reason.LEFT_AS_FOUND
            ):
                return True
        return False

    def _holds(self, errand: Errand, begun: float, *, else_changed: bool = False) -> bool:
        """Whether the user is as the change wants them; `else_changed` where they have changed since."""
        user = self.history.fake.find(errand.realm, errand.username_key)
        if user is None or self.history.changed_since(user.id, begun):
            return else_changed
        if errand.kind == "user_delete" and not errand.carries:
            return False
        found = fields_of(user)
        password = self.history.last(user.id, "password").by.call
        return all(
            (password is not None and password.event_id == errand.event_id)
            if name == "password"
            else found.get(name) == value
            for name, value in errand.carries.items()
            if name != EVERY_ATTRIBUTE
        )
