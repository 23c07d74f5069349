"""Decisions about changes that go back by themselves: begun, confirmed, taken back; see ``timers``."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

import msgspec

from cluster_store.core import commands
from cluster_store.core.decision import Context, Decision, write_secret
from cluster_store.core.errors import NotFound, OverLimit, Refused
from cluster_store.core.events import Event
from cluster_store.core.limits import ENVELOPE_BYTES_MAX, REPLACED_PER_WRITE_MAX, TIME_MAX, TIMER_MAX_MS
from cluster_store.core.registers import Lane, Secret, Secrets, Write, split_setting, valid_path, winner
from cluster_store.core.settings import KNOCKED_OUT, PRESENT, element_lane
from cluster_store.core.timers import (
    CONFIRM,
    EXPIRE,
    Timer,
    Told,
    hiding,
    hiding_text,
    remaining,
    timer_path,
    values_of,
)
from cluster_store.core.types import Path, RecordId

_SETTINGS = ("setting/", "element/")
#: An id where a write names it, with its quotes and comma.
_NAMED_BYTES = 67

# --- begun ---


def unless_confirmed(event: Event, window: int, context: Context) -> Event:
    """Return an event that goes back unless it is confirmed within so many milliseconds. Raises Refused."""
    told = _told(CONFIRM, window, (), context)
    covering = {write.path: window for write in event.writes if write.path.startswith(_SETTINGS)}
    made = _covering(event, covering, [told], context)
    # A confirmation says all of it again, and names for each register the change and what it covers.
    size = sum(len(msgspec.json.encode(write)) for write in made.writes) + len(made.writes) * 2 * _NAMED_BYTES
    if size > ENVELOPE_BYTES_MAX:
        raise OverLimit("it is too much to be confirmed", "commit it in parts, or without --confirm-within")
    return made


def for_a_while(event: Event, lasting: Mapping[Path, int], context: Context) -> Event:
    """Return an event of which some registers go back by themselves, each after its milliseconds. Raises Refused."""
    windows: dict[int, list[Path]] = {}
    for write in event.writes:
        if write.path in lasting and write.path.startswith(_SETTINGS):
            windows.setdefault(lasting[write.path], []).append(write.path)
    told = [_told(EXPIRE, window, tuple(paths), context) for window, paths in sorted(windows.items())]
    return _covering(event, lasting, told, context) if told else event


def check_window(window: int) -> None:
    """Raise Refused where no change could wait for so many milliseconds."""
    if not 0 < window <= TIMER_MAX_MS:
        raise Refused("a change can wait for a year at most, and for a moment at least", "give a time like 10m or 4h")


def _told(kind: str, window: int, paths: tuple[Path, ...], context: Context) -> Told:
    check_window(window)
    boot = context.boot
    until = min(context.now + window, TIME_MAX)
    given = {"kind": kind, "until": until, "window": window, "boot": boot.id, "since": boot.ms}
    return msgspec.convert({**given, "paths": paths}, Told)


def _covering(event: Event, windows: Mapping[Path, int], told: Sequence[Told], context: Context) -> Event:
    """Return an event whose lanes in some registers cover what stands there instead of replacing it."""
    over: dict[RecordId, None] = {}
    writes = []
    for write in event.writes:
        if write.path not in windows or not write.path.startswith(_SETTINGS):
            writes.append(write)
            continue
        gone, covered = _parted(write, context.now + windows[write.path], told[0].kind, context)
        over |= dict.fromkeys(covered)
        writes.append(Write(write.path, _over_value(write, covered, context), gone))
    texts = values_of(told, over)
    begun = [Write(timer_path(context.me, number), text, ()) for number, text in enumerate(texts)]
    return msgspec.structs.replace(event, writes=(*writes, *begun))


def _parted(write: Write, until: int, kind: str, context: Context) -> tuple[tuple[RecordId, ...], tuple[RecordId, ...]]:
    """Return which lanes a write with a timer replaces all the same, and which it covers."""
    gone: list[RecordId] = []
    covered: list[RecordId] = []
    for event in write.replaced:
        timer = context.cluster.timers.of(event, write.path)
        if timer is not None and timer.waits_for_a_person:
            raise Refused(
                f"{_named(write.path)} is part of a change that waits to be confirmed",
                "'confirm' that first, or take it back with 'rollbackconfig'",
            )
        # It would be over before this one, and never be seen again.
        outlasted = timer is not None and kind == EXPIRE and timer.told.until <= until
        (gone if outlasted else covered).append(event)
    return tuple(gone), tuple(covered)


def _over_value(write: Write, covered: Sequence[RecordId], context: Context) -> str | Secret | None:
    """Return what a lane has to say to stand over those that it covers."""
    if not isinstance(write.value, bool) and not (write.path.startswith("element/") and write.value == KNOCKED_OUT):
        return write.value
    adding = {lane.id for lane in context.registers.standing(write.path) if lane.value == PRESENT or hiding(lane)}
    if write.value == KNOCKED_OUT and not adding.intersection(covered):
        return KNOCKED_OUT
    return hiding_text(covered, knocks_out=write.value == KNOCKED_OUT)


def _named(path: Path) -> str:
    setting = split_setting(path)
    return setting[1] if setting is not None else path


def check_nothing_pending(context: Context) -> None:
    """Raise Refused where a setting goes back by itself, which is about to be moved where it would not."""
    if context.cluster.timers.standing:
        raise Refused(
            "a setting of this machine goes back by itself, and would not once it is the cluster's",
            "'status' shows it: 'confirm' it, or take it back with 'rollbackconfig', first",
        )


# --- ended by a person ---


def ending(event: Event, context: Context) -> Event:
    """Return an event that also ends the timers of what it replaces: who writes a setting again wants it so."""
    if not context.cluster.timers.standing:
        return event
    replaced = {(write.path, gone) for write in event.writes for gone in write.replaced}
    over = [
        timer
        for timer in context.cluster.timers.standing
        if timer.told.paths and all((path, timer.event) in replaced for path in timer.told.paths)
    ]
    return _with_ends(event, over, context)


def ending_all(event: Event, taken_back: Iterable[str], context: Context) -> Event:
    """Return an event that also ends all timers of what it takes back."""
    by_event = context.cluster.timers.by_event
    over = [timer for one in dict.fromkeys(taken_back) for timer in by_event.get(RecordId(one), ())]
    return _with_ends(event, over, context)


def _with_ends(event: Event, over: Sequence[Timer], context: Context) -> Event:
    """Return an event that ends timers, beside whatever it writes into their registers."""
    timers = context.cluster.timers
    ended = [(timer.path, timer.event) for timer in over]
    for one in dict.fromkeys(timer.event for timer in over):
        if all((timer.path, one) in ended for timer in timers.by_event[one]):
            ended += [(path, one) for path in timers.beside.get(one, ())]
    writes = {write.path: write for write in event.writes}
    for path, gone in ended:
        known = writes.get(path, Write(path, False, ()))
        # Whatever is too much for one write ends when its time is over.
        if len(known.replaced) < REPLACED_PER_WRITE_MAX:
            writes[path] = msgspec.structs.replace(known, replaced=(*known.replaced, gone))
    return msgspec.structs.replace(event, writes=tuple(writes.values()))


def confirm(command: commands.ConfirmConfig, context: Context) -> Decision:
    """Let changes stay that would go back by themselves.

    A value that does not count at the moment is left as it is, timer and all, and told as ``left``.

    Raises:
        NotFound: one of the changes does not go back by itself, or no more.
        Refused: nothing of them counts at the moment.
    """
    timers = context.cluster.timers
    events = dict.fromkeys(map(RecordId, command.events))
    if not events:
        raise NotFound("nothing waits to be confirmed", "'log' shows what became of a commit that did")
    over = [timer for event in events for timer in timers.by_event.get(event, ())]
    for event in events:
        if event not in {timer.event for timer in over}:
            raise NotFound(
                f"{event[:10]} does not go back by itself, or does no more",
                f"'status' shows what does, 'commitdetail {event[:10]}' what became of it",
            )
    named = dict.fromkeys(map(Path, command.paths))
    paths = [path for path in named if valid_path(path) and path.startswith(_SETTINGS)]
    left = [path for path in paths if _does_not_count(path, events, context)]
    ended = [timer for timer in over if not any(_stands(timer, path, context) for path in left)]
    writes: list[Write] = []
    secrets: Secrets = {}
    for path in (path for path in paths if path not in left):
        write, beside = _confirmed(path, events, command.salt, context)
        writes += [write] if write is not None else []
        secrets |= beside
    if not writes and not ended:
        key = _named(left[0])
        raise Refused(
            f"another change of {key} counts at the moment, so there is nothing to let stay",
            f"'explain {key}' shows it: confirm this when that is over, or take it back with 'rollbackconfig'",
        )
    made = Event("ConfigConfirmed", tuple(writes), {"events": list(events)}, secrets)
    return Decision(_with_ends(made, ended, context), {"events": list(events), "writes": len(writes), "left": left})


def _own(path: Path, events: Container[RecordId], context: Context) -> list[Lane]:
    """Return the lanes of some changes that go back by themselves."""
    timers = context.cluster.timers
    lanes = context.registers.standing(path)
    return [lane for lane in lanes if lane.id in events and timers.of(lane.id, path) is not None]


def _stands(timer: Timer, path: Path, context: Context) -> bool:
    """Say whether a register still has what a timer is to take back."""
    return timer.is_about(path) and any(lane.id == timer.event for lane in context.registers.standing(path))


def _does_not_count(path: Path, events: Container[RecordId], context: Context) -> bool:
    """Say whether something else counts in a register where a change stands that goes back by itself.

    To write the change's value anew would put it above what counts now. To let its lane stay and end its timer alone
    would uncover what it covers, which stood beside it from then on: a conflict that nobody has made.
    """
    own = _own(path, events, context)
    lanes = context.registers.standing(path)
    if not path.startswith("element/"):
        return bool(own) and winner(lanes) not in own
    if _lasting(own) is False:
        # What is taken out of a set stands beside nothing.
        return False
    others = [lane for lane in lanes if context.cluster.timers.of(lane.id, path) is not None and lane not in own]
    covered = frozenset[RecordId]().union(*(_covered(lane, context) for lane in others))
    return any(lane.id in covered for lane in own)


def _lasting(own: Iterable[Lane]) -> str | bool | None:
    """Return what a confirmation writes for an element, None where it writes nothing: False takes it out of the set."""
    lane = element_lane(own)
    if lane is None or isinstance(lane.value, Secret):
        return None
    # A lane that hides others and says nothing itself hid what was in the set.
    return False if lane.value is None else lane.value


def _confirmed(path: Path, events: Container[RecordId], salt: bytes, context: Context) -> tuple[Write | None, Secrets]:
    """Return the write that puts into the place of a change and of what it covers what the change says."""
    own = _own(path, events, context)
    gone = {lane.id for lane in own}.union(*(_covered(lane, context) for lane in own))
    replaced = tuple(lane.id for lane in context.registers.standing(path) if lane.id in gone)
    if path.startswith("element/"):
        value = _lasting(own)
        return (Write(path, value, replaced), {}) if value is not None else (None, {})
    lane = winner(own)
    if lane is None:
        # Somebody has changed it for good.
        return None, {}
    if not isinstance(lane.value, Secret):
        return Write(path, lane.value, replaced), {}
    if lane.text is None:
        raise Refused(
            f"the value of the secret {_named(path)} is not on this machine", "confirm it on the one where it was set"
        )
    write, secrets = write_secret(path, lane.text, salt, context)
    return msgspec.structs.replace(write, replaced=replaced), secrets


def _covered(lane: Lane, context: Context) -> frozenset[RecordId]:
    known = hiding(lane)
    return context.cluster.timers.over.get(lane.id, frozenset()) | frozenset(known.hides if known is not None else ())


# --- ended by time ---


def take_back(command: commands.TakeBack, context: Context) -> Decision:
    """Take back what stands of a change whose time is over. Raises Refused where this machine is not to, or not yet."""
    found = context.cluster.timers.by_event.get(RecordId(command.event), ())
    timer = next((one for one in found if one.path == command.timer), None)
    if timer is None:
        return Decision(None)
    if timer.machine != context.me:
        raise Refused("another machine takes that change back", "'rollbackconfig' does so from here")
    if remaining(timer.told, context.boot, context.now) > 0:
        raise Refused("that change is not over yet", "'rollbackconfig' takes it back now")
    writes = [
        Write(path, False, (timer.event,))
        for path in dict.fromkeys(map(Path, command.paths))
        if _stands(timer, path, context)
    ]
    kind = "ConfirmationTimedOut" if timer.waits_for_a_person else "SettingExpired"
    return Decision(_with_ends(Event(kind, tuple(writes), {"event": timer.event}), [timer], context))
