"""Each command on machines, groups and users: the event that it comes to, its refusals, and when nothing changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cluster_store.core import commands
from cluster_store.core.decide import scopes_of
from cluster_store.core.errors import ClusterStoreError, InvalidValue, NotFound, Refused
from cluster_store.core.registers import Secret
from cluster_store.core.types import MachineId
from tests.core.builders import identity
from tests.core.desk import SALT, Desk, card

MX, EDGE = identity("mx"), identity("edge")


def founded(*groups: str) -> Desk:
    """Return the desk of a machine that made a cluster and added groups."""
    desk = Desk("mx")
    desk.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    desk.do(commands.CreateCluster(name="ships", salt=SALT))
    for group in groups:
        desk.do(commands.AddGroup(name=group))
    return desk


def with_edge(*groups: str) -> Desk:
    """The same, with a second machine in it."""
    desk = founded(*groups)
    desk.do(commands.AdmitMachine(card=card("edge"), group="Main_Group"))
    desk.registers.put(f"machine/{EDGE.id}/epoch:{'e' * 16}", '{"reason":"joined"}')
    return desk


# --- a machine ------------------------------------------------------------------------------------------


def test_initialising_writes_the_card_and_an_administrator() -> None:
    """The first record says who the machine is, which key it has, and that admin may log in."""
    event = Desk("mx").do(commands.InitialiseMachine(card=card("mx"), password="argon", salt=SALT))
    assert event is not None
    assert event.kind == "MachineInitialised"
    written = {str(one.path): one.value for one in event.writes}
    assert written[f"machine/{MX.id}/key"] == MX.key_text
    assert written[f"machine/{MX.id}/hostname"] == '"mx"'
    assert isinstance(written["user/admin"], Secret)
    assert msgspec.json.decode(event.secrets["user/admin"][1]) == {
        "name": "admin",
        "role": "administrator",
        "password": "argon",
        "keys": [],
    }


def test_a_store_is_initialised_once() -> None:
    """A second first record would be dropped by everybody, and the machine cut off."""
    assert "has a machine already" in founded().refusal(commands.InitialiseMachine(card=card("mx"), salt=SALT))


@pytest.mark.parametrize("key", ["", "00", "zz" * 32, "00" * 33])
def test_an_identity_key_that_is_none_is_refused(key: str) -> None:
    """Whoever asks to join cannot make the member write a record that counts for nothing."""
    bad = msgspec.structs.replace(card("edge"), key=key)
    assert "an identity key that is none" in Desk("mx").refusal(commands.InitialiseMachine(card=bad, salt=SALT))
    assert "an identity key that is none" in founded().refusal(commands.AdmitMachine(card=bad))


@pytest.mark.parametrize("name", ["", " mx", "a/b", "a:b", "-x", "..", "x" * 300, "a\u200bb"])
def test_a_hostname_that_could_not_be_typed_or_told_is_refused(name: str) -> None:
    """Names stand in levels, tables and files."""
    bad = msgspec.structs.replace(card("mx"), hostname=name)
    with pytest.raises((InvalidValue, Refused), match="hostname"):
        Desk("mx").decide(commands.InitialiseMachine(card=bad, salt=SALT))


def test_text_that_is_not_unicode_is_refused() -> None:
    """Half a character in any of a card's words is refused with words, not with a crash."""
    bad = msgspec.structs.replace(card("mx"), listen="\udcff")
    assert "cannot be written down" in Desk("mx").refusal(commands.InitialiseMachine(card=bad, salt=SALT))


