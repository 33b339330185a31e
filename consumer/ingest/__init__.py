"""Kafka → outbox: every record becomes an entry, a duplicate or a poison row, exactly once."""

from __future__ import annotations
