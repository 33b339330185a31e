"""The outbox: tables, migrations, queries and states; the only room that knows SQL."""

from __future__ import annotations
