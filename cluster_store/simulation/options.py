"""What one run is like: sizes, speeds and fault rates, all drawn from the seed unless they were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import msgspec

#: Every fault there is, with what it does.
FAULTS = {
    "cut": "no frame passes between two halves of the fleet, or between two machines",
    "oneway": "no frame passes from one machine to another, but back",
    "slow": "a link takes many times longer",
    "crash": "a process is killed or its host loses power, and starts again",
    "midsync": "a process is killed while it takes in another one's log, and starts again",
    "pause": "a process stands still for a while",
    "clock": "a wall clock jumps: a little, by years, to 1970, to 2099",
    "full": "a disk has no room for a while",
    "append": "a disk fails, or its host loses power, when part of a group of records is written",
    "flip": "a bit of a stored record, value or document changes",
    "restore": "a store is put back to an earlier copy, with or without a sign that it was",
    "clone": "a copy of a store runs as a second instance for a while",
    "faulty": "a member writes a record that must count for nothing, as a faulty program would",
    "upgrade": "some machines run another platform version, and the others follow one by one",
}


#: How many of the faults happen in a run, about.
_SHARE = 0.6


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How one run is set up. Times are in milliseconds of virtual time."""

    #: Members in the end; those beyond ``founders`` join in the middle.
    machines: int
    founders: int
    #: Commands asked for.
    events: int
    #: Fault -> the mean time between two of it; those that are left out do not happen.
    faults: dict[str, int]
    #: How long a fault lasts on average.
    fault_ms: int
    #: Mean time between two commands.
    event_ms: int
    #: How many commands come at one moment, at most.
    burst: int
    #: Which of the commands, counted from 1, remove machines for good.
    removals_at: tuple[int, ...]
    #: When those that are no founders come, after the faults begin.
    joins_ms: tuple[int, ...]
    #: Least and most time that a frame takes.
    delay_ms: tuple[int, int]
    write_ms_max: int
    #: Records read from the log at once.
    batch_records: int
    #: The expensive checks are made every so many steps.
    check_every: int


def draw(
    seed: int,
    *,
    machines: int | None = None,
    events: int | None = None,
    faults: Sequence[str] | None = None,
) -> Options:
    """Return the options of a seed.

    Whatever is given changes nothing else. So a run with fewer events is the beginning of the run with more, but for
    what the faults that are healed earlier would have done.

    Args:
        seed: decides all that is not given.
        machines: members in the end.
        events: commands asked for.
        faults: those that happen; which do is drawn where it is None, and how often in any case.
    """
    dice = Random(f"options {seed}")
    drawn_machines = dice.choice((2, 3, 3, 4, 4, 5))
    drawn_events = dice.choice((20, 40, 60, 80))
    rates = {fault: round(10 ** dice.uniform(2.9, 4.3)) for fault in FAULTS}
    happening = [fault for fault in FAULTS if dice.random() < _SHARE]
    count = machines if machines is not None else drawn_machines
    founders = min(count, dice.randint(2, 4))
    fastest = dice.choice((0, 1, 5))
    event_ms = dice.choice((20, 100, 400))
    join_dice = Random(f"joins {seed}")
    return Options(
        machines=count,
        founders=founders,
        events=events if events is not None else drawn_events,
        faults={fault: rates[fault] for fault in (happening if faults is None else faults)},
        fault_ms=dice.choice((300, 1000, 3000)),
        event_ms=event_ms,
        burst=dice.choice((1, 1, 4)),
        removals_at=tuple(dice.randint(1, drawn_events) for _ in range(dice.choice((0, 0, 0, 1, 2)))),
        joins_ms=tuple(join_dice.randint(0, drawn_events * event_ms) for _ in range(count - founders)),
        delay_ms=(fastest, fastest + dice.choice((5, 30, 200))),
        write_ms_max=dice.choice((1, 5, 50)),
        batch_records=dice.choice((1, 4, 16, 100)),
        check_every=dice.choice((50, 100, 200)),
    )
