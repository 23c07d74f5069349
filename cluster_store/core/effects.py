"""The whole contract between the core and the shell: what goes in, what comes out, and what travels.

``replica.needs(input)`` says what must be looked up first, ``replica.learn(facts)`` takes it in, and
``replica.step(input)`` returns effects, to be carried out in their order. Durability is an input: what must
wait for an append comes out of ``step(AppendDone)``, never earlier.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from cluster_store.core.admission import Incoming
from cluster_store.core.causality import Leaf
from cluster_store.core.commands import Command
from cluster_store.core.document import Change
from cluster_store.core.errors import ClusterStoreError
from cluster_store.core.limits import (
    ENVELOPE_BYTES_MAX,
    MESSAGE_RECORDS_MAX,
    NAME_CHARS_MAX,
    REASON_CHARS_MAX,
    VECTOR_LEAVES_MAX,
    WORD_CHARS_MAX,
)
from cluster_store.core.records import SEAL_BYTES
from cluster_store.core.state import Draft
from cluster_store.core.timers import Boot
from cluster_store.core.types import Epoch, MachineId, Path, RecordId

PROTOCOL = 1

# --- what travels between two machines -------------------------------------------------------------

# Whatever a message may hold is bounded, or a few bytes of it could unpack to more than a machine has room for.
_Word = Annotated[str, msgspec.Meta(max_length=WORD_CHARS_MAX)]
_Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]
_Reason = Annotated[str, msgspec.Meta(max_length=REASON_CHARS_MAX)]


class Standing(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A detachment that stands in the sender's state."""

    machine: Annotated[MachineId, msgspec.Meta(max_length=WORD_CHARS_MAX)]
    record: Annotated[RecordId, msgspec.Meta(max_length=WORD_CHARS_MAX)]


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages."""


class Hello(Message, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The first message each way. A later protocol may say more in it, and is refused by its number."""

    protocol: int
    cluster: _Word
    machine: Annotated[MachineId, msgspec.Meta(max_length=WORD_CHARS_MAX)]
    #: 8 random bytes, hex: one run of one process.
    instance: _Word
    #: The one that it writes in, "" before the first change after its store was moved or put back.
    epoch: Annotated[Epoch, msgspec.Meta(max_length=WORD_CHARS_MAX)]
    #: The platform version, which all members share.
    version: _Name
    #: The sender's wall clock, milliseconds: only to show how far two clocks differ.
    time: int
    vector: Annotated[list[Leaf], msgspec.Meta(max_length=VECTOR_LEAVES_MAX)]
    detached: Annotated[list[Standing], msgspec.Meta(max_length=VECTOR_LEAVES_MAX)]


class Records(Message, frozen=True):
    """Whole runs of records, in an order in which each follows what it came after."""

    items: Annotated[list[Incoming], msgspec.Meta(max_length=MESSAGE_RECORDS_MAX)]


class Ack(Message, frozen=True):
    """The first ``count`` batches of this session are durable (or refused) at the sender of the ack."""

    count: int


class CaughtUp(Message, frozen=True):
    """All that the receiver lacked when the session began has been sent."""


class Twin(Message, frozen=True):
    """Another instance of the receiver's machine speaks to the sender too.

    ``proof`` is that one's signature over its being alive beside the receiver, ``b""`` where the sender has none yet.
    """

    instance: _Word
    epoch: Annotated[Epoch, msgspec.Meta(max_length=WORD_CHARS_MAX)]
    proof: Annotated[bytes, msgspec.Meta(max_length=SEAL_BYTES)] = b""


class Alive(Message, frozen=True):
    """The answer to ``Twin``: the sender, which writes in ``epoch``, has signed that it is alive beside that one."""

    beside: _Word
    epoch: Annotated[Epoch, msgspec.Meta(max_length=WORD_CHARS_MAX)]
    proof: Annotated[bytes, msgspec.Meta(max_length=SEAL_BYTES)]


class Bye(Message, frozen=True, omit_defaults=True):
    """The sender closes the session: a word of connstatus and a sentence.

    A machine that was removed is shown the record that removed it: its envelope and its seal.
    """

    state: _Word
    reason: _Reason
    record: Annotated[bytes, msgspec.Meta(max_length=ENVELOPE_BYTES_MAX)] = b""
    seal: Annotated[bytes, msgspec.Meta(max_length=SEAL_BYTES)] = b""


AnyMessage = Hello | Records | Ack | CaughtUp | Twin | Alive | Bye

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
        boot: the clock since the host's start.
    """

    requests: list[Request]
    now: int
    epoch: Epoch
    boot: Boot = Boot()


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


class Due(msgspec.Struct, frozen=True):
    """The while that ``Later`` asked for has passed."""

    link: int


Input = Submit | LinkUp | Received | LogRead | AppendDone | AppendFailed | LinkDown | Due


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


class Later(msgspec.Struct, frozen=True):
    """Say ``Due`` for a link after ``limits.RELAY_PATIENCE_S`` and some jitter, unless it is gone by then."""

    link: int


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


Effect = Append | ApplyChanges | Reply | Send | Read | Later | Close | Changed | Noticed
