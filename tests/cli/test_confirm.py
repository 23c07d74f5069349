"""``set --for``, ``commit --confirm-within`` and ``confirm`` as an operator uses them, on clocks that the test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster_store import daemon
from cluster_store.core.timers import Boot
from tests.cli.stores import Store
from tests.cli.test_history_commands import events

HOUR = 3_600_000
#: Far from now, where nothing is overdue yet.
NOW = 4_000_000_000_000


class Clocks:
    """The clocks of the host that the commands run on."""

    def __init__(self) -> None:
        self.wall = NOW
        self.start = "one"
        self.since = 1_000_000

    def sleep(self, milliseconds: int) -> None:
        """Let time go by."""
        self.wall += milliseconds
        self.since += milliseconds

    def reboot(self, off: int = 0) -> None:
        """Start the host again, after so many milliseconds."""
        self.wall += off
        self.start, self.since = f"{self.start} again", 0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Let commands see these clocks."""
    clocks = Clocks()
    monkeypatch.setattr(daemon, "now", lambda: clocks.wall)
    monkeypatch.setattr(daemon, "boot", lambda: Boot(clocks.start, clocks.since))
    return clocks


@pytest.fixture
def mx1(tmp_path: Path, clocks: Clocks) -> Store:
    """The store of a machine on these clocks, with a value."""
    store = Store(tmp_path / "mx1").init()
    store.do("set", "banner", "old", "-m", "at first")
    return store


def pending(store: Store) -> list[dict[str, Any]]:
    """Return what status says goes back by itself."""
    found: list[dict[str, Any]] = store.ask("status")["pending"]
    return found


def look(store: Store) -> Any:
    """Return the banner, after a command that writes nothing itself but lets what is over go back first."""
    store.run("set", "unrelated", "x", "-m", "any write")
    return store.get("banner")


def commit(store: Store, value: str = "new", within: str = "10m") -> str:
    """Commit the banner, to be confirmed; return the event."""
    store.do("set", "banner", value)
    event: str = store.ask("commit", "-m", "risky", "--confirm-within", within)["event"]
    return event


def test_a_value_for_a_while(mx1: Store, clocks: Clocks) -> None:
    """It says until when, everywhere that it is looked at; then it is gone, as an event by the timer."""
    told = mx1.ask("set", "banner", "new", "--for", "4h", "-m", "for the migration")
    assert told["until"] == "2096-10-02T11:06:40.000Z"
    assert mx1.get("banner") == "new"
    (one,) = pending(mx1)
    assert (one["event"], one["kind"], one["until"]) == (told["event"], "expire", told["until"])
    assert one["comment"] == "for the migration"
    checked = mx1.ask("clustercheck")
    assert (checked["conflicts"], checked["pending"][0]["event"]) == ([], told["event"])
    shown = mx1.ask("explain", "banner")
    assert (shown["timer"]["until"], [other["value"] for other in shown["covers"]]) == (told["until"], ["old"])
    assert "goes back at 2096-10-02T11:06:40.000Z, which mx1" in mx1.do("explain", "banner")
    assert "2096-10-02T11:06:40" in mx1.do("status")
    first = events(mx1, "--key", "banner")[0]["id"]
    level = mx1.ask("explain", "banner")["level"]
    assert [one["path"] for one in mx1.ask("diff", first)["changes"]] == [f"{level}:banner"]
    clocks.sleep(4 * HOUR)
    assert look(mx1) == "old"
    assert pending(mx1) == []
    assert mx1.get("banner", "--at", told["event"]) == "new"
    timed = events(mx1, "--key", "banner")[-1]
    assert (timed["kind"], timed["user"], timed["weak"]) == ("SettingExpired", "timer", True)
    assert "by a timer" in mx1.do("commitdetail", timed["id"])
    mx1.do("verify")


