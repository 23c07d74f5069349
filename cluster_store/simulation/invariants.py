"""What must hold, numbered, and the checkers that say so. They look at the fleet and never touch it.

docs/invariants.md says of each number which checker keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from cluster_store.core.causality import LEAF_HASH_DIGITS, Leaf, vector
from cluster_store.core.cluster import Cluster
from cluster_store.core.conflicts import conflicts
from cluster_store.core.derivation import lane_text
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.document import Document
from cluster_store.core.effects import Append, Close, Hello, Message, Records
from cluster_store.core.records import Envelope, record_id
from cluster_store.core.registers import Secret, document_of, lane_key
from cluster_store.core.replica import Replica
from cluster_store.core.rules import read
from cluster_store.core.timers import read_timers
from cluster_store.core.types import MachineId, Path, RecordId
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.fleet import Fleet
from cluster_store.simulation.fold import Fold
from cluster_store.simulation.host import Host
from cluster_store.simulation.network import End
from cluster_store.simulation.process import Asked, Process

#: Number -> what must hold.
INVARIANTS = {
    1: "every acknowledged event is in every machine's log after healing",
    2: "logs only grow",
    3: "feeds have no gaps",
    4: "two records with one prev are two branches, on every machine alike",
    5: "equal version vectors imply equal digests",
    6: "the state is the fold of the envelopes",
    7: "the documents say what the state says",
    8: "each machine is in exactly one live group",
    9: "a cluster has at least one group",
    10: "no record causally follows its author's removal, anywhere",
    11: "what a conflict beat stays listed until it is replaced",
    12: "no session sends a record before it is durable at the sender",
    13: "no session carries records to or from a machine that both its ends know to be detached",
    14: "after healing all machines converge within a bound of steps",
    15: "after healing every machine can write",
    16: "no honest machine refuses what an honest machine wrote, or counts it for nothing",
    17: "no input makes a machine fail",
    18: "an event is durable before its caller hears that it is accepted",
    19: "an append is there whole, or not at all",
    20: "a flipped bit is noticed when its store is started or its record is read, and goes to no peer",
    21: "once every window is over, nothing stands that nobody confirmed, and timers took nothing else away",
}


class Violation(Exception):  # noqa: N818 - named after what happened
    """An invariant does not hold."""

    def __init__(self, number: int, place: str, fact: str) -> None:
        super().__init__(f"invariant {number} broke at {place}: {INVARIANTS[number]}: {fact}")
        self.number = number
        self.place = place


class Invariants:
    """The checkers of one run."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        #: Acknowledged records -> where.
        self.acknowledged: dict[RecordId, str] = {}
        self._folds: dict[str, Fold] = {}
        self._lengths: dict[str, tuple[Disk, int]] = {}
        #: Host -> the records that its process last asked its disk to append.
        self._appends: dict[str, list[RecordId]] = {}
        #: How each host was when it was looked at last, and what was read at each version vector that was ever seen.
        self._marks: dict[str, tuple[object, ...]] = {}
        self._views: dict[tuple[str, tuple[Leaf, ...]], tuple[str, str]] = {}
        #: Link -> the machines whose detachment stood in the peer's hello.
        self._told: dict[int, list[MachineId]] = {}

    # --- as it happens -----------------------------------------------------------------------------

    def check_sent(self, process: Process, end: End, message: Message) -> None:
        """Invariants 12, 13 and 20 of a message on its way out."""
        if isinstance(message, Hello):
            self._told[end.other.number] = [standing.machine for standing in message.detached]
        if not isinstance(message, Records):
            return
        disk = process.log.disk
        for item in message.items:
            record = record_id(item.data, item.seal)
            if record not in disk.positions:
                number = 20 if disk.damage else 12
                raise Violation(number, process.place, f"{record} goes to {end.other.owner.place}")
        self._check_detached(process, end)

    def _check_detached(self, process: Process, end: End) -> None:
        """Invariant 13, as far as a machine can know: by what the peer said in its hello."""
        assert process.replica is not None
        pair = (process.machine, end.peer)
        machines = process.replica.cluster.machines
        here = [machine for machine in pair if machine in machines and machines[machine].detached]
        there = [machine for machine in self._told.get(end.number, ()) if machine in pair]
        if here and there:
            raise Violation(13, process.place, f"records go to {end.other.owner.place} on link {end.number}")

    def check_closed(self, process: Process, close: Close) -> None:
        """Invariant 16 of why a link is closed."""
        if "the peer sent" in close.reason or "the peer said" in close.reason or "the peer spoke" in close.reason:
            raise Violation(16, process.place, close.reason)

    def check_answer(self, process: Process, asked: Asked) -> None:
        """Invariant 18 of an answer as its caller gets it."""
        reply = asked.reply
        if reply is None or reply.error is not None or not (reply.result or {}).get("event"):
            return
        record = RecordId(str((reply.result or {})["event"]))
        if record not in process.log.disk.positions:
            raise Violation(18, process.place, f"{record} is acknowledged and not on disk")
        self.acknowledged.setdefault(record, process.place)

    def check_start(self, process: Process) -> None:
        """Invariant 20 of a process that goes by what it has read."""
        if process.log.disk.damage:
            raise Violation(20, process.place, f"it goes by {', '.join(process.log.disk.damage)}")

    def appends(self, process: Process, append: Append) -> None:
        """Know what a disk is asked to append."""
        self._appends[process.place] = [added.record.id for added in append.draft.records]

    def discards(self, gone: Disk) -> None:
        """Know that a disk is gone for good: what is on no other one cannot be expected back."""
        others = [host.log.disk for host in self._fleet.hosts if host.log.disk is not gone]
        for record in list(self.acknowledged):
            if not any(record in disk.positions for disk in others):
                del self.acknowledged[record]

    # --- after each step -----------------------------------------------------------------------------

    def check_step(self) -> None:
        """Look at what is cheap to look at."""
        for host in self._fleet.hosts:
            disk = host.log.disk
            before, length = self._lengths.get(host.name, (None, 0))
            if before is disk and length == len(disk.records):
                continue
            self._lengths[host.name] = (disk, len(disk.records))
            if before is disk:
                self._check_growth(host, length)
            self._follow(host)
            if host.replica is not None:
                self._check_rules(host.name, host.replica.cluster)

    def _check_growth(self, host: Host, length: int) -> None:
        """Invariants 2 and 19 of a log that had so many records."""
        records = host.log.disk.records
        if len(records) < length:
            raise Violation(2, host.name, f"{length} records became {len(records)}")
        asked = self._appends.get(host.name, [])
        if [added.record.id for added in records[length:]] != asked:
            raise Violation(19, host.name, f"{len(records) - length} of {len(asked)} records were appended")

    def _follow(self, host: Host) -> Fold:
        """Invariants 2, 3, 10 and 16 of the records that are new; see ``Fold.follow``."""
        fold = self._folds.get(host.name)
        if fold is None or fold.disk is not host.log.disk:
            fold = self._folds[host.name] = Fold(host.log.disk)
        for number, fact in fold.follow():
            raise Violation(number, host.name, fact)
        return fold

    @staticmethod
    def _check_rules(place: str, cluster: Cluster) -> None:
        """Invariants 8 and 9 of what can be read."""
        if cluster.name and not cluster.groups:
            raise Violation(9, place, "there is none")
        for machine in cluster.machines.values():
            if cluster.name and machine.group not in cluster.groups:
                raise Violation(8, place, f"{machine.hostname} is in {machine.group or 'none'}")

    # --- now and then --------------------------------------------------------------------------------

    def check_all(self) -> None:
        """Look at everything."""
        for host in self._fleet.hosts:
            mark = self._mark(host)
            if self._marks.get(host.name) == mark or host.log.disk.damage:
                continue
            self._marks[host.name] = mark
            disk = host.log.disk
            fold = self._follow(host)
            self._check_lines(host.name, fold)
            self._check_lanes(host.name, fold)
            self._check_conflicts(host.name, fold)
            if host.process is not None and host.replica is not None:
                self._check_state(host.name, host.process, host.replica)
            self._check_digests(host.name, disk)

    def _check_digests(self, place: str, disk: Disk) -> None:
        """Invariant 5, and 8 and 9 once more, of what is durable."""
        cluster = read(disk)
        self._check_rules(place, cluster)
        seen = {"lanes": lanes_digest(disk)}
        # Who takes in a log meets secrets that were replaced, and erased, long ago; what can be read is another then.
        if all(lane.text is not None for lane in disk.lanes() if isinstance(lane.value, Secret)):
            seen["view"] = digest(cluster, disk)
        for kind, value in seen.items():
            other, same = self._views.setdefault((kind, tuple(vector(disk.lines.values()))), (place, value))
            if same != value:
                raise Violation(5, place, f"its digest of the {kind} {value} is not that of {other}, {same}")

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
        """Invariant 11, of settings that nobody made secret, where equal values are easy to tell.

        What a change for a while covers is in no conflict with it.
        """
        timers = read_timers(fold.disk)
        listed = {conflict.path: {lane.id for lane in conflict.lanes} for conflict in conflicts(fold.disk)}
        standing: dict[Path, dict[RecordId, str]] = {}
        for (path, record), value in fold.standing().items():
            if path.startswith("setting/"):
                standing.setdefault(path, {})[record] = lane_text(value)
        for path, lanes in standing.items():
            for covered in timers.covered(path, fold.disk.standing(path)):
                lanes.pop(covered, None)
            plain = not any(text.startswith("#") for text in lanes.values())
            if plain and (listed.get(path, set()) != (set(lanes) if len(set(lanes.values())) > 1 else set())):
                raise Violation(11, place, f"{path} holds {lanes}, and listed is {listed.get(path)}")

    def _check_state(self, place: str, process: Process, replica: Replica) -> None:
        """Invariants 6 and 7 of what a process holds in memory, where it is not behind its disk."""
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
        """Invariant 7."""
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
                raise Violation(7, place, f"the document {name} does not say what the lanes say")

    # --- after healing ---------------------------------------------------------------------------------

    def check_acknowledged(self, staying: Sequence[Host]) -> None:
        """Invariant 1, of the machines that nobody has removed.

        They can only have what one of them had: who was removed keeps what it wrote without their knowing, and they do
        not get back what only such a one still has.
        """
        removed = len(staying) < len(self._fleet.hosts)
        for record, place in self.acknowledged.items():
            having = [host for host in staying if record in host.log.disk.positions]
            if (not removed or having) and len(having) < len(staying):
                lacking = next(host for host in staying if host not in having)
                raise Violation(1, lacking.name, f"{record}, acknowledged by {place}, is not there")

    def check_timers(self, staying: Sequence[Host]) -> None:
        """Invariant 21, of what machines wrote that nobody has removed: the others cannot take theirs back."""
        disk, machines = staying[0].log.disk, {host.machine for host in staying}
        records = [added.record for added in disk.records if not added.void]
        confirmed = {
            event
            for record in records
            if record.envelope.kind == "ConfigConfirmed"
            for event in record.envelope.params["events"]
        }
        for record in records:
            envelope = record.envelope
            gone = {gone for write in envelope.writes for gone in write.replaced}
            if envelope.weak and gone != {envelope.params["event"]}:
                raise Violation(21, staying[0].name, f"the timer's {record.id} takes away what it is not about")
            if envelope.machine in machines and record.id not in confirmed:
                standing = [path for path in _for_a_while(envelope) if record.id in disk.registers.get(path, {})]
                if standing:
                    raise Violation(21, staying[0].name, f"{standing[0]} is what {record.id} made it for a while")


def _for_a_while(envelope: Envelope) -> Iterator[Path]:
    """Yield the registers of an event that are to be as before once its windows are over, its timers among them."""
    for timer in envelope.writes:
        told = msgspec.json.decode(str(timer.value)) if timer.path.startswith("timer/") and timer.value else {}
        if "kind" in told:
            yield timer.path
            written = (write.path for write in envelope.writes if write.path.startswith(("setting/", "element/")))
            yield from map(Path, told.get("paths") or written)
