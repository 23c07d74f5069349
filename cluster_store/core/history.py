"""Events for people and for scripts: what one line of the log says, which events were asked for, who had seen which.

An event is shown as its author wrote it, also where it counts for nothing. What a secret's value was is not in the
record, so it cannot be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Protocol

import msgspec

from cluster_store.core.cluster import Cluster
from cluster_store.core.errors import Malformed, StoreCorrupt
from cluster_store.core.naming import (
    SHORT_ID_DIGITS,
    counted,
    excerpt,
    iso_time,
    one_line,
    show_level,
    show_path,
    tell_level,
)
from cluster_store.core.records import Envelope, decode, is_value
from cluster_store.core.registers import Lane, Secret, Write, WriteValue, split_setting, valid_path
from cluster_store.core.settings import KNOCKED_OUT
from cluster_store.core.state import Appended
from cluster_store.core.timers import PREFIX, Timer, begun_by, hiding
from cluster_store.core.types import MachineId, RecordId

#: Finds the event that wrote a lane.
FindEvent = Callable[[RecordId], Appended]

#: What stands where a secret's value would.
SECRET = "(secret)"  # noqa: S105 - it is the word for one
#: Writes of one event that a line for people names; it counts the rest.
_NAMED_WRITES_MAX = 2


class Stored(Protocol):
    """A row of the log, of which nothing was checked."""

    @property
    def position(self) -> int:
        """Its place in this machine's log."""

    @property
    def id(self) -> RecordId:
        """The record's id."""

    @property
    def line(self) -> int:
        """The line that it stands in."""

    @property
    def envelope(self) -> bytes:
        """The envelope's bytes."""

    @property
    def seal(self) -> bytes:
        """The seal, or nothing."""

    @property
    def void(self) -> str:
        """Why it counts for nothing, or ``""``."""

    @property
    def learnt(self) -> int:
        """When this machine learnt of it, milliseconds since 1970."""


def read_event(row: Stored) -> Appended:
    """Return the event of a row. Raises StoreCorrupt where its bytes are not those that were written."""
    try:
        record = decode(row.envelope, row.seal)
    except Malformed as error:
        raise _damaged(row) from error
    if record.id != row.id:
        raise _damaged(row)
    return Appended(row.position, row.line, record, row.void, row.learnt)


class Sight(msgspec.Struct, frozen=True, gc=False):
    """What of an envelope tells which events belong to a past, and what it adds up to."""

    after: tuple[RecordId, ...]
    hybrid: int
    machine: MachineId
    prev: str
    time: int
    weak: bool
    writes: tuple[Write, ...]


_sight = msgspec.json.Decoder(Sight)


def read_sight(row: Stored) -> Sight:
    """Return what a past needs of a row, in a fraction of the time of ``read_event``.

    Bytes with the hash that was stored are those that were written, and they were looked at before that.
    Raises StoreCorrupt where they are others.
    """
    if sha256(row.envelope + row.seal).hexdigest() != row.id:
        raise _damaged(row)
    try:
        return _sight.decode(row.envelope)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise _damaged(row) from error


def _damaged(row: Stored) -> StoreCorrupt:
    return StoreCorrupt(
        f"the record {row.id} at position {row.position} of the log is damaged",
        "run 'cluster-store verify' to see what else is wrong with the store",
    )


class Filter(msgspec.Struct, frozen=True):
    """Which events were asked for; what is empty asks for nothing.

    ``since`` and ``until`` are decided by the caller: a time is a property of one event, a past of many.
    """

    #: What the key of one of its settings begins with.
    key: str = ""
    machine: MachineId = MachineId("")
    user: str = ""

    def takes(self, added: Appended) -> bool:
        """Say whether an event was asked for."""
        envelope = added.record.envelope
        if (self.machine and envelope.machine != self.machine) or (self.user and envelope.user != self.user):
            return False
        return not self.key or any(_key(write).startswith(self.key) for write in envelope.writes)


