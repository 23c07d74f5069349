"""``log``, ``explain``, ``replay``, ``verify`` and ``clustercheck``, as an operator runs them."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster_store import bootstrap
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.core.digest import digest, lanes_digest
from tests.cli.stores import Store
from tests.collisions import stored_collision


@pytest.fixture(scope="module")
def _stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collision")
    asyncio.run(stored_collision(folder))
    return folder


class Replica(Store):
    """The store of a machine that never had an SSH key, so that ``status`` has no fingerprint to show."""

    def state(self) -> tuple[int, str, str]:
        """Return how much the store holds and what."""
        with StoreReader(self.root / "cluster.db") as reader:
            return reader.count, digest(reader.cluster(), reader), lanes_digest(reader)


@pytest.fixture
def mx1(_stores: Path) -> Store:
    """The store of a machine that was cut off from another one, which nothing may write to."""
    return Replica(_stores / "mx1")


@pytest.fixture
def mx2(_stores: Path) -> Store:
    """The store of the other one."""
    return Replica(_stores / "mx2")


def events(store: Store, *words: str) -> list[dict[str, Any]]:
    """Return what ``log`` prints for scripts."""
    return [json.loads(line) for line in store.do("log", "--json", *words).splitlines()]


def keys(found: list[dict[str, Any]]) -> list[str]:
    """Return the keys that events wrote, each event's first."""
    return [one["writes"][0].get("key", one["writes"][0]["path"]) for one in found]


# --- log -----------------------------------------------------------------------------------------------


def test_the_log_has_every_event_in_order(mx1: Store, mx2: Store) -> None:
    """Both machines have the same events, each in an order in which they could have happened."""
    logs = [events(store) for store in (mx1, mx2)]
    assert {one["id"] for one in logs[0]} == {one["id"] for one in logs[1]}
    for log in logs:
        known: set[str] = set()
        for one in log:
            assert {one["prev"], *one["after"]} - {None} <= known
            known.add(one["id"])
    assert logs[0][0]["kind"] == "MachineInitialised"
    assert logs[0][-1]["writes"][0]["value"] == "192.0.2.53"


def test_a_line_for_people_says_who_what_where_when_and_why(mx2: Store) -> None:
    """One line has the id, the local time, machine and number, user, kind, what was written, and the comment."""
    line = next(line for line in mx2.do("log").splitlines() if "our own" in line)
    pattern = r'[0-9a-f]{10}  2023-11-1[45] \d\d:\d\d:\d\d  mx2#\d+  os:root  ElementsAdded: added "192.0.2.2" to relay'
    assert re.match(pattern, line)
    assert line.endswith(" at cluster  (our own)")


def test_the_log_shows_no_secret(mx1: Store) -> None:
    """A secret is redacted, for people and for scripts."""
    assert "set password = (secret) at cluster" in mx1.do("log")
    assert [one["writes"][0]["value"] for one in events(mx1, "--key", "password")] == ["(secret)"]
    assert "s3cret" not in mx1.do("log") + mx1.do("log", "--json")


def test_the_log_is_filtered(mx1: Store) -> None:
    """Filters by key, machine and user hold together; the last few are the newest, oldest first."""
    assert keys(events(mx1, "--key", "smtp.")) == ["smtp.banner"] * 4
    assert {one["machine"] for one in events(mx1, "--machine", "MX2")} == {"mx2"}
    assert len(events(mx1, "--machine", "mx2")) + len(events(mx1, "--machine", "mx1")) == len(events(mx1))
    assert keys(events(mx1, "--key", "smtp.", "--machine", "mx2")) == ["smtp.banner"]
    assert events(mx1, "--user", "nobody") == []
    assert events(mx1, "-n", "3") == events(mx1)[-3:]
    assert events(mx1, "-n", "2", "--key", "smtp.") == events(mx1, "--key", "smtp.")[-2:]
    assert events(mx1, "-n", "0") == []


def test_the_log_between_two_moments(mx1: Store) -> None:
    """An event bounds the log by what it had seen, a time by the clocks of the authors."""
    log = events(mx1)
    two = next(one for one in log if one["machine"] == "mx2" and one["writes"][0].get("key") == "smtp.banner")
    until = {one["id"] for one in events(mx1, "--until", two["id"])}
    since = {one["id"] for one in events(mx1, "--since", two["id"][:8])}
    assert until | since == {one["id"] for one in log}
    assert until & since == {two["id"]}
    one_side = [one["id"] for one in log if one["writes"][0].get("value") == "one"]
    assert set(one_side) <= since, "what was written on the other side of the cut had not been seen"
    assert events(mx1, "--until", f"mx2#{two['seq']}") == events(mx1, "--until", two["id"])
    assert events(mx1, "--until", two["time"]) == [one for one in log if one["time"] <= two["time"]]
    assert events(mx1, "--since", two["time"]) == [one for one in log if one["time"] >= two["time"]]
    assert events(mx1, "--until", "2020-01-01") == []


