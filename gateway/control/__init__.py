"""What users order: verbs, what they do, how they are refused; and the control socket.

`commands.py` takes a command from wherever it came and answers it, `verbs.py` does what it says, `envelope.py`
reads the octets, `orders.py` and `lines.py` the arguments that need more than their schema, `schemas/` has the JSON
Schema of everything that goes in or out, `socket.py` serves the command line.
"""

from gateway.control.commands import Controller, Origin, OriginKind
from gateway.control.socket import ControlServer

__all__ = ["ControlServer", "Controller", "Origin", "OriginKind"]
