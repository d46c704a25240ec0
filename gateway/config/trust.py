"""Whose signatures count: public keys and certificates in files, read here so that a wrong one shows at once."""

from __future__ import annotations

from pathlib import Path

from gateway.config import values as v
from gateway.config.table import Table
from gateway.config.tls_files import read_tls_files
from gateway.model import CommandSettings, FirmwareSettings, Trust, TrustedKey
from gateway.signing import SIGNATURES_LIMIT, read_public_key


def read_commands(table: Table, verb_pattern: v.Kind[str]) -> CommandSettings:
    """`[commands]`."""
    known = CommandSettings()
    settings = CommandSettings(
        mqtt_verbs=table.read(
            "mqtt_verbs", v.list_of(verb_pattern), known.mqtt_verbs, "Commands that are allowed over MQTT."
        ),
        signed_verbs=table.read(
            "signed_verbs",
            v.list_of(verb_pattern),
            known.signed_verbs,
            "Commands that over MQTT operators must have signed.",
        ),
        trusted_keys=_trusted_keys(
            table, "Files of the operators' public keys, in PEM, Ed25519 or P-256, at most 16."
        ),
        threshold=_threshold(table, "How many different trusted keys must have signed a command."),
    )
    if settings.signed_verbs:
        _check_enough(table, settings.trusted_keys, settings.threshold)
    table.finish()
    return settings


def read_firmware(table: Table) -> FirmwareSettings:
    """`[firmware]`. Without any key the default trust refuses every image, which is no mistake."""
    known = FirmwareSettings()
    ca_file, cert_file, key_file = read_tls_files(
        table,
        "Who must have signed the certificates of image servers, in PEM. Without it: the authorities that "
        "this machine trusts.",
        "The certificate that the gateway shows to image servers that ask for one, in PEM.",
        "Its private key, in PEM, without passphrase.",
    )
    settings = FirmwareSettings(
        trust=table.read(
            "trust",
            v.choice(Trust),
            known.trust,
            "`signed`: an image needs a signed manifest, and without a trusted key or root every image is "
            "refused. `digest`: the SHA-256 in the order suffices, so whoever may order decides what "
            "firmware is right.",
        ),
        trusted_keys=_trusted_keys(
            table,
            "Files of public keys whose signatures over a manifest count, in PEM, Ed25519 or P-256, at most "
            "16.",
        ),
        trusted_root=_certificates(
            table,
            "trusted_root",
            "A file of root certificates in PEM, with revocation lists where there are any: a detached CMS "
            "signature counts if its signer's certificate leads to one of them and is for code signing. "
            "Wants the `openssl` command.",
        ),
        threshold=_threshold(table, "How many different keys must have signed a manifest."),
        allow_hosts=table.read(
            "allow_hosts",
            v.list_of(v.HOST),
            known.allow_hosts,
            "Hosts that images may be fetched from, by https. Without it: this machine only. A redirect to "
            "another host is not followed.",
        ),
        allow_plaintext=table.read(
            "allow_plaintext", v.BOOLEAN, known.allow_plaintext, "Allows `http://` from other machines."
        ),
        quota_bytes=table.read(
            "quota",
            v.size("1MiB", "1024GiB"),
            known.quota_bytes,
            "How much disk images may take. Those that no open campaign needs make room, the least recently "
            "used first. 32 MiB of the disk (of a small one: a quarter) stay free whatever the quota is.",
        ),
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
        proxy=table.read(
            "proxy",
            v.PROXY_URL,
            known.proxy,
            "A proxy that every image server but one of this machine is reached through, without password. "
            "Those of the environment are not used.",
        ),
    )
    if settings.trusted_keys and not settings.trusted_root:
        _check_enough(table, settings.trusted_keys, settings.threshold)
    table.finish()
    return settings


def _threshold(table: Table, about: str) -> int:
    return table.read("threshold", v.integer(1, SIGNATURES_LIMIT), 1, about)


def _check_enough(table: Table, keys: tuple[TrustedKey, ...], threshold: int) -> None:
    if len(keys) < threshold and not table.noted("trusted_keys"):
        table.wrong(
            "trusted_keys", f"{threshold} different keys or more, for so many have to sign (threshold)"
        )


def _trusted_keys(table: Table, about: str) -> tuple[TrustedKey, ...]:
    """One key in two files would be a threshold that is lower than it looks."""
    keys: dict[bytes, TrustedKey] = {}
    paths = table.read("trusted_keys", v.list_of(v.PATH), (), about)
    if len(paths) > SIGNATURES_LIMIT:
        table.wrong("trusted_keys", f"at most {SIGNATURES_LIMIT} files")
    for path in paths:
        try:
            key = TrustedKey(path.name, read_public_key(path.read_bytes()))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it holds no such key"
            table.wrong(
                "trusted_keys",
                f"files that each hold an Ed25519 or P-256 public key in PEM ({path}: {reason})",
            )
            continue
        if key.spki in keys:
            table.wrong("trusted_keys", f"each key once ({path} has that of {keys[key.spki].name})")
        keys[key.spki] = key
    return tuple(keys.values())


def _certificates(table: Table, key: str, about: str) -> bytes:
    path = table.read(key, v.PATH, Path(), about)
    if path == Path():
        return b""
    import ssl  # 20 ms, which those without a root are spared

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        pem = path.read_bytes()
        context.load_verify_locations(cadata=pem.decode("ascii", errors="ignore"))
        if context.get_ca_certs():
            return pem
    except (OSError, ValueError):
        pass
    table.wrong(key, "a readable file with root certificates in PEM")
    return b""
