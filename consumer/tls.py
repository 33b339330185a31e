"""TLS towards the servers we call: their certificates are always verified, host names included."""

from __future__ import annotations

import ssl
from pathlib import Path

__all__ = ["TlsFileError", "client_tls"]


class TlsFileError(Exception):
    """A file of certificates or keys that cannot be used; the message names its setting."""


def client_tls(
    setting: str,
    *,
    ca_file: Path | None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> ssl.SSLContext:
    """Build a context that trusts `ca_file` alone, or the system's own certificates without it.

    Args:
        setting: what the names of the settings begin with, `KCSYNC_DATABASE`, for messages.
        ca_file: PEM certificates trusted to sign the server's.
        cert_file: our own PEM certificate, with its chain, where the server asks for one.
        key_file: its private key, PEM without a passphrase.

    Raises:
        TlsFileError: a file is missing or not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        raise TlsFileError(
            f"{setting}_CA_FILE={str(ca_file)!r} cannot be used ({_why(error)}); it must name a readable PEM file"
        ) from error
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file, password=_no_passphrase)
        except OSError as error:
            raise TlsFileError(
                f"{setting}_CERT_FILE={str(cert_file)!r} and {setting}_KEY_FILE={str(key_file)!r} cannot be used"
                f" ({_why(error)}); they must name a readable PEM certificate and its key"
            ) from error
        except _PassphraseError:
            raise TlsFileError(
                f"{setting}_KEY_FILE={str(key_file)!r} is protected by a passphrase, which nobody is there to type; "
                "give the key without one, readable by the consumer's user alone"
            ) from None
    return context


class _PassphraseError(Exception):
    """Raised instead of asking at the terminal."""


def _no_passphrase() -> str:
    raise _PassphraseError


def _why(error: OSError) -> str:
    # An SSLError is an OSError too, whose strerror is a code of OpenSSL.
    if isinstance(error, ssl.SSLError):
        return "it holds no PEM certificate or key, or they do not belong together"
    return error.strerror or type(error).__name__
