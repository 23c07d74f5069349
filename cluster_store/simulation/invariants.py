"""What must hold, numbered, and the checkers that say so. They look at the fleet and never touch it.

The fold that everything is compared with is the most naive there is: a lane stands exactly if some record put it and
none replaced it.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster_store.core.causality import LEAF_HASH_DIGITS, Leaf, vector
from cluster_store.core.cluster import Cluster, read
from cluster_store.core.conflicts import conflicts
from cluster_store.core.derivation import lane_text
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.document import Document
from cluster_store.core.effects import Close, Hello, Message, Records
from cluster_store.core.records import record_id
from cluster_store.core.registers import LaneValue, document_of, lane_key
from cluster_store.core.replica import Replica
from cluster_store.core.types import MachineId, Path, RecordId
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.fleet import Fleet, Host
from cluster_store.simulation.network import End
from cluster_store.simulation.process import Asked, Process

#: Number -> what must hold.
INVARIANTS = {
    1: "every acknowledged event is in every machine's log after healing",
    2: "logs only grow",
    3: "feeds have no gaps",
    4: "two records with one prev are two branches, on every machine alike",
    5: "equal version vectors imply equal digests",
    6: "the state is the fold of the envelopes, and the documents say the same",
    7: "each machine is in exactly one live group",
    8: "a cluster has at least one group",
    9: "what a conflict beat stays listed until it is replaced",
    10: "no session sends a record before it is durable at the sender",
    11: "no session carries records between machines that both know to be detached",
    12: "after healing all machines converge within a bound of steps, and all can write",
    13: "no honest machine refuses what an honest machine wrote, or counts it for nothing",
    14: "no input makes a machine fail",
    15: "an event is durable before its caller hears that it is accepted",
}


class Violation(Exception):  # noqa: N818 - named after what happened
    """An invariant does not hold."""

    def __init__(self, number: int, place: str, fact: str) -> None:
        super().__init__(f"invariant {number} broke at {place}: {INVARIANTS[number]}: {fact}")
        self.number = number


class Fold:
    """The naive twin of a state: what the records of one disk put and replaced, kept up with its log."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.seen: list[RecordId] = []
        self.put: dict[tuple[Path, RecordId], LaneValue] = {}
        self.replaced: set[tuple[Path, RecordId]] = set()
        #: Record -> its number in its feed; of all, and of those that none follows.
        self.numbers: dict[RecordId, int] = {}
        self.leaves: dict[RecordId, int] = {}

    def follow(self) -> Iterator[tuple[int, str]]:
        """Take in what was appended since; yield what is wrong with it, by number."""
        stored = [added.record.id for added in self.disk.records[: len(self.seen)]]
        if stored != self.seen:
            yield 2, f"{len(self.seen)} records were seen, and are not the first {len(stored)} any more"
        for added in self.disk.records[len(self.seen) :]:
            envelope, own = added.record.envelope, added.record.id
            if own != record_id(added.record.data, added.record.seal):
                yield 2, f"record {own} holds other bytes than it was"
            if added.void:
                yield 13, f"{envelope.machine}#{envelope.seq} counts for nothing: {added.void}"
            before = self.numbers.get(RecordId(envelope.prev)) if envelope.prev else 0
            if before != envelope.seq - 1:
                yield 3, f"{envelope.machine}#{envelope.seq} comes after {before}"
            # Only the first of those that share a prev finds it among the leaves.
            self.leaves.pop(RecordId(envelope.prev), None)
            self.leaves[own] = self.numbers[own] = envelope.seq
            self.seen.append(own)
            for write in envelope.writes:
                if not isinstance(write.value, bool):
                    self.put[write.path, own] = write.value
                self.replaced.update((write.path, gone) for gone in write.replaced)

    def standing(self) -> dict[tuple[Path, RecordId], LaneValue]:
        """Return what stands."""
        return {lane: value for lane, value in self.put.items() if lane not in self.replaced}


