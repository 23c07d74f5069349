"""Which command is for which mode, and what is offered where it is not the one somebody is in."""

from __future__ import annotations

import pytest
from cluster_store_cli.catalogue import COMMANDS
from cluster_store_cli.modes import _PLACES, Place, Switch, mode_of, place_of, shown, switch_for

from cluster_store.core import commands
from cluster_store.core.registers import CLUSTER, group_level, machine_level
from cluster_store.core.types import GroupId
from tests.core.builders import identity
from tests.core.desk import SALT, Desk, card

MX = identity("mx").id
MODES = ("cluster", "group:Paris", "machine:edge", "machine:mx")


@pytest.fixture(scope="module")
def desk() -> Desk:
    """The desk of a machine in a cluster with another one and a second group."""
    made = Desk("mx")
    made.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    made.do(commands.CreateCluster(name="ships", salt=SALT))
    made.do(commands.AddGroup(name="Paris"))
    made.do(commands.AdmitMachine(card=card("edge"), group="Paris"))
    return made


def wanted(desk: Desk, command: str, mode: str, role: str = "administrator") -> Switch | None:
    """Return the switch that a command needs."""
    return switch_for(command, mode, desk.cluster, MX, role)


@pytest.mark.parametrize("command", ["clusterconfig", "clustercheck", "userconfig", "passwd", "CLUSTERCONFIG"])
def test_what_is_about_the_whole_cluster_is_for_cluster_mode(desk: Desk, command: str) -> None:
    """From any other mode the switch is offered."""
    assert [mode for mode in MODES if wanted(desk, command, mode) is None] == ["cluster"]
    switch = wanted(desk, command, "group:Paris")
    assert switch == Switch(
        "cluster",
        f"'{command}' is for cluster mode only, and this is the mode of the group Paris. Switch to cluster mode?",
    )


@pytest.mark.parametrize(
    ("command", "place"),
    [("machine", "machine mode"), ("featurekey", "machine mode"), ("loadconfig", "the login host")],
)
def test_what_is_about_this_machine_is_for_its_own_mode(desk: Desk, command: str, place: str) -> None:
    """Not for another machine's: there somebody has to log in."""
    assert [mode for mode in MODES if wanted(desk, command, mode) is None] == ["machine:mx"]
    switch = wanted(desk, command, "machine:edge")
    assert switch == Switch(
        "machine:mx",
        f"'{command}' is for {place} only, and this is the mode of the machine edge. "
        "Switch to the mode of this machine, mx?",
    )


@pytest.mark.parametrize("command", ["set", "get", "clustershow", "clusterset", "log", "status", "no such command"])
def test_everything_else_is_for_any_mode(desk: Desk, command: str) -> None:
    """Settings above all."""
    assert [wanted(desk, command, mode) for mode in MODES] == [None] * 4


def test_a_guest_changes_their_own_password_wherever_they_are(desk: Desk) -> None:
    """Silently; other people's passwords, and the rest, are not for guests in any case."""
    assert wanted(desk, "passwd", "machine:edge", "guest") is None
    assert wanted(desk, "passwd", "machine:edge", "operator") is not None
    assert wanted(desk, "clustercheck", "machine:edge", "guest") is not None


def test_without_a_cluster_there_is_nothing_to_switch_to() -> None:
    """Every command is for the one level that there is."""
    alone = Desk("mx")
    alone.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    assert switch_for("clusterconfig", "machine:mx", alone.cluster, MX, "administrator") is None
    assert mode_of(CLUSTER, alone.cluster, MX) == "machine:mx"


def test_a_mode_whose_owner_is_gone_is_the_cluster_s(desk: Desk) -> None:
    """Levels are kept with ids; what is shown are the names of now."""
    assert mode_of(group_level(GroupId("paris")), desk.cluster, MX) == "group:Paris"
    assert mode_of(machine_level(MX), desk.cluster, MX) == "machine:mx"
    assert mode_of(group_level(GroupId("rome")), desk.cluster, MX) == "cluster"
    assert mode_of(machine_level(identity("zoe").id), desk.cluster, MX) == "cluster"


def test_only_commands_that_there_are_have_a_place() -> None:
    """A renamed command would lose its own silently."""
    assert set(_PLACES) <= set(COMMANDS)
    assert {place_of(command) for command in COMMANDS} == set(Place)
    assert shown("cluster") == "cluster mode"
