"""Which state of a job or a campaign leads to which. docs/windows.md draws these tables, the simulation holds every
change of the Store against them, and what can be cancelled follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.model import CampaignState, Job, JobState, TransferRecord

_J, _C = JobState, CampaignState

BEGUN = (_J.INITIATING, _J.TRANSFERRING, _J.COMPLETING, _J.VERIFYING, _J.AWAITING_ACTIVATION)
"""The way of an image through a meter, in its order. After any doubt the meter says where it is, so that each of these
may follow each."""

_NOT_ACTIVATED = frozenset({_J.WAITING, _J.SKIPPED, _J.FAILED, _J.CANCELLED})
_KNOWN = frozenset({_J.UPDATED, _J.FAILED})

JOB_GOES_TO: Mapping[JobState, frozenset[JobState]] = {
    # An image that an earlier order left in the meter is gone on with at once.
    # After a failed health check campaign.retry looks at the activated meter once more.
    _J.QUEUED: _NOT_ACTIVATED | {_J.PRECHECK, *BEGUN, _J.ACTIVATING, _J.CONFIRMING},
    _J.WAITING: _NOT_ACTIVATED - {_J.WAITING} | {_J.PRECHECK, *BEGUN, _J.ACTIVATING},
    _J.PRECHECK: _NOT_ACTIVATED | {_J.INITIATING},
    **{state: _NOT_ACTIVATED | {*BEGUN, _J.ACTIVATING} - {state} for state in BEGUN},
    _J.ACTIVATING: _KNOWN | {_J.CONFIRMING, _J.UNCERTAIN},
    _J.CONFIRMING: _KNOWN | {_J.UNCERTAIN},
    _J.UNCERTAIN: _KNOWN | {_J.CONFIRMING},
    _J.UPDATED: frozenset(),
    _J.SKIPPED: frozenset(),
    _J.FAILED: frozenset({_J.QUEUED}),  # campaign.retry
    _J.CANCELLED: frozenset(),
}

ENDED = (_C.SUCCEEDED, _C.PARTIAL, _C.FAILED, _C.CANCELLED, _C.EXPIRED)
_ENDS = frozenset(ENDED)
_WITHOUT_IMAGE = frozenset({_C.FAILED, _C.CANCELLED, _C.EXPIRED})

CAMPAIGN_GOES_TO: Mapping[CampaignState, frozenset[CampaignState]] = {
    _C.ACCEPTED: _WITHOUT_IMAGE | {_C.FETCHING, _C.READY},
    _C.FETCHING: _WITHOUT_IMAGE | {_C.READY},
    _C.READY: _ENDS | {_C.RUNNING, _C.PAUSED, _C.CANCELLING},
    _C.RUNNING: _ENDS | {_C.PAUSED, _C.CANCELLING},
    _C.PAUSED: _ENDS | {_C.READY, _C.RUNNING, _C.CANCELLING},
    _C.CANCELLING: _ENDS - {_C.FAILED},
    **{state: frozenset() for state in _ENDS},
}


def decided_anew(record: TransferRecord) -> TransferRecord:
    """What is known of the meter, for another try or order: nothing is decided yet, and every time begins afresh. That
    its verification was ordered by us still tells a verified image of ours from a stranger's."""
    return replace(
        record, initiates=0, verifies=min(record.verifies, 1), verify_waited_s=0.0, activate_decided=False
    )


def in_its_meters_hands(job: Job) -> bool:
    """Its activation was ordered, or its meter may have the time of it: what becomes of that is looked after whatever
    the hour, and the job never ends without a word about it."""
    return job.record is not None and (job.record.activate_decided or job.record.scheduled_at is not None)


CAN_BE_CANCELLED = frozenset(state for state, then in JOB_GOES_TO.items() if _J.CANCELLED in then)
"""Until activation is decided; from then on the meter does as it was told (contract)."""
