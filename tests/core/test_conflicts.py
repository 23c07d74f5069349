"""What stands against what, and what merging could not keep in order."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import msgspec
import pytest

from cluster_store.core import commands, conflicts
from cluster_store.core.causality import Line
from cluster_store.core.cluster import Cluster
from cluster_store.core.conflicts import Conflict, Problem
from cluster_store.core.errors import Refused
from cluster_store.core.naming import show_path
from cluster_store.core.registers import Lane, LaneValue, Secret, Standing
from cluster_store.core.rules import read
from cluster_store.core.state import Appended
from cluster_store.core.types import Epoch, MachineId, Path, RecordId
from tests.collisions import collision, event_of, registers_of, two_machines
from tests.core.builders import first_record, following, identity, sealed, write
from tests.core.keyring import key_line
from tests.replicas import Machine


def conflicts_on(machine: Machine) -> list[tuple[str, list[object]]]:
    """Return each conflict that a machine sees: its path, and the values, the one that counts first."""
    found = conflicts.conflicts(registers_of(machine))
    return [(show_path(one.path, machine.cluster), [lane.value for lane in one.lanes]) for one in found]


def problems_on(machine: Machine) -> list[Problem]:
    """Return the problems that a machine sees."""
    registers = registers_of(machine)
    return conflicts.problems(read(registers), registers, machine.state.lines.values(), [])


async def test_both_values_of_a_setting_stand_and_the_later_one_counts() -> None:
    """A key that both sides of a cut set is a conflict, the same on both; additions to a set are none."""
    pair = await collision()
    assert conflicts_on(pair.mx1) == [("cluster:smtp.banner", ['"two"', '"one"'])]
    assert conflicts_on(pair.mx2) == conflicts_on(pair.mx1)


async def test_a_newer_write_settles_a_conflict() -> None:
    """Whoever has seen both values and sets the key again leaves nothing to settle."""
    pair = await collision()
    await pair.mx2.set("smtp.banner", '"three"')
    await pair.fleet.pump()
    assert conflicts_on(pair.mx1) == conflicts_on(pair.mx2) == []


async def test_the_same_value_from_both_sides_is_no_conflict() -> None:
    """Two people who wanted the same thing need not be asked."""
    pair = await two_machines()
    await pair.cut()
    await pair.mx1.set("smtp.banner", '"hello"')
    await pair.mx2.set("smtp.banner", '"hello"')
    await pair.meet()
    assert conflicts_on(pair.mx1) == []


async def test_a_value_against_its_removal_is_a_conflict() -> None:
    """One side changed what the other unset: both stand, the later one first."""
    pair = await two_machines()
    await pair.mx1.set("smtp.banner", '"hello"')
    await pair.fleet.pump()
    await pair.cut()
    await pair.mx1.set("smtp.banner", '"one"')
    await pair.mx2.command(commands.UnsetSetting(key="smtp.banner"))
    await pair.meet()
    assert conflicts_on(pair.mx2) == [("cluster:smtp.banner", [None, '"one"'])]


async def test_a_conflict_is_told_with_its_writers() -> None:
    """For scripts a conflict has its path, its kind, who wrote each value where and when, and which one counts."""
    pair = await collision()
    (found,) = conflicts.conflicts(registers_of(pair.mx1))
    shown = conflicts.to_json(found, pair.mx1.cluster, lambda record: event_of(pair.mx1, record))
    told = msgspec.json.decode(msgspec.json.encode(shown))
    assert (told["path"], told["kind"]) == ("cluster:smtp.banner", "setting")
    assert [(lane["machine"], lane["user"], lane["value"], lane["unset"]) for lane in told["lanes"]] == [
        ("mx2", "os:root", "two", False),
        ("mx1", "os:root", "one", False),
    ]
    assert told["winner"] == told["lanes"][0]["event"] == found.winner.id
    assert told["lanes"][0]["time"].startswith("2023-11-14T22:13:")
    assert told["lanes"][0]["time"].endswith("Z")


async def test_of_a_user_it_is_told_what_may_be_seen() -> None:
    """Name, role and way of logging in, and whether they were deleted; no hash, and no hash of a hash."""
    pair = await two_machines()
    salt, key = bytes(16), key_line("zoe")
    await pair.mx1.command(commands.AddUser(name="zoe", role="guest", password="$argon2id$x", salt=salt))
    await pair.fleet.pump()
    await pair.cut()
    await pair.mx1.command(commands.ChangeUser(user="zoe", role="operator", add_keys=(key,), both=True, salt=salt))
    await pair.mx2.command(commands.DeleteUser(user="zoe", salt=salt))
    await pair.meet()
    (found,) = conflicts.conflicts(registers_of(pair.mx1))
    shown = conflicts.to_json(found, pair.mx1.cluster, lambda record: event_of(pair.mx1, record))
    assert [lane["value"] for lane in shown["lanes"]] == [
        "zoe, deleted",
        "zoe, operator, logs in with password and key",
    ]


# --- registers by hand -----------------------------------------------------------------------------


def lane(name: str, value: LaneValue, hybrid: int = 1, *, weak: bool = False, text: str | None = None) -> Lane:
    """Return a lane written by an imaginary record."""
    return Lane(RecordId(name * 64), value, hybrid, weak, text=text)


def in_register(path: str, *lanes: Lane) -> list[Conflict]:
    """Return the conflicts of lanes that stand in one register."""
    return conflicts.conflicts(Standing({Path(path): lanes}))


@pytest.mark.parametrize(
    ("path", "lanes"),
    [
        ("machine/m1/removed", (lane("a", '["m2"]'), lane("b", '["m3"]'))),
        ("machine/m1/detached", (lane("a", '{"by":"ann","at":1}'), lane("b", '{"by":"bob","at":2}'))),
        ("element/cluster/relay/1", (lane("a", "true"), lane("b", "false"))),
        ("user/u1", (lane("a", Secret("a" * 64), text='"x"'), lane("b", Secret("b" * 64), text='"x"'))),
        ("setting/cluster/key", (lane("a", None), lane("b", None))),
        ("setting/cluster/key", (lane("a", "1"),)),
    ],
)
def test_lanes_that_do_not_contradict_each_other(path: str, lanes: tuple[Lane, ...]) -> None:
    """Removed twice is removed, detached twice is detached, an addition survives, and equal secrets are equal."""
    assert in_register(path, *lanes) == []


def test_detaching_contradicts_taking_back() -> None:
    """One side detached a machine while the other took it back."""
    (found,) = in_register("machine/m1/detached", lane("a", '{"by":"ann","at":1}', 1), lane("b", None, 2))
    assert found.winner.value is None


def test_a_persons_value_counts_against_a_later_timers() -> None:
    """A lane that a timer wrote never comes first."""
    (found,) = in_register("setting/cluster/key", lane("a", "1", 5), lane("b", "2", 9, weak=True))
    assert [one.value for one in found.lanes] == ["1", "2"]


def user_lane(name: str, hybrid: int, text: str) -> Lane:
    """Return a lane of a user."""
    return lane(name, Secret(name * 64), hybrid, text=text)


def test_of_a_users_lanes_the_deleted_one_counts_then_the_lesser_role() -> None:
    """The first lane of a user's conflict is what the read model takes."""
    admin = user_lane("a", 9, '{"name":"eve","role":"administrator"}')
    guest = user_lane("b", 5, '{"name":"eve","role":"guest"}')
    gone = user_lane("c", 1, '{"name":"eve","role":"operator","deleted":true}')
    assert in_register("user/eve", admin, guest)[0].winner == guest
    assert in_register("user/eve", admin, guest, gone)[0].winner == gone
    registers = Standing({Path("user/eve"): (admin, guest)})
    assert read(registers).users["eve"].role == "guest"


