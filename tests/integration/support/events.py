"""Events as a producer of another make would write them, right and wrong."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from producer_lib import username_key
from tests.integration.support.bench import SOURCE, Bench, Record


def event(bench: Bench, username: str, **changes: Any) -> dict[str, Any]:
    """A valid update; a change of None leaves a field out."""
    whole = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": SOURCE,
        "type": "kcsync.user_update.v1",
        "subject": username,
        "time": "2026-11-21T12:00:00Z",
        "datacontenttype": "application/json",
        "realm": bench.realm,
        "data": {"enabled": True},
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def record(content: dict[str, Any] | bytes | None, *, partition: int = 0, key: bytes | None = None) -> Record:
    """A record that carries it, keyed by its user where it names one."""
    if isinstance(content, dict):
        subject = content.get("subject")
        if key is None and isinstance(subject, str):
            key = username_key(subject).encode()
        content = json.dumps(content).encode()
    return Record(content, key, partition)
