"""Whose fault was a failed call? Only a failure while Keycloak was demonstrably available is charged to its entry.

"Available" is shown by a call of another lane, or the control call, that both began and succeeded after the failure.
Without such evidence it is the outage's fault. Timeouts and 5xx are charged more reluctantly still, because a
struggling Keycloak answers some calls and not others.

A refusal without a reason is Keycloak's own where its database takes no writes: reads, and with them the control call,
go well then. It is charged only where a write of somebody else, or the write check, began and succeeded after it
(docs/decisions/0049).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

__all__ = ["Evidence", "Unjudged", "is_charged"]


_MOMENTS = 10
"""Parts of a second in which calls are counted together."""
_RIGHT_AFTER = 5.0
"""Seconds after a failure that tell whether others failed with it."""
_JUST_BEFORE = 5.0
"""Seconds before a refusal in which a write check that failed makes it part of the same outage."""
_REFUSALS_LAST = 60.0
"""Seconds within which refusals of several users are counted together."""
_CHECKED_LATELY = 5.0
"""Seconds for which a write check that succeeded stands, and no other is made: each costs all instances their tokens."""


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A failed call that waits for its judgement.

    Attributes:
        lane: whose call it was.
        ended: when it failed, in seconds of a clock that never goes back.
        vague: a timeout, lost connection or 5xx: it may speak about Keycloak rather than about the user.
        reason: the reason code.
        tail: it began when Keycloak had just come back, and may still have failed on some while it served others.
        unclear: it may be this user's own, or the fault of a Keycloak that takes no writes.
    """

    lane: bytes
    ended: float
    vague: bool
    reason: str
    tail: bool = False
    unclear: bool = False


