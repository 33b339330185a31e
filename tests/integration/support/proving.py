"""The proof that nothing was lost, doubled or reordered: Keycloak and the outbox against what was published."""

from __future__ import annotations

from collections.abc import Sequence

from compose.demo import proof
from compose.demo.expectation import Expectation
from compose.demo.keycloak_reader import KeycloakReader
from producer_lib import UserChange
from tests.integration.support.bench import Bench

_LOGINS = 20


async def prove_keycloak(bench: Bench, changes: Sequence[UserChange], since: int) -> None:
    """Keycloak itself holds what was published, and got it in the order of each user.

    Args:
        bench: whose users these are.
        changes: everything published, in order.
        since: when that began, in milliseconds since 1970.
    """
    expectation = Expectation(changes)
    async with KeycloakReader(bench.endpoints) as keycloak:
        profiles = await keycloak.profiles(bench.name)
        events = await keycloak.admin_events(since)
        trials = await keycloak.try_logins(expectation.with_new_password(_LOGINS))
    checks = (
        proof.check_profiles(expectation, profiles),
        proof.check_deleted(expectation, profiles),
        proof.check_new_passwords(trials),
        proof.check_old_passwords(trials),
        proof.check_life_cycles(expectation, events),
        proof.check_sequences(expectation, events),
    )
    failed = [
        f"{check.what} ({check.source}, {check.looked_at} looked at): {'; '.join(check.problems[:5])}"
        for check in checks
        if not check.holds
    ]
    assert not failed, "\n".join(failed)


def prove_outbox(bench: Bench, published: int) -> None:
    """Every position is accounted for once, and every entry ended once."""
    accounted = bench.rows(
        "SELECT COUNT(*) AS n, COUNT(DISTINCT partition_no, log_offset) AS places FROM ("
        " SELECT partition_no, log_offset FROM entries UNION ALL"
        " SELECT partition_no, log_offset FROM marks WHERE kind IN ('duplicate', 'poison')) AS each_position"
    )
    assert accounted == [{"n": published, "places": published}]
    assert bench.value("SELECT SUM(next_offset) FROM watermarks") == published
    assert bench.counts() == {"DELIVERED": published}
    assert bench.value("SELECT COUNT(*) FROM entries WHERE claimed_at IS NOT NULL OR ended_at IS NULL") == 0
    recorded = bench.rows(
        "SELECT COUNT(*) AS n, COUNT(DISTINCT entry_id) AS entries FROM attempts WHERE outcome = 'DELIVERED'"
    )
    assert recorded == [{"n": published, "entries": published}]
    # What the outbox says of each user's existence is what was applied last.
    assert bench.value("SELECT COUNT(*) FROM folds WHERE user_exists IS NULL") == 0
    assert bench.value("SELECT SUM(arrivals) FROM lanes") == published
