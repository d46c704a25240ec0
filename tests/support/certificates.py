"""Certificate authorities of a test's own, and certificates for brokers and gateways."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"


class Authority:
    """Signs certificates. Its own is in `file`, in PEM like every file here."""

    def __init__(self, directory: Path, *, days: float = 3650) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test authority")
        self.file = directory / "ca.pem"
        certificate = (
            _builder(self._name, self._name, self._key, age_days=1, days=days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, *, age_days: float = 1, days: float = 2) -> tuple[Path, Path]:
        """Certificate and private key of `name`, an address or a host name; valid for `days`, `age_days` of them
        gone."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(name), self._name, key, age_days=age_days, days=days)
            .add_extension(x509.SubjectAlternativeName([_alternative(name)]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        stem = f"{name}-{age_days}-{days}"
        files = self._directory / f"{stem}.pem", self._directory / f"{stem}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(_private(key, serialization.NoEncryption()))
        return files

    def revoke(self, *certificates: Path) -> Path:
        """A list of those that count no more; without any an empty one."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(self._name, now, now + timedelta(days=30))
        for file in certificates:
            serial = x509.load_pem_x509_certificate(file.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder(serial, now).build()
            builder = builder.add_revoked_certificate(entry)
        revoked = self._directory / "ca.crl"
        revoked.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return revoked


def with_passphrase(key_file: Path, passphrase: bytes) -> Path:
    """The same key in another file, locked."""
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    locked = key_file.with_suffix(".locked")
    locked.write_bytes(_private(key, serialization.BestAvailableEncryption(passphrase)))
    return locked


def _private(key: object, encryption: serialization.KeySerializationEncryption) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    age_days: float,
    days: float,
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - timedelta(days=age_days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
