"""Timers: changes that go back by themselves, because nobody confirmed them or because their time was over.

A change with a timer replaces nothing. Its lanes *cover* those that stood, which stay where they are, and the same
event writes into a register of its machine until when. So nobody has to know any more what to go back to:

* The *timeout* takes the change's own lanes away, and no others; what they covered is seen again. It puts nothing. That
  is why it can lose to whatever a person wrote, and two timeouts never disagree.
* A *confirmation* writes the same values anew, as a person's change, in the place of the change and of what it covered.
* A person who writes the register again replaces what stands there, the covered lanes too, as ever.

What meets what, whichever side learns of the other first (``tests/core/test_timers.py`` holds the table):

==================  ===================================================================================================
timeout             meets
==================  ===================================================================================================
a confirmation      the confirmed value stands: it is a lane of its own, which no timeout names
a later change      the later change stands: the lane to take away is gone, or goes
a concurrent one    the concurrent change stands, and what was covered unless that change had replaced it
an unset            the setting is unset: that is a lane too
another timeout     each takes its own lanes; with the last of them what was there before is back
a rollback          the same lanes go, once
nothing             what was covered stands again: also two values in conflict, also a secret's text
==================  ===================================================================================================

A confirmation is a person's change and a concurrent other change of the same setting is in conflict with it as any two
are. Where another value than the confirmed change's is in force, a confirmation leaves the change there as it is, timer
and all: written anew it would count above the other, and without its timer it would stand beside what it covers.

An element that is taken out of a set leaves no lane that could cover anything, and an addition that somebody did not
know of wins over a removal. So a removal with a timer is a lane that names those it hides, see ``Hiding``.

When a timer is over is decided by the machine that began it: see ``remaining``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from cluster_store.core.limits import TIME_MAX, TIMER_MAX_MS, VALUE_BYTES_MAX
from cluster_store.core.registers import Lane, Registers, Write
from cluster_store.core.types import MachineId, Path, RecordId

#: What the paths of timers begin with.
PREFIX = "timer/"
CONFIRM: Literal["confirm"] = "confirm"
EXPIRE: Literal["expire"] = "expire"

_Moment = Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX)]


class Boot(msgspec.Struct, frozen=True):
    """One reading of the clock that no step of the wall clock moves: which start of the host, and how long ago."""

    #: Another one after each start of the host; empty where that cannot be told.
    id: str = ""
    #: Milliseconds since then, those asleep included.
    ms: int = 0


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the register of a timer holds, as JSON."""

    kind: Literal["confirm", "expire"]
    #: When it is over, by the wall clock of the machine that began it, and how long it is, milliseconds.
    until: _Moment
    window: Annotated[int, msgspec.Meta(gt=0, le=TIMER_MAX_MS)]
    #: That machine's clock since its start.
    boot: Annotated[str, msgspec.Meta(max_length=64)] = ""
    since: Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX)] = 0
    #: The registers that go back; all that the event wrote where there are none.
    paths: tuple[Path, ...] = ()


class _Over(msgspec.Struct, frozen=True):
    """What a register beside a timer's holds: the events whose lanes the change covers."""

    over: tuple[RecordId, ...]


class Timer(msgspec.Struct, frozen=True):
    """A change that goes back by itself unless somebody says otherwise."""

    event: RecordId
    #: Its register.
    path: Path
    #: The machine that began it, and takes it back.
    machine: MachineId
    told: Told

    @property
    def waits_for_a_person(self) -> bool:
        """Whether it goes back because nobody confirmed it, and not because its time is over."""
        return self.told.kind == CONFIRM

    def is_about(self, path: Path) -> bool:
        """Say whether a register that its event wrote goes back with it."""
        # A key that has become a set stays one: somebody may have added an element to it who did not know.
        return path.startswith(("setting/", "element/")) and (not self.told.paths or path in self.told.paths)


class Timers(msgspec.Struct, frozen=True):
    """All timers that stand."""

    standing: tuple[Timer, ...] = ()
    #: The same by their events.
    by_event: Mapping[RecordId, tuple[Timer, ...]] = {}
    #: Event with a timer -> the events whose lanes its own cover, and the registers where it says so.
    over: Mapping[RecordId, frozenset[RecordId]] = {}
    beside: Mapping[RecordId, tuple[Path, ...]] = {}

    def of(self, event: RecordId, path: Path) -> Timer | None:
        """Return the timer of what an event wrote into a register, None where that stays."""
        return next((one for one in self.by_event.get(event, ()) if one.is_about(path)), None)

    def covered(self, path: Path, lanes: Iterable[Lane]) -> frozenset[RecordId]:
        """Return which of a register's lanes are covered by others of them."""
        found = [self.over.get(lane.id, frozenset()) for lane in lanes if self.of(lane.id, path) is not None]
        return frozenset[RecordId]().union(*found)

    def seen(self, path: Path, lanes: tuple[Lane, ...]) -> tuple[Lane, ...]:
        """Return a register's lanes without those that are covered: they say nothing until what covers them goes."""
        if not self.standing or len(lanes) < 2:  # noqa: PLR2004 - one covers, one is covered
            return lanes
        covered = self.covered(path, lanes)
        return tuple(lane for lane in lanes if lane.id not in covered)


