"""What waits for somebody: overrides that hide newer values, what settles which thing, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings

from cluster_store.core import commands
from cluster_store.core.conflicts import TWO_LIVES, acknowledged
from cluster_store.core.errors import InvalidValue, NotFound, Refused
from cluster_store.core.hidden import hidden_values
from cluster_store.core.inbox import Inbox, inbox, problem_to_json, resolve
from cluster_store.core.registers import CLUSTER, Lane, Registers, setting_path, winner
from cluster_store.core.rules import read
from cluster_store.core.state import Appended
from cluster_store.core.types import Level, MachineId, Path, RecordId
from tests.collisions import Collision, collision, registers_of, two_machines
from tests.core.agreement import known_to, log_of
from tests.core.desk import SALT
from tests.core.histories import History, Step, step_lists
from tests.core.plain import Plain
from tests.core.test_past import closure_of, stored
from tests.core.test_rollback import registers_in
from tests.replicas import Machine


def open_on(machine: Machine) -> Inbox:
    """Return what is open on a machine."""
    registers = registers_of(machine)
    known = known_to(log_of(machine), machine.state, registers, {})
    return inbox(known, [], lambda *_: None)


def settling(machine: Machine, *choices: tuple[str, str]) -> commands.SettleConflicts:
    """Return the command that settles what was named."""
    named = [(path, RecordId(event)) for path, event in choices]
    return resolve(named, open_on(machine), machine.cluster, registers_of(machine), SALT)


async def overridden() -> Collision:
    """Return two machines: one overrode a value, then the other changed it without knowing."""
    pair = await two_machines()
    await pair.mx1.set("a", "1")
    await pair.fleet.pump()
    await pair.cut()
    await pair.mx2.set("a", "2", "machine:mx2")
    await pair.mx1.set("a", "3")
    await pair.meet()
    return pair


# --- overrides ---


async def test_an_override_that_hides_a_newer_value_is_named() -> None:
    """Its path, both events to choose from, and since when it is so, alike on both machines."""
    pair = await overridden()
    for machine in (pair.mx1, pair.mx2):
        (problem,) = open_on(machine).problems
        assert (problem.kind, problem.path) == ("override hides a newer value", "machine:mx2:a")
        override, hidden = problem.events
        told = problem_to_json(problem)
        assert told["events"] == [override, hidden]
        assert told["since"].startswith("20")
        assert "is 2 and hides a newer value at cluster, 3" in problem.text


@pytest.mark.parametrize("which", [0, 1])
async def test_an_override_is_kept_or_given_up(which: int) -> None:
    """The override's event writes it anew, by somebody who knows; the newer value's unsets it."""
    pair = await overridden()
    (problem,) = open_on(pair.mx1).problems
    command = settling(pair.mx1, (problem.path, problem.events[which]))
    assert isinstance(command, commands.SettleSettings)
    await pair.mx1.command(command)
    assert open_on(pair.mx1).problems == []
    (lane,) = registers_of(pair.mx1).standing(Path(f"setting/machine/{pair.mx2.id}/a"))
    assert lane.value == ("2", None)[which]


@settings(max_examples=100)
@given(step_lists(("set", "set", "set", "load", "meet", "meet", "unset", "copy")))
def test_hidden_values_are_those_that_a_naive_search_finds(steps: list[Step]) -> None:
    """Of all pairs of levels: the less specific value is newer, says something else, and its past has no override."""
    history = History().play(steps)
    store = stored(history)
    log = store.log.records
    registers = registers_in(store.log.lanes)
    cluster = read(registers)
    found = {(one.path, one.lane.id, one.hidden.id) for one in hidden_values(cluster, registers, reversed(log))}
    expected = set()
    levels = [(Level(f"group/{group}"), [CLUSTER]) for group in cluster.groups]
    levels += [(Level(f"machine/{machine}"), cluster.levels_for(machine)[1:]) for machine in cluster.machines]
    kinds = ((path, winner(lanes)) for path, lanes in registers.under("kind/"))
    sets = {path for path, lane in kinds if lane is not None and lane.value == '"set"'}
    for level, above in levels:
        for key in ("smtp.banner", "relay", "hostname", "last"):
            lane = valued(registers, level, key)
            hidden = next(filter(None, (valued(registers, other, key) for other in above)), None)
            if lane is None or hidden is None or Path(f"kind/{key}") in sets:
                continue
            unknown = lane.id not in closure_of(log, {hidden.id})
            if hidden.hybrid > lane.hybrid and hidden.value != lane.value and unknown:
                expected.add((setting_path(level, key), lane.id, hidden.id))
    assert found == expected


def valued(registers: Registers, level: Level, key: str) -> Lane | None:
    """Return the lane that gives a key its value at a level, None where it has none."""
    lane = winner(registers.standing(setting_path(level, key)))
    return lane if lane is not None and lane.value is not None else None


def test_the_log_is_not_read_where_no_override_is_older() -> None:
    """In a cluster where overrides came last, the search costs nothing."""
    registers = (
        Plain()
        .put("cluster/name", '"ships"')
        .put("group/a/created", "true")
        .put("setting/cluster/x", "1", 1)
        .put("setting/group/a/x", "2", 2)
    )

    def unread() -> Iterator[Appended]:
        yield from pytest.fail("the log was read")

    assert hidden_values(read(registers), registers, unread()) == []


async def test_what_no_register_shows_is_listed_with_its_age() -> None:
    """Settings and a machine of a deleted group, two groups with one name, an override that hides a newer value."""
    pair = await overridden()
    await pair.mx1.command(commands.AddGroup(name="Paris"))
    await pair.mx1.command(commands.AddGroup(name="Lyon"))
    await pair.mx1.command(commands.RenameGroup(group="Lyon", name="Nice"))
    await pair.fleet.pump()
    await pair.cut()
    await pair.mx1.set("b", "1", "group:Nice")
    await pair.mx1.command(commands.MoveMachines(machines=("mx1",), group="Nice"))
    await pair.mx1.command(commands.RenameGroup(group="Paris", name="Rome"))
    pair.fleet.now += 60_000
    await pair.mx2.command(commands.DeleteGroup(group="Nice"))
    await pair.mx2.command(commands.AddGroup(name="Rome"))
    await pair.meet()
    for machine in (pair.mx1, pair.mx2):
        ages = {problem.kind: pair.fleet.now - (problem.since or 0) for problem in open_on(machine).problems}
        assert sorted(ages) == [
            "groups with one name",
            "machine of a deleted group",
            "override hides a newer value",
            "settings without effect",
        ]
        assert ages.pop("override hides a newer value") >= 60_000
        assert all(0 <= age < 60_000 for age in ages.values()), ages
        named = next(one.text for one in open_on(machine).problems if one.kind == "settings without effect")
        assert named.startswith("1 setting under the deleted group Nice has no effect, b for one")


# --- settling ---


async def test_several_things_are_settled_by_one_event() -> None:
    """Each names its register, and the event says what it settled."""
    pair = await collision()
    (conflict,) = open_on(pair.mx1).conflicts
    await pair.mx1.command(settling(pair.mx1, ("cluster:smtp.banner", conflict.lanes[1].id)))
    (lane,) = registers_of(pair.mx1).standing(conflict.path)
    assert lane.value == conflict.lanes[1].value
    assert log_of(pair.mx1).records[-1].record.envelope.kind == "ConflictSettled"


async def test_a_conflict_that_changed_meanwhile_is_refused() -> None:
    """What was chosen among other values is not carried out."""
    pair = await collision()
    (conflict,) = open_on(pair.mx1).conflicts
    command = settling(pair.mx1, ("cluster:smtp.banner", conflict.lanes[0].id))
    await pair.mx1.set("smtp.banner", '"three"', "cluster")
    with pytest.raises(Refused, match="changed meanwhile"):
        await pair.mx1.command(command)


async def test_a_secret_whose_value_is_not_here_cannot_be_chosen() -> None:
    """Only its hash is here, so nobody could write it again."""
    pair = await two_machines()
    await pair.cut()
    await pair.mx1.set("s", '"one"', secret=True)
    await pair.mx2.set("s", '"two"', secret=True)
    await pair.meet()
    (conflict,) = open_on(pair.mx1).conflicts
    command = settling(pair.mx1, ("cluster:s", conflict.lanes[1].id))
    lanes = pair.mx1.state.lanes
    lanes[conflict.path] = tuple(msgspec.structs.replace(lane, text=None) for lane in lanes[conflict.path])
    with pytest.raises(Refused, match="is not on this machine"):
        await pair.mx1.command(command)


@pytest.mark.parametrize(
    "path", ["announced/x", "machine/m/removed", "machine/m/key", "nowhere", "setting/nowhere", "cluster/%zz"]
)
async def test_what_nobody_settles_is_refused(path: str) -> None:
    """Whatever a caller asks for, keys, removals and announcements are not written so."""
    pair = await two_machines()
    one = commands.Settlement(path=path, event="f" * 64, standing=())
    with pytest.raises(Refused):
        await pair.mx1.command(commands.SettleConflicts(settlements=(one,), salt=SALT))


async def test_who_settles_settings_settles_nothing_else() -> None:
    """The command that operators may give is about settings alone."""
    pair = await two_machines()
    one = commands.Settlement(path="cluster/name", event="f" * 64, standing=())
    with pytest.raises(InvalidValue):
        await pair.mx1.command(commands.SettleSettings(settlements=(one,), salt=SALT))
    noted = commands.Acknowledgement(machine=pair.mx2.id, signs=("x",))
    with pytest.raises(InvalidValue):
        await pair.mx1.command(commands.SettleSettings(acknowledged=(noted,), salt=SALT))
    strange = commands.Acknowledgement(machine="f" * 32, signs=("x",))
    with pytest.raises(InvalidValue):
        await pair.mx1.command(commands.SettleConflicts(acknowledged=(strange,), salt=SALT))


# --- acknowledging ---


async def test_two_people_acknowledge_different_signs() -> None:
    """What either of them has looked into is acknowledged, and that is no conflict."""
    pair = await two_machines()
    await pair.cut()
    for machine, sign in ((pair.mx1, "one"), (pair.mx2, "two")):
        noted = commands.Acknowledgement(machine=pair.mx2.id, signs=(sign,))
        await machine.command(commands.SettleConflicts(acknowledged=(noted,), salt=SALT))
    await pair.meet()
    assert set(acknowledged(registers_of(pair.mx1), pair.mx2.id)) == {"one", "two"}
    assert open_on(pair.mx1).conflicts == []


@pytest.mark.parametrize("text", ["7", '"x"', "[1]", '{"a":1}'])
def test_an_acknowledgement_in_a_wrong_shape_acknowledges_nothing(text: str) -> None:
    """A member may write anything anywhere."""
    registers = Plain().put("machine/m1/acknowledged", text)
    assert acknowledged(registers, MachineId("m1")) == {}


async def test_nothing_is_open_where_nothing_happened() -> None:
    """A path that names nothing is refused, also that of a machine that lived once."""
    pair = await two_machines()
    assert not [one for one in open_on(pair.mx1).problems if one.kind == TWO_LIVES]
    for path in ("machine:mx1", "cluster:x", ""):
        with pytest.raises(NotFound, match="nothing is open"):
            settling(pair.mx1, (path, "f" * 64))
