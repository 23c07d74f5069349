"""Changes that go back by themselves, against a naive twin: confirmed, timed out, overwritten, delivered in any order.

The twin knows nothing of lanes. It says what a value is from what people and timers did, and from who knew of what.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.core import commands, decide_commit
from cluster_store.core.conflicts import conflicts
from cluster_store.core.decision import Context
from cluster_store.core.errors import ClusterStoreError, NotFound, Refused
from cluster_store.core.registers import CLUSTER, setting_path
from cluster_store.core.settings import effective
from cluster_store.core.timers import Boot, Timer, remaining
from cluster_store.core.types import Epoch, Path
from tests.core.agreement import agree, log_of, registers_of
from tests.replicas import Fleet, Machine

MINUTE = 60_000
NAMES = ("anna", "bert", "cleo")
PLAIN, SET = ("a", "b"), "relay"
ELEMENTS = ("1", "2")


class Op(NamedTuple):
    """Something that somebody, or a timer, did to one key or element."""

    event: str
    #: ``write``, ``try`` (a change with a timer), ``confirm``, ``timeout``.
    what: str
    key: str
    #: JSON text, None for unset or not in the set.
    value: str | None
    hybrid: int
    #: The events that its machine knew of.
    saw: frozenset[str]
    #: Of a change with a timer: when it is over, and whether it waits for a person.
    until: int = 0
    waits: bool = False
    #: Of a confirmation or a timeout: the change that it is about.
    of: str = ""


class Twin:
    """What people and timers did, and what that comes to."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def value(self, key: str, known: frozenset[str]) -> str | None:
        """Return what a key is, or whether an element is there, to whoever knows of some events."""
        found = self.in_force(key, known)
        return found.value if found is not None else None

    def in_force(self, key: str, known: frozenset[str]) -> Op | None:
        """Return what a key's value comes from to whoever knows of some events."""
        ops = [op for op in self.ops if op.key == key and op.event in known]
        standing = [op for op in ops if op.what != "timeout" and not any(self._ends(other, op) for other in ops)]
        if key in ELEMENTS:
            # Whoever takes an element out adds nothing, and an addition that they did not know of wins; for a while, an
            # element is only hidden.
            hidden = [op.saw for op in standing if op.what == "try" and op.value is None]
            standing = [op for op in standing if op.value and not any(op.event in saw for saw in hidden)]
        return max(standing, key=lambda op: (op.hybrid, op.event), default=None)

    def values(self, key: str, known: frozenset[str]) -> set[str | None]:
        """Return what a plain key is said to be, at once, to whoever knows of some events: two or more are a conflict.

        What a change with a timer was made over says nothing while that stands.
        """
        ops = [op for op in self.ops if op.key == key and op.event in known]
        standing = [op for op in ops if op.what != "timeout" and not any(self._ends(other, op) for other in ops)]
        over = [op.saw for op in standing if op.what == "try"]
        return {op.value for op in standing if not any(op.event in saw for saw in over)}

    def can_be_confirmed(self, op: Op, known: frozenset[str]) -> bool:
        """Say whether what a change said counts to whoever knows of some events: nothing else comes into force."""
        if op.key not in ELEMENTS:
            return self.in_force(op.key, known) == op
        others = [other for other in self.ops if other.key == op.key and other.event in known]
        standing = [other for other in others if not any(self._ends(another, other) for another in others)]
        over = [other.saw for other in standing if other.what == "try"]
        return op.value is None or not any(op.event in saw for saw in over)

    def _ends(self, one: Op, other: Op) -> bool:
        """Say whether something did away with something else of the same key for good."""
        if one.what == "timeout":
            return other.event == one.of
        if one.what == "confirm":
            return other.event == one.of or other.event in self._op(one.of, one.key).saw
        if one.what == "try":
            longer = other.what == "try" and not one.waits and not other.waits and other.until <= one.until
            return longer and other.event in one.saw
        return other.event in one.saw

    def _op(self, event: str, key: str) -> Op:
        return next(op for op in self.ops if (op.event, op.key) == (event, key))


