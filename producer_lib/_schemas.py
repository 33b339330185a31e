"""The schema files as compiled validators."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import jsonschema_rs
import orjson


def _load() -> dict[str, dict[str, Any]]:
    folder = files("producer_lib") / "schemas"
    texts = (file.read_bytes() for file in folder.iterdir() if file.name.endswith(".v1.json"))
    return {schema["$id"]: schema for schema in map(orjson.loads, texts)}


_SCHEMAS: Final = _load()
CUSTOM: Final = "urn:kcsync:custom:"
"""Begins the identifier of a custom kind's schema."""
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REGISTRY: Final = jsonschema_rs.Registry(list(_SCHEMAS.items()))


def validator(reference: str) -> jsonschema_rs.Validator:
    """Compile the schema a reference points to, such as `urn:kcsync:fields:v1#/$defs/username`.

    Formats are checked, though draft 2020-12 leaves them off. Patterns run in linear time, so no text of a producer can
    keep a consumer busy. An error holds no value of the instance.
    """
    return _compiled({"$ref": reference}, _REGISTRY)


def custom_validator(kind: str, data: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """Compile a schema for whole events of a custom kind, from the schema of their data.

    Nothing is fetched: what the schema refers to stands in it, or in the schemas of this library.

    Raises:
        jsonschema_rs.ValidationError: It is no schema of draft 2020-12.
        jsonschema_rs.ReferencingError: It refers to something else.
        ValueError: It cannot be read at all.
    """
    reference = f"{CUSTOM}{kind}"
    dialect = data.get("$schema", _DIALECT)
    if str(dialect).rstrip("#") != _DIALECT:
        raise ValueError(f"$schema must be {_DIALECT}")
    jsonschema_rs.Draft202012Validator(dict(data), registry=_REGISTRY, offline=True)
    schema = {
        "$ref": "urn:kcsync:envelope:v1",
        "unevaluatedProperties": False,
        "properties": {"data": {"$ref": reference}},
    }
    return _compiled(schema, jsonschema_rs.Registry([*_SCHEMAS.items(), (reference, dict(data))]))


def _compiled(schema: dict[str, Any], registry: jsonschema_rs.Registry) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(
        schema,
        registry=registry,
        offline=True,
        validate_formats=True,
        mask="[hidden]",
        pattern_options=jsonschema_rs.RegexOptions(),
        email_options=jsonschema_rs.EmailOptions(allow_display_text=False, allow_domain_literal=False),
    )


def description(keyword_location: str) -> str | None:
    """Return the description beside a keyword of ours, such as `urn:kcsync:fields:v1#/$defs/line/pattern`."""
    identifier, _, pointer = keyword_location.partition("#/")
    schema: Any = _SCHEMAS.get(identifier)
    if schema is None:
        return None
    for step in pointer.split("/")[:-1]:
        schema = schema[int(step)] if isinstance(schema, list) else schema[step]
    text: str | None = schema.get("description")
    return text
