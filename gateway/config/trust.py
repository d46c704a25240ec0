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
        mqtt_verbs=table.read("mqtt_verbs", v.list_of(verb_pattern), known.mqtt_verbs),
        signed_verbs=table.read("signed_verbs", v.list_of(verb_pattern), known.signed_verbs),
        trusted_keys=_trusted_keys(table),
        threshold=_threshold(table),
    )
    if settings.signed_verbs:
        _check_enough(table, settings.trusted_keys, settings.threshold)
    table.finish()
    return settings


def read_firmware(table: Table) -> FirmwareSettings:
    """`[firmware]`. Without any key the default trust refuses every image, which is no mistake."""
    known = FirmwareSettings()
    ca_file, cert_file, key_file = read_tls_files(table)
    settings = FirmwareSettings(
        trust=table.read("trust", v.choice(Trust), known.trust),
        trusted_keys=_trusted_keys(table),
        trusted_root=_certificates(table, "trusted_root"),
        threshold=_threshold(table),
        allow_hosts=table.read("allow_hosts", v.list_of(v.HOST), known.allow_hosts),
        allow_plaintext=table.read("allow_plaintext", v.BOOLEAN, known.allow_plaintext),
        quota_bytes=table.read("quota", v.size("1MiB", "1024GiB"), known.quota_bytes),
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
        proxy=table.read("proxy", v.PROXY_URL, known.proxy),
    )
    if settings.trusted_keys and not settings.trusted_root:
        _check_enough(table, settings.trusted_keys, settings.threshold)
    table.finish()
    return settings


def _threshold(table: Table) -> int:
    return table.read("threshold", v.integer(1, SIGNATURES_LIMIT), 1)


def _check_enough(table: Table, keys: tuple[TrustedKey, ...], threshold: int) -> None:
    if len(keys) < threshold and not table.noted("trusted_keys"):
        table.wrong(
            "trusted_keys", f"{threshold} different keys or more, for so many have to sign (threshold)"
        )


def _trusted_keys(table: Table) -> tuple[TrustedKey, ...]:
    """One key in two files would be a threshold that is lower than it looks."""
    keys: dict[bytes, TrustedKey] = {}
    paths = table.read("trusted_keys", v.list_of(v.PATH), ())
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


def _certificates(table: Table, key: str) -> bytes:
    path = table.read(key, v.PATH, Path())
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
