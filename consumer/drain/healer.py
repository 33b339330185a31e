"""Healing: what calls in doubt have left late is undone, between two calls of their lane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeGuard

import structlog

from consumer.circuit.keeper import CircuitKeeper
from consumer.delivery.heal_plan import Drift
from consumer.delivery.outcome import (
    TAKEN,
    Blame,
    DeadLetter,
    Defer,
    Delivered,
    Failure,
    Outcome,
    Reason,
    Retry,
)
from consumer.drain.caller import Caller
from consumer.drain.holders import may_be_given_up
from consumer.drain.judge import Judge
from consumer.drain.late import of_restoring
from consumer.drain.password_looks import DueLook
from consumer.drain.realms import RealmWatch
from consumer.outbox.doubt import Doubt, PasswordCall
from consumer.outbox.drain_store import DrainStore, ReadyLane, WriteBack
from consumer.outbox.fold import EVERY_OTHER, EVERY_OTHER_ATTRIBUTE, EXISTS, PASSWORD, Fold

__all__ = ["Healer", "Suspect"]

_log = structlog.get_logger(__name__)

_REFUSED_BEFORE: Final = "heal_refused"
"""The kind of doubt that a heal leaves which was refused, but perhaps not for good."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A lane in hand whose doubt is old enough to be healed, or at which one more look is due.

    Attributes:
        lane: the lane.
        fold: its fold, with what others noted of the lane in its doubt.
        token: the fencing token of its shard.
        asked_at: when it was read, by the database's clock.
        is_old_enough: the server limit has passed since its last doubt, so that this heal ends it.
        noted: ids of the doubts that others noted.
    """

    lane: ReadyLane
    fold: Fold
    token: int
    asked_at: datetime
    is_old_enough: bool = True
    noted: tuple[int, ...] = ()

    @property
    def only_looks(self) -> bool:
        """The doubt was healed before, and nothing has come to it."""
        return self.fold.suspect_since is None and not self.noted


@dataclass(slots=True, kw_only=True)
class Healer:
    """Heals lanes.

    Attributes:
        store: the outbox.
        caller: makes the calls.
        judge: learns from them.
        circuit: says whether calls are allowed.
        realms: say which rest.
        instance: our name.
        healed: lanes healed since the start.
        overwritten: passwords that were set again because Keycloak had overwritten them.
        undone: of these, those in which something had taken effect late.
        refused: lanes whose heal Keycloak refused, as a whole or but for the e-mail address.
    """

    store: DrainStore
    caller: Caller
    judge: Judge
    circuit: CircuitKeeper
    realms: RealmWatch
    instance: str
    healed: int = 0
    overwritten: int = 0
    undone: int = 0
    refused: int = 0

    async def heal(self, suspect: Suspect) -> WriteBack | None:
        """Undo what calls in doubt have left late.

        Returns:
            What is to be written; None if the lane stays in doubt as it is, and is healed when the server limit has
            passed again.

        Raises:
            OutboxError: The doubt could not be marked; nothing was asked of Keycloak.
        """
        lane, fold, token = suspect.lane, suspect.fold, suspect.token
        # The durable mark "maybe started": whoever takes the lane over waits for the server limit again.
        marked = replace(
            fold.doubting(_left_by_healing(suspect)),
            suspect_since=suspect.asked_at,
            suspect_kind="heal",
            look_at=None,
        )
        mark = WriteBack(lane=lane, token=token, fold=marked, taken_in=suspect.noted)
        fenced = await self.store.settle([mark], instance=self.instance)
        if fenced or self.circuit.allowed_calls == 0 or self.realms.resting(lane.realm) > 0:
            return None
        outcome, refused = await self._undo(suspect)
        match outcome:
            case Delivered():
                pass
            case DeadLetter():
                # Keycloak will not take what it once took: nothing to be done about it by asking again.
                refused = outcome.reason
            case Retry(failure=Failure(blame=Blame.USER)) if fold.suspect_kind == _REFUSED_BEFORE:
                # A definite no, as it was the server limit ago.
                refused = outcome.reason
            case Retry(failure=Failure(blame=Blame.USER)):
                return WriteBack(lane=lane, token=token, fold=replace(marked, suspect_kind=_REFUSED_BEFORE))
            case Retry() | Defer() if outcome.failure.restoring:
                left = of_restoring(fold, began=suspect.asked_at, ended=suspect.asked_at)
                return WriteBack(lane=lane, token=token, fold=marked.doubting(left))
            case Retry() | Defer():
                return None
        return WriteBack(lane=lane, token=token, fold=self._certain(suspect, outcome, refused))

    async def look_at_password(self, due: DueLook) -> WriteBack | None:
        """Look whether a password that was set some seconds ago is still the user's.

        Returns:
            What is to be written: Keycloak's date of it, or a doubt. None: nothing is known that was not before.

        Raises:
            NotCalled: Keycloak may not be asked now.
        """
        if self.circuit.allowed_calls == 0 or self.realms.resting(due.lane.realm) > 0:
            return None
        begun = self.judge.begin()
        outcome = await self.caller.look_at_password(due.lane, due.look, due.token)
        self.judge.learn_of(due.lane.lane_id, outcome, begun)
        fold = due.fold
        if isinstance(outcome, Delivered):
            if outcome.reason is Reason.PASSWORD_SET:
                self.overwritten += 1
                _log.warning("password set again: Keycloak had overwritten it", event_id=due.look.event_id)
            if outcome.credential_date is None:
                return None
            fold = replace(fold, credential_date=outcome.credential_date.replace(tzinfo=None))
            return WriteBack(lane=due.lane, token=due.token, fold=fold)
        if not (outcome.failure.ambiguous or outcome.failure.partial):
            return None
        now = self.caller.clocks.database(self.caller.clocks.now())
        doubt = Doubt(passwords=(PasswordCall(due.look.event_id, now, now),))
        in_doubt = replace(
            fold.doubting(doubt), suspect_since=now, suspect_kind=outcome.reason.value, look_at=None
        )
        return WriteBack(lane=due.lane, token=due.token, fold=in_doubt)

    async def _undo(self, suspect: Suspect) -> tuple[Outcome, Reason | None]:
        """What came of it, and of what kind the part is that had to be left out."""
        fold = suspect.fold
        outcome = await self._ask(suspect, fold)
        if _is_taken(outcome) and outcome.failure.holder is None:
            # Given up while we looked whose it is.
            outcome = await self._ask(suspect, fold)
        if not _is_taken(outcome):
            return outcome, None
        holder = outcome.failure.holder
        if holder is not None and await may_be_given_up(self.store.unfinished, suspect.lane, holder):
            return Defer(reason=outcome.reason, failure=outcome.failure), None
        # Somebody else's for good, as far as we know: everything but the address is healed.
        return await self._ask(suspect, fold.without_email()), outcome.reason

    def _certain(self, suspect: Suspect, outcome: Outcome, refused: Reason | None) -> Fold:
        """The fold after a heal: in doubt no longer, unless that is too young, and looked at once more later."""
        fold = replace(suspect.fold, heal_refused=None if refused is None else refused.value)
        undone = isinstance(outcome, Delivered) and outcome.reason in _UNDONE
        if suspect.is_old_enough or suspect.fold.suspect_since is None:
            fold = replace(fold, suspect_since=None, suspect_kind=None)
            if not self.caller.policy.keep_passwords:
                fold = fold.without_password()
        fold = self._looked_at(fold, suspect, again=undone or not suspect.only_looks)
        if refused is None:
            self.healed += 1
            self.undone += undone
        else:
            self.refused += 1
            detail = "" if isinstance(outcome, Delivered) else outcome.failure.detail
            _log.error("heal refused", reason=refused.value, detail=detail)
        if not isinstance(outcome, Delivered):
            return fold
        fold = replace(fold, user_id=outcome.user_id)
        if outcome.credential_date is not None:
            fold = replace(fold, credential_date=outcome.credential_date.replace(tzinfo=None))
        return _with_drift(fold, outcome.drift, suspect)

    def _looked_at(self, fold: Fold, suspect: Suspect, *, again: bool) -> Fold:
        """Say when the lane is looked at next; after the last look, what calls in doubt may leave is forgotten."""
        due = self.caller.policy.looks
        looks = 0 if again else fold.looks + 1
        doubt = fold.doubt and replace(fold.doubt, asked=frozenset())
        if fold.suspect_since is not None:
            return replace(fold, doubt=doubt, look_at=None)
        if looks >= len(due) or doubt is None or doubt == Doubt():
            return replace(fold, doubt=None, looks=0, look_at=None)
        since_last = due[looks] - (due[looks - 1] if looks else 0.0)
        return replace(
            fold, doubt=doubt, looks=looks, look_at=suspect.asked_at + timedelta(seconds=since_last)
        )

    async def _ask(self, suspect: Suspect, fold: Fold) -> Outcome:
        begun = self.judge.begin()
        outcome = await self.caller.heal(suspect.lane, fold, suspect.token, only_looks=suspect.only_looks)
        self.judge.learn_of(suspect.lane.lane_id, outcome, begun)
        return outcome


def _is_taken(outcome: Outcome) -> TypeGuard[Retry]:
    """Whether another user has what the lane's user once had. A conflict with nobody may be a race that passes."""
    return isinstance(outcome, Retry) and (
        outcome.reason is Reason.EMAIL_IN_USE
        or (outcome.reason in TAKEN and outcome.failure.holder is not None)
    )


