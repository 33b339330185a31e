from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compose.demo.consumer_process import consumer_environment
from compose.demo.watch import Glance, glance_at
from compose.native.stack import Endpoints
from consumer.settings import Settings


def status(**queue: int | None) -> dict[str, Any]:
    counts = {
        "pending_syncs": 0,
        "held": 0,
        "delivered": 10,
        "dead_letters": 0,
        "superseded": 0,
        "poison": 0,
        "duplicates": 0,
    }
    return {
        "connection": {"circuit_state": "CLOSED"},
        "queue": counts | queue,
        "ingest": {
            "partitions": [
                {"writer": "one", "lag": 2, "paused": True},
                {"writer": None, "lag": 3, "paused": False},
            ]
        },
        "drain": {"instances": [{"name": "one"}]},
    }


class TestAGlance:
    def test_takes_the_numbers_of_the_story(self) -> None:
        assert glance_at(status(held=1, dead_letters=2)) == Glance(
            instances=1,
            circuit="CLOSED",
            partitions=2,
            read=1,
            paused=1,
            in_kafka=5,
            pending=0,
            delivered=10,
            troubled=3,
        )

    def test_of_a_kcsync_without_its_database_knows_nothing(self) -> None:
        blind = status(pending_syncs=None, delivered=None, held=None)
        blind["ingest"]["partitions"][0]["lag"] = None
        blind["drain"]["instances"] = None
        glance = glance_at(blind)

        assert (glance.instances, glance.in_kafka, glance.pending, glance.troubled) == (
            None,
            None,
            None,
            None,
        )
        assert not glance.settled(0)

    @pytest.mark.parametrize(
        ("change", "settled"),
        [
            ({}, True),
            ({"pending": 1}, False),
            ({"in_kafka": 1}, False),
            ({"delivered": 9}, False),
            # What was given up has come to its end too; the proof tells that it is wrong.
            ({"delivered": 9, "troubled": 1}, True),
        ],
    )
    def test_knows_when_all_has_come_to_its_end(self, *, change: dict[str, int], settled: bool) -> None:
        glance = replace(glance_at(status()), in_kafka=0)

        assert replace(glance, **change).settled(10) is settled  # type: ignore[arg-type] # fields by name

    def test_sees_all_partitions_paused_only_if_there_are_any(self) -> None:
        glance = glance_at(status())

        assert not glance.all_paused
        assert replace(glance, paused=2).all_paused
        assert not replace(glance, paused=0, partitions=0).all_paused


class TestTheConsumersEnvironment:
    def test_is_one_that_the_consumer_accepts(self) -> None:
        endpoints = Endpoints(
            kafka_bootstrap="127.0.0.1:9092",
            topic="kcsync.user-events",
            mariadb_dsn="mysql://kcsync:secret@127.0.0.1:3306/kcsync",
            keycloak_url="http://127.0.0.1:8080",
            keycloak_management_url="http://127.0.0.1:9000",
            keycloak_admin_username="admin",
            keycloak_admin_password="secret",
            realm="kcsync",
            client_id="kcsync",
            client_secret="secret",
            observer_client_id="observer",
            observer_client_secret="secret",
            login_client_id="login",
            zipkin_url="http://127.0.0.1:9411",
            keys_dir=Path("/keys"),
        )
        environment = consumer_environment(
            endpoints, topic="demo", group="demo", database_dsn="mysql://kcsync:secret@127.0.0.1:3306/demo"
        )
        settings = Settings.load(environment)

        assert (settings.kafka_topic, settings.kafka_group) == ("demo", "demo")
        assert settings.database_dsn.database == "demo"
        # With the default, the outage of the demo would take minutes.
        assert settings.cooldown.total_seconds() <= 5