@pytest.mark.parametrize("port", [-1, 65536, 10**30])
def test_a_port_that_is_none_never_becomes_a_command(port: int) -> None:
    """Commands and cards from outside are checked as they are decoded."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**msgspec.to_builtins(card("edge")), "ssh_port": port}, commands.Card)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"type": "ChangeMachine", "ccs_port": port}, commands.ChangeMachine)


def test_changing_a_machine_writes_what_differs() -> None:
    """What stays the same is no part of the event."""
    desk = founded()
    event = desk.do(commands.ChangeMachine(hostname="mx", ssh_port=2200, interfaces={"Data 1": "10.0.0.1"}))
    assert event is not None
    assert [one.path.rpartition("/")[2] for one in event.writes] == ["former_ports", "interfaces", "ssh_port"]
    assert desk.do(commands.ChangeMachine(ssh_port=2200)) is None
    assert desk.do(commands.ChangeMachine()) is None


def test_a_machine_cannot_take_another_ones_name_or_serial_number() -> None:
    """In any case of letters; its own it may keep."""
    desk = with_edge()
    assert "the hostname EDGE is taken" in desk.refusal(commands.ChangeMachine(hostname="EDGE"))
    assert "the serial number S-edge is taken by edge" in desk.refusal(commands.ChangeMachine(serial="S-edge"))
    event = desk.do(commands.ChangeMachine(hostname="MX"))
    assert event is not None


def test_a_machine_whose_name_is_taken_by_a_merge_can_still_be_changed() -> None:
    """Only the name that is given is compared, not the one that is there."""
    desk = with_edge()
    desk.registers.put(f"machine/{EDGE.id}/hostname", '"mx"', 10**18)
    assert desk.do(commands.ChangeMachine(ssh_port=2200)) is not None
    assert desk.do(commands.ChangeMachine(hostname="mx1")) is not None


def test_a_machine_that_is_no_member_in_its_own_store_is_told_so() -> None:
    """It has not heard of its admission yet, or it was removed: either way its commands are refused, not lost."""
    desk = with_edge()
    desk.registers.put(f"machine/{MX.id}/removed", f'["{EDGE.id}"]')
    for command in (commands.ChangeMachine(ssh_port=2200), commands.AdmitMachine(card=card("third"))):
        assert desk.refusal(command).startswith("this machine is not a member of the cluster in its store\n")


# --- a cluster --------------------------------------------------------------------------------------------


def test_creating_a_cluster_makes_the_machines_settings_the_clusters() -> None:
    """What was set while the machine stood alone is what the cluster begins with, secrets and sets included."""
    desk = Desk("mx")
    desk.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    desk.set("banner", '"hi"')
    desk.set("password", '"hush"', secret=True)
    desk.do(commands.AddElements(key="relay", elements=("1", "2")))
    desk.set("gone", "1")
    desk.do(commands.UnsetSetting(key="gone"))
    before = desk.values()
    assert before["banner"] == '"hi"'
    event = desk.do(commands.CreateCluster(name="ships", by="ip", salt=SALT))
    assert event is not None
    assert (desk.cluster.name, desk.cluster.by, list(desk.cluster.groups)) == ("ships", "ip", ["main_group"])
    assert desk.cluster.machines[MX.id].group == "main_group"
    own = [path for path in desk.registers.lanes if f"machine/{MX.id}/" in path and path.startswith(("sett", "elem"))]
    assert not any(desk.registers.lanes[path] for path in own)
    assert {key: value for key, value in desk.values().items() if key != "password"} == {
        key: value for key, value in before.items() if key != "password"
    }
    assert event.secrets["setting/cluster/password"][1] == '"hush"'


def test_a_machine_is_in_one_cluster_at_a_time() -> None:
    """A second creation is refused with the name of the first."""
    answer = founded().refusal(commands.CreateCluster(name="planes", salt=SALT))
    assert answer == "this machine is already in the cluster ships\na machine is in one cluster at a time"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": ""}, "a cluster name is empty"),
        ({"name": "a/b"}, "holds /"),
        ({"name": "x", "by": "pigeon"}, "'pigeon' is no way to name machines"),
    ],
)
def test_a_cluster_needs_a_name_and_a_way_to_name_machines(fields: dict[str, Any], reason: str) -> None:
    """What is refused changes nothing."""
    desk = Desk("mx")
    desk.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    assert reason in desk.refusal(commands.CreateCluster(salt=SALT, **fields))


@pytest.mark.parametrize(
    "command",
    [
        commands.AdmitMachine(card=card("edge")),
        commands.AddGroup(name="paris"),
        commands.MoveMachines(machines=("mx",), group="paris"),
        commands.DetachMachines(machines=("mx",)),
        commands.ReconnectMachines(machines=("mx",)),
    ],
)
def test_a_standalone_machine_is_told_how_to_get_into_a_cluster(command: commands.Command) -> None:
    """The refusal names the two ways."""
    desk = Desk("mx")
    desk.do(commands.InitialiseMachine(card=card("mx"), salt=SALT))
    answer = desk.refusal(command)
    assert answer.startswith(
        "this machine is not in a cluster\nrun 'clusterconfig create NAME', or 'clusterconfig join"
    )


# --- joining ----------------------------------------------------------------------------------------------


def test_admitting_writes_the_card_and_the_group() -> None:
    """One event lets a machine in: who it is and where it belongs."""
    desk = founded("Paris")
    event = desk.do(commands.AdmitMachine(card=card("edge"), group="PARIS"))
    assert event is not None
    assert (event.kind, event.params) == ("MachineAdmitted", {"hostname": "edge", "group": "Paris"})
    admitted = desk.cluster.machines[EDGE.id]
    assert (admitted.hostname, admitted.group, admitted.joined) == ("edge", "paris", False)


def test_the_only_group_need_not_be_named() -> None:
    """Where there are several, the question is passed back with their names."""
    desk = founded()
    desk.do(commands.AdmitMachine(card=card("edge")))
    assert desk.cluster.machines[EDGE.id].group == "main_group"
    answer = founded("Paris").refusal(commands.AdmitMachine(card=card("edge")))
    assert answer == "the cluster has several groups\nsay which one with --group: Main_Group, Paris"


def test_a_machine_that_tries_again_is_let_in_by_the_same_record() -> None:
    """A join that broke off is resumed: nothing is written twice, and the answer names the admission."""
    desk = founded()
    desk.do(commands.AdmitMachine(card=card("edge")))
    (lane,) = desk.registers.standing(desk.path(f"machine/{EDGE.id}/key"))
    decision = desk.decide(commands.AdmitMachine(card=card("edge")))
    assert (decision.event, decision.result) == (None, {"admission": lane.id})


def test_a_machine_that_tries_again_as_another_is_known_by_what_it_is_now() -> None:
    """Only what differs is written, its key never again; once it has joined, it says such things itself."""
    desk = founded("Paris")
    desk.do(commands.AdmitMachine(card=card("edge"), group="Main_Group"))
    changed = msgspec.structs.replace(card("edge"), hostname="ridge", ssh_port=2022)
    event = desk.do(commands.AdmitMachine(card=changed, group="Paris"))
    assert event is not None
    assert [one.path.rpartition("/")[2] for one in event.writes] == ["hostname", "ssh_port", "group"]
    machine = desk.cluster.machines[EDGE.id]
    assert (machine.hostname, machine.ssh_port, machine.group) == ("ridge", 2022, "paris")
    desk.registers.put(f"machine/{EDGE.id}/epoch:{'e' * 16}", '{"reason":"joined"}')
    assert desk.do(commands.AdmitMachine(card=card("edge"), group="Main_Group")) is None


def test_a_machine_that_never_came_blocks_no_name() -> None:
    """Its host may have been set up anew, under another identity."""
    desk = founded()
    desk.do(commands.AdmitMachine(card=card("edge")))
    again = msgspec.structs.replace(card("edge"), key=identity("another").key.hex())
    assert desk.do(commands.AdmitMachine(card=again)) is not None


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"version": "2.0"}, "edge runs version 2.0, the cluster runs 9.0\nupgrade the older one"),
        ({"interfaces": {}}, "the IP interface names differ: edge lacks Data 1\ngive it exactly these"),
        ({"interfaces": {"Data 1": "a", "Data 2": "b"}}, "the IP interface names differ: edge has also Data 2\n"),
        ({"interfaces": {"Data 2": "b"}}, "edge lacks Data 1 and has also Data 2\n"),
        ({"hostname": "MX"}, "the hostname MX is taken by the machine with serial S-mx\ngive this machine another"),
        ({"serial": "S-mx"}, "the serial number S-mx is taken by mx\ngive this machine another"),
    ],
)
def test_a_machine_that_does_not_fit_is_told_why(fields: dict[str, Any], answer: str) -> None:
    """Each refusal names both sides' facts and the cure."""
    desk = founded()
    desk.do(commands.ChangeMachine(interfaces={"Data 1": "10.0.0.1"}))
    wanted = msgspec.structs.replace(card("edge"), **{"interfaces": {"Data 1": "10.0.0.2"}, **fields})
    assert answer in desk.refusal(commands.AdmitMachine(card=wanted))


