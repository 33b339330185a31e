"""The page docs/reference/configuration.md, written from the settings themselves.

`python -m consumer.cli.configuration_page > docs/reference/configuration.md` brings it up to date; a test compares.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from consumer.durations import EXAMPLES, format_duration
from consumer.setting_texts import allowed_values, display, is_secret, variable_of
from consumer.settings import PROFILES, Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

# Which field begins a new part of the page.
_HEADINGS: Final = {
    "kafka_bootstrap": "Kafka",
    "database_dsn": "Database",
    "keycloak_url": "Keycloak",
    "instance": "This process",
    "ingest_batch": "Ingest",
    "sync_interval": "Drain",
    "failure_threshold": "Circuit",
    "cleanup_interval": "Housekeeping",
}

_INTRODUCTION: Final = f"""\
# Configuration

<!-- Written by `python -m consumer.cli.configuration_page`; change consumer/settings.py, not this page. -->

The consumer is configured by environment variables. They are read once, at start.
A wrong value stops the program with exit code 2 and a line that names the variable, its value, the reason and what is allowed.
A variable `KCSYNC_…` that is not on this page is an error too, so a typing error never goes unnoticed; the ones that
Kubernetes injects for services (`…_SERVICE_HOST`, `…_SERVICE_PORT…`, `…_PORT…`) are let pass.
An empty variable counts as unset.

A duration is written like {EXAMPLES}; a bare number is in seconds.

A secret may stand in a file instead: `KCSYNC_DATABASE_DSN_FILE` names the file that holds `KCSYNC_DATABASE_DSN`, and so
on for every variable marked as a secret. Or `KCSYNC_SECRETS_DIR` names a folder with files called like the variables, as
systemd credentials and Kubernetes secrets are mounted. A variable goes before a file of that folder.

Traces are configured by OpenTelemetry's own variables: `OTEL_TRACES_EXPORTER` (`zipkin`, `otlp`, `console`, `none`),
`OTEL_EXPORTER_ZIPKIN_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME` (default `kcsync`),
`OTEL_TRACES_SAMPLER`, `OTEL_SDK_DISABLED` and the others that the SDK knows. Without an exporter and an endpoint there
are no traces.

## Profiles

`KCSYNC_PROFILE` chooses three defaults together:

| Profile | `KCSYNC_SYNC_INTERVAL` | `KCSYNC_BATCH_SIZE` | `KCSYNC_CLEANUP_INTERVAL` |
|---|---|---|---|
"""


def render_page() -> str:
    """Write the whole page."""
    lines = [
        _INTRODUCTION
        + "\n".join(
            f"| `{name}` | {format_duration(profile.sync_interval)} | {profile.batch_size} "
            f"| {format_duration(profile.cleanup_interval)} |"
            for name, profile in PROFILES.items()
        )
    ]
    for field, info in Settings.model_fields.items():
        if field in _HEADINGS:
            lines.append(f"\n## {_HEADINGS[field]}")
        lines += ["", f"### `{variable_of(field)}`", "", str(info.description), ""]
        lines += [f"- Allowed: {allowed_values(info)}", f"- {_default(info)}"]
        if is_secret(info):
            lines.append("- A secret: never shown, and may stand in a file")
    return "\n".join(lines) + "\n"


def _default(info: FieldInfo) -> str:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    if info.is_required():
        return "Required"
    if "default" in extra:
        return f"Default: {extra['default']}"
    if "by_profile" in extra:
        return "Default: by the profile"
    return "Default: not set" if info.default is None else f"Default: `{display(info.default)}`"


if __name__ == "__main__":
    sys.stdout.write(render_page())
