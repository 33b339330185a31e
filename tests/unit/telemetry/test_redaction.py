from __future__ import annotations

import pytest

from consumer.telemetry.redaction import MASK, is_sensitive, redact, redact_text


class TestRedactText:
    @pytest.mark.parametrize(
        ("text", "clean"),
        [
            ("mysql://kcsync:geheim@h:3306/d", "mysql://****@h:3306/d"),
            ("mysql://kcsync:ge@heim@h/d failed", "mysql://****@h/d failed"),
            (
                "GET http://k/admin/realms/r/users?username=alice&exact=true",
                "GET http://k/admin/realms/r/users?username=****&exact=true",
            ),
            (
                "grant_type=client_credentials&client_secret=geheim",
                "grant_type=client_credentials&client_secret=****",
            ),
            ('{"password": "ge heim", "id": 7}', '{"password": ****, "id": 7}'),
            ("{'username': 'alice'}", "{'username': ****}"),
            ("Authorization: Bearer abc.def", "Authorization: ****"),
            ("sent Bearer abcdefghijklmnop-_1", "sent Bearer ****"),
            ("got eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln back", "got **** back"),
            ("access_token=abc", "access_token=****"),
        ],
    )
    def test_masks_credentials_and_usernames(self, text: str, clean: str) -> None:
        assert redact_text(text) == clean

    @pytest.mark.parametrize(
        "text",
        [
            "the password was changed",
            "http://127.0.0.1:8080/admin/realms/staff/users",
            "kcsync.user_create.v1 of staff@example.org",
            "circuit OPEN: 3 lanes failed",
        ],
    )
    def test_leaves_the_rest_alone(self, text: str) -> None:
        assert redact_text(text) == text


class TestRedact:
    @pytest.mark.parametrize(
        "key",
        [
            "password",
            "new_password",
            "newPassword",
            "client-secret",
            "Authorization",
            "DSN",
            "username",
            "token",
        ],
    )
    def test_keys_that_name_a_secret_are_sensitive(self, key: str) -> None:
        assert is_sensitive(key)
        assert redact(key, "geheim") == MASK

    @pytest.mark.parametrize(
        "key", ["event_id", "realm", "cached_tokens", "kafka_offset", "tokenizer", "user_create"]
    )
    def test_other_keys_are_not(self, key: str) -> None:
        assert not is_sensitive(key)
        assert redact(key, "value") == "value"

    def test_a_fencing_token_is_a_number_and_passes(self) -> None:
        assert redact("writer_token", 7) == 7
        assert redact("password", 7) == MASK

    def test_looks_inside(self) -> None:
        value = {"user": [{"password": "geheim", "email_verified": True}], "url": "http://a:geheim@h/"}

        assert redact("data", value) == {
            "user": [{"password": MASK, "email_verified": True}],
            "url": "http://****@h/",
        }

    def test_shows_of_bytes_only_how_many(self) -> None:
        assert redact("record", b"geheim") == "<6 bytes>"

    def test_ends_on_a_value_that_contains_itself(self) -> None:
        endless: list[object] = []
        endless.append(endless)

        assert MASK in str(redact("data", endless))