def test_a_machine_that_fits_is_let_in() -> None:
    """Interface names are the same, addresses are its own."""
    desk = founded()
    desk.do(commands.ChangeMachine(interfaces={"Data 1": "10.0.0.1"}))
    fits = msgspec.structs.replace(card("edge"), interfaces={"Data 1": "10.0.0.2"})
    assert desk.do(commands.AdmitMachine(card=fits)) is not None


def test_a_removed_machine_needs_a_new_identity() -> None:
    """Removal is for good."""
    desk = with_edge()
    desk.registers.put(f"machine/{EDGE.id}/removed", f'["{MX.id}"]')
    answer = desk.refusal(commands.AdmitMachine(card=card("edge")))
    assert answer == "edge was removed from the cluster\nit needs a new identity to come back"


# --- groups -------------------------------------------------------------------------------------------------


def test_adding_a_group_writes_its_name_as_it_was_given() -> None:
    """The id is folded, the name is not."""
    desk = founded()
    event = desk.do(commands.AddGroup(name="Île-de-France"))
    assert event is not None
    assert [(one.path, one.value) for one in event.writes] == [
        ("group/%C3%AEle-de-france/created", "true"),
        ("group/%C3%AEle-de-france/name", '"Île-de-France"'),
    ]


@pytest.mark.parametrize("name", ["Paris", "PARIS", "paris"])
def test_a_groups_name_is_taken_in_any_case(name: str) -> None:
    """Two groups that people could not tell apart are refused."""
    assert founded("Paris").refusal(commands.AddGroup(name=name)) == (
        f"there is already a group named '{name}'\nchoose another name"
    )


