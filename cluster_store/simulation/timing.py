"""Taking back in time what a machine changed for a while, as its daemon does."""

from __future__ import annotations

from cluster_store.core.commands import TakeBack
from cluster_store.core.timers import Timer, remaining
from cluster_store.simulation.clock import Pause
from cluster_store.simulation.process import Process

#: How often a process looks at the clock, milliseconds.
_EVERY_MS = 700


async def keep_time(process: Process) -> None:
    """Take back whatever is over, for as long as the process lives."""
    while True:
        await Pause(_EVERY_MS)
        for timer in own_timers(process):
            if remaining(timer.told, process.boot(), process.now()) <= 0:
                asked = process.submit(command_of(process, timer))
                while asked.reply is None:
                    await Pause(_EVERY_MS)


def own_timers(process: Process) -> list[Timer]:
    """Return what a process is to take back some day, as far as it knows."""
    replica = process.replica
    standing = replica.cluster.timers.standing if replica is not None else ()
    return [one for one in standing if one.machine == process.machine]


def command_of(process: Process, timer: Timer) -> TakeBack:
    """Return the command that takes back what a timer is about."""
    disk = process.log.disk
    record = disk.records[disk.positions[timer.event] - 1].record
    paths = tuple(write.path for write in record.envelope.writes)
    return TakeBack(event=timer.event, timer=timer.path, paths=paths)
