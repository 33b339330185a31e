"""The page docs/reference/reasons.md, written from the tables that the screens use.

`python -m consumer.cli.reasons_page > docs/reference/reasons.md` brings it up to date; a test compares.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from consumer.delivery.advice import ADVICE, DONE
from consumer.drain.reasons import DRAIN_ADVICE
from consumer.ingest.reasons import POISON_ADVICE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.delivery.advice import Advice
    from consumer.delivery.outcome import Reason
    from consumer.drain.reasons import DrainReason
    from consumer.ingest.reasons import PoisonReason

_INTRODUCTION: Final = """\
# Reasons

<!-- Written by `python -m consumer.cli.reasons_page`; change the tables ADVICE, DONE, DRAIN_ADVICE and POISON_ADVICE, not this page. -->

Each attempt and each entry has a reason code: in `kcsync status` and `kcsync held`, in the log, in spans, and in the
columns `entries.state_reason` and `attempts.reason`. Beside it, `attempts.error` says what was met, without anybody's name.
A change that is a dead letter is not tried again, and the id of its event is known: publish it under a new one.

**Somebody** marks reasons that no time ends: `status` shows them as `Needs Somebody` and exits 4 (3 for a missing key),
`kcsync held` names the user, the event and since when.
"""


def render_page() -> str:
    """Write the whole page."""
    lines = [
        _INTRODUCTION,
        "## Not delivered: what Keycloak, the way to it or this process says",
        "",
        *_table(ADVICE),
        "",
        "## What the drain and operators say",
        "",
        *_table(DRAIN_ADVICE),
        "",
        "## Poison: records that are no events",
        "",
        "In the log line `record is poison` and in the table `poison`. They block nobody.",
        "",
        *_table(POISON_ADVICE),
        "",
        "## Delivered",
        "",
        "| Reason | Meaning |",
        "|---|---|",
        *(f"| `{reason}` | {meaning} |" for reason, meaning in DONE.items()),
    ]
    return "\n".join(lines) + "\n"


def _table(
    advice: Mapping[Reason, Advice] | Mapping[DrainReason, Advice] | Mapping[PoisonReason, Advice],
) -> list[str]:
    return [
        "| Reason | Meaning | What to do | Somebody |",
        "|---|---|---|---|",
        *(
            f"| `{reason}` | {each.meaning} | {each.remedy} | {'yes' if each.somebody else ''} |"
            for reason, each in advice.items()
        ),
    ]


if __name__ == "__main__":
    sys.stdout.write(render_page())
