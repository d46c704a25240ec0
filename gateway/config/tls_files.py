"""Whom a server has to be signed by, and what we show it: files that are looked into here, so that a wrong one shows
before a server is asked."""

from __future__ import annotations

from pathlib import Path

from gateway.config import values as v
from gateway.config.table import Table

TLS_FILES = ("ca_file", "cert_file", "key_file")


def read_tls_files(table: Table, *abouts: str) -> tuple[Path | None, Path | None, Path | None]:
    """Authorities, certificate and private key, each None where it is not named; `abouts` say what each is "
    "for."""
    ca_file, cert_file, key_file = (
        read_file(table, key, about) for key, about in zip(TLS_FILES, abouts, strict=True)
    )
    _check(table, ca_file, cert_file, key_file)
    return ca_file, cert_file, key_file


def read_file(table: Table, key: str, about: str) -> Path | None:
    """The path of a file that is there; None where none is named."""
    path = table.read(key, v.PATH, Path(), about)
    if path == Path():
        return None
    if not path.is_file():
        table.wrong(key, "a file that exists")
    return path


def _check(table: Table, ca: Path | None, certificate: Path | None, key: Path | None) -> None:
    if certificate and not key:
        table.wrong("key_file", "the file of the private key, because there is a cert_file")
    if key and not certificate:
        table.wrong("cert_file", "the file of the certificate, because there is a key_file")
    if not (ca or certificate):
        return
    import ssl  # 20 ms, which those without TLS are spared

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, file in (("ca_file", ca), ("cert_file", certificate)):
        try:
            context.load_verify_locations(file) if file else None
        except OSError:
            table.wrong(name, "a readable file with certificates in PEM")
    if certificate and key and not table.noted("cert_file"):
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")
        except OSError:
            table.wrong(
                "key_file", "a readable file with the private key of cert_file in PEM, without passphrase"
            )
