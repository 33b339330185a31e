"""The programs that must be on the machine: a JDK and Maven."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

from compose.native.errors import ToolMissing

QUICK_START = ("-XX:TieredStopAtLevel=1",)
"""Options of a JVM that does without its second compiler: a server is up in half the processor time, and slower later."""

_OLDEST_JAVA = 17
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
_GET_JAVA = (
    "Install a JDK 17 or newer (Debian: apt-get install openjdk-17-jdk-headless) "
    "and have java on the PATH, or set JAVA_HOME."
)


def find_java() -> str:
    """Find a Java 17 or newer: that of JAVA_HOME, else the PATH's.

    Raises:
        ToolMissing: there is none, or it is older.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else shutil.which("java")
    if java is None:
        problem = f"JAVA_HOME is '{home}', where no bin/java is" if home else "No java was found on the PATH"
        raise ToolMissing("java", problem, _GET_JAVA)
    version = _version(java)
    if version is None or version < _OLDEST_JAVA:
        found = f"version {version}" if version else "of a version that it does not tell"
        raise ToolMissing("java", f"{java} is {found}, but Keycloak and Kafka need 17", _GET_JAVA)
    return java


def find_maven() -> str:
    """Find Maven on the PATH.

    Raises:
        ToolMissing: it is not there.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise ToolMissing(
            "mvn",
            "No mvn was found on the PATH, and the servers are downloaded by Maven",
            "Install Maven 3.6 or newer (Debian: apt-get install maven).",
        )
    return maven


@functools.cache
def _version(java: str) -> int | None:
    """Ask a Java for its major version; None if it does not tell."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(answer.stderr)
    return int(found[1]) if found else None
