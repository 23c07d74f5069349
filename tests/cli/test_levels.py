"""``clusterset``, ``clustershow`` and ``clustermode``: what each level keeps, and which one commands are about."""

from __future__ import annotations

import msgspec
import pytest
from cluster_store_cli import modes, prompts, shell
from cluster_store_cli.session import Session

from cluster_store.core.registers import CLUSTER, group_level, machine_level
from cluster_store.core.types import GroupId, RecordId
from tests.cli.stores import Store

MX1 = "mx1.example.com"
HERE = f"machine:{MX1}"


def kept(store: Store, *words: str) -> list[tuple[str, str, object]]:
    """Return key, level and value of all that is kept."""
    return [(row["key"], row["level"], row["value"]) for row in store.ask("clustershow", *words)]


def test_settings_are_copied_moved_and_deleted(member: Store) -> None:
    """Each as one event; a copy leaves its source as it is, a move blanks it."""
    member.do("set", "smtp.banner", "hi", "-m", "why")
    member.do("set", "smtp.port", "25", "-m", "why")
    member.do("add", "smtp.relays", "a", "b", "-m", "why")
    told = member.ask("clusterset", "copy", "smtp.", "--to", "group:paris", "-m", "why")
    assert told["keys"] == ["smtp.banner", "smtp.port", "smtp.relays"]
    assert (told["from"], told["to"], told["changed"]) == ("cluster", "group:paris", True)
    assert member.ask("clusterset", "copy", "smtp.port", "--to", "group:paris", "-m", "why")["changed"] is False
    member.do("clusterset", "move", "smtp.port", "smtp.relays", "--from", "cluster", "--to", HERE, "-m", "only here")
    assert kept(member, "smtp.p") == [("smtp.port", "group:paris", 25), ("smtp.port", HERE, 25)]
    member.do("clusterset", "delete", "smtp.", "--from", "group:paris", "-m", "why")
    assert kept(member) == [
        ("smtp.banner", "cluster", "hi"),
        ("smtp.port", HERE, 25),
        ("smtp.relays", HERE, ["a", "b"]),
    ]
    kinds = [member.run("log", "--json", "-n", "1").out]
    assert '"kind":"SettingsDeleted"' in kinds[0]


def test_a_secret_stays_one_and_is_never_shown(member: Store) -> None:
    """Copied, moved, listed or rehearsed."""
    member.do("set", "relay.password", "--secret", "--password-stdin", "-m", "why", typed="hush-hush")
    member.do("clusterset", "copy", "relay.password", "--to", "group:paris", "-m", "why")
    outcomes = [
        member.run("clustershow", "--json"),
        member.run("clustershow"),
        member.run("clusterset", "move", "relay.password", "--to", HERE, "--dry-run"),
        member.run("clusterset", "delete", "relay.password", "--from", "cluster", "--dry-run", "--json"),
    ]
    assert not any("hush-hush" in outcome.expect(0).out + outcome.err for outcome in outcomes)
    assert "(secret)" in outcomes[1].out
    assert '"old":"(secret)","new":null' in outcomes[3].out
    assert kept(member, "relay") == [
        ("relay.password", "cluster", "(secret)"),
        ("relay.password", "group:paris", "(secret)"),
    ]


def test_whose_values_change_is_told(member: Store) -> None:
    """Key by key with --dry-run, which changes nothing; in short when it is done."""
    member.do("set", "a", "1", "-m", "why")
    before = member.state()
    words = ["clusterset", "move", "a", "--to", "group:paris", "-m", "why"]
    told = member.ask(*words, "--dry-run")
    assert told["impact"] == [
        {"machines": [MX1], "changes": [{"key": "a", "old": 1, "new": None, "level": None, "unset": True}]}
    ]
    outcome = member.run(*words, "--dry-run").expect(0)
    assert outcome.err == "a would be moved from cluster to group:paris; nothing was changed\n"
    assert outcome.out.splitlines()[0] == f"{MX1}:"
    assert member.state() == before
    assert f"effective values change on {MX1}: a\n" in member.run(*words).expect(0).err
    member.do("clusterset", "move", "a", "--from", "group:paris", "--to", "cluster", "-m", "why")
    copied = member.run("clusterset", "copy", "a", "--to", HERE, "-m", "why").expect(0).err
    assert "effective values" not in copied


