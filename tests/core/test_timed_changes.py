"""What a change with a timer does on one machine and between two: by which clock, what is shown, and who may not."""

from __future__ import annotations

from typing import Any

import pytest

from cluster_store.core import commands
from cluster_store.core.conflicts import conflicts
from cluster_store.core.digest import digest
from cluster_store.core.errors import NotFound, Refused
from cluster_store.core.explain import explain, to_json
from cluster_store.core.history import describe
from cluster_store.core.limits import TIMER_MAX_MS
from cluster_store.core.registers import CLUSTER, Secret, Write
from cluster_store.core.rollback import plan
from cluster_store.core.settings import effective
from cluster_store.core.timers import Boot, Told, remaining
from cluster_store.core.types import Path, RecordId
from tests.collisions import event_of, registers_of
from tests.core.agreement import agree, log_of
from tests.core.builders import following, sealed
from tests.core.driving import Driver, founder
from tests.core.test_timers import confirming, paths_of, taking_back
from tests.replicas import Fleet, Machine

HOUR = 3_600_000
BANNER = Path("setting/cluster/smtp.banner")


async def pair() -> tuple[Fleet, Machine, Machine]:
    """Return two machines that are linked."""
    fleet = Fleet()
    anna, bert = await fleet.fleet_of("anna", "bert")
    return fleet, anna, bert


async def set_for(machine: Machine, key: str, value: str, lasts: int = HOUR, *, secret: bool = False) -> RecordId:
    """Set a key for a while; return the event."""
    salt = machine.fleet.fresh(16)
    command = commands.SetSetting(key=key, value=value, level="cluster", lasts=lasts, secret=secret, salt=salt)
    return RecordId((await machine.command(command))["event"])


async def commit_of(machine: Machine, key: str, value: str, within: int = HOUR) -> RecordId:
    """Commit one key, to be confirmed; return the event."""
    command = commands.SetSetting(key=key, value=value, level="cluster", salt=machine.fleet.fresh(16))
    standing = tuple((lane.id, lane.value) for lane in registers_of(machine).standing(Path(f"setting/cluster/{key}")))
    seen = commands.Seen(Path(f"setting/cluster/{key}"), standing, value)
    commit = commands.CommitConfig(staged=(commands.Staged(command, (seen,)),), confirm_within=within)
    return RecordId((await machine.command(commit))["event"])


async def time_out(machine: Machine) -> None:
    """Let a machine take back all that is over."""
    for timer in machine.cluster.timers.standing:
        if timer.machine == machine.id and remaining(timer.told, Boot(), machine.fleet.now) <= 0:
            await machine.command(taking_back(machine, timer))


def value(machine: Machine, key: str) -> Any:
    """Return a key's effective value at the cluster's level."""
    lane = effective(registers_of(machine), [CLUSTER], key)
    return lane.value if lane else None


# --- by which clock ---

_NOW = 1_700_000_000_000
_TOLD = Told("confirm", until=_NOW + HOUR, window=HOUR, boot="one", since=5_000)


@pytest.mark.parametrize(
    ("boot", "now", "left"),
    [
        pytest.param(Boot("one", 5_000), _NOW, HOUR, id="at once"),
        pytest.param(Boot("one", 5_000 + HOUR), _NOW, 0, id="the wall clock stood still"),
        pytest.param(Boot("one", 6_000), _NOW + 9 * HOUR, HOUR - 1000, id="the wall clock was set forward"),
        pytest.param(Boot("one", 6_000), _NOW - 9 * HOUR, HOUR - 1000, id="the wall clock was set back"),
        pytest.param(Boot("two", 100), _NOW + 1000, HOUR - 1000, id="after another start, the wall clock"),
        pytest.param(Boot("two", 100), _NOW + 2 * HOUR, -HOUR, id="it was off for longer"),
        pytest.param(Boot("two", 100), _NOW - 1, 0, id="the wall clock is before the change"),
        pytest.param(Boot("two", HOUR - 70), _NOW + 1, 70, id="never more than the window after a start"),
        pytest.param(Boot("two", 2 * HOUR), _NOW + 1, -HOUR, id="it began to serve long after the start"),
        pytest.param(Boot(), _NOW + 1000, HOUR - 1000, id="a host that tells no starts apart"),
        pytest.param(Boot(), _NOW - 1, 0, id="and whose wall clock is before the change"),
    ],
)
def test_when_a_timer_is_over(boot: Boot, now: int, left: int) -> None:
    """Within one start the clock since then, after another one the wall clock, as far as that can be believed."""
    assert remaining(_TOLD, boot, now) == left


