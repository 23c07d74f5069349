"""Whatever the two sides of a cut do to how machines are reached, and to a machine that goes on working meanwhile."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.core import commands
from cluster_store.core.conflicts import conflicts, problems
from cluster_store.core.errors import Refused
from cluster_store.core.registers import Standing
from cluster_store.core.types import Path
from tests.collisions import registers_of
from tests.core.agreement import agree
from tests.core.builders import finished
from tests.replicas import Fleet, Machine

#: The first is on a side of its own; the last may be removed there while it goes on working on the other.
NAMES = ("anna", "bert", "cleo")
SALT = bytes(16)

_machines = st.sampled_from((None, *NAMES))
_ports = st.sampled_from((None, 2222, 2777, 2888))
REACHING = st.one_of(
    st.builds(
        lambda over, port, machine: commands.ChangeCommunication(over=over, port=port, machine=machine),
        st.sampled_from((None, "ssh", "ccs")),
        _ports,
        _machines,
    ),
    st.builds(
        lambda machine, address: commands.ChangeCommunication(machine=machine, address=address),
        st.sampled_from(NAMES),
        st.sampled_from(("", "relay.one", "relay.two")),
    ),
)
SETTING = st.builds(
    lambda value, level: commands.SetSetting(key="a", value=str(value), level=level, salt=SALT),
    st.integers(0, 2),
    st.sampled_from(("cluster", "machine:cleo")),
)
REMOVING = st.just(commands.RemoveMachines(machines=("cleo",)))
#: Who does it, the second for cleo where it is on that side, and what.
Deed = tuple[int, commands.Command]
_SIDE = st.lists(st.tuples(st.integers(0, 1), st.one_of(REACHING, SETTING)), max_size=4)
_REMOVING_SIDE = st.lists(st.tuples(st.just(0), st.one_of(REACHING, SETTING, REMOVING)), max_size=4)


async def apart(one: list[Deed], other: list[Deed]) -> tuple[list[Machine], list[Standing]]:
    """Return machines that met again after a cut, those that are still members, and what each side knew before that."""
    fleet = Fleet()
    anna, bert, cleo = await fleet.fleet_of(*NAMES)
    for machine in (bert, cleo):
        await fleet.cut(anna, machine)
    for side, deeds in (((anna, anna), one), ((bert, cleo), other)):
        for doer, deed in deeds:
            with suppress(Refused):
                await side[doer].command(deed)
            await fleet.pump()
    before = [registers_of(anna), registers_of(bert)]
    await fleet.connect(anna, bert)
    await fleet.pump()
    members = [machine for machine in (anna, bert, cleo) if machine.id in anna.cluster.machines]
    if cleo in members:
        await fleet.connect(anna, cleo)
        await fleet.pump()
    return members, before


@settings(max_examples=40)
@given(_REMOVING_SIDE, _SIDE)
def test_each_fact_has_the_value_of_a_side_and_two_are_told(one: list[Deed], other: list[Deed]) -> None:
    """All who are still members agree; nothing that either side wrote is lost, also by who was removed meanwhile."""
    members, before = finished(apart(one, other))
    finished(agree(*members))
    registers = registers_of(members[0])
    open_paths = {conflict.path for conflict in conflicts(registers)}
    for path in facts(*before):
        said = [{lane.value for lane in side.standing(path)} for side in before]
        standing = {lane.value for lane in registers.standing(path)}
        assert standing <= said[0] | said[1]
        if len(standing) > 1:
            assert path in open_paths, f"nobody is told of {path}"
    cluster = members[0].cluster
    if len(members) < len(NAMES):
        left = {problem.kind for problem in problems(cluster, registers, [], [])}
        without_effect = any(path.startswith("setting/machine/") for path in facts(registers))
        assert ("settings without effect" in left) == without_effect


@settings(max_examples=25)
@given(_SIDE, _SIDE)
def test_saying_it_once_more_settles_how_machines_are_reached(one: list[Deed], other: list[Deed]) -> None:
    """Whatever had two values has the one that somebody gives after the two sides met."""
    members, _ = finished(apart(one, other))

    async def settle() -> None:
        machine = members[0]
        for over in ("ccs", "ssh"):
            await machine.command(commands.ChangeCommunication(over=over, port=2000))
        for name in NAMES:
            for address in ("relay.three", ""):
                await machine.command(commands.ChangeCommunication(machine=name, address=address))

    finished(settle())
    told = [conflict.path for conflict in conflicts(registers_of(members[0])) if conflict.kind != "setting"]
    assert told == []


def facts(*sides: Standing) -> list[Path]:
    """Return the registers that are about how machines are reached, and the setting that is changed here."""
    paths = {path for side in sides for path, _ in side.under("")}
    ends = ("/address", "/ssh_port", "/ccs_port", "cluster/over", "/a")
    return sorted(path for path in paths if path.endswith(ends))
