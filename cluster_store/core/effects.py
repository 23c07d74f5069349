"""The whole contract between the core and the shell: what goes in, what comes out, and what travels.

``replica.needs(input)`` says what must be looked up first, ``replica.learn(facts)`` takes it in, and
``replica.step(input)`` returns effects, to be carried out in their order. Durability is an input: what must
wait for an append comes out of ``step(AppendDone)``, never earlier.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cluster_store.core.admission import Incoming
from cluster_store.core.causality import Leaf
from cluster_store.core.commands import Command
from cluster_store.core.document import Change
from cluster_store.core.errors import ClusterStoreError
from cluster_store.core.state import Draft
from cluster_store.core.types import Epoch, MachineId, Path, RecordId

PROTOCOL = 1

# --- what travels between two machines -------------------------------------------------------------


class Standing(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A detachment that stands in the sender's state."""

    machine: MachineId
    record: RecordId


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages."""


class Hello(Message, frozen=True, kw_only=True):
    """The first message each way."""

    protocol: int
    cluster: str
    machine: MachineId
    #: 8 random bytes, hex: one run of one process.
    instance: str
    #: The platform version, which all members share.
    version: str
    #: The sender's wall clock, milliseconds: only to show how far two clocks differ.
    time: int
    vector: list[Leaf]
    detached: list[Standing]


class Records(Message, frozen=True):
    """Whole runs of records, in an order in which each follows what it came after."""

    items: list[Incoming]


class Ack(Message, frozen=True):
    """The first ``count`` batches of this session are durable (or refused) at the sender of the ack."""

    count: int


class CaughtUp(Message, frozen=True):
    """All that the receiver lacked when the session began has been sent."""


class Bye(Message, frozen=True):
    """The sender closes the session: a word of connstatus and a sentence."""

    state: str
    reason: str


AnyMessage = Hello | Records | Ack | CaughtUp | Bye

# --- inputs ----------------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True):
    """One command of one caller."""

    id: int
    command: Command
    user: str
    #: How the user was authenticated: ``local``, ``password``, ``key``.
    auth: str


class Submit(msgspec.Struct, frozen=True):
    """Commands to decide one by one and append together.

    Attributes:
        now: wall clock, milliseconds.
        epoch: 8 random bytes, used where a new epoch has to begin.
    """

    requests: list[Request]
    now: int
    epoch: Epoch


class LinkUp(msgspec.Struct, frozen=True):
    """An authenticated link to a member is open."""

    link: int
    peer: MachineId
    now: int


class Received(msgspec.Struct, frozen=True):
    """A message came in on a link."""

    link: int
    message: Message
    now: int


class LogRead(msgspec.Struct, frozen=True):
    """The answer to ``Read``."""

    link: int
    #: Position after which was read.
    after: int
    rows: list[LogRow]


class AppendDone(msgspec.Struct, frozen=True):
    """The last ``Append`` is durable."""


class AppendFailed(msgspec.Struct, frozen=True):
    """The last ``Append`` left nothing behind."""

    error: ClusterStoreError


class LinkDown(msgspec.Struct, frozen=True):
    """A link is gone."""

    link: int


Input = Submit | LinkUp | Received | LogRead | AppendDone | AppendFailed | LinkDown


class LogRow(msgspec.Struct, frozen=True, gc=False):
    """A stored record on its way to a peer."""

    position: int
    line: int
    seq: int
    item: Incoming


# --- effects ---------------------------------------------------------------------------------------


class Append(msgspec.Struct, frozen=True):
    """Make a draft durable in one transaction, then say so with ``AppendDone`` or ``AppendFailed``."""

    draft: Draft


class ApplyChanges(msgspec.Struct, frozen=True):
    """Bring documents up to what the log holds now: document -> changes in order."""

    changes: dict[str, list[Change]]


class Reply(msgspec.Struct, frozen=True):
    """Answer a request: a result, or the error that refused it."""

    id: int
    result: dict[str, Any] | None = None
    error: ClusterStoreError | None = None


class Send(msgspec.Struct, frozen=True):
    """Send a message on a link."""

    link: int
    message: Message


class Read(msgspec.Struct, frozen=True):
    """Read whole runs from the log for a link and answer with ``LogRead``.

    ``after`` None asks to begin at the first record that ``covered`` (line -> number) leaves out.
    """

    link: int
    after: int | None
    covered: dict[int, int]


class Close(msgspec.Struct, frozen=True):
    """Close a link: a word of connstatus and a sentence."""

    link: int
    state: str
    reason: str


class Changed(msgspec.Struct, frozen=True):
    """These registers were written: for whoever watches."""

    paths: list[Path]


class Noticed(msgspec.Struct, frozen=True):
    """Something an operator should hear of: a waiting record, a twin of this machine."""

    text: str


Effect = Append | ApplyChanges | Reply | Send | Read | Close | Changed | Noticed
