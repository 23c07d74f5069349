"""What machines of a situation change for a while, confirm, and take back in time.

> anna: set KEY VALUE for TIME           goes back after that: 90s, 10m, 4h; also unset, add and remove
> anna: commit KEY VALUE... within TIME  goes back unless it is confirmed in that time
> bert: confirm                          whatever waits for it
> wait TIME [MACHINE...]                 time goes by, and all machines, or these, take back what is over
> pending                                what goes back, by the clock of its machine, as each machine knows it
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cluster_store.core import commands
from cluster_store.core.history import describe
from cluster_store.core.naming import iso_time
from cluster_store.core.timers import Boot, remaining
from cluster_store.core.types import Path
from tests.core.agreement import log_of, registers_of
from tests.core.test_timers import paths_of, taking_back
from tests.replicas import Machine

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_ID = re.compile(r"\b[0-9a-f]{10}\b")


def milliseconds(text: str) -> int:
    """Return a time as it is written here."""
    return int(text[:-1]) * _SECONDS[text[-1]] * 1000


async def commit(machine: Machine, *words: str) -> None:
    """Commit keys and values, to be confirmed."""
    *pairs, _, within = words
    registers = await registers_of(machine)
    staged = []
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        path = Path(f"setting/cluster/{key}")
        stood = tuple((lane.id, lane.value) for lane in registers.standing(path))
        command = commands.SetSetting(key=key, value=value, level="cluster", salt=machine.fleet.fresh(16))
        staged.append(commands.Staged(command, (commands.Seen(path, stood, value),)))
    await machine.command(commands.CommitConfig(staged=tuple(staged), confirm_within=milliseconds(within)))


async def confirm(machine: Machine) -> None:
    """Confirm whatever waits for it."""
    events = tuple(one.event for one in machine.cluster.timers.standing if one.waits_for_a_person)
    paths = tuple(dict.fromkeys(path for event in events for path in paths_of(machine, event)))
    await machine.command(commands.ConfirmConfig(events=events, paths=paths, salt=machine.fleet.fresh(16)))


async def take_back(machine: Machine) -> list[str]:
    """Let a machine take back what is over; return what it says of that."""
    said = []
    # As a daemon does when it starts.
    await registers_of(machine)
    for timer in machine.cluster.timers.standing:
        if timer.machine == machine.id and remaining(timer.told, Boot(), machine.fleet.now) <= 0:
            await machine.command(taking_back(machine, timer))
            said.append(f"{machine.name}: {_ID.sub('EVENT', describe(log_of(machine).records[-1], machine.cluster))}")
    return said


def pending_on(machine: Machine) -> str:
    """Return what goes back, as a machine knows it."""
    events = {added.record.id: added for added in log_of(machine).records}
    told: Sequence[str] = [
        f"{describe(events[one.event], machine.cluster)} until {iso_time(one.told.until)[11:16]}"
        for one in machine.cluster.timers.standing
    ]
    return "; ".join(told) or "nothing"
