"""How many calls may be under way at once? As many as still bring Keycloak further, and no more.

Another limit is tried in short turns with the one that stands, and the one that serves better stays: what makes a
machine faster or slower from one second to the next then meets both alike. What is compared is the time that calls take,
kind by kind: with n calls under way that take t each, n/t are served a second (Little's law), so a limit half as high
again is worth it if calls do not become half as slow again. A password reset that takes a hundred times an update's time
is compared with password resets, and says nothing about updates.

A call that is turned away cuts the limit at once. docs/decisions/0031 has the reasons, and what was measured.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum

from consumer.circuit.limit_policy import LimitPolicy
from consumer.circuit.trial import Seen, Trial
from consumer.frozen import quick_dataclass

__all__ = ["Call", "Ending", "Limiter", "Why"]


class Why(Enum):
    """Why the limit last changed. The values are for people."""

    START = "as at the start"
    MORE_SERVED = "more calls at once serve more"
    AS_GOOD = "fewer at once serve as many"
    TOO_SLOW = "calls take far longer than at best"
    TURNED_AWAY = "Keycloak turned calls away"
    NO_ANSWER = "Keycloak left calls without an answer"


class Ending(Enum):
    """How a call ended, as far as the limit is concerned."""

    SERVED = "served"
    """It did what was asked; its time can be compared."""
    ANSWERED = "answered"
    """Something else came back; how long that takes says nothing about others."""
    TURNED_AWAY = "turned away"
    TIMED_OUT = "timed out"
    FAILED = "failed"
    """In a way that has nothing to do with how many are under way."""


@quick_dataclass(frozen=True, slots=True)
class Call:
    """A call under way.

    Attributes:
        began: seconds, by the caller's clock.
        under_way: calls under way at its beginning, itself among them.
        turn: the turn in which it began.
        answers: how many answers had come before it began.
    """

    began: float
    under_way: int
    turn: int
    answers: int


class Limiter:
    """The limit of one instance. Time comes from the caller: seconds that never go back.

    Attributes:
        instances: how many call the same Keycloak, this one among them. Users are spread evenly, so the others are
            taken to have as many calls under way: what is added here is that much less of the whole.
    """

    def __init__(self, policy: LimitPolicy) -> None:
        """Begin with the policy's first limit."""
        self.instances = 1
        self._policy = policy
        self._standing = max(policy.lowest, min(policy.start, policy.ceiling))
        self._why, self._changed_at = Why.START, float("-inf")
        self._under_way = 0
        self._answers = 0
        # A turn: calls at one limit.
        self._number = 0
        self._turn = Seen()
        self._turn_began = float("-inf")
        # Turns of what stands alone, or with a rival's between them.
        self._alone = Seen()
        self._turns_alone = 0
        self._trial: Trial | None = None
        # What was learned before.
        self._best: dict[Hashable, float] = {}
        self._best_seen_at: float | None = None
        self._eased: Seen | None = None
        self._rest = policy.rest
        self._rests_until = float("-inf")
        self._rested_at: float | None = None
        self._cut_at = self._cut_below_until = float("-inf")
        self._cut_below = policy.ceiling

    @property
    def limit(self) -> int:
        """How many calls may be under way now; in every other turn of a trial more or fewer than `standing`."""
        return self._standing if self._trial is None else self._trial.limit

    @property
    def standing(self) -> int:
        """The limit that has proved itself."""
        return self._standing

    @property
    def ceiling(self) -> int:
        """What the limit never exceeds."""
        return self._policy.ceiling

    @property
    def why(self) -> Why:
        """Why `standing` last changed."""
        return self._why

    @property
    def changed_at(self) -> float:
        """When it did; minus infinity if never."""
        return self._changed_at

    def begin(self, now: float) -> Call:
        """A call leaves."""
        self._under_way += 1
        return Call(now, self._under_way, self._number, self._answers)

    def gone(self) -> None:
        """A call is not under way any more."""
        self._under_way -= 1

    def learn(self, call: Call, kind: Hashable, ending: Ending, now: float) -> bool:
        """A call of a kind ended just now.

        Returns:
            Whether that cut the limit.
        """
        match ending:
            case Ending.TURNED_AWAY:
                return self._cut(call, Why.TURNED_AWAY, now)
            # While others are answered, a call that is not has a trouble of its own.
            case Ending.TIMED_OUT if self._answers - call.answers < 2 * self.limit:
                return self._cut(call, Why.NO_ANSWER, now)
            case Ending.TIMED_OUT | Ending.FAILED:
                return False
        self._answers += 1
        # Only what began in this turn, and while its limit was used, says something about it.
        if ending is Ending.SERVED and call.turn == self._number and call.under_way >= 0.6 * self.limit:
            self._turn.add(kind, under_way=call.under_way, seconds=now - call.began)
            if self._turn.calls % self.limit == 0 and self._is_enough(now):
                self._end_turn(now)
        return False

    def _is_enough(self, now: float) -> bool:
        policy = self._policy
        return now - self._turn_began >= policy.shortest and self._turn.calls >= max(
            policy.fewest, policy.round_trips * self.limit
        )

    def _end_turn(self, now: float) -> None:
        turn, trial = self._turn, self._trial
        self._look_whether_easing_helped(turn)
        times = self._times_of(turn)
        if times is not None and times > self._policy.too_slow and self.limit > self._policy.lowest:
            # Seen sooner than which of two limits is better.
            self._ease(turn, times, now)
        elif trial is None:
            self._alone.add_all(turn)
            self._turns_alone += 1
            if self._turns_alone >= self._policy.turns:
                self._keep_best(self._alone, now)
                self._go_on_with(self._after_rest(self._times_of(self._alone), now), now)
        else:
            trial.add(turn, instances=self.instances)
            if trial.is_over(now):
                self._keep_best(trial.stood, now)
                self._keep_best(trial.tried, now)
                self._go_on_with(self._after_trial(trial, self._times_of(trial.stood), now), now)
        self._begin_turn(now)

    def _ease(self, turn: Seen, times: float, now: float) -> None:
        """Calls take far too long: some are taken away, or the rival that would have been more."""
        if self.limit > self._standing:
            self._go_on_with(self._fewer(times, now), now)
            return
        self._eased = turn
        self._change(max(self._policy.lowest, int(0.7 * self._standing)), Why.TOO_SLOW, now)
        self._go_on_with(None, now)

    def _look_whether_easing_helped(self, turn: Seen) -> None:
        stretch = None if self._eased is None else turn.stretch(self._eased)
        self._eased = None
        if stretch is not None and stretch > 0.9:
            # Fewer at once are no faster: it is not for their number that calls take so long.
            self._forget(1.5)

    def _after_trial(self, trial: Trial, times: float | None, now: float) -> int | None:
        """Enough was seen of two limits: which serves better, and which rival is next?"""
        match trial.is_about_more, trial.more_is_worth_it:
            case _, None:
                return None
            case True, True:
                self._change(trial.rival, Why.MORE_SERVED, now)
                return self._more(times, now)
            case True, False:
                # Are all that there are worth it?
                return self._fewer(times, now)
            case False, False:
                self._change(trial.rival, Why.AS_GOOD, now)
                return self._fewer(times, now)
        self._take_rest(times, now)
        return None

    def _after_rest(self, times: float | None, now: float) -> int | None:
        """Enough was seen of the limit that stands alone: which rival is next?"""
        if times is not None and self._rested_at is not None and not 0.67 < times / self._rested_at < 1.5:
            # Things have changed: no need to wait until it shows by itself.
            self._rests_until = now
        if now < self._rests_until:
            self._rested_at = self._rested_at or times
            return None
        return self._more(times, now)

    def _more(self, times: float | None, now: float) -> int | None:
        policy = self._policy
        most = policy.ceiling
        if now < self._cut_below_until:
            most = min(most, self._cut_below)
        more = min(most, self._standing + max(1, self._standing // 2))
        # Alone, a trial tells whether more is worth it. With others about, it tells that only in part.
        crowded = self.instances > 1 and times is not None and times >= policy.slow
        return more if more > self._standing and not crowded else self._fewer(times, now)

    def _fewer(self, times: float | None, now: float) -> int | None:
        fewer = max(self._policy.lowest, self._standing - max(1, self._standing // 3))
        if fewer < self._standing:
            return fewer
        self._take_rest(times, now)
        return None

    def _take_rest(self, times: float | None, now: float) -> None:
        slow = times is not None and times >= self._policy.slow
        self._rests_until, self._rested_at = now + (self._policy.rest if slow else self._rest), None
        self._rest = min(2.0 * self._rest, self._policy.longest_rest)

    def _keep_best(self, seen: Seen, now: float) -> None:
        """Remember the best time of each kind."""
        since = 0.0 if self._best_seen_at is None else now - self._best_seen_at
        self._best_seen_at = now
        forgotten = min(1.0, since / self._policy.memory)
        for kind, _, mean in seen.means():
            best = self._best.get(kind, mean)
            self._best[kind] = min(mean, best + forgotten * (mean - best))

    def _times_of(self, seen: Seen) -> float | None:
        """How many times their best calls take now; a best that cannot be had any more is raised."""
        times = seen.times(self._best)
        most = self.instances * seen.at_once
        if times is not None and times > most:
            # A call waits for those under way, at the worst for all of them; what takes longer than that is no waiting.
            self._forget(times / most)
            return most
        return times

    def _forget(self, times: float) -> None:
        """What was the best time cannot be had any more: so many times that is."""
        self._best = {kind: times * least for kind, least in self._best.items()}

    def _cut(self, call: Call, why: Why, now: float) -> bool:
        # Once a round trip: what began before the last cut was turned away for what was too much then.
        if call.began < self._cut_at:
            return False
        policy = self._policy
        self._cut_at = now
        before = self._standing
        # What stood was good, if it was its rival's turn.
        good = before if self.limit > before else self.limit - 1
        self._cut_below, self._cut_below_until = max(policy.lowest, good), now + policy.cut_memory
        self._change(max(policy.lowest, self.limit // 2), why, now)
        self._eased = None
        self._rests_until, self._rested_at = now + policy.rest, None
        self._go_on_with(None, now)
        self._begin_turn(now)
        return self._standing < before

    def _change(self, limit: int, why: Why, now: float) -> None:
        self._rest = self._policy.rest
        if limit != self._standing:
            self._standing = limit
            self._why, self._changed_at = why, now

    def _go_on_with(self, rival: int | None, now: float) -> None:
        self._trial = None if rival is None else Trial(self._policy, self._standing, rival, began=now)
        self._alone, self._turns_alone = Seen(), 0

    def _begin_turn(self, now: float) -> None:
        self._number += 1
        self._turn, self._turn_began = Seen(), now
