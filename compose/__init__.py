"""Everything kcsync runs on and beside: the native stack of real servers, and the demo played on it."""

from __future__ import annotations
