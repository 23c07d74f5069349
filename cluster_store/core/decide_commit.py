"""The decision that all of a draft becomes one event, and what a draft comes to before that.

A draft is a list of commands, each decided on top of those before it and written down with what stood in the registers
that it writes. When it is committed all of them are decided once more, on the registers of that moment: so a level that
is gone, or a key that became a set meanwhile, is noticed by whoever notices it otherwise. What stands in none of the
registers otherwise than it did then, or would be written otherwise, was changed under the draft, and refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from cluster_store.core import commands, decide_levels, decide_settings
from cluster_store.core.decide_timers import check_window, for_a_while, unless_confirmed
from cluster_store.core.decision import Context, Decision, replace, stays
from cluster_store.core.errors import ClusterStoreError, OverLimit, Refused
from cluster_store.core.events import Event
from cluster_store.core.limits import ENVELOPE_BYTES_MAX, WRITES_PER_EVENT_MAX
from cluster_store.core.registers import (
    Lane,
    LaneValue,
    Registers,
    Secret,
    Secrets,
    Write,
    WriteValue,
    split_setting,
)
from cluster_store.core.settings import element_lane
from cluster_store.core.types import Path, RecordId

#: Whatever is staged is later than all that stands.
_LATEST = 1 << 62
#: How what can be staged is decided.
DECIDERS: dict[type[commands.Command], Callable[[Any, Context], Decision]] = {
    commands.SetSetting: decide_settings.set_setting,
    commands.UnsetSetting: decide_settings.unset_setting,
    commands.AddElements: decide_settings.add_elements,
    commands.RemoveElements: decide_settings.remove_elements,
    commands.LoadConfig: decide_settings.load_config,
    commands.CopySettings: decide_levels.copy_settings,
    commands.MoveSettings: decide_levels.move_settings,
    commands.DeleteSettings: decide_levels.delete_settings,
}

_PUTTING = (commands.SetSetting, commands.AddElements, commands.LoadConfig)


class Layered:
    """Registers with writes on top of them that nobody has written yet."""

    def __init__(self, registers: Registers) -> None:
        """Begin with none."""
        self._below = registers
        self._above: dict[Path, tuple[Lane, ...]] = {}
        self._count = 0

    def standing(self, path: Path) -> tuple[Lane, ...]:
        """See ``Registers``."""
        above = self._above.get(path)
        return self._below.standing(path) if above is None else above

    def under(self, prefix: str) -> list[tuple[Path, tuple[Lane, ...]]]:
        """See ``Registers``."""
        above = {path: lanes for path, lanes in self._above.items() if path.startswith(prefix)}
        return sorted((dict(self._below.under(prefix)) | above).items())

    def put(self, event: Event) -> None:
        """Take an event's writes."""
        for write in event.writes:
            self._count += 1
            kept = tuple(lane for lane in self.standing(write.path) if lane.id not in write.replaced)
            if not isinstance(write.value, bool):
                text = event.secrets[write.path][1] if write.path in event.secrets else None
                name = RecordId(f"staged {self._count:08}")
                kept = (*kept, Lane(name, write.value, _LATEST + self._count, weak=False, text=text))
            self._above[write.path] = kept


class Changed(msgspec.Struct, frozen=True):
    """A register that was changed under a draft, or that the draft would change otherwise than when it was staged."""

    path: Path
    #: The values of the lanes that stood when it was staged.
    stood: tuple[LaneValue, ...]
    #: The lanes that stand now.
    stands: tuple[Lane, ...]
    #: What was staged.
    staged: WriteValue
    #: What the draft comes to there now.
    becomes: WriteValue


class Preview(msgspec.Struct, frozen=True):
    """What a draft comes to on the registers of a moment."""

    #: All of it, None where everything is so already.
    event: Event | None
    #: What was changed since it was staged, in the order of staging.
    changed: tuple[Changed, ...]
    #: The commands that cannot be carried out any more, with what refuses them.
    refused: tuple[tuple[commands.Staged, ClusterStoreError], ...]
    #: The commands that still come to something, each with what stands now.
    renewed: tuple[commands.Staged, ...]
    #: The registers as the draft leaves them.
    after: Registers


