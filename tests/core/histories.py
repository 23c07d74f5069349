"""Branching histories of several machines, and the naive twin of what they add up to.

Each writer sees only what it was told. Some are backups or clones of others and go on from the same record, some
leave out what they had seen, some write what nobody may write, and some go on after they learnt that they were
removed. A history is drawn as a list of steps, so that Hypothesis can shorten it to the steps that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from cluster_store.core.admission import Incoming
from cluster_store.core.causality import Removal
from cluster_store.core.limits import COMMENT_BYTES_MAX
from cluster_store.core.records import Envelope, Record
from cluster_store.core.registers import Lane, Secrets, Write, WriteValue
from cluster_store.core.types import Epoch, HybridTime, MachineId, Path, RecordId
from tests.core import builders
from tests.core.builders import BEGINNING, Identity, identity, incoming, unsealed, write

LEVELS = ("cluster", "group/main_group", "group/paris", "machine/{}")
KEYS = ("smtp.banner", "relay")
VALUES = ('"a"', '"b"', "1.5", "[]", "null", '{"deep":[true]}')
ELEMENTS = ('"x"', '"y"', "1")
MACHINES = ("anna", "bert", "cleo", "dora", "emil")
WRITERS_MAX = 9


class Step(NamedTuple):
    """What one writer does next; ``a`` and ``b`` choose among the ways of doing it."""

    action: str
    writer: int
    a: int
    b: int


@dataclass(frozen=True, eq=False)
class Made:
    """One record, all that it came after, and whether it counts."""

    record: Record
    #: Ids of the records before it, through ``prev`` and ``after``; itself included.
    closure: frozenset[RecordId]
    void: bool
    #: The removals in its past, and its own.
    removals: frozenset[Removal]
    secrets: Secrets

    @property
    def id(self) -> RecordId:
        """The record's id."""
        return self.record.id


@dataclass(frozen=True, eq=False)
class MadeRun:
    """Records under one seal, as they travel."""

    records: tuple[Made, ...]
    #: Nobody may store it: its author knew of its own removal.
    dropped: bool

    @property
    def items(self) -> list[Incoming]:
        """The records as they travel."""
        return [incoming(made.record, made.secrets) for made in self.records]

    @property
    def needed(self) -> set[str]:
        """The records that must be there before it."""
        needed: set[str] = set()
        for made in self.records:
            envelope = made.record.envelope
            admission = "" if envelope.prev else str(envelope.params.get("admission", ""))
            needed.update((envelope.prev, admission, *envelope.after))
            needed.update(replaced for one in envelope.writes for replaced in one.replaced)
        return needed - {made.id for made in self.records} - {""}


@dataclass(eq=False)
class Writer:
    """A machine, or a copy of one, with its own view."""

    who: Identity
    epoch: Epoch
    head: Made | None
    #: What it knows, in an order in which each record follows what it came after.
    view: dict[RecordId, Made]
    unsealed: list[Made] = field(default_factory=list)

    def copy(self) -> Writer:
        """Return a copy that goes on from the same record in the same epoch."""
        return Writer(self.who, self.epoch, self.head, dict(self.view), list(self.unsealed))


def lanes_of(records: Iterable[Made]) -> dict[Path, dict[RecordId, Lane]]:
    """Naive twin of the fold: a lane stands exactly if no record that counts replaces it."""
    counting = [made for made in records if not made.void]
    replaced = {(one.path, gone) for made in counting for one in made.record.envelope.writes for gone in one.replaced}
    lanes: dict[Path, dict[RecordId, Lane]] = {}
    for made in counting:
        envelope = made.record.envelope
        for one in envelope.writes:
            if not isinstance(one.value, bool) and (one.path, made.id) not in replaced:
                text = made.secrets.get(one.path, (b"", None))[1]
                lane = Lane(made.id, one.value, envelope.hybrid, envelope.weak, text=text)
                lanes.setdefault(one.path, {})[made.id] = lane
    return lanes


def has_left(machine: MachineId, removals: Iterable[Removal]) -> bool:
    """Naive twin of ``is_removed``: who is left of all that were ever there, or else the one removed last."""
    told = sorted(removals, key=lambda removal: (removal.hybrid, removal.record, removal.machine))
    everybody = {removal.machine for removal in told} | {member for removal in told for member in removal.left}
    staying = everybody - {removal.machine for removal in told}
    if told and not staying:
        staying = {told[-1].machine}
    return machine in everybody and machine not in staying


