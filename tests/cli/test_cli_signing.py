"""A utility signs, and an operator orders: keys and manifests in files, then a gateway that wants them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import resource
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.running import NEW, RunningGateway
from support.signed import Signatory, enveloped

from gateway.cli import main
from gateway.model import FirmwareSettings, Trust
from gateway.signing import KeyKind, generate
from gateway.supply.manifest import envelope_of
from gateway.supply.trust import prove

MODEL = ("--version", NEW, "--profile", "virtual", "--sequence", "12")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """A command line without a daemon, in a directory of its own: status, what it printed, what it complained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fw.bin").write_bytes(b"firmware" * 4000)

    def run_here(*words: str) -> tuple[int, str, str]:
        status = main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return run_here


def pae_file(manifest: Path) -> bytes:
    """What the signatures in that file are over, by the words of the specification."""
    document = json.loads(manifest.read_text())
    payload, kind = base64.b64decode(document["payload"]), document["payloadType"].encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def payload_of(manifest: Path) -> dict:
    return json.loads(base64.b64decode(json.loads(manifest.read_text())["payload"]))


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KeyKind)
def test_a_key_is_made_for_its_owner_alone_and_signs_what_openssl_accepts(run, tmp_path, kind):
    status, out, _ = run("image", "keygen", "utility", "--type", kind.value)
    assert status == 0
    assert "keep it offline, it is not locked" in out
    assert stat.S_IMODE((tmp_path / "utility.key").stat().st_mode) == 0o600
    assert run("image", "sign", "fw.bin", "--key", "utility.key", *MODEL)[0] == 0
    manifest = tmp_path / "fw.bin.manifest"
    (signature,) = json.loads(manifest.read_text())["signatures"]
    (tmp_path / "message").write_bytes(pae_file(manifest))
    (tmp_path / "signature").write_bytes(base64.b64decode(signature["sig"]))
    verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "utility.pem", "-rawin", "-in", "message"]
    digest = ["-digest", "sha256"] if kind is KeyKind.P256 else []
    done = subprocess.run(
        [*verify, "-sigfile", "signature", *digest], check=True, capture_output=True, timeout=60
    )
    assert b"Success" in done.stdout


def test_half_a_key_is_never_left(run, tmp_path):
    """A private key that nobody trusts, lying about unlocked, and a name that cannot be used again."""
    (tmp_path / "utility.pem").write_text("somebody else's")
    assert run("image", "keygen", "utility")[0] == 2
    assert not (tmp_path / "utility.key").exists()