class Story:
    """A fleet that is mostly apart, and its twin."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.twin = Twin()
        self.machines: list[Machine] = []

    async def begin(self) -> None:
        """Make three machines with values that all know of."""
        self.machines = list(await self.fleet.fleet_of(*NAMES))
        anna = self.machines[0]
        await self.did(anna, "write", dict.fromkeys(PLAIN, '"first"'), self._load(dict.fromkeys(PLAIN, '"first"')))
        await self.did(anna, "write", {"1": "true"}, commands.AddElements(key=SET, elements=("1",)))
        await self.fleet.pump()
        for index, one in enumerate(self.machines):
            for other in self.machines[index + 1 :]:
                await self.fleet.cut(one, other)

    def _load(self, values: dict[str, str], **fields: Any) -> commands.LoadConfig:
        return commands.LoadConfig(settings=values, source="test", salt=self.fleet.fresh(16), **fields)

    @staticmethod
    def known(machine: Machine) -> frozenset[str]:
        """Return the events that a machine knows of."""
        return frozenset(added.record.id for added in log_of(machine).records)

    async def did(
        self, machine: Machine, what: str, values: dict[str, str | None], command: commands.Command, **fields: Any
    ) -> None:
        """Let a machine do something, and note it if it came to anything."""
        saw = self.known(machine)
        result: dict[str, Any] = {}
        with suppress(Refused, NotFound):
            result = await machine.command(command)
        if result.get("changed"):
            written = log_of(machine).records[-1].record
            for key, value in values.items():
                self.twin.ops.append(Op(written.id, what, key, value, written.envelope.hybrid, saw, **fields))

    # --- what can happen -------------------------------------------------------------------------------

    async def write(self, machine: Machine, number: int) -> None:
        """Write a key for good: set it, unset it, add an element or take it out."""
        key, command = self._change(number)
        # What is so already, and would go back by itself, is to stay from now on.
        await self.did(machine, "write", key, command)

    async def expire(self, machine: Machine, number: int, minutes: int = 0) -> None:
        """Write a key for a while."""
        window = MINUTE * (minutes or 1 + number // 6 % 3)
        key, command = self._change(number, lasts=window)
        await self.did(machine, "try", key, command, until=self.fleet.now + 1000 + window)

    async def commit(self, machine: Machine, number: int) -> None:
        """Commit changes that go back unless they are confirmed."""
        key, command = self._change(number)
        other: dict[str, str | None] = {PLAIN[0]: f'"{number} too"'}
        given = [command] if PLAIN[0] in key else [command, self._load({PLAIN[0]: str(other[PLAIN[0]])})]
        staged: tuple[commands.Staged, ...] = ()
        registers = await registers_of(machine)
        context = Context(registers, machine.cluster, machine.id, "os:root", self.fleet.now, Epoch("e" * 16))
        for one in given:
            try:
                more, _ = decide_commit.stage(staged, one, context)
            except ClusterStoreError:
                return
            if more is None:
                return
            staged = (*staged, more)
        commit = commands.CommitConfig(staged=staged, confirm_within=2 * MINUTE)
        values = key if len(given) == 1 else key | other
        await self.did(machine, "try", values, commit, until=self.fleet.now + 1000 + 2 * MINUTE, waits=True)

    def _change(self, number: int, **fields: Any) -> tuple[dict[str, str | None], commands.SettingCommand]:
        key = (*PLAIN, *PLAIN, *ELEMENTS)[number % 6]
        gone = number % 7 in (0, 3)
        if key in ELEMENTS:
            kind = commands.RemoveElements if gone or number % 2 else commands.AddElements
            value = None if kind is commands.RemoveElements else "true"
            return {key: value}, kind(key=SET, elements=(key,), level="cluster", **fields)
        if gone:
            return {key: None}, commands.UnsetSetting(key=key, level="cluster", **fields)
        value = f'"{number % 4}"'
        salt = self.fleet.fresh(16)
        return {key: value}, commands.SetSetting(key=key, value=value, level="cluster", salt=salt, **fields)

    async def confirm(self, machine: Machine, number: int) -> None:
        """Confirm a change that goes back by itself."""
        waiting = machine.cluster.timers.standing
        if not waiting:
            return
        event = waiting[number % len(waiting)].event
        known = self.known(machine)
        values = {
            op.key: op.value for op in self.twin.ops if op.event == event and self.twin.can_be_confirmed(op, known)
        }
        await self.did(machine, "confirm", values, confirming(machine, event, self.fleet), of=event)

    async def wait(self, machine: Machine, number: int) -> None:
        """Let time go by, and a machine take back what is over."""
        self.fleet.now += MINUTE * (number % 4)
        await self.time_out(machine)

    async def time_out(self, machine: Machine) -> None:
        """Let a machine take back what is over."""
        for timer in machine.cluster.timers.standing:
            if timer.machine == machine.id and remaining(timer.told, Boot(), self.fleet.now) <= 0:
                keys = {op.key: op.value for op in self.twin.ops if op.event == timer.event and op.what == "try"}
                await self.did(machine, "timeout", dict(keys), taking_back(machine, timer), of=timer.event)

    async def race(self, machine: Machine, number: int) -> None:
        """Let a change be confirmed elsewhere while its own machine, which does not hear of it, takes it back."""
        other = self.machines[(self.machines.index(machine) + 1) % len(self.machines)]
        await self.commit(machine, number)
        await self.meet(machine, self.machines.index(other))
        for index in range(len(other.cluster.timers.standing)):
            await self.confirm(other, index)
        if number % 5 == 0:
            await self.write(other, number)
        await self.wait(machine, 3)

    async def cover(self, machine: Machine, number: int) -> None:
        """Write a key for a while, then the same for a shorter one, and confirm one of them."""
        await self.expire(machine, number, minutes=3)
        await self.expire(machine, number + 6, minutes=1 + number % 2)
        await self.confirm(machine, number // 6)

    async def meet(self, machine: Machine, number: int) -> None:
        """Let two machines exchange what they know."""
        other = self.machines[number % len(self.machines)]
        if other is not machine:
            await self.fleet.connect(machine, other)
            await self.fleet.pump()
            await self.fleet.cut(machine, other)

    # --- what has to hold ------------------------------------------------------------------------------

    async def check(self, machine: Machine) -> None:
        """A machine must say of every key what the twin says of what the machine knows."""
        known = self.known(machine)
        registers = await registers_of(machine)
        disputed = {conflict.path for conflict in conflicts(registers)}
        for key in PLAIN:
            lane = effective(registers, [CLUSTER], key)
            assert (lane.value if lane else None) == self.twin.value(key, known), (machine.name, key)
            said = self.twin.values(key, known)
            assert (setting_path(CLUSTER, key) in disputed) == (len(said) > 1), (machine.name, key)
        lane = effective(registers, [CLUSTER], SET)
        elements = [str(one) for one in msgspec.json.decode(str(lane.value))] if lane else []
        assert elements == [one for one in ELEMENTS if self.twin.value(one, known)], machine.name

    async def end(self) -> None:
        """Let every window be over, and all know of everything: nobody waits for anything any more."""
        self.fleet.now += 10 * MINUTE
        for turn in range(2):
            for machine in self.machines:
                if turn == 0:
                    await self.time_out(machine)
                for number in range(len(self.machines)):
                    await self.meet(machine, number)
        await agree(*self.machines)
        for machine in self.machines:
            await self.check(machine)
            assert machine.cluster.timers.standing == ()
            assert not [path for path, _ in (await registers_of(machine)).under("timer/")]
        assert not any(added.void for added in log_of(self.machines[0]).records)


def confirming(machine: Machine, event: str, fleet: Fleet) -> commands.ConfirmConfig:
    """Return the command that confirms an event."""
    return commands.ConfirmConfig(events=(event,), paths=paths_of(machine, event), salt=fleet.fresh(16))


def taking_back(machine: Machine, timer: Timer) -> commands.TakeBack:
    """Return the command by which a machine takes back what is over."""
    return commands.TakeBack(event=timer.event, timer=timer.path, paths=paths_of(machine, timer.event))


def paths_of(machine: Machine, event: str) -> tuple[Path, ...]:
    """Return the registers that an event wrote."""
    found = next(added.record for added in log_of(machine).records if added.record.id == event)
    return tuple(write.path for write in found.envelope.writes)


_ACTIONS = {
    "write": Story.write,
    "expire": Story.expire,
    "commit": Story.commit,
    "confirm": Story.confirm,
    "wait": Story.wait,
    "race": Story.race,
    "cover": Story.cover,
    "meet": Story.meet,
}
_STEPS = st.lists(
    st.tuples(
        st.sampled_from([*_ACTIONS, "commit", "confirm", "cover", "meet", "meet"]),
        st.integers(0, 2),
        st.integers(0, 83),
    ),
    max_size=25,
)


@given(_STEPS)
@settings(max_examples=60, deadline=None)
def test_whoever_knows_the_same_sees_what_the_table_says(steps: list[tuple[str, int, int]]) -> None:
    """At every moment on every machine, whatever it has heard of so far; and all agree when all is over."""

    async def play() -> None:
        story = Story()
        await story.begin()
        for action, who, number in steps:
            await _ACTIONS[action](story, story.machines[who], number)
            for machine in story.machines:
                await story.check(machine)
        await story.end()

    asyncio.run(play())
