"""Two instances of one machine that are alive at once: how their peers notice, and which of the two gives way.

Every run of a process is an instance with an id of its own, and says it in each hello. An instance that was replaced
by another one, as by a restart, never speaks again; where two go on in turn, somebody has started a copy of a
machine's store. A late hello of a process that is gone may come after its successor's, so one return proves nothing.

Each of the two is told of the other and judges for itself. The one whose epoch began later is the younger: a copy
begins a new epoch with its first change, so as long as it has none it is the younger one. Where both write in one
epoch, as copies do whose host cannot be told from the first, the greater instance id is as good as any rule. The
younger takes no changes from then on, until somebody has stopped one of the two and started it again.
"""

from __future__ import annotations

import msgspec

from cluster_store.core.effects import Effect, Hello, Noticed, Send, Twin
from cluster_store.core.errors import Refused
from cluster_store.core.registers import Registers, epoch_path
from cluster_store.core.types import Epoch, MachineId

#: So many returns of instances, in turn, show that two are alive.
_RETURNS = 3
#: Instances remembered for each machine.
_REMEMBERED = 8


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


class Twins:
    """What one instance knows of instances that run beside others of the same machine."""

    def __init__(self, me: MachineId, instance: str) -> None:
        """Begin to watch; ``instance`` is this one's own id."""
        self.instance = instance
        #: The other instance of this machine, if a peer told of one.
        self.seen: Sighting | None = None
        #: Peers of which two instances are alive -> when that showed last, milliseconds.
        self.peers: dict[MachineId, int] = {}
        self._me = me
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

    def greeted(self, link: int, hello: Hello, now: int) -> list[Effect]:
        """Take in a peer's hello; tell it of the other instance of it that is alive too."""
        heard = self._heard.setdefault(hello.machine, _Heard())
        latest = next(reversed(heard.epochs), hello.instance)
        if hello.instance not in heard.epochs:
            # It was just started; what came before proves nothing about it.
            heard.returns = 0
        elif latest != hello.instance:
            heard.returns += 1
        heard.epochs.pop(hello.instance, None)
        other = Twin(latest, heard.epochs.get(latest, Epoch("")))
        heard.epochs[hello.instance] = hello.epoch
        for oldest in list(heard.epochs)[:-_REMEMBERED]:
            del heard.epochs[oldest]
        if latest == hello.instance or heard.returns < _RETURNS:
            return []
        told = (
            [] if hello.machine in self.peers else [Noticed(f"{hello.machine} runs twice: a copy of its store is up")]
        )
        self.peers[hello.machine] = now
        return [Send(link, other), *told]

    def told(self, other: Twin, epoch: Epoch, now: int, registers: Registers) -> list[Effect]:
        """Take in that another instance of this machine is alive, and judge which is the elder.

        Args:
            other: what a peer told.
            epoch: the one that this instance writes in, or ``""``.
            now: this machine's wall clock, milliseconds.
            registers: of the cluster scope, where the beginnings of epochs stand.
        """
        if other.instance == self.instance:
            return []
        elder = self._is_elder(other, epoch, registers)
        if elder is None or (self.is_younger and self.seen is not None and self.seen.instance != other.instance):
            return []
        before, self.seen = self.seen, Sighting(other.instance, now, elder)
        if before is not None and before.elder == elder:
            return []
        end = "this one is the younger and takes no changes from now on" if elder else "it takes no changes any more"
        return [Noticed(f"a copy of this store runs elsewhere too: {end}")]

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
