"""The schema files as compiled validators."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final, cast

import jsonschema_rs
import orjson


def _load() -> dict[str, dict[str, Any]]:
    folder = files("producer_lib") / "schemas"
    texts = (file.read_bytes() for file in folder.iterdir() if file.name.endswith(".v1.json"))
    return {schema["$id"]: schema for schema in map(orjson.loads, texts)}


_SCHEMAS: Final = _load()
_REGISTRY: Final = jsonschema_rs.Registry(list(_SCHEMAS.items()))


def validator(reference: str) -> jsonschema_rs.Validator:
    """Compile the schema a reference points to, such as `urn:kcsync:fields:v1#/$defs/username`.

    Formats are checked, though draft 2020-12 leaves them off. Patterns run in linear time, so no text of a producer can
    keep a consumer busy. An error holds no value of the instance.
    """
    return jsonschema_rs.Draft202012Validator(
        {"$ref": reference},
        registry=_REGISTRY,
        validate_formats=True,
        mask="[hidden]",
        pattern_options=jsonschema_rs.RegexOptions(),
        email_options=jsonschema_rs.EmailOptions(allow_display_text=False, allow_domain_literal=False),
    )


def description(keyword_location: str) -> str:
    """Return the description beside a keyword, such as `urn:kcsync:fields:v1#/$defs/line/pattern`."""
    identifier, _, pointer = keyword_location.partition("#/")
    schema: Any = _SCHEMAS[identifier]
    for step in pointer.split("/")[:-1]:
        schema = schema[int(step)] if isinstance(schema, list) else schema[step]
    return cast("str", schema["description"])
