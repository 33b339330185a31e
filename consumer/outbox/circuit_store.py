"""The shared circuit and the realms' faults in MariaDB."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from consumer.outbox.database import Database, Transaction
from consumer.outbox.statements import load_statements

__all__ = ["CircuitRow", "CircuitStore", "RealmFault"]

_SQL = load_statements("circuits")
_SPANS = (
    "retry_in",
    "probe_ends_in",
    "checked_ago",
    "changed_ago",
    "rest_in",
    "asker_ends_in",
    "asked_ago",
    "back_ago",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRow:
    """The circuit as all instances see it. Spans are seconds by the database's clock; None: not set."""

    generation: int
    state: str
    reason: str | None
    failures: int
    openings: int
    retry_in: float | None
    probe_owner: str | None
    probe_ends_in: float | None
    checked_ago: float | None
    changed_ago: float
    rest_in: float | None
    asker: str | None
    asker_ends_in: float | None
    asked_ago: float | None
    met: str | None
    said: str | None
    back_ago: float | None
    news_tries: int
    wanted: bool
    opened_at: datetime | None
    last_success_at: datetime | None
    last_check_at: datetime | None
    last_check_ok: bool | None


@dataclass(frozen=True, slots=True)
class RealmFault:
    """A realm whose configuration is at fault, and since when."""

    realm: str
    fault: str
    detail: str
    since: datetime


class CircuitStore:
    """The circuit towards one Keycloak, named by its URL."""

    def __init__(self, database: Database, *, keycloak: str) -> None:
        self._database = database
        self._keycloak = {"keycloak": keycloak}

    async def read(self) -> CircuitRow:
        """The circuit now; made CLOSED if it was never seen."""
        row = await self._database.fetch_one(_SQL["read"], self._keycloak)
        if row is None:
            await self._database.execute(_SQL["ensure"], self._keycloak)
            return await self.read()
        seconds = {name: None if row[name] is None else float(row[name]) for name in _SPANS}
        last_check_ok = None if row["last_check_ok"] is None else bool(row["last_check_ok"])
        flags = {"last_check_ok": last_check_ok, "wanted": bool(row["wanted"])}
        return CircuitRow(**{**row, **seconds, **flags})

    async def change(
        self,
        generation: int,
        *,
        state: str,
        reason: str | None,
        failures: int,
        openings: int,
        news_tries: int = 0,
        retry_in: float | None = None,
        rest_in: float | None = None,
        met: str | None = None,
        probe_owner: str | None = None,
        probe_in: float | None = None,
    ) -> bool:
        """Make a transition from `generation`; False if another instance was first.

        `met` is what it shows of Keycloak's presence; None where it shows nothing.
        """
        parameters = {
            **self._keycloak,
            "generation": generation,
            "state": state,
            "reason": reason,
            "failures": failures,
            "openings": openings,
            "news_tries": news_tries,
            "retry_in_us": _microseconds(retry_in),
            "rest_in_us": _microseconds(rest_in),
            "met": met,
            "probe_owner": probe_owner,
            "probe_in_us": _microseconds(probe_in),
        }
        return await self._database.execute(_SQL["change"], parameters) == 1

    async def take_questions(self, generation: int, *, asker: str, asker_in: float) -> bool:
        """Be the one who asks whether Keycloak is there, for so many seconds; False if another asks."""
        parameters = {
            **self._keycloak,
            "generation": generation,
            "asker": asker,
            "asker_in_us": _microseconds(asker_in),
        }
        return await self._database.execute(_SQL["take_questions"], parameters) == 1

    async def note_sighting(
        self, generation: int, *, asker: str, asker_in: float, met: str, said: str, rest_in: float | None
    ) -> None:
        """Record what a question met, unless another asks by now."""
        parameters = {
            **self._keycloak,
            "generation": generation,
            "asker": asker,
            "asker_in_us": _microseconds(asker_in),
            "met": met,
            "said": said,
            "rest_in_us": _microseconds(rest_in or 0.0),
        }
        await self._database.execute(_SQL["note_sighting"], parameters)

    async def want(self, generation: int) -> bool:
        """Have a control call made at once; False if the circuit is not open any more in this generation."""
        parameters = {**self._keycloak, "generation": generation}
        return await self._database.execute(_SQL["want"], parameters) == 1

    async def note_check(self, *, ok: bool, failures: int) -> None:
        """Record a control call."""
        await self._database.execute(
            _SQL["note_check"], {**self._keycloak, "ok": int(ok), "failures": failures}
        )

    async def note_success(self, *, ago: float, failures: int) -> None:
        """Record that a delivery succeeded `ago` seconds before now."""
        await self._database.execute(
            _SQL["note_success"], {**self._keycloak, "ago_us": int(ago * 1e6), "failures": failures}
        )

    async def set_realm_fault(self, realm: str, fault: str, detail: str, *, instance: str) -> None:
        """Record that `instance` found a realm's configuration at fault."""
        parameters = {"realm": realm, "fault": fault, "detail": detail, "instance": instance}
        await self._database.execute(_SQL["set_realm_fault"], parameters)

    async def end_realm_fault(self, realm: str, *, instance: str) -> bool:
        """`instance` found the realm well: end the fault it recorded, or one whose finder is no more; whether one stood."""
        parameters = {"realm": realm, "instance": instance}
        return await self._database.execute(_SQL["end_realm_fault"], parameters) == 1

    async def realm_faults_to_ask(self, *, instance: str) -> list[str]:
        """Realms whose recorded fault `instance` may end."""
        rows = await self._database.fetch(_SQL["realm_faults_to_ask"], {"instance": instance})
        return [row["realm"] for row in rows]

    async def realm_faults(self) -> list[RealmFault]:
        """Realms at fault now."""

        async def work(tx: Transaction) -> list[RealmFault]:
            return [
                RealmFault(row["realm"], row["fault"], row["fault_detail"] or "", row["fault_since"])
                for row in await tx.fetch(_SQL["realm_faults"])
            ]

        return await self._database.transact(work)


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e6)