def test_what_cannot_be_is_refused(member: Store) -> None:
    """And changes nothing."""
    member.do("set", "a", "1", "-m", "why")
    assert "b is not set at cluster" in member.refuse("clusterset", "copy", "a", "b", "--to", "group:paris")
    assert "name two levels" in member.refuse("clusterset", "move", "a")
    assert "there is no group named 'rome'" in member.refuse("clusterset", "move", "a", "--to", "group:rome")
    assert "nothing under x. is set at group:paris" in member.refuse(
        "clusterset", "delete", "x.", "--from", "group:paris"
    )
    assert member.run("clusterset", "move", "--to", "group:paris", "-m", "why").status == 2
    assert member.run("clusterset").status == 2


def test_a_move_that_changes_values_is_asked_about_at_a_terminal(
    member: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that changes none is not; --yes asks nothing."""
    answers = ["no", "yes"]
    monkeypatch.setattr(prompts, "at_terminal", lambda: True)
    monkeypatch.setattr(prompts, "ask", lambda _: answers.pop(0))
    member.do("set", "a", "1", "-m", "why")
    move = ["clusterset", "move", "a", "--to", "group:paris", "-m", "why"]
    assert "it was not confirmed" in member.run(*move).expect(1).err
    member.do(*move)
    member.do("clusterset", "delete", "a", "--from", "group:paris", "-m", "why")
    member.do("set", "a", "1", "-m", "why")
    member.do("clusterset", "delete", "a", "--yes", "-m", "why")
    assert answers == []


# --- clustershow ----------------------------------------------------------------------------------------------


def test_clustershow_has_the_contract_s_members(member: Store) -> None:
    """Every level that keeps a key, where that counts, and what overrides it."""
    member.do("set", "a", "1", "-m", "why")
    member.do("set", "a", "2", "--level", "group:paris", "-m", "why")
    member.do("set", "a", "3", "--level", HERE, "-m", "why")
    assert member.ask("clustershow") == [
        {"key": "a", "level": "cluster", "value": 1, "effective_on": [], "overridden_by": [HERE]},
        {"key": "a", "level": "group:paris", "value": 2, "effective_on": [], "overridden_by": []},
        {"key": "a", "level": HERE, "value": 3, "effective_on": [MX1], "overridden_by": []},
    ]
    assert [row["level"] for row in member.ask("clustershow", "a", "--machine", "MX1.example.com")] == ["cluster", HERE]
    shown = member.do("clustershow").splitlines()
    assert shown[0].split() == ["key", "level", "value", "effective", "on", "overridden", "by"]
    assert shown[2].split() == ["a", "cluster", "1", "none", HERE]


def test_clustershow_of_nothing(member: Store) -> None:
    """An empty list; people are told in words."""
    assert member.ask("clustershow", "x") == []
    outcome = member.run("clustershow", "x").expect(0)
    assert (outcome.out, outcome.err) == ("", "nothing is set\n")
    assert "there is no machine named 'mx9'" in member.refuse("clustershow", "--machine", "mx9")


def test_a_machine_that_stands_alone_has_one_level(store: Store) -> None:
    """Its own."""
    store.do("set", "a", "1", "-m", "why")
    assert kept(store) == [("a", HERE, 1)]


# --- clustermode ------------------------------------------------------------------------------------------------


def test_a_chosen_mode_is_remembered_for_the_next_shell(member: Store) -> None:
    """Through a change of the group's name; after its deletion nothing goes to the cluster in its place."""
    assert member.ask("clustermode") == {"mode": "cluster"}
    outcome = member.run("clustermode", "GROUP:PARIS").expect(0)
    assert outcome.out == "group:paris\n"
    assert "on this machine begin in this mode until 'clustermode' changes it" in outcome.err
    member.do("clusterconfig", "renamegroup", "paris", "rome")
    assert member.ask("clustermode") == {"mode": "group:rome"}
    begun = member.run("shell", typed="clustermode\n").expect(0)
    assert begun.out == "group:rome\n"
    assert begun.err.startswith("this shell begins in the mode of the group rome, which 'clustermode' chose for ")
    member.do("clusterconfig", "deletegroup", "rome")
    assert "the group rome, which this session was about, is gone" in member.refuse("clustermode")
    assert "the group rome, which this" in member.run("shell", typed="set a 1 -m why\n").expect(1).err
    member.do("clustermode", "cluster")
    assert member.run("shell", typed="clustermode\n").expect(0).err == ""
    assert (member.root / "modes.json").stat().st_mode & 0o777 == 0o600


def test_a_mode_changes_nothing_for_single_commands(member: Store) -> None:
    """Without --level they are about the cluster."""
    member.do("clustermode", HERE)
    member.do("set", "a", "1", "-m", "why")
    assert kept(member) == [("a", "cluster", 1)]


GONE = "the group paris, which this session was about, is gone\nchoose one with 'clustermode'; nothing was done\n"


@pytest.mark.parametrize(
    "line", ["set a 1 -m why", "set a 1", "unset b -m why", "add c 1 -m why", "clusterset copy b -m why", "clustermode"]
)
def test_what_is_about_a_mode_that_is_gone_is_refused(member: Store, line: str) -> None:
    """Somebody deleted the group, and made another one of its name: neither that one nor the cluster is meant."""
    member.do("set", "b", "1", "-m", "why")
    gone = "clustermode group:paris\nclusterconfig renamegroup paris old\nclusterconfig addgroup paris\n"
    gone += "clusterconfig deletegroup old\nclusterconfig renamegroup paris new\nset own 1 --level cluster -m why\n"
    outcome = member.run("shell", typed=f"{gone}{line}\n").expect(1)
    assert outcome.err.endswith(GONE.replace("paris", "old"))
    assert kept(member) == [("b", "cluster", 1), ("own", "cluster", 1)]
    assert "nothing is staged" in member.do("diff")


def test_a_mode_follows_its_owner_s_name(member: Store) -> None:
    """That of a group, and of this machine; another group of the old name is not meant."""
    renamed = "clustermode group:paris\nclusterconfig renamegroup paris rome\nclusterconfig addgroup paris\n"
    member.do("shell", typed=f"{renamed}set a 1 -m why\nset staged 1\ncommit\n")
    member.do("shell", typed=f"clustermode {HERE}\nmachine set --hostname mx9.example.com\nset b 1 -m why\n")
    assert kept(member) == [
        ("a", "group:rome", 1),
        ("b", "machine:mx9.example.com", 1),
        ("staged", "group:rome", 1),
    ]


def test_a_mode_chosen_in_a_shell_is_that_shell_s(member: Store) -> None:
    """The next one begins at the cluster again."""
    assert member.do("shell", typed="clustermode group:paris\nclustermode\n") == "group:paris\n" * 2
    assert member.do("shell", typed="clustermode\n") == "cluster\n"
    assert not (member.root / "modes.json").exists()


def test_the_prompt_says_that_its_mode_is_gone(member: Store) -> None:
    """And names what it was; a detached machine is named once."""
    with Session(str(member.root)).read() as reader:
        cluster, me = reader.cluster(), reader.me
    assert shell.prompt_of(cluster, me, group_level(GroupId("rome"))) == "(Group rome, gone)> "
    alone = msgspec.structs.replace(cluster, name="")
    assert shell.prompt_of(alone, me, CLUSTER) == "(Cluster, gone)> "
    detached = {me: msgspec.structs.replace(cluster.machines[me], detached=RecordId("r"))}
    away = msgspec.structs.replace(cluster, machines=detached)
    assert shell.prompt_of(away, me, machine_level(me)) == f"(Machine {MX1}, detached)> "
    assert shell.prompt_of(away, me, CLUSTER) == f"(Cluster americas, {MX1} is detached)> "


def test_a_mode_that_cannot_be_is_refused(member: Store, store: Store) -> None:
    """Nobody's level, or none at all."""
    assert "there is no group named 'rome'" in member.refuse("clustermode", "group:rome")
    assert "'paris' is no level" in member.refuse("clustermode", "paris")
    member.do("clusterconfig", "deletegroup", "paris")
    assert "nobody is at group:paris any more" in member.refuse("clustermode", "group:paris")


def test_a_file_that_is_none_of_ours_is_no_mode(member: Store) -> None:
    """It says nothing that matters."""
    file = member.root / "modes.json"
    for text in ("", "[1]", '{"os:root": 7}', "[" * 10_000, '{"os:root": "no/such/level"}'):
        file.write_text(text)
        assert member.ask("clustermode") == {"mode": "cluster"}
    member.do("clustermode", "group:paris")
    assert member.ask("clustermode") == {"mode": "group:paris"}
    assert modes.place_of("nothing of ours") is modes.Place.ANYWHERE
