"""Hypothesis does not time tests, which run beside others. It is a plugin of pytest where conftest.py is not used."""

from hypothesis import HealthCheck, settings


def stop_timing() -> None:
    """Load the profile."""
    settings.register_profile("embedmerge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("embedmerge")


def pytest_configure() -> None:
    stop_timing()
