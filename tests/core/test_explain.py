"""Where a value comes from: level, writer, what it overrides, what it beat and why."""

from __future__ import annotations

from typing import Any

import msgspec

from cluster_store.core import commands
from cluster_store.core.explain import Explanation, explain, to_json
from cluster_store.core.registers import CLUSTER, Lane, LaneValue, Standing
from cluster_store.core.rules import read
from cluster_store.core.types import MachineId, Path, RecordId
from tests.collisions import collision, event_of, registers_of, two_machines
from tests.replicas import Machine


def told(machine: Machine, key: str, about: Machine | None = None) -> dict[str, Any]:
    """Return what a machine's store says of a key, as a script reads it."""
    explanation = explain(registers_of(machine), machine.cluster, (about or machine).id, key)
    shown = to_json(explanation, machine.cluster, lambda record: event_of(machine, record))
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(shown))
    return found


async def test_a_value_has_its_level_its_writer_and_what_it_overrides() -> None:
    """The most specific level gives the value; the others are told with their writers."""
    pair = await collision()
    story = told(pair.mx1, "smtp.banner")
    assert (story["value"], story["level"], story["set"]) == ("on mx1", "machine:mx1", False)
    assert (story["written"]["machine"], story["written"]["user"]) == ("mx1", "os:root")
    assert story["written"]["event"] in {added.record.id for added in pair.mx1.log.records}  # type: ignore[attr-defined]
    assert [(other["level"], other["value"]) for other in story["overrides"]] == [("cluster", "two")]
    assert story["beat"] == story["unset"] == []
    assert told(pair.mx1, "smtp.banner", pair.mx2)["level"] == "cluster"


async def test_a_value_tells_which_concurrent_ones_it_beat_and_why() -> None:
    """The later of two concurrent values counts; the other one is told with its writer, on both machines alike."""
    pair = await collision()
    (beaten,) = told(pair.mx2, "smtp.banner")["beat"]
    assert (beaten["value"], beaten["machine"], beaten["why"]) == ("one", "mx1", "it was written later")
    (hidden,) = told(pair.mx1, "smtp.banner")["overrides"]
    assert hidden["beat"][0]["event"] == beaten["event"]


async def test_when_it_was_written_and_when_it_was_learnt_are_told_apart() -> None:
    """A value that came over a link was learnt later than it was written."""
    pair = await two_machines()
    await pair.cut()
    await pair.mx1.set("a", "1")
    await pair.mx1.set("b", "1")
    await pair.meet()
    here, there = told(pair.mx1, "a")["written"], told(pair.mx2, "a")["written"]
    assert here["learnt"] == here["time"] == there["time"]
    assert there["learnt"] > there["time"]


async def test_a_level_where_the_key_was_unset_is_told() -> None:
    """Unsetting gives way to the next level, and says who did it; what it beat is told with it."""
    pair = await two_machines()
    await pair.mx1.set("a", "1")
    await pair.mx1.set("a", "2", "machine:mx1")
    await pair.fleet.pump()
    await pair.cut()
    await pair.mx1.set("a", "3", "machine:mx1")
    await pair.mx2.command(commands.UnsetSetting(key="a", level="machine:mx1"))
    await pair.meet()
    story = told(pair.mx1, "a")
    assert (story["value"], story["level"]) == (1, "cluster")
    (unset,) = story["unset"]
    assert (unset["level"], unset["written"]["machine"]) == ("machine:mx1", "mx2")
    assert [beaten["value"] for beaten in unset["beat"]] == [3]


async def test_a_key_that_is_unset_everywhere_tells_who_did_it() -> None:
    """A key without a value still has a history; one that was never set has none."""
    pair = await two_machines()
    await pair.mx1.set("a", "1")
    await pair.mx1.command(commands.UnsetSetting(key="a"))
    story = told(pair.mx1, "a")
    assert (story["value"], story["level"], story["written"]) == (None, None, None)
    assert [unset["level"] for unset in story["unset"]] == ["cluster"]
    assert explain(registers_of(pair.mx1), pair.mx1.cluster, pair.mx1.id, "never").stories == ()


async def test_a_set_is_told_element_by_element() -> None:
    """Each element has its own level and writer; one that is knocked out overrides the level that has it."""
    pair = await collision()
    await pair.mx1.command(
        commands.RemoveElements(key="relay", elements=('"192.0.2.2"',), level="machine:mx1", comment="not from here")
    )
    story = told(pair.mx1, "relay")
    assert (story["set"], story["value"]) == (True, ["192.0.2.1"])
    first, second = story["elements"]
    assert (first["element"], first["present"], first["level"]) == ("192.0.2.1", True, "cluster")
    assert (second["element"], second["present"], second["level"]) == ("192.0.2.2", False, "machine:mx1")
    assert second["written"]["comment"] == "not from here"
    assert [(other["level"], other["written"]["comment"]) for other in second["overrides"]] == [("cluster", "our own")]


async def test_an_addition_survives_a_removal_that_did_not_know_of_it() -> None:
    """Of concurrent lanes of an element the addition counts, also where the removal is later."""
    pair = await two_machines()
    await pair.mx1.command(commands.AddElements(key="relay", elements=("1", "2")))
    await pair.fleet.pump()
    level = "machine:mx1"
    await pair.cut()
    await pair.mx1.command(commands.AddElements(key="relay", elements=("1",), level=level))
    await pair.mx2.command(commands.RemoveElements(key="relay", elements=("1",), level=level))
    await pair.meet()
    first = told(pair.mx1, "relay")["elements"][0]
    assert (first["element"], first["present"], first["level"]) == (1, True, level)
    (beaten,) = first["beat"]
    assert beaten["why"].startswith("an addition to a set survives")


async def test_a_secret_is_not_told() -> None:
    """Who set a secret is told, and what it is is not."""
    pair = await collision()
    story = told(pair.mx2, "password")
    assert story["value"] == "(secret)"
    assert story["written"]["machine"] == "mx1"


# --- why, by hand ------------------------------------------------------------------------------------


def lane(name: str, value: LaneValue, hybrid: int, *, weak: bool = False) -> Lane:
    """Return a lane written by an imaginary record."""
    return Lane(RecordId(name * 64), value, hybrid, weak)


def reasons(*lanes: Lane) -> list[tuple[LaneValue, str]]:
    """Return the beaten values of lanes at the cluster level, and why."""
    registers = Standing({Path("setting/cluster/a"): lanes, Path("cluster/name"): (lane("0", '"x"', 1),)})
    explanation = _explained(registers)
    (story,) = explanation.stories
    assert story.effective is not None
    assert story.effective.level == CLUSTER
    return [(beaten.lane.value, beaten.why) for beaten in story.effective.beaten]


def _explained(registers: Standing) -> Explanation:
    return explain(registers, read(registers), MachineId("m1"), "a")


def test_each_rule_that_chooses_has_its_reason() -> None:
    """A person's change goes before a timer's, then the later one, then the greater id; equal values beat nothing."""
    person, timer = lane("a", "1", 5), lane("b", "2", 9, weak=True)
    assert reasons(person, timer) == [("2", "a person's change goes before a timer's")]
    assert reasons(lane("a", "1", 5), lane("b", "2", 9)) == [("1", "it was written later")]
    same = "both were written at the same time, and its id is the greater"
    assert reasons(lane("a", "1", 5), lane("b", "2", 5)) == [("1", same)]
    assert reasons(lane("a", "1", 5), lane("b", "1", 9)) == []
