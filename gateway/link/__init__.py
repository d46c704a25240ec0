"""Lines and conversations: `port.py` moves octets, `conversation.py` exchanges APDUs over a link, `session.py` holds
one association with one meter, `counters.py` hands out its invocation counters.

Everything here blocks, always with a deadline.
"""