class History:
    """Records of several machines, played step by step."""

    def __init__(self) -> None:
        self.runs: list[MadeRun] = []
        self.writers: list[Writer] = []
        self._sealed: set[RecordId] = set()
        self._epochs = 0
        founder = identity(MACHINES[0])
        record = builders.first_record(founder, epoch=self._new_epoch())
        made = Made(record, frozenset((record.id,)), void=False, removals=frozenset(), secrets={})
        self.cluster = record.id
        self.runs.append(MadeRun((made,), dropped=False))
        self._sealed.add(made.id)
        self.writers.append(Writer(founder, record.envelope.epoch, made, {made.id: made}))
        main = (write("cluster/name", '"ships"'), *self._group(self.writers[0], "main_group", "Main_Group"))
        moved = write(f"machine/{founder.id}/group", '"main_group"')
        self._record(self.writers[0], "ClusterCreated", [*main, moved])
        for name in MACHINES[1:3]:
            self._admit(self.writers[0], name)

    def play(self, steps: Iterable[Step]) -> History:
        """Let the writers act; return the history itself."""
        for step in steps:
            writer = self.writers[step.writer % len(self.writers)]
            ACTIONS[step.action](self, writer, step.a, step.b)
        for writer in self.writers:
            if writer.unsealed:
                self._record(writer, "SettingSet", [write("setting/cluster/last", '"word"')])
        return self

    @property
    def stored(self) -> list[Made]:
        """The records that everybody stores in the end, each once."""
        found = {made.id: made for run in self.runs if not run.dropped for made in run.records}
        return list(found.values())

    # --- what writers know -------------------------------------------------------------------------

    @staticmethod
    def standing(writer: Writer, path: str) -> list[str]:
        """Return the lanes that a writer sees in a register."""
        return list(lanes_of(writer.view.values()).get(Path(path), ()))

    def _replacing(self, writer: Writer, path: str, value: WriteValue) -> Write:
        return write(path, value, *self.standing(writer, path))

    def _group(self, writer: Writer, group: str, name: str) -> list[Write]:
        return [
            self._replacing(writer, f"group/{group}/created", "true"),
            self._replacing(writer, f"group/{group}/name", f'"{name}"'),
        ]

    @staticmethod
    def _members(writer: Writer) -> list[str]:
        """Return the machines that a writer takes for members."""
        lanes = lanes_of(writer.view.values())
        known = sorted(path.split("/")[1] for path in lanes if path.endswith("/key"))
        told = frozenset[Removal]().union(*(made.removals for made in writer.view.values()))
        return [machine for machine in known if not has_left(MachineId(machine), told)]

    def _new_epoch(self) -> Epoch:
        self._epochs += 1
        return Epoch(f"{self._epochs:016x}")

    # --- writing -----------------------------------------------------------------------------------

    def _record(self, writer: Writer, kind: str, writes: list[Write], **fields: Any) -> None:
        """Write a record as a writer's next one, and seal it unless ``seal`` says otherwise."""
        seal, void, dropped = fields.pop("seal", True), fields.pop("void", False), fields.pop("dropped", False)
        secrets: Secrets = fields.pop("secrets", {})
        head = writer.head
        past = head.closure if head else frozenset[RecordId]()
        after = [] if fields.pop("forgetful", False) else self._unmentioned(writer, past)
        if fields.pop("redundant", False) and head:
            after.append(head.id)
        before = [writer.view[RecordId(one)] for one in (*after, *([head.id] if head else []))]
        clock = max((made.record.envelope.hybrid for made in writer.view.values()), default=BEGINNING)
        content: dict[str, Any] = {
            "after": tuple(after),
            "cluster": self.cluster,
            "epoch": writer.epoch,
            "hybrid": HybridTime(clock + 1),
            "kind": kind,
            "prev": head.id if head else "",
            "seq": head.record.envelope.seq + 1 if head else 1,
            "writes": tuple(writes),
            **fields,
        }
        envelope = builders.envelope(writer.who, **content)
        record = builders.sealed(envelope, writer.who) if seal else unsealed(envelope)
        told = frozenset[Removal]().union(*(made.removals for made in before))
        closure = frozenset[RecordId]((record.id,)).union(past, *(made.closure for made in before))
        own = frozenset[Removal]() if void else frozenset(_removals(record))
        made = Made(record, closure, void=void, removals=told | own, secrets={} if void else secrets)
        writer.head = writer.view[record.id] = made
        writer.unsealed.append(made)
        if seal:
            self._seal(writer, dropped=dropped)

    @staticmethod
    def _unmentioned(writer: Writer, past: frozenset[RecordId]) -> list[RecordId]:
        """Return the newest records in a writer's view that its feed does not tell of yet."""
        new = [made for made in writer.view.values() if made.id not in past]
        return sorted(
            made.id for made in new if not any(made.id in other.closure for other in new if other is not made)
        )

    def _seal(self, writer: Writer, *, dropped: bool) -> None:
        run, writer.unsealed = writer.unsealed, []
        dropped = dropped or any(self._knew_of_removal(writer, made) for made in run)
        self.runs.append(MadeRun(tuple(run), dropped=dropped))
        if not dropped:
            self._sealed.update(made.id for made in run)
        else:
            # What was dropped is nobody's past: the culprit falls silent.
            self.writers = [other for other in self.writers if other is not writer]
            if not self.writers:
                self.writers.append(self._bystander())

    @staticmethod
    def _knew_of_removal(writer: Writer, made: Made) -> bool:
        envelope = made.record.envelope
        before = [writer.view[RecordId(one)] for one in (envelope.prev, *envelope.after) if one]
        return has_left(envelope.machine, frozenset[Removal]().union(*(one.removals for one in before)))

    def _bystander(self) -> Writer:
        """Return the founder as it was in the beginning."""
        first = self.runs[0].records[0]
        return Writer(identity(MACHINES[0]), first.record.envelope.epoch, first, {first.id: first})

    def _admit(self, writer: Writer, name: str) -> None:
        joiner = identity(name)
        writes = [
            self._replacing(writer, f"machine/{joiner.id}/group", '"main_group"'),
            self._replacing(writer, f"machine/{joiner.id}/hostname", f'"{name}"'),
            write(f"machine/{joiner.id}/key", joiner.key_text),
        ]
        self._record(writer, "MachineAdmitted", writes)
        if writer not in self.writers:
            return
        admission = writer.head
        assert admission is not None
        self.writers.append(Writer(joiner, self._new_epoch(), None, self._shared(writer)))
        self._begin(self.writers[-1], admission.id)

    def _shared(self, writer: Writer) -> dict[RecordId, Made]:
        """Return what a writer can show to others."""
        return {name: made for name, made in writer.view.items() if name in self._sealed}

    def _begin(self, writer: Writer, admission: str) -> None:
        told = write(f"machine/{writer.who.id}/epoch:{writer.epoch}", '{"reason":"joined"}')
        self._record(writer, "EpochBegun", [told], params={"admission": admission, "reason": "joined"})

    # --- actions -----------------------------------------------------------------------------------

    def set_value(self, writer: Writer, a: int, b: int) -> None:
        """Set a plain value: replacing all that is seen, nothing, some of it, or also what is long gone."""
        path = _setting(writer, a)
        lanes = self.standing(writer, path)
        before = [made.id for made in writer.view.values() if made not in writer.unsealed]
        replaced = [lanes, lanes, [], lanes[:1], [*lanes, before[b % len(before)]]][b % 5]
        value = VALUES[b % len(VALUES)]
        writes = [write(path, value, *dict.fromkeys(replaced))]
        self._record(writer, "SettingSet", writes, seal=b % 3 != 0, redundant=a % 5 == 0)

    def unset(self, writer: Writer, a: int, b: int) -> None:
        """Unset a value."""
        self._record(writer, "SettingUnset", [self._replacing(writer, _setting(writer, a), None)], seal=b % 4 != 0)

    def set_secret(self, writer: Writer, a: int, b: int) -> None:
        """Set a secret."""
        path = Path(_setting(writer, a))
        value, secrets = builders.secret(path, f'"secret {b}"')
        self._record(writer, "SettingSet", [self._replacing(writer, path, value)], secrets=secrets)

    def change_element(self, writer: Writer, a: int, b: int) -> None:
        """Add an element, knock it out or take it away, and say that the key is a set."""
        path = f"element/{_level(writer, a)}/relay/{('%22x%22', '%22y%22', '1')[b % 3]}"
        value: WriteValue = ("true", "true", "false", False)[a % 4]
        if value is False and not self.standing(writer, path):
            value = "true"
        kind = "ElementsAdded" if value == "true" else "ElementsRemoved"
        writes = [self._replacing(writer, path, value)]
        if kind == "ElementsAdded" and not self.standing(writer, "kind/relay"):
            writes.append(write("kind/relay", '"set"'))
        self._record(writer, kind, writes, seal=b % 4 != 0)

    def load(self, writer: Writer, a: int, b: int) -> None:
        """Write many registers at once, forgetting what was seen of other machines."""
        level = _level(writer, a)
        paths = [f"setting/{level}/{key}" for key in (*KEYS, "hostname")]
        writes = [self._replacing(writer, path, VALUES[(a + b) % len(VALUES)]) for path in paths]
        self._record(writer, "ConfigLoaded", writes, forgetful=b % 2 == 0)

    def time(self, writer: Writer, a: int, b: int) -> None:
        """Let a timer take back what the writer's machine set, be it a copy of the writer that did; else begin one."""
        path = _setting(writer, a)
        own = [one for one in self.standing(writer, path) if self._author(writer, one) == writer.who.id]
        if own:
            self._record(writer, "SettingExpired", [write(path, False, *own)], weak=True, seal=b % 3 != 0)
        else:
            told = write(f"timer/{writer.who.id}/{b % 2}", '{"kind":"expire","until":9,"window":1}')
            self._record(writer, "SettingSet", [write(path, VALUES[b % len(VALUES)]), told])

    @staticmethod
    def _author(writer: Writer, record: str) -> MachineId:
        return writer.view[RecordId(record)].record.envelope.machine

    def change_group(self, writer: Writer, a: int, b: int) -> None:
        """Add a group that may be there already, rename one, or delete one."""
        group = ("paris", "berlin", "main_group")[a % 3]
        if b % 3 == 0:
            self._record(writer, "GroupAdded", self._group(writer, group, group.upper()))
        elif b % 3 == 1:
            renamed = self._replacing(writer, f"group/{group}/name", f'"{group} {b}"')
            self._record(writer, "GroupRenamed", [renamed])
        else:
            successor = ("berlin", "paris", "nowhere")[b % 4 % 3]
            self._record(writer, "GroupDeleted", [self._replacing(writer, f"group/{group}/deleted", f'"{successor}"')])

    def change_machine(self, writer: Writer, a: int, b: int) -> None:
        """Move a machine, detach it or take it back, or rename it."""
        machine = identity(MACHINES[a % 4]).id
        kind, attribute, value = (
            ("MachinesMoved", "group", f'"{("paris", "berlin", "main_group")[a % 3]}"'),
            ("MachinesDetached", "detached", '{"by":"os:root","at":1}'),
            ("MachinesReconnected", "detached", None),
            ("MachineChanged", "hostname", f'"host{a}"'),
        )[b % 4]
        self._record(writer, kind, [self._replacing(writer, f"machine/{machine}/{attribute}", value)])

    def change_user(self, writer: Writer, a: int, b: int) -> None:
        """Add, change or delete a user, or change admin."""
        user, role = ("u1", "admin")[a % 2], ("guest", "operator", "administrator")[b % 3]
        path = Path(f"user/{user}")
        text = msgspec.json.encode({"name": user, "role": role, "deleted": b % 4 == 0, "password": str(b)}).decode()
        value, secrets = builders.secret(path, text)
        self._record(writer, "UserChanged", [self._replacing(writer, path, value)], secrets=secrets)

    def admit(self, writer: Writer, a: int, b: int) -> None:
        """Let a machine in that may be in already."""
        if len(self.writers) < WRITERS_MAX:
            self._admit(writer, MACHINES[a % len(MACHINES)])

    def remove(self, writer: Writer, a: int, b: int) -> None:
        """Remove one or two machines, maybe the writer itself, maybe all."""
        members = self._members(writer)
        if not members:
            return
        gone = list(dict.fromkeys([members[a % len(members)], members[b % len(members)]]))
        left = msgspec.json.encode([member for member in members if member not in gone]).decode()
        self._record(
            writer, "MachinesRemoved", [write(f"machine/{one}/removed", left) for one in gone], seal=b % 4 != 1
        )

    def meet(self, writer: Writer, a: int, b: int) -> None:
        """Take in all that another writer has sealed."""
        writer.view |= self._shared(self.writers[a % len(self.writers)])
        if b % 2:
            self.writers[a % len(self.writers)].view |= self._shared(writer)

    def copy(self, writer: Writer, a: int, b: int) -> None:
        """Copy a machine as it is: a backup, or a clone, goes on from its last record."""
        if len(self.writers) < WRITERS_MAX:
            self.writers.append(writer.copy())

    def begin_epoch(self, writer: Writer, a: int, b: int) -> None:
        """Begin a new epoch, now and then under a number that is taken."""
        admissions = self.standing(writer, f"machine/{writer.who.id}/key")
        if admissions and not writer.unsealed:
            writer.head = None
            writer.epoch = writer.epoch if b % 5 == 0 else self._new_epoch()
            self._begin(writer, admissions[a % len(admissions)])

    def misbehave(self, writer: Writer, a: int, b: int) -> None:
        """Write an authentic record that counts for nothing."""
        path = "setting/cluster/relay"
        own = write(f"machine/{writer.who.id}/key", writer.who.key_text)
        past_time = HybridTime(writer.head.record.envelope.hybrid if writer.head else 1)
        kind, writes, fields = _VOID[a % len(_VOID)](self._replacing(writer, path, '"void"'), own, past_time)
        self._record(writer, kind, writes, void=True, seal=b % 3 != 0, **fields)

    def deceive(self, writer: Writer, a: int, b: int) -> None:
        """Seal a record that nobody may store, behind those that a copy of the writer may yet seal well."""
        culprit = writer.copy()
        good = write("setting/cluster/relay", '"dropped"')
        if a % 2:
            self._record(culprit, "SettingSet", [good], dropped=True, cluster="f" * 64)
        elif writer.head:
            self._record(culprit, "SettingSet", [good], dropped=True, seq=writer.head.record.envelope.seq + 2)