def _key(write: Write) -> str:
    # The sign that no key may have makes no prefix fit what is no setting.
    setting = split_setting(write.path) if valid_path(write.path) else None
    return setting[1] if setting else "\0"


# --- the past ---


def came_after(envelope: Envelope) -> list[RecordId]:
    """Return the records that one directly follows: the one before it, those it had seen, those it replaces."""
    replaced = [record for write in envelope.writes for record in write.replaced]
    return list(dict.fromkeys(RecordId(record) for record in (envelope.prev, *envelope.after, *replaced) if record))


def with_past(newest_first: Iterable[Appended], chosen: Callable[[Appended], bool]) -> set[RecordId]:
    """Return the events that were chosen and all that they came after.

    Args:
        newest_first: the whole log backwards, so that each event comes before all of its past.
        chosen: says whether an event is wanted for its own sake.
    """
    found: set[RecordId] = set()
    for added in newest_first:
        if added.record.id in found or chosen(added):
            found.add(added.record.id)
            found.update(came_after(added.record.envelope))
    return found


# --- for scripts ---


def to_json(added: Appended, cluster: Cluster) -> dict[str, Any]:
    """Return what ``log --json`` says of an event."""
    envelope = added.record.envelope
    return {
        "id": added.record.id,
        "machine": cluster.hostname(envelope.machine),
        "machine_id": envelope.machine,
        "seq": envelope.seq,
        "epoch": envelope.epoch,
        "kind": envelope.kind,
        "user": envelope.user,
        "auth": envelope.auth,
        "time": iso_time(envelope.time),
        "comment": envelope.comment,
        "params": envelope.params,
        "writes": [write_to_json(write, cluster) for write in envelope.writes],
        "void": added.void or None,
        "weak": envelope.weak,
        "prev": envelope.prev or None,
        "after": list(envelope.after),
        "learnt": iso_time(added.learnt),
    }


def written_to_json(added: Appended, cluster: Cluster) -> dict[str, Any]:
    """Return who wrote something, where, when and why, and when this machine learnt of it."""
    envelope = added.record.envelope
    return {
        "event": added.record.id,
        "machine": cluster.hostname(envelope.machine),
        "seq": envelope.seq,
        "user": envelope.user,
        "kind": envelope.kind,
        "time": iso_time(envelope.time),
        "learnt": iso_time(added.learnt),
        "comment": envelope.comment,
    }


def write_to_json(write: Write, cluster: Cluster) -> dict[str, Any]:
    """Return one write of an event: ``action`` tells a value of null from none at all."""
    shown: dict[str, Any] = {"path": write.path}
    setting = split_setting(write.path) if valid_path(write.path) else None
    if setting is not None:
        level, key, element = setting
        shown |= {"key": key, "level": show_level(level, cluster)}
        if element is not None:
            shown["element"] = plain(element)
    return {**shown, "action": _action(write), "value": plain(write.value), "replaces": list(write.replaced)}


def plain(value: WriteValue) -> Any:
    """Return a stored value for a JSON document: exactly its text, a secret as ``SECRET``, nothing as None."""
    if isinstance(value, Secret):
        return SECRET
    if not isinstance(value, str):
        return None
    if not is_value(value):
        return value  # only a void record holds text that is no JSON
    # Another program than this one may have left line ends in it, and a line is an event.
    is_one_line = "\n" not in value and "\r" not in value
    return msgspec.Raw(value.encode() if is_one_line else msgspec.json.format(value.encode(), indent=-1))


def _action(write: Write) -> str:
    if write.value is False or (write.path.startswith("element/") and _hides(write)):
        return "remove"
    if write.value is None:
        return "unset"
    if not write.path.startswith("element/"):
        return "set"
    return "knock out" if write.value == KNOCKED_OUT else "add"


def _hides(write: Write) -> bool:
    """Say whether a write takes an element out for a while."""
    return isinstance(write.value, str) and hiding(Lane(RecordId(""), write.value, 0, weak=False)) is not None


