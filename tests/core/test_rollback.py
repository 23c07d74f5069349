"""What a rollback writes, against a naive twin, and what it comes to on machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.core import commands
from cluster_store.core.cluster import Cluster
from cluster_store.core.digest import digest
from cluster_store.core.errors import InvalidValue, Refused
from cluster_store.core.past import past_of
from cluster_store.core.registers import Lane, Registers, Secret, Standing
from cluster_store.core.rollback import Rollback, best, can_be_taken_back, plan, value_of
from cluster_store.core.state import Appended
from cluster_store.core.types import Path, RecordId
from tests.collisions import registers_of
from tests.core.agreement import log_of
from tests.core.builders import finished, rows_of
from tests.core.histories import History, Step, step_lists
from tests.core.test_past import closure_of, stored
from tests.replicas import Fleet, Machine

KEYS = ("a", "b", "s")
SETTINGS = ("setting/", "element/", "kind/")


def planned(machine: Machine, chosen: Callable[[Appended], bool], *, force: bool = False) -> Rollback:
    """Return what would take events back on a machine."""
    log = log_of(machine)

    def salted(path: Path, record: RecordId) -> tuple[bytes, str] | None:
        return log.secrets.get(record, {}).get(path)

    return plan(lambda: log.records, chosen, registers_of(machine), salted, force=force)


async def roll_back(machine: Machine, chosen: Callable[[Appended], bool], *, force: bool = False) -> Rollback:
    """Take events back on a machine; return what that was."""
    rollback = planned(machine, chosen, force=force)
    await machine.command(command_of(rollback))
    return rollback


def command_of(rollback: Rollback) -> commands.RollBackConfig:
    """Return the command that carries out a plan."""
    return commands.RollBackConfig(
        events=tuple(added.record.id for added in rollback.events), restorations=rollback.restorations
    )


def named(*ids: str) -> Callable[[Appended], bool]:
    """Choose events by their ids."""
    return lambda added: added.record.id in ids


def of_settings(registers: Registers) -> str:
    """Return the digest of the settings alone."""
    return digest(Cluster(), registers)


def value(machine: Machine, key: str) -> object:
    """Return what a key is at the cluster level, None where it is unset."""
    return value_of(best(Path(""), registers_of(machine).standing(Path(f"setting/cluster/{key}"))))


async def act(machine: Machine, what: str, key: str, number: int) -> None:
    """Change a setting, or a set, if that is possible."""
    elements = (f'"{number % 3}"',)
    level = ("cluster", f"machine:{machine.name}")[number % 2]
    try:
        if what == "set":
            await machine.set(key, str(number), level)
        elif what == "secret":
            await machine.set(key, f'"{number}"', level, secret=True)
        elif what == "unset":
            await machine.command(commands.UnsetSetting(key=key, level=level))
        elif what == "add":
            await machine.command(commands.AddElements(key=key, elements=elements, level=level))
        elif what == "remove":
            await machine.command(commands.RemoveElements(key=key, elements=elements, level=level))
        elif what == "back":
            past = [added.record.id for added in log_of(machine).records if can_be_taken_back(added)]
            if past:
                await roll_back(machine, named(past[number % len(past)]), force=number % 2 == 0)
        else:
            await machine.command(commands.AddGroup(name=f"group{number}"))
    except Refused:
        pass


ACTIONS = ("set", "set", "secret", "unset", "add", "add", "remove", "back", "group")
DEEDS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(KEYS), st.integers(0, 11)), max_size=14)


@settings(max_examples=40)
@given(DEEDS, st.integers(0, 50))
def test_rolling_back_everything_after_a_point_gives_what_was_then(deeds: list[tuple[str, str, int]], at: int) -> None:
    """Where nothing was concurrent, the settings have the digest that they had, and going forth again gives today's."""

    async def run() -> None:
        fleet = Fleet()
        machine = await fleet.found("mx1")
        begun = len(log_of(machine).records)
        for deed in deeds:
            await act(machine, *deed)
        log = list(log_of(machine).records)
        point = begun + at % (len(log) - begun + 1)
        then = past_of(rows_of(reversed(log)), lambda row, _: row.position == point, machine.id, lambda *_: None)
        now = of_settings(registers_of(machine))
        rollback = await roll_back(machine, lambda added: added.position > point)
        assert of_settings(registers_of(machine)) == of_settings(then)
        assert rollback.kept == rollback.lost == ()
        if rollback.restorations:
            await roll_back(machine, named(log_of(machine).records[-1].record.id))
            assert of_settings(registers_of(machine)) == now

    finished(run())


