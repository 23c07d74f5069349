"""Whose effective values a change alters, and at which levels what is kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import commands, impact, provenance
from cluster_store.core.cluster import Cluster
from cluster_store.core.errors import Refused
from cluster_store.core.impact import Foreseen
from cluster_store.core.registers import Registers, Secret
from cluster_store.core.settings import effective_settings
from tests.core.builders import identity
from tests.core.desk import SALT, Desk, card

NAMES = ("anna", "bert", "cleo")
LEVELS = ("cluster", "group:Paris", "group:Main_Group", "machine:anna", "machine:cleo")


def founded() -> Desk:
    """Return a desk of three machines, the last of which is in Paris."""
    made = Desk("anna")
    made.do(commands.InitialiseMachine(card=card("anna"), salt=SALT))
    made.do(commands.CreateCluster(name="ships", salt=SALT))
    made.do(commands.AddGroup(name="Paris"))
    for name, group in (("bert", "Main_Group"), ("cleo", "Paris")):
        made.do(commands.AdmitMachine(card=card(name), group=group))
    return made


@pytest.fixture
def desk() -> Desk:
    """It."""
    return founded()


def told(desk: Desk, *given: commands.Command) -> list[tuple[list[str], list[tuple[Any, ...]]]]:
    """Return whose values commands would change: hostnames, and key, old, new and level for each key."""
    events = [event for command in given if (event := desk.decide(command).event) is not None]
    foreseen = Foreseen(desk.registers, events)
    shown = impact.to_json(impact.impact(foreseen), foreseen.cluster_after)
    plain = msgspec.json.decode(msgspec.json.encode(shown))
    return [
        (one["machines"], [tuple(change[name] for name in ("key", "old", "new", "level")) for change in one["changes"]])
        for one in plain
    ]


def delete(group: str) -> commands.DeleteGroup:
    """Return the command that deletes a group."""
    return commands.DeleteGroup(group=group)


def set_to(key: str, value: str, level: str) -> commands.SetSetting:
    """Return the command that sets a key."""
    return commands.SetSetting(key=key, value=value, level=level, salt=SALT)


# --- impact -----------------------------------------------------------------------------------------------


def test_machines_to_which_the_same_happens_are_told_of_together(desk: Desk) -> None:
    """A machine whose own level stands over it is not touched."""
    desk.set("a", "1")
    desk.set("a", "2", "machine:bert")
    assert told(desk, set_to("a", "3", "cluster")) == [(["anna", "cleo"], [("a", 1, 3, "cluster")])]


def test_the_same_values_from_different_levels_are_equal(desk: Desk) -> None:
    """What they are now may come from wherever."""
    desk.set("a", "1", "machine:anna")
    desk.set("a", "1", "machine:bert")
    desk.set("a", "2", "cluster")
    delete_both = [commands.DeleteSettings(keys=("a",), level=f"machine:{name}") for name in ("anna", "bert")]
    assert told(desk, *delete_both) == [(["anna", "bert"], [("a", 1, 2, "cluster")])]


def test_a_deleted_group_s_machines_inherit_from_the_one_that_takes_them(desk: Desk) -> None:
    """Key by key: what goes, what comes, what stays the same is left out."""
    for key, value, level in (
        ("only.there", "1", "group:Paris"),
        ("both", "1", "group:Paris"),
        ("both", "2", "group:Main_Group"),
        ("same", "1", "group:Paris"),
        ("same", "1", "cluster"),
        ("here", "1", "group:Main_Group"),
        ("own", "1", "group:Paris"),
        ("own", "7", "machine:cleo"),
    ):
        desk.set(key, value, level)
    assert told(desk, delete("Paris")) == [
        (
            ["cleo"],
            [("both", 1, 2, "group:Main_Group"), ("here", None, 1, "group:Main_Group"), ("only.there", 1, None, None)],
        )
    ]


def test_secrets_are_compared_and_not_shown(desk: Desk) -> None:
    """A copy under another salt is the same secret; another one is a change, told without its value."""
    desk.set("password", '"hush"', "group:Paris", secret=True)
    copy = commands.CopySettings(keys=("password",), level="group:Paris", target="machine:cleo", salt=b"x" * 16)
    assert told(desk, copy) == []
    everywhere = msgspec.structs.replace(copy, target="cluster")
    assert told(desk, everywhere) == [(["anna", "bert"], [("password", None, "(secret)", "cluster")])]


def test_a_secret_that_nobody_here_knows_is_compared_by_its_hash(desk: Desk) -> None:
    """The text never came: a new one may be the same, and is told as a change."""
    desk.registers.put("setting/cluster/password", Secret("0" * 64))
    new = commands.SetSetting(key="password", value='"x"', level="cluster", secret=True, salt=SALT)
    assert told(desk, new) == [(list(NAMES), [("password", "(secret)", "(secret)", "cluster")])]


def test_what_changes_no_value_changes_nobody(desk: Desk) -> None:
    """Names, an empty group, a value at a level that nobody inherits from."""
    desk.do(commands.AddGroup(name="Lyon"))
    assert told(desk, commands.RenameGroup(group="Paris", name="Rome")) == []
    assert told(desk, commands.DeleteGroup(group="Lyon", to="Paris")) == []
    assert told(desk, set_to("a", "1", "group:Lyon")) == []


COMMANDS = st.one_of(
    st.builds(set_to, st.sampled_from("ab"), st.sampled_from("12"), st.sampled_from(LEVELS)),
    st.builds(
        lambda element, level: commands.AddElements(key="relay", elements=(element,), level=level),
        st.sampled_from("12"),
        st.sampled_from(LEVELS),
    ),
    st.builds(
        lambda element, level: commands.RemoveElements(key="relay", elements=(element,), level=level),
        st.sampled_from("12"),
        st.sampled_from(LEVELS),
    ),
    st.builds(
        lambda keys, level, target: commands.MoveSettings(keys=(keys,), level=level, target=target, salt=SALT),
        st.sampled_from(("a", "b", "relay")),
        st.sampled_from(LEVELS),
        st.sampled_from(LEVELS),
    ),
    st.builds(
        lambda name, group: commands.MoveMachines(machines=(name,), group=group),
        st.sampled_from(NAMES),
        st.sampled_from(("Paris", "Main_Group")),
    ),
    st.sampled_from((delete("Paris"), delete("Main_Group"))),
)


def values(registers: Registers, cluster: Cluster) -> dict[str, dict[str, object]]:
    """Return every machine's effective values, the long way."""
    return {
        machine.hostname: {
            key: value.value for key, value in effective_settings(registers, cluster.levels_for(machine.id)).items()
        }
        for machine in cluster.machines.values()
    }


