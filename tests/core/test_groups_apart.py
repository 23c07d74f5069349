"""Whatever the two sides of a cut do to groups and levels, they end as one cluster that keeps its promises."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.core import commands
from cluster_store.core.cluster import Cluster
from cluster_store.core.conflicts import conflicts, problems
from cluster_store.core.errors import Refused
from cluster_store.core.rules import read
from cluster_store.core.settings import effective_settings
from cluster_store.core.types import GroupId, Path
from tests.collisions import registers_of
from tests.core.agreement import agree
from tests.core.builders import finished
from tests.replicas import Fleet, Machine

NAMES = ("anna", "bert", "cleo")
GROUPS = ("Main_Group", "Paris", "Lyon")
SALT = bytes(16)
LEVELS = ("cluster", "group:Main_Group", "group:Paris", "machine:cleo")

Make = Callable[..., commands.Command]

_groups = st.sampled_from(GROUPS)
_levels = st.sampled_from(LEVELS)
STEPS = st.one_of(
    st.builds(lambda name: commands.AddGroup(name=name), _groups),
    st.builds(lambda group, name: commands.RenameGroup(group=group, name=name), _groups, _groups),
    st.builds(lambda group, to: commands.DeleteGroup(group=group, to=to), _groups, st.one_of(st.just(""), _groups)),
    st.builds(
        lambda machine, group: commands.MoveMachines(machines=(machine,), group=group), st.sampled_from(NAMES), _groups
    ),
    st.builds(lambda name: commands.SetClusterName(name=name), st.sampled_from(("ships", "boats"))),
    st.builds(
        lambda value, level: commands.SetSetting(key="a", value=str(value), level=level, salt=SALT),
        st.integers(0, 2),
        _levels,
    ),
    st.builds(
        lambda level, target: commands.MoveSettings(keys=("a",), level=level, target=target, salt=SALT),
        _levels,
        _levels,
    ),
    st.builds(lambda level: commands.DeleteSettings(keys=("a",), level=level), _levels),
)


async def act(machine: Machine, steps: list[commands.Command]) -> None:
    """Carry out commands, those that can be."""
    for step in steps:
        with suppress(Refused):
            await machine.command(step)


async def apart(
    before: list[commands.Command], one: list[commands.Command], other: list[commands.Command]
) -> list[Machine]:
    """Return machines that did something together, then something else on two sides of a cut, and met again."""
    fleet = Fleet()
    machines = list(await fleet.fleet_of(*NAMES))
    await machines[0].command(commands.AddGroup(name="Paris"))
    await act(machines[0], before)
    await fleet.pump()
    for machine in machines[1:]:
        await fleet.cut(machines[0], machine)
    await act(machines[0], one)
    await act(machines[1], other)
    await fleet.pump()
    for machine in machines[1:]:
        await fleet.connect(machines[0], machine)
    await fleet.pump()
    return machines


def sides() -> st.SearchStrategy[list[commands.Command]]:
    """Draw what happens on one side."""
    return st.lists(STEPS, max_size=5)


@settings(max_examples=40)
@given(sides(), sides(), sides())
def test_sides_that_meet_again_agree_and_every_machine_is_in_a_live_group(
    before: list[commands.Command], one: list[commands.Command], other: list[commands.Command]
) -> None:
    """And where a rule had to decide, an operator is told, and can make it final."""
    machines = finished(apart(before, one, other))
    finished(agree(*machines))
    for machine in machines:
        cluster = machine.cluster
        assert cluster.groups
        assert all(member.group in cluster.groups for member in cluster.machines.values())
    finished(settle(machines[0]))
    registers = registers_of(machines[0])
    kinds = {problem.kind for problem in problems(read(registers), registers, [], [])}
    assert kinds <= {"settings without effect"}
    assert not [conflict for conflict in conflicts(registers) if conflict.kind in ("group", "machine", "cluster")]


async def settle(machine: Machine) -> None:
    """Name every group anew and put every machine where it is: that must be possible, and must change nothing."""

    def what() -> object:
        registers = registers_of(machine)
        values = {
            one: {key: value.value for key, value in effective_settings(registers, cluster.levels_for(one)).items()}
            for one in cluster.machines
        }
        return {one: member.group for one, member in cluster.machines.items()}, values

    cluster = machine.cluster
    before = what()
    await name_anew(machine)
    for member in list(cluster.machines.values()):
        group_name = machine.cluster.groups[member.group].name
        await machine.command(commands.MoveMachines(machines=(member.id,), group=group_name))
    await machine.command(commands.SetClusterName(name=cluster.name))
    cluster = machine.cluster
    assert what() == before


async def name_anew(machine: Machine) -> None:
    """Give every group a name that no other has; one that cannot be told from others can be once those are renamed."""
    names = {group: f"settled {number}" for number, group in enumerate(machine.cluster.groups)}
    while names:
        before = len(names)
        for group, name in list(names.items()):
            text = address(machine.cluster, group)
            if text is not None:
                await machine.command(commands.RenameGroup(group=text, name=name))
                del names[group]
        assert len(names) < before, "no group can be told from the others"


def address(cluster: Cluster, group: GroupId) -> str | None:
    """Return what a command can call a group: its name, else its id, where that is no other one's name."""
    for text in (cluster.groups[group].name, group):
        with suppress(Refused):
            if cluster.group(text).id == group:
                return text
    return None


async def test_a_group_s_liveness_that_was_written_down_outlives_a_deletion_on_the_other_side() -> None:
    """Once somebody made final that a group lives, only a new deletion of it ends it."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await anna.command(commands.AddGroup(name="Paris"))
    await fleet.pump()
    await fleet.cut(anna, bert)
    await anna.command(commands.DeleteGroup(group="Main_Group"))
    await bert.command(commands.DeleteGroup(group="Paris"))
    await fleet.connect(anna, bert)
    await fleet.pump()
    await bert.command(commands.RenameGroup(group="Paris", name="Paris"))
    await bert.command(commands.AddGroup(name="Lyon"))
    await fleet.pump()
    assert not registers_of(anna).standing(Path("group/paris/deleted"))
    assert [group.name for group in anna.cluster.groups.values()] == ["Lyon", "Paris"]
    assert {machine.group for machine in anna.cluster.machines.values()} == {"paris"}
