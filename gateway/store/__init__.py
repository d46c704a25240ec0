"""The Store owns the intent, the outbox owns the telling: campaigns, jobs, commands, counters in SQLite.

`store.py` is what others use; `documents.py` has the JSON shapes that users see.
"""

from gateway.store.store import Store

__all__ = ["Store"]
