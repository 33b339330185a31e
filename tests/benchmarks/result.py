"""What a benchmark reports. Only ratios within one run and memory are judged; absolute figures are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

__all__ = ["Result", "ratio_result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of the table.

    Attributes:
        name: the scenario.
        unit: of value and reference.
        value: ours, the median over the rounds.
        reference: the raw client's, the median over the rounds, or None where there is nothing to compare with.
        ratio: ours against the reference: the median of the rounds' own ratios.
        spread: lowest and highest of these ratios.
        target: what the ratio should reach at least.
        holds: whether it does; None where nothing is judged.
    """

    name: str
    unit: str
    value: float
    reference: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    target: float | None = None
    holds: bool | None = None

    def as_json(self) -> dict[str, object]:
        """For build/bench.json."""
        return asdict(self)


def ratio_result(name: str, unit: str, ours: Sequence[float], raw: Sequence[float], target: float) -> Result:
    """Compare rounds that ran in turn, pair by pair: the machine's speed drifts, a pair's does not."""
    ratios = [mine / bare for mine, bare in zip(ours, raw, strict=True)]
    ratio = statistics.median(ratios)
    return Result(
        name=name,
        unit=unit,
        value=statistics.median(ours),
        reference=statistics.median(raw),
        ratio=ratio,
        spread=(min(ratios), max(ratios)),
        target=target,
        holds=ratio >= target,
    )
