"""TLS towards servers: whom we believe, and who we are. Brokers and image servers alike."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def client_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """The server's certificate must come from `ca_file` (None: from an authority that this machine trusts) and name its
    host, as RFC 6125 has it. Reads the files, each time anew. Raises OSError (ssl.SSLError is one)."""
    context = ssl.create_default_context(cafile=ca_file)
    if cert_file is not None:
        context.load_cert_chain(cert_file, key_file, password=_no_passphrase)
    return context


def certificates_in(pem: bytes) -> Iterator[x509.Certificate]:
    """All of a file. Raises ValueError for one that cannot be read."""
    from cryptography import x509

    for block in _CERTIFICATE.findall(pem):
        try:
            yield x509.load_pem_x509_certificate(block + b"\n")
        except x509.InvalidVersion as error:  # which is no ValueError
            raise ValueError(error) from None


def _no_passphrase() -> str:
    """For a key that wants one: it is refused. OpenSSL would ask for it at the terminal."""
    return ""
