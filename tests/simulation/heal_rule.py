"""The rule of the heal, as the simulation judges it: kcsync undoes its own late effects, and nothing else (I11, I3).

**At each change** (I11). A heal may change what somebody else has set only

- while they were at it: their change came after the heal had begun (Keycloak has no condition for a write);
- where it cannot be told whose it is: what they set is, to the letter, what a call in doubt may have left: the event's
  value, or the value that was known when that call began. So it is with what has two values, where many say the same. Names,
  attributes and addresses are unlike each other in this world: of these only the absence can meet;
- for a password, where Keycloak's date of it lies between the begin of a call in doubt that carried one and its end plus the
  server limit.

It never enables anybody, and never deletes anybody. A delivery changes what its event names; anything else of somebody's
only while they were at it. A delete that is repeated because its answer was lost never deletes somebody who came after it.
Who was deleted by somebody else is made again only by a create, or where the setting says so.

**At the end** (I3) every user is what accepted events make, except where

- somebody else has changed the field, or has made or deleted the user, since our last delivery of it;
- a merge of ours has carried along what somebody else had set, under the hands of whoever changed it meanwhile: nobody wrote
  down that it did;
- a call in doubt has left a field of which no accepted event has said anything: there is nothing to put back;
- a call in doubt has barred the user: `enabled` is never healed from false to true;
- a password came later than the server limit after the end of its call, with the demand for another one that belongs to
  it: by its date it is somebody's own choice;
- the password is not kept any more, so that nobody can put it back;
- a create in doubt has made a user who should not be there: a heal never deletes anybody.

Nothing else is permitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.simulation.expected import UPDATE_PASSWORD, ExpectedUser, differences, fields_of
from tests.simulation.fake_keycloak import User
from tests.simulation.history import EXISTS, Change, History
from tests.simulation.our_calls import OurCall, OurCalls, is_carried_along

__all__ = ["HealRule"]

_ALLOWANCE: Final = 1.0
"""Seconds by which the product may be wrong about Keycloak's clock."""


@dataclass(slots=True, kw_only=True)
class HealRule:
    """Judges each change, and the end.

    Attributes:
        server_limit: seconds after the end of a call within which it may take effect, as the product has it.
        restores: whether a user who is missing is made again.
        fail: told what must not be.
        overdue: how many effects came later than the server limit.
    """

    history: History
    calls: OurCalls
    server_limit: float
    restores: bool
    fail: Callable[[str, str], None]
    overdue: int = 0

    def judge(self, lane: bytes, changes: list[Change]) -> None:
        """Judge what one request of ours has changed."""
        call = changes[0].by.call
        assert call is not None
        call.wrote = True
        if call.ended is not None and changes[0].at > call.ended + self.server_limit:
            self.overdue += 1
        for change in changes:
            if change.name == EXISTS:
                self._judge_existence(lane, call, change)
                return
            if call.heals and change.name == "enabled" and change.after:
                self.fail("I11", f"{call.what} enables {call.username_key}")
            theirs = self.history.before(change)
            if theirs.by_others:
                self._judge_theirs(lane, call, change, theirs)

    def _judge_existence(self, lane: bytes, call: OurCall, change: Change) -> None:
        if not change.after:
            if call.heals:
                self.fail("I11", f"{call.what} deletes {call.username_key}")
            made = self.history.made(change.user_id)
            for before in self.calls.in_doubt(lane):
                repeats = before is not call and before.event_id == call.event_id
                if repeats and made.by_others and made.at > before.begun:
                    self.fail(
                        "I11", f"{call.what} deletes somebody who came at {made.at:.4f}, and is repeated"
                    )
            return
        gone = self.history.gone(call.realm, call.username_key, before=change)
        if not self.restores and call.kind != "user_create" and gone is not None and gone.by_others:
            self.fail("I11", f"{call.what} makes {call.username_key} again, whom {gone.by.name} has deleted")

    def _judge_theirs(self, lane: bytes, call: OurCall, change: Change, theirs: Change) -> None:
        if theirs.at >= call.begun or (not call.heals and call.names(change.name)):
            return
        if call.heals and self._cannot_be_told(lane, call, change, theirs):
            return
        self.fail(
            "I11",
            f"{call.what} makes {change.name} of {call.username_key} {change.after!r}, which {theirs.by.name} "
            f"has made {change.before!r} at {theirs.at:.4f}",
        )

    def _cannot_be_told(self, lane: bytes, heal: OurCall, change: Change, theirs: Change) -> bool:
        others = [call for call in self.calls.in_doubt(lane) if call is not heal]
        if change.name == "password":
            limit = self.server_limit
            return any(
                call.may_set_password(theirs.at, server_limit=limit, allowance=_ALLOWANCE) for call in others
            )
        return any(call.may_leave(change.name, change.before) for call in others)

    def judge_end(self, realm: str, name: str, expected: ExpectedUser, found: User | None) -> None:
        """Judge a user when all is done."""
        if found is None or not expected.exists:
            if not self._absence_is_explained(realm, name, expected, found):
                self.fail("I3", f"{name}: exists: {found is not None}")
            return
        for each, (want, got) in differences(expected, fields_of(found)).items():
            change = self.history.last(found.id, each)
            if not change.by_others and not self._is_explained(change, each, got, expected):
                self.fail(
                    "I3",
                    f"{name}: {each} is {got!r} instead of {want!r}: {change.by.name} has made it so "
                    f"at {change.at:.4f}",
                )

    def _absence_is_explained(
        self, realm: str, name: str, expected: ExpectedUser, found: User | None
    ) -> bool:
        if expected.exists == (found is not None):
            return True
        if found is None:
            gone = self.history.gone(realm, name)
            return gone is not None and gone.by_others
        made = self.history.made(found.id)
        return made.by_others or (made.by.call is not None and made.by.call.in_doubt)

    def _is_explained(self, change: Change, name: str, got: Any, expected: ExpectedUser) -> bool:
        call = change.by.call
        assert call is not None
        carried_along = is_carried_along(name) and not call.names(name)
        if carried_along and self.history.others_set(change.user_id, name, got):
            return True
        if change.name == EXISTS and name == "password":
            # Made again, and the password was not kept.
            return got is None
        if not call.in_doubt:
            return False
        if name == "password" or (name == UPDATE_PASSWORD and call.sets_password):
            return call.ended is not None and change.at > call.ended + self.server_limit - _ALLOWANCE
        return not expected.knows(name) or (name == "enabled" and got is False)