class Invariants:
    """The checkers of one run."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        #: Acknowledged records -> where.
        self.acknowledged: dict[RecordId, str] = {}
        self._folds: dict[str, Fold] = {}
        self._lengths: dict[str, tuple[Disk, int]] = {}
        #: How each host was when it was looked at last, and what was read at each version vector that was ever seen.
        self._marks: dict[str, tuple[object, ...]] = {}
        self._views: dict[tuple[Leaf, ...], tuple[str, tuple[str, str]]] = {}
        #: Link -> the machines whose detachment stood in the peer's hello.
        self._told: dict[int, list[MachineId]] = {}

    # --- as it happens -----------------------------------------------------------------------------

    def sends(self, process: Process, end: End, message: Message) -> None:
        """Look at a message before it goes out."""
        if isinstance(message, Hello):
            self._told[end.other.number] = [standing.machine for standing in message.detached]
        if not isinstance(message, Records):
            return
        disk = process.log.disk
        for item in message.items:
            if record_id(item.data, item.seal) not in disk.positions:
                raise Violation(10, process.place, f"{record_id(item.data, item.seal)} goes to {end.other.owner.place}")
        self._check_detached(process, end)

    def _check_detached(self, process: Process, end: End) -> None:
        """Invariant 11, as far as a machine can know: by what the peer said in its hello."""
        assert process.replica is not None
        pair = (process.machine, end.peer)
        machines = process.replica.cluster.machines
        here = [machine for machine in pair if machine in machines and machines[machine].detached]
        there = [machine for machine in self._told.get(end.number, ()) if machine in pair]
        if here and there:
            raise Violation(11, process.place, f"records go to {end.other.owner.place} on link {end.number}")

    def closes(self, process: Process, close: Close) -> None:
        """Look at why a link is closed."""
        if "the peer sent" in close.reason or "the peer said" in close.reason or "the peer spoke" in close.reason:
            raise Violation(13, process.place, close.reason)

    def answers(self, process: Process, asked: Asked) -> None:
        """Look at an answer as its caller gets it."""
        reply = asked.reply
        if reply is None or reply.error is not None or not (reply.result or {}).get("event"):
            return
        record = RecordId(str((reply.result or {})["event"]))
        if record not in process.log.disk.positions:
            raise Violation(15, process.place, f"{record} is acknowledged and not on disk")
        self.acknowledged.setdefault(record, process.place)

    def discards(self, gone: Disk) -> None:
        """A disk is gone for good: what was nowhere else cannot be expected back."""
        others = [host.log.disk for host in self._fleet.hosts if host.log.disk is not gone]
        for record in list(self.acknowledged):
            if not any(record in disk.positions for disk in others):
                del self.acknowledged[record]

    # --- after each step -----------------------------------------------------------------------------

    def check_step(self) -> None:
        """Look at what is cheap to look at."""
        for host in self._fleet.hosts:
            disk = host.log.disk
            before, length = self._lengths.get(host.name, (disk, 0))
            if before is disk and len(disk.records) < length:
                raise Violation(2, host.name, f"{length} records became {len(disk.records)}")
            if before is not disk or length != len(disk.records):
                self._lengths[host.name] = (disk, len(disk.records))
                self._follow(host)
                if host.replica is not None:
                    self._check_rules(host.name, host.replica.cluster)

    def _follow(self, host: Host) -> Fold:
        fold = self._folds.get(host.name)
        if fold is None or fold.disk is not host.log.disk:
            fold = self._folds[host.name] = Fold(host.log.disk)
        for number, fact in fold.follow():
            raise Violation(number, host.name, fact)
        return fold

    @staticmethod
    def _check_rules(place: str, cluster: Cluster) -> None:
        if cluster.name and not cluster.groups:
            raise Violation(8, place, "there is none")
        for machine in cluster.machines.values():
            if cluster.name and machine.group not in cluster.groups:
                raise Violation(7, place, f"{machine.hostname} is in {machine.group or 'none'}")

    # --- now and then --------------------------------------------------------------------------------

    def check_all(self) -> None:
        """Look at everything."""
        for host in self._fleet.hosts:
            mark = self._mark(host)
            if self._marks.get(host.name) == mark:
                continue
            self._marks[host.name] = mark
            disk = host.log.disk
            fold = self._follow(host)
            self._check_lines(host.name, fold)
            self._check_lanes(host.name, fold)
            self._check_conflicts(host.name, fold)
            if host.process is not None and host.replica is not None:
                self._check_process(host.name, host.process, host.replica)
            cluster = read(disk)
            self._check_rules(host.name, cluster)
            seen = (digest(cluster, disk), lanes_digest(disk))
            other, same = self._views.setdefault(tuple(vector(disk.lines.values())), (host.name, seen))
            if same != seen:
                raise Violation(5, host.name, f"its digests {seen} differ from those of {other}, {same}")

    @staticmethod
    def _mark(host: Host) -> tuple[object, ...]:
        """Return what tells whether there is anything new to look at."""
        disk, process, replica = host.log.disk, host.process, host.replica
        known = (replica.state.position, replica.pending is None) if replica is not None else ()
        return disk, len(disk.records), len(disk.tails), process, known, process and process.applied

    @staticmethod
    def _check_lines(place: str, fold: Fold) -> None:
        """Invariant 4: the leaves of the lines are the leaves of the tree that ``prev`` makes."""
        lines = fold.disk.lines
        here = sorted((line.head, line.seq) for line in lines.values())
        if here != sorted(fold.leaves.items()):
            raise Violation(4, place, f"its lines end in {here}, its records in {sorted(fold.leaves.items())}")
        told = sorted(leaf.hash for leaf in vector(lines.values()))
        if told != sorted(leaf[:LEAF_HASH_DIGITS] for leaf in fold.leaves):
            raise Violation(4, place, "its version vector is not that of its records")

    @staticmethod
    def _check_lanes(place: str, fold: Fold) -> None:
        """Invariant 6, of what is durable."""
        stored = {(path, lane.id): lane.value for path, lanes in fold.disk.registers.items() for lane in lanes.values()}
        standing = fold.standing()
        if stored != standing:
            differing = sorted(key for key in {*stored, *standing} if stored.get(key, 0) != standing.get(key, 0))
            raise Violation(6, place, f"the table of lanes is wrong at {differing[0]}")

    @staticmethod
    def _check_conflicts(place: str, fold: Fold) -> None:
        """Invariant 9, of settings that nobody made secret, where equal values are easy to tell."""
        listed = {conflict.path: {lane.id for lane in conflict.lanes} for conflict in conflicts(fold.disk)}
        standing: dict[Path, dict[RecordId, str]] = {}
        for (path, record), value in fold.standing().items():
            if path.startswith("setting/"):
                standing.setdefault(path, {})[record] = lane_text(value)
        for path, lanes in standing.items():
            plain = not any(text.startswith("#") for text in lanes.values())
            if plain and (listed.get(path, set()) != (set(lanes) if len(set(lanes.values())) > 1 else set())):
                raise Violation(9, place, f"{path} holds {lanes}, and listed is {listed.get(path)}")

    def _check_process(self, place: str, process: Process, replica: Replica) -> None:
        """Invariants 6 and 8 of what a process holds in memory, where it is not behind its disk."""
        state, disk = replica.state, process.log.disk
        if state.position != len(disk.records) or replica.pending is not None:
            return
        if state.lines != disk.lines or state.log_hash != disk.log_hash or state.own != disk.own:
            raise Violation(6, place, "the state's lines are not those of the disk")
        for path, lanes in state.lanes.items():
            if {lane.id: lane for lane in lanes} != disk.registers.get(path, {}):
                raise Violation(6, place, f"the state's lanes of {path} are not those of the disk")
        if process.applied == len(disk.records):
            self._check_documents(place, process)

    @staticmethod
    def _check_documents(place: str, process: Process) -> None:
        disk = process.log.disk
        expected: dict[str, dict[str, str]] = {name: {} for name in (*disk.saved, *disk.tails)}
        for path, lanes in disk.registers.items():
            for lane in lanes.values():
                expected[document_of(path)][lane_key(path, lane.id)] = lane_text(lane.value)
        # Asking for a document would open it, and a checker must not disturb what it looks at.
        documents, behind = process.documents._open, process.documents._gathered  # noqa: SLF001
        for name, items in expected.items():
            document = None if name in behind else documents.get(name)
            if document is None:
                document = Document.open(disk.saved.get(name))
                document.apply(disk.tails.get(name, ()))
            if document.items() != items:
                raise Violation(6, place, f"the document {name} does not say what the lanes say")

    # --- after healing ---------------------------------------------------------------------------------

    def check_acknowledged(self) -> None:
        """Invariant 1."""
        for host in self._fleet.hosts:
            for record, place in self.acknowledged.items():
                if record not in host.log.disk.positions:
                    raise Violation(1, host.name, f"{record}, acknowledged by {place}, is not there")
