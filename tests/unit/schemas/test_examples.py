from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from producer_lib import InvalidEvent, Recognised, check_envelope, check_event, kinds, parse_event, recognise

EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples"
VALID = sorted((EXAMPLES / "valid").glob("*.json"))
INVALID = sorted(path for path in (EXAMPLES / "invalid").glob("*.json") if path.name != "expected.json")
EXPECTED: dict[str, dict[str, str]] = json.loads((EXAMPLES / "invalid" / "expected.json").read_bytes())
CLEAR = "hunter2-in-clear"


def named(path: Path) -> str:
    return path.stem


def read(path: Path) -> dict[str, Any]:
    return parse_event(path.read_bytes())


@pytest.mark.parametrize("path", VALID, ids=named)
def test_a_valid_example_is_accepted(path: Path) -> None:
    event = read(path)

    check_event(event)
    check_envelope(event)

    assert isinstance(recognise(event), Recognised)


@pytest.mark.parametrize("path", INVALID, ids=named)
def test_an_invalid_example_is_refused_for_the_expected_reason(path: Path) -> None:
    with pytest.raises(InvalidEvent) as refused:
        check_event(read(path))

    assert EXPECTED[path.stem] == {"field": refused.value.field, "reason": refused.value.reason}


@pytest.mark.parametrize("path", INVALID, ids=named)
def test_a_refusal_holds_no_value_of_the_event(path: Path) -> None:
    with pytest.raises(InvalidEvent) as refused:
        check_event(read(path))

    error = refused.value
    assert CLEAR not in f"{error!s} {error!r} {vars(error)}"
    # What stands behind the error would end in the same traceback.
    assert error.__cause__ is None
    assert error.__context__ is None


def test_each_kind_has_a_valid_and_an_invalid_example() -> None:
    for folder in (VALID, INVALID):
        assert kinds() <= {
            str(read(path).get("type")).split(".")[1] for path in folder if "type" in read(path)
        }


def test_each_expectation_has_its_example() -> None:
    assert sorted(EXPECTED) == [path.stem for path in INVALID]


def test_some_example_has_a_password_in_clear() -> None:
    """Otherwise the tests above would prove nothing about passwords."""
    assert sum(CLEAR in path.read_text(encoding="utf-8") for path in INVALID) >= 4