@settings(max_examples=40)
@given(DEEDS, DEEDS, DEEDS, st.sets(st.integers(0, 40), max_size=4), st.booleans())
def test_a_rollback_of_concurrent_changes_loses_nothing_unlisted(
    before: list[tuple[str, str, int]],
    here: list[tuple[str, str, int]],
    there: list[tuple[str, str, int]],
    picks: set[int],
    force: bool,  # noqa: FBT001 - drawn
) -> None:
    """Whatever stood and does not any more was listed, machines agree, and nothing else was touched."""

    async def run() -> None:
        fleet = Fleet()
        one, two = await fleet.fleet_of("mx1", "mx2")
        for deed in before:
            await act(one, *deed)
        await fleet.pump()
        await fleet.cut(one, two)
        for deed in here:
            await act(one, *deed)
        for deed in there:
            await act(two, *deed)
        await fleet.connect(one, two)
        await fleet.pump()
        log = [added for added in log_of(one).records if can_be_taken_back(added)]
        ids = [log[pick % len(log)].record.id for pick in picks if log]
        stood = lanes(registers_of(one))
        rollback = await roll_back(one, named(*ids), force=force)
        stands = lanes(registers_of(one))
        listed = {(change.path, lane.id) for change in rollback.changes for lane in change.gone}
        assert {one for one in stood if one not in stands} == listed
        touched = {change.path for change in rollback.changes}
        for path in touched:
            assert path.startswith(SETTINGS)
        for change in rollback.changes:
            assert said(best(change.path, registers_of(one).standing(change.path))) == said(change.then)
        await fleet.pump()
        assert of_settings(registers_of(two)) == of_settings(registers_of(one))

    finished(run())


def lanes(registers: Registers) -> set[tuple[Path, RecordId]]:
    """Return every lane that stands."""
    return {(path, lane.id) for path, standing in registers.under("") for lane in standing}


def said(lane: Lane | None) -> object:
    """Return what a lane says, a secret as its hash."""
    value = value_of(lane)
    return ("secret", value.secret) if isinstance(value, Secret) else value


@settings(max_examples=60)
@given(step_lists(), st.sets(st.integers(0, 200), min_size=1, max_size=4), st.booleans())
def test_the_value_of_before_is_what_stands_of_the_rest(
    steps: list[Step],
    picks: set[int],
    force: bool,  # noqa: FBT001 - drawn
) -> None:
    """In branching histories: the writes that are not taken back, and did not know of those, say what it was."""
    history = History().play(steps)
    store = stored(history)
    log = store.log.records
    ids = {log[pick % len(log)].record.id for pick in picks}
    registers = registers_in(store.log.lanes)
    rollback = plan(lambda: log, named(*ids), registers, lambda *_: (b"0" * 16, '"x"'), force=force)
    assert {added.record.id for added in (*rollback.events, *rollback.left)} == ids
    back = {added.record.id for added in rollback.events}
    written = {one.path: one for one in rollback.restorations}
    assert sorted(written) == sorted(change.path for change in rollback.changes)
    for change in rollback.changes:
        assert set(written[Path(change.path)].replaced) == {lane.id for lane in change.gone}
    for change in (*rollback.changes, *rollback.kept):
        writers = [added for added in log if not added.void and writes_to(added, change.path)]
        seeds = {added.record.id for added in writers} & back
        later = {
            added.record.id
            for added in writers
            if added.record.id not in back and closure_of(log, {added.record.id}) & seeds
        }
        assert bool(later) == (change in rollback.kept) or force
        rest = [added for added in writers if added.record.id not in back | later]
        assert said(change.then) == said(best(change.path, standing(rest, change.path)))
        others = [lane for lane in standing(rest, change.path) if said(lane) != said(change.then)]
        lost = {lane.id for lane in others} - {lane.id for lane in registers.standing(change.path)}
        assert {lane.id for lane in change.beside} == lost
        assert (change in rollback.settled) == (bool(lost) and change in rollback.changes)
        assert {lane.id for lane in change.gone} == {lane.id for lane in registers.standing(change.path)} & (
            back | later
        )


def registers_in(kept: dict[tuple[Path, RecordId], Lane]) -> Registers:
    """Return registers over the lanes of a log in memory."""
    found: dict[Path, tuple[Lane, ...]] = {}
    for (path, _), lane in kept.items():
        found[path] = (*found.get(path, ()), lane)
    return Standing(found)


def writes_to(added: Appended, path: Path) -> bool:
    """Say whether an event wrote a register."""
    return any(write.path == path for write in added.record.envelope.writes)


def standing(writers: Iterable[Appended], path: Path) -> list[Lane]:
    """Return the lanes that nobody among some writers replaces."""
    envelopes = [(added.record.id, added.record.envelope) for added in writers]
    writes = [(one, envelope, write) for one, envelope in envelopes for write in envelope.writes if write.path == path]
    gone = {replaced for _, _, write in writes for replaced in write.replaced}
    return [
        Lane(one, write.value, envelope.hybrid, envelope.weak)
        for one, envelope, write in writes
        if not isinstance(write.value, bool) and one not in gone
    ]


# --- situations ---


async def one_machine() -> Machine:
    """Return a machine with a cluster of its own."""
    return await Fleet().found("mx1")


