"""A run that somebody wants to look at: what held of each machine and of each link, from when to when.

What is recorded is what the fleet *is* after each step, not what the trace says of it, so a new kind of fault shows
here by what it does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from cluster_store.core.effects import AppendFailed, Effect, Input, Message, Received, Records, Reply, Submit
from cluster_store.core.types import MachineId, RecordId
from cluster_store.simulation.collisions import collided, collisions
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.host import Host
from cluster_store.simulation.invariants import Violation
from cluster_store.simulation.network import End
from cluster_store.simulation.options import Options
from cluster_store.simulation.process import Process
from cluster_store.simulation.run import Beginning, Run, Verdict
from cluster_store.simulation.trace import describe


class Span(NamedTuple):
    """Something that held for a while; milliseconds of virtual time."""

    begin: int
    end: int
    value: str


class Mark(NamedTuple):
    """Something that happened at one moment."""

    at: int
    kind: str
    words: str


class Batch(NamedTuple):
    """Records on their way from one machine to another."""

    origin: str
    sent: int
    target: str
    arrived: int
    records: int


class Strip:
    """What one thing was like over time."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._value, self._since = "", 0

    def note(self, at: int, value: str) -> None:
        """Take note of what it is like from now on; "" is nothing worth telling."""
        if value != self._value:
            if self._value and at > self._since:
                self.spans.append(Span(self._since, at, self._value))
            self._value, self._since = value, at


class Track:
    """One machine, or one copy of it."""

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self.machine = host.machine
        self.cloned = host.cloned
        #: ``joining``, ``removed``, ``down``, ``paused``, ``behind`` (it lacks a record of another one) or ``current``.
        self.line = Strip()
        #: The hosts that it cannot reach, or that cannot reach it.
        self.cut = Strip()
        self.full = Strip()
        self.detached = Strip()
        self.marks: list[Mark] = []
        #: Records in its log at the end.
        self.records = 0
        self._disk = host.log.disk
        self._joined = host.joined
        self._offset_ms = host.offset_ms
        self._flips = 0

    def look(self, at: int, host: Host) -> None:
        """Note what can be seen of the host itself."""
        disk = host.log.disk
        if host.joined and not self._joined:
            self.marks.append(Mark(at, "join", f"{self.name} is a member"))
        elif disk is not self._disk and host.joined:
            words = f"{self.name} is put back from {self.records} to {len(disk.records)} records"
            self.marks.append(Mark(at, "restore", words))
        if host.offset_ms != self._offset_ms:
            words = f"the clock of {self.name} is {_duration(host.offset_ms)} off"
            self.marks.append(Mark(at, "clock", words))
        if len(disk.damage) > self._flips:
            self.marks.append(Mark(at, "damage", f"{self.name}: {disk.damage[-1]}"))
        self._disk, self._joined, self._offset_ms, self._flips = disk, host.joined, host.offset_ms, len(disk.damage)
        self.records = len(disk.records)
        self.full.note(at, "its disk is full" if host.log.full else "")

    def end(self, at: int) -> None:
        """Nothing more happens to it."""
        for strip in (self.line, self.cut, self.full, self.detached):
            strip.note(at, "")