# --- on one machine ---


async def test_a_change_lasts_for_a_year_at_most() -> None:
    """And for a moment at least."""
    _, anna, _ = await pair()
    await set_for(anna, "key", '"x"', TIMER_MAX_MS)
    for lasts in (TIMER_MAX_MS + 1, 0, -1):
        with pytest.raises(Refused, match="a year at most"):
            await set_for(anna, "key", '"y"', lasts)
    assert value(anna, "key") == '"x"'


async def test_a_value_for_a_while_goes_back_to_what_was_there_before() -> None:
    """Also to two values in conflict; until then there is one, and no conflict to settle."""
    fleet, anna, bert = await pair()
    await fleet.cut(anna, bert)
    await anna.set("key", '"a"')
    await bert.set("key", '"b"')
    await fleet.connect(anna, bert)
    await fleet.pump()
    before = digest(anna.cluster, registers_of(anna))
    assert len(conflicts(registers_of(anna))) == 1
    await set_for(anna, "key", '"c"')
    assert value(anna, "key") == '"c"'
    assert not conflicts(registers_of(anna))
    fleet.now += HOUR
    await time_out(anna)
    assert value(anna, "key") == '"b"'
    assert digest(anna.cluster, registers_of(anna)) == before
    assert len(conflicts(registers_of(anna))) == 1


async def test_a_secret_for_a_while_goes_back_to_the_former_secret_with_its_text() -> None:
    """What is covered was never replaced, so its text was never given up."""
    fleet, anna, _ = await pair()
    await anna.set("key", '"old"', secret=True)
    await set_for(anna, "key", '"new"', secret=True)
    (other, lane) = registers_of(anna).standing(Path("setting/cluster/key"))
    assert isinstance(lane.value, Secret)
    fleet.now += HOUR
    await time_out(anna)
    assert [one.text for one in registers_of(anna).standing(Path("setting/cluster/key"))] == [other.text]


async def test_whoever_sets_it_again_ends_the_timer_at_once() -> None:
    """Also to the same value: that says that it is to stay."""
    fleet, anna, _ = await pair()
    await set_for(anna, "key", '"x"')
    assert [one.machine for one in anna.cluster.timers.standing] == [anna.id]
    assert (await anna.set("key", '"x"'))["changed"]
    assert not list(registers_of(anna).under("timer/"))
    await set_for(anna, "other", '"x"')
    await anna.command(commands.UnsetSetting(key="other"))
    assert not list(registers_of(anna).under("timer/"))
    fleet.now += HOUR
    await time_out(anna)
    assert (value(anna, "key"), value(anna, "other")) == ('"x"', None)


async def test_elements_for_a_while_come_and_go() -> None:
    """An element that is taken out for a while comes back, an added one goes; whoever sets the set decides for good."""
    fleet, anna, _ = await pair()
    await anna.command(commands.AddElements(key="relay", elements=("1", "2")))
    await anna.command(commands.RemoveElements(key="relay", elements=("1",), lasts=HOUR))
    await anna.command(commands.AddElements(key="relay", elements=("3",), lasts=2 * HOUR))
    assert value(anna, "relay") == "[2,3]"
    await anna.command(commands.AddElements(key="relay", elements=("3",)))
    fleet.now += HOUR
    await time_out(anna)
    assert value(anna, "relay") == "[1,2,3]"
    fleet.now += HOUR
    await time_out(anna)
    assert value(anna, "relay") == "[1,2,3]"
    await anna.command(commands.RemoveElements(key="relay", elements=("1",), lasts=HOUR))
    await anna.command(commands.SetSetting(key="relay", value="[2]", salt=fleet.fresh(16)))
    fleet.now += HOUR
    await time_out(anna)
    assert value(anna, "relay") == "[2]"


