"""Each command on groups and on the cluster's name: its event, its refusals, and when nothing changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import commands
from cluster_store.core.conflicts import problems
from cluster_store.core.errors import Refused
from cluster_store.core.types import GroupId, Path
from tests.core.builders import identity
from tests.core.desk import SALT, Desk, card

ANNA, BERT = identity("anna"), identity("bert")
GROUPS = ("Main_Group", "Paris", "Lyon", "Rome")


def cluster_with(*groups: str) -> Desk:
    """Return the desk of a machine in a cluster with these groups besides the first, and a second machine."""
    desk = Desk("anna")
    desk.do(commands.InitialiseMachine(card=card("anna"), salt=SALT))
    desk.do(commands.CreateCluster(name="ships", salt=SALT))
    for group in groups:
        desk.do(commands.AddGroup(name=group))
    desk.do(commands.AdmitMachine(card=card("bert"), group="Main_Group"))
    return desk


def groups_of(desk: Desk) -> dict[str, list[str]]:
    """Return each live group's name, and the hostnames in it."""
    cluster = desk.cluster
    return {
        group.name: [machine.hostname for machine in cluster.members_of(group.id)] for group in cluster.groups.values()
    }


def rename(group: str, name: str) -> commands.RenameGroup:
    """Return the command that renames a group."""
    return commands.RenameGroup(group=group, name=name)


def delete(group: str, to: str = "") -> commands.DeleteGroup:
    """Return the command that deletes a group."""
    return commands.DeleteGroup(group=group, to=to)


# --- names ----------------------------------------------------------------------------------------------


def test_renaming_writes_the_name_and_nothing_else() -> None:
    """The id stays, so machines and settings stay where they are; the first group may be renamed like any."""
    desk = cluster_with("Paris")
    event = desk.do(rename("MAIN_group", "Nantes"))
    assert event is not None
    assert (event.kind, event.params) == ("GroupRenamed", {"old": "Main_Group", "name": "Nantes"})
    assert [one.path for one in event.writes] == ["group/main_group/name"]
    assert groups_of(desk) == {"Nantes": ["anna", "bert"], "Paris": []}


def test_a_group_may_change_the_case_of_its_own_name() -> None:
    """Its own name is not taken by another; the same spelling changes nothing."""
    desk = cluster_with("Paris")
    assert desk.do(rename("paris", "PARIS")) is not None
    assert desk.do(rename("paris", "PARIS")) is None
    assert list(groups_of(desk)) == ["Main_Group", "PARIS"]


def test_the_name_that_won_a_collision_can_be_written_down() -> None:
    """Two lanes stand: giving the winner's name again settles it."""
    desk = cluster_with("Paris")
    desk.registers.put("group/paris/name", '"Lyon"', 10**18)
    assert desk.do(rename("Lyon", "Lyon")) is not None
    assert len(desk.registers.standing(Path("group/paris/name"))) == 1


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (rename("Paris", "MAIN_GROUP"), "there is already a group named 'MAIN_GROUP'\nchoose another name"),
        (rename("Rome", "Oslo"), "there is no group named 'Rome'\nknown: Main_Group, Paris"),
        (rename("Paris", ""), "a group name is empty\ngive a name"),
        (rename("Paris", "a/b"), "the group name 'a/b' holds /, which names cannot\nleave it out"),
        (delete("Rome"), "there is no group named 'Rome'\nknown: Main_Group, Paris"),
        (delete("Paris", "Rome"), "there is no group named 'Rome'\nknown: Main_Group, Paris"),
        (delete("Paris", "paris"), "Paris cannot take its own machines\nname another group with --to"),
        (commands.SetClusterName(name=" "), "the cluster name ' ' begins or ends with a blank\nleave the blank out"),
        (commands.SetClusterName(name="a:b"), "the cluster name 'a:b' holds :, which names cannot\nleave it out"),
    ],
)
def test_what_cannot_be_is_refused(command: commands.Command, words: str) -> None:
    """With what is wrong, and what to do."""
    assert cluster_with("Paris").refusal(command) == words


