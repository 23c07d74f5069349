"""An operator's own log as the beginning of a run: all members of it, each with all of it, and his keys in use."""

from __future__ import annotations

from collections import Counter

import msgspec

from cluster_store.core.cluster import Cluster, Machine
from cluster_store.core.commands import Card
from cluster_store.core.errors import Refused
from cluster_store.core.naming import SHORT_ID_DIGITS, excerpt, one_line, show_path
from cluster_store.core.registers import Secret, split_setting
from cluster_store.core.rules import read
from cluster_store.core.types import MachineId
from cluster_store.simulation.collisions import Collided, Collision, collisions
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.fleet import Fleet
from cluster_store.simulation.host import Host
from cluster_store.simulation.options import Options
from cluster_store.simulation.shrink import RUNS_MAX
from cluster_store.simulation.transcript import History, Transcript
from cluster_store.simulation.vocabulary import Vocabulary

#: A run with a log of so many records or more takes seconds, so fewer smaller ones are tried where it fails.
_LONG_RECORDS, _LONG_RUNS_MAX = 1000, 8
#: Of each, those that the log uses most are used in a rehearsal: few, so that changes meet.
_KEYS_MAX, _SETS_MAX, _VALUES_MAX = 8, 4, 4


class Rehearsal:
    """A fleet with a history, under keys that exist for the rehearsal alone. See ``Beginning``."""

    def __init__(self, history: History) -> None:
        """Transcribe a history.

        Raises:
            Refused: it is of no cluster, or holds records that count for nothing.
        """
        if any(added.void for added in history.records):
            raise Refused(
                "the log holds records that count for nothing, and a rehearsal would take them for a fault",
                "'cluster-store clustercheck' names them",
            )
        self.history = history
        transcript = Transcript(history)
        self.identities = transcript.identities
        self.disk = transcript.disk
        cluster = read(self.disk)
        if not cluster.name:
            raise Refused(
                "the store is of a machine that is in no cluster, and alone it meets nobody",
                "rehearse with the log of a cluster's member",
            )
        self.machines = [machine for machine in cluster.machines.values() if machine.joined]
        self.words = vocabulary_of(self.disk, cluster)
        self.beginning_ms = history.records[-1].learnt + 1
        self._version = Counter(machine.version for machine in self.machines).most_common(1)[0][0]
        self.names = self._names(cluster)

    def _names(self, cluster: Cluster) -> dict[MachineId, str]:
        names = {machine: one_line(cluster.hostname(machine)) for machine in self.identities}
        shared = Counter(names.values())
        return {
            machine: name if shared[name] == 1 else f"{name}~{machine[:SHORT_ID_DIGITS]}"
            for machine, name in names.items()
        }

    @property
    def runs_max(self) -> int:
        """How many smaller runs are worth trying where one fails."""
        return RUNS_MAX if len(self.disk.records) < _LONG_RECORDS else _LONG_RUNS_MAX

    def fit(self, options: Options) -> Options:
        """Return options as they were drawn, for the machines of the log: nobody joins, and nobody is removed."""
        count = len(self.machines)
        # A checker compares whole logs: how often is a matter of how long they are.
        every = max(options.check_every, len(self.disk.records))
        return msgspec.structs.replace(
            options, machines=count, founders=count, joins_ms=(), removals_at=(), check_every=every
        )

    def form(self, fleet: Fleet) -> None:
        """See ``Beginning``."""
        fleet.beginning_ms = self.beginning_ms
        fleet.words = self.words
        fleet.version = self._version
        for machine in self.machines:
            fleet.hosts.append(self._host(fleet, machine))
        for host in fleet.hosts:
            fleet.start(host)

    def _host(self, fleet: Fleet, machine: Machine) -> Host:
        disk = self.disk.copy()
        own = [line for line in disk.lines.values() if line.machine == machine.id]
        disk.own = max(own, key=lambda line: line.position).number
        host = Host(self.names[machine.id], self.identities[machine.id], fleet.opened(disk))
        host.joined = True
        host.version = self._version
        host.told = self._card(machine)
        return host

    def _card(self, machine: Machine) -> Card:
        """Return what a machine says of itself, should it lose its store and join again."""
        known = msgspec.structs.asdict(machine)
        told = {name: known[name] for name in Card.__struct_fields__ if name in known}
        # A log may be older than the demand for a feature key; nobody looks at what the key says.
        told["feature_key"] = machine.feature_key or "rehearsal"
        return Card(**told, key=self.identities[machine.id].key.hex())

    def collided(self, fleet: Fleet) -> tuple[Collided, ...]:
        """See ``Beginning``."""
        disks = [host.log.disk for host in fleet.hosts]
        authors = {added.record.id: added.record.envelope.machine for disk in disks for added in disk.records}
        cluster = read(disks[0])

        def shown(one: Collision) -> Collided:
            writers = [authors[lane.id] for lane in one.conflict.lanes]
            said = [_said(lane.value) for lane in one.conflict.lanes]
            lanes = tuple(zip([self.names.get(machine, machine) for machine in writers], said, strict=True))
            return Collided(one_line(show_path(one.conflict.path, cluster)), one.settled, lanes)

        return tuple(map(shown, collisions(disks, self.disk.positions)))


def _said(value: str | Secret | None) -> str:
    return "unset" if value is None else "(secret)" if isinstance(value, Secret) else excerpt(value)


# --- the operator's own words --------------------------------------------------------------------------


def vocabulary_of(disk: Disk, cluster: Cluster) -> Vocabulary:
    """Return the keys, values and groups that a log uses most, and a few made-up values to tell changes apart."""
    plain, secret, sets = Counter[str](), Counter[str](), Counter[str]()
    values: dict[str, dict[str, None]] = {}
    elements: dict[str, None] = {}
    for write in (write for added in disk.records for write in added.record.envelope.writes):
        setting = split_setting(write.path)
        if setting is None:
            continue
        _, key, element = setting
        if element is not None:
            sets[key] += 1
            elements[element] = None
        elif isinstance(write.value, Secret):
            secret[key] += 1
        elif isinstance(write.value, str):
            plain[key] += 1
            values.setdefault(key, {})[write.value] = None
    made_up = ('"rehearsal 1"', '"rehearsal 2"')
    plain_keys = [key for key in _most(plain, _KEYS_MAX) if key not in sets and key not in secret]
    home, *groups = [group.name for group in cluster.groups.values()]
    return Vocabulary(
        plain_keys=(*plain_keys, "rehearsal.one", "rehearsal.two", "rehearsal.three")[: max(3, len(plain_keys))],
        set_keys=tuple(_most(sets, _SETS_MAX)) or ("rehearsal.set",),
        secret_key=next(iter(_most(secret, 1)), "rehearsal.secret"),
        values={key: (*list(values.get(key, {}))[-_VALUES_MAX:], *made_up) for key in plain_keys},
        elements=(*list(elements)[-_VALUES_MAX:], *made_up),
        home=home,
        groups=(*groups, "Rehearsal"),
    )


def _most(counted: Counter[str], count: int) -> list[str]:
    """Return what was counted most, ties by name."""
    return sorted(counted, key=lambda key: (-counted[key], key))[:count]
