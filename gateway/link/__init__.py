"""Lines and conversations: `port.py` moves octets, `session.py` holds one association with one meter.

Everything here blocks, always with a deadline.
"""
