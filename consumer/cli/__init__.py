"""What the operator types and reads: the commands, their screens and their exit codes."""

from __future__ import annotations