def test_a_key_that_finds_no_room_is_told_and_leaves_its_name_free(run, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        status, _, err = run("image", "keygen", "utility")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (status, err.startswith("meter-gateway: F_DISK: utility.key cannot be written")) == (1, True), err
    assert run("image", "keygen", "utility")[0] == 0


def test_no_key_is_ever_overwritten(run, tmp_path):
    assert run("image", "keygen", "utility")[0] == 0
    before = (tmp_path / "utility.key").read_bytes()
    status, _, err = run("image", "keygen", "utility")
    assert (status, "is there already" in err) == (2, True)
    assert (tmp_path / "utility.key").read_bytes() == before


def test_a_key_that_others_can_read_signs_nothing(run, tmp_path):
    run("image", "keygen", "utility")
    (tmp_path / "utility.key").chmod(0o640)
    status, _, err = run("image", "sign", "fw.bin", "--key", "utility.key", *MODEL)
    assert (status, "chmod 600" in err) == (2, True)
    assert not (tmp_path / "fw.bin.manifest").exists()


def test_a_locked_key_wants_its_passphrase(run, tmp_path):
    (tmp_path / "pass").write_text("correct horse\nsecond line\n")
    (tmp_path / "wrong").write_text("battery\n")
    assert run("image", "keygen", "utility", "--passphrase-file", "pass")[0] == 0
    assert b"ENCRYPTED" in (tmp_path / "utility.key").read_bytes()
    for options, complaint in (
        (("--passphrase-file", "wrong"), "cannot be used to sign"),
        ((), "locked by a passphrase"),
    ):
        status, _, err = run("image", "sign", "fw.bin", "--key", "utility.key", *MODEL, *options)
        assert (status, complaint in err) == (2, True), err
        assert "battery" not in err
    assert run("image", "sign", "fw.bin", "--key", "utility.key", *MODEL, "--passphrase-file", "pass")[0] == 0


# -- manifests -----------------------------------------------------------------------------------------------------


def test_a_manifest_says_what_was_said_and_what_the_file_is(run, tmp_path):
    run("image", "keygen", "utility")
    said = (
        "--version", "4.1.7", "--profile", "acme-x3", "--profile", "acme-x4", "--sequence", "12", "--rollback",
        "--identifier", "hex:00ff", "--from-version", "4.0.*", "--not-after", "2099-06-30T02:00:00+02:00",
    )  # fmt: skip
    status, out, _ = run("image", "sign", "fw.bin", "--key", "utility.key", *said, "--json")
    assert status == 0
    told, content = json.loads(out), payload_of(tmp_path / "fw.bin.manifest")
    assert told["sha256"] == content["sha256"]
    assert (told["size"], len(told["signatures"])) == (32000, 1)
    assert (content["profiles"], content["sequence"], content["rollback"]) == (
        ["acme-x3", "acme-x4"],
        12,
        True,
    )
    assert (content["identifier"], content["from_versions"]) == ("hex:00ff", ["4.0.*"])
    assert (content["not_after"], content["block_bytes"]) == ("2099-06-30T00:00:00Z", 16384)
    assert len(content["block_sha256"]) == 2


def test_a_second_key_signs_the_same_octets_elsewhere(run, tmp_path):
    for name in ("first", "second"):
        run("image", "keygen", name)
    run("image", "sign", "fw.bin", "--key", "first.key", *MODEL)
    before = payload_of(tmp_path / "fw.bin.manifest")
    assert run("image", "sign", "--add", "fw.bin.manifest", "--key", "second.key")[0] == 0
    assert run("image", "sign", "--add", "fw.bin.manifest", "--key", "second.key")[0] == 0
    assert payload_of(tmp_path / "fw.bin.manifest") == before
    assert len(json.loads((tmp_path / "fw.bin.manifest").read_text())["signatures"]) == 2, "each key once"


def test_octets_for_other_tools_and_their_signature_back(run, tmp_path):
    status, out, _ = run("image", "sign", "fw.bin", *MODEL, "--payload", "fw.json")
    assert (status, "signed by nobody yet" in out) == (0, True)
    assert json.loads((tmp_path / "fw.json").read_bytes()) == payload_of(tmp_path / "fw.bin.manifest")
    (tmp_path / "fw.cms").write_bytes(b"\x30\x00")
    status, out, _ = run("image", "sign", "--add", "fw.bin.manifest", "--cms", "fw.cms")
    assert (status, "signed by CMS" in out) == (0, True)
    assert json.loads((tmp_path / "fw.bin.manifest").read_text())["cms"] == "MAA="


def test_a_cms_signature_of_openssl_goes_in_and_is_believed(run, tmp_path):
    """As docs/trust.md has it, with a certificate that is its own root."""
    self_signed = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                   "-subj", "/CN=firmware", "-addext", "extendedKeyUsage=codeSigning", "-keyout", "firmware-key.pem",
                   "-out", "firmware.pem"]  # fmt: skip
    subprocess.run(["openssl", *self_signed], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert run("image", "sign", "fw.bin", *MODEL, "--payload", "fw.json")[0] == 0
    cms = ["cms", "-sign", "-binary", "-in", "fw.json", "-signer", "firmware.pem", "-inkey", "firmware-key.pem",
           "-outform", "DER", "-out", "fw.cms"]  # fmt: skip
    subprocess.run(["openssl", *cms], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert run("image", "sign", "--add", "fw.bin.manifest", "--cms", "fw.cms")[0] == 0
    settings = FirmwareSettings(Trust.SIGNED, trusted_root=(tmp_path / "firmware.pem").read_bytes())
    envelope = envelope_of((tmp_path / "fw.bin.manifest").read_bytes())
    proof = prove(envelope, settings, datetime.now(UTC), clock_trusted=True)
    assert proof.signed_by[0].startswith("CN=firmware (")


@pytest.mark.parametrize("words, complaint", [
    ((), "Name IMAGE"),
    (("fw.bin", "--add", "other.manifest", "--key", "k.key"), "Name IMAGE"),
    (("fw.bin", *MODEL), "Nothing signs it"),
    (("fw.bin", "--key", "k.key", "--version", "1"), "A manifest needs --profile, --sequence"),
    (("fw.bin", "--key", "k.key", *MODEL, "--identifier", "hex:0"), "expected pairs of hex digits"),
    (("--add", "other.manifest", "--key", "k.key", "--version", "2"), "cannot be changed"),
    (("fw.bin", "--key", "fw.bin", *MODEL), "cannot be used to sign"),
    (("fw.bin", "--key", "k.key", *MODEL, "--not-after", "tomorrow"), "a time with its offset"),
])  # fmt: skip
def test_what_cannot_be_signed_is_wrong_usage(run, tmp_path, words, complaint):
    run("image", "keygen", "k")
    (tmp_path / "fw.bin").chmod(0o600)
    run("image", "sign", "fw.bin", "--key", "k.key", *MODEL, "--out", "other.manifest")
    status, _, err = run("image", "sign", *words)
    assert (status, complaint in err) == (2, True), err
    assert not (tmp_path / "fw.bin.manifest").exists()


@pytest.mark.parametrize("words, complaint", [
    (("fw.bin", "--key", "k.key", "--version", "1", "--profile", "a/b", "--sequence", "1"), "manifest.profiles.0"),
    (("--add", "fw.bin", "--key", "k.key"), "fw.bin is no manifest"),
    (("--add", "command.json", "--key", "k.key"), "command.json is no manifest: it holds 'x'"),
])  # fmt: skip
def test_what_is_no_manifest_is_not_signed(run, tmp_path, words, complaint):
    run("image", "keygen", "k")
    (tmp_path / "command.json").write_text(json.dumps(enveloped(b"{}", kind="x")))
    status, _, err = run("image", "sign", *words)
    assert (status, complaint in err) == (1, True), err


# -- a gateway that wants them -------------------------------------------------------------------------------------

UTILITY, OPERATOR = Signatory("utility"), generate(KeyKind.P256)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    directory = tmp_path_factory.mktemp("gateway")
    operator = directory / "operator.pem"
    operator.write_bytes(OPERATOR.public_pem())
    sections = {
        "firmware": {"trust": "signed", "trusted_keys": [str(UTILITY.write(directory))]},
        "commands": {"signed_verbs": ["campaign.*"], "trusted_keys": [str(operator)]},
    }
    running = RunningGateway(directory, meters=3, sections=sections)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def signed(tmp_path, type_in):
    """A new image, and its manifest by the utility, but for `said`."""

    def make(**said) -> tuple[str, str]:
        image, manifest = tmp_path / "fw.bin", tmp_path / "fw.bin.manifest"
        image.write_bytes(os.urandom(3000))
        profile = json.loads(type_in("meters", "--json")[1])["meters"][0]["profile"]
        content = {"version": NEW, "identifier": "FW", "profiles": [profile], "sequence": 12, **said}
        content |= {"v": 1, "sha256": hashlib.sha256(image.read_bytes()).hexdigest(), "size": 3000}
        manifest.write_text(json.dumps(enveloped(content, UTILITY)))
        return str(image), str(manifest)

    return make


def test_a_signed_image_is_put_into_a_meter(type_in, signed, gateway):
    image, manifest = signed()
    status, out, err = type_in("update", "MTR0001", image, "--manifest", manifest)
    assert status == 0, out + err
    assert gateway.meters[0].version == NEW


def test_an_unsigned_image_is_put_into_none(type_in, signed):
    image, _ = signed()
    status, _, err = type_in("update", "MTR0002", image)
    assert status == 1
    assert "F_SIGNATURE: no manifest covers this image" in err
    assert "sign it, or configure the trusted key" in err


def test_an_image_that_was_added_with_its_manifest_is_ordered_by_it_alone(type_in, signed, tmp_path):
    image, manifest = signed()
    status, out, _ = type_in("image", "add", image, "--manifest", manifest)
    assert (status, "signed by utility.pem (" in out) == (0, True)
    key = tmp_path / "operator.key"
    key.write_bytes(OPERATOR.pem())
    key.chmod(0o600)
    order = (
        "campaign",
        "submit",
        "--id",
        "by-manifest",
        "--manifest",
        manifest,
        "--meter",
        "MTR0003",
        "--watch",
    )
    status, out, err = type_in(*order, "--sign-with", str(key))
    assert status == 0, out + err
    shown = type_in("campaign", "show", "by-manifest")[1]
    assert "signed by" in shown and "utility.pem (" in shown


def test_a_key_that_the_gateway_does_not_trust_orders_nothing(type_in, tmp_path):
    stranger = tmp_path / "stranger.key"
    stranger.write_bytes(generate(KeyKind.ED25519).pem())
    stranger.chmod(0o600)
    status, _, err = type_in("campaign", "ls", "--sign-with", str(stranger))
    assert (status, "E_AUTH: the command is signed by 0" in err) == (1, True)


def test_what_is_no_manifest_is_not_sent(type_in, signed):
    image, _ = signed()
    status, _, err = type_in("image", "add", image, "--manifest", image)
    assert (status, "is no manifest" in err) == (1, True)


def test_the_log_of_each_start_says_what_the_trust_means(gateway):
    said = gateway.said()
    assert "profiles without `match`" in said, "these virtual meters are known by their configuration alone"