def stage(
    draft: Sequence[commands.Staged], command: commands.Command, context: Context
) -> tuple[commands.Staged | None, dict[str, Any]]:
    """Decide one more command on top of a draft.

    Returns:
        What the draft is to keep of it, None where all is so already, and what to tell the caller.

    Raises:
        Refused: or one of its kin: the command cannot wait in a draft, or would be refused, or is too much for it.
    """
    if not isinstance(command, commands.Stageable):
        raise Refused("only changes of settings can be staged", "give the command without staging it")
    if command.lasts is not None:
        check_window(command.lasts)
    layered = Layered(context.registers)
    writes, secrets = _played(draft, layered, context)[0]
    decision = _decide(command, layered, context)
    if decision.event is None:
        return None, decision.result
    writes |= {write.path: write.value for write in decision.event.writes}
    _check_size(_net(context, writes), {**secrets, **decision.event.secrets})
    pinned = _pinned(command, decision.result, context)
    return commands.Staged(pinned, _seen(context, decision.event.writes)), decision.result


def preview(draft: Sequence[commands.Staged], context: Context) -> Preview:
    """Return what a draft comes to now. Raises nothing over the commands in it."""
    layered = Layered(context.registers)
    # What was staged last for a register was staged by somebody who could see what stood there then.
    last = {seen.path: seen for one in draft for seen in one.seen}
    if all(_is_so(seen, context) for seen in last.values()):
        return Preview(None, (), (), tuple(draft), layered)
    (writes, secrets), renewed, refused = _played(draft, layered, context)
    gone = {seen.path for one, _ in refused for seen in one.seen}
    last = {path: seen for path, seen in last.items() if path not in gone}
    net = _net(context, writes)
    beside: Secrets = {write.path: secrets[write.path] for write in net if isinstance(write.value, Secret)}
    event = Event("ConfigCommitted", net, {"commands": len(draft)}, beside) if net else None
    return Preview(event, tuple(_changed(last, writes, context)), refused, renewed, layered)


def commit_config(command: commands.CommitConfig, context: Context) -> Decision:
    """Let all of a draft become one event. Raises Refused where it was made for another state."""
    if command.confirm_within is not None:
        check_window(command.confirm_within)
    found = preview(command.staged, context)
    told = {"commands": len(command.staged), "writes": len(found.event.writes) if found.event else 0}
    if found.refused:
        error = found.refused[0][1]
        raise Refused(
            f"a staged change cannot be made any more: {error.message}",
            "'diff' shows what is staged; 'clearchanges' drops all of it",
        )
    if found.changed:
        path = found.changed[0].path
        setting = split_setting(path)
        what = f"{setting[1]} at {context.cluster.show_level(setting[0])}" if setting else path
        raise Refused(f"{what} was changed since it was staged", "'diff' shows what it was, what it is, and yours")
    if found.event is None:
        return Decision(None, told)
    event, until = _timed(found.event, command, found.renewed, context)
    return Decision(event, {**told, "until": until})


def _timed(
    event: Event, command: commands.CommitConfig, staged: Iterable[commands.Staged], context: Context
) -> tuple[Event, int | None]:
    """Return a commit of which all, or what was staged for a while, goes back by itself, and when that begins."""
    lasting: dict[Path, int] = {}
    for one in staged:
        for seen in one.seen:
            lasting.pop(seen.path, None)
            lasting |= {seen.path: one.command.lasts} if one.command.lasts is not None else {}
    if command.confirm_within is not None:
        if lasting:
            raise Refused(
                "some of what is staged goes back by itself anyway, so it cannot wait to be confirmed",
                "commit it by itself, without --confirm-within",
            )
        return unless_confirmed(event, command.confirm_within, context), context.now + command.confirm_within
    if not lasting:
        return event, None
    return for_a_while(event, lasting, context), context.now + min(lasting.values())


# --- a draft, decided once more ----------------------------------------------------------------------

_Writes = dict[Path, WriteValue]
_Played = tuple[
    tuple[_Writes, Secrets], tuple[commands.Staged, ...], tuple[tuple[commands.Staged, ClusterStoreError], ...]
]


def _played(draft: Sequence[commands.Staged], layered: Layered, context: Context) -> _Played:
    """Decide the commands of a draft one by one, each on top of those before; return what each register becomes."""
    writes: _Writes = {}
    secrets: Secrets = {}
    renewed = []
    refused = []
    for one in draft:
        try:
            event = _decide(one.command, layered, context).event
        except ClusterStoreError as error:
            # An unset of what somebody else has unset meanwhile is refused, and yet there is nothing to refuse.
            above = msgspec.structs.replace(context, registers=layered)
            if not all(_values(seen.path, above) == _said([seen.becomes]) for seen in one.seen):
                refused.append((one, error))
            continue
        if event is None:
            continue
        layered.put(event)
        renewed.append(commands.Staged(one.command, _seen(context, event.writes)))
        writes |= {write.path: write.value for write in event.writes}
        secrets |= event.secrets
    return (writes, secrets), tuple(renewed), tuple(refused)


