from __future__ import annotations

import pytest

from consumer.database_address import DatabaseAddress, DatabaseAddressError


class TestParse:
    def test_takes_all_parts(self) -> None:
        address = DatabaseAddress.parse("mysql://kcsync:geheim@db.example:3307/outbox")

        assert address == DatabaseAddress("db.example", 3307, "kcsync", "geheim", "outbox")

    def test_the_port_is_3306_if_none_is_named(self) -> None:
        assert DatabaseAddress.parse("mysql://u:p@h/d").port == 3306

    def test_decodes_percent_encoding(self) -> None:
        address = DatabaseAddress.parse("mysql://us%40er:p%40s%2Fs%3A%25@h/da%20ta")

        assert (address.user, address.password, address.database) == ("us@er", "p@s/s:%", "da ta")

    def test_takes_an_ipv6_host(self) -> None:
        address = DatabaseAddress.parse("mysql://u:p@[::1]:3306/d")

        assert address.host == "::1"
        assert str(address) == "mysql://u:****@[::1]:3306/d"

    @pytest.mark.parametrize(
        ("dsn", "reason"),
        [
            ("postgresql://u:geheim@h/d", "it does not begin with mysql://"),
            ("u:geheim@h/d", "it does not begin with mysql://"),
            ("mysql://u:geheim@h", "it has no database"),
            ("mysql://u:geheim@h/", "it has no database"),
            ("mysql://u@h/d", "it has no password"),
            ("mysql://h/d", "it has no user and no password"),
            ("mysql://u:geheim@/d", "it has no host"),
            ("mysql://u:geheim@h:port/d", "its host or port cannot be read"),
            ("mysql://u:geheim@h:99999/d", "its host or port cannot be read"),
            ("mysql://u:geheim[@h/d", "its host or port cannot be read"),
            ("mysql://u:geheim@h/d?ssl=1", "it has a ? or # in it, which it may not"),
            ("mysql://u:geh#eim@h/d", "it has a ? or # in it, which it may not"),
            ("mysql://u:geheim@h/d/e", "its database name has a slash in it"),
        ],
    )
    def test_refuses_the_rest_without_repeating_it(self, dsn: str, reason: str) -> None:
        with pytest.raises(DatabaseAddressError) as refusal:
            DatabaseAddress.parse(dsn)

        assert refusal.value.reason == reason
        assert "geheim" not in str(refusal.value)


def test_neither_str_nor_repr_shows_the_password() -> None:
    address = DatabaseAddress.parse("mysql://kcsync:geheim@h/d")

    assert "geheim" not in f"{address!s} {address!r} {[address]}"
    assert "kcsync:****@h:3306/d" in repr(address)