def test_of_admins_lanes_the_latest_counts() -> None:
    """``admin`` can be neither deleted nor demoted, so nothing but time decides."""
    one = user_lane("a", 9, '{"name":"admin","role":"administrator"}')
    other = user_lane("b", 5, '{"name":"admin","role":"guest"}')
    assert in_register("user/admin", other, one)[0].winner == one


# --- problems --------------------------------------------------------------------------------------


async def test_a_quiet_cluster_has_no_problems() -> None:
    """Nothing is reported where nothing is wrong, though values collided."""
    pair = await collision()
    assert problems_on(pair.mx1) == []


async def test_two_machines_with_one_name_are_named() -> None:
    """Both sides of a cut gave one name to two machines: both ids are told."""
    pair = await two_machines()
    await pair.cut()
    await pair.mx1.command(commands.ChangeMachine(hostname="mx9"))
    await pair.mx2.command(commands.ChangeMachine(hostname="MX9"))
    await pair.meet()
    (problem,) = problems_on(pair.mx1)
    assert problem.kind == "machines with one name"
    assert pair.mx1.id in problem.text
    assert pair.mx2.id in problem.text
    with pytest.raises(Refused):
        pair.mx1.cluster.machine("mx9")
    shown = show_path(Path(f"setting/machine/{pair.mx2.id}/key"), pair.mx1.cluster)
    assert shown == f"machine:{pair.mx2.id}:key", "an ambiguous name would address nothing"