async def test_what_a_group_leaves_out_for_a_while_is_inherited_again() -> None:
    """And what is confirmed stays left out."""
    fleet, anna, _ = await pair()
    group = "group:Main_Group"
    await anna.command(commands.AddElements(key="relay", elements=("1", "2")))
    await anna.command(commands.AddElements(key="relay", elements=("1",), level=group))
    await anna.command(commands.RemoveElements(key="relay", elements=("1",), level=group, lasts=HOUR))
    levels = anna.cluster.levels_for(anna.id)

    def relay() -> Any:
        found = effective(registers_of(anna), levels, "relay")
        return found.value if found else None

    assert relay() == "[2]"
    fleet.now += HOUR
    await time_out(anna)
    assert relay() == "[1,2]"


async def test_what_waits_to_be_confirmed_is_not_covered_once_more() -> None:
    """It would not be clear any more what to go back to; a change for good may be made over it."""
    _, anna, _ = await pair()
    await commit_of(anna, "key", '"x"')
    with pytest.raises(Refused, match="waits to be confirmed"):
        await set_for(anna, "key", '"y"')
    assert (await anna.set("key", '"y"'))["changed"]


async def test_a_confirmed_change_stays_and_can_be_rolled_back_whole() -> None:
    """The confirmation is no later change of it: taking the commit back takes it back too."""
    fleet, anna, _ = await pair()
    await anna.set("key", '"old"')
    event = await commit_of(anna, "key", '"new"')
    await anna.command(confirming(anna, event, fleet))
    fleet.now += 2 * HOUR
    await time_out(anna)
    assert value(anna, "key") == '"new"'
    with pytest.raises(NotFound, match="does not go back"):
        await anna.command(confirming(anna, event, fleet))
    log = log_of(anna)
    found = plan(lambda: log.records, lambda added: added.record.id == event, registers_of(anna), lambda *_: None)
    assert not found.kept
    events = tuple(added.record.id for added in found.events)
    await anna.command(commands.RollBackConfig(events=events, restorations=found.restorations))
    assert value(anna, "key") == '"old"'


async def test_nothing_is_taken_back_before_its_time_or_by_another_machine() -> None:
    """Whoever asks is refused."""
    fleet, anna, bert = await pair()
    event = await set_for(anna, "key", '"x"')
    await fleet.pump()
    (timer,) = bert.cluster.timers.standing
    with pytest.raises(Refused, match="not over yet"):
        await anna.command(taking_back(anna, timer))
    fleet.now += HOUR
    with pytest.raises(Refused, match="another machine"):
        await bert.command(taking_back(bert, timer))
    assert paths_of(bert, event)


async def test_a_commit_over_more_than_one_register_of_events_keeps_them_all() -> None:
    """What it covers is told in as many registers as it takes, and all of them go with the timer."""
    fleet, anna, _ = await pair()
    for start in range(0, 1000, 250):
        await anna.command(
            *(
                commands.SetSetting(key=f"key.{number}", value='"old"', level="cluster", salt=fleet.fresh(16))
                for number in range(start, start + 250)
            )
        )
    settings = {f"key.{number}": '"new"' for number in range(1000)}
    command = commands.LoadConfig(settings=settings, source="f", level="cluster", salt=fleet.fresh(16))
    seen = tuple(
        commands.Seen(path, tuple((lane.id, lane.value) for lane in lanes), '"new"')
        for path, lanes in registers_of(anna).under("setting/cluster/key.")
    )
    commit = commands.CommitConfig(staged=(commands.Staged(command, seen),), confirm_within=HOUR)
    event = RecordId((await anna.command(commit))["event"])
    assert len(list(registers_of(anna).under("timer/"))) == 3
    assert not conflicts(registers_of(anna))
    await anna.command(confirming(anna, event, fleet))
    assert not list(registers_of(anna).under("timer/"))
    assert {len(lanes) for _, lanes in registers_of(anna).under("setting/")} == {1}


