"""Commands of operators and housekeeping: queued here by anybody, executed and answered by the owner of the shard."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import orjson

from consumer.outbox.bulk import multi_row_statements
from consumer.outbox.database import Database, Transaction
from consumer.outbox.drain_store import ReadyLane, lane_of
from consumer.outbox.lane import shard_of
from consumer.outbox.lease_store import lock_tokens
from consumer.outbox.rows import EntryState
from consumer.outbox.statements import load_statements

__all__ = ["Action", "Answer", "Change", "Command", "CommandStore", "Found", "Order", "Tally", "Verdict"]

_SQL = load_statements("command")


class Action(StrEnum):
    """What can be asked of a shard's owner. The values are stored."""

    RELEASE = "release"
    DROP = "drop"
    RELEASE_LANE = "release_lane"
    HURRY = "hurry"


class Verdict(StrEnum):
    """What became of a command."""

    DONE = "DONE"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked, with what the asker saw.

    Attributes:
        lane_id: the lane.
        action: what is to be done.
        entry_id: the entry it is about: the one that is held, the dead letter that holds the lane, the head.
        state: the state in which the entry was seen.
        arrivals: the lane's tail when it was seen.
    """

    lane_id: bytes
    action: Action
    entry_id: int
    state: EntryState
    arrivals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A queued order. `lane.arrivals` is the tail of now."""

    command_id: int
    lane: ReadyLane
    action: Action
    entry_id: int
    seen_state: EntryState
    seen_arrivals: int
    actor: str
    why: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How things stand with a command's entry and lane now. `state` is None where the entry is no more."""

    expired: bool
    arrivals: int
    state: EntryState | None
    reason: str | None
    event_id: str | None
    in_doubt: bool
    head_id: int | None
    held_by_entry: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a command does.

    Attributes:
        state: what the entry becomes, due at once where that is PENDING; None leaves it.
        reason: the entry's new reason; None leaves it.
        ends_hold: whether the lane goes on behind the dead letter that held it.
        allows_delete: whether the deletion guard lets the entry through.
    """

    state: EntryState | None = None
    reason: str | None = None
    ends_hold: bool = False
    allows_delete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is written of a command: its change, if any, and the answer, in one transaction."""

    command: Command
    token: int
    event_id: str | None
    verdict: Verdict
    detail: str
    change: Change | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many commands of a request came to what. `refused` counts by reason."""

    waiting: int
    done: int
    refused: Mapping[str, int]
    expired: int


class CommandStore:
    """Commands, as those who ask and those who execute see them."""

    def __init__(self, database: Database, *, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def queue(self, orders: Sequence[Order], *, actor: str, why: str | None) -> bytes:
        """Ask; the request by which `tally` knows these orders again. `why` must not hold a secret or a username."""
        request = secrets.token_bytes(16)
        rows = [
            (
                request,
                order.lane_id,
                shard_of(order.lane_id),
                order.action.value,
                order.entry_id,
                order.state.value,
                order.arrivals,
                actor[:255],
                None if why is None else why[:255],
            )
            for order in orders
        ]

        async def work(tx: Transaction) -> None:
            await tx.execute(_SQL["forget_answered"])
            await tx.execute_all(multi_row_statements(_SQL["queue"], rows))

        await self._database.transact(work)
        return request

    async def tally(self, request: bytes) -> Tally:
        """What has become of a request."""
        rows = await self._database.fetch(_SQL["answers"], {"request": request})
        count = {
            verdict: sum(row["commands"] for row in rows if row["answer"] == verdict)
            for verdict in (None, Verdict.DONE, Verdict.EXPIRED)
        }
        return Tally(
            waiting=count[None],
            done=count[Verdict.DONE],
            refused={row["detail"]: row["commands"] for row in rows if row["answer"] == Verdict.REFUSED},
            expired=count[Verdict.EXPIRED],
        )

    async def shards_waiting(self, request: bytes) -> set[int]:
        """The shards whose owners have not answered all of a request."""
        rows = await self._database.fetch(_SQL["shards_waiting"], {"request": request})
        return {row["shard"] for row in rows}

    async def waiting(self, shards: Collection[int], *, limit: int) -> list[Command]:
        """The oldest unanswered command of each lane of these shards, of at most `limit` lanes.

        The others come as soon as these are answered.
        """
        if not shards:
            return []
        rows = await self._database.fetch(_SQL["waiting"], {"shards": tuple(shards), "limit": limit})
        return [
            Command(
                command_id=row["command_id"],
                lane=lane_of(row),
                action=Action(row["action"]),
                entry_id=row["entry_id"],
                seen_state=EntryState(row["seen_state"]),
                seen_arrivals=row["seen_arrivals"],
                actor=row["actor"],
                why=row["why"],
            )
            for row in rows
        ]

    async def found(self, commands: Sequence[Command]) -> dict[int, Found]:
        """How things stand with these, by command; one that was answered meanwhile is missing.

        Asked while their lanes are in hand, so that nobody changes it any more.
        """
        if not commands:
            return {}
        numbers = {"commands": tuple(command.command_id for command in commands)}
        return {
            row["command_id"]: Found(
                expired=bool(row["expired"]),
                arrivals=row["arrivals"],
                state=None if row["state"] is None else EntryState(row["state"]),
                reason=row["state_reason"],
                event_id=row["event_id"],
                in_doubt=bool(row["in_doubt"]),
                head_id=row["head_id"],
                held_by_entry=row["held_by_entry"],
            )
            for row in await self._database.fetch(_SQL["found"], numbers)
        }

    async def settle(self, answers: Sequence[Answer]) -> set[bytes]:
        """Do what the commands ask, answer and audit them, in one transaction; the lanes of which nothing was written.

        Nothing is written under a lease that was lost, nor of a command that was answered meanwhile: by ourselves, if
        the COMMIT of an earlier try was late. Nor is an entry changed that is not as it was found: what is held until
        its kind is known goes on while its lane is in hand. At most one answer a lane. The leases are locked first, as
        in the drain's own write-backs.
        """

        async def work(tx: Transaction) -> set[bytes]:
            shards = {shard_of(each.command.lane.lane_id) for each in answers}
            tokens = await lock_tokens(tx, shards, owner=self._owner)
            ours = [each for each in answers if tokens.get(shard_of(each.command.lane.lane_id)) == each.token]
            if ours:
                numbers = tuple(each.command.command_id for each in ours)
                rows = await tx.fetch(_SQL["lock_unanswered"], {"commands": numbers})
                states = {row["command_id"]: row["state"] for row in rows}
                ours = [each for each in ours if _stands(each, states)]
            if ours:
                await self._write(tx, ours)
            return {each.command.lane.lane_id for each in answers} - {
                each.command.lane.lane_id for each in ours
            }

        return await self._database.transact(work)

    async def _write(self, tx: Transaction, answers: Sequence[Answer]) -> None:
        changes = [(each.command, change) for each in answers if (change := each.change) is not None]
        entries = [
            {"entry_id": command.entry_id, "state": change.state.value, "reason": change.reason}
            for command, change in changes
            if change.state is not None
        ]
        if entries:
            written = await tx.execute(_SQL["change_entries"], {"rows": orjson.dumps(entries).decode()})
            if written != len(entries):
                # Only the owner changes entries, and the owner is us: anything else is a defect, and must not pass.
                raise AssertionError(f"{len(entries)} commands, but {written} entries were open")
        if dead := tuple(c.entry_id for c, change in changes if change.state is EntryState.DEAD_LETTER):
            await tx.execute(_SQL["mark_dead"], {"entries": dead})
        if lanes := tuple(c.lane.lane_id for c, change in changes if change.ends_hold):
            await tx.execute(_SQL["end_holds"], {"lanes": lanes})
        await tx.execute_all(
            multi_row_statements(
                _SQL["allow_deletes"],
                [(c.entry_id, c.lane.realm, c.actor) for c, change in changes if change.allows_delete],
            )
        )
        verdicts = [
            {"command_id": each.command.command_id, "answer": each.verdict.value, "detail": each.detail}
            for each in answers
        ]
        parameters = {"rows": orjson.dumps(verdicts).decode(), "owner": self._owner}
        await tx.execute(_SQL["answer"], parameters)
        await tx.execute_all(multi_row_statements(_SQL["audit"], [_audit_row(each) for each in answers]))


def _stands(answer: Answer, states: Mapping[int, str | None]) -> bool:
    """Whether a command waits for this answer, and what it changes is as its asker saw it."""
    command, change = answer.command, answer.change
    if command.command_id not in states:
        return False
    return change is None or change.state is None or states[command.command_id] == command.seen_state


def _audit_row(answer: Answer) -> tuple[str, str, str, str]:
    command = answer.command
    arguments = {"entry_id": command.entry_id, "event_id": answer.event_id, "why": command.why}
    outcome = f"{answer.verdict}: {answer.detail}" if answer.detail else answer.verdict.value
    return command.actor, command.action.value, orjson.dumps(arguments).decode(), outcome[:255]
