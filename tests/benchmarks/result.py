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
        spread: lowest and highest of these ratios; of the rounds where there is no ratio.
        target: what the ratio should reach at least; without one, what the value should stay below.
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

    @classmethod
    def figure(cls, name: str, unit: str, rounds: Sequence[float], *, at_most: float | None = None) -> Result:
        """A figure with nothing to compare it with; judged only if there is a limit to it."""
        value = statistics.median(rounds)
        return cls(
            name=name,
            unit=unit,
            value=value,
            spread=(min(rounds), max(rounds)),
            target=at_most,
            holds=None if at_most is None else value <= at_most,
        )

    def as_json(self) -> dict[str, object]:
        """For build/bench.json."""
        return asdict(self)


def ratio_result(
    name: str, unit: str, ours: Sequence[float], raw: Sequence[float], target: float | None
) -> Result:
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
        holds=None if target is None else ratio >= target,
    )
