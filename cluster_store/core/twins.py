"""Two instances of one machine that are alive at once: how their peers notice, and which of the two gives way.

Every run of a process is an instance with an id of its own, and says it in each hello. An instance that was replaced
by another one, as by a restart, never speaks again; where two go on in turn, somebody has started a copy of a
machine's store. A late hello of a process that is gone may come after its successor's, so one return proves nothing.

Each of the two is told of the other, and signs that it is alive beside it: a peer's word alone stops nobody, and as an
instance's id is new with each run, no signature of an earlier one serves again. Then each judges for itself. The one
whose epoch began later is the younger: a copy begins a new epoch with its first change, so as long as it has none it is
the younger one. Where both write in one epoch, as copies do whose host cannot be told from the first, the greater
instance id is as good as any rule. The younger takes no changes from then on, until somebody has stopped one of the two
and started it again.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cluster_store.core.admission import key_path
from cluster_store.core.effects import Alive, Effect, Hello, Noticed, Send, Twin
from cluster_store.core.errors import Refused
from cluster_store.core.records import signature_is_valid
from cluster_store.core.registers import Registers, epoch_path
from cluster_store.core.types import Epoch, MachineId

#: So many returns of instances, in turn, show that two are alive.
_RETURNS = 3
#: Instances remembered for each machine.
_REMEMBERED = 8


def statement(machine: MachineId, instance: str, epoch: Epoch, beside: str) -> bytes:
    """Return what an instance signs: that it runs as a machine, writes in an epoch, and that another one runs too."""
    return f"cluster-store/alive/1\0{machine}\0{instance}\0{epoch}\0{beside}".encode()


class Sighting(msgspec.Struct, frozen=True):
    """What a machine was told of another instance of its own.

    Attributes:
        instance: the other one's id.
        at: when this machine heard of it last, by its own clock, milliseconds.
        elder: whether the other one is the elder: then this one takes no changes.
    """

    instance: str
    at: int
    elder: bool


class _Heard(msgspec.Struct):
    """The instances of a peer."""

    #: Instance -> the epoch that it writes in; the one that spoke last is at the end.
    epochs: dict[str, Epoch] = {}
    returns: int = 0
    #: (instance, the one beside it) -> what it signed.
    proofs: dict[tuple[str, str], Alive] = {}


class Twins:
    """What one instance knows of instances that run beside others of the same machine."""

    def __init__(self, me: MachineId, instance: str, sign: Callable[[bytes], bytes]) -> None:
        """Begin to watch; ``instance`` is this one's own id, ``sign`` signs with the machine's identity."""
        self.instance = instance
        #: The other instance of this machine, if a peer told of one.
        self.seen: Sighting | None = None
        #: Peers of which two instances are alive -> when that showed last, milliseconds.
        self.peers: dict[MachineId, int] = {}
        self._me = me
        self._sign = sign
        self._heard: dict[MachineId, _Heard] = {}

    @property
    def is_younger(self) -> bool:
        """Whether this instance takes no changes, because an elder one is alive."""
        return self.seen is not None and self.seen.elder

    def refusal(self) -> Refused:
        """Return why a younger instance refuses every change."""
        return Refused(
            "this store is a copy of one that runs elsewhere, and as the younger of the two it takes no changes",
            "stop one of them; if this one is to stay, start its daemon again then",
        )

    def greeted(self, link: int, hello: Hello, name: str, now: int) -> list[Effect]:
        """Take in a peer's hello; tell it of the other instance of it that is alive too.

        Args:
            link: where it said it.
            hello: what it said.
            name: the peer's, for people.
            now: this machine's wall clock, milliseconds.
        """
        heard = self._heard.setdefault(hello.machine, _Heard())
        latest = next(reversed(heard.epochs), hello.instance)
        if hello.instance not in heard.epochs:
            # It was just started; what came before proves nothing about it.
            heard.returns = 0
            self.peers.pop(hello.machine, None)
        elif latest != hello.instance:
            heard.returns += 1
        heard.epochs.pop(hello.instance, None)
        signed = heard.proofs.get((latest, hello.instance))
        other = (
            Twin(latest, signed.epoch, signed.proof) if signed else Twin(latest, heard.epochs.get(latest, Epoch("")))
        )
        heard.epochs[hello.instance] = hello.epoch
        for oldest in list(heard.epochs)[:-_REMEMBERED]:
            del heard.epochs[oldest]
        if latest == hello.instance or heard.returns < _RETURNS:
            return []
        told = [] if hello.machine in self.peers else [Noticed(f"{name} runs twice: a copy of its store is up")]
        self.peers[hello.machine] = now
        return [Send(link, other), *told]

    def signed(self, hello: Hello, alive: Alive) -> None:
        """Keep what an instance of a peer signed, to be shown to the one that it is alive beside."""
        heard = self._heard.setdefault(hello.machine, _Heard())
        heard.proofs[hello.instance, alive.beside] = alive
        for oldest in list(heard.proofs)[:-_REMEMBERED]:
            del heard.proofs[oldest]

    def told(self, link: int, other: Twin, epoch: Epoch, now: int, registers: Registers) -> list[Effect]:
        """Take in that another instance of this machine is alive, and judge which is the elder if that is proven.

        Args:
            link: where to answer.
            other: what a peer told.
            epoch: the one that this instance writes in, or ``""``.
            now: this machine's wall clock, milliseconds.
            registers: of the cluster scope, where the beginnings of epochs stand.
        """
        if other.instance == self.instance:
            return []
        mine = self._sign(statement(self._me, self.instance, epoch, other.instance))
        answer = Send(link, Alive(other.instance, epoch, mine))
        elder = self._is_elder(other, epoch, registers) if self._is_proven(other, registers) else None
        if elder is None or (self.is_younger and self.seen is not None and self.seen.instance != other.instance):
            return [answer]
        before, self.seen = self.seen, Sighting(other.instance, now, elder)
        if before is not None and before.elder == elder:
            return [answer]
        end = (
            "this one is the younger and takes no changes from now on"
            if elder
            else "the copy takes no changes any more"
        )
        return [answer, Noticed(f"a copy of this store runs elsewhere too: {end}")]

    def _is_proven(self, other: Twin, registers: Registers) -> bool:
        message = statement(self._me, other.instance, other.epoch, self.instance)
        keys = [lane.value for lane in registers.standing(key_path(self._me)) if isinstance(lane.value, str)]
        return any(signature_is_valid(other.proof, message, bytes.fromhex(key.strip('"'))) for key in keys)

    def _is_elder(self, other: Twin, epoch: Epoch, registers: Registers) -> bool | None:
        """Say whether another instance is older than this one, None where its epoch is not known here yet."""
        if other.epoch == epoch:
            return other.instance < self.instance
        if not (other.epoch and epoch):
            return bool(other.epoch)
        began = []
        for one in (other.epoch, epoch):
            lanes = registers.standing(epoch_path(self._me, one))
            if not lanes:
                return None
            began.append(min((lane.hybrid, lane.id) for lane in lanes))
        return began[0] < began[1]
