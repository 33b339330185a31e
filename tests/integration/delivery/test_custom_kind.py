"""The example package of docs/guides/custom-kinds.md, installed beside a real consumer."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from producer_lib import CustomChange, InvalidEvent, UserCreate, UserUpdate
from tests.example_kind.shop_badges.contract import BADGE
from tests.integration.delivery.conftest import Observer
from tests.integration.support.bench import Bench
from tests.integration.support.events import event, record
from tests.integration.support.waiting import until

EXAMPLE = Path(__file__).parents[2] / "example_kind"


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which the package is installed: its folder, and the metadata that an installer writes."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    metadata = tmp_path / "site" / f"shop_badges-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.3\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        line
        for group, named in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in named.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return {"PYTHONPATH": f"{metadata.parent}:{EXAMPLE}"}


def spoil(installed: dict[str, str]) -> None:
    """Let the package name what it does not have."""
    (points,) = Path(installed["PYTHONPATH"].split(":")[0]).glob("*/entry_points.txt")
    points.write_text("[kcsync.kinds]\nbadge = shop_badges.handler:MISSING\n")


async def test_its_event_goes_all_the_way_to_keycloak(
    bench: Bench, observer: Observer, installed: dict[str, str]
) -> None:
    username = f"{bench.name}-ada"
    await bench.started(**installed)
    async with bench.producer() as producer:
        await producer.publish_many(
            [
                UserCreate(username=username, attributes={"team": ["engines"]}),
                CustomChange(of=BADGE, username=username, data={"badge": "silver"}),
                CustomChange(of=BADGE, username=username, data={"badge": "gold"}, priority=2),
                UserUpdate(username=username, email=f"{username}@example.org"),
            ]
        )
        with pytest.raises(InvalidEvent, match=r"^data\.badge must be one of"):
            await producer.publish(CustomChange(of=BADGE, username=username, data={"badge": "tin"}))
    await until(lambda: bench.settled(4), what="four delivered", within=60)

    user = await observer.user(bench.realm, username)
    assert user is not None
    assert user["attributes"] == {"team": ["engines"], "badge": ["gold"]}
    assert user["email"] == f"{username}@example.org"
    assert bench.rows("SELECT kind, priority FROM entries WHERE kind = 'shop_badge' ORDER BY entry_id") == [
        {"kind": "shop_badge", "priority": 7},
        {"kind": "shop_badge", "priority": 2},
    ]
    # Kept with its position, so that a user who is healed or restored gets the badge again.
    assert b'"attributes.badge":[["gold"]' in bench.value("SELECT fields FROM folds")


async def test_a_record_that_breaks_its_schema_is_poison_and_a_newer_version_is_held(
    bench: Bench, installed: dict[str, str]
) -> None:
    await bench.started(**installed)
    await bench.send(
        record(event(bench, "tin", type="kcsync.shop_badge.v1", data={"badge": "tin"}), key=b"tin"),
        record(event(bench, "new", type="kcsync.shop_badge.v2", data={"stars": 3}), key=b"new"),
    )
    await until(lambda: bench.counts() == {"HELD": 1}, what="the newer one held", within=60)
    await until(lambda: bench.value("SELECT COUNT(*) FROM poison") == 1, what="the wrong one refused")

    assert bench.value("SELECT state_reason FROM entries") == "schema_newer"
    assert bench.rows("SELECT reason, detail FROM poison") == [
        {"reason": "invalid", "detail": "data.badge must be one of 'bronze', 'silver', 'gold'"}
    ]


async def test_kcsync_test_lists_it_and_says_what_is_wrong_with_it(
    bench: Bench, installed: dict[str, str]
) -> None:
    listed = await bench.kcsync("test", **installed)
    assert "kcsync.user_create.v1" in listed.out
    assert "kcsync.shop_badge.v1 (custom)" in listed.out

    spoil(installed)
    refused = await bench.kcsync("test", **installed)
    assert refused.code == 2
    assert (
        "badge = shop_badges.handler:MISSING of shop-badges 1.0.0 cannot be loaded: AttributeError"
        in refused.out
    )
    started = await bench.kcsync("start", **installed)
    assert started.code == 2
    assert "cannot be loaded" in started.err


async def test_what_was_held_for_want_of_the_package_goes_on_when_it_is_installed(
    bench: Bench, observer: Observer, installed: dict[str, str]
) -> None:
    """Ingested by a consumer without the package; released, in order, by one that has it."""
    username = f"{bench.name}-ada"
    before = await bench.started()
    async with bench.producer() as producer:
        await producer.publish_many(
            [
                UserCreate(username=username),
                CustomChange(of=BADGE, username=username, data={"badge": "gold"}),
                UserUpdate(username=username, email=f"{username}@example.org"),
            ]
        )
    await bench.send(
        record(event(bench, "tin", type="kcsync.shop_badge.v1", data={"badge": "tin"}), key=b"tin")
    )
    await until(
        lambda: bench.counts() == {"DELIVERED": 1, "HELD": 2, "PENDING": 1}, what="both held", within=60
    )
    await before.stop()

    await bench.started(**installed)

    await until(
        lambda: bench.counts() == {"DELIVERED": 3, "DEAD_LETTER": 1}, what="everything settled", within=60
    )
    user = await observer.user(bench.realm, username)
    assert user is not None
    assert (user["attributes"], user["email"]) == ({"badge": ["gold"]}, f"{username}@example.org")
    assert (
        bench.rows("SELECT event_id, state_reason FROM entries WHERE state = 'DEAD_LETTER'")[0][
            "state_reason"
        ]
        == "invalid_data"
    )
    assert bench.value("SELECT COUNT(*) FROM marks WHERE kind = 'dead'") == 1
