"""What a decision may depend on, what it comes to, and the writes that it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import orjson

from cluster_store.core.cluster import Cluster, Machine
from cluster_store.core.errors import InvalidValue, Refused
from cluster_store.core.events import Event
from cluster_store.core.limits import REPLACED_PER_WRITE_MAX
from cluster_store.core.records import secret_hash
from cluster_store.core.registers import Registers, Secret, Secrets, Write, WriteValue, rank
from cluster_store.core.timers import Boot
from cluster_store.core.types import Epoch, MachineId, Path


class Context(msgspec.Struct, frozen=True):
    """What a decision may depend on besides the command."""

    registers: Registers
    cluster: Cluster
    me: MachineId
    user: str
    #: Wall clock, milliseconds. Only written down, never compared.
    now: int
    epoch: Epoch
    #: What machines said of their platform versions when they were met last.
    heard: Mapping[MachineId, str] = {}
    #: The clock since this host's start: what timers go by.
    boot: Boot = Boot()

    @property
    def machine(self) -> Machine:
        """This machine. Raises Refused where its own store knows it as no member: not yet, or not any more."""
        if self.me not in self.cluster.machines:
            raise Refused("this machine is not a member of the cluster in its store", "join the cluster again")
        return self.cluster.machines[self.me]


class Decision(msgspec.Struct, frozen=True):
    """An event to record (None where nothing has to change) and what to tell the caller."""

    event: Event | None
    result: dict[str, Any] = {}


def require_cluster(context: Context) -> None:
    """Raise Refused where this machine is in no cluster."""
    if not context.cluster.name:
        raise Refused(
            "this machine is not in a cluster",
            "run 'clusterconfig create NAME', or 'clusterconfig join HOST --ssh'",
        )


def named(names: Sequence[str], cluster: Cluster) -> list[Machine]:
    """Return the members of these hostnames or ids, each once. Raises Refused and NotFound."""
    if not names:
        raise Refused("no machine was named", "name at least one")
    found = {machine.id: machine for machine in map(cluster.machine, names)}
    return list(found.values())


def replace(registers: Registers, path: Path, value: WriteValue) -> Write:
    """Return the write that puts a value into a register and replaces the lanes that stand there.

    Of more than a write may replace it takes the strongest, so that one machine's many branches cannot keep everybody
    from writing: whoever writes again takes the next ones.
    """
    lanes = registers.standing(path)
    if len(lanes) > REPLACED_PER_WRITE_MAX:
        lanes = tuple(sorted(lanes, key=rank)[-REPLACED_PER_WRITE_MAX:])
    return Write(path, value, tuple(lane.id for lane in lanes))


def says(registers: Registers, path: Path, value: str) -> bool:
    """Say whether all lanes of a register agree on a value. Where they do not, writing it settles the conflict."""
    lanes = registers.standing(path)
    return bool(lanes) and all(lane.value == value for lane in lanes)


def stays(context: Context, path: Path) -> bool:
    """Say whether nothing that stands in a register goes back by itself."""
    timers = context.cluster.timers
    return not timers.standing or all(timers.of(lane.id, path) is None for lane in context.registers.standing(path))


def write_secret(path: Path, text: str, salt: bytes, context: Context) -> tuple[Write, Secrets]:
    """Return the write of a secret (JSON text), and its value, which travels beside the envelope."""
    # One command brings one salt; the path makes it differ from value to value.
    own_salt = sha256(salt + path.encode()).digest()[:16]
    write = replace(context.registers, path, Secret(secret_hash(own_salt, text)))
    return write, {path: (own_salt, text)}


def to_text(value: object) -> str:
    """Return a value of ours as JSON text. Raises InvalidValue for text that is not Unicode."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise InvalidValue(f"the change cannot be written down: {error}", "give text in UTF-8") from error
