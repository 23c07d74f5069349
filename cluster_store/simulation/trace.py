"""What happened in a run, kept as it happened and put into words only when somebody reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import NamedTuple

import msgspec

from cluster_store.core.commands import Command
from cluster_store.core.effects import (
    Ack,
    Alive,
    Append,
    AppendDone,
    AppendFailed,
    Bye,
    CaughtUp,
    Close,
    Effect,
    Hello,
    Input,
    LinkDown,
    LinkUp,
    LogRead,
    Message,
    Noticed,
    Received,
    Records,
    Reply,
    Submit,
    Twin,
)
from cluster_store.core.records import Record, decode
from cluster_store.core.types import MachineId


class Sent(NamedTuple):
    """A message on its way."""

    peer: MachineId
    link: int
    message: Message


Thing = Input | Effect | Sent | str


class Moment(NamedTuple):
    """Something that happened at some place."""

    step: int
    now: int
    place: str
    thing: Thing


class Trace:
    """All that happened, in order."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        #: Machine -> the name of its host.
        self.names: dict[MachineId, str] = {}

    def lines(self, last: int | None = None) -> Iterator[str]:
        """Yield each moment as a line; only the last so many where a number is given."""
        for moment in self.moments[-last:] if last else self.moments:
            words = describe(moment.thing, self.names)
            yield f"{moment.step:6} {moment.now / 1000:9.3f} s  {moment.place:8} {words}"

    def digest(self) -> str:
        """Return the hash of every line."""
        return sha256("\n".join(self.lines()).encode()).hexdigest()


def describe(thing: Thing, names: dict[MachineId, str]) -> str:  # noqa: C901, PLR0912 - a line for each kind of thing
    """Return one thing in words."""
    match thing:
        case str():
            return thing
        case Submit():
            return "decides " + "; ".join(_command(request.command) for request in thing.requests)
        case LinkUp():
            return f"link {thing.link} to {names[thing.peer]} is up"
        case LinkDown():
            return f"link {thing.link} is down"
        case Received():
            return f"gets on link {thing.link} {_message(thing.message, names)}"
        case Sent():
            return f"sends on link {thing.link} to {names[thing.peer]} {_message(thing.message, names)}"
        case LogRead():
            return f"has read {len(thing.rows)} records behind {thing.after} for link {thing.link}"
        case Append():
            return "appends " + _records((added.record for added in thing.draft.records), names)
        case AppendDone():
            return "knows that it is appended"
        case AppendFailed():
            return f"cannot append: {thing.error.message}"
        case Reply():
            said = thing.error.message if thing.error is not None else str((thing.result or {}).get("event"))[:12]
            return f"answers request {thing.id}: {said}"
        case Close():
            return f"closes link {thing.link}: {thing.state}: {thing.reason}"
        case Noticed():
            return f"notices: {thing.text}"
    return type(thing).__name__


def _command(command: Command) -> str:
    told = msgspec.to_builtins(command)
    shown = [f"{name}={value}" for name, value in told.items() if value and name not in ("type", "salt", "card")]
    return " ".join([type(command).__name__, *shown])


def _message(message: Message, names: dict[MachineId, str]) -> str:
    match message:
        case Hello():
            leaves = ", ".join(
                f"{names[leaf.machine]}/{leaf.epoch[:4]}#{leaf.seq}:{leaf.hash[:4]}" for leaf in message.vector
            )
            detached = ", ".join(names[standing.machine] for standing in message.detached)
            return f"hello: {leaves or 'nothing'}" + (f"; detached: {detached}" if detached else "")
        case Records():
            return "records " + _records((decode(item.data, item.seal) for item in message.items), names)
        case Ack():
            return f"ack {message.count}"
        case CaughtUp():
            return "caught up"
        case Twin():
            return f"twin: instance {message.instance[:4]} of epoch {message.epoch[:4] or 'none'}"
        case Alive():
            return f"alive beside instance {message.beside[:4]}, in epoch {message.epoch[:4] or 'none'}"
        case Bye():
            return f"bye: {message.state}: {message.reason}"
    return type(message).__name__


def _records(records: Iterable[Record], names: dict[MachineId, str]) -> str:
    return ", ".join(describe_record(record, names) for record in records)


def describe_record(record: Record, names: dict[MachineId, str]) -> str:
    """Return a record's name: its author, epoch and number, and how its id begins."""
    envelope = record.envelope
    author = names.get(envelope.machine, envelope.machine[:6])
    return f"{author}/{envelope.epoch[:4]}#{envelope.seq}:{record.id[:4]} {envelope.kind}"
