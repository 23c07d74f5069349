"""``rollbackconfig`` and ``clustercheck --resolve``, as an operator runs them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cluster_store_cli import shell
from cluster_store_cli.clustercheck import inbox_of
from cluster_store_cli.session import Session

from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.core.inbox import resolve
from tests.cli.stores import Store
from tests.cli.test_history_commands import Replica, events
from tests.collisions import stored_collision, stored_pair


@pytest.fixture
def mx1(tmp_path: Path) -> Store:
    """The store of a machine that was cut off from another one, with a conflict."""
    asyncio.run(stored_collision(tmp_path))
    return Replica(tmp_path / "mx1")


# --- rollbackconfig ------------------------------------------------------------------------------------


def test_one_event_is_taken_back_and_forth(member: Store) -> None:
    """A rollback is a change with a comment, names what it took back, and can be taken back itself."""
    member.do("set", "a", "1", "-m", "why")
    member.do("set", "a", "2", "-m", "why")
    told = member.ask("rollbackconfig", "mx1.example.com#5", "-m", "wrong one")
    assert (told["changed"], member.get("a")) == (True, 1)
    last = events(member)[-1]
    assert (last["kind"], last["comment"], last["params"]["events"]) == (
        "ConfigRolledBack",
        "wrong one",
        told["events"],
    )
    assert "took back" in member.do("log", "-n", "1")
    member.do("rollbackconfig", last["id"])
    assert member.get("a") == 2


def test_a_dry_run_shows_everything_and_changes_nothing(member: Store) -> None:
    """Each value now and then, what is kept, and whose effective values would change."""
    member.do("set", "a", "1", "-m", "why")
    member.do("set", "b", "1", "-m", "why")
    member.do("add", "r", "x", "-m", "why")
    member.do("set", "b", "2", "--level", "machine:mx1.example.com", "-m", "why")
    before = member.state()
    outcome = member.run("rollbackconfig", "--last", "4", "--dry-run").expect(0)
    assert "4 events would be taken back; nothing was changed" in outcome.err
    assert "effective values would change on mx1.example.com: a, b, r" in outcome.err
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["a", "cluster", "1", "unset"] in rows
    assert ['r["x"]', "cluster", "in", "it", "not", "in", "it"] in rows
    told = member.ask("rollbackconfig", "--last", "4", "--dry-run")
    assert [(one["key"], one["now"], one["set_then"]) for one in told["changes"] if one["level"]] == [
        ("r", True, False),
        ("a", 1, False),
        ("b", 1, False),
        ("b", 2, False),
    ]
    assert (told["kept"], told["dry_run"], told["changed"]) == ([], True, True)
    assert told["impact"][0]["machines"] == ["mx1.example.com"]
    assert member.state() == before


def test_what_was_changed_again_is_kept_or_forced(member: Store) -> None:
    """A later change is named with its writer; with --force it goes too."""
    member.do("set", "a", "1", "-m", "why")
    member.do("set", "a", "2", "-m", "why")
    outcome = member.run("rollbackconfig", "mx1.example.com#4").expect(0)
    assert "kept: a at cluster is 2, by os:" in outcome.err
    assert "'why' (event " in outcome.err
    assert "before that event it was unset" in outcome.err
    assert "nothing to change" in outcome.err
    assert member.get("a") == 2
    member.do("rollbackconfig", "mx1.example.com#4", "--force")
    member.run("get", "a").expect(1)


def test_everything_after_a_point_and_all_of_a_machine(mx1: Store) -> None:
    """What the membership did is named and stays; of one machine only its own changes are taken back."""
    told = mx1.ask("rollbackconfig", "--machine", "mx2", "--since", "mx2#1", "--dry-run")
    assert {one["key"] for one in told["changes"]} == {"smtp.banner", "relay"}
    assert [one["kind"] for one in told["left"]] == ["EpochBegun"]
    whole = mx1.ask("rollbackconfig", "--machine", "mx2", "--dry-run")
    assert whole == told
    assert len(mx1.ask("rollbackconfig", "--machine", "mx2", "--last", "1", "--dry-run")["events"]) == 1
    since = banner_of(mx1, "mx2")
    told = mx1.ask("rollbackconfig", "--since", since, "--dry-run")
    assert {since} < set(told["events"]), "it, and what its author had not seen"
    assert mx1.ask("rollbackconfig", "--machine", "mx2", "--to", since, "--dry-run")["events"] == whole["events"][1:]
    first = next(one["id"] for one in events(mx1) if one["kind"] == "MachineInitialised")
    outcome = mx1.run("rollbackconfig", "--to", first, "--dry-run").expect(0)
    assert "not taken back, being no change of settings alone: mx1#2" in outcome.err
    told = mx1.ask("rollbackconfig", "--to", first, "--dry-run")
    assert not any(one["set_then"] for one in told["changes"])


def test_of_several_values_that_stood_those_that_do_not_come_back_are_listed(member: Store) -> None:
    """A value under one for a while, both of which somebody replaced: who wrote it is told before and after."""
    member.do("set", "a", "1", "-m", "under")
    member.do("set", "a", "2", "--for", "1h", "-m", "over")
    member.do("set", "a", "9", "-m", "enough")
    listed = "stood there too, and does not come back: a at cluster: 1, by os:"
    for words in (("--dry-run",), ()):
        told = member.run("rollbackconfig", "--last", "1", *words).expect(0).err
        assert [line for line in told.splitlines() if line.startswith(listed) and "'under' (event " in line]
    assert member.get("a") == 2


def banner_of(store: Store, machine: str) -> str:
    """Return the first event in which a machine set the banner."""
    return str(events(store, "--key", "smtp.banner", "--machine", machine)[0]["id"])


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("mx1#1", "--last", "1"),
        ("mx1#1", "--machine", "mx1"),
        ("--since", "mx1#1", "--to", "mx1#1"),
        ("--last", "0"),
        ("--to", "mx1#1", "x"),
    ],
)
def test_what_to_take_back_is_named_in_one_way(member: Store, words: tuple[str, ...]) -> None:
    """Anything else is wrong usage."""
    member.run("rollbackconfig", *words).expect(2)


def test_there_may_be_nothing_to_take_back(member: Store) -> None:
    """Where nothing was changed, that is said; an event about groups alone is left."""
    assert "nothing to take back" in member.refuse("rollbackconfig", "--last", "1")
    outcome = member.run("rollbackconfig", "mx1.example.com#3").expect(0)
    assert "not taken back" in outcome.err
    assert "nothing to change" in outcome.err


def test_a_secret_is_taken_back(member: Store) -> None:
    """Its value of before is there again; neither is shown."""
    for value in ("one", "two"):
        member.do("set", "s", "--secret", "--password-stdin", "-m", "why", typed=value)
    outcome = member.run("rollbackconfig", "--last", "1", "--dry-run").expect(0)
    assert "one" not in outcome.out
    assert "(secret)" in outcome.out
    member.do("rollbackconfig", "--last", "1")
    assert member.get("s") == "one"


# --- clustercheck --resolve ------------------------------------------------------------------------------


def conflict(store: Store) -> dict[str, Any]:
    """Return the conflict of a store that has one."""
    (found,) = json.loads(store.run("clustercheck", "--json").expect(3).out)["conflicts"]
    return dict(found)


def test_a_conflict_is_settled_by_naming_an_event(mx1: Store) -> None:
    """What is to count, and what stood when that was chosen, is what is asked for."""
    found = conflict(mx1)
    loser = found["lanes"][1]
    assert found["since"] >= loser["time"]
    assert f"conflict: cluster:smtp.banner, since {found['since']}" in mx1.run("clustercheck").expect(3).out
    command = settled_here(mx1, f"{found['path']}={loser['event'][:10]}")
    assert command == {"path": "setting/cluster/smtp.banner", "event": loser["event"], "lanes": 2}


def settled_here(store: Store, text: str) -> dict[str, Any]:
    """Return what would be settled; the store has no keys to write with."""
    path, _, event = text.rpartition("=")
    with StoreReader(store.root / "cluster.db") as reader, reader.snapshot():
        chosen = [(path, reader.event(event).id)]
        command = resolve(chosen, inbox_of(reader), reader.cluster(), reader, b"0" * 16)
    (one,) = command.settlements
    return {"path": one.path, "event": one.event, "lanes": len(one.standing)}


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("cluster:smtp.banner", "is not PATH=EVENT"),
        ("=mx1#3", "is not PATH=EVENT"),
        ("cluster:smtp.banner=mx1#1", "is none of those at cluster:smtp.banner"),
        ("cluster:smtp.port=mx1#1", "nothing is open at cluster:smtp.port"),
        ("cluster:smtp.banner=mx1#999", "no event"),
    ],
)
def test_what_settles_nothing_is_refused(mx1: Store, text: str, refusal: str) -> None:
    """A path where nothing is open, an event that is not one of its values, or neither."""
    assert refusal in mx1.refuse("clustercheck", "--resolve", text)


def test_each_is_named_once(mx1: Store) -> None:
    """One conflict cannot be settled in two ways by one event."""
    one, two = (lane["event"] for lane in conflict(mx1)["lanes"])
    words = ("--resolve", f"cluster:smtp.banner={one}", "--resolve", f"cluster:smtp.banner={two}")
    assert "named twice" in mx1.refuse("clustercheck", *words)


def test_a_quiet_pair_has_nothing_open(tmp_path: Path) -> None:
    """Where everybody knew of everything, an override that is older than the cluster's value hides it on purpose."""
    asyncio.run(stored_pair(tmp_path))
    assert Replica(tmp_path / "mx1").ask("clustercheck") == {
        "conflicts": [],
        "problems": [],
        "pending": [],
        "removed": [],
    }


def test_the_prompt_counts_what_is_open(mx1: Store) -> None:
    """Whoever works at a prompt sees that something waits for somebody."""
    with StoreReader(mx1.root / "cluster.db") as reader:
        cluster, me = reader.cluster(), reader.me
    assert shell.prompt_of(cluster, me, None) == "(Cluster ships)> "
    inbox = shell.Inbox()
    for _ in range(2):
        told = inbox.told(Session(str(mx1.root)))
        assert shell.prompt_of(cluster, me, None, told) == "(Cluster ships, 1 conflict)> "
