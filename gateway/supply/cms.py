"""Detached CMS signatures (RFC 5652; PKCS #7 of old) over a manifest, checked by the `openssl` command.

Utilities own X.509 hierarchies, and tools and hardware that sign with them. A signature counts if each signer's
certificate leads to the trusted root (no authority of the machine's own has a say) and is for code signing (RFC 5280,
4.2.1.12), so that a certificate of the same hierarchy for a web server or a person signs no firmware. MD5 and SHA-1 do
not count, nor keys below 112 bits of strength. Revocation lists that stand beside the root are looked at.

Nothing is written to a disk: openssl reads from memory of ours, by descriptors.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from gateway.errors import SignatureError, UncheckedError

if TYPE_CHECKING:
    from cryptography import x509

_TIMEOUT_S = 20.0
"""Of one run; 10 ms on a PC."""
_CRL = b"-----BEGIN X509 CRL-----"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)
_GOOD_DIGESTS = frozenset({
    "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2", "2.16.840.1.101.3.4.2.3",
    "2.16.840.1.101.3.4.2.8", "2.16.840.1.101.3.4.2.9", "2.16.840.1.101.3.4.2.10",
})  # fmt: skip
"""SHA-256, -384, -512, and SHA-3 of the same lengths."""


@dataclass(frozen=True, slots=True)
class CmsSigner:
    name: str
    """The subject of its certificate."""
    spki: bytes
    """Its public key: a SubjectPublicKeyInfo in DER."""


def cms_signers(cms: bytes, content: bytes, root: bytes, *, at: datetime | None) -> tuple[CmsSigner, ...]:
    """Everybody who signed `content`; all of them must be good. `root`: certificates in PEM, and perhaps CRLs. `at`:
    when certificates must be valid; None: nobody knows the time, and their dates are not looked at.

    Raises SignatureError, which says why: a signature that does not fit, a certificate that does not lead to the root,
    has expired, was revoked or is not for code signing. UncheckedError: openssl cannot be run now.
    """
    try:
        return _checked(cms, content, root, at)
    except OSError as error:
        raise UncheckedError(
            f"a CMS signature cannot be checked here: {error.strerror}", detail=f"errno {error.errno}"
        ) from error


def _checked(cms: bytes, content: bytes, root: bytes, at: datetime | None) -> tuple[CmsSigner, ...]:
    with ExitStack() as stack:
        files = [stack.enter_context(_in_memory(octets)) for octets in (cms, content, root, b"")]
        cms_file, content_file, root_file, certificates = files
        options = ["-no_check_time"] if at is None else ["-attime", str(int(at.timestamp()))]
        if _CRL in root:
            options.append("-crl_check")
        _check_digests(_openssl(["cms", "-cmsout", "-noout", "-print", *_read(cms_file)], files))
        _openssl(
            ["cms", "-verify", *_read(cms_file), "-binary", "-content", _path(content_file),
             "-CAfile", _path(root_file), "-no-CApath", "-no-CAstore", "-purpose", "any", "-auth_level", "2",
             *options, "-signer", _path(certificates), "-out", os.devnull],
            files,
        )  # fmt: skip
        return tuple(_signers(os.pread(certificates, 1 << 20, 0)))


def _read(cms_file: int) -> tuple[str, ...]:
    return "-inform", "DER", "-in", _path(cms_file)


def _check_digests(printed: str) -> None:
    """A signer's digest must be one of those that the structure names at its beginning (openssl looks for it there)."""
    found = re.search(r"digestAlgorithms:(.*?)encapContentInfo:", printed, re.DOTALL)
    digests = re.findall(r"algorithm: \S+ \(([0-9.]+)\)", found[1]) if found else []
    weak = sorted(set(digests) - _GOOD_DIGESTS)
    if weak or not digests:
        raise SignatureError(
            f"the CMS signature uses digest {', '.join(weak) or 'nothing'}: expected SHA-256 or better"
        )


def _signers(pem: bytes) -> Iterator[CmsSigner]:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    blocks = _CERTIFICATE.findall(pem)
    if not blocks:
        raise SignatureError("the CMS signature names no signer with a certificate")
    for block in blocks:
        try:
            yield _signer(x509.load_pem_x509_certificate(block))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SignatureError(f"a certificate that openssl takes cannot be read here: {error}") from None


def _signer(certificate: x509.Certificate) -> CmsSigner:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID

    name = certificate.subject.rfc4514_string()
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        usage = x509.ExtendedKeyUsage([])
    if ExtendedKeyUsageOID.CODE_SIGNING not in usage:
        raise SignatureError(f"the certificate of {name} is not for code signing (extended key usage)")
    key = certificate.public_key()
    return CmsSigner(name, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@contextmanager
def _in_memory(octets: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("cms", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, octets)
        yield descriptor
    finally:
        os.close(descriptor)


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _openssl(arguments: Sequence[str], descriptors: Sequence[int]) -> str:
    """Run it with an environment that names neither authorities nor a configuration; what it prints."""
    try:
        done = subprocess.run(  # noqa: S603  # no shell; the arguments are ours
            ["openssl", *arguments],  # noqa: S607  # wherever the system has it
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            pass_fds=descriptors,
            check=False,
        )
    except FileNotFoundError:
        raise UncheckedError(
            "a CMS signature cannot be checked: there is no openssl command on this machine"
        ) from None
    except subprocess.TimeoutExpired:
        raise UncheckedError("the CMS signature was not checked: openssl did not end in time") from None
    if done.returncode < 0:
        raise UncheckedError(f"the CMS signature was not checked: signal {-done.returncode} ended openssl")
    if done.returncode:
        raise SignatureError(f"the CMS signature does not hold: {_reason(done.stderr)}")
    return done.stdout.decode(errors="replace")


def _reason(complaint: bytes) -> str:
    """Of several lines the one that says what it is, in openssl's words."""
    text = complaint.decode(errors="replace")
    named = re.findall(r"Verify error: ?([^\n]+)", text) or re.findall(
        r"error:[^\n]*?routines:[^:\n]*:([^:\n]+)", text
    )
    return named[-1].strip() if named else "openssl does not say why"