# --- between two ---


async def test_a_confirmation_beats_the_timeout_that_did_not_know_of_it() -> None:
    """On both sides; there is nothing to settle, and the log says who did what."""
    fleet, anna, bert = await pair()
    await anna.set("key", '"old"')
    event = await commit_of(anna, "key", '"new"')
    await fleet.pump()
    await fleet.cut(anna, bert)
    await bert.command(confirming(bert, event, fleet))
    fleet.now += HOUR
    await time_out(anna)
    assert (value(anna, "key"), value(bert, "key")) == ('"old"', '"new"')
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)
    assert (value(anna, "key"), value(bert, "key")) == ('"new"', '"new"')
    assert not conflicts(registers_of(anna))
    told = [describe(added, anna.cluster) for added in log_of(anna).records[-2:]]
    assert told == [
        f"nobody confirmed it in time, so {event[:10]} goes back: key",
        f'confirmed {event[:10]}: set key = "new" at cluster',
    ]
    assert [added.record.envelope.weak for added in log_of(anna).records[-2:]] == [True, False]


async def test_a_persons_concurrent_change_beats_the_timeout() -> None:
    """Whether or not they knew of what is taken back; what they wrote stays, in force."""
    fleet, anna, bert = await pair()
    await anna.set("known", '"old"')
    await commit_of(anna, "known", '"new"')
    await fleet.pump()
    await fleet.cut(anna, bert)
    await set_for(anna, "unknown", '"new"')
    await bert.set("known", '"later"')
    await bert.set("unknown", '"beside"')
    fleet.now += HOUR
    await time_out(anna)
    await fleet.connect(anna, bert)
    await fleet.pump()
    await agree(anna, bert)
    assert (value(anna, "known"), value(anna, "unknown")) == ('"later"', '"beside"')
    assert not conflicts(registers_of(anna))


async def test_explain_tells_what_goes_back_when_and_to_what() -> None:
    """On every machine that has the event."""
    fleet, anna, bert = await pair()
    await anna.set("key", '"old"')
    event = await set_for(anna, "key", '"new"')
    await fleet.pump()
    shown = to_json(
        explain(registers_of(bert), bert.cluster, bert.id, "key"), bert.cluster, lambda one: event_of(bert, one)
    )
    assert shown["beat"] == []
    assert shown["timer"]["event"] == event
    assert (shown["timer"]["kind"], shown["timer"]["machine"]) == ("expire", "anna")
    assert [bytes(one["value"]) for one in shown["covers"]] == [b'"old"']


# --- what nobody may write ---


def voided(driver: Driver, *writes: Write, **fields: Any) -> str:
    """Let a machine's own key write something; return why it counts for nothing."""
    last = driver.records[-1]
    driver.offer(sealed(following(last, writes=writes, **{"weak": False, **fields}), driver.me))
    return driver.log.records[-1].void


def test_a_timer_may_only_take_away_what_its_machine_wrote() -> None:
    """It puts nothing, is called what it is, and nobody begins one for another machine."""
    driver = founder()
    mine = driver.set("smtp.banner")["event"]
    driver.greet(driver.me.id)
    expired = {"kind": "SettingExpired", "weak": True}
    assert "puts a value" in voided(driver, Write(BANNER, '"x"', ()), **expired)
    assert "says that a timer" in voided(driver, Write(BANNER, '"x"', ()), weak=True)
    assert "does not say" in voided(driver, Write(BANNER, False, (RecordId(mine),)), kind="SettingExpired")
    other = Path(f"timer/{'f' * 32}/0")
    assert "another machine" in voided(driver, Write(other, '{"kind":"expire","until":9,"window":1}', ()))
    own = Path(f"timer/{driver.me.id}/0")
    assert "says nothing" in voided(driver, Write(own, None, ()))
    assert voided(driver, Write(BANNER, False, (RecordId(mine),)), **expired) == ""


