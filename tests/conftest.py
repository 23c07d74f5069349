"""What holds for every test: how Hypothesis draws its examples, and that what was counted is shown."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No deadline and no judgement of slow drawing: the machines that run this are shared, and time says nothing there.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# The same examples on every run and machine, so that a failure is the last change's doing.
settings.register_profile("repeatable", _UNTIMED, derandomize=True)
# Examples never tried before, and more of them: pytest --hypothesis-profile=fresh
settings.register_profile("fresh", _UNTIMED, max_examples=500)
settings.load_profile("repeatable")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests gave to ``record_property`` as ``figures``: a green dot does not say how much was tried."""
    told = [
        f"{report.nodeid}: {text}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, text in report.user_properties
        if name == "figures"
    ]
    if told:
        terminalreporter.section("figures")
        for line in told:
            terminalreporter.line(line)
