"""The private sealing keys of a folder as it stands: what is put there or taken away counts without a restart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from consumer.delivery.errors import KeyFolderError, UnknownSealingKey
from consumer.delivery.passwords import KeyRing, key_files
from consumer.telemetry.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_log = structlog.get_logger(__name__)
_LOOK_EVERY = 5.0
_MOST_MISSING = 1000
"""Ids come from producers: one that makes them up must not fill memory or log."""

Stamp = frozenset[tuple[str | int, ...]]


class KeyFolder:
    """The keys of a folder; a `Keys`.

    Looked at every few seconds, and at once when something is sealed to a key that is not known: by name, inode, times and
    size of the files, which also tells the links of a mounted secret apart. What cannot be used as it stands (a file
    half written, a wrong mode) leaves the keys as they were, and is logged.
    """

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        Raises:
            KeyFolderError: As `KeyRing.load`.
        """
        self._folder = folder
        self._stamp = _stamp(folder)
        self._ring = KeyRing.load(folder)
        self._missing: set[str] = set()
        self._trouble = Trouble()

    def open(self, sealed: Mapping[str, Any], info: bytes) -> bytes:
        """Open a sealed object, as `KeyRing.open`."""
        try:
            return self._ring.open(sealed, info)
        except UnknownSealingKey as unknown:
            self.look()
            if unknown.kid not in self._ring.kids:
                self._miss(unknown.kid)
                raise
        return self._ring.open(sealed, info)

    def seal(self, plaintext: bytes, info: bytes) -> dict[str, str]:
        """Seal bytes to our own current key, as `KeyRing.seal`."""
        return self._ring.seal(plaintext, info)

    async def run(self) -> None:
        """Look again every few seconds until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            self.look()

    def look(self) -> None:
        """Read the folder again if it has changed."""
        stamp = _stamp(self._folder)
        if stamp == self._stamp:
            return
        try:
            ring = KeyRing.load(self._folder)
        except KeyFolderError as error:
            if self._trouble.is_news():
                _log.error("sealing keys not read again; those from before are kept", reason=str(error))
            return
        self._trouble.over()
        self._stamp, self._ring = stamp, ring
        _log.info("sealing keys read again", kids=sorted(ring.kids), current=ring.current)
        for kid in sorted(self._missing & ring.kids):
            _log.info("sealing key is there now; what waited for it goes on within a minute", kid=kid)
        self._missing -= ring.kids

    def _miss(self, kid: str) -> None:
        """Say once which key is missing, and not for each password that waits for it."""
        if kid not in self._missing and len(self._missing) < _MOST_MISSING:
            self._missing.add(kid)
            _log.error(
                "sealing key is missing: what is sealed to it waits",
                kid=kid,
                remedy=f"put {kid}.key into the key folder; no restart is needed",
            )


def _stamp(folder: Path) -> Stamp | None:
    """What tells one state of the folder from another; None where it cannot be read."""
    try:
        seen = [(file.name, file.stat()) for file in key_files(folder)]
    except OSError:
        return None
    return frozenset(
        (name, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size) for name, found in seen
    )
