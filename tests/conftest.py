"""What holds for all tests."""

import signal

from hypothesis import HealthCheck, settings

# A shell starts what it puts into the background with SIGINT ignored, and programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more of what else the machine does than of our code; `make bench` measures.
settings.register_profile("meter-gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meter-gateway")
