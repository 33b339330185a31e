"""How far Keycloak's clock is from ours. Pure.

Keycloak's answers carry no `Date` header (seen on 26.7.4), but two things tell its time: the `iat` of a token, in whole
seconds, and the date of a password that a call of ours has set, in milliseconds. Each lies between the beginning and the
end of its call by ours, so that each gives an interval for the difference, and several together a narrow one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

__all__ = ["KeycloakClock"]

_UNKNOWN: Final = timedelta(seconds=1)
"""What is granted while nothing has been seen: servers keep their clocks."""


@dataclass(slots=True)
class KeycloakClock:
    """What is known of Keycloak's clock."""

    _least: timedelta = -_UNKNOWN
    _most: timedelta = _UNKNOWN
    _seen: bool = False

    def saw(self, theirs: datetime, *, began: datetime, ended: datetime, granularity: timedelta) -> None:
        """Keycloak has named its time within a call of ours.

        Args:
            theirs: What it said (UTC); the moment lies within `granularity` behind that.
            began: When the call began, by our clock (UTC).
            ended: When it had ended.
            granularity: What Keycloak rounds down to.
        """
        least, most = theirs - ended, theirs + granularity - began
        together = max(least, self._least), min(most, self._most)
        # Nothing in common: one of the clocks was set since. And a guess is nothing to be narrowed.
        fits = self._seen and together[0] <= together[1]
        self._least, self._most = together if fits else (least, most)
        self._seen = True

    def earliest(self, theirs: datetime) -> datetime:
        """The first moment of our clock that a moment of Keycloak's may have been."""
        return theirs - self._most

    def latest(self, theirs: datetime) -> datetime:
        """The last moment of our clock that it may have been."""
        return theirs - self._least
