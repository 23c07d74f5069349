"""What keeps a change from counting, or may yet meet it: overrides, conflicts, and whom it is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import commands, radius
from cluster_store.core.impact import Foreseen
from cluster_store.core.settings import effective
from tests.core.builders import identity
from tests.core.desk import SALT, Desk
from tests.core.test_impact import founded, set_to


@pytest.fixture
def desk() -> Desk:
    """The desk of the machines anna, bert and, in Paris, cleo."""
    return founded()


def radius_of(desk: Desk, *given: commands.Command) -> radius.Radius:
    """Return the blast radius of commands."""
    events = [event for command in given if (event := desk.decide(command).event) is not None]
    return radius.radius(Foreseen(desk.registers, events))


def shadows(desk: Desk, *given: commands.Command) -> list[tuple[str, str, str, list[str]]]:
    """Return which key at which level is hidden by which other one, on which machines."""
    shown = desk.cluster.show_level
    return [
        (one.key, shown(one.level), shown(one.hidden_by), [desk.cluster.hostname(machine) for machine in one.machines])
        for one in radius_of(desk, *given).shadows
    ]


def test_an_override_hides_a_change_from_its_machines(desk: Desk) -> None:
    """The most specific one is named; of the others nothing is said."""
    desk.do(set_to("a", "1", "group:Paris"))
    desk.do(set_to("a", "2", "machine:bert"))
    assert shadows(desk, set_to("a", "9", "cluster")) == [
        ("a", "cluster", "group:Paris", ["cleo"]),
        ("a", "cluster", "machine:bert", ["bert"]),
    ]
    assert shadows(desk, set_to("a", "9", "group:Paris")) == []
    assert shadows(desk, set_to("b", "9", "cluster")) == []


def test_a_change_does_not_hide_itself(desk: Desk) -> None:
    """What moves to a more specific level is meant to count there."""
    desk.do(set_to("a", "1", "cluster"))
    move = commands.MoveSettings(keys=("a",), level="cluster", target="group:Paris", salt=SALT)
    assert shadows(desk, move) == []


def test_of_a_set_the_elements_count(desk: Desk) -> None:
    """An addition is hidden where a more specific level says something of that very element."""
    desk.do(commands.AddElements(key="relay", elements=('"x"', '"y"'), level="cluster"))
    desk.do(commands.RemoveElements(key="relay", elements=('"x"',), level="group:Paris"))
    again = commands.RemoveElements(key="relay", elements=('"x"',), level="cluster")
    assert shadows(desk, again) == [("relay", "cluster", "group:Paris", ["cleo"])]
    assert shadows(desk, commands.AddElements(key="relay", elements=('"z"',), level="cluster")) == []


def test_a_conflict_about_a_key_that_changes_is_named(desk: Desk) -> None:
    """Whether the change settles it, or leaves it because it is at another level; those of other keys are not."""
    for key in ("a", "b"):
        desk.registers.put(f"setting/cluster/{key}", '"one"', 1, "c1" * 32)
        desk.registers.put(f"setting/cluster/{key}", '"other"', 2, "c2" * 32)
    ((settled),) = radius_of(desk, set_to("a", "9", "cluster")).disputed
    assert (settled.path, settled.settled) == ("setting/cluster/a", True)
    assert [lane.value for lane in settled.lanes] == ['"other"', '"one"']
    (left,) = radius_of(desk, set_to("a", "9", "machine:bert")).disputed
    assert (left.path, left.settled) == ("setting/cluster/a", False)


def test_whom_a_change_is_about(desk: Desk) -> None:
    """Whoever inherits from a level that it touches, also where nothing changes; nobody where nothing is written."""
    desk.do(set_to("a", "1", "machine:cleo"))
    cleo = (identity("cleo").id,)
    assert set(radius_of(desk, set_to("a", "9", "cluster")).concerned) == set(desk.cluster.machines)
    assert radius_of(desk, set_to("a", "9", "group:Paris")).concerned == cleo
    assert radius_of(desk, set_to("a", "1", "machine:cleo")).concerned == ()
    assert radius_of(desk, commands.DeleteGroup(group="Paris")).concerned == ()
    desk.do(set_to("b", "1", "group:Paris"))
    assert radius_of(desk, commands.DeleteGroup(group="Paris")).concerned == cleo


_LEVEL = st.sampled_from(("cluster", "group:Paris", "group:Main_Group", "machine:anna", "machine:cleo"))
_SET = st.builds(set_to, st.sampled_from(("a", "b")), st.sampled_from(("1", "2")), _LEVEL)


@given(st.lists(_SET, max_size=5), _SET)
def test_a_machine_follows_a_change_or_is_named(
    history: list[commands.SetSetting], change: commands.SetSetting
) -> None:
    """Every machine that inherits from the level has the new value afterwards, exactly where it is not named."""
    desk = founded()
    for command in history:
        desk.do(command)
    event = desk.decide(change).event
    if event is None:
        return
    foreseen = Foreseen(desk.registers, [event])
    level = desk.cluster.level(change.level or "")
    named = {machine for one in radius.radius(foreseen).shadows for machine in one.machines}
    for machine in desk.cluster.machines:
        levels = desk.cluster.levels_for(machine)
        if level in levels:
            value = effective(foreseen.after, levels, change.key)
            assert value is not None
            assert (value.level == level) == (machine not in named)
