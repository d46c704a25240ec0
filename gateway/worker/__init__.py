"""One port: which meter is served next, and one exchange with it.

`worker.py` serves whoever comes first by `order.py`, `queue.py` has the jobs that wait to be begun, `sessions.py` the
line and the associations that stand on it. `contact.py` associates, follows counters and leaves meters alone that
refuse us. `transfer_run.py` carries one job through its procedure (`job_in_hand.py`: what is known and durable of it;
`scheduling.py`: what is done with the meter's own schedule), `broadcast.py` the blocks of several at once
(`bystanders.py`: who else hears them). `errands.py` answers who waits, with `probe.py` and `scan.py`. `line.py` is the
line as exchanges meet it: `line_watch.py` knows whether it is there, `shared_line.py` whether somebody else talks on
it, `lending.py` whether it is another tool's now. Nothing here decides what the procedure is: `gateway.transfer` does.
"""

from gateway.worker.worker import Worker

__all__ = ["Worker"]