async def test_what_was_changed_again_later_is_kept_unless_forced() -> None:
    """The later value is listed with what it was before; force gives that back."""
    machine = await one_machine()
    await machine.set("a", "0")
    first = await machine.set("a", "1")
    await machine.set("a", "2")
    rollback = planned(machine, named(first["event"]))
    assert rollback.restorations == ()
    (kept,) = rollback.kept
    assert (value_of(kept.now), value_of(kept.then)) == ("2", "0")
    await roll_back(machine, named(first["event"]), force=True)
    assert value(machine, "a") == "0"


async def test_an_element_that_was_knocked_out_after_its_removal_is_kept() -> None:
    """A removal leaves no lane, but whoever wrote the element again knew of it."""
    machine = await one_machine()
    await machine.command(commands.AddElements(key="r", elements=('"x"', '"y"'), level="machine:mx1"))
    gone = await machine.command(commands.RemoveElements(key="r", elements=('"x"',), level="machine:mx1"))
    await machine.command(commands.AddElements(key="r", elements=('"x"',), level="cluster"))
    await machine.command(commands.RemoveElements(key="r", elements=('"x"',), level="machine:mx1"))
    rollback = planned(machine, named(gone["event"]))
    assert [(value_of(one.now), value_of(one.then)) for one in rollback.kept] == [("false", "true")]


async def test_a_key_stays_a_set_while_elements_of_it_stay() -> None:
    """Taking back the addition that made a key a set leaves what others added later."""
    machine = await one_machine()
    first = await machine.command(commands.AddElements(key="r", elements=('"x"',)))
    await machine.command(commands.AddElements(key="r", elements=('"y"',)))
    rollback = await roll_back(machine, named(first["event"]))
    assert [change.path for change in rollback.changes] == ["element/cluster/r/%22x%22"]
    registers = registers_of(machine)
    assert registers.standing(Path("kind/r"))[0].value == '"set"'
    second = planned(machine, lambda added: added.record.envelope.kind == "ElementsAdded")
    assert "kind/r" in {change.path for change in second.changes}


async def test_a_secret_comes_back_and_an_erased_one_is_left_out() -> None:
    """The old secret has its old hash again, so the digest is that of then; without its text it cannot come back."""
    machine = await one_machine()
    await machine.set("s", '"one"', secret=True)
    second = await machine.set("s", '"two"', secret=True)
    rollback = await roll_back(machine, named(second["event"]))
    (lane,) = registers_of(machine).standing(Path("setting/cluster/s"))
    assert lane.text == '"one"'
    assert lane.value == value_of(rollback.changes[0].then)
    third = await machine.set("s", '"three"', secret=True)
    log_of(machine).secrets.pop(lane.id)
    lost = planned(machine, named(third["event"]))
    assert [change.path for change in lost.lost] == ["setting/cluster/s"]
    assert lost.restorations == ()


async def test_events_about_the_membership_are_left() -> None:
    """A group that was added stays; it is named."""
    machine = await one_machine()
    await machine.command(commands.AddGroup(name="paris"))
    await machine.set("a", "1")
    rollback = await roll_back(machine, lambda added: added.position > 2)
    assert [added.record.envelope.kind for added in rollback.left] == ["GroupAdded"]
    assert value(machine, "a") is None
    assert len(machine.cluster.groups) == 2


@pytest.mark.parametrize("ending", ["9", "2"])
async def test_a_conflict_that_somebody_ended_is_listed_where_it_does_not_come_back(ending: str) -> None:
    """The value that counted comes back, or is there still; the other one is told."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    await fleet.cut(anna, bert)
    await anna.set("a", "1")
    await bert.set("a", "2")
    await fleet.connect(anna, bert)
    await fleet.pump()
    assert value(anna, "a") == "2"
    event = (await anna.set("a", ending))["event"]
    rollback = await roll_back(anna, named(event))
    assert [value_of(change.then) for change in rollback.changes] == (["2"] if ending == "9" else [])
    assert [[lane.value for lane in change.beside] for change in rollback.settled] == [["1"]]
    assert value(anna, "a") == "2"


async def test_a_plan_that_is_out_of_date_is_refused() -> None:
    """Where somebody wrote since, nothing is taken back."""
    machine = await one_machine()
    event = await machine.set("a", "1")
    rollback = planned(machine, named(event["event"]))
    await machine.set("a", "2")
    with pytest.raises(Refused, match="a at cluster was changed meanwhile"):
        await machine.command(command_of(rollback))


@pytest.mark.parametrize("path", ["user/admin", "group/main_group/name", "setting/nowhere", "cluster/name"])
async def test_a_rollback_writes_settings_only(path: str) -> None:
    """Whatever a caller says, no other register is written."""
    machine = await one_machine()
    one = commands.Restoration(path=path, value='"x"', replaced=(), standing=())
    with pytest.raises(InvalidValue, match="only settings"):
        await machine.command(commands.RollBackConfig(events=(), restorations=(one,)))
