"""Why the demo could not go on."""

from __future__ import annotations


class DemoFailed(Exception):
    """The demo cannot go on. The message says what was waited for, why it did not come, and where to look."""
