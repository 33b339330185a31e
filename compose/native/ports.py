"""Which ports the servers listen on: free ones, remembered, or fixed by the environment."""

from __future__ import annotations

import errno
import os
import random
import socket
from pathlib import Path

from compose.native.errors import PortTaken, StackError

HOST = "127.0.0.1"

# Every port of a stack, and the variable that fixes it, if one does.
PORTS = {
    "kafka": "KCSYNC_STACK_KAFKA_PORT",
    "kafka_controller": None,
    "mariadb": "KCSYNC_STACK_MARIADB_PORT",
    "keycloak": "KCSYNC_STACK_KEYCLOAK_PORT",
    "keycloak_management": None,
    "zipkin": "KCSYNC_STACK_ZIPKIN_PORT",
}

_LOWEST = 10_240
_TRIES = 200
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now.

    Ports that only linger in TIME_WAIT count as free, because servers reuse their address.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen()
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def free_port(avoid: frozenset[int] = frozenset()) -> int:
    """Find a loopback port that is free now.

    It lies below the range the kernel gives to outgoing connections: a client that keeps calling a stopped server
    would otherwise one day be given that very port, and connect to itself.

    Args:
        avoid: ports that are spoken for, though nobody listens on them yet.

    Raises:
        StackError: no free port was found.
    """
    lowest_ephemeral = _lowest_ephemeral()
    if lowest_ephemeral - _LOWEST < _TRIES:
        return _any_free_port(avoid)
    chooser = random.SystemRandom()
    for _ in range(_TRIES):
        port = chooser.randrange(_LOWEST, lowest_ephemeral)
        if port not in avoid and is_free(port):
            return port
    return _any_free_port(avoid)


def fixed_port(server: str) -> int | None:
    """Read the port the environment fixes for a server; None if it fixes none.

    Raises:
        StackError: the variable does not hold a port number.
    """
    variable = PORTS[server]
    text = os.environ.get(variable, "") if variable else ""
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise StackError(
            f"{variable} is '{text}', which is not a port. Give a number from 1 to 65535, or unset it."
        )
    return int(text)


def choose(server: str, remembered: int | None, avoid: frozenset[int]) -> int:
    """Choose the port of a server that is about to start.

    Args:
        server: a name of `PORTS`.
        remembered: the port it had last time, kept if still free.
        avoid: ports of the stack's other servers.

    Raises:
        PortTaken: the environment fixes a port that is in use.
    """
    fixed = fixed_port(server)
    if fixed is not None:
        if fixed in avoid or not is_free(fixed):
            raise PortTaken(server, fixed, f"Stop that program, or change or unset {PORTS[server]}.")
        return fixed
    if remembered is not None and remembered not in avoid and is_free(remembered):
        return remembered
    return free_port(avoid)


def _lowest_ephemeral() -> int:
    try:
        return int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _any_free_port(avoid: frozenset[int]) -> int:
    for _ in range(_TRIES):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        if port not in avoid:
            return port
    raise StackError("No free port was found on 127.0.0.1. Stop some programs and run the command again.")
