"""What holds for all tests."""

import signal

import pytest
from hypothesis import HealthCheck, settings
from support import contract

# A shell starts what it puts into the background with SIGINT ignored, and programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more of what else the machine does than of our code; `make bench` measures.
settings.register_profile("meter-gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meter-gateway")


@pytest.fixture(scope="session", autouse=True)
def _messages_are_looked_at():
    with pytest.MonkeyPatch.context() as patch:
        contract.watch_everything(patch)
        yield


@pytest.fixture(autouse=True)
def _every_message_is_by_the_contract(_messages_are_looked_at):
    yield
    broken, contract.broken[:] = list(contract.broken), []
    assert not broken, "\n".join(broken[:5])