def perform(desk: Desk, command: commands.Command) -> None:
    """Carry out a command, or not."""
    try:
        desk.do(command)
    except Refused:
        return


@given(st.lists(COMMANDS, max_size=10), COMMANDS)
def test_it_tells_what_comes_to_pass(history: list[commands.Command], command: commands.Command) -> None:
    """Foreseen are exactly the differences between all machines' values before and after."""
    desk = founded()
    for before in history:
        perform(desk, before)
    try:
        event = desk.decide(command).event
    except Refused:
        return
    foreseen = Foreseen(desk.registers, [event] if event else [])
    found = {
        (desk.cluster.hostname(machine), change.key): (
            change.old.value if change.old else None,
            change.new.value if change.new else None,
        )
        for one in impact.impact(foreseen)
        for machine in one.machines
        for change in one.changes
    }
    now = values(desk.registers, desk.cluster)
    perform(desk, command)
    then = values(desk.registers, desk.cluster)
    assert found == {
        (name, key): (now[name].get(key), then[name].get(key))
        for name in NAMES
        for key in {**now[name], **then[name]}
        if now[name].get(key) != then[name].get(key)
    }
    assert then == values(foreseen.after, foreseen.cluster_after)


# --- provenance ---------------------------------------------------------------------------------------------


def kept(desk: Desk, prefix: str = "", machine: str = "") -> list[tuple[Any, ...]]:
    """Return what each level keeps, as scripts read it."""
    about = identity(machine).id if machine else None
    found = provenance.provenance(desk.registers, desk.cluster, prefix, about)
    shown = [provenance.to_json(one, desk.cluster) for one in found]
    return [tuple(one.values()) for one in msgspec.json.decode(msgspec.json.encode(shown))]


