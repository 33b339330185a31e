"""Which user is it? The username key: the username as Keycloak stores it."""

from __future__ import annotations

from typing import Final

import jsonschema_rs

from producer_lib._errors import InvalidEvent
from producer_lib._refusals import refusal
from producer_lib._schemas import validator

_USERNAME: Final = validator("urn:kcsync:fields:v1#/$defs/username")
_MAX_KEY_LENGTH: Final = 255


def username_key(username: str) -> str:
    """Return the key that orders a user's events: the username in lower case, as Java writes it.

    Keycloak stores `username.toLowerCase()`. Over all of Unicode, Java 17, Java 25 and Python 3.11 to 3.13 differ from each
    other only in the capital sigma (whose form depends on its place in the word) and in capitals newer than Unicode 13.
    Usernames with one of these are refused. Keys are compared as bytes: nothing is normalised, as in Keycloak.
    `schemas/username_keys.json` has test vectors. Keycloak must not run in a Turkish, Azeri or Lithuanian locale, where Java
    writes I and J differently.

    Raises:
        InvalidEvent: This is no valid username; `field` is `subject`.
    """
    problem: InvalidEvent | None = None
    try:
        _USERNAME.validate(username)
    except jsonschema_rs.ValidationError as error:
        problem = InvalidEvent("subject", refusal(error).reason)
    except ValueError:
        problem = InvalidEvent("subject", "must be a text that UTF-8 can write")
    # Raised here and not above: the errors caught there hold the username.
    if problem is not None:
        raise problem
    return lower_case(username)


def lower_case(username: str) -> str:
    """Return the key of a username that the schema has accepted.

    Raises:
        InvalidEvent: The key is too long for Keycloak, though the username is not: one capital can become two characters.
    """
    key = username.lower()
    if len(key) > _MAX_KEY_LENGTH:
        raise InvalidEvent("subject", f"must have {_MAX_KEY_LENGTH} characters or fewer in lower case")
    return key
