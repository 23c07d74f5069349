"""What would take events back: for each setting that they wrote, what it would be had they not been.

The value before is what stands of the writes that are neither taken back nor came after those. Where somebody changed
a setting again later, knowing of what is to be taken back, their change is kept unless force is used. A concurrent
change is no later one: it stays what it is, and what stood beside it goes.

Only the lanes of what is taken back are replaced. So a rollback, too, can be taken back, and settles no conflict that
others have.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping

import msgspec

from cluster_store.core.commands import Restoration
from cluster_store.core.history import came_after
from cluster_store.core.registers import (
    Lane,
    LaneValue,
    Registers,
    Secret,
    WriteValue,
    differing,
    split_setting,
    winner,
)
from cluster_store.core.settings import element_lane
from cluster_store.core.state import Appended
from cluster_store.core.timers import Timers, hiding, read_timers
from cluster_store.core.types import Path, RecordId
from cluster_store.core.values import unquote_part

#: Reads the log from its beginning, as often as it is called.
ReadLog = Callable[[], Iterable[Appended]]
#: Finds salt and JSON text of a secret; None where they never came here, were erased, or are not for whoever asks.
FindSalted = Callable[[Path, RecordId], tuple[bytes, str] | None]

_SETTINGS = ("setting/", "element/", "kind/")
#: A change of settings may begin and end timers; when it is taken back they do not begin again.
_ABOUT = (*_SETTINGS, "timer/")


class Change(msgspec.Struct, frozen=True):
    """A register that a rollback is about."""

    path: Path
    #: The lane that is its value, and the one that would be; None where it has none.
    now: Lane | None
    then: Lane | None
    #: The standing lanes that go.
    gone: tuple[Lane, ...] = ()
    #: What else stood before and said something else. It does not come back: an event puts one lane into a register.
    beside: tuple[Lane, ...] = ()
    #: Of what is kept: the lanes to be taken back that are seen again once what covers them has gone back.
    covered: tuple[Lane, ...] = ()


class Rollback(msgspec.Struct, frozen=True):
    """What taking some events back comes to."""

    #: The events that are taken back, in the order of the log.
    events: tuple[Appended, ...]
    #: Those among the chosen ones that are not about settings alone, or count for nothing.
    left: tuple[Appended, ...]
    changes: tuple[Change, ...]
    #: Those of which several values stood before: one of them comes back, or is there already.
    settled: tuple[Change, ...]
    #: What was changed again later, and stays.
    kept: tuple[Change, ...]
    #: Secrets whose values of before are not to be had.
    lost: tuple[Change, ...]
    #: What is to be written.
    restorations: tuple[Restoration, ...]


class _Written(msgspec.Struct, frozen=True, gc=False):
    """A write to a register, as the log tells it."""

    lane: Lane
    value: WriteValue
    replaced: tuple[RecordId, ...]
    position: int


def can_be_taken_back(added: Appended) -> bool:
    """Say whether an event counts and wrote settings alone; what it did to the membership cannot be taken back."""
    paths = [write.path for write in added.record.envelope.writes]
    of_settings = any(path.startswith(_SETTINGS) for path in paths) and all(path.startswith(_ABOUT) for path in paths)
    return of_settings and not added.void


def plan(
    log: ReadLog, chosen: Callable[[Appended], bool], registers: Registers, secret: FindSalted, *, force: bool = False
) -> Rollback:
    """Return what would take events back.

    Args:
        log: the whole of it.
        chosen: says which events to take back.
        registers: as they are now, of every scope.
        secret: finds the secrets' values of before.
        force: take back also what was changed again later.
    """
    picked = _with_confirmations(log, [added for added in log() if chosen(added)])
    events = tuple(filter(can_be_taken_back, picked))
    back = frozenset(added.record.id for added in events)
    written_to = (write.path for added in events for write in added.record.envelope.writes)
    paths = {path: None for path in written_to if path.startswith(_SETTINGS)}
    written = _written(log, paths)
    later = _later(log, events, written)
    timers = read_timers(registers)
    changes: list[Change] = []
    settled: list[Change] = []
    kept: list[Change] = []
    lost: list[Change] = []
    restorations: dict[Path, Restoration] = {}
    for path in sorted(paths):
        standing = registers.standing(path)
        undone = back | later.get(path, frozenset())
        before = _standing_of(one for one in written[path] if one.lane.id not in undone)
        gone = tuple(lane for lane in standing if lane.id in undone)
        change = Change(path, best(path, standing), best(path, before), gone, _beside(path, before, standing))
        if not force and path in later:
            under = _under(change, before, standing, back, timers)
            if under is not None:
                changes.append(under)
                restorations[path] = _restoration(under, standing, None)
            elif _said(change.now) != _said(change.then):
                covered = timers.covered(path, standing) & back
                kept.append(msgspec.structs.replace(change, covered=tuple(lane for lane in gone if lane.id in covered)))
            continue
        settled += [change] if change.beside else []
        if not _alters(change, standing):
            continue
        salted = None
        if change.then is not None and isinstance(change.then.value, Secret) and not _stands(change.then, standing):
            salted = secret(path, change.then.id)
            if salted is None:
                lost.append(change)
                continue
        changes.append(change)
        restorations[path] = _restoration(change, standing, salted)
    needed = _kinds_still_needed(registers, restorations)
    return Rollback(
        events=events,
        left=tuple(added for added in picked if added.record.id not in back),
        changes=tuple(change for change in changes if change.path not in needed),
        settled=tuple(settled),
        kept=tuple(kept),
        lost=tuple(lost),
        restorations=tuple(one for path, one in restorations.items() if path not in needed),
    )


def _with_confirmations(log: ReadLog, picked: list[Appended]) -> list[Appended]:
    """Return events with those that confirmed them and nothing else: these are no later changes."""
    ids = {added.record.id for added in picked}
    return [added for added in log() if added.record.id in ids or _confirms(added, ids)] if ids else picked


def _confirms(added: Appended, events: Container[RecordId]) -> bool:
    envelope = added.record.envelope
    about = envelope.params.get("events") if envelope.kind == "ConfigConfirmed" else None
    return isinstance(about, list) and bool(about) and all(isinstance(one, str) and one in events for one in about)


def best(path: Path, lanes: Iterable[Lane]) -> Lane | None:
    """Return the lane that is a register's value; of a set's element one that adds goes first."""
    return element_lane(lanes) if path.startswith("element/") else winner(lanes)


def value_of(lane: Lane | None) -> LaneValue:
    """Return what a register's lane says, None where there is none."""
    return lane.value if lane is not None else None


