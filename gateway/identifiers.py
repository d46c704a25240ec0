"""Image identifiers (class 18, method 1) as people write them: text, or `hex:...` where text would not do."""

from __future__ import annotations


def identifier_text(identifier: bytes) -> str:
    """An identifier in the form in which it is ordered."""
    try:
        text = identifier.decode()
    except UnicodeDecodeError:
        return f"hex:{identifier.hex()}"
    return text if text.isprintable() and not text.startswith("hex:") else f"hex:{identifier.hex()}"


def identifier_octets(text: str) -> bytes:
    """The identifier that a text means. Raises ValueError, in words."""
    if not text.startswith("hex:"):
        return text.encode()
    try:
        octets = bytes.fromhex(text.removeprefix("hex:"))
    except ValueError:
        octets = b""
    if not octets:
        raise ValueError("expected pairs of hex digits after hex:")
    return octets
