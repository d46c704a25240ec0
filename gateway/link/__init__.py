"""Lines and conversations: `port.py` moves octets (`tuning.py` has what serial drivers can do besides, `rfc2217.py` the
lines behind device servers, `echo.py` keeps our own octets out), `optical.py` signs on by mode E, `conversation.py`
exchanges APDUs over a link, `session.py` holds one association with one meter, `counters.py` hands out its invocation
counters.

Everything here blocks, always with a deadline.
"""
