"""Registers and lanes: the smallest things that can be set, and the writes to them that still stand.

A register is a path. A *write* puts one lane into it and replaces the lanes that its author could see;
a *lane* is a write that no record has replaced yet. Two standing lanes that differ are a conflict:
both are kept, one is the value. Because a lane is named by the record that wrote it, writes commute,
and any causally valid order of records leaves the same lanes (docs/ARCHITECTURE.md, "Registers").
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Protocol
from zlib import crc32

import msgspec

from cluster_store.core.errors import InvalidValue
from cluster_store.core.limits import PATH_BYTES_MAX
from cluster_store.core.types import Epoch, GroupId, Level, MachineId, Path, RecordId
from cluster_store.core.values import quote_part, unquote_part

CLUSTER: Level = Level("cluster")

#: Each scope's registers are spread over this many documents, because the engine's costs grow
#: faster than a document's history does. Part of record format 1.
SHARDS = 16

_PART = r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+"
_LEVEL = rf"(?:cluster|group/{_PART}|machine/{_PART})"
_PATH = re.compile(
    rf"(?:(?:cluster|user|kind|announced)/{_PART}|(?:group|machine|timer)/{_PART}/{_PART}"
    rf"|setting/{_LEVEL}/{_PART}|element/{_LEVEL}/{_PART}/{_PART})"
)


class Secret(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A value that stays out of the envelope: SHA-256 of 16 random bytes and the value's JSON text, in hex."""

    secret: str


#: Values of secrets beside an envelope: path -> (16 random bytes, JSON text).
Secrets = dict[str, tuple[bytes, str]]
#: JSON text, None for "unset", or a secret's hash.
LaneValue = str | Secret | None
#: As a lane's, or False: put no lane, only take away what is replaced (an element that goes from a set).
WriteValue = str | bool | Secret | None


class Write(msgspec.Struct, frozen=True, gc=False, array_like=True, forbid_unknown_fields=True):
    """One register written by an event."""

    path: Path
    value: WriteValue
    replaced: tuple[RecordId, ...]


class Place(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where a lane stands in its Automerge document: what a later change needs to delete it."""

    actor: bytes
    #: The operation's counter.
    op: int
    #: Hash of the change that put it.
    change: bytes
    #: Counter of that change's last operation.
    last_op: int


NOWHERE = Place(b"", 0, b"", 0)


class Lane(msgspec.Struct, frozen=True, gc=False):
    """A standing write."""

    id: RecordId
    value: LaneValue
    hybrid: int
    #: Written by a timer: any person's lane beats it.
    weak: bool
    #: Left out by readers, who change nothing.
    place: Place = NOWHERE
    #: The value of a secret as JSON text, where it was asked for and is known.
    text: str | None = None


def rank(lane: Lane) -> tuple[bool, int, RecordId]:
    """Order lanes of one register: people before timers, then the latest, ties by record id."""
    return (not lane.weak, lane.hybrid, lane.id)


def winner(lanes: Iterable[Lane]) -> Lane | None:
    """Return the lane that is the register's value, or None where nothing stands."""
    return max(lanes, key=rank, default=None)


class Registers(Protocol):
    """Whatever standing lanes can be read from: a state, a draft of one, a store on disk."""

    def standing(self, path: Path) -> tuple[Lane, ...]:
        """Return the lanes that stand in a register."""

    def under(self, prefix: str) -> Iterable[tuple[Path, tuple[Lane, ...]]]:
        """Return the registers whose paths begin with a prefix, sorted by path."""


class Standing:
    """Registers over lanes in memory."""

    def __init__(self, lanes: Mapping[Path, tuple[Lane, ...]]) -> None:
        """Take lanes by path; registers without any are left out."""
        self._lanes = {path: standing for path, standing in sorted(lanes.items()) if standing}
        self._paths = list(self._lanes)

    def standing(self, path: Path) -> tuple[Lane, ...]:
        """See ``Registers``."""
        return self._lanes.get(path, ())

    def under(self, prefix: str) -> Iterator[tuple[Path, tuple[Lane, ...]]]:
        """See ``Registers``."""
        for index in range(bisect_left(self._paths, prefix), len(self._paths)):
            path = self._paths[index]
            if not path.startswith(prefix):
                return
            yield path, self._lanes[path]


def differing(lanes: Iterable[Lane]) -> bool:
    """Say whether standing lanes disagree. Equal values are no conflict."""
    return len({msgspec.json.encode(lane.value) for lane in lanes}) > 1


@lru_cache(maxsize=1 << 14)
def valid_path(path: str) -> bool:
    """Say whether a path addresses a register of format 1: a known shape, parts as ``quote_part`` writes them."""
    if len(path) > PATH_BYTES_MAX or _PATH.fullmatch(path) is None:
        return False
    try:
        for part in path.split("/") if "%" in path else ():
            unquote_part(part)
    except InvalidValue:
        return False
    return True


@lru_cache(maxsize=1 << 15)
def scope_of(path: Path) -> Level:
    """Return the scope that keeps a register: the level of a setting, else the cluster."""
    kind, _, rest = path.partition("/")
    if kind not in ("setting", "element") or rest.startswith("cluster/"):
        return CLUSTER
    owner, name, _ = rest.split("/", 2)
    return Level(f"{owner}/{name}")


@lru_cache(maxsize=1 << 15)
def document_of(path: Path) -> str:
    """Return the id of the Automerge document that keeps a register: its scope and its shard."""
    return f"{scope_of(path)}#{crc32(path.encode()) % SHARDS:x}"


def lane_key(path: Path, record: RecordId) -> str:
    """Return a lane's key in its document. Written once by its author, deleted by those who replace it."""
    return f"{path}@{record}"


def group_level(group: GroupId) -> Level:
    """Return the level of a group's settings."""
    return Level(f"group/{group}")


def machine_level(machine: MachineId) -> Level:
    """Return the level of a machine's own settings."""
    return Level(f"machine/{machine}")


def epoch_path(machine: MachineId, epoch: Epoch) -> Path:
    """Return the register that says how one of a machine's epochs began. Nobody ever replaces it."""
    return Path(f"machine/{machine}/epoch:{epoch}")


def setting_path(level: Level, key: str) -> Path:
    """Return the register of a key's value at a level."""
    return Path(f"setting/{level}/{quote_part(key)}")


def element_path(level: Level, key: str, element: str) -> Path:
    """Return the register of one element (JSON text) of a set-valued key at a level."""
    return Path(f"element/{level}/{quote_part(key)}/{quote_part(element)}")


def element_prefix(level: Level, key: str) -> str:
    """Return what the paths of all elements of a set-valued key at a level begin with."""
    return f"element/{level}/{quote_part(key)}/"


def kind_path(key: str) -> Path:
    """Return the register that says whether a key is a set."""
    return Path(f"kind/{quote_part(key)}")


def split_setting(path: Path) -> tuple[Level, str, str | None] | None:
    """Return (level, key, element or None) of a setting's or element's path, None for other registers."""
    kind, _, rest = path.partition("/")
    if kind not in ("setting", "element"):
        return None
    parts = rest.split("/")
    size = 1 if parts[0] == "cluster" else 2
    level = Level("/".join(parts[:size]))
    element = unquote_part(parts[size + 1]) if kind == "element" else None
    return level, unquote_part(parts[size]), element