def read_timers(registers: Registers) -> Timers:
    """Return the timers that stand, the one that is over first at the beginning.

    What a register holds that is no timer's is left out: a member may write anything.
    """
    found: list[Timer] = []
    over: dict[RecordId, frozenset[RecordId]] = {}
    beside: dict[RecordId, tuple[Path, ...]] = {}
    for path, lanes in registers.under(PREFIX):
        machine = MachineId(path.split("/")[1])
        for lane in lanes:
            told = _parsed(lane.value) if isinstance(lane.value, str) else None
            if isinstance(told, Told):
                found.append(Timer(lane.id, path, machine, told))
            elif told is not None:
                over[lane.id] = over.get(lane.id, frozenset()).union(told.over)
                beside[lane.id] = (*beside.get(lane.id, ()), path)
    found.sort(key=lambda one: (one.told.until, one.event, one.path))
    by_event: dict[RecordId, tuple[Timer, ...]] = {}
    for one in found:
        by_event[one.event] = (*by_event.get(one.event, ()), one)
    return Timers(tuple(found), by_event, over, beside)


def begun_by(writes: Iterable[Write]) -> list[Told]:
    """Return the timers that an event begins."""
    texts = (write.value for write in writes if write.path.startswith(PREFIX) and isinstance(write.value, str))
    return [told for told in map(_parsed, texts) if isinstance(told, Told)]


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Told | _Over | None:
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(text, type=Told)
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(text, type=_Over)
    return None


def timer_path(machine: MachineId, number: int) -> Path:
    """Return a register for what a machine's event says of its timers: each writes its lane beside the others'."""
    return Path(f"{PREFIX}{machine}/{number}")


def values_of(told: Iterable[Told], over: Iterable[RecordId]) -> list[str]:
    """Return what an event writes into its machine's registers of timers, from number 0 on: JSON texts."""
    ids = sorted(over)
    # An id takes 64 digits, two quotes and a comma.
    step = VALUE_BYTES_MAX // 67 - 1
    covers = [_Over(tuple(ids[place : place + step])) for place in range(0, len(ids), step)]
    return [msgspec.json.encode(one).decode() for one in (*told, *covers)]


def remaining(told: Told, boot: Boot, now: int) -> int:
    """Return in how many milliseconds a timer is over; nothing or less where it is over now.

    Within one start of the host only the clock since that start counts, which nobody can set. After another start it
    is the wall clock; but a timer that is older than the host's start lasts no longer than its window from there, and
    where the wall clock is before the moment at which it was begun, nothing it says can be believed.

    Args:
        told: of this machine's timer.
        boot: the clock since the host's start.
        now: the wall clock, milliseconds.
    """
    if boot.id and boot.id == told.boot:
        return told.since + told.window - boot.ms
    if now < told.until - told.window:
        return 0
    left = told.until - now
    return min(left, told.window - boot.ms) if boot.id else min(left, told.window)


# --- elements of sets that are taken out for a while ---------------------------------------------------


class Hiding(msgspec.Struct, frozen=True):
    """The value of an element's lane that hides others: what a removal with a timer writes in the place of removing."""

    #: The events whose lanes are hidden.
    hides: tuple[RecordId, ...]
    #: Whether it also leaves out what the level inherits.
    knocks_out: bool


def hiding_text(hides: Iterable[RecordId], *, knocks_out: bool) -> str:
    """Return the JSON text of a lane that hides others."""
    return msgspec.json.encode(Hiding(tuple(hides), knocks_out)).decode()


def hiding(lane: Lane) -> Hiding | None:
    """Return what a lane of an element hides, None where it is one like others."""
    return _hiding(lane.value) if isinstance(lane.value, str) and lane.value.startswith("{") else None


@lru_cache(maxsize=1024)
def _hiding(text: str) -> Hiding | None:
    try:
        return msgspec.json.decode(text, type=Hiding)
    except msgspec.MsgspecError:
        return None
