"""Hypothesis does not time tests, which run beside others. It is a plugin of pytest where conftest.py is not used."""

from hypothesis import HealthCheck, settings

settings.register_profile("embedmerge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("embedmerge")
