"""With which number does a command end, and what does it tell a script?"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Self


class ExitCode(IntEnum):
    """The exit codes of all commands; a signal ends them with 128 and its number, as everywhere."""

    meaning: str
    """One line for the help text."""

    HEALTHY = 0, "all is well, or what was asked for is done"
    INTERNAL = 1, "an error in kcsync itself; please report it"
    USAGE = 2, "wrong arguments or wrong settings"
    DEGRADED = (
        3,
        "it runs, but not fully: the circuit is not closed, a realm or partition waits, or no instance runs",
    )
    DEAD_LETTERS = (
        4,
        "some events need somebody: dead letters, held entries, poison, or a change that waits for a person",
    )
    UNREACHABLE = 5, "Kafka, MariaDB or Keycloak did not answer"
    PARTIAL = 6, "stopped before all was done; the rest waits for the next time"
    DRIFT = 7, "Keycloak holds something else than what was delivered to it"

    def __new__(cls, value: int, meaning: str) -> Self:
        """Make a member that is its number and knows its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


_WORST_FIRST: Final = (
    ExitCode.INTERNAL,
    ExitCode.USAGE,
    ExitCode.UNREACHABLE,
    ExitCode.DEGRADED,
    ExitCode.DRIFT,
    ExitCode.DEAD_LETTERS,
    ExitCode.PARTIAL,
    ExitCode.HEALTHY,
)


def worst(*codes: ExitCode) -> ExitCode:
    """Choose the code to end with when several apply: causes before their consequences, now before later.

    Drift found while a part is unreachable or degraded is most likely a delay; dead letters have no hurry beside an
    outage. Without any code it is HEALTHY.
    """
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.HEALTHY)


def exit_code_table() -> str:
    """Write all codes, one a line, for the end of `--help`."""
    rows = [(str(code.value), code.meaning) for code in ExitCode]
    rows += [
        ("130", "ended by Ctrl-C (SIGINT)"),
        ("143", "ended by SIGTERM while it could not finish in time"),
    ]
    return "\n".join(["Exit codes:", *(f"  {number:>3}  {meaning}" for number, meaning in rows)])