def timer_to_json(timer: Timer, cluster: Cluster) -> dict[str, Any]:
    """Return when a change goes back, why, and which machine sees to that."""
    return {
        "event": timer.event,
        "kind": timer.told.kind,
        "until": iso_time(timer.told.until),
        "machine": cluster.hostname(timer.machine),
    }


# --- for people ---

#: What is said of a change that goes back by itself.
_LASTING = {"confirm": "to be confirmed", "expire": "for a while"}


def describe(added: Appended, cluster: Cluster) -> str:
    """Return in words what an event did, on one line that is safe on a terminal."""
    envelope = added.record.envelope
    words = _WORDS.get(envelope.kind, _writes)
    begun = dict.fromkeys(_LASTING[told.kind] for told in begun_by(envelope.writes))
    return ("void: " if added.void else "") + one_line(", ".join([words(envelope, cluster), *begun]))


def _writes(envelope: Envelope, cluster: Cluster) -> str:
    """Say what was written, register by register, as far as a line allows."""
    told = [write for write in envelope.writes if not write.path.startswith(("kind/", PREFIX))]
    words = [_written(write, cluster) for write in told[:_NAMED_WRITES_MAX]]
    if len(told) > _NAMED_WRITES_MAX:
        words.append(f"{len(told) - _NAMED_WRITES_MAX} more")
    return ", ".join(words) or "nothing"


def _written(write: Write, cluster: Cluster) -> str:
    if not valid_path(write.path):
        return f"{excerpt(write.path)} = {_shown(write.value)}"
    setting = split_setting(write.path)
    if setting is None:
        where = show_path(write.path, cluster)
        return f"unset {where}" if write.value in (None, False) else f"{where} = {_shown(write.value)}"
    level, key, element = setting
    at = f" at {tell_level(level, cluster)}"
    if element is None:
        return f"unset {key}{at}" if write.value in (None, False) else f"set {key} = {_shown(write.value)}{at}"
    verb, preposition = {"add": ("added", "to"), "knock out": ("knocked", "out of")}.get(
        _action(write), ("removed", "from")
    )
    return f"{verb} {excerpt(element)} {preposition} {key}{at}"


def _shown(value: WriteValue) -> str:
    return SECRET if isinstance(value, Secret) else excerpt(str(value))


def _parameter(envelope: Envelope, name: str) -> str:
    """Return one of the words that an author put beside the writes; any member may have put anything there."""
    value = envelope.params.get(name, "?")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _saying(template: str) -> Callable[[Envelope, Cluster], str]:
    """Return the words of a kind whose parameters tell all about it."""
    names = [part.partition("}")[0] for part in template.split("{")[1:]]

    def words(envelope: Envelope, _: Cluster) -> str:
        return template.format(**{name: excerpt(_parameter(envelope, name)) for name in names})

    return words


def _machine_changed(envelope: Envelope, _: Cluster) -> str:
    written = ((write.path.rpartition("/")[2], write.value) for write in envelope.writes)
    changed = [f"{name} = {_shown(value)}" for name, value in written if name != "former_ports"]
    return f"machine: {', '.join(changed)}"


def _user_changed(envelope: Envelope, _: Cluster) -> str:
    told = {name: excerpt(_parameter(envelope, name)) for name in ("name", "changed", *envelope.params)}
    words = f"changed {told['changed']} of the user {told['name']}" if told["changed"] else f"settled {told['name']}"
    words += f", who is now called {told['to']}" if "to" in told else ""
    return words + (f", now {told['role']}" if "role" in told else "")


def _transferred(verb: str) -> Callable[[Envelope, Cluster], str]:
    """Return the words of a kind that is about what a level keeps."""

    def words(envelope: Envelope, _: Cluster) -> str:
        keys = dict.fromkeys(_key(write) for write in envelope.writes)
        told = [excerpt(key) for key in keys][:_NAMED_WRITES_MAX]
        more = [f"{len(keys) - len(told)} more"] * (len(keys) > len(told))
        to = f" to {excerpt(_parameter(envelope, 'to'))}" if "to" in envelope.params else ""
        return f"{verb} {', '.join(told + more)} from {excerpt(_parameter(envelope, 'from'))}{to}"

    return words


