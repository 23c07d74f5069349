"""``--at``, ``--as-known-by``, ``diff`` and ``commitdetail``, as an operator runs them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.stores import Store
from tests.cli.test_history_commands import Replica, events
from tests.collisions import stored_collision


@pytest.fixture(scope="module")
def _stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collision")
    asyncio.run(stored_collision(folder))
    return folder


@pytest.fixture
def mx1(_stores: Path) -> Store:
    """The store of a machine that was cut off from another one, which nothing may write to."""
    return Replica(_stores / "mx1")


@pytest.fixture
def mx2(_stores: Path) -> Store:
    """The store of the other one."""
    return Replica(_stores / "mx2")


def banner(store: Store, value: str) -> dict[str, Any]:
    """Return the event that set the banner to a value."""
    return next(one for one in events(store, "--key", "smtp.banner") if one["writes"][0]["value"] == value)


def test_a_value_as_it_was(mx1: Store) -> None:
    """At an event, what it and all that it came after say; the other side of the cut is no part of that."""
    level = ("--level", "cluster")
    assert mx1.get("smtp.banner", *level) == "two"
    assert mx1.get("smtp.banner", *level, "--at", banner(mx1, "one")["id"]) == "one"
    assert mx1.get("smtp.banner", *level, "--at", banner(mx1, "two")["id"]) == "two"
    assert mx1.get("smtp.banner", *level, "--at", banner(mx1, "hello")["id"][:8]) == "hello"
    assert mx1.get("smtp.banner", "--at", banner(mx1, "on mx1")["time"]) == "on mx1"
    outcome = mx1.run("get", "dns.primary", "--at", banner(mx1, "two")["id"]).expect(1)
    assert "was not set" in outcome.err
    assert "nothing had happened" in mx1.refuse("get", "smtp.banner", "--at", "2020-01-01")


def test_the_configuration_as_it_was(mx1: Store) -> None:
    """Every setting is that of then, for a machine and for a level; sets too."""
    at = ("--at", banner(mx1, "two")["time"])
    assert json.loads(mx1.do("showconfig", *at)) == {"smtp.banner": "on mx1"}
    assert json.loads(mx1.do("showconfig", "--machine", "mx2", *at)) == {"smtp.banner": "two"}
    assert json.loads(mx1.do("showconfig", "--level", "cluster"))["relay"] == ["192.0.2.1", "192.0.2.2"]
    added = next(one["id"] for one in events(mx1, "--key", "relay") if one["machine"] == "mx1")
    assert json.loads(mx1.do("showconfig", "--prefix", "relay", "--at", added)) == {"relay": ["192.0.2.1"]}


def test_where_settings_were_kept(mx1: Store) -> None:
    """The levels that kept a key then, and the machines that it counted on."""
    told = mx1.ask("clustershow", "smtp.", "--at", banner(mx1, "hello")["id"])
    assert [(one["level"], one["value"]) for one in told] == [("cluster", "hello")]
    assert sorted(told[0]["effective_on"]) == ["mx1", "mx2"]


def test_where_a_value_came_from(mx1: Store) -> None:
    """The explanation of then knows nothing of what beat the value later."""
    then = banner(mx1, "one")["id"]
    told = mx1.ask("explain", "smtp.banner", "--machine", "mx2", "--at", then)
    assert (told["value"], told["level"], told["beat"]) == ("one", "cluster", [])
    assert mx1.ask("explain", "smtp.banner", "--machine", "mx2")["beat"][0]["value"] == "one"


def test_what_another_machine_knew(mx1: Store, mx2: Store) -> None:
    """At one time the two sides of the cut knew different things, and each can be asked about on the other side."""
    later = events(mx1, "--key", "relay")[-1]["time"]
    level = ("--level", "cluster", "--at", later)
    assert mx2.get("smtp.banner", *level, "--as-known-by", "mx1") == "one"
    assert mx1.get("smtp.banner", *level, "--as-known-by", "mx2") == "two"
    assert mx1.get("smtp.banner", *level) == mx2.get("smtp.banner", *level) == "two"
    own = events(mx1, "--key", "relay", "--machine", "mx2")[0]["id"]
    assert mx1.get("relay", "--at", own, "--as-known-by", "mx2") == ["192.0.2.2"]
    # By its clock: the other machine wrote this a second later.
    both = banner(mx1, "two")["id"]
    assert mx2.get("smtp.banner", "--level", "cluster", "--at", both, "--as-known-by", "mx1") == "one"
    assert "knew nothing" in mx1.refuse("get", "relay", "--at", "2020-01-01", "--as-known-by", "mx2")
    assert "mx9" in mx1.refuse("get", "relay", "--as-known-by", "mx9")


def test_what_another_machine_knew_is_said_to_be_a_lower_bound(mx1: Store) -> None:
    """Of another machine it is known what its own records prove, and up to where; of this one all."""
    other = mx1.run("get", "smtp.banner", "--as-known-by", "mx2").expect(0)
    assert "mx2 may have known more" in other.err
    assert "up to #3 at 20" in other.err
    assert mx1.run("get", "smtp.banner", "--as-known-by", "mx1").expect(0).err == ""
    assert mx1.run("get", "smtp.banner", "--at", "mx2#3", "--as-known-by", "mx2").expect(0).err == ""


def test_this_machine_knew_what_it_had_learnt(mx1: Store) -> None:
    """Of itself a machine knows when it learnt of each event, also of those that it wrote nothing after."""
    theirs = banner(mx1, "two")
    # At the time that the other one's event bears, this machine had not learnt of it.
    assert theirs["time"] < theirs["learnt"]
    assert mx1.get("smtp.banner", "--level", "cluster", "--at", theirs["id"], "--as-known-by", "mx1") == "one"
    learnt = banner(mx1, "two")["learnt"]
    assert mx1.get("smtp.banner", "--level", "cluster", "--at", learnt, "--as-known-by", "mx1") == "two"


def test_a_machine_that_was_not_there_yet(mx2: Store) -> None:
    """Before it was let in, there is nothing effective on a machine: another one has to be named, or a level."""
    first = events(mx2)[1]["id"]
    assert "was not in the cluster then" in mx2.refuse("showconfig", "--at", first)
    assert mx2.do("showconfig", "--machine", "mx1", "--at", first) == "{}\n"


def test_a_secret_of_then_is_shown_to_who_may_see_it(member: Store) -> None:
    """An earlier secret is still there for a while; showconfig leaves it out as ever."""
    member.do("set", "s", "--secret", "--password-stdin", "-m", "why", typed="one")
    then = events(member)[-1]["id"]
    member.do("set", "s", "--secret", "--password-stdin", "-m", "why", typed="two")
    assert (member.get("s"), member.get("s", "--at", then)) == ("two", "one")
    assert member.do("showconfig", "--at", then) == "{}\n"


# --- diff ----------------------------------------------------------------------------------------------


def test_two_moments_are_compared(mx1: Store) -> None:
    """What differs is told register by register, and whose effective values changed."""
    one, two = banner(mx1, "one")["id"], banner(mx1, "two")["id"]
    told = mx1.ask("diff", one, two)
    (change,) = told["changes"]
    assert (change["path"], change["old"], change["new"]) == ("cluster:smtp.banner", "one", "two")
    assert [group["machines"] for group in told["impact"]] == [["mx2"]], "mx1 has a value of its own"
    words = mx1.do("diff", one, two)
    assert "cluster:smtp.banner" in words
    assert "effective values changed on mx2: smtp.banner" in words


def test_a_moment_is_compared_with_now(mx1: Store) -> None:
    """With one moment the other one is now; a secret is told as one; with itself nothing differs."""
    told = {one["path"]: one for one in mx1.ask("diff", banner(mx1, "hello")["id"])["changes"]}
    assert told["cluster:dns.primary"]["set_old"] is False
    assert told["cluster:password"]["new"] == "(secret)"
    assert told['cluster:relay["192.0.2.1"]']["new"] is True
    now = events(mx1)[-1]["id"]
    assert mx1.do("diff", now) == "both say the same\n"
    assert mx1.ask("diff", now, now) == {"changes": [], "impact": []}


def test_what_a_machine_knew_is_compared(mx1: Store) -> None:
    """Between two times, only what that machine learnt in between is told."""
    start, end = banner(mx1, "on mx1")["time"], events(mx1, "--key", "relay")[-1]["time"]
    told = mx1.ask("diff", start, end, "--as-known-by", "mx2")
    assert {one["path"]: one["new"] for one in told["changes"]} == {
        "cluster:password": "(secret)",
        "cluster:smtp.banner": "two",
        'cluster:relay["192.0.2.2"]': True,
        "kind/relay": "set",
        "machine:mx1:smtp.banner": "on mx1",
    }


@pytest.mark.parametrize("moments", [("--as-known-by", "mx1"), ("1", "2", "3")])
def test_diff_takes_two_moments_at_most(mx1: Store, moments: tuple[str, ...]) -> None:
    """More is wrong usage, and so is what a machine knew, of no moment."""
    mx1.run("diff", *moments).expect(2)


# --- commitdetail --------------------------------------------------------------------------------------


def test_all_about_a_change(mx1: Store) -> None:
    """Its author, times, what it had seen, what each write took the place of, and whether it stands."""
    one = banner(mx1, "one")
    told = mx1.ask("commitdetail", one["id"])
    assert (told["id"], told["text"]) == (one["id"], 'set smtp.banner = "one" at cluster')
    (write,) = told["writes"]
    assert (write["shown"], write["stands"], write["was"][0]["value"]) == ("cluster:smtp.banner", True, "hello")
    words = mx1.do("commitdetail", one["id"]).splitlines()
    assert words[0] == f"event    {one['id']}"
    assert any(line.startswith('    was "hello", by os:root on mx1#') for line in words)
    old = mx1.ask("commitdetail", banner(mx1, "hello")["id"])["writes"][0]
    assert (old["stands"], old["was"]) == (False, [])


def test_the_last_change_without_a_name(mx1: Store) -> None:
    """Without EVENT it is the newest one here; a strange one is refused."""
    assert mx1.ask("commitdetail")["id"] == events(mx1)[-1]["id"]
    assert "no event" in mx1.refuse("commitdetail", "mx1#99")


def test_secrets_are_redacted_in_detail(mx1: Store) -> None:
    """The value of a secret is in no form of the log."""
    event = events(mx1, "--key", "password")[0]["id"]
    for words in (("commitdetail", event), ("commitdetail", event, "--json"), ("log", "--detail")):
        assert "s3cret" not in mx1.do(*words)
    assert "cluster:password = (secret)" in mx1.do("commitdetail", event)


def test_the_log_in_detail(mx1: Store) -> None:
    """``log --detail`` shows each change as commitdetail does, for scripts one a line."""
    lines = mx1.do("log", "--detail", "--json", "-n", "2").splitlines()
    assert [json.loads(line) for line in lines] == [mx1.ask("commitdetail", one["id"]) for one in events(mx1)[-2:]]
    assert mx1.do("log", "--detail", "-n", "2").count("event    ") == 2
    mx1.run("log", "--graph", "--detail").expect(2)
