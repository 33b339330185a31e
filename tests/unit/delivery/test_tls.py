"""Everything that TLS towards Keycloak can stumble over, against servers that really speak it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from consumer.delivery.answer import TransportCause
from consumer.delivery.transport import CallScope, KeycloakSender, NoAnswer
from consumer.tls import client_tls
from tests.integration.support.certificates import Authority, Signed

DONE = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def strangers(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "strangers")


def server_tls(
    own: Signed, *, clients_of: Authority | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients_of.certificate)
    if version is not None:
        context.maximum_version = version
    return context


def speaks(tls: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """Answer over TLS. Blocking, because asyncio's server resets the connection before its alert is read."""

    def serve(connection: socket.socket) -> None:
        with tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
            try:
                secured.do_handshake()
            except ssl.SSLError:
                # Whatever the client still says is taken in, or closing would send a reset.
                with socket.socket(fileno=secured.detach()) as raw:
                    raw.settimeout(5)
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(4096):
                        pass
                return
            secured.recv(4096)
            secured.sendall(DONE)

    return serve


def plain(connection: socket.socket) -> None:
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve one connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            connection.settimeout(5)
            serve(connection)

    thread = Thread(target=run)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.close()
        thread.join()


async def put(url: str, tls: ssl.SSLContext) -> int:
    sender = KeycloakSender(ssl_context=tls, max_connections=1, connect_seconds=5.0)
    try:
        with CallScope(lambda: None, 5.0, asyncio.Semaphore(1)):
            return (await sender.put(url, content="{}")).status_code
    finally:
        await sender.aclose()


async def cause(url: str, tls: ssl.SSLContext) -> TransportCause:
    with pytest.raises(NoAnswer) as lost:
        await put(url, tls)
    return lost.value.cause


def trusting(authority: Authority, client: Signed | None = None) -> ssl.SSLContext:
    return client_tls(
        "KCSYNC_KEYCLOAK",
        ca_file=authority.certificate,
        cert_file=None if client is None else client.certificate,
        key_file=None if client is None else client.key,
    )


class TestTheServersCertificate:
    async def test_is_taken_if_we_trust_it(self, ours: Authority) -> None:
        with serving(speaks(server_tls(ours.sign("server", "127.0.0.1")))) as url:
            assert await put(url, trusting(ours)) == 204

    async def test_has_expired(self, ours: Authority) -> None:
        with serving(speaks(server_tls(ours.sign("server", "127.0.0.1", expired=True)))) as url:
            assert await cause(url, trusting(ours)) is TransportCause.CERTIFICATE_EXPIRED

    async def test_is_signed_by_somebody_else(self, ours: Authority, strangers: Authority) -> None:
        with serving(speaks(server_tls(strangers.sign("server", "127.0.0.1")))) as url:
            assert await cause(url, trusting(ours)) is TransportCause.CERTIFICATE_UNTRUSTED

    async def test_is_signed_by_itself(self, ours: Authority, strangers: Authority) -> None:
        with serving(speaks(server_tls(strangers.own))) as url:
            assert await cause(url, trusting(ours)) is TransportCause.CERTIFICATE_UNTRUSTED

    async def test_is_another_hosts(self, ours: Authority) -> None:
        with serving(speaks(server_tls(ours.sign("server", "127.0.0.2")))) as url:
            assert await cause(url, trusting(ours)) is TransportCause.CERTIFICATE_OF_ANOTHER

    async def test_is_not_there_at_all(self, ours: Authority) -> None:
        with serving(plain) as url:
            assert await cause(url, trusting(ours)) is TransportCause.NOT_TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
class TestOurCertificate:
    async def test_is_shown(self, ours: Authority, version: ssl.TLSVersion) -> None:
        tls = server_tls(ours.sign("server", "127.0.0.1"), clients_of=ours, version=version)
        with serving(speaks(tls)) as url:
            assert await put(url, trusting(ours, ours.sign("client"))) == 204

    async def test_is_missed(self, ours: Authority, version: ssl.TLSVersion) -> None:
        tls = server_tls(ours.sign("server", "127.0.0.1"), clients_of=ours, version=version)
        with serving(speaks(tls)) as url:
            assert await cause(url, trusting(ours)) is TransportCause.OURS_REFUSED

    async def test_is_unknown_there(
        self, ours: Authority, strangers: Authority, version: ssl.TLSVersion
    ) -> None:
        tls = server_tls(ours.sign("server", "127.0.0.1"), clients_of=ours, version=version)
        with serving(speaks(tls)) as url:
            assert await cause(url, trusting(ours, strangers.sign("client"))) is TransportCause.OURS_REFUSED

    async def test_has_expired(self, ours: Authority, version: ssl.TLSVersion) -> None:
        tls = server_tls(ours.sign("server", "127.0.0.1"), clients_of=ours, version=version)
        with serving(speaks(tls)) as url:
            client = ours.sign("client", expired=True)
            assert await cause(url, trusting(ours, client)) is TransportCause.OURS_REFUSED
