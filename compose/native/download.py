"""How artifacts come from Maven repositories: by the user's own Maven, with its mirrors and its proxy."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from compose.native import process
from compose.native.errors import CommandFailed, DiskFull, DownloadFailed, Stopped
from compose.native.state import exclusive
from compose.native.tools import find_maven

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from compose.native.progress import Progress

_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_QUIET = ("--batch-mode", "--quiet", "--no-transfer-progress", "--strict-checksums", "-Dstyle.color=never")
_ERROR = re.compile(r"^\[ERROR\] (.*\S.*)", re.MULTILINE)
# Maven writes an empty colour code even where it is told to use none.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# The largest artifact and what it unpacks to.
_ROOM = 600 * 2**20


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of a Maven repository.

    Attributes:
        title: what people call it, with its size.
        coordinates: group:artifact:version[:packaging[:classifier]].
        sha256: of the file, in hex.
    """

    title: str
    coordinates: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Libraries:
    """Jars with everything they depend on.

    Attributes:
        title: what people call them, with their size.
        roots: group:artifact:version of each jar that is asked for.
    """

    title: str
    roots: tuple[str, ...]


class Downloader:
    """Runs Maven; one run at a time, because its local repository does not like company.

    Args:
        folder: where the lock and Maven's logs stand.
        marked: the mark its processes carry.

    Attributes:
        seconds: how long Maven ran so far.
    """

    def __init__(self, folder: Path, marked: str) -> None:
        self._folder = folder
        self._marked = marked
        self.seconds = 0.0

    def artifact(self, wanted: Artifact, into: Path, progress: Progress) -> Path:
        """Download one file into a folder, and check it against its pinned hash.

        Raises:
            DiskFull: there is no room for it.
            DownloadFailed: Maven could not, or the file is another one.
            ToolMissing: there is no Maven.
        """
        goal = (f"{_PLUGIN}:copy", f"-Dartifact={wanted.coordinates}", f"-DoutputDirectory={into}")
        log = self._maven(wanted.title, goal, into, progress)
        (file,) = (path for path in into.iterdir() if path.is_file())
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != wanted.sha256:
            reason = f"its SHA-256 is {digest}, not the pinned {wanted.sha256}."
            raise DownloadFailed(wanted.title, reason, log)
        return file

    def libraries(self, wanted: Libraries, into: Path, progress: Progress) -> None:
        """Download jars and all they depend on into a folder.

        Raises:
            DiskFull: there is no room for them.
            DownloadFailed: Maven could not.
            ToolMissing: there is no Maven.
        """
        pom = into / "pom.xml"
        pom.write_text(_pom(wanted.roots), encoding="utf-8")
        goal = (
            "--file",
            str(pom),
            f"{_PLUGIN}:copy-dependencies",
            f"-DoutputDirectory={into}",
            "-DincludeScope=runtime",
        )
        self._maven(wanted.title, goal, into, progress)
        pom.unlink()

    def _maven(self, title: str, goal: Sequence[str], directory: Path, progress: Progress) -> Path:
        maven = find_maven()
        log = self._folder / f"maven-{re.sub(r'[^A-Za-z0-9.]+', '-', title.partition(' (')[0]).lower()}.log"
        with exclusive(self._folder / ".maven.lock"):
            if progress.braked:
                raise Stopped
            if (room := shutil.disk_usage(self._folder).free) < _ROOM:
                raise DiskFull(self._folder, room, _ROOM)
            progress.say(f"downloading {title} ...")
            begun = time.monotonic()
            try:
                process.run(
                    "Maven", (maven, *_QUIET, *goal), os.environ, log, self._marked, progress, directory
                )
            except CommandFailed:
                raise DownloadFailed(title, _reason(log), log) from None
            took = time.monotonic() - begun
            self.seconds += took
            progress.say(f"downloaded  {title} in {took:.1f} s")
        return log


def _reason(log: Path) -> str:
    """Find the sentence in Maven's output that says why."""
    found = _ERROR.search(_COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace")))
    text = found[1].partition(" -> [Help")[0].strip() if found else "it gave no reason."
    return text[:400] if text.endswith(".") else f"{text[:400]}."


def _pom(roots: Sequence[str]) -> str:
    dependencies = ""
    for root in roots:
        group, artifact, version = (escape(part) for part in root.split(":"))
        dependencies += (
            f"    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version></dependency>\n"
        )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0">\n'
        "  <modelVersion>4.0.0</modelVersion>\n"
        "  <groupId>kcsync</groupId><artifactId>native-stack</artifactId><version>1</version>\n"
        f"  <dependencies>\n{dependencies}  </dependencies>\n"
        "</project>\n"
    )