def test_the_id_of_a_deleted_group_is_not_used_again() -> None:
    """Its settings would come back from the dead."""
    desk = founded("Paris")
    desk.registers.put("group/paris/deleted", '"main_group"')
    event = desk.do(commands.AddGroup(name="Paris"))
    assert event is not None
    assert event.writes[0].path == "group/paris~2/created"


def test_moving_machines_is_one_event_for_those_that_move() -> None:
    """A machine named twice moves once; one that is there already does not move."""
    desk = with_edge("Paris")
    desk.do(commands.MoveMachines(machines=("mx",), group="paris"))
    event = desk.do(commands.MoveMachines(machines=("mx", "EDGE", "edge"), group="Paris"))
    assert event is not None
    assert event.params == {"machines": ["edge"], "group": "Paris"}
    assert desk.do(commands.MoveMachines(machines=("mx", "edge"), group="Paris")) is None


@pytest.mark.parametrize(
    ("machines", "group", "answer"),
    [
        ((), "Paris", "no machine was named\nname at least one"),
        (("nobody",), "Paris", "there is no machine named 'nobody'\nknown: edge, mx"),
        (("mx",), "Rome", "there is no group named 'Rome'\nknown: Main_Group, Paris"),
    ],
)
def test_moving_needs_machines_and_a_group(machines: tuple[str, ...], group: str, answer: str) -> None:
    """Nobody moves if one of those named is unknown."""
    assert with_edge("Paris").refusal(commands.MoveMachines(machines=machines, group=group)) == answer


def test_a_move_to_where_a_rule_put_a_machine_is_written_down() -> None:
    """The rule stands in for a deleted group; after the move nothing that happens later can flip the answer."""
    desk = with_edge("Paris")
    desk.do(commands.MoveMachines(machines=("mx",), group="Paris"))
    desk.registers.put("group/paris/deleted", '"nowhere"')
    assert desk.cluster.machines[MX.id].group == "main_group"
    assert desk.do(commands.MoveMachines(machines=("mx",), group="Main_Group")) is not None
    assert [lane.value for lane in desk.registers.standing(desk.path(f"machine/{MX.id}/group"))] == ['"main_group"']


