"""A large fleet on one clock and one network, and what is counted of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from string import ascii_lowercase

import msgspec

from cluster_store.core.commands import SetSetting
from cluster_store.core.overlay import Rings
from cluster_store.core.state import Draft, Fact
from cluster_store.core.types import MachineId, RecordId
from cluster_store.simulation.clock import Clock, Pause
from cluster_store.simulation.network import Network
from cluster_store.simulation.scale_founding import Founding
from cluster_store.simulation.scale_machine import Ledger, Machine

#: What wall clocks say when the simulation begins: some moment of 2023, milliseconds since 1970.
BEGINNING_MS = 1_700_000_000_000
#: Least and most time that a frame takes, milliseconds: machines of one country, or of several.
DELAY_MS = (5, 80)
#: Least and most time until a silent link is given up, milliseconds: it is asked three times, every 15 seconds.
PATIENCE_MS = (45_000, 60_000)
#: How often it is looked whether something has come about.
_LOOK_MS = 20
#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


class Tracked(msgspec.Struct):
    """One change on its way through the fleet."""

    author: MachineId
    #: Bytes of its record, seal included.
    size: int
    begun_ms: int
    #: Machine -> through how many others it came, and when it was durable there.
    hops: dict[MachineId, int] = {}
    at_ms: dict[MachineId, int] = {}

    @property
    def seconds(self) -> float:
        """How long it took until the last machine had it."""
        return (max(self.at_ms.values()) - self.begun_ms) / 1000

    @property
    def tenths(self) -> list[float]:
        """How long it took until each further tenth of those who have it had it, seconds."""
        moments = sorted(self.at_ms.values())
        return [(moments[-(-len(moments) * tenth // 10) - 1] - self.begun_ms) / 1000 for tenth in range(1, 11)]


class Halves(Network):
    """A network that can be cut in two at once; to list every pair of hosts would take the square of their number."""

    def __init__(self, clock: Clock, dice: Random) -> None:
        """Connect everybody."""
        super().__init__(clock, dice, DELAY_MS)
        self.patience_ms = PATIENCE_MS
        self._far: frozenset[str] = frozenset()

    def passes(self, origin: str, target: str) -> bool:
        """See ``Network``."""
        return (origin in self._far) == (target in self._far)

    def divide(self, far: Iterable[str]) -> None:
        """Let nothing pass between some hosts and the others."""
        self._far = frozenset(far)
        for end in self.links:
            if end.open and not self.passes(end.owner.place, end.other.owner.place):
                self.clock.spawn(self._lose_patience(end), self.life)

    def unite(self) -> None:
        """Let everything pass again."""
        self._far = frozenset()
        self.heal_all()


class ScaleFleet:
    """All machines of the simulation, and what is counted of them."""

    def __init__(self, size: int, seed: int, progress: Progress) -> None:
        """Make the machines members of one cluster; none of them runs yet."""
        self.clock = Clock()
        self.network = Halves(self.clock, Random(f"network {seed}"))
        self.beginning_ms = BEGINNING_MS
        progress("founding", 0, size)
        founding = Founding(size, Random(f"founding {seed}"), BEGINNING_MS)
        self.rings = Rings(founding.identities)
        self._cluster = founding.cluster
        self._identities = founding.identities
        places = _places(founding)
        self.machines: dict[MachineId, Machine] = {}
        for number, machine in enumerate(founding.identities):
            progress("making machines", number, size)
            dice = Random(f"machine {number} {seed}")
            ledger = Ledger(founding.records, places)
            self.machines[machine] = Machine(self, f"m{number}", founding.state_of(machine), ledger, dice)
        #: Dials under way at this moment, the most that there were at once, and all that were made.
        self.dialling = self.dialling_max = self.dialled = 0
        #: The changes that were made, and those by their records.
        self.tracked: list[Tracked] = []
        self._tracked: dict[RecordId, Tracked] = {}
        #: Records that there are, once what was asked for is written.
        self.records = len(founding.records)
        self._on_start: Callable[[Machine], None] = _nothing

    # --- what machines ask of it -----------------------------------------------------------------------

    def machine(self, machine: MachineId) -> Machine:
        """See ``Surroundings``."""
        return self.machines[machine]

    def dials(self, change: int) -> None:
        """See ``Surroundings``."""
        self.dialling += change
        self.dialled += max(0, change)
        self.dialling_max = max(self.dialling_max, self.dialling)

    def appended(self, machine: Machine, draft: Draft, origin: MachineId | None) -> None:
        """See ``Surroundings``."""
        for added in draft.records:
            record = added.record
            if origin is None:
                size = len(record.data) + len(record.seal)
                self.tracked.append(Tracked(machine.machine, size, self.clock.now))
                self._tracked[record.id] = self.tracked[-1]
            change = self._tracked.get(record.id)
            if change is not None:
                change.hops[machine.machine] = change.hops[origin] + 1 if origin is not None else 0
                change.at_ms[machine.machine] = self.clock.now

    # --- what happens to it ----------------------------------------------------------------------------

    @property
    def running(self) -> list[Machine]:
        """The machines that run."""
        return [machine for machine in self.machines.values() if machine.is_up]

    def start(self, machine: Machine) -> None:
        """Start a machine's process."""
        machine.start(self._identities[machine.machine].sign, self._cluster)
        first, self._on_start = self._on_start, _nothing
        first(machine)

    def start_later(self, machine: Machine, after_ms: int) -> None:
        """Start a machine's process a while from now."""

        async def start() -> None:
            await Pause(after_ms)
            self.start(machine)

        self.clock.spawn(start(), self.network.life)

    def when_first_starts(self, do: Callable[[Machine], None]) -> None:
        """Do something with the machine that is started next."""
        self._on_start = do

    def write(self, machine: Machine, dice: Random) -> None:
        """Let a machine make a change: a setting of the whole cluster, of a length as in life."""
        self.records += 1
        text = "".join(dice.choices(ascii_lowercase + "  ", k=dice.randint(20, 60)))
        key = f"smtp.setting{self.records}"
        machine.submit(SetSetting(key=key, value=f'"{text}"', level="cluster", salt=dice.randbytes(16)))

    def wait(self, until: Callable[[], bool], patience_ms: int, every_ms: int = _LOOK_MS) -> bool:
        """Let time pass until something has come about, or for so long; say whether it has."""
        deadline = self.clock.now + patience_ms
        while not until():
            if self.clock.now >= deadline:
                return False
            self.pass_time(every_ms)
        return True

    def pass_time(self, duration_ms: int) -> None:
        """Let time pass."""
        deadline = self.clock.now + duration_ms

        async def tick() -> None:
            await Pause(duration_ms)

        self.clock.spawn(tick(), self.network.life)
        while self.clock.now < deadline:
            self.clock.step()

    @staticmethod
    def have(records: int, among: Iterable[Machine]) -> bool:
        """Say whether machines have so many records each."""
        return all(machine.state.position == records for machine in among)


def _nothing(_: Machine) -> None:
    """Do nothing."""


def _places(founding: Founding) -> dict[RecordId, Fact]:
    """Return where the records of a founding stand."""
    return {
        added.record.id: Fact(added.line, added.record.envelope.seq, added.record.envelope.hybrid, added.position)
        for added in founding.records
    }
