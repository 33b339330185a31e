"""Healing: a lane that was in doubt is made equal to its fold, between two of its calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeGuard

import structlog

from consumer.circuit.keeper import CircuitKeeper
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
from consumer.drain.realms import RealmWatch
from consumer.outbox.drain_store import DrainStore, ReadyLane, WriteBack
from consumer.outbox.fold import Fold

__all__ = ["Healer", "Suspect"]

_log = structlog.get_logger(__name__)

_REFUSED_BEFORE: Final = "heal_refused"
"""The kind of doubt that a heal leaves which was refused, but perhaps not for good."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A lane whose doubt is old enough to be healed, in hand."""

    lane: ReadyLane
    fold: Fold
    token: int
    asked_at: datetime


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
        refused: lanes whose heal Keycloak refused, as a whole or but for the e-mail address.
    """

    store: DrainStore
    caller: Caller
    judge: Judge
    circuit: CircuitKeeper
    realms: RealmWatch
    instance: str
    healed: int = 0
    refused: int = 0

    async def heal(self, suspect: Suspect) -> WriteBack | None:
        """Make Keycloak equal to the lane's fold.

        Returns:
            What is to be written; None if the lane stays in doubt as it is, and is healed when the server limit has
            passed again.

        Raises:
            OutboxError: The doubt could not be marked; nothing was asked of Keycloak.
        """
        lane, fold, token = suspect.lane, suspect.fold, suspect.token
        # The durable mark "maybe started": whoever takes the lane over waits for the server limit again.
        marked = replace(fold, suspect_since=suspect.asked_at, suspect_kind="heal")
        mark = WriteBack(lane=lane, token=token, fold=marked)
        fenced = await self.store.settle([mark], instance=self.instance)
        if fenced or self.circuit.allowed_calls == 0 or self.realms.resting(lane.realm) > 0:
            return None
        outcome, refused = await self._make_equal(suspect)
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
            case Retry() | Defer():
                return None
        return WriteBack(lane=lane, token=token, fold=self._certain(fold, outcome, refused))

    async def _make_equal(self, suspect: Suspect) -> tuple[Outcome, Reason | None]:
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
        # Somebody else's for good, as far as we know: everything but the address is made equal.
        return await self._ask(suspect, fold.without_email()), outcome.reason

    def _certain(self, fold: Fold, outcome: Outcome, refused: Reason | None) -> Fold:
        """The fold of a lane that is in doubt no longer."""
        certain = replace(
            fold,
            suspect_since=None,
            suspect_kind=None,
            heal_refused=None if refused is None else refused.value,
        )
        if not self.caller.policy.keep_passwords:
            certain = certain.without_password()
        if refused is None:
            self.healed += 1
        else:
            self.refused += 1
            detail = "" if isinstance(outcome, Delivered) else outcome.failure.detail
            _log.error("heal refused", reason=refused.value, detail=detail)
        return replace(certain, user_id=outcome.user_id) if isinstance(outcome, Delivered) else certain

    async def _ask(self, suspect: Suspect, fold: Fold) -> Outcome:
        begun = self.judge.begin()
        outcome = await self.caller.heal(suspect.lane, fold, suspect.token)
        self.judge.learn_of(suspect.lane.lane_id, outcome, begun)
        return outcome


def _is_taken(outcome: Outcome) -> TypeGuard[Retry]:
    """Whether another user has what the lane's user once had. A conflict with nobody may be a race that passes."""
    return isinstance(outcome, Retry) and (
        outcome.reason is Reason.EMAIL_IN_USE
        or (outcome.reason in TAKEN and outcome.failure.holder is not None)
    )