def test_a_move_settles_what_two_moves_at_once_left() -> None:
    """Naming the group that won takes the other lane away."""
    desk = with_edge("Paris")
    desk.registers.put(f"machine/{MX.id}/group", '"paris"', 10**18)
    assert desk.cluster.machines[MX.id].group == "paris"
    desk.do(commands.MoveMachines(machines=("mx",), group="Paris"))
    assert [lane.value for lane in desk.registers.standing(desk.path(f"machine/{MX.id}/group"))] == ['"paris"']


# --- detaching ----------------------------------------------------------------------------------------------


def test_detaching_says_who_did_it_and_when() -> None:
    """The machine stays a member; its state names the event."""
    desk = with_edge()
    event = desk.do(commands.DetachMachines(machines=("edge",)))
    assert event is not None
    assert (event.kind, event.params) == ("MachinesDetached", {"machines": ["edge"]})
    edge = desk.cluster.machines[EDGE.id]
    assert (edge.detached_by, edge.detached_at) == ("os:root", desk.now)
    assert desk.refusal(commands.DetachMachines(machines=("mx", "edge"))) == (
        "edge is already detached\n'clusterconfig reconnect' takes it back"
    )
    assert desk.cluster.machines[MX.id].detached is None


def test_reconnecting_takes_a_machine_back() -> None:
    """All detachments that are seen are replaced."""
    desk = with_edge()
    desk.do(commands.DetachMachines(machines=("edge",)))
    desk.registers.put(f"machine/{EDGE.id}/detached", '{"by":"os:other","at":1}', 10**18)
    event = desk.do(commands.ReconnectMachines(machines=("edge",)))
    assert event is not None
    assert event.kind == "MachinesReconnected"
    assert desk.cluster.machines[EDGE.id].detached is None
    assert len(desk.registers.standing(desk.path(f"machine/{EDGE.id}/detached"))) == 1
    assert desk.refusal(commands.ReconnectMachines(machines=("edge",))) == (
        "edge is not detached\n'clusterconfig connstatus' shows its link"
    )


# --- users, scopes, words -------------------------------------------------------------------------------------


def test_a_new_password_keeps_the_rest_of_a_user() -> None:
    """A user is one register, so the change writes all of it, as a secret."""
    desk = founded()
    event = desk.do(commands.ChangePassword(user="admin", password="$argon2id$x", salt=SALT))
    assert event is not None
    admin = desk.cluster.users["admin"]
    assert (admin.password, admin.role, admin.name) == ("$argon2id$x", "administrator", "admin")
    assert all("argon2" not in str(one) for one in event.writes)
    assert desk.refusal(commands.ChangePassword(user="eve", password="x", salt=SALT)).startswith(
        "there is no user named 'eve'\n"
    )


def test_a_decision_asks_for_every_level_that_it_may_read() -> None:
    """A machine's own, its group's, and those of the machine whose level is named."""
    desk = with_edge("Paris")
    desk.do(commands.MoveMachines(machines=("edge",), group="Paris"))

    def asked(level: str | None) -> set[str]:
        return set(scopes_of(commands.UnsetSetting(key="a", level=level), desk.cluster, MachineId(MX.id)))

    own = {f"machine/{MX.id}", "group/main_group", "cluster"}
    assert asked(None) == asked("cluster") == asked("group:nowhere") == own
    assert asked("group:paris") == own | {"group/paris"}
    assert asked("machine:edge") == own | {f"machine/{EDGE.id}", "group/paris"}


def test_every_refusal_says_what_to_do() -> None:
    """A message of what was refused and why, and a hint."""
    desk = with_edge("Paris")
    for command in (
        commands.AddGroup(name="Paris"),
        commands.AddGroup(name=""),
        commands.MoveMachines(machines=("x",), group="Paris"),
        commands.ReconnectMachines(machines=("edge",)),
        commands.ChangePassword(user="x", password="", salt=SALT),
    ):
        with pytest.raises(ClusterStoreError) as refused:
            desk.decide(command)
        assert isinstance(refused.value, Refused | NotFound)
        assert refused.value.message
        assert refused.value.hint