ACTIONS: dict[str, Callable[[History, Writer, int, int], None]] = {
    "set": History.set_value,
    "unset": History.unset,
    "secret": History.set_secret,
    "element": History.change_element,
    "load": History.load,
    "time": History.time,
    "group": History.change_group,
    "machine": History.change_machine,
    "user": History.change_user,
    "admit": History.admit,
    "remove": History.remove,
    "meet": History.meet,
    "copy": History.copy,
    "epoch": History.begin_epoch,
    "void": History.misbehave,
    "deceive": History.deceive,
}

_Bad = tuple[str, list[Write], dict[str, Any]]
#: Ways to write an authentic record that is void, given a good write, the author's key and a time that is over.
_VOID: tuple[Callable[[Write, Write, HybridTime], _Bad], ...] = (
    lambda good, key, time: ("SettingSet", [good], {"hybrid": time}),
    lambda good, key, time: ("GroupAdded", [good], {}),
    lambda good, key, time: ("CoupAttempted", [good], {}),
    lambda good, key, time: ("SettingSet", [good, good], {}),
    lambda good, key, time: ("SettingSet", [good], {"comment": "x" * (COMMENT_BYTES_MAX + 1)}),
    lambda good, key, time: ("SettingSet", [good, write("setting/nowhere", '"x"')], {}),
    lambda good, key, time: ("SettingSet", [good, write("setting/cluster/%zz", '"x"')], {}),
    lambda good, key, time: ("SettingSet", [good, write("setting/cluster/x", "not JSON")], {}),
    lambda good, key, time: ("SettingSet", [good, write("element/cluster/relay/1", False)], {}),
    lambda good, key, time: ("MachineChanged", [key], {}),
    lambda good, key, time: ("MachineAdmitted", [write(key.path, '"00"')], {}),
    lambda good, key, time: ("MachinesRemoved", [write(key.path.replace("/key", "/removed"), '"all"')], {}),
    lambda good, key, time: ("MachinesMoved", [write(key.path.replace("/key", "/removed"), "[]")], {}),
    lambda good, key, time: ("SettingSet", [good], {"weak": True}),
    lambda good, key, time: ("SettingExpired", [good], {"weak": True}),
    lambda good, key, time: ("SettingSet", [good, write(f"timer/{'f' * 32}/0", "1")], {}),
    lambda good, key, time: ("EpochBegun", [], {"params": {"admission": "f" * 64}}),
)