def test_a_commit_that_nobody_confirms_goes_back(mx1: Store, clocks: Clocks) -> None:
    """All of it, as one event; a value that somebody set since stays."""
    mx1.do("set", "port", "25")
    event = commit(mx1)
    mx1.do("set", "port", "26", "-m", "meanwhile")
    assert [one["kind"] for one in pending(mx1)] == ["confirm"]
    clocks.sleep(10 * 60_000 - 1)
    assert look(mx1) == "new"
    clocks.sleep(1)
    assert look(mx1) == "old"
    assert mx1.get("port") == 26
    assert "does not go back" in mx1.refuse("confirm", event[:10])
    assert "nothing waits" in mx1.refuse("confirm")


def test_a_confirmed_commit_stays(mx1: Store, clocks: Clocks) -> None:
    """And nothing is pending any more; taking it back takes the confirmation back with it."""
    event = commit(mx1)
    mx1.do("confirm", "-m", "it works")
    mx1.do("verify")
    assert pending(mx1) == []
    clocks.sleep(HOUR)
    assert look(mx1) == "new"
    assert mx1.ask("explain", "banner")["beat"] == []
    mx1.do("rollbackconfig", event, "-m", "after all not")
    assert mx1.get("banner") == "old"


def test_of_several_commits_one_is_named(mx1: Store) -> None:
    """Confirming all of them would confirm what somebody else is still trying."""
    first = commit(mx1)
    assert "waits to be confirmed" in mx1.refuse("set", "banner", "again", "--for", "1h", "-m", "over it")
    mx1.do("set", "port", "25")
    mx1.do("commit", "-m", "too", "--confirm-within", "10m")
    assert "say which" in mx1.refuse("confirm")
    mx1.do("confirm", first)
    assert len(pending(mx1)) == 1
    mx1.do("confirm")
    assert pending(mx1) == []


def test_a_staged_change_for_a_while_is_part_of_the_commit(mx1: Store, clocks: Clocks) -> None:
    """The rest of the commit stays. What goes back anyway cannot wait to be confirmed."""
    mx1.do("set", "banner", "new", "--for", "1h")
    mx1.do("set", "port", "25")
    assert "goes back by itself anyway" in mx1.run("commit", "-m", "x", "--confirm-within", "10m").expect(1).err
    mx1.do("commit", "-m", "both")
    assert [one["kind"] for one in pending(mx1)] == ["expire"]
    assert "goes back by itself" in mx1.refuse("clusterconfig", "create", "ships")
    clocks.sleep(HOUR)
    assert look(mx1) == "old"
    assert mx1.get("port") == 25


def test_after_a_restart_of_the_host(mx1: Store, clocks: Clocks) -> None:
    """The wall clock counts, as far as it can be believed; and never for longer than the window."""
    commit(mx1)
    clocks.reboot(60_000)
    assert look(mx1) == "new"
    clocks.sleep(9 * 60_000)
    assert look(mx1) == "old"
    commit(mx1)
    clocks.reboot(11 * 60_000)
    assert look(mx1) == "old"
    commit(mx1)
    clocks.reboot(-1)
    assert look(mx1) == "old"
    commit(mx1)
    clocks.reboot()
    clocks.since += 10 * 60_000 - 1  # and the wall clock stands still
    assert look(mx1) == "new"
    clocks.since += 1
    assert look(mx1) == "old"


def test_a_step_of_the_wall_clock_changes_nothing(mx1: Store, clocks: Clocks) -> None:
    """Within one start of the host only the time that went by counts."""
    commit(mx1)
    clocks.wall += 9 * HOUR
    assert look(mx1) == "new"
    clocks.wall -= 20 * HOUR
    assert look(mx1) == "new"
    clocks.sleep(10 * 60_000)
    assert look(mx1) == "old"


