"""What holds for all tests."""

from hypothesis import settings

# How long an example takes says more of what else the machine does than of our code; `make bench` measures.
settings.register_profile("meter-gateway", deadline=None)
settings.load_profile("meter-gateway")