def test_each_level_tells_where_it_counts_and_what_stands_over_it(desk: Desk) -> None:
    """The most general one first."""
    desk.set("a", "3", "machine:cleo")
    desk.set("a", "1")
    desk.set("a", "2", "group:Paris")
    assert kept(desk) == [
        ("a", "cluster", 1, ["anna", "bert"], ["machine:cleo"]),
        ("a", "group:Paris", 2, [], ["machine:cleo"]),
        ("a", "machine:cleo", 3, ["cleo"], []),
    ]


def test_one_machine_s_view_leaves_the_others_out(desk: Desk) -> None:
    """Only the levels that it inherits from, and whether they count for it."""
    desk.set("a", "1")
    desk.set("a", "2", "group:Paris")
    desk.set("a", "3", "group:Main_Group")
    assert kept(desk, machine="cleo") == [
        ("a", "cluster", 1, [], ["group:Paris"]),
        ("a", "group:Paris", 2, ["cleo"], []),
    ]


def test_keys_are_chosen_by_how_they_begin(desk: Desk) -> None:
    """An unset key is kept nowhere."""
    desk.set("smtp.a", "1")
    desk.set("smtp.b", "1")
    desk.do(commands.UnsetSetting(key="smtp.b"))
    desk.set("dns", "1")
    assert [row[0] for row in kept(desk, "smtp.")] == ["smtp.a"]


def test_a_secret_and_a_level_without_an_owner_are_shown(desk: Desk) -> None:
    """Not the secret's value; the level under the id by which commands take it."""
    desk.set("password", '"hush"', "group:Paris", secret=True)
    desk.do(delete("Paris"))
    assert kept(desk) == [("password", "group:paris", "(secret)", [], [])]


def test_a_set_s_level_counts_where_one_of_its_elements_does(desk: Desk) -> None:
    """What a more specific level knocks out, or says too, is not from here."""
    for level, element in (("cluster", "1"), ("cluster", "2"), ("group:Paris", "3")):
        desk.do(commands.AddElements(key="relay", elements=(element,), level=level))
    desk.do(commands.RemoveElements(key="relay", elements=("1", "2"), level="group:Paris"))
    assert kept(desk) == [
        ("relay", "cluster", [1, 2], ["anna", "bert"], ["group:Paris"]),
        ("relay", "group:Paris", [3], ["cleo"], [], [1, 2]),
    ]


def test_a_machine_that_stands_alone_has_its_own_level() -> None:
    """There is no other."""
    alone = Desk("anna")
    alone.do(commands.InitialiseMachine(card=card("anna"), salt=SALT))
    alone.set("a", "1")
    assert kept(alone) == [("a", "machine:anna", 1, ["anna"], [])]


@given(st.lists(COMMANDS, max_size=12))
def test_a_plain_key_counts_where_it_is_the_effective_value(history: list[commands.Command]) -> None:
    """Asked the other way round, the same comes out: each machine's values and their levels."""
    desk = founded()
    for command in history:
        perform(desk, command)
    found = provenance.provenance(desk.registers, desk.cluster)
    told = {(machine, one.key): one.level for one in found if one.key != "relay" for machine in one.effective_on}
    assert told == {
        (machine, key): value.level
        for machine in desk.cluster.machines
        for key, value in effective_settings(desk.registers, desk.cluster.levels_for(machine)).items()
        if key != "relay"
    }
    for machine in desk.cluster.machines:
        own = provenance.provenance(desk.registers, desk.cluster, machine=machine)
        assert {one.key for one in own if one.effective_on and one.key != "relay"} == {
            key for owner, key in told if owner == machine
        }