def _decide(command: commands.Command, layered: Layered, context: Context) -> Decision:
    decision = DECIDERS[type(command)](command, msgspec.structs.replace(context, registers=layered))
    if isinstance(command, _PUTTING) and command.level is not None and decision.event is not None:
        # It was staged for somebody to see, and they may be gone by now.
        decide_levels.refuse_gone(context.cluster.level(command.level), decision.result["level"], context)
    return decision


def _net(context: Context, writes: _Writes) -> tuple[Write, ...]:
    """Return the writes that lead to values from what stands, without those of values that stand there alone."""
    found = []
    for path, value in writes.items():
        lanes = context.registers.standing(path)
        alone = len(lanes) == 1 and lanes[0].value == value and stays(context, path)
        if not alone and not (not lanes and _said([value]) == ()):
            found.append(replace(context.registers, path, value))
    return tuple(found)


def _is_so(seen: commands.Seen, context: Context) -> bool:
    """Say whether a register says what was staged for it, for good or because somebody has written it since."""
    stood = dict(seen.stood)
    fresh = all(lane not in stood for lane, _ in _visible(seen.path, context))
    return _values(seen.path, context) == _said([seen.becomes]) and (fresh or stays(context, seen.path))


def _changed(last: Mapping[Path, commands.Seen], writes: _Writes, context: Context) -> Iterable[Changed]:
    for seen in last.values():
        stood = tuple(value for _, value in seen.stood)
        stands, staged = _values(seen.path, context), _said([seen.becomes])
        comes_to = _said([writes[seen.path]]) if seen.path in writes else stands
        if stands not in (_said(stood), staged) or comes_to != staged:
            becomes = writes.get(seen.path, seen.becomes)
            yield Changed(seen.path, stood, _lanes(seen.path, context), seen.becomes, becomes)
    for path, value in writes.items():
        if path not in last and _values(path, context) != _said([value]):
            lanes = _lanes(path, context)
            yield Changed(path, tuple(lane.value for lane in lanes), lanes, False, value)


def _visible(path: Path, context: Context) -> tuple[tuple[RecordId, LaneValue], ...]:
    """Return what stands in a register and is not covered by a change that goes back by itself: lanes and values."""
    lanes = context.registers.standing(path)
    if not path.startswith("element/"):
        return tuple((lane.id, lane.value) for lane in context.cluster.timers.seen(path, lanes))
    lane = element_lane(lanes)
    return () if lane is None or lane.value is None else ((lane.id, lane.value),)


def _lanes(path: Path, context: Context) -> tuple[Lane, ...]:
    visible = dict(_visible(path, context))
    return tuple(lane for lane in context.registers.standing(path) if lane.id in visible)


def _values(path: Path, context: Context) -> tuple[bytes, ...]:
    return _said(value for _, value in _visible(path, context))


def _said(values: Iterable[WriteValue]) -> tuple[bytes, ...]:
    """Return what values say together, each once; whatever says that nothing is set says nothing."""
    said = (msgspec.json.encode(value) for value in values if value is not None and value is not False)
    return tuple(sorted(dict.fromkeys(said)))


# --- what a draft keeps ------------------------------------------------------------------------------


def _seen(context: Context, writes: Iterable[Write]) -> tuple[commands.Seen, ...]:
    return tuple(commands.Seen(write.path, _visible(write.path, context), write.value) for write in writes)


def _pinned(command: commands.Stageable, result: dict[str, Any], context: Context) -> commands.Stageable:
    """Return a command that names its levels by their ids: neither a mode nor a new name changes what it is about."""

    def by_id(shown: str) -> str:
        return context.cluster.address(context.cluster.level(shown))

    if isinstance(command, commands.LevelCommand):
        command = msgspec.structs.replace(command, level=by_id(result["from"]))
    else:
        command = msgspec.structs.replace(command, level=by_id(result["level"]))
    if isinstance(command, commands.CopySettings | commands.MoveSettings):
        command = msgspec.structs.replace(command, target=by_id(result["to"]))
    return command


def _check_size(writes: Sequence[Write], secrets: Secrets) -> None:
    """Refuse what could never be committed: a commit is one event."""
    size = sum(len(msgspec.json.encode(write)) for write in writes) + sum(len(text) for _, text in secrets.values())
    if len(writes) > WRITES_PER_EVENT_MAX or size > ENVELOPE_BYTES_MAX:
        raise OverLimit(
            f"with it {len(writes)} settings of {size} bytes are staged; one commit has room for "
            f"{WRITES_PER_EVENT_MAX} and {ENVELOPE_BYTES_MAX}",
            "commit what is staged first",
        )