def _beside(path: Path, before: Iterable[Lane], standing: Iterable[Lane]) -> tuple[Lane, ...]:
    """Return the lanes of before that said something else than the one that comes back, and do not stand."""
    then = _said(best(path, before))
    here = {lane.id for lane in standing}
    return tuple(lane for lane in before if _said(lane) != then and lane.id not in here and hiding(lane) is None)


def _under(
    change: Change, before: Iterable[Lane], standing: tuple[Lane, ...], back: Container[RecordId], timers: Timers
) -> Change | None:
    """Return how a change that goes back by itself is taken from under later ones, None where it cannot be.

    What it covers has to stand still: then nothing is put, which would stand beside the later change.
    """
    own = tuple(lane for lane in change.gone if lane.id in back)
    below = {lane.id for lane in standing if lane not in change.gone}
    if not own or below != {lane.id for lane in before} or any(timers.of(lane.id, change.path) is None for lane in own):
        return None
    return Change(change.path, change.now, best(change.path, [lane for lane in standing if lane not in own]), own)


def _stands(lane: Lane | None, standing: Iterable[Lane]) -> bool:
    return lane is not None and any(other.id == lane.id for other in standing)


def _said(lane: Lane | None) -> bytes:
    return msgspec.json.encode(value_of(lane))


def _alters(change: Change, standing: tuple[Lane, ...]) -> bool:
    """Say whether anything is to be written for a register."""
    if _said(change.now) == _said(change.then):
        # The same value, unless what is taken back stands beside it and says something else.
        return bool(change.gone) and differing(standing)
    return bool(change.gone) or (change.then is not None and not _stands(change.then, standing))


