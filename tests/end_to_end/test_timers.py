"""A change for a while goes back in real time: while the daemon runs, and after it was killed in the meantime."""

from __future__ import annotations

from tests.end_to_end.machines import PATIENCE_S, Fleet
from tests.waiting import wait_until


def test_it_goes_back_under_a_running_daemon_and_after_a_kill(machines: Fleet) -> None:
    """Nobody asks for it. The value is the former one, the event is the timer's, and the store is whole."""
    mx1 = machines.machine("mx1").init().serve()
    mx1.do("set", "smtp.port", "25", "-m", "at first")
    mx1.do("set", "smtp.port", "587", "-m", "try it", "--for", "1s")
    wait_until(lambda: mx1.get("smtp.port") == 25, PATIENCE_S, what="the running daemon to take it back")
    mx1.do("set", "smtp.port", "465")
    committed = mx1.ask("commit", "-m", "try this", "--confirm-within", "2s")
    assert committed["until"]
    mx1.kill()
    mx1.launch()
    wait_until(lambda: mx1.get("smtp.port") == 25, PATIENCE_S, what="the killed daemon to take it back")
    kinds = [event["kind"] for event in mx1.events() if event["weak"]]
    assert kinds == ["SettingExpired", "ConfirmationTimedOut"]
    assert mx1.ask("status")["pending"] == []
    mx1.verify()
