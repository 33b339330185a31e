from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from consumer.tls import TlsFileError, client_tls
from tests.integration.support.certificates import Authority


def test_certificates_and_host_names_are_verified(tmp_path: Path) -> None:
    for ca_file in (None, Authority(tmp_path, "authority").certificate):
        context = client_tls("KCSYNC_X", ca_file=ca_file)

        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def test_an_authority_of_our_own_replaces_the_systems(tmp_path: Path) -> None:
    context = client_tls("KCSYNC_X", ca_file=Authority(tmp_path, "authority").certificate)

    (only,) = context.get_ca_certs()
    assert "authority" in str(only["subject"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TlsFileError, match=r"KCSYNC_X_CA_FILE='.*/none.pem' cannot be used \(No such file"):
        client_tls("KCSYNC_X", ca_file=tmp_path / "none.pem")


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate", encoding="ascii")

    with pytest.raises(TlsFileError, match=r"KCSYNC_X_CA_FILE=.*it holds no PEM"):
        client_tls("KCSYNC_X", ca_file=tmp_path / "text")


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    one, other = authority.sign("one"), authority.sign("other")

    with pytest.raises(TlsFileError, match=r"KCSYNC_X_KEY_FILE=.*do not belong together"):
        client_tls("KCSYNC_X", ca_file=authority.certificate, cert_file=one.certificate, key_file=other.key)


def test_nobody_is_asked_for_a_passphrase(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    locked = authority.sign("locked", passphrase=b"geheim")

    with pytest.raises(TlsFileError, match=r"KCSYNC_X_KEY_FILE=.*protected by a passphrase"):
        client_tls(
            "KCSYNC_X", ca_file=authority.certificate, cert_file=locked.certificate, key_file=locked.key
        )
