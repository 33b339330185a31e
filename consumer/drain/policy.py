"""The numbers of the drain, in one place (defaults from design.md 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

__all__ = ["MERGE_LIMIT", "DrainPolicy"]

MERGE_LIMIT: Final = 20
"""The most entries that share a call: more would save little and make one refusal cost much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPolicy:
    """How the drain behaves. Spans are seconds.

    Attributes:
        batch: the most entries claimed at once; a claimed entry that was not called is handed back. Of a kind: the most
            calls claimed or under way at once, a merge group being one.
        max_attempts: charged failures after which an entry is a dead letter.
        backoff_base: the wait after the first failure, before jitter.
        backoff_factor: what each further wait is multiplied by.
        backoff_cap: the longest wait.
        backoff_floor: the shortest wait: a failing user is never tried again at once.
        call_timeout: the longest one HTTP call may take.
        lease: how long a shard stays ours without renewal.
        call_margin: what must remain of the lease after a call that takes its whole timeout.
        sweep_interval: how often the hints of the lanes are reconciled with the entries.
        charge_pause: a timeout or 5xx is charged at most once in this span.
        charge_share: a timeout or 5xx is charged only while this share of other lanes' calls succeeds.
        openings: an entry in flight at so many openings of the circuit in a row is held.
        server_limit: how long a request whose answer was lost may still take effect inside Keycloak.
        looks: how long after a heal a lane that was in doubt is looked at once more, each time: a request may be held for
            longer than any limit.
        merge_limit: the most due entries of a lane that share one call; 1 merges nothing.
        bulk_creates: whether creates of several lanes share a call.
        gather: how long results are gathered for one write-back at most, while calls are under way.
        realm_pause: how long lanes of a realm whose configuration is at fault rest before it is asked again.
        holding: kinds whose dead letters hold their lane until an operator ends the hold.
        pending_max_age: an entry that could have been delivered for so long is given up; None: never.
        keep_passwords: the last password stays in the fold after its delivery; otherwise only while its lane is in doubt.
        kinds: other numbers for single kinds; of these count `batch`, `max_attempts`, the backoff and
            `pending_max_age`.
    """

    batch: int = 100
    max_attempts: int = 5
    backoff_base: float = 1.0
    backoff_factor: float = 4.0
    backoff_cap: float = 300.0
    backoff_floor: float = 0.5
    call_timeout: float = 10.0
    lease: float = 30.0
    call_margin: float = 2.0
    sweep_interval: float = 60.0
    charge_pause: float = 600.0
    charge_share: float = 0.9
    openings: int = 3
    server_limit: float = 60.0
    looks: tuple[float, ...] = (600.0, 3600.0)
    merge_limit: int = MERGE_LIMIT
    bulk_creates: bool = False
    gather: float = 0.25
    realm_pause: float = 30.0
    holding: frozenset[str] = frozenset({"user_create"})
    pending_max_age: float | None = 604_800.0
    keep_passwords: bool = True
    kinds: Mapping[str, DrainPolicy] = field(default_factory=dict)

    def of(self, kind: str) -> DrainPolicy:
        """The numbers of a kind."""
        return self.kinds.get(kind, self)