def group_lanes(group: str, name: str) -> dict[Path, tuple[Lane, ...]]:
    """Return the registers of a group."""
    return {
        Path(f"group/{group}/created"): (lane(group[0], "true"),),
        Path(f"group/{group}/name"): (lane(group[0], f'"{name}"'),),
    }


def problems_in(lanes: Mapping[Path, tuple[Lane, ...]], *lines: Line) -> list[Problem]:
    """Return the problems of registers by hand."""
    registers = Standing(lanes)
    return conflicts.problems(read(registers), registers, lines, [])


def test_two_groups_with_one_name_are_named() -> None:
    """Two groups that were renamed alike both stay, and both ids are told."""
    (problem,) = problems_in({**group_lanes("a", "Paris"), **group_lanes("b", "paris")})
    assert (problem.kind, problem.since) == ("groups with one name", 0)
    assert problem.text == "2 groups are named Paris (a, b): commands take their ids"


def test_settings_under_what_is_gone_are_named() -> None:
    """A setting of a deleted group or of a machine that is no member has no effect; an unset one needs none."""
    lanes = {
        **group_lanes("a", "Paris"),
        **group_lanes("b", "Berlin"),
        Path("group/b/deleted"): (lane("d", '"a"'),),
        Path("setting/group/b/smtp.banner"): (lane("e", '"x"'),),
        Path("setting/group/b/smtp.port"): (lane("e", "25"),),
        Path("setting/group/a/smtp.banner"): (lane("e", '"x"'),),
        Path("setting/group/b/gone"): (lane("e", None),),
        Path("element/machine/m1/relay/1"): (lane("e", "true"),),
        Path("kind/relay"): (lane("e", '"set"'),),
    }
    of_group, of_machine = problems_in(lanes)
    assert {of_group.kind, of_machine.kind} == {"settings without effect"}
    assert of_group.text.startswith("2 settings under the deleted group Berlin have no effect, smtp.banner for one")
    assert of_group.text.endswith("--level group:b")
    assert of_machine.text.startswith("1 setting under m1, which is no member, has no effect, relay for one")


def test_a_plain_value_under_a_set_is_named() -> None:
    """One side gave a key a value while the other made it a set: the value that nobody sees is told."""
    lanes = {
        Path("kind/relay"): (lane("a", '"set"'),),
        Path("setting/cluster/relay"): (lane("b", '"192.0.2.1"'),),
        Path("setting/cluster/other"): (lane("b", '"192.0.2.1"'),),
    }
    (problem,) = problems_in(lanes)
    assert problem.kind == "plain value under a set"
    assert problem.text.startswith("cluster:relay has a plain value")


def test_a_void_record_is_named_with_its_reason() -> None:
    """What counts for nothing is told by machine, number and reason, whatever signs are in it."""
    ann = identity("ann")
    record = sealed(following(first_record(ann), kind="Coup", writes=(write("setting/cluster/x", "1"),)), ann)
    added = Appended(2, 1, record, "is of the unknown kind '\x1b[2J'", 0)
    registers = Standing({Path(f"machine/{ann.id}/key"): (lane("a", ann.key_text),)})
    (problem,) = conflicts.problems(read(registers), registers, [], [added])
    assert problem.kind == "void record"
    assert f"#2 ({record.id[:10]}) counts for nothing: it is of the unknown kind" in problem.text
    assert "\x1b" not in problem.text


