"""``clusterconfig removemachine`` on a machine that nobody is linked to: what is asked, what is said, what stays."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from cluster_store_cli import prompts

from cluster_store.adapters.clock import now
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.core.commands import AddUser, AdmitMachine, Card, Command, RemoveMachines
from cluster_store.core.records import machine_id
from cluster_store.node import open_node
from tests.cli.stores import Store
from tests.cli.test_history_commands import Replica
from tests.collisions import in_folder
from tests.replicas import Fleet

SECRET = "sesame, open"


def behind_the_program(store: Store, command: Command) -> None:
    """Carry out a command in a store as a daemon does that is killed before it does anything else."""

    async def submit() -> None:
        keys = Keys.load(store.root / "keys")
        log = await SqliteLog.open(store.root / "cluster.db")
        node = await open_node(log, machine_id(keys.identity_public), keys.sign, now)
        await node.start()
        try:
            await node.submit(command, "os:root")
        finally:
            await node.close()

    asyncio.run(submit())


def admit(store: Store, hostname: str) -> None:
    """Let a machine in that is never heard of."""
    keys = Keys.generate()
    card = Card(
        key=keys.identity_public.hex(),
        hostname=hostname,
        serial=f"S-{hostname}",
        interfaces={"Management": "127.0.0.9"},
        version=store.ask("machine", "show")["platform_version"],
        ssh_port=22,
        ccs_port=2222,
        listen="",
        host_key=keys.host_key_line,
        client_key=keys.client_key_line,
    )
    behind_the_program(store, AdmitMachine(card=card, group="paris"))


@pytest.fixture
def settled(member: Store) -> Store:
    """A member with settings at each level."""
    member.do("set", "banner", "of all", "--level", "cluster", "-m", "why")
    member.do("set", "port", "25", "--level", "group:Main_Group", "-m", "why")
    member.do("set", "helo", "own", "--level", "machine:mx1.example.com", "-m", "why")
    member.do("set", "password", "--secret", "--password-stdin", "--level", "cluster", "-m", "why", typed=SECRET)
    return member


def test_the_last_machine_dissolves_the_cluster_and_goes_on(settled: Store) -> None:
    """All it inherited is its own now; what it was can still be read, and it may begin anew."""
    before = settled.ask("showconfig")
    records = settled.ask("status")["records"]
    outcome = settled.run("clusterconfig", "removemachine", "MX1.example.com", "-m", "the end", "--json").expect(0)
    assert "removed from the cluster, event" in outcome.err
    assert "stands alone now; what it was before is kept in" in outcome.err
    status = settled.ask("status")
    assert status["cluster"] is None
    assert status["removed"].startswith("this machine was removed from the cluster by os:root on mx1.example.com at 20")
    assert settled.ask("showconfig") == before
    assert settled.get("password") == SECRET
    assert "inherited from group:Main_Group before" in settled.do("explain", "port")
    settled.do("verify", "--every-signature")
    (kept,) = settled.root.glob("former-*.db")
    former = Store(settled.root.parent / "former")
    former.root.mkdir()
    shutil.copy(kept, former.root / "cluster.db")
    assert former.ask("status")["records"] == records + 1
    assert "the end" in former.do("log")
    settled.do("clusterconfig", "create", "europe")


def test_a_machine_that_leaves_unheard_says_so(settled: Store) -> None:
    """Whoever is left goes on believing that it is a member, until somebody removes it there."""
    admit(settled, "mx2.example.com")
    outcome = settled.run("clusterconfig", "removemachine", "mx1.example.com").expect(0)
    assert "not linked to this machine" not in outcome.err
    assert "no member has heard of it: remove mx1.example.com on one of mx2.example.com too" in outcome.err
    assert settled.ask("status")["cluster"] is None


def test_a_machine_that_is_away_is_told_later(settled: Store) -> None:
    """Its removal counts from now on; the store keeps who it was."""
    admit(settled, "mx2.example.com")
    settled.do("set", "port", "26", "--level", "machine:mx2.example.com", "-m", "why")
    outcome = settled.run("clusterconfig", "removemachine", "mx2.example.com").expect(0)
    assert "mx2.example.com: not linked to this machine now, and told so at the next contact" in outcome.err
    groups = settled.ask("clusterconfig", "list")["groups"]
    assert [machine["hostname"] for group in groups for machine in group["machines"]] == ["mx1.example.com"]
    assert json.loads(settled.do("log", "--json").splitlines()[-1])["kind"] == "MachinesRemoved"
    assert "there is no machine named" in settled.refuse("clusterconfig", "removemachine", "mx2.example.com")
    assert "mx2.example.com, which is no member," in settled.run("clustercheck").expect(3).out


def test_a_machine_leaves_with_the_next_command_after_it_heard(settled: Store) -> None:
    """Its daemon was killed in between: looking says so, and a change is refused once, since much has changed."""
    before = settled.ask("showconfig")
    behind_the_program(settled, RemoveMachines(machines=("mx1.example.com",)))
    assert settled.ask("status")["removed"].startswith("this machine was removed from the cluster by os:root on mx1")
    assert settled.ask("showconfig") == before
    assert settled.ask("machine", "show")["hostname"] == "mx1.example.com"
    outcome = settled.run("set", "port", "26", "-m", "why").expect(1)
    message, hint = outcome.err.splitlines()
    assert message.startswith("this machine was removed from the cluster by os:root on mx1.example.com at 20")
    assert message.endswith(": it stands alone now, with the settings that it had")
    assert "give the command again if it is still wanted; what the store was is kept in" in hint
    assert settled.ask("showconfig") == before
    settled.do("set", "port", "26", "-m", "why")
    assert settled.get("port") == 26


def test_connstatus_of_a_machine_that_has_left_shows_that_it_stands_alone(settled: Store) -> None:
    """The command that asks is the one with which it leaves."""
    behind_the_program(settled, RemoveMachines(machines=("mx1.example.com",)))
    (row,) = settled.ask("clusterconfig", "connstatus")["machines"]
    assert (row["hostname"], row["state"]) == ("mx1.example.com", "connected")
    assert settled.ask("status")["cluster"] is None


@pytest.mark.parametrize(("answer", "gone"), [("n", False), ("", False), ("yes", True)])
def test_somebody_at_a_terminal_is_asked(
    settled: Store, monkeypatch: pytest.MonkeyPatch, answer: str, *, gone: bool
) -> None:
    """What it comes to is shown before; anything but yes is no."""
    monkeypatch.setattr(prompts, "at_terminal", lambda: True)
    outcome = settled.run("clusterconfig", "removemachine", "mx1.example.com", typed=f"{answer}\n")
    assert outcome.status == (0 if gone else 1)
    assert "These are all machines of the cluster americas: it is dissolved." in outcome.err
    assert "Remove mx1.example.com for good?" in outcome.err
    assert (settled.ask("status")["cluster"] is None) is gone


def test_nobody_is_asked_with_yes(settled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """For scripts that run at a terminal."""
    monkeypatch.setattr(prompts, "at_terminal", lambda: True)
    assert "for good?" not in settled.run("clusterconfig", "removemachine", "mx1.example.com", "--yes").expect(0).err


@pytest.mark.parametrize("words", [["zoe"], ["mx1.example.com", "zoe"]])
def test_unknown_machines_are_named(settled: Store, words: list[str]) -> None:
    """Nothing is changed, also of those that were named with one."""
    assert "there is no machine named 'zoe'" in settled.refuse("clusterconfig", "removemachine", *words)


def test_a_machine_in_no_cluster_has_nothing_to_leave(store: Store, tmp_path: Path) -> None:
    """The hint says how to get into one."""
    assert "not in a cluster" in store.refuse("clusterconfig", "removemachine", "mx1.example.com")
    assert sorted(path.name for path in tmp_path.rglob("former*")) == []


def test_who_may_not_have_heard_is_told_at_once_and_until_they_have(settled: Store) -> None:
    """Right after the removal, by clustercheck, and counted by status; once it was looked into it is told no more."""
    for name in ("mx2", "mx3"):
        admit(settled, f"{name}.example.com")
    outcome = settled.run("clusterconfig", "removemachine", "mx2.example.com", "--json").expect(0)
    assert json.loads(outcome.out)["unheard"] == ["mx3.example.com"]
    assert "mx3.example.com: not linked to this machine now, and may not have heard yet; 'clustercheck'" in outcome.err
    (problem,) = json.loads(settled.run("clustercheck", "--json").expect(3).out)["problems"]
    assert (problem["kind"], problem["names"]) == ("removal not known to all", ["mx3.example.com"])
    assert problem["text"].startswith("mx3.example.com is not known to have heard that mx2.example.com was removed")
    assert settled.ask("status")["problems"] == 1
    event = problem["events"][0]
    assert (
        f"once that is seen to: clustercheck --resolve {problem['path']}={event[:10]}"
        in settled.run("clustercheck").out
    )
    settled.do("clustercheck", "--resolve", f"{problem['path']}={event}")
    assert settled.do("clustercheck") == "no conflicts and no problems\n"


def test_what_a_machine_did_since_some_event_is_listed_with_what_undoes_it(settled: Store) -> None:
    """Whoever doubts a machine, this one for example, need not have removed it."""
    settled.do("set", "port", "26", "--level", "group:Main_Group", "-m", "why")
    since = json.loads(settled.do("log", "--json", "-n", "1"))["id"]
    settled.do("userconfig", "new", "eve", "--role", "administrator", "--password-stdin", typed="long enough")
    settled.do("userconfig", "edit", "eve", "--role", "guest")
    settled.do("clusterconfig", "addgroup", "Lyon", "-m", "why")
    settled.do("clusterconfig", "prepjoin", "new", "mx9.example.com", "S9", Keys.generate().client_key_line)
    words = ("clustercheck", "--machine", "MX1.example.com", "--since", since)
    found = json.loads(settled.run(*words, "--json").expect(3).out)["problems"]
    assert {problem["kind"]: problem["commands"] for problem in found} == {
        "settings of a machine in question": [f"rollbackconfig --machine mx1.example.com --since {since[:10]}"],
        "machines announced by a machine in question": ["clusterconfig prepjoin delete mx9.example.com"],
        "users changed by a machine in question": ["userconfig delete eve"],
        "other changes by a machine in question": [f"log --machine mx1.example.com --since {since[:10]}"],
    }
    told = settled.run(*words).expect(3).out
    assert "mx1.example.com made the user eve, guest: 'userconfig delete eve'" in told
    assert "--resolve" not in told
    for problem in found:
        settled.do(*problem["commands"][0].split())
    assert settled.get("port") == 25
    left = json.loads(settled.run(*words, "--json").expect(3).out)["problems"]
    assert [problem["kind"] for problem in left] == ["other changes by a machine in question"]
    settled.run("clustercheck", "--machine", "mx1.example.com").expect(2)
    assert "there is no machine named" in settled.refuse("clustercheck", "--machine", "mx8", "--since", since)


async def stolen(folder: Path) -> None:
    """Leave the store of a machine that removed another, and heard later what that one did."""
    fleet = Fleet(in_folder(folder))
    anna, cleo, dora = await fleet.fleet_of("anna", "cleo", "dora")
    await anna.set("port", "25")
    await fleet.pump()
    for one, other in ((anna, dora), (anna, cleo), (cleo, dora)):
        await fleet.cut(one, other)
    await anna.command(RemoveMachines(machines=("dora",)))
    await dora.set("port", "666")
    await dora.command(AddUser(name="eve", role="administrator", password="$argon2id$1", salt=fleet.fresh(16)))
    await fleet.connect(dora, cleo)
    await fleet.pump()
    await fleet.connect(cleo, anna)
    await fleet.pump()
    await fleet.close()


def test_what_a_removed_machine_did_is_listed_with_the_command_that_takes_it_back(tmp_path: Path) -> None:
    """The machine is named as it was called, or by its id; the event is the removal."""
    asyncio.run(stolen(tmp_path))
    store = Replica(tmp_path / "anna")
    found = json.loads(store.run("clustercheck", "--json").expect(3).out)["problems"]
    removal = json.loads(store.do("log", "--json", "--machine", "anna", "-n", "1"))["id"]
    commands = {problem["kind"]: problem["commands"] for problem in found}
    assert commands == {
        "removal not known to all": [],
        "settings of a removed machine": [f"rollbackconfig --machine dora --since {removal[:10]}"],
        "users changed by a removed machine": ["userconfig delete eve"],
    }
    outcome = store.run("clustercheck").expect(3)
    told = outcome.out
    # What was known where it was removed is looked into for some time only, and that was years ago.
    assert outcome.err == ""
    assert "dora, unknown to whoever removed it, wrote 1 setting, cluster:port for one: 'rollbackconfig" in told
    path = next(problem["path"] for problem in found if problem["commands"])
    for named in ("dora", "DORA", path.removeprefix("machine:")):
        taken = store.ask("rollbackconfig", "--machine", named, "--since", removal[:10], "--dry-run")
        assert [(change["key"], change["now"], change["then"]) for change in taken["changes"]] == [("port", 666, 25)]
        assert [event["text"] for event in taken["left"]] == ["added the user eve, administrator"]
    both = store.ask("rollbackconfig", "--machine", "dora", "--machine", "anna", "--last", "2", "--dry-run")
    assert len(both["events"]) == 2
