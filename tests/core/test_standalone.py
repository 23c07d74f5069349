"""What a machine takes with it when it leaves: it goes on doing what it did."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import commands
from cluster_store.core.errors import Refused
from cluster_store.core.settings import effective_settings
from cluster_store.core.standalone import Legacy, legacy
from tests.core.builders import identity
from tests.core.desk import SALT, Desk, card

ANNA, FRESH = identity("anna"), identity("fresh")
LEVELS = ("cluster", "group:Main_Group", "group:Paris", "machine:anna", "machine:bert")


def member() -> Desk:
    """Return the desk of one of two machines, in a cluster with two groups."""
    desk = Desk("anna")
    desk.do(commands.InitialiseMachine(card=card("anna"), password="argon", salt=SALT))
    desk.do(commands.CreateCluster(name="ships", salt=SALT))
    desk.do(commands.AddGroup(name="Paris"))
    desk.do(commands.AdmitMachine(card=card("bert"), group="Paris"))
    return desk


def taken_along(desk: Desk) -> Legacy:
    """Remove the desk's machine; return what it takes with it."""
    desk.do(commands.RemoveMachines(machines=("anna",)))
    own = msgspec.structs.replace(card("anna"), key=FRESH.key.hex())
    return legacy(desk.registers, desk.cluster, desk.cluster.removed[ANNA.id], own, SALT)


def settled(found: Legacy) -> Desk:
    """Return the desk of the machine as it begins anew."""
    desk = Desk("fresh")
    for command in found.commands:
        desk.do(command)
    return desk


def texts(desk: Desk) -> dict[str, object]:
    """Return what is effective on a desk's machine, secrets by their texts."""
    found = effective_settings(desk.registers, desk.cluster.levels_for(desk.me))
    return {key: value.lane.text or value.value for key, value in found.items()}


def test_what_was_inherited_becomes_its_own() -> None:
    """From each level, sets and secrets too; each event says where its values came from."""
    desk = member()
    desk.set("banner", '"of all"', "cluster")
    desk.set("port", "25", "cluster")
    desk.set("port", "2525", "group:Main_Group")
    desk.set("helo", '"own"', "machine:anna")
    desk.set("password", '"sesame"', "group:Main_Group", secret=True)
    desk.do(commands.AddElements(key="domains", elements=('"a"', '"b"'), level="cluster"))
    desk.do(commands.RemoveElements(key="domains", elements=('"b"',), level="machine:anna"))
    desk.set("elsewhere", "1", "group:Paris")
    before = texts(desk)
    found = taken_along(desk)
    assert found.lost == []
    own = settled(found)
    assert texts(own) == before
    assert before == {"banner": '"of all"', "domains": '["a"]', "helo": '"own"', "password": '"sesame"', "port": "2525"}
    comments = {
        key: command.comment
        for command in found.commands
        for key in (command.settings if isinstance(command, commands.LoadConfig) else [getattr(command, "key", "")])
    }
    assert comments["banner"].startswith("inherited from cluster before anna was removed from the cluster by os:root")
    assert comments["port"].startswith("inherited from group:Main_Group before ")
    assert comments["password"].startswith("inherited from group:Main_Group before ")
    assert comments["helo"].startswith("set here before ")
    assert comments["helo"].endswith("; the cluster was ships")


def test_it_stays_what_it_says_of_itself_and_keeps_its_administrator() -> None:
    """Its keys are new; its name, serial number, ports and the password of admin are not."""
    desk = member()
    own = settled(taken_along(desk))
    machine = own.cluster.machines[FRESH.id]
    assert (machine.hostname, machine.serial, machine.ssh_port) == ("anna", "S-anna", 22)
    assert own.cluster.name == ""
    assert own.cluster.users["admin"].password == "argon"


def test_a_secret_whose_value_is_not_here_is_named() -> None:
    """It was written elsewhere and its value erased: nobody can carry it over, and the rest goes on."""
    desk = member()
    desk.set("port", "25", "cluster")
    desk.set("password", '"sesame"', "cluster", secret=True)
    path = desk.path("setting/cluster/password")
    lanes = desk.registers.lanes[path]
    desk.registers.lanes[path] = {key: msgspec.structs.replace(lane, text=None) for key, lane in lanes.items()}
    found = taken_along(desk)
    assert found.lost == ["password"]
    assert texts(settled(found)) == {"port": "25"}


def test_an_emptied_set_is_unset() -> None:
    """There is nothing that a machine alone could knock out."""
    desk = member()
    desk.do(commands.AddElements(key="domains", elements=("1",), level="cluster"))
    desk.do(commands.RemoveElements(key="domains", elements=("1",), level="machine:anna"))
    assert texts(desk) == {"domains": "[]"}
    assert texts(settled(taken_along(desk))) == {}


def test_many_settings_are_several_events() -> None:
    """However many there are, each event is of a size that a log and a link can carry."""
    desk = member()
    many = {f"key{number}": f'"{"x" * 1000}"' for number in range(2500)}
    desk.do(commands.LoadConfig(settings=many, source="file", level="cluster", salt=SALT))
    elements = tuple(str(number) for number in range(2500))
    desk.do(commands.AddElements(key="set", elements=elements, level="cluster"))
    before = texts(desk)
    found = taken_along(desk)
    assert max(len(msgspec.json.encode(command)) for command in found.commands) < 1 << 20
    assert texts(settled(found)) == before


_CHANGES = st.one_of(
    st.builds(
        commands.SetSetting,
        key=st.sampled_from(["a", "b"]),
        value=st.sampled_from(['"x"', "1.0", "null", '{"a":[1]}', '""']),
        level=st.sampled_from(LEVELS),
        secret=st.booleans(),
        salt=st.just(SALT),
    ),
    st.builds(commands.UnsetSetting, key=st.sampled_from(["a", "b"]), level=st.sampled_from(LEVELS)),
    st.builds(
        commands.AddElements,
        key=st.sampled_from(["s", "t"]),
        elements=st.sampled_from([("1",), ('"x"', "2")]),
        level=st.sampled_from(LEVELS),
    ),
    st.builds(
        commands.RemoveElements,
        key=st.sampled_from(["s", "t"]),
        elements=st.sampled_from([("1",), ("2",), ('"x"',)]),
        level=st.sampled_from(LEVELS),
    ),
)


@given(st.lists(_CHANGES, max_size=12))
def test_whatever_was_set_the_machine_does_what_it_did(changes: list[commands.Command]) -> None:
    """Key by key the effective values are the same before and after, but that an empty set is unset."""
    desk = member()
    for change in changes:
        try:
            desk.do(change)
        except Refused:
            continue
    before = {key: value for key, value in texts(desk).items() if value != "[]"}
    own = settled(taken_along(desk))
    assert texts(own) == before


def test_a_name_that_no_machine_can_have_is_replaced_by_the_id() -> None:
    """A member may have written anything into the register of its hostname; it leaves all the same."""
    desk = member()
    desk.do(commands.RemoveMachines(machines=("anna",)))
    bad = msgspec.structs.replace(card("anna"), key=FRESH.key.hex(), hostname="a\nb", serial="")
    own = settled(legacy(desk.registers, desk.cluster, desk.cluster.removed[ANNA.id], bad, SALT))
    machine = own.cluster.machines[FRESH.id]
    assert (machine.hostname, machine.serial) == (ANNA.id, ANNA.id)
