"""A cluster that many machines are members of already: one log, written by all of them in turn.

To let a thousand machines join one after the other, each taking the others' records, would cost the square of their
number, and shows nothing about the fleet that they are then.
"""

from __future__ import annotations

from random import Random

from cluster_store.core.authoring import author
from cluster_store.core.cluster import Cluster
from cluster_store.core.commands import AdmitMachine, Card, Command, CreateCluster, InitialiseMachine
from cluster_store.core.decide import begin_epoch, decide
from cluster_store.core.decision import Context
from cluster_store.core.effects import Request, Submit
from cluster_store.core.registers import CLUSTER
from cluster_store.core.rules import read
from cluster_store.core.state import Appended, Draft, Facts, ScopeFacts, State
from cluster_store.core.types import Epoch, MachineId
from cluster_store.simulation.host import Identity

#: How far apart the records are, milliseconds.
_STEP_MS = 500


class Founding:
    """The log, what it adds up to, and who wrote it."""

    def __init__(self, size: int, dice: Random, until_ms: int) -> None:
        """Let a machine found a cluster, and let all others come in.

        Args:
            size: how many machines, the founder included.
            dice: make their keys.
            until_ms: no record is as late as that, by the wall clock.
        """
        self.records: list[Appended] = []
        #: Machine -> its key, in the order in which they came in, and the line that it writes.
        self.identities: dict[MachineId, Identity] = {}
        self._own: dict[MachineId, int | None] = {}
        self._dice = dice
        self._now = until_ms - _STEP_MS * (2 * size + 4)
        founder = self._identity()
        self._state = State(founder.machine)
        self._state.learn(Facts({CLUSTER: ScopeFacts({}, {})}))
        self.cluster = Cluster()
        for command in (
            InitialiseMachine(card=_card(0, founder), salt=dice.randbytes(16)),
            CreateCluster(name="ships", salt=dice.randbytes(16)),
        ):
            self._write(founder, command)
            self.cluster = read(Draft(self._state))
        for number in range(1, size):
            joiner = self._identity()
            # Nobody looks at who else came in: names and ids differ, and to read the cluster each time takes its size.
            self._write(founder, AdmitMachine(card=_card(number, joiner)))
            self._write(joiner, None)
        self.cluster = read(Draft(self._state))

    def state_of(self, machine: MachineId) -> State:
        """Return what the log adds up to on one of the machines. Only what further records change is copied."""
        found, state = State(machine, self._state.cluster), self._state
        found.position, found.log_hash, found.hybrid = state.position, state.log_hash, state.hybrid
        found.own, found.last_line, found.membership = self._own[machine], state.last_line, state.membership
        found.lines, found.heads = state.lines.copy(), state.heads.copy()
        # Nobody forks here, so the list of a feed's lines does not change.
        found.feeds = state.feeds.copy()
        found.followed, found.scopes = state.followed.copy(), state.scopes.copy()
        found.lanes, found.tips = state.lanes.copy(), state.tips.copy()
        return found

    def _identity(self) -> Identity:
        identity = Identity(self._dice.randbytes(32))
        self.identities[identity.machine] = identity
        return identity

    def _write(self, identity: Identity, command: Command | None) -> None:
        """Let a machine write what a command comes to, or else the first record of its feed."""
        state, me = self._state, identity.machine
        state.me, state.own = me, self._own.get(me)
        self._now += _STEP_MS
        epoch = Epoch(self._dice.randbytes(8).hex())
        draft = Draft(state)
        context = Context(draft, self.cluster, me, "os:root", self._now, epoch)
        event = decide(command, context).event if command is not None else begin_epoch(context, "joined", None)
        assert event is not None
        request = Request(1, command or Command(), "os:root", "local")
        author(draft, event, request, Submit([request], self._now, epoch), identity.sign, unsealed=0, last=True)
        state.absorb(draft)
        self._own[me] = state.own
        self.records += draft.records


def _card(number: int, identity: Identity) -> Card:
    return Card(
        key=identity.key.hex(),
        hostname=f"mx{number}.example.com",
        serial=f"SERIAL-{number}",
        version="9.0",
        ssh_port=22,
        ccs_port=2222,
        listen="",
        host_key=f"ssh-ed25519 {identity.key.hex()}",
        client_key=f"ssh-ed25519 {identity.key.hex()[::-1]}",
    )
