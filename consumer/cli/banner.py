"""What `start` prints first: a banner of settings and status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from consumer.cli.render import row, when
from consumer.cli.status_report import describe_stop, mode_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.cli.render import Unknown
    from consumer.cli.status_report import StatusReport

_LABEL_WIDTH: Final = 24


def start_banner(settings: Mapping[str, str], report: StatusReport) -> str:
    """Write what `start` prints first: version, every setting (`Settings.masked`), and how things stand."""
    connection = report.connection
    rows = [
        ("Keycloak", _availability(connection.available)),
        ("Circuit", str(connection.circuit_state)),
        ("Mode", str(mode_of(report))),
        *(("Maintenance", describe_stop(stop, report.generated_at)) for stop in connection.stops),
        ("Pending syncs", str(report.queue.pending_syncs)),
        ("Dead letters", str(report.queue.dead_letters)),
        ("Cached tokens", str(report.queue.cached_tokens)),
        ("Last success", when(report.timestamps.last_success, report.generated_at)),
    ]
    return "\n".join(
        [
            "Keycloak Sync Service starting...",
            row("Version", report.version, _LABEL_WIDTH),
            "Settings:",
            *(row(name, value, _LABEL_WIDTH) for name, value in settings.items()),
            "Current Status:",
            *(row(label, value, _LABEL_WIDTH) for label, value in rows),
        ]
    )


def _availability(available: bool | Unknown) -> str:
    if isinstance(available, bool):
        return "Available" if available else "Unavailable"
    return str(available)