def _group_deleted(envelope: Envelope, _: Cluster) -> str:
    name, to, machines = (excerpt(_parameter(envelope, one)) for one in ("name", "to", "machines"))
    return f"deleted the group {name}" + (f", moved {machines} to {to}" if machines else "")


def _config_loaded(envelope: Envelope, cluster: Cluster) -> str:
    settings = [
        setting for write in envelope.writes if valid_path(write.path) and (setting := split_setting(write.path))
    ]
    levels = dict.fromkeys(tell_level(level, cluster) for level, _, _ in settings)
    count = len(dict.fromkeys(key for _, key, _ in settings))
    return f"loaded {counted(count, 'setting')} from {excerpt(_parameter(envelope, 'source'))} at {', '.join(levels)}"


def _rolled_back(envelope: Envelope, cluster: Cluster) -> str:
    events = envelope.params.get("events")
    ids = [excerpt(str(one)[:SHORT_ID_DIGITS]) for one in events] if isinstance(events, list) else []
    count = envelope.params.get("count")
    told = ids[0] if len(ids) == 1 == count else counted(count, "event") if isinstance(count, int) else "events"
    return f"took back {told}: {_writes(envelope, cluster)}"


def _confirmed(envelope: Envelope, cluster: Cluster) -> str:
    events = envelope.params.get("events")
    ids = [excerpt(str(one)[:SHORT_ID_DIGITS]) for one in events] if isinstance(events, list) else []
    return f"confirmed {', '.join(ids)}: {_writes(envelope, cluster)}"


def _timed_out(why: str) -> Callable[[Envelope, Cluster], str]:
    """Return the words of a kind by which a timer took something back."""

    def words(envelope: Envelope, _: Cluster) -> str:
        event = excerpt(_parameter(envelope, "event")[:SHORT_ID_DIGITS])
        keys = dict.fromkeys(_key(write) for write in envelope.writes if not write.path.startswith(PREFIX))
        told = [excerpt(key) for key in keys][:_NAMED_WRITES_MAX]
        more = [f"{len(keys) - len(told)} more"] * (len(keys) > len(told))
        return f"{why}, so {event} goes back: {', '.join(told + more) or 'nothing of it was left'}"

    return words


def _settled(envelope: Envelope, cluster: Cluster) -> str:
    return f"settled: {_writes(envelope, cluster)}"


_WORDS: dict[str, Callable[[Envelope, Cluster], str]] = {
    "MachineInitialised": _saying("initialised {hostname}"),
    "EpochBegun": _saying("began a new epoch: {reason}"),
    "MachineChanged": _machine_changed,
    "ClusterCreated": _saying("created the cluster {name}"),
    "ClusterRenamed": _saying("renamed the cluster {old} to {name}"),
    "GroupAdded": _saying("added the group {name}"),
    "GroupRenamed": _saying("renamed the group {old} to {name}"),
    "GroupDeleted": _group_deleted,
    "MachineAdmitted": _saying("let {hostname} into {group}"),
    "MachinesMoved": _saying("moved {machines} to {group}"),
    "MachinesDetached": _saying("detached {machines}"),
    "MachinesReconnected": _saying("took {machines} back"),
    "MachinesRemoved": _saying("removed {machines} from the cluster"),
    "UserAdded": _saying("added the user {name}, {role}"),
    "UserChanged": _user_changed,
    "UserDeleted": _saying("deleted the user {name}"),
    "SettingsCopied": _transferred("copied"),
    "SettingsMoved": _transferred("moved"),
    "SettingsDeleted": _transferred("deleted"),
    "ConfigLoaded": _config_loaded,
    "ConfigRolledBack": _rolled_back,
    "ConfigConfirmed": _confirmed,
    "ConfirmationTimedOut": _timed_out("nobody confirmed it in time"),
    "SettingExpired": _timed_out("its time is over"),
    "ConflictSettled": _settled,
}
