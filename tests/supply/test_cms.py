"""Detached CMS signatures over a manifest, made with the openssl command as a utility would."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.signed import Signatory, manifest

from gateway.errors import SignatureError, UncheckedError
from gateway.model import FirmwareSettings, Trust
from gateway.signing import Envelope, Signature
from gateway.signing.dsse import pae
from gateway.supply import cms
from gateway.supply.cms import cms_signers
from gateway.supply.trust import prove

NOW = datetime.now(UTC).replace(microsecond=0)
CONTENT = json.dumps(manifest()).encode()
CODE_SIGNING = [ExtendedKeyUsageOID.CODE_SIGNING]


@dataclass(frozen=True)
class Holder:
    """A certificate and its key, in PEM files."""

    name: str
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    directory: Path

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def files(self) -> tuple[str, str]:
        certificate, key = self.directory / f"{self.name}.pem", self.directory / f"{self.name}.key"
        certificate.write_bytes(self.pem)
        form = serialization.PrivateFormat.PKCS8
        key.write_bytes(
            self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        )
        return str(certificate), str(key)


def issue(
    directory: Path, name: str, by: Holder | None = None, *, usage=(), ca=False, days=(-1, 30), bits=2048
) -> Holder:
    """A certificate for `name`; without `by` its own root."""
    key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if by:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usage)), critical=False)
    return Holder(name, builder.sign(by.key if by else key, hashes.SHA256()), key, directory)


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> dict[str, Holder]:
    """Everybody with a certificate. RSA keys take a while to make: once for all tests."""
    directory = tmp_path_factory.mktemp("pki")
    root = issue(directory, "root", ca=True, bits=0)
    issuing = issue(directory, "issuing", root, ca=True, bits=0)
    stranger = issue(directory, "stranger-root", ca=True, bits=0)
    return {
        "root": root,
        "issuing": issuing,
        "firmware": issue(directory, "firmware", issuing, usage=CODE_SIGNING),
        "second": issue(directory, "second", issuing, usage=CODE_SIGNING, bits=0),
        "web": issue(directory, "web", issuing, usage=[ExtendedKeyUsageOID.SERVER_AUTH], bits=0),
        "any": issue(directory, "any", issuing, bits=0),
        "expired": issue(directory, "expired", issuing, usage=CODE_SIGNING, days=(-30, -1), bits=0),
        "later": issue(directory, "later", issuing, usage=CODE_SIGNING, days=(5, 30), bits=0),
        "weak": issue(directory, "weak", issuing, usage=CODE_SIGNING, bits=1024),
        "stranger": issue(directory, "stranger", stranger, usage=CODE_SIGNING, bits=0),
        "stranger-root": stranger,
        "leaf-issued": issue(
            directory, "leaf-issued", issue(directory, "leaf", issuing, usage=CODE_SIGNING, bits=0),
            usage=CODE_SIGNING, bits=0,
        ),
    }  # fmt: skip


def signed(
    pki: dict[str, Holder], *by: str, content: bytes = CONTENT, chain=("issuing",), digest="sha256"
) -> bytes:
    """What `openssl cms -sign` makes of it: detached, in DER, with the certificates of `chain`."""
    command = ["openssl", "cms", "-sign", "-binary", "-outform", "DER", "-md", digest]
    for name in by:
        certificate, key = pki[name].files()
        command += ["-signer", certificate, "-inkey", key]
    directory = pki[by[0]].directory
    (directory / "chain.pem").write_bytes(b"".join(pki[name].pem for name in chain))
    if chain:
        command += ["-certfile", str(directory / "chain.pem")]
    return subprocess.run(command, input=content, check=True, capture_output=True, timeout=60).stdout


def names(
    pki, made: bytes, root="root", *, content=CONTENT, at: datetime | None = NOW, more=b""
) -> list[str]:
    return [signer.name for signer in cms_signers(made, content, pki[root].pem + more, at=at)]


# -- what counts ---------------------------------------------------------------------------------------------------


def test_a_signature_that_leads_to_the_root_counts(pki):
    assert names(pki, signed(pki, "firmware")) == ["CN=firmware"]
    assert names(pki, signed(pki, "firmware", chain=("issuing", "root"))) == ["CN=firmware"]
    assert sorted(names(pki, signed(pki, "firmware", "second"))) == ["CN=firmware", "CN=second"]


def test_without_a_trusted_clock_the_dates_of_certificates_are_not_looked_at(pki):
    for name in ("expired", "later"):
        with pytest.raises(SignatureError, match=r"expired|not yet valid"):
            names(pki, signed(pki, name))
        assert names(pki, signed(pki, name), at=None) == [f"CN={name}"]
    assert names(pki, signed(pki, "later"), at=NOW + timedelta(days=6)) == ["CN=later"], (
        "the gateway's time counts"
    )


# -- what does not -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by, chain, why", [
    ("stranger", ("stranger-root",), "self-signed certificate in certificate chain|self signed"),
    ("firmware", (), "unable to get local issuer certificate"),
    ("web", ("issuing",), "CN=web is not for code signing"),
    ("any", ("issuing",), "CN=any is not for code signing"),
    ("weak", ("issuing",), "key too weak|EE certificate key too weak"),
    ("leaf-issued", ("issuing",), "unable to get local issuer certificate"),
])  # fmt: skip
def test_a_certificate_that_does_not_lead_to_the_root_or_is_for_something_else_does_not(pki, by, chain, why):
    with pytest.raises(SignatureError, match=why):
        names(pki, signed(pki, by, chain=chain))


def test_one_good_signer_does_not_carry_a_bad_one(pki):
    with pytest.raises(SignatureError, match="issuer certificate"):
        names(pki, signed(pki, "firmware", "stranger"))


def test_another_content_does_not(pki):
    made = signed(pki, "firmware")
    with pytest.raises(SignatureError, match=r"digest|verif"):
        names(pki, made, content=CONTENT + b" ")


def test_a_signature_with_its_content_inside_is_held_against_ours(pki):
    """Not detached: what is inside must not take the place of the manifest that is judged."""
    certificate, key = pki["firmware"].files()
    chain = pki["firmware"].directory / "issuing.pem"
    chain.write_bytes(pki["issuing"].pem)
    command = ["openssl", "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-signer", certificate,
               "-inkey", key, "-certfile", str(chain)]  # fmt: skip
    made = subprocess.run(command, input=b"another", check=True, capture_output=True, timeout=60).stdout
    with pytest.raises(SignatureError, match=r"."):
        names(pki, made)


def test_weak_digests_do_not(pki):
    with pytest.raises(SignatureError, match=r"digest 1\.3\.14\.3\.2\.26"):
        names(pki, signed(pki, "firmware", digest="sha1"))
    assert names(pki, signed(pki, "firmware", digest="sha512")) == ["CN=firmware"]


def test_the_authorities_of_the_machine_have_no_say(pki, tmp_path, monkeypatch):
    directory = tmp_path / "certs"
    directory.mkdir()
    (directory / "stranger.pem").write_bytes(pki["stranger-root"].pem)
    subprocess.run(["openssl", "rehash", str(directory)], check=True, capture_output=True, timeout=60)
    monkeypatch.setenv("SSL_CERT_DIR", str(directory))
    monkeypatch.setenv("SSL_CERT_FILE", str(directory / "stranger.pem"))
    with pytest.raises(SignatureError, match="issuer certificate"):
        names(pki, signed(pki, "stranger", chain=()))


def test_a_revoked_certificate_does_not(pki):
    root = issue(pki["root"].directory, "crl-root", ca=True, bits=0)
    holder = issue(pki["root"].directory, "revoked", root, usage=CODE_SIGNING, bits=0)
    good = issue(pki["root"].directory, "good", root, usage=CODE_SIGNING, bits=0)
    revoked = (
        x509.RevokedCertificateBuilder()
        .serial_number(holder.certificate.serial_number)
        .revocation_date(NOW - timedelta(hours=1))
        .build()
    )
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject)
        .last_update(NOW - timedelta(hours=1))
        .next_update(NOW + timedelta(days=1))
        .add_revoked_certificate(revoked)
        .sign(root.key, hashes.SHA256())
    )
    everybody = {**pki, "crl-root": root, "revoked": holder, "good": good}
    made = signed(everybody, "revoked", chain=())
    assert names(everybody, made, "crl-root") == ["CN=revoked"], "as long as nobody has told us"
    more = crl.public_bytes(serialization.Encoding.PEM)
    with pytest.raises(SignatureError, match="certificate revoked"):
        names(everybody, made, "crl-root", more=more)
    assert names(everybody, signed(everybody, "good", chain=()), "crl-root", more=more) == ["CN=good"]


@pytest.mark.parametrize("made", [b"", b"\x30\x00", b"-----BEGIN CMS-----", os.urandom(500)])
def test_what_is_no_cms_does_not(pki, made):
    with pytest.raises(SignatureError, match=r"."):
        names(pki, made)


def test_a_key_that_openssl_knows_and_the_other_library_does_not_is_no_reason_to_fall_over(pki, tmp_path):
    """X9.62 prime239v1: strong enough for openssl, and unknown to the library that certificates are read with."""
    issuer, issuer_key = pki["issuing"].files()
    (tmp_path / "ext").write_text("extendedKeyUsage=codeSigning\n")
    commands = (
        "openssl ecparam -name prime239v1 -genkey -noout -out odd.key",
        "openssl req -new -key odd.key -subj /CN=odd -out odd.csr",
        f"openssl x509 -req -in odd.csr -CA {issuer} -CAkey {issuer_key} -set_serial 7 -extfile ext -out odd.pem",
        (
            f"openssl cms -sign -binary -in content -signer odd.pem -inkey odd.key -certfile {issuer}"
            " -outform DER -out odd.cms"
        ),
    )
    (tmp_path / "content").write_bytes(CONTENT)
    for command in commands:
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with pytest.raises(SignatureError, match="cannot be read"):
        names(pki, (tmp_path / "odd.cms").read_bytes(), at=datetime.now(UTC) + timedelta(minutes=1))


def test_certificates_without_a_signature_do_not(pki):
    certificate, _ = pki["firmware"].files()
    command = ["openssl", "crl2pkcs7", "-nocrl", "-certfile", certificate, "-outform", "DER"]
    made = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    with pytest.raises(SignatureError, match=r"."):
        names(pki, made)


def test_every_cut_of_a_signature_is_refused(pki):
    made = signed(pki, "firmware")
    for length in range(0, len(made) - 1, 97):
        with pytest.raises(SignatureError):
            names(pki, made[:length])


# -- the command: nobody can look, which says nothing of the signature ---------------------------------------------


def test_without_the_command_it_is_said_so(pki, monkeypatch, tmp_path):
    made = signed(pki, "firmware")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UncheckedError, match="no openssl command"):
        names(pki, made)


def test_a_command_that_may_not_be_run_is_no_reason_to_fall_over(pki, monkeypatch, tmp_path):
    made = signed(pki, "firmware")
    (tmp_path / "openssl").write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UncheckedError, match="cannot be checked here: Permission denied"):
        names(pki, made)


def test_a_command_that_hangs_is_given_up(pki, monkeypatch, tmp_path):
    made = signed(pki, "firmware")
    hanging = tmp_path / "openssl"
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(cms, "_TIMEOUT_S", 0.2)
    with pytest.raises(UncheckedError, match="did not end in time"):
        names(pki, made)


def test_a_command_that_is_killed_has_refused_nothing(pki, monkeypatch, tmp_path):
    """By the kernel, where memory is short."""
    made = signed(pki, "firmware")
    killed = tmp_path / "openssl"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UncheckedError, match="signal 9 ended openssl"):
        names(pki, made)


# -- beside DSSE ---------------------------------------------------------------------------------------------------


def settings(pki, *signatories: Signatory, threshold=1) -> FirmwareSettings:
    keys = tuple(signatory.trusted for signatory in signatories)
    return FirmwareSettings(
        Trust.SIGNED, trusted_keys=keys, trusted_root=pki["root"].pem, threshold=threshold
    )


def envelope(made: bytes = b"", *by: Signatory) -> Envelope:
    kind = "application/vnd.meter-gateway.manifest+json"
    signatures = tuple(Signature(signatory.sign(pae(kind, CONTENT)), signatory.name) for signatory in by)
    return Envelope(kind, CONTENT, signatures, made)


def test_a_cms_signature_suffices_where_one_is_wanted(pki):
    proof = prove(envelope(signed(pki, "firmware")), settings(pki), NOW, clock_trusted=True)
    assert proof.manifest.sequence == 12
    assert proof.signed_by[0].startswith("CN=firmware (")


def test_both_kinds_of_signature_count_together_and_one_key_once(pki):
    utility = Signatory("utility")
    certified = Signatory("certified", pki["second"].key)
    two = settings(pki, utility, certified, threshold=2)
    by_cms = signed(pki, "second")
    proof = prove(envelope(by_cms, utility), two, NOW, clock_trusted=True)
    assert [name.partition(" (")[0] for name in proof.signed_by] == ["utility.pem", "CN=second"]
    with pytest.raises(SignatureError, match="signed by 1 of"):
        prove(envelope(by_cms, certified), two, NOW, clock_trusted=True)


def test_a_bad_cms_signature_says_why_and_harms_no_good_one(pki):
    utility = Signatory("utility")
    bad = signed(pki, "web")
    with pytest.raises(SignatureError, match=r"signed by 0 of .* not for code signing"):
        prove(envelope(bad), settings(pki, utility), NOW, clock_trusted=True)
    assert prove(envelope(bad, utility), settings(pki, utility), NOW, clock_trusted=True).signed_by


def test_without_a_root_a_cms_signature_counts_nothing(pki):
    nobody = FirmwareSettings(Trust.SIGNED, trusted_keys=(Signatory("utility").trusted,))
    with pytest.raises(SignatureError, match="signed by 0"):
        prove(envelope(signed(pki, "firmware")), nobody, NOW, clock_trusted=True)
