"""One handler for each kind of change: which calls apply it, and which answers mean something else to it."""

from __future__ import annotations
