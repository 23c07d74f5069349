"""What holds for every test: how Hypothesis draws its examples."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadline and no judgement of slow drawing: the machines that run this are shared, and time says nothing there.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# The same examples on every run and machine, so that a failure is the last change's doing.
settings.register_profile("repeatable", _UNTIMED, derandomize=True)
# Examples never tried before, and more of them: pytest --hypothesis-profile=fresh
settings.register_profile("fresh", _UNTIMED, max_examples=500)
settings.load_profile("repeatable")
