"""The calls that we make for a lane, and what those may still leave whose answers we do not have.

The oracle's own account of doubt: from the requests and answers themselves, without a look at what the product keeps.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.expected import ATTRIBUTE, EVERY_ATTRIBUTE, ExpectedUser
from tests.simulation.fake_keycloak import Reply, Request

__all__ = ["OurCall", "OurCalls", "is_carried_along"]


@dataclass(slots=True, eq=False, kw_only=True)
class OurCall:
    """One delivery, heal or look: all its requests.

    Attributes:
        what: Its event, or whose heal it is.
        event_id: Of its event, the first of a merge group; None for a heal.
        kind: Of its event; None for a heal.
        host: Who makes it.
        carries: The fields of its event, as it sends them.
        expected: The user as accepted events have made them when it began.
        only_claimed: No request of it has left: as far as others can tell it may have been made.
        begun: Simulated seconds.
        ended: When its caller knew that it was over, or somebody else took its lane over; None until then.
        sent: Writes of it that have left.
        unanswered: A write of it has no definite answer.
        wrote: A write of it has taken effect.
        sets_password: One of its requests carries a password.
        delivered: It came to what it should.
        recorded: That stands in the outbox.
        fenced: It never will, or nobody knows that it was made.
    """

    what: str
    event_id: str | None
    kind: str | None
    realm: str
    username_key: str
    host: str
    carries: Mapping[str, Any]
    expected: ExpectedUser
    begun: float
    only_claimed: bool = False
    ended: float | None = None
    sent: int = 0
    unanswered: bool = False
    wrote: bool = False
    sets_password: bool = False
    delivered: bool = False
    recorded: bool = False
    fenced: bool = False

    @property
    def heals(self) -> bool:
        """Whether it is a heal, or a look after one."""
        return self.event_id is None

    @property
    def merges(self) -> bool:
        """Whether it writes attributes: then it writes the rest of the profile as well, as it was just read."""
        return any(name == EVERY_ATTRIBUTE or name.startswith(ATTRIBUTE) for name in self.carries)

    @property
    def in_doubt(self) -> bool:
        """Whether something of it may be there, or may still come, that nobody has written down."""
        return not self.recorded or self.unanswered or (self.wrote and not self.delivered)

    def names(self, name: str) -> bool:
        """Whether its event names a field."""
        return name in self.carries or (name.startswith(ATTRIBUTE) and "attributes" in self.carries)

    def may_leave(self, name: str, value: Any) -> bool:
        """Whether it may leave a field with this value: the event's, or what was known when it began."""
        if self.names(name) and self.carries.get(name) == value:
            return True
        if self.expected.knows(name):
            return bool(self.expected.value(name) == value)
        return value is None and self.merges and is_carried_along(name)

    def may_set_password(self, at: float, *, server_limit: float, allowance: float) -> bool:
        """Whether a password of this moment may be its."""
        if not self.sets_password and "password" not in self.carries:
            return False
        until = math.inf if self.ended is None else self.ended + server_limit
        return self.begun - allowance <= at <= until + allowance

    def leaves(self, request: Request) -> None:
        """A request of it leaves."""
        self.sent += request.method != "GET"
        self.sets_password |= request.path.endswith("/reset-password") or '"credentials"' in request.body

    def answered(self, request: Request, reply: Reply | None) -> None:
        """A request of it has come to its end; None: without an answer."""
        if request.method == "GET":
            return
        turned_away = reply is not None and reply.status == 503 and "Retry-After" in reply.headers
        if reply is None or (reply.status >= 500 and not turned_away):
            self.unanswered = True


@dataclass(slots=True)
class OurCalls:
    """The calls of all lanes that are under way or in doubt."""

    _of: defaultdict[bytes, list[OurCall]] = field(default_factory=lambda: defaultdict(list))

    def begin(self, lane: bytes, call: OurCall) -> None:
        """A call begins; whoever had the lane before is out of it now."""
        self.unclaim(lane, call.host)
        for before in self._of[lane]:
            if before.ended is None and before.host != call.host:
                before.ended = call.begun
        self._of[lane].append(call)

    def claim(self, lane: bytes, calls: Sequence[OurCall]) -> None:
        """Entries are claimed; of those that were claimed before, nobody can say any more that they were not called."""
        for before in self._of[lane]:
            if before.only_claimed or before.host != calls[0].host:
                before.ended = before.ended or calls[0].begun
                before.fenced |= before.only_claimed
            before.only_claimed = False
        self._of[lane] += calls

    def unclaim(self, lane: bytes, host: str) -> None:
        """What a host has claimed of a lane is called now, or handed back."""
        self._of[lane] = [call for call in self._of[lane] if not (call.only_claimed and call.host == host)]

    def ended(self, lane: bytes, call: OurCall, now: float) -> None:
        """Its caller knows that it is over."""
        call.ended = now
        if call.sent == 0 and not call.delivered:
            self._of[lane].remove(call)

    def settled(self, lane: bytes, host: str, now: float, *, fenced: bool) -> None:
        """What a host has called for a lane until now stands in the outbox, or its write-back was fenced.

        Who else had a call under way has lost the lane.
        """
        for call in self._of[lane]:
            if call.host != host and call.ended is None and not fenced:
                call.ended = now
            if call.host == host and call.ended is not None and not call.recorded:
                call.fenced |= fenced
                call.recorded = not call.fenced
        self._of[lane] = [call for call in self._of[lane] if call.in_doubt]

    def in_doubt(self, lane: bytes) -> Iterator[OurCall]:
        """Calls of a lane that may have left something, or may still do so."""
        return (call for call in self._of[lane] if call.in_doubt)


def is_carried_along(name: str) -> bool:
    """Whether a PUT with attributes holds this field, whatever its event names."""
    return name in {"email", "first_name", "last_name"} or name.startswith(ATTRIBUTE)
