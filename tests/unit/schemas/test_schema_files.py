from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_lib import InvalidEvent, check_event, kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS = Path(__file__).parents[3] / "schemas"
FILES = sorted(SCHEMAS.glob("*.v1.json"))
TIME_PATTERN: str = json.loads((SCHEMAS / "envelope.v1.json").read_bytes())["properties"]["time"]["pattern"]


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a schema, itself included."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from parts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from parts(value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestASchemaFile:
    def test_is_a_schema_of_draft_2020_12(self, path: Path) -> None:
        schema = json.loads(path.read_bytes())

        jsonschema_rs.meta.validate(schema)

        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"

    def test_has_an_id_that_says_its_name_and_version(self, path: Path) -> None:
        name, version, _ = path.name.split(".")

        assert f"urn:kcsync:{name}:{version}" == json.loads(path.read_bytes())["$id"]

    def test_bounds_every_text(self, path: Path) -> None:
        texts = [part for part in parts(json.loads(path.read_bytes())) if part.get("type") == "string"]

        assert [part for part in texts if "maxLength" not in part] == []

    def test_bounds_every_list(self, path: Path) -> None:
        lists = [part for part in parts(json.loads(path.read_bytes())) if part.get("type") == "array"]

        assert [part for part in lists if "maxItems" not in part] == []

    def test_says_what_each_pattern_asks_for(self, path: Path) -> None:
        """The description beside a pattern is the reason a producer reads."""
        patterned = [
            part for part in parts(json.loads(path.read_bytes())) if isinstance(part.get("pattern"), str)
        ]

        assert [part for part in patterned if not part.get("description", "").startswith("must ")] == []


def test_there_is_one_file_for_each_kind_and_two_for_what_they_share() -> None:
    assert {*kinds(), "envelope", "fields"} == {path.name.split(".")[0] for path in FILES}


@pytest.mark.parametrize("kind", sorted(kinds()))
@pytest.mark.parametrize("place", ["", "data"])
def test_a_kind_is_closed(kind: str, place: str) -> None:
    event = json.loads((SCHEMAS / "examples" / "valid" / f"{kind}.json").read_bytes())
    (event[place] if place else event)["surplus"] = 1

    with pytest.raises(InvalidEvent) as refused:
        check_event(event)

    assert f"{place}.surplus".lstrip(".") == refused.value.field


@given(time=st.from_regex(re.compile(TIME_PATTERN, re.ASCII), fullmatch=True))
def test_an_accepted_time_is_one_that_a_consumer_can_read(time: str) -> None:
    event = json.loads((SCHEMAS / "examples" / "valid" / "user_delete.json").read_bytes()) | {"time": time}

    try:
        check_event(event)
    except InvalidEvent:
        return

    assert datetime.fromisoformat(time).astimezone(UTC).year >= 1899