_UNDONE: Final = frozenset({Reason.HEALED, Reason.RESTORED, Reason.DELETED})
"""What a heal comes to that has changed something."""


def _left_by_healing(suspect: Suspect) -> Doubt:
    """What the heal itself may leave if its answer is lost: what was delivered, of all that it may write."""
    fold = suspect.fold
    doubt = fold.doubt or Doubt()
    names = ({*doubt.fields, *doubt.asked} & fold.fields.keys()) - {EVERY_OTHER, EVERY_OTHER_ATTRIBUTE}
    passwords: tuple[PasswordCall, ...] = ()
    if fold.credential is not None and (doubt.passwords or doubt.asked):
        passwords = (PasswordCall(fold.credential.event_id, suspect.asked_at, suspect.asked_at),)
    return Doubt(fields={name: (fold.fields[name].value,) for name in sorted(names)}, passwords=passwords)


def _with_drift(fold: Fold, found: Mapping[str, str], suspect: Suspect) -> Fold:
    """Note what others have changed, of all that was looked at; what was found before and holds no longer is over."""
    doubt = suspect.fold.doubt or Doubt()
    looked_at = {*doubt.fields, *doubt.asked, EXISTS, *([PASSWORD] if doubt.passwords else [])}
    drift = {name: what for name, what in fold.drift.items() if name not in looked_at} | dict(found)
    if drift == fold.drift:
        return fold
    for what in sorted(set(found.values())):
        (_log.error if what in _ALARMING else _log.warning)("left as others changed it", found=what)
    return replace(fold, drift=drift, drift_at=suspect.asked_at if drift else None)


_ALARMING: Final = frozenset({Drift.THERE, Drift.BARRED})
"""What is found and may mean that somebody can log in who should not, or cannot who should."""
