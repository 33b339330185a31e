from __future__ import annotations

import pytest

from consumer.ingest.pausing import PausePolicy, PauseReason, Pausing

CIRCUIT, MAINTENANCE, BACKLOG, OPERATOR = PauseReason


@pytest.mark.parametrize(
    ("policy", "heeded"),
    [
        (PausePolicy.IMMEDIATELY, {CIRCUIT, MAINTENANCE, BACKLOG, OPERATOR}),
        (PausePolicy.ON_BACKLOG, {BACKLOG, OPERATOR}),
        (PausePolicy.NEVER, {OPERATOR}),
    ],
)
def test_the_policy_says_which_reasons_hold(policy: PausePolicy, heeded: set[PauseReason]) -> None:
    pausing = Pausing(policy)
    for reason in PauseReason:
        pausing.begin(reason)

    assert pausing.heeded == heeded


@pytest.mark.parametrize(
    ("reasons", "taken", "endangered", "paused"),
    [
        ((), {0, 1, 2}, (), set()),
        ((), {0, 1}, (), {2}),
        ((), {0, 1}, (2,), {2}),
        ((CIRCUIT,), {0, 1, 2}, (), {0, 1, 2}),
        ((CIRCUIT,), {0, 1, 2}, (1,), {0, 2}),
        ((CIRCUIT, BACKLOG), {0, 1}, (1, 2), {0, 2}),
        # What is no longer ours is nobody's to pause.
        ((CIRCUIT,), {0, 1, 2, 3}, (3,), {0, 1, 2}),
    ],
)
def test_a_partition_flows_when_nothing_holds_it_or_kafka_would_remove_records(
    reasons: tuple[PauseReason, ...], taken: set[int], endangered: tuple[int, ...], paused: set[int]
) -> None:
    pausing = Pausing(PausePolicy.IMMEDIATELY)
    for reason in reasons:
        pausing.begin(reason)

    assert pausing.paused({0, 1, 2}, taken=taken, endangered=endangered) == paused


def test_a_reason_is_gone_however_often_it_was_given() -> None:
    pausing = Pausing(PausePolicy.IMMEDIATELY)
    pausing.begin(CIRCUIT)
    pausing.begin(CIRCUIT)
    pausing.end(CIRCUIT)
    pausing.end(BACKLOG)

    assert pausing.heeded == frozenset()