@pytest.mark.parametrize("command", [rename("a", "b"), delete("a"), commands.SetClusterName(name="a")])
def test_there_must_be_a_cluster(command: commands.Command) -> None:
    """A machine that stands alone has neither groups nor a cluster's name."""
    desk = Desk("anna")
    desk.do(commands.InitialiseMachine(card=card("anna"), salt=SALT))
    assert desk.refusal(command).startswith("this machine is not in a cluster\n")


def test_the_cluster_is_renamed() -> None:
    """The same name again changes nothing."""
    desk = cluster_with()
    event = desk.do(commands.SetClusterName(name="boats"))
    assert event is not None
    assert (event.kind, desk.cluster.name) == ("ClusterRenamed", "boats")
    assert desk.do(commands.SetClusterName(name="boats")) is None


# --- deletion -------------------------------------------------------------------------------------------


def test_deleting_a_group_moves_its_machines_in_the_same_event() -> None:
    """Where only one other is left, that one takes them."""
    desk = cluster_with("Paris")
    desk.do(commands.MoveMachines(machines=("bert",), group="Paris"))
    event = desk.do(delete("PARIS"))
    assert event is not None
    assert (event.kind, event.params) == (
        "GroupDeleted",
        {"name": "Paris", "to": "Main_Group", "machines": ["bert"]},
    )
    assert [(one.path, one.value) for one in event.writes] == [
        ("group/paris/deleted", '"main_group"'),
        (f"machine/{BERT.id}/group", '"main_group"'),
    ]
    assert groups_of(desk) == {"Main_Group": ["anna", "bert"]}


def test_the_only_group_cannot_be_deleted() -> None:
    """A cluster has at least one; two other ways are named."""
    assert cluster_with().refusal(delete("Main_Group")) == (
        "Main_Group is the only group, and a cluster has at least one\n"
        "give it another name with 'clusterconfig renamegroup Main_Group NAME', or add another group first"
    )


def test_where_several_groups_could_take_the_machines_one_must_be_named() -> None:
    """The choice is the operator's; the names are told."""
    desk = cluster_with("Paris", "Lyon")
    assert desk.refusal(delete("Main_Group")) == (
        "there are several groups that the machines of Main_Group could go to\nsay which one with --to: Lyon, Paris"
    )
    desk.do(delete("Main_Group", "LYON"))
    assert groups_of(desk) == {"Lyon": ["anna", "bert"], "Paris": []}


def test_an_empty_group_goes_without_a_word_on_who_takes_its_machines() -> None:
    """Whoever is put into it meanwhile goes where a machine without a group goes: to the one that was created first."""
    desk = cluster_with("Paris", "Lyon", "Aix")
    event = desk.do(delete("Lyon"))
    assert event is not None
    assert [(one.path, one.value) for one in event.writes] == [("group/lyon/deleted", '"main_group"')]
    desk.registers.put(f"machine/{BERT.id}/group", '"lyon"', 10**18)
    assert groups_of(desk) == {"Aix": [], "Main_Group": ["anna", "bert"], "Paris": []}
    desk.do(commands.MoveMachines(machines=("anna", "bert"), group="Paris"))
    event = desk.do(delete("Main_Group"))
    assert event is not None
    assert event.params == {"name": "Main_Group", "to": "Paris", "machines": []}
    assert "with --to" in desk.refusal(delete("Paris", "Paris"))


def test_the_settings_of_a_deleted_group_count_for_nobody_and_can_be_addressed_by_its_id() -> None:
    """They are not written over: whoever wants one of them moves it."""
    desk = cluster_with("Paris")
    desk.set("banner", '"bonjour"', "group:Paris")
    desk.do(delete("Paris"))
    assert desk.values() == {}
    desk.do(commands.MoveSettings(keys=("banner",), level="group:paris", target="cluster", salt=SALT))
    assert desk.values() == {"banner": '"bonjour"'}
    assert "no level of anybody" in desk.refusal(
        commands.CopySettings(keys=("banner",), level="cluster", target="group:paris", salt=SALT)
    )


def test_a_name_that_is_used_again_is_another_group() -> None:
    """A deletion is final for the group, not for its name."""
    desk = cluster_with("Paris")
    desk.set("banner", '"bonjour"', "group:Paris")
    desk.do(delete("Paris"))
    desk.do(commands.AddGroup(name="Paris"))
    desk.do(commands.MoveMachines(machines=("anna",), group="Paris"))
    assert desk.cluster.group("Paris").id == "paris~2"
    assert desk.values() == {}


