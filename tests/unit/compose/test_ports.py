from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from compose.native import ports
from compose.native.errors import PortTaken, StackError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = frozenset[int]()


@pytest.fixture
def taken() -> Iterator[int]:
    """A loopback port on which somebody listens."""
    with socket.create_server((ports.HOST, 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(autouse=True)
def no_fixed_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in filter(None, ports.PORTS.values()):
        monkeypatch.delenv(variable, raising=False)


class TestAFreePort:
    def test_is_one_on_which_nobody_listens(self) -> None:
        port = ports.free_port()

        assert ports.is_free(port)
        with socket.create_server((ports.HOST, port)):
            assert not ports.is_free(port)

    def test_is_not_one_that_lies_in_the_range_of_outgoing_connections(self) -> None:
        lowest_ephemeral = ports._lowest_ephemeral()

        assert all(ports.free_port() < lowest_ephemeral for _ in range(20))

    def test_is_found_also_where_all_ports_may_be_outgoing_ones(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ports, "_lowest_ephemeral", lambda: 1024)

        assert ports.is_free(ports.free_port())

    def test_is_free_while_old_connections_linger(self) -> None:
        """A server that was killed gets its port back, though its connections are in TIME_WAIT."""
        with socket.create_server((ports.HOST, 0)) as listener:
            port = listener.getsockname()[1]
            client = socket.create_connection((ports.HOST, port))
            server, _ = listener.accept()
            server.close()
            client.close()

        assert ports.is_free(port)


class TestChoosingAPort:
    def test_keeps_the_remembered_one(self) -> None:
        remembered = ports.free_port()

        assert ports.choose("kafka", remembered, NOBODY) == remembered

    def test_leaves_the_remembered_one_when_somebody_took_it(self, taken: int) -> None:
        chosen = ports.choose("kafka", taken, NOBODY)

        assert chosen != taken
        assert ports.is_free(chosen)

    def test_leaves_the_remembered_one_when_another_server_has_it(self) -> None:
        remembered = ports.free_port()

        assert ports.choose("kafka", remembered, frozenset({remembered})) != remembered

    def test_obeys_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fixed = ports.free_port()
        monkeypatch.setenv("KCSYNC_STACK_ZIPKIN_PORT", str(fixed))

        assert ports.choose("zipkin", ports.free_port(), NOBODY) == fixed

    def test_says_which_variable_fixes_a_taken_port(
        self, monkeypatch: pytest.MonkeyPatch, taken: int
    ) -> None:
        monkeypatch.setenv("KCSYNC_STACK_KEYCLOAK_PORT", str(taken))

        with pytest.raises(PortTaken) as caught:
            ports.choose("keycloak", None, NOBODY)

        assert caught.value.port == taken
        assert str(caught.value) == (
            f"Port {taken}, wanted for keycloak, is in use by another program. "
            "Stop that program, or change or unset KCSYNC_STACK_KEYCLOAK_PORT."
        )

    @pytest.mark.parametrize("text", ["0", "65536", "-1", "8080x", "eight"])
    def test_refuses_what_is_no_port(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("KCSYNC_STACK_KAFKA_PORT", text)

        with pytest.raises(StackError, match=f"KCSYNC_STACK_KAFKA_PORT is '{text}', which is not a port"):
            ports.choose("kafka", None, NOBODY)