def _restoration(change: Change, standing: tuple[Lane, ...], salted: tuple[bytes, str] | None) -> Restoration:
    replaced = tuple(lane.id for lane in change.gone)
    now = tuple(lane.id for lane in standing)
    value = value_of(change.then)
    if _stands(change.then, standing) or (value is None and change.path.startswith("element/")):
        return Restoration(path=change.path, value=False, replaced=replaced, standing=now)
    if salted is not None:
        return Restoration(path=change.path, value=salted[1], replaced=replaced, standing=now, salt=salted[0])
    assert not isinstance(value, Secret)
    return Restoration(path=change.path, value=value, replaced=replaced, standing=now)


# --- what was written ---


def _written(log: ReadLog, paths: Mapping[Path, None]) -> dict[Path, list[_Written]]:
    """Return all writes to some registers, in the order of the log."""
    found: dict[Path, list[_Written]] = {path: [] for path in paths}
    for added in log() if paths else ():
        envelope = added.record.envelope
        for write in () if added.void else envelope.writes:
            if write.path in found:
                value = None if isinstance(write.value, bool) else write.value
                lane = Lane(added.record.id, value, envelope.hybrid, envelope.weak)
                found[write.path].append(_Written(lane, write.value, write.replaced, added.position))
    return found


def _standing_of(written: Iterable[_Written]) -> list[Lane]:
    """Return the lanes that some writes leave standing, were there no others."""
    lanes: dict[RecordId, Lane] = {}
    for one in written:
        for gone in one.replaced:
            lanes.pop(gone, None)
        if not isinstance(one.value, bool):
            lanes[one.lane.id] = one.lane
    return list(lanes.values())


def _later(
    log: ReadLog, events: tuple[Appended, ...], written: Mapping[Path, list[_Written]]
) -> dict[Path, frozenset[RecordId]]:
    """Return who changed registers again, knowing of an event that had written them and is to be taken back."""
    back = {added.record.id for added in events}
    contested = {
        path: some
        for path, some in written.items()
        if any(
            one.lane.id not in back and any(two.lane.id in back and two.position < one.position for two in some)
            for one in some
        )
    }
    if not contested:
        return {}
    bits = {
        one.lane.id: 1 << bit
        for bit, one in enumerate(
            {one.lane.id: one for some in contested.values() for one in some if one.lane.id in back}.values()
        )
    }
    others = {one.lane.id for some in contested.values() for one in some if one.lane.id not in back}
    # Event -> which of those to be taken back it knew of, a bit for each.
    known: dict[RecordId, int] = {}
    told: dict[RecordId, int] = {}
    for added in log():
        mask = 0
        for before in came_after(added.record.envelope):
            mask |= known.get(before, 0)
        if added.record.id in others:
            told[added.record.id] = mask
        mask |= bits.get(added.record.id, 0)
        if mask:
            known[added.record.id] = mask
    found = {}
    for path, some in contested.items():
        seeds = 0
        for one in some:
            seeds |= bits.get(one.lane.id, 0)
        after = frozenset(one.lane.id for one in some if told.get(one.lane.id, 0) & seeds)
        if after:
            found[path] = after
    return found


def _kinds_still_needed(registers: Registers, restorations: Mapping[Path, Restoration]) -> set[Path]:
    """Return the registers that make keys sets and must go on doing so: elements of theirs stay."""
    going = {path for path, one in restorations.items() if path.startswith("kind/") and one.value is None}
    if not going:
        return set()
    return going.intersection(_kinds_of_elements(registers, restorations))


def _kinds_of_elements(registers: Registers, restorations: Mapping[Path, Restoration]) -> Iterator[Path]:
    paths = dict(registers.under("element/"))
    paths |= {path: () for path in restorations if path.startswith("element/") and path not in paths}
    for path, lanes in paths.items():
        restored = restorations.get(path)
        gone = restored.replaced if restored is not None else ()
        stays = any(lane.id not in gone for lane in lanes)
        if stays or (restored is not None and isinstance(restored.value, str)):
            yield Path(f"kind/{path.split('/')[-2]}")


def key_of(path: Path) -> str:
    """Return the key that a register of settings is about."""
    setting = split_setting(path)
    return setting[1] if setting is not None else unquote_part(path.partition("/")[2])
