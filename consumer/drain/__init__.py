"""Outbox → delivery: whose turn it is, who owns which users, and what becomes of each entry."""

from __future__ import annotations
