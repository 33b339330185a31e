from __future__ import annotations

import base64
import dataclasses

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from producer_lib import (
    SEALING_ALG,
    InvalidEvent,
    InvalidSealingKey,
    SealedPassword,
    SealingKey,
    check_event,
    seal,
    sealing_info,
)

PRIVATE = X25519PrivateKey.generate()
KEY = SealingKey("2026-11", PRIVATE.public_key().public_bytes_raw())
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def sealed(password: str) -> SealedPassword:
    return seal(password, key=KEY, realm="customers", username_key="ada", event_id="e-1")


def opened(
    password: SealedPassword,
    *,
    private: X25519PrivateKey = PRIVATE,
    realm: str = "customers",
    username_key: str = "ada",
    event_id: str = "e-1",
) -> str:
    info = sealing_info(realm, username_key, event_id)
    ciphertext = base64.urlsafe_b64decode(password.ciphertext + "=" * (-len(password.ciphertext) % 4))
    return SUITE.decrypt(ciphertext, private, info=info).decode()


class TestASealedPassword:
    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100).filter(str.strip))
    def test_opens_with_the_private_key(self, password: str) -> None:
        assert password == opened(sealed(password))

    def test_opens_for_no_other_realm(self) -> None:
        with pytest.raises(InvalidTag):
            opened(sealed("secret"), realm="staff")

    def test_opens_for_no_other_user(self) -> None:
        with pytest.raises(InvalidTag):
            opened(sealed("secret"), username_key="bob")

    def test_opens_for_no_other_event(self) -> None:
        with pytest.raises(InvalidTag):
            opened(sealed("secret"), event_id="e-2")

    def test_opens_with_no_other_key(self) -> None:
        with pytest.raises(InvalidTag):
            opened(sealed("secret"), private=X25519PrivateKey.generate())

    def test_is_never_the_same_twice(self) -> None:
        assert sealed("secret").ciphertext != sealed("secret").ciphertext

    def test_names_its_key_and_algorithm(self) -> None:
        assert (sealed("secret").kid, sealed("secret").alg) == ("2026-11", SEALING_ALG)

    @pytest.mark.parametrize("password", ["x", "x" * 1024])
    def test_fits_the_schema_from_the_shortest_to_the_longest(self, password: str) -> None:
        check_event(
            {
                "specversion": "1.0",
                "id": "e-1",
                "source": "/test",
                "type": "kcsync.password_change.v1",
                "subject": "ada",
                "time": "2026-11-21T22:33:44Z",
                "realm": "customers",
                "data": {"password": {"sealed": dataclasses.asdict(sealed(password))}},
            }
        )


@pytest.mark.parametrize("password", ["", "  \t", "x" * 1025, "é" * 513, "hunter2\ud800"])
def test_a_password_that_cannot_be_one_is_refused_without_showing_it(password: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        sealed(password)

    assert refused.value.field == "data.password"
    assert "hunter2" not in str(refused.value)
    assert refused.value.__context__ is None


class TestTheInfo:
    def test_is_a_version_and_parts_with_their_lengths(self) -> None:
        assert (
            sealing_info("r", "äda", "e-1")
            == b"kcsync/sealed-password/v1\x00\x00\x00\x01r\x00\x00\x00\x04\xc3\xa4da\x00\x00\x00\x03e-1"
        )

    def test_tells_parts_apart_whose_texts_join_to_the_same(self) -> None:
        assert sealing_info("a", "bc", "d") != sealing_info("ab", "c", "d")


class TestASealingKey:
    def test_survives_its_text(self) -> None:
        assert SealingKey.from_text(KEY.to_text()) == KEY

    @pytest.mark.parametrize("frame", ["{}\n", "{}=", " {} "])
    def test_is_read_from_a_file_or_with_padding_too(self, frame: str) -> None:
        assert SealingKey.from_text(frame.format(KEY.to_text())) == KEY

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "no colon"),
            ("2026-11", "no colon"),
            ("2026-11:", "0 bytes"),
            ("2026-11:AAAA", "3 bytes"),
            ("2026-11:" + "A" * 42 + "+", "not base64url"),
            ("2026-11:A", "not base64url"),
            ("../key:" + "B" * 43, "key id"),
            (":" + "B" * 43, "key id"),
            ("k" * 65 + ":" + "B" * 43, "key id"),
            ("2026-11:" + "A" * 43, "X25519 refuses"),
        ],
    )
    def test_is_refused_with_its_reason(self, text: str, reason: str) -> None:
        with pytest.raises(InvalidSealingKey, match=reason):
            SealingKey.from_text(text)
