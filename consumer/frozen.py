"""Dataclasses that are frozen to the type checker, and as quick to make as any other.

A dataclass that is frozen at run time sets each of its fields through `object.__setattr__`. The drain makes some dozen
values for each entry, one of them with 26 fields: that was a fifth of its CPU (docs/decisions/0037).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as quick_dataclass
else:
    from dataclasses import dataclass

    def quick_dataclass(*, frozen: bool, **options: bool) -> Any:
        """Make a dataclass that compares and hashes as a frozen one."""
        assert frozen, "nothing is gained for one that may change"
        return dataclass(unsafe_hash=True, **options)


__all__ = ["quick_dataclass"]
