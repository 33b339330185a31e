"""Kinds of change that do not come with kcsync: what their events hold, and how they are published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final

import jsonschema_rs

from producer_lib._changes import UserChange
from producer_lib._contract import kinds, validate
from producer_lib._errors import InvalidEvent, InvalidKind
from producer_lib._schemas import custom_validator

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, kw_only=True)
class CustomKind:
    """A kind that does not come with kcsync. The application that publishes and the consumer's plugin share one object.

    Attributes:
        name: small letters, digits and underscores; none of `kinds()`.
        version: of the schema, from 1. A schema takes what its earlier versions took; what does not is a new kind.
        schema: JSON Schema (draft 2020-12) of `data`. Whoever reads Kafka or MariaDB reads `data`: no secret belongs
            there, and a field `password` is refused.
        priority: 1 (most urgent) to 10, for events that name none.

    Raises:
        InvalidKind: The name is taken or no name, or the schema is no schema.
    """

    name: str
    version: int = 1
    schema: Mapping[str, Any] = field(repr=False)
    priority: int = 5

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise InvalidKind(self.name, "its name must be small letters, digits and underscores, 64 at most")
        if self.name in kinds():
            raise InvalidKind(self.name, "kcsync has a kind of that name itself: choose another")
        if not 1 <= self.version < 10**9:
            raise InvalidKind(self.name, "its version must be a whole number from 1 on")
        if not 1 <= self.priority <= 10:
            raise InvalidKind(self.name, "its priority must be 1 to 10")
        try:
            assert self._validator
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise InvalidKind(
                self.name, f"its schema is not JSON Schema of draft 2020-12: {reason}"
            ) from None

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    @property
    def type(self) -> str:
        """The CloudEvents type of its events."""
        return f"kcsync.{self.name}.v{self.version}"

    @cached_property
    def _validator(self) -> jsonschema_rs.Validator:
        return custom_validator(self.name, self.schema)

    def check(self, event: dict[str, Any]) -> None:
        """Check a whole event of this kind, of this version or an earlier one.

        Raises:
            InvalidEvent: The first field that breaks the contract, and why.
        """
        validate(self._validator, event)
        if "password" in event["data"]:
            raise InvalidEvent("data.password", "must not be there: a custom kind carries no password")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CustomChange(UserChange):
    """A change of a kind that does not come with kcsync.

    Attributes:
        of: Its kind.
        data: What the kind's schema asks for.
    """

    kind: ClassVar[str] = "custom"

    of: CustomKind
    data: Mapping[str, Any]