def test_what_should_have_gone_back_long_ago_is_named(mx1: Store, clocks: Clocks) -> None:
    """With what to do about it: its machine may be gone for good."""
    clocks.wall = 1_000_000_000_000
    event = commit(mx1)
    outcome = mx1.run("clustercheck", "--json").expect(3)
    assert "overdue timer" in outcome.out
    assert f"confirm {event[:10]}" in outcome.out
    mx1.do("confirm")
    mx1.do("clustercheck")


def test_a_time_that_is_none_is_refused(mx1: Store) -> None:
    """As a mistake of usage, with the forms that there are; and so is more than anybody would remember."""
    for text in ("10", "0s", "4 h", "-1h", "1.5h", "99999999d"):
        outcome = mx1.run("set", "banner", "new", f"--for={text}", "-m", "x").expect(2)
        assert "give 90s, 10m, 4h or 2d" in outcome.err
    for words in (
        ("set", "banner", "new", "--for", "400d", "-m", "x"),
        ("set", "banner", "new", "--for", "400d"),
        ("commit", "--confirm-within", "400d"),
    ):
        assert "a year at most" in mx1.refuse(*words)
    assert mx1.ask("status")["staged"] == 0


def test_where_nothing_watches_the_time_that_is_said(mx1: Store, clocks: Clocks) -> None:
    """At once, and by status for what is over: without a daemon it counts until the next command."""
    told = mx1.run("set", "banner", "new", "--for", "1h", "-m", "x").expect(0).err
    assert told.splitlines()[1].startswith("no daemon watches the time here")
    mx1.do("set", "port", "25")
    assert "no daemon watches" in mx1.run("commit", "-m", "x", "--confirm-within", "10m").expect(0).err
    assert "no daemon watches" not in mx1.run("set", "port", "26", "-m", "for good").expect(0).err
    clocks.wall = 1_000_000_000_000
    mx1.do("set", "other", "1", "--for", "1h", "-m", "long ago")
    lines = [line for line in mx1.do("status").splitlines() if line.startswith("pending: ")]
    assert len(lines) == 3
    assert "2001-09-09T02:46:40.000Z, which is over, to be taken back by mx1.example.com, by " in lines[0]


def test_a_draft_says_what_is_for_a_while_and_what_a_timer_took_from_under_it(mx1: Store, clocks: Clocks) -> None:
    """With the event that did: nobody else changed it, and nothing stands there that would name anybody."""
    mx1.do("set", "port", "1", "--for", "1h", "-m", "timed")
    mx1.do("set", "port", "2")
    mx1.do("set", "rate", "3", "--for", "90s")
    assert [line.split()[2:] for line in mx1.do("diff").splitlines()[2:4]] == [["2"], ["3", "for", "90s"]]
    clocks.sleep(HOUR)
    mx1.do("set", "unrelated", "1", "-m", "any write")
    expired = next(one for one in events(mx1) if one["kind"] == "SettingExpired")
    out = mx1.run("commit", "-m", "x").expect(1).out
    assert "port went back by timer on mx1.example.com#" in out
    assert f"(event {expired['id'][:10]})" in out
    assert mx1.ask("diff")["changed_since"][0]["ended"]["event"] == expired["id"]


def test_an_addition_is_confirmed_without_what_a_shorter_removal_covers(mx1: Store) -> None:
    """What is left out is named; the rollback of a covered change shows what goes from under the other."""
    event = mx1.ask("add", "hosts", "h1", "h2", "--for", "1h", "-m", "a")["event"]
    mx1.do("remove", "hosts", "h1", "--for", "30m", "-m", "r")
    assert 'left as it is: machine:mx1.example.com:hosts["h1"]: another' in mx1.run("confirm", event).expect(0).err
    assert mx1.get("hosts") == ["h2"]
    event = mx1.ask("set", "rate", "2", "--for", "1h", "-m", "long")["event"]
    mx1.do("set", "rate", "3", "--for", "1m", "-m", "short")
    assert "3, without 2 beside or under it" in mx1.do("rollbackconfig", event, "--dry-run")