def _level(writer: Writer, a: int) -> str:
    return LEVELS[a % len(LEVELS)].format(writer.who.id)


def _setting(writer: Writer, a: int) -> str:
    return f"setting/{_level(writer, a)}/{KEYS[a % len(KEYS)]}"


def _removals(record: Record) -> Iterator[Removal]:
    envelope: Envelope = record.envelope
    for one in envelope.writes:
        if one.path.endswith("/removed"):
            left = tuple(msgspec.json.decode(str(one.value), type=list[MachineId]))
            yield Removal(MachineId(one.path.split("/")[1]), envelope.hybrid, record.id, left)


# --- drawing ------------------------------------------------------------------------

#: Settings, meetings and copies come often, the rest now and then.
_OFTEN = ("set", "set", "element", "meet", "meet", "copy", "void", *ACTIONS)


def step_lists(actions: Iterable[str] = _OFTEN, max_size: int = 40) -> st.SearchStrategy[list[Step]]:
    """Return a strategy for the steps of a history."""
    numbers = st.integers(0, 59)
    step = st.builds(Step, st.sampled_from(list(actions)), st.integers(0, WRITERS_MAX - 1), numbers, numbers)
    # Left to itself Hypothesis draws mostly short lists, and short histories have few branches.
    sizes = st.integers(1, max_size)
    return sizes.flatmap(lambda size: st.lists(step, min_size=size, max_size=size))
