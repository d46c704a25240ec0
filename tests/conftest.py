"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes says more of what else the machine does than of our code; `make bench` measures.
settings.register_profile("meter-gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meter-gateway")
