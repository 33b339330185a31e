"""The screen of `test`: numbered groups of checks, each with what was found and what to do if it is not right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.cli.exit_codes import ExitCode, worst
from consumer.cli.render import row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        label: What it is: `Keycloak available`.
        found: What was found: `True`, a row count, a setting.
        code: HEALTHY if it is right, else the exit code that says how it is wrong.
        hint: What to do if it is wrong, or what to know if it is right; one line.
        took: How long looking took; None if there was nothing to wait for.
    """

    label: str
    found: str
    code: ExitCode = ExitCode.HEALTHY
    hint: str | None = None
    took: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CheckGroup:
    """Checks under one heading."""

    title: str
    checks: tuple[Check, ...]


def render_checks(groups: Sequence[CheckGroup]) -> str:
    """Write the screen."""
    lines = ["Testing Keycloak resilience configuration..."]
    for number, group in enumerate(groups, start=1):
        lines.append(f"{number}. {group.title}:")
        for check in group.checks:
            right = check.code is ExitCode.HEALTHY
            took = "" if check.took is None else f" ({check.took.total_seconds() * 1000:.0f} ms)"
            lines.append(row(f"{'✓' if right else '✗'} {check.label}", check.found + took, 34))
            if check.hint is not None:
                lines.append(f"      → {check.hint}")
    wrong = sum(check.code is not ExitCode.HEALTHY for group in groups for check in group.checks)
    lines.append("Test complete." if not wrong else f"Test complete: {wrong} of the checks failed.")
    return "\n".join(lines)


def checks_exit_code(groups: Sequence[CheckGroup]) -> ExitCode:
    """Choose the exit code of `test`: the worst of its checks."""
    return worst(*(check.code for group in groups for check in group.checks))
