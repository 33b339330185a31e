"""Kinds of change that other packages bring: found by entry point when the consumer starts.

A package names an object in the group `kcsync.kinds`:

    [project.entry-points."kcsync.kinds"]
    badge = "shop_badges:BADGE"

and that object is a `Kind`. The guide is docs/guides/custom-kinds.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from consumer.delivery.handlers.handler import Handler
from consumer.kind_overrides import KindOverride
from producer_lib import CustomKind, kinds

__all__ = ["GROUP", "Kind", "KindRefused", "check_overrides", "load_kinds"]

GROUP: Final = "kcsync.kinds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind with what applies it.

    Attributes:
        contract: what its events hold.
        handler: applies one change. It may be called again with a change that it has applied, after a lost answer or a
            crash, and must leave what it left the first time. Changes of a custom kind are never merged.
    """

    contract: CustomKind
    handler: Handler


class KindRefused(Exception):
    """A package brings a kind that cannot be used; the consumer does not start, or its events would be held."""


def load_kinds(found: Iterable[EntryPoint] | None = None) -> Mapping[str, Kind]:
    """Load the kinds of all installed packages, by name.

    Args:
        found: the entry points; all of the group by default.

    Raises:
        KindRefused: one cannot be imported, is no `Kind`, or two have one name.
    """
    loaded: dict[str, Kind] = {}
    origin: dict[str, str] = {}
    for entry_point in entry_points(group=GROUP) if found is None else found:
        package = (
            "" if entry_point.dist is None else f" of {entry_point.dist.name} {entry_point.dist.version}"
        )
        label = f"entry point {entry_point.name} = {entry_point.value}{package}"
        try:
            kind = entry_point.load()
        except Exception as error:  # noqa: BLE001 - somebody else's module may raise anything.
            raise KindRefused(
                f"{label} cannot be loaded: {type(error).__name__}: {error}; mend or uninstall that package"
            ) from None
        if not isinstance(kind, Kind) or not callable(kind.handler):
            raise KindRefused(f"{label} is not a consumer.kinds.Kind with a handler; mend that package")
        name = kind.contract.name
        if name in loaded:
            raise KindRefused(f"{label} and {origin[name]} both bring the kind {name}; uninstall one of them")
        loaded[name], origin[name] = kind, label
    return loaded


def check_overrides(overrides: Iterable[KindOverride], custom: Iterable[str]) -> None:
    """Refuse overrides of kinds that nobody brings: a typing error would change nothing, silently.

    Raises:
        KindRefused: with the kinds there are.
    """
    known = sorted({*kinds(), *custom})
    for override in overrides:
        if override.kind not in known:
            raise KindRefused(
                f"KCSYNC_KIND_OVERRIDES={str(override)!r}: there is no kind {override.kind}; "
                f"there are {', '.join(known)}"
            )