@dataclass(slots=True)
class _Moment:
    """What ended within a tenth of a second: how many successes, and which lanes failed."""

    succeeded: int = 0
    failed: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Evidence:
    """What this instance has lately seen of Keycloak: the last successes, how many calls succeed, whether it takes writes.

    Attributes:
        window: seconds for which calls are remembered.
        threshold: users refused without a reason within a minute that put all writes in doubt.
    """

    window: float = 600.0
    threshold: int = 3
    _written: tuple[bytes, float] = (b"", float("-inf"))
    _written_other: tuple[bytes, float] = (b"", float("-inf"))
    _check_wrote: float = float("-inf")
    _check_failed: float = float("-inf")
    _write_asked: bool = False
    _refused: dict[bytes, float] = field(default_factory=dict)
    _control_began: float = float("-inf")
    _latest: tuple[bytes, float] = (b"", float("-inf"))
    _latest_other: tuple[bytes, float] = (b"", float("-inf"))
    _moments: dict[int, _Moment] = field(default_factory=dict)
    _calls: deque[tuple[float, bytes, bool]] = field(default_factory=lambda: deque(maxlen=200))

    def control_succeeded(self, began: float) -> None:
        """A control call that began then succeeded."""
        self._control_began = max(self._control_began, began)

    def succeeded(self, lane: bytes, began: float, ended: float) -> None:
        """A lane's call succeeded."""
        self._calls.append((ended, lane, True))
        self._moment(ended).succeeded += 1
        if lane == self._latest[0]:
            self._latest = (lane, max(began, self._latest[1]))
        elif began >= self._latest[1]:
            # Of two different lanes the latest successes are kept: whichever lane asks, one of them is another's.
            self._latest, self._latest_other = (lane, began), self._latest
        elif began > self._latest_other[1]:
            self._latest_other = (lane, began)

    def failed(self, lane: bytes, ended: float) -> None:
        """A lane's call failed in a way that may be Keycloak's fault."""
        self._calls.append((ended, lane, False))
        self._moment(ended).failed.add(lane)

    def refused(self, lane: bytes, ended: float) -> None:
        """A lane's call was refused without a reason, or timed out as no other call does."""
        self._moment(ended).failed.add(lane)
        self._refused = {other: at for other, at in self._refused.items() if ended - at <= _REFUSALS_LAST}
        self._refused[lane] = ended

    def wrote(self, lane: bytes, began: float) -> None:
        """A lane's call has surely written something."""
        self._refused.clear()
        if lane == self._written[0]:
            self._written = (lane, max(began, self._written[1]))
        elif began >= self._written[1]:
            self._written, self._written_other = (lane, began), self._written
        elif began > self._written_other[1]:
            self._written_other = (lane, began)

    def ask_for_writes(self) -> None:
        """Somebody has to know whether Keycloak takes writes."""
        self._write_asked = True

    def writes_in_doubt(self, now: float) -> bool:
        """Whether the next control call should look if Keycloak takes writes, by the write check.

        It should where several users were refused without a reason, where a failure waits to be judged by it, and for as
        long as it fails.
        """
        if self._check_failed > max(self._check_wrote, self._written[1]):
            return True
        lately = [at for at in self._refused.values() if now - at <= _REFUSALS_LAST]
        wanted = self._write_asked or len(lately) >= self.threshold
        return wanted and now - self._check_wrote >= _CHECKED_LATELY

    def write_check_ended(self, began: float, ended: float, *, wrote: bool) -> None:
        """A write check that took place in these moments came to this."""
        self._write_asked = False
        if wrote:
            self._refused.clear()
            self._check_wrote = max(self._check_wrote, began)
        else:
            self._check_failed = max(self._check_failed, ended)

    def wrote_after(self, moment: float, lane: bytes) -> bool:
        """Whether a write of another lane than this one, or the write check, began after that moment and succeeded.

        A write check stands for as long as no other is made.
        """
        _, began = self._written if self._written[0] != lane else self._written_other
        return max(began, self._check_wrote + _CHECKED_LATELY) > moment

    def refuses_writes_since(self, moment: float) -> bool:
        """Whether a write check has failed since shortly before that moment."""
        return self._check_failed >= moment - _JUST_BEFORE

    def available_after(self, moment: float, lane: bytes) -> bool:
        """Whether Keycloak was available to somebody else than this lane after that moment."""
        _, began = self._latest if self._latest[0] != lane else self._latest_other
        return max(began, self._control_began) > moment

    def share_right_after(self, moment: float, lane: bytes) -> float:
        """Which share of what ended right after a failure of this lane was success; 1 where nothing did.

        An outage begins with many lanes failing at once; when it is over, the latest calls show nothing of it.
        """
        first, last = int(moment * _MOMENTS), int((moment + _RIGHT_AFTER) * _MOMENTS)
        counted = [self._moments[at] for at in range(first, last + 1) if at in self._moments]
        succeeded = sum(of.succeeded for of in counted)
        failed = len(set[bytes]().union(*(of.failed for of in counted)) - {lane})
        return succeeded / (succeeded + failed) if succeeded + failed else 1.0

    def _moment(self, ended: float) -> _Moment:
        moment = self._moments.setdefault(int(ended * _MOMENTS), _Moment())
        if len(self._moments) > self.window * _MOMENTS:
            del self._moments[next(iter(self._moments))]
        return moment

    def share_of_others(self, lane: bytes, now: float) -> float:
        """Which share of the latest calls of other lanes succeeded; 0 where there were none.

        A control call only reads. In a quiet hour in which writes fail it would charge a lone user for an outage.
        """
        others = [ok for ended, other, ok in self._calls if other != lane and now - ended <= self.window]
        return sum(others) / len(others) if others else 0.0


def is_charged(
    failure: Unjudged,
    evidence: Evidence,
    *,
    now: float,
    charged_ago: float | None,
    charge_pause: float,
    charge_share: float,
) -> bool:
    """Whether a failed call counts as an attempt of its entry.

    Args:
        failure: the call.
        evidence: what was seen of Keycloak since.
        now: seconds, by the clock of `failure` and `evidence`.
        charged_ago: seconds since the entry was last charged, or None.
        charge_pause: the span in which a vague failure is charged at most once.
        charge_share: the share of other lanes' calls that must succeed for a vague failure to be charged.
    """
    if failure.unclear:
        if not evidence.wrote_after(failure.ended, failure.lane) or evidence.refuses_writes_since(
            failure.ended
        ):
            return False
        # Some of its connections may lead to a database that takes none.
        if evidence.share_right_after(failure.ended, failure.lane) < charge_share:
            return False
    elif not evidence.available_after(failure.ended, failure.lane):
        return False
    if not failure.vague:
        return True
    if failure.tail:
        return False
    if charged_ago is not None and charged_ago < charge_pause:
        return False
    if evidence.share_right_after(failure.ended, failure.lane) < charge_share:
        return False
    return evidence.share_of_others(failure.lane, now) >= charge_share
