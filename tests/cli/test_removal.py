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
from cluster_store.core.commands import AdmitMachine, Card, Command, RemoveMachines
from cluster_store.core.records import machine_id
from cluster_store.node import open_node
from tests.cli.stores import Store

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
    member.do("set", "banner", "of all", "--level", "cluster")
    member.do("set", "port", "25", "--level", "group:Main_Group")
    member.do("set", "helo", "own", "--level", "machine:mx1.example.com")
    member.do("set", "password", "--secret", "--password-stdin", "--level", "cluster", typed=SECRET)
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
    assert status["removed"] is None
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
    assert "no member has heard of it: remove mx1.example.com on one of mx2.example.com too" in outcome.err
    assert settled.ask("status")["cluster"] is None


def test_a_machine_that_is_away_is_told_later(settled: Store) -> None:
    """Its removal counts from now on; the store keeps who it was."""
    admit(settled, "mx2.example.com")
    settled.do("set", "port", "26", "--level", "machine:mx2.example.com")
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
    outcome = settled.run("set", "port", "26").expect(1)
    message, hint = outcome.err.splitlines()
    assert message.startswith("this machine was removed from the cluster by os:root on mx1.example.com at 20")
    assert message.endswith(": it stands alone now, with the settings that it had")
    assert "give the command again if it is still wanted; what the store was is kept in" in hint
    assert settled.ask("showconfig") == before
    settled.do("set", "port", "26")
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
