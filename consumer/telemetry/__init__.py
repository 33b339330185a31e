"""What is seen from outside: traces, logs, and what must never stand in either."""

from __future__ import annotations