class Recording(Run):
    """A run that is recorded. The same seed and options as of any other run give the same run."""

    def __init__(self, seed: int, options: Options, beginning: Beginning | None = None) -> None:
        super().__init__(seed, options, beginning)
        #: By host's name; clones have one of their own.
        self.tracks: dict[str, Track] = {}
        #: (from, to) -> what stood in the way.
        self.ways: dict[tuple[str, str], Strip] = {}
        self.batches: list[Batch] = []
        #: What began when, in order.
        self.phases: list[tuple[int, str]] = [(0, "forming")]
        self.verdict: Verdict | None = None
        #: The host at which an invariant broke; "" where none did, "-" where it was no single one.
        self.broken_at = ""
        self._under_way: dict[int, deque[tuple[int, str, int]]] = {}
        self._disks: dict[str, tuple[Disk, int]] = {}
        #: Every record that is on any disk.
        self._known: set[RecordId] = set()
        #: The machines that any of them removes.
        self._removed: set[MachineId] = set()

    @property
    def end_ms(self) -> int:
        """When the run was over."""
        return max(1, self.fleet.clock.now)

    def play(self) -> Verdict:
        """See ``Run``."""
        self.verdict = super().play()
        for track in self.tracks.values():
            track.end(self.end_ms)
        for strip in self.ways.values():
            strip.note(self.end_ms, "")
        self._add_words()
        return self.verdict

    def rows(self) -> list[Track]:
        """Return the tracks of machines in the order in which they came, each with its copies behind it."""
        tracks = list(self.tracks.values())
        return [
            track
            for first in tracks
            if not first.cloned
            for track in (first, *(copy for copy in tracks if copy.cloned and copy.machine == first.machine))
        ]

    def _live(self) -> None:
        self.phases.append((self.fleet.clock.now, "under faults"))
        super()._live()

    def _heal(self) -> None:
        self.phases.append((self.fleet.clock.now, "healing"))
        super()._heal()

    def _verdict(self, violation: Violation | None) -> Verdict:
        self.broken_at = violation.place if violation is not None else ""
        return super()._verdict(violation)

    # --- after each step -----------------------------------------------------------------------------

    def _step(self) -> None:
        try:
            super()._step()
        finally:
            self._look()

    def _look(self) -> None:
        now = self.fleet.clock.now
        hosts = {host.name: host for host in self.fleet.hosts}
        self._follow_disks(hosts)
        detached = self._detached_names()
        for name, host in hosts.items():
            track = self.tracks.get(name) or self.tracks.setdefault(name, Track(host))
            track.look(now, host)
            track.line.note(now, self._state(host))
            unreached = [other for other in hosts if other != name and not self.fleet.network.reachable(name, other)]
            track.cut.note(now, ", ".join(unreached))
            track.detached.note(now, "detached" if name in detached else "")
        for name, track in self.tracks.items():
            if name not in hosts:
                track.end(now)
        self._look_at_ways(now, hosts)

    def _look_at_ways(self, now: int, hosts: Mapping[str, Host]) -> None:
        network = self.fleet.network
        for way in [*network.blocked, *network.slow, *self.ways]:
            strip = self.ways.get(way) or self.ways.setdefault(way, Strip())
            blocked = "cut" if not network.passes(*way) else "slow" if way in network.slow else ""
            strip.note(now, blocked if way[0] in hosts and way[1] in hosts else "")

    def _follow_disks(self, hosts: dict[str, Host]) -> None:
        counts = {name: (host.log.disk, len(host.log.disk.records)) for name, host in hosts.items()}
        if counts != self._disks:
            self._count_records(hosts)
            self._disks = counts
            self._removed = self.fleet.removed

    def _count_records(self, hosts: dict[str, Host]) -> None:
        """Keep up with what is on the disks; one that is gone takes with it what was nowhere else."""
        for name, host in hosts.items():
            disk, count = self._disks.get(name, (host.log.disk, 0))
            if disk is not host.log.disk:
                break
            self._known.update(added.record.id for added in disk.records[count:])
        else:
            if self._disks.keys() <= hosts.keys():
                return
        self._known = {added.record.id for host in hosts.values() for added in host.log.disk.records}

    def _state(self, host: Host) -> str:
        if not host.joined:
            return "joining"
        if host.machine in self._removed:
            return "removed"
        if host.process is None:
            return "down"
        if host.process.life.asleep_until > self.fleet.clock.now:
            return "paused"
        return "current" if len(host.log.disk.positions) == len(self._known) else "behind"

    def _detached_names(self) -> set[str]:
        """Return the machines that any member holds to be detached, by name."""
        ids = set(self.operators.detached())
        return {host.name for host in self.fleet.hosts if ids and host.machine in ids}

    # --- what is said --------------------------------------------------------------------------------

    def saw(self, process: Process | str, thing: Input | Effect | str) -> None:
        """See ``Run``."""
        super().saw(process, thing)
        if isinstance(thing, Received) and isinstance(thing.message, Records) and isinstance(process, Process):
            sent, origin, records = self._under_way[thing.link].popleft()
            self.batches.append(Batch(origin, sent, process.place, self.fleet.clock.now, records))

    def sends(self, process: Process, end: End, message: Message) -> None:
        """See ``Run``."""
        super().sends(process, end, message)
        if isinstance(message, Records):
            what = (self.fleet.clock.now, process.place, len(message.items))
            self._under_way.setdefault(end.other.number, deque()).append(what)

    def _add_words(self) -> None:
        """Mark what people asked for and what came of it, and every word of the trace about a machine."""
        disks = [host.log.disk for host in self.fleet.hosts]
        colliding = collided(collisions(disks))
        asked: dict[tuple[str, int], str] = {}
        for moment in self.trace.moments:
            track, thing = self.tracks.get(moment.place), moment.thing
            if isinstance(thing, Submit):
                for request in thing.requests:
                    words = describe(Submit([request], thing.now, thing.epoch), self.trace.names)
                    asked[moment.place, request.id] = words.removeprefix("decides ")
            elif isinstance(thing, Reply) and track is not None:
                kind, answer = _answer(thing, colliding)
                words = f"{asked.get((moment.place, thing.id), 'a request')}: {answer}"
                track.marks.append(Mark(moment.now, kind, words))
            elif isinstance(thing, AppendFailed) and track is not None:
                track.marks.append(Mark(moment.now, "failed", f"{moment.place} cannot append: {thing.error.message}"))
            elif isinstance(thing, str) and track is not None:
                track.marks.append(Mark(moment.now, "word", f"{moment.place} {thing}"))
        for track in self.tracks.values():
            track.marks.sort(key=lambda mark: mark.at)


def _answer(reply: Reply, colliding: set[RecordId]) -> tuple[str, str]:
    """Return what kind of answer it is, and the answer in words."""
    if reply.error is not None:
        return "refused", f"refused, {reply.error.message}"
    event = (reply.result or {}).get("event")
    if event is None:
        return "unchanged", "is so already"
    return ("conflicting", "accepted, and conflicts") if event in colliding else ("accepted", "accepted")


def _duration(milliseconds: int) -> str:
    """Return a time span in the unit that suits it."""
    size = abs(milliseconds)
    for unit, length in (("years", 365 * 86_400_000), ("days", 86_400_000), ("hours", 3_600_000), ("s", 1000)):
        if size >= 2 * length:
            return f"{milliseconds / length:+.1f} {unit}"
    return f"{milliseconds:+d} ms"
