"""Executes the commands of lanes that are in hand, under the leases of whoever asks it to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from consumer.drain.commands import decide
from consumer.outbox.command_store import Answer, Command, CommandStore
from consumer.outbox.drain_store import LaneHint
from consumer.outbox.lane import shard_of

__all__ = ["CommandExecutor", "hints_after"]

_log = structlog.get_logger(__name__)
_MOST = 256


@dataclass(frozen=True, slots=True)
class CommandExecutor:
    """Executes commands.

    Attributes:
        store: where they are queued.
    """

    store: CommandStore

    async def waiting(self, shards: Collection[int]) -> list[Command]:
        """Commands for these shards, the oldest of each lane; of some lanes if there are many."""
        return await self.store.waiting(shards, limit=_MOST)

    async def execute(self, commands: Sequence[Command], tokens: Mapping[int, int]) -> list[Answer]:
        """Do and answer what is asked of lanes that are in hand; the answers that were written.

        Args:
            commands: At most one a lane.
            tokens: Our shards with their tokens.
        """
        found = await self.store.found(commands)
        answers = [
            decide(command, found[command.command_id], token=tokens[shard])
            for command in commands
            if (shard := shard_of(command.lane.lane_id)) in tokens and command.command_id in found
        ]
        if not answers:
            return []
        fenced = await self.store.settle(answers)
        written = [answer for answer in answers if answer.command.lane.lane_id not in fenced]
        for answer in written:
            _log.info(
                "command executed",
                action=answer.command.action.value,
                event_id=answer.event_id,
                answer=answer.verdict.value,
                detail=answer.detail,
            )
        return written


def hints_after(answers: Sequence[Answer]) -> list[LaneHint]:
    """Where lanes stand after their commands: what was changed is looked at again."""
    return [
        LaneHint(lane=answer.command.lane, state="READY") for answer in answers if answer.change is not None
    ]
