"""Which command is for which mode, and what is offered where it is not the one somebody is in."""

from __future__ import annotations

import pytest
from cluster_store_cli.catalogue import COMMANDS
from cluster_store_cli.modes import _PLACES, Place, Switch, is_there, owner_of, place_of, refuse_gone, shown, switch_for

from cluster_store.core import commands
from cluster_store.core.errors import Refused
from cluster_store.core.registers import CLUSTER, group_level, machine_level
from cluster_store.core.types import GroupId, Level
from tests.core.builders import identity
from tests.core.desk import SALT, Desk, card

MX = identity("mx").id
PARIS, EDGE, HERE = group_level(GroupId("paris")), machine_level(identity("edge").id), machine_level(MX)
MODES = (CLUSTER, PARIS, EDGE, HERE)


@pytest.fixture(scope="module")
def desk() -> Desk:
    """The desk of a machine in a cluster with another one and a second group."""
    made = Desk("mx")
    made.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    made.do(commands.CreateCluster(name="ships", salt=SALT))
    made.do(commands.AddGroup(name="Paris"))
    made.do(commands.AdmitMachine(card=card("edge"), group="Paris"))
    return made


def wanted(desk: Desk, command: str, mode: Level, role: str = "administrator") -> Switch | None:
    """Return the switch that a command needs."""
    return switch_for(command, mode, desk.cluster, MX, role)


@pytest.mark.parametrize("command", ["clusterconfig", "clustercheck", "userconfig", "passwd", "CLUSTERCONFIG"])
def test_what_is_about_the_whole_cluster_is_for_cluster_mode(desk: Desk, command: str) -> None:
    """From any other mode the switch is offered."""
    assert [mode for mode in MODES if wanted(desk, command, mode) is None] == [CLUSTER]
    switch = wanted(desk, command, PARIS)
    assert switch == Switch(
        CLUSTER,
        f"'{command}' is for cluster mode only, and this is the mode of the group Paris. Switch to cluster mode?",
    )


@pytest.mark.parametrize(
    ("command", "place"),
    [("machine", "machine mode"), ("featurekey", "machine mode"), ("loadconfig", "the login host")],
)
def test_what_is_about_this_machine_is_for_its_own_mode(desk: Desk, command: str, place: str) -> None:
    """Not for another machine's: there somebody has to log in."""
    assert [mode for mode in MODES if wanted(desk, command, mode) is None] == [HERE]
    switch = wanted(desk, command, EDGE)
    assert switch == Switch(
        HERE,
        f"'{command}' is for {place} only, and this is the mode of the machine edge. "
        "Switch to the mode of this machine, mx?",
    )


@pytest.mark.parametrize("command", ["set", "get", "clustershow", "clusterset", "log", "status", "no such command"])
def test_everything_else_is_for_any_mode(desk: Desk, command: str) -> None:
    """Settings above all."""
    assert [wanted(desk, command, mode) for mode in MODES] == [None] * 4


def test_a_guest_changes_their_own_password_wherever_they_are(desk: Desk) -> None:
    """Silently; other people's passwords, and the rest, are not for guests in any case."""
    assert wanted(desk, "passwd", EDGE, "guest") is None
    assert wanted(desk, "passwd", EDGE, "operator") is not None
    assert wanted(desk, "clustercheck", EDGE, "guest") is not None


def test_without_a_cluster_there_is_nothing_to_switch_to() -> None:
    """Every command is for the one level that there is."""
    alone = Desk("mx")
    alone.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    assert switch_for("clusterconfig", HERE, alone.cluster, MX, "administrator") is None
    assert (is_there(HERE, alone.cluster), is_there(CLUSTER, alone.cluster)) == (True, False)
    with pytest.raises(Refused, match="the cluster, which this session was about, is gone"):
        refuse_gone(CLUSTER, alone.cluster)


def test_a_mode_stays_whosever_it_is(desk: Desk) -> None:
    """Levels are kept with ids; what is shown are the names of now, of the last one where it is gone."""
    assert [owner_of(mode, desk.cluster) for mode in MODES] == ["", "Paris", "edge", "mx"]
    later = Desk("mx")
    later.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    later.do(commands.CreateCluster(name="ships", salt=SALT))
    later.do(commands.AddGroup(name="Paris"))
    later.do(commands.AdmitMachine(card=card("edge"), group="Paris"))
    later.do(commands.RenameGroup(group="Paris", name="Rome"))
    later.do(commands.AddGroup(name="Paris"))
    assert owner_of(PARIS, later.cluster) == "Rome"
    later.do(commands.RemoveMachines(machines=("edge",)))
    later.do(commands.DeleteGroup(group="Rome", to="Main_Group"))
    assert [is_there(mode, later.cluster) for mode in MODES] == [True, False, False, True]
    assert [owner_of(mode, later.cluster) for mode in MODES] == ["", "Rome", "edge", "mx"]
    assert shown(PARIS, later.cluster) == "the mode of the group Rome, which is gone"
    with pytest.raises(Refused, match="the machine edge, which this session was about, is gone"):
        refuse_gone(EDGE, later.cluster)


def test_only_commands_that_there_are_have_a_place() -> None:
    """A renamed command would lose its own silently."""
    assert set(_PLACES) <= set(COMMANDS)
    assert {place_of(command) for command in COMMANDS} == set(Place)