# --- machines that lived twice -----------------------------------------------------------------------


def line(number: int, seq: int, epoch: str = "e1", parent: int | None = None, forked_at: int = 0) -> Line:
    """Return a line of machine ``m1``."""
    return Line(
        number=number,
        machine=MachineId("m1"),
        epoch=Epoch(epoch),
        parent=parent,
        forked_at=forked_at,
        seq=seq,
        head=RecordId("f" * 64),
        hybrid=1,
        position=number,
        actor=b"",
    )


def epoch_lanes(epoch: str, told: str) -> dict[Path, tuple[Lane, ...]]:
    """Return the registers of machine ``m1``, named anna, with the beginning of an epoch."""
    return {
        Path("machine/m1/key"): (lane("a", '"00"'),),
        Path("machine/m1/hostname"): (lane("a", '"anna"'),),
        Path(f"machine/m1/epoch:{epoch}"): (lane("b", told),),
    }


def test_a_feed_with_branches_names_its_machine() -> None:
    """Two records with one number are what a rolled back or cloned store leaves."""
    lanes = epoch_lanes("e1", '{"reason":"joined","previous":null}')
    (problem,) = problems_in(lanes, line(1, 9), line(2, 7, parent=1, forked_at=4))
    assert problem.kind == "restored or cloned machine"
    assert problem.text.startswith("anna was restored from an earlier copy or ran twice")
    assert "from number 5 on again" in problem.text


def test_an_epoch_that_began_without_known_records_names_its_machine() -> None:
    """Its author knew six records of the epoch before, and there are nine."""
    lanes = epoch_lanes("e2", '{"reason":"moved","previous":["e1",6]}')
    (problem,) = problems_in(lanes, line(1, 9), line(2, 1, "e2"))
    assert "without 3 records that it had written" in problem.text


def test_records_that_came_back_name_their_author() -> None:
    """A machine that heard of its own records from a peer says so when it begins its next epoch."""
    lanes = epoch_lanes("e2", '{"reason":"restored","previous":["e1",9]}')
    (problem,) = problems_in(lanes, line(1, 9), line(2, 1, "e2"))
    assert "got records of its own back" in problem.text


@pytest.mark.parametrize(
    "told",
    [
        '{"reason":"joined","previous":null}',
        '{"reason":"moved","previous":["e1",9]}',
        '{"reason":"moved","previous":["never heard of",1]}',
        '{"reason":"moved","previous":"nonsense"}',
        '"nonsense"',
        "7",
    ],
)
def test_an_ordinary_epoch_is_no_sign(told: str) -> None:
    """A machine that moved, or joined, or says anything at all about its epoch, did not live twice."""
    assert problems_in(epoch_lanes("e2", told), line(1, 9), line(2, 1, "e2")) == []


async def test_a_restored_machine_is_named_by_everyone() -> None:
    """A log copied back from before its last changes converges with everyone, and its machine is named."""
    pair = await two_machines()
    before = deepcopy(pair.mx2.log)
    await pair.mx2.set("a", "1")
    await pair.mx2.set("b", "2")
    await pair.fleet.pump()
    await pair.fleet.restart(pair.mx2, before)
    await pair.mx2.set("c", "3")
    await pair.meet()
    for machine in (pair.mx1, pair.mx2):
        (problem,) = problems_on(machine)
        assert problem.kind == "restored or cloned machine"
        assert problem.text.startswith("mx2 ")


def test_names_of_an_empty_cluster() -> None:
    """What belongs to nobody known is shown by its id."""
    nobody = Cluster()
    assert show_path(Path("setting/group/b%2Fx/key"), nobody) == "group:b%2Fx:key"
    assert show_path(Path("machine/m1/hostname"), nobody) == "machine/m1/hostname"
    assert show_path(Path("user/u%201"), nobody) == "user/u 1"
    assert show_path(Path("element/cluster/relay/%22x%22"), nobody) == 'cluster:relay["x"]'