# --- one over the other ---


async def test_what_a_shorter_change_covers_is_not_confirmed_beside_it() -> None:
    """It is refused, and later goes on as ever: no conflict comes of it. Both together can be confirmed."""
    fleet, anna, _ = await pair()
    await anna.set("key", "1")
    long = await set_for(anna, "key", "2", HOUR)
    short = await set_for(anna, "key", "3", HOUR // 2)
    with pytest.raises(Refused, match="another change of key counts"):
        await anna.command(confirming(anna, long, fleet))
    fleet.now += HOUR // 2
    await time_out(anna)
    assert value(anna, "key") == "2"
    assert not conflicts(registers_of(anna))
    await anna.command(confirming(anna, long, fleet))
    fleet.now += HOUR
    await time_out(anna)
    assert value(anna, "key") == "2"
    longer, shorter = await set_for(anna, "key", "4", HOUR), await set_for(anna, "key", "5", HOUR // 2)
    paths = paths_of(anna, shorter)
    both = commands.ConfirmConfig(events=(longer, shorter), paths=paths, salt=fleet.fresh(16))
    await anna.command(both)
    assert value(anna, "key") == "5"
    assert not anna.cluster.timers.standing
    assert short != long


async def test_an_element_that_is_removed_for_a_while_is_not_confirmed_into_the_set() -> None:
    """The rest of the addition is; and what was left goes back when its time is over."""
    fleet, anna, _ = await pair()
    command = commands.AddElements(key="hosts", elements=('"h1"', '"h2"'), level="cluster", lasts=HOUR)
    added = RecordId((await anna.command(command))["event"])
    removal = commands.RemoveElements(key="hosts", elements=('"h1"',), level="cluster", lasts=HOUR // 2)
    await anna.command(removal)
    told = await anna.command(confirming(anna, added, fleet))
    assert told["left"] == ["element/cluster/hosts/%22h1%22"]
    assert value(anna, "hosts") == '["h2"]'
    fleet.now += HOUR // 2
    await time_out(anna)
    assert value(anna, "hosts") == '["h1","h2"]'
    fleet.now += HOUR // 2
    await time_out(anna)
    assert value(anna, "hosts") == '["h2"]'
    assert not anna.cluster.timers.standing


async def test_a_covered_change_is_rolled_back_from_under_the_one_that_covers_it() -> None:
    """When the shorter one is over, what was before both is back; a change for good is kept, and told as covered."""
    fleet, anna, _ = await pair()
    await anna.set("key", "1")
    long = await set_for(anna, "key", "2", HOUR)
    await set_for(anna, "key", "3", HOUR // 2)
    log = log_of(anna)
    plans = plan(lambda: log.records, lambda added: added.record.id == long, registers_of(anna), lambda *_: None)
    assert not plans.kept
    await anna.command(commands.RollBackConfig(events=(long,), restorations=plans.restorations))
    assert value(anna, "key") == "3"
    fleet.now += HOUR // 2
    await time_out(anna)
    assert value(anna, "key") == "1"
    assert not anna.cluster.timers.standing
    good = RecordId((await anna.set("key", "4"))["event"])
    await set_for(anna, "key", "5")
    log = log_of(anna)
    plans = plan(lambda: log.records, lambda added: added.record.id == good, registers_of(anna), lambda *_: None)
    assert not plans.changes
    assert [[lane.value for lane in change.covered] for change in plans.kept] == [["4"]]
