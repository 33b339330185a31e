"""Healing: a lane that was in doubt is made equal to its fold, between two of its calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from consumer.circuit.keeper import CircuitKeeper
from consumer.delivery.outcome import DeadLetter, Defer, Retry
from consumer.drain.caller import Caller
from consumer.drain.judge import Judge
from consumer.drain.realms import RealmWatch
from consumer.outbox.drain_store import DrainStore, ReadyLane, WriteBack
from consumer.outbox.fold import Fold

__all__ = ["Healer", "Suspect"]

_log = structlog.get_logger(__name__)


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
        refused: lanes whose heal Keycloak refused.
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
            What is to be written; None if the lane stays in doubt, and is healed when the server limit has passed
            again.

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
        begun = self.judge.begin()
        outcome = await self.caller.heal(lane, fold, token)
        self.judge.learn_of(lane.lane_id, outcome, begun)
        certain = replace(fold, suspect_since=None, suspect_kind=None, heal_refused=None)
        if not self.caller.policy.keep_passwords:
            certain = certain.without_password()
        match outcome:
            case Retry() | Defer():
                return None
            case DeadLetter():
                # Keycloak will not take what it once took: nothing to be done about it by asking again.
                _log.error("heal refused", reason=outcome.reason.value, detail=outcome.failure.detail)
                self.refused += 1
                certain = replace(certain, heal_refused=outcome.reason.value)
            case _:
                self.healed += 1
                certain = replace(certain, user_id=outcome.user_id)
        return WriteBack(lane=lane, token=token, fold=certain)