# --- a group that lives on by a rule ----------------------------------------------------------------------


def both_deleted() -> Desk:
    """Return a desk where both sides of a cut deleted the other's last group; Paris was the last of them."""
    desk = cluster_with("Paris")
    desk.do(commands.MoveMachines(machines=("bert",), group="Paris"))
    desk.do(delete("Main_Group", "Paris"))
    desk.registers.put("group/paris/deleted", '"main_group"', 10**18)
    assert groups_of(desk) == {"Paris": ["anna", "bert"]}
    return desk


@pytest.mark.parametrize(
    "command", [commands.AddGroup(name="Lyon"), rename("Paris", "Lutetia"), rename("Paris", "Paris")]
)
def test_a_group_that_lives_on_by_a_rule_is_not_ended_by_a_new_one(command: commands.Command) -> None:
    """Whoever adds a group or renames that one writes down that it lives, and its machines stay."""
    desk = both_deleted()
    event = desk.do(command)
    assert event is not None
    assert event.writes[0].path == "group/paris/deleted"
    desk.do(commands.AddGroup(name="Oslo"))
    assert {machine.group for machine in desk.cluster.machines.values()} == {"paris"}


@given(st.lists(st.tuples(st.sampled_from(GROUPS), st.sampled_from(("", *GROUPS)), st.integers(0, 3)), max_size=12))
def test_whatever_is_done_every_machine_is_in_a_live_group(steps: list[tuple[str, str, int]]) -> None:
    """Groups are added, renamed, deleted and filled in any order; a refusal changes nothing."""
    desk = cluster_with()
    for name, other, kind in steps:
        command = (
            commands.AddGroup(name=name),
            rename(name, other),
            delete(name, other),
            commands.MoveMachines(machines=("bert",), group=name),
        )[kind]
        before = groups_of(desk)
        try:
            desk.do(command)
        except Refused:
            assert groups_of(desk) == before
        cluster = desk.cluster
        assert cluster.groups
        assert all(machine.group in cluster.groups for machine in cluster.machines.values())
        names = [group.name.casefold() for group in cluster.groups.values()]
        assert len(set(names)) == len(names)
        assert not any(desk.registers.standing(Path(f"group/{group}/deleted")) for group in cluster.groups)


def test_a_deleted_group_whose_id_is_another_one_s_name_can_be_addressed_all_the_same() -> None:
    """With ``~1`` behind its id, which no name has; that is how it is shown."""
    desk = cluster_with("Paris")
    desk.set("banner", '"old"', "group:Paris")
    desk.do(delete("Paris"))
    desk.do(commands.AddGroup(name="Paris"))
    desk.set("banner", '"new"', "group:Paris")
    cluster = desk.cluster
    assert cluster.show_level(cluster.level("group:paris~1")) == "group:paris~1"
    assert (cluster.level("group:paris~1"), cluster.level("group:paris")) == ("group/paris", "group/paris~2")
    told = [problem.text for problem in problems(cluster, desk.registers, [], [])]
    assert len(told) == 1
    assert "--level group:paris~1" in told[0]
    desk.do(commands.DeleteSettings(keys=("banner",), level="group:paris~1"))
    assert problems(desk.cluster, desk.registers, [], []) == []


def test_groups_that_share_a_name_can_each_be_addressed_by_an_id() -> None:
    """Also the one whose id is that name, or another group's."""
    desk = cluster_with("Paris", "Lyon")
    for group, name in (("lyon", "Paris"), ("main_group", "Lyon")):
        desk.registers.put(f"group/{group}/name", f'"{name}"', 10**18)
    assert desk.refusal(rename("paris", "x")) == (
        "there are 2 groups named 'paris'\nuse the id instead: lyon~1, paris~1"
    )
    desk.do(rename("lyon~1", "Rome"))
    assert desk.cluster.groups[GroupId("lyon")].name == "Rome"
    desk.do(rename("paris~1", "Oslo"))
    assert list(groups_of(desk)) == ["Lyon", "Oslo", "Rome"]