@pytest.mark.parametrize(
    ("when", "refusal"),
    [("yesterday-ish", "neither a time nor an event"), ("mx1#999", "no event"), ("zz", "no event"), ("mx9#1", "mx9")],
)
def test_a_moment_that_is_none_is_refused(mx1: Store, when: str, refusal: str) -> None:
    """WHEN is an event or an ISO 8601 time; anything else is refused by name."""
    for option in ("--since", "--until"):
        assert refusal in mx1.refuse("log", option, when)


def test_a_machine_that_never_was_is_refused(mx1: Store) -> None:
    """A filter on a machine that is not known shows which are."""
    assert "mx1, mx2" in mx1.refuse("log", "--machine", "mx3")


def test_verify_compares_with_what_peers_told(mx1: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer with more of this machine's own feed is a finding; one with more of another's is told, and is none."""
    first, *_, last = (one for one in events(mx1) if one["machine"] == "mx1")
    peer = next(one["machine_id"] for one in events(mx1) if one["machine"] == "mx2")
    heard = {peer: {"own": {last["epoch"]: last["seq"]}, "behind": 3}}
    monkeypatch.setattr(bootstrap, "ask_daemon", lambda *_: {"heard": heard})
    fine = mx1.run("verify").expect(0)
    assert "compared with 1 peer" in fine.out
    assert fine.err == "mx2 has 3 records more, which a link will bring: that is no fault\n"
    heard[peer]["own"] = {first["epoch"]: last["seq"] + 2}
    lost = mx1.run("verify").expect(3)
    assert f"mx2 has #{last['seq'] + 1} to #{last['seq'] + 2} of this machine's own feed" in lost.out
    assert "but not that all are there" in lost.out


def test_a_user_who_changed_nothing_is_told_of(mx1: Store) -> None:
    """Where nobody changed anything under a name, it is said who did: a user of the system begins with ``os:``."""
    outcome = mx1.run("log", "--user", "root\x1b[2J").expect(0)
    assert outcome.out == ""
    assert outcome.err == "no change is by root\\x1b[2J; there are changes by os:root\n"
    assert mx1.run("log", "--user", "os:root", "--machine", "mx2", "-n", "0").expect(0).err == ""


def test_what_is_quoted_in_a_refusal_is_safe_on_a_terminal(mx1: Store) -> None:
    """Signs that steer a terminal stand escaped, whoever gave them."""
    assert r"\x1b[2J" in mx1.refuse("log", "--machine", "\x1b[2J")


def test_the_graph_shows_what_was_made_side_by_side(mx1: Store) -> None:
    """Both sides of the cut fork below what both had seen, stand in columns of their own, and meet again."""
    lines = mx1.do("log", "--graph").splitlines()
    marks = [line for line in lines if "*" in line.split("  ")[0]]
    assert len(marks) == len(events(mx1))
    assert "|\\" in lines
    assert "|/" in lines
    begun, ended = lines.index("|\\"), lines.index("|/")
    sides = {"* |": " mx1#", "| *": " mx2#"}
    assert all(sides[line[:3]] in line for line in lines[begun + 1 : ended])
    assert ended - begun == 5, "two changes of each side"
    assert "password" in lines[begun - 1], "the last one that both had seen"
    assert "mx2#" in lines[ended + 1] or "mx1#" in lines[ended + 1]
    assert len([line for line in mx1.do("log", "--graph", "-n", "2").splitlines() if "#" in line]) == 2
    assert mx1.do("log", "--graph", "-n", "0") == ""
    mx1.run("log", "--graph", "--json").expect(2)


def test_following_goes_on_with_what_comes(member: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--follow`` prints what is there, then each change as it is made, until it is interrupted."""
    changes = iter(("1", "2"))

    def change(_: float) -> None:
        value = next(changes, None)
        if value is None:
            raise KeyboardInterrupt
        member.do("set", "a", value, "-m", f"number {value}")

    monkeypatch.setattr(time, "sleep", change)
    outcome = member.run("log", "--follow", "--key", "a", "-n", "1").expect(130)
    assert [line.rpartition("  ")[2] for line in outcome.out.splitlines()] == ["(number 1)", "(number 2)"]


# --- explain -------------------------------------------------------------------------------------------


def test_explain_tells_where_a_value_comes_from(mx1: Store) -> None:
    """Level, writer, time, comment and event, what it overrides, and what that one beat."""
    told = mx1.ask("explain", "smtp.banner")
    assert (told["value"], told["level"], told["machine"]) == ("on mx1", "machine:mx1", "mx1")
    (other,) = told["overrides"]
    assert (other["value"], other["beat"][0]["value"], other["beat"][0]["why"]) == (
        "two",
        "one",
        "it was written later",
    )
    words = mx1.do("explain", "smtp.banner").splitlines()
    assert words[0] == 'smtp.banner = "on mx1" on mx1, from machine:mx1'
    assert words[1].startswith("  written by os:root on mx1#")
    assert words[2].startswith('  overrides a newer value at cluster: "two", by os:root on mx2#')
    assert told["overrides"][0]["newer"] is True
    assert words[3].startswith('    beat "one", by os:root on mx1#')


def test_explain_looks_at_another_machine(mx1: Store) -> None:
    """What is effective on another machine is explained here."""
    told = mx1.ask("explain", "smtp.banner", "--machine", "mx2")
    assert (told["value"], told["level"], told["machine"]) == ("two", "cluster", "mx2")


def test_explain_tells_a_set_by_its_elements(mx1: Store) -> None:
    """Each element has its own writer and comment."""
    words = mx1.do("explain", "relay")
    assert 'relay = ["192.0.2.1","192.0.2.2"] on mx1, a set' in words
    assert '"192.0.2.2" is in it, from cluster' in words
    assert "'our own'" in words


def test_explain_keeps_secrets(mx1: Store) -> None:
    """The writer of a secret is told, its value not."""
    assert "password = (secret) on mx1" in mx1.do("explain", "password")


def test_explain_of_what_was_unset_or_never_set(member: Store) -> None:
    """A key that was unset tells by whom; one that was never set is refused."""
    member.do("set", "a", "1", "-m", "why")
    member.do("unset", "a", "-m", "why")
    words = member.do("explain", "a").splitlines()
    assert words[0] == "a unset on mx1.example.com"
    assert words[1].startswith("  unset at cluster by os:")
    assert member.ask("explain", "a")["level"] is None
    assert "was never set" in member.refuse("explain", "b")
    assert "empty part" in member.refuse("explain", "a..b")


# --- replay --------------------------------------------------------------------------------------------


def test_replay_ends_with_the_live_digest(mx1: Store) -> None:
    """Every record is told once, in order, and the state that they come to is the store's."""
    records, view, lanes = mx1.state()
    words = mx1.do("replay").splitlines()
    assert len(words) == records + 2
    assert words[0].split()[0] == f"1/{records}"
    assert words[-2] == f"{records} records, digest {view}"
    told = mx1.ask("replay")
    assert (told["digest"], told["lanes_digest"]) == (view, lanes)
    assert (told["complete"], told["agrees"], told["documents"]) == (True, True, [])


def test_replay_of_a_part_is_what_was_then(mx1: Store, mx2: Store) -> None:
    """Up to a moment both machines replay to one digest, and it is another one than today's."""
    moment = events(mx1, "--key", "relay")[0]["id"]
    here, there = (store.ask("replay", "--until", moment) for store in (mx1, mx2))
    assert here == there
    assert (here["complete"], here["agrees"], here["live_digest"]) == (False, True, None)
    assert here["records"] == len(events(mx1, "--until", moment))
    assert here["digest"] != mx1.state()[1]
    words = mx1.do("replay", "--until", moment, "--from", moment).splitlines()
    assert len(words) == 3
    assert words[2] == "the documents and the envelopes alone come to the same"
    assert moment[:10] in words[0]


def test_replay_keeps_the_pace_that_it_is_given(mx1: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The events come as far apart as they were made, divided by the speed."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    log = events(mx1)
    mx1.do("replay", "--speed", "1000")
    times = sorted(re.findall(r"\d\d:\d\d:(\d\d)", " ".join(one["time"] for one in log)))
    assert times
    assert all(wait == pytest.approx(0.001) or wait < 0.02 for wait in waits)
    assert sum(waits) > 0.005
    assert "no speed" in mx1.refuse("replay", "--speed", "0")


def tamper(store: Store, *statements: str) -> None:
    """Change a store's database behind its back."""
    with closing(sqlite3.connect(store.root / "cluster.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_replay_notices_a_changed_table(member: Store) -> None:
    """Where the store says otherwise than its records, replay shows both digests and ends with status 3."""
    member.do("set", "a", "1", "-m", "why")
    tamper(member, "UPDATE lanes SET value = '2' WHERE path = 'setting/cluster/a'")
    outcome = member.run("replay").expect(3)
    assert "the store says otherwise" in outcome.err
    told = json.loads(member.run("replay", "--json").expect(3).out)
    assert (told["agrees"], told["live_digest"] == told["digest"]) == (False, False)


def test_replay_refuses_a_damaged_record(member: Store) -> None:
    """A record that is not what was written ends the replay by name."""
    tamper(
        member,
        "DROP TRIGGER records_are_not_changed",
        "UPDATE records SET envelope = replace(envelope, 'paris', 'lyons') WHERE position = 3",
    )
    assert "at position 3" in member.run("replay").expect(1).err


# --- verify --------------------------------------------------------------------------------------------


def test_verify_passes(mx1: Store) -> None:
    """A store that is as it was written passes, by each feed's last seal or by all of them."""
    assert mx1.do("verify").startswith(f"all is as it was written: {mx1.state()[0]} records")
    told = mx1.ask("verify", "--every-signature")
    assert (told["passed"], told["findings"], told["first_bad"]) == (True, [], None)
    assert told["signatures"] > mx1.ask("verify")["signatures"] == 2


def test_verify_names_the_first_bad_record(member: Store) -> None:
    """A changed record is named by position, machine and number, with what is still trustworthy; status 3."""
    member.do("set", "a", "1", "-m", "why")
    tamper(
        member,
        "DROP TRIGGER records_are_not_changed",
        "UPDATE records SET envelope = CAST(replace(CAST(envelope AS TEXT), 'paris', 'lyons') AS BLOB) "
        "WHERE position = 3",
    )
    told = json.loads(member.run("verify", "--json").expect(3).out)
    first = told["first_bad"]
    assert (first["position"], first["machine"], first["seq"]) == (3, "mx1.example.com", 3)
    assert told["trustworthy"] == "the records up to position 2, and each of 1 of the 2 behind them by itself"
    words = member.run("verify").expect(3).out
    assert "record: mx1.example.com#3" in words
    assert "the first bad record is mx1.example.com#3" in words


def test_verify_looks_into_a_store_that_nothing_else_opens(member: Store) -> None:
    """A cut tail is found, and what is left is told, though every other command refuses the store."""
    tamper(
        member,
        "DROP TRIGGER records_are_not_deleted",
        "DELETE FROM records WHERE position = (SELECT max(position) FROM records)",
    )
    member.run("log").expect(1)
    outcome = member.run("verify").expect(3)
    assert "its tail was cut off" in outcome.out


def test_verify_of_no_store_is_refused(tmp_path: Path) -> None:
    """Where there is no store, verify says how to make one."""
    assert "init" in Store(tmp_path / "nowhere").refuse("verify")


# --- clustercheck --------------------------------------------------------------------------------------


def test_clustercheck_shows_both_values(mx1: Store, mx2: Store) -> None:
    """A collision is shown with both values, their writers and which one counts, alike on both machines; status 3."""
    told = json.loads(mx1.run("clustercheck", "--json").expect(3).out)
    (conflict,) = told["conflicts"]
    assert (conflict["path"], conflict["kind"], told["problems"]) == ("cluster:smtp.banner", "setting", [])
    assert [(lane["value"], lane["machine"]) for lane in conflict["lanes"]] == [("two", "mx2"), ("one", "mx1")]
    assert conflict["winner"] == conflict["lanes"][0]["event"]
    assert {"machine", "user", "time", "value", "event"} <= conflict["lanes"][0].keys()
    there = json.loads(mx2.run("clustercheck", "--json").expect(3).out)
    assert [lane["event"] for lane in there["conflicts"][0]["lanes"]] == [lane["event"] for lane in conflict["lanes"]]
    words = mx1.run("clustercheck").expect(3).out.splitlines()
    assert words[0].startswith("conflict: cluster:smtp.banner, since 20")
    assert words[1].startswith('  * "two"  by os:root on mx2#')
    assert words[2].startswith('    "one"  by os:root on mx1#')


def test_clustercheck_of_a_quiet_cluster(member: Store) -> None:
    """Where nothing collided, nothing is found and the status says so."""
    assert member.do("clustercheck") == "no conflicts and no problems\n"
    assert member.ask("clustercheck") == {"conflicts": [], "problems": [], "pending": [], "removed": []}
