"""How the values of settings are written: durations, servers, names, addresses."""

from __future__ import annotations

import os
import re
import secrets
import socket
from datetime import timedelta
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf

from consumer.database_address import DatabaseAddress
from consumer.durations import parse_duration
from producer_lib import username_key

NEVER: Final = "never"
"""A retention that keeps for ever."""

NO_PASSWORDS: Final = "none"
"""A retention of passwords that keeps none beyond its delivery."""

LAST_PASSWORD: Final = "last"  # noqa: S105 - the name of a retention.
"""A retention of passwords that keeps each user's last one for ever."""

_SHORTEST_RETENTION: Final = timedelta(hours=1)
_LONGEST_RETENTION: Final = timedelta(days=3650)
_SHORTEST_GRACE: Final = timedelta(minutes=1)
_LONGEST_GRACE: Final = timedelta(days=30)
CREDENTIAL_RETENTIONS: Final = "none, last, or a duration from 1m to 30d, such as 1h"
"""What a retention of passwords may be, for people."""
RETENTIONS: Final = "never, or a duration from 1h to 3650d, such as 36h or 30d"
"""What a retention may be, for people."""


def own_name() -> str:
    """Make a name for this process that no other has."""
    # The random part tells two processes apart that share host name and pid, as containers do.
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _retention(value: object) -> object:
    """Read how long something stays; the bounds stand here because `never` has none."""
    return value if value == NEVER else _within(value, _SHORTEST_RETENTION, _LONGEST_RETENTION)


def _credential_retention(value: object) -> object:
    """Read how long the last password stays; the bounds stand here because the words have none."""
    return (
        value if value in {NO_PASSWORDS, LAST_PASSWORD} else _within(value, _SHORTEST_GRACE, _LONGEST_GRACE)
    )


def _within(value: object, shortest: timedelta, longest: timedelta) -> object:
    duration = _duration(value)
    if isinstance(duration, timedelta):
        if duration < shortest:
            raise ValueError("it is too small")
        if duration > longest:
            raise ValueError("it is too large")
    return duration


def _address(value: object) -> object:
    return DatabaseAddress.parse(value) if isinstance(value, str) else value


def upper(value: object) -> object:
    """Let a choice be written in small letters too."""
    return value.upper() if isinstance(value, str) else value


def _listed(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise ValueError("it is empty or has an empty name in it")
    if len(set(names)) < len(names):
        raise ValueError("it names a realm twice")
    return names


def _usernames(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise ValueError("it is empty or has an empty name in it")
    return frozenset(username_key(name) for name in names)


def _federation_probes(value: object) -> object:
    if not isinstance(value, str):
        return value
    named = set()
    for part in value.split(","):
        realm, equals, username = (piece.strip() for piece in part.partition("="))
        if not equals or not realm or not username:
            # The part may hold a username: it is counted, not shown.
            raise ValueError(f"part {value.split(',').index(part) + 1} of it is not realm=username")
        named.add((realm, username_key(username)))
    return frozenset(named)


def probes_of(probes: frozenset[tuple[str, str]]) -> dict[str, list[str]]:
    """Give the username keys of the probes by realm."""
    found: dict[str, list[str]] = {}
    for realm, name in sorted(probes):
        found.setdefault(realm, []).append(name)
    return found


def _lane_policies(value: object) -> object:
    if not isinstance(value, str):
        return value
    named: dict[str, str] = {}
    for part in value.split(","):
        kind, equals, policy = (piece.strip() for piece in part.partition("="))
        if not equals or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", kind):
            raise ValueError(f"{part.strip()!r} is not kind=policy")
        if policy not in {"continue", "hold"}:
            raise ValueError(f"{policy!r} is neither continue nor hold")
        if kind in named:
            raise ValueError(f"it names {kind} twice")
        named[kind] = policy
    return tuple(f"{kind}={policy}" for kind, policy in named.items())


def holding_kinds(policies: tuple[str, ...]) -> frozenset[str]:
    """Give the kinds whose dead letters hold their lane; a kind that is not named goes on."""
    return frozenset(
        kind for kind, _, policy in (each.partition("=") for each in policies) if policy == "hold"
    )


def _servers(value: str) -> str:
    servers = [server.strip() for server in value.split(",")]
    for server in servers:
        _, _, port = server.rpartition(":")
        if (
            not re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/@]+):[0-9]{1,5}", server)
            or not 0 < int(port) < 65536
        ):
            raise ValueError(f"{server!r} is not host:port")
    return ",".join(servers)


def _web_address(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("it is not a web address")
    if "@" in url.netloc:
        raise ValueError("it has a user or password in it; credentials have settings of their own")
    if url.query or url.fragment:
        raise ValueError("it has a ? or # in it")
    return value.rstrip("/")


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Retention = Annotated[timedelta | Literal["never"], BeforeValidator(_retention)]
CredentialRetention = Annotated[timedelta | Literal["none", "last"], BeforeValidator(_credential_retention)]
Servers = Annotated[str, AfterValidator(_servers)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Usernames = Annotated[frozenset[str], BeforeValidator(_usernames)]
FederationProbes = Annotated[frozenset[tuple[str, str]], BeforeValidator(_federation_probes)]
LanePolicies = Annotated[tuple[str, ...], BeforeValidator(_lane_policies)]
KafkaName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Address = Annotated[InstanceOf[DatabaseAddress], BeforeValidator(_address)]
