from __future__ import annotations

from typing import Any

import pytest

from producer_lib import (
    CustomChange,
    CustomKind,
    InvalidEvent,
    InvalidKind,
    Producer,
    UnregisteredKind,
    recognise,
)
from tests.example_kind.shop_badges.contract import BADGE

OBJECT = {"type": "object"}
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/shop",
    "type": "kcsync.shop_badge.v1",
    "subject": "ada",
    "time": "2026-11-21T12:00:00Z",
    "realm": "shop",
    "data": {"badge": "gold"},
}


def refusal(kind: CustomKind, **changes: Any) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as error:
        kind.check({**EVENT, **changes})
    return error.value


class TestAnEvent:
    def test_that_follows_the_schema_is_right(self) -> None:
        BADGE.check(EVENT)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"data": {"badge": "tin"}}, "data.badge must be one of 'bronze', 'silver', 'gold'"),
            ({"data": {}}, "data.badge is missing"),
            ({"data": {"badge": "gold", "stars": 3}}, "data.stars is not a field of this event"),
            ({"data": []}, "data must be an object"),
            ({"extra": 1}, "extra is not a field of this event"),
            ({"priority": 11}, "priority must be 10 or less"),
            ({"subject": "a"}, "subject must have 3 characters or more"),
        ],
    )
    def test_that_does_not_is_refused_with_its_field(self, changes: dict[str, Any], said: str) -> None:
        assert str(refusal(BADGE, **changes)) == said

    @pytest.mark.parametrize(
        ("schema", "data", "said"),
        [
            ({"properties": {"n": {"type": "number"}}}, {"n": "x"}, "data.n must be a number"),
            ({"properties": {"n": {"type": "null"}}}, {"n": 1}, "data.n must be null"),
            ({"properties": {"n": {"pattern": "^a$"}}}, {"n": "b"}, "data.n breaks the schema's `pattern`"),
            ({"properties": {"n": {"format": "ipv4"}}}, {"n": "b"}, "data.n must have the format ipv4"),
            ({"properties": {"n": False}}, {"n": 1}, "data.n breaks the schema's `falseSchema`"),
            ({"propertyNames": {"pattern": "^a"}}, {"b": 1}, "data breaks the schema's `propertyNames`"),
            ({"multipleOf": 2, "not": {"required": ["b"]}}, {"b": 1}, "data breaks the schema's `not`"),
        ],
    )
    def test_any_keyword_of_a_schema_has_a_reason(
        self, schema: dict[str, Any], data: dict[str, Any], said: str
    ) -> None:
        assert str(refusal(CustomKind(name="other", schema=schema), data=data)) == said

    def test_carries_no_password(self) -> None:
        kind = CustomKind(name="other", schema=OBJECT)

        assert "carries no password" in str(refusal(kind, data={"password": "geheim"}))

    def test_may_refer_inside_its_schema(self) -> None:
        kind = CustomKind(
            name="other",
            schema={"$defs": {"n": {"type": "integer"}}, "properties": {"n": {"$ref": "#/$defs/n"}}},
        )

        kind.check({**EVENT, "data": {"n": 1}})
        assert refusal(kind, data={"n": "x"}).field == "data.n"


class TestAKind:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"name": "Badge"}, "its name must be small letters"),
            ({"name": "user_create"}, "kcsync has a kind of that name itself"),
            ({"version": 0}, "its version must be"),
            ({"priority": 11}, "its priority must be 1 to 10"),
            ({"schema": {"type": "thing"}}, "its schema is not JSON Schema"),
            ({"schema": {"$ref": "https://example.org/schema"}}, "its schema is not JSON Schema"),
            ({"schema": {"$ref": "#/$defs/missing"}}, "its schema is not JSON Schema"),
            (
                {"schema": {"$schema": "http://json-schema.org/draft-07/schema#"}},
                r"\$schema must be https://",
            ),
            ({"schema": {"pattern": "("}}, "its schema is not JSON Schema"),
        ],
    )
    def test_that_cannot_be_one_is_refused_at_once(self, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(InvalidKind, match=said):
            CustomKind(**{"name": "badge", "schema": OBJECT, **changes})

    def test_is_unregistered_to_who_does_not_know_it(self) -> None:
        assert recognise(EVENT) == UnregisteredKind(kind="shop_badge", version=1)


class TestPublishing:
    def test_makes_an_event_of_that_type(self) -> None:
        producer = Producer(bootstrap_servers="127.0.0.1:1", source="/shop", realm="shop")

        ready = producer._prepare(
            CustomChange(
                of=BADGE, username="Ada", data={"badge": "gold"}, event_id="e-1", tenant="t", priority=2
            )
        )

        assert ready.key == b"ada"
        assert {
            name: ready.event[name] for name in ("type", "subject", "data", "tenant", "priority", "id")
        } == {
            "type": "kcsync.shop_badge.v1",
            "subject": "Ada",
            "data": {"badge": "gold"},
            "tenant": "t",
            "priority": 2,
            "id": "e-1",
        }

    def test_refuses_what_breaks_the_schema(self) -> None:
        producer = Producer(bootstrap_servers="127.0.0.1:1", source="/shop", realm="shop")

        with pytest.raises(InvalidEvent, match=r"^data\.badge"):
            producer._prepare(CustomChange(of=BADGE, username="ada", data={"badge": "tin"}))
