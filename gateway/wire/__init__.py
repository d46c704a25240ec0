"""Octets and their meaning: HDLC, the TCP wrapper, A-XDR, APDUs, ciphering, associations, Image Transfer. Pure:
no time, no ports, no randomness; the only errors are `WireError` and, where ciphering is at stake,
`SecurityError`."""
