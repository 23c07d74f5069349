"""Each invariant has teeth: a bug that is planted in the core, or under it, is found within 200 seeds.

Where a bug needs a rare fault to show, the runs have that fault, so that few seeds are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from cluster_store.core import admission, conflicts, derivation, digest, rules
from cluster_store.core.admission import Run as SealedRun
from cluster_store.core.causality import Line
from cluster_store.core.derivation import Derived
from cluster_store.core.document import Document
from cluster_store.core.effects import Append, Effect, Records, Reply, Send
from cluster_store.core.errors import Malformed, Refused
from cluster_store.core.records import Record
from cluster_store.core.registers import Lane
from cluster_store.core.replica import Replica, rows_of
from cluster_store.core.state import Draft, Fact
from cluster_store.core.sync import Gate, Session
from cluster_store.core.types import RecordId
from cluster_store.simulation.damage import Found, salvaged
from cluster_store.simulation.disk import Disk
from cluster_store.simulation.fleet import Fleet
from cluster_store.simulation.host import Host
from cluster_store.simulation.options import draw
from cluster_store.simulation.run import Run, Verdict

SEEDS = 200

Patch = pytest.MonkeyPatch


def first_failure(faults: Sequence[str] | None = None) -> Verdict:
    """Return the verdict on the first seed that fails."""
    for seed in range(SEEDS):
        verdict = Run(seed, draw(seed, faults=faults)).play()
        if not verdict.passed:
            return verdict
    raise AssertionError(f"{SEEDS} seeds passed with a bug in the core")


def tail_is_cut_in_silence(patch: Patch) -> None:
    """After a power failure a store comes up without its newest records, and nobody is told."""
    crash = Fleet.crash

    def cutting(fleet: Fleet, host: Host, *, power_lost: bool = False) -> None:
        crash(fleet, host, power_lost=power_lost)
        disk = host.log.disk
        sealed = [added.position for added in disk.records[:-1] if added.record.seal]
        if host.joined and power_lost and len(sealed) > 6:
            host.log = fleet.opened(salvaged(disk, sealed[-1]))

    patch.setattr(Fleet, "crash", cutting)


def forgetful_disk(patch: Patch) -> None:
    """A crash takes a record that was durable."""
    crash = Fleet.crash

    def losing(fleet: Fleet, host: Host, *, power_lost: bool = False) -> None:
        crash(fleet, host, power_lost=power_lost)
        if host.joined and power_lost:
            host.log.disk.records.pop()

    patch.setattr(Fleet, "crash", losing)


def records_are_skipped(patch: Patch) -> None:
    """Of the records under one seal, which are received together, only the last one is kept."""
    split, parent_of = admission.split, admission._parent

    def skipping(items: Any) -> Any:
        runs, future = split(items)
        return [SealedRun(run.records[-1:], run.secrets) for run in runs], future

    def lenient(draft: Draft, record: Record) -> Fact | None:
        return parent_of(draft, record) if draft.fact(RecordId(record.envelope.prev)) else None

    patch.setattr("cluster_store.core.replica.split", skipping)
    patch.setattr(admission, "_parent", lenient)


def branches_are_mixed_up(patch: Patch) -> None:
    """A second record with the same prev takes over the line of the first."""
    place = Draft._place

    def mixing(draft: Draft, record: Record, parent: Fact | None, *rest: Any) -> Line:
        line = place(draft, record, parent, *rest)
        if parent is None or line.number == parent.line:
            return line
        trunk = draft.line(parent.line)
        return msgspec.structs.replace(line, number=trunk.number, parent=trunk.parent, forked_at=trunk.forked_at)

    patch.setattr(Draft, "_place", mixing)


def last_arrival_wins(patch: Patch) -> None:
    """Of concurrent lanes the one that arrived here last is the value."""

    def arrived_last(lanes: Any) -> Lane | None:
        found = list(lanes)
        return found[-1] if found else None

    for module in (rules, digest):
        patch.setattr(module, "winner", arrived_last)


def one_lane_survives_a_settlement(patch: Patch) -> None:
    """Of several lanes that a write replaces, one stays."""
    derive = derivation.derive

    def leaving(record: Any, hybrid: Any, actor: Any, writes: Any, *rest: Any, **named: Any) -> Derived:
        fewer = [type(write)(write.path, write.value, write.replaced[:1]) for write in writes]
        return derive(record, hybrid, actor, fewer, *rest, **named)

    patch.setattr("cluster_store.core.state.derive", leaving)


def documents_miss_changes(patch: Patch) -> None:
    """A document takes in all but the last of several changes."""
    apply = Document.apply

    def missing(document: Document, changes: Any) -> None:
        apply(document, changes[:-1] if len(changes) > 2 else changes)

    patch.setattr(Document, "apply", missing)


def grouped_nowhere(patch: Patch) -> None:
    """A machine in any but the first group is in none."""
    patch.setattr(rules, "group_of", lambda lane, *_: "main_group" if lane is None or "main" in lane.value else "")


def groups_that_are_not_there(patch: Patch) -> None:
    """A second group makes all of them go."""
    groups = rules._groups

    def emptied(registers: Any) -> Any:
        live, *rest = groups(registers)
        return (live if len(live) == 1 else {}), *rest

    patch.setattr(rules, "_groups", emptied)


def removed_machines_write_on(patch: Patch) -> None:
    """Whoever was removed goes on writing, and what it writes is taken."""
    for module in ("admission", "authoring", "rules"):
        patch.setattr(f"cluster_store.core.{module}.is_removed", lambda *_: False)


def losers_are_forgotten(patch: Patch) -> None:
    """A conflict of two lanes is listed only if a person would see that they were written long after each other."""
    listed = conflicts.conflicts

    def shortened(registers: Any) -> Any:
        return [conflict for conflict in listed(registers) if len(conflict.lanes) > 2]

    patch.setattr("cluster_store.simulation.invariants.conflicts", shortened)


def sent_before_durable(patch: Patch) -> None:
    """What is on its way to the disk goes out at once."""
    submit = Replica._submit

    def hasty(replica: Replica, given: Any) -> list[Effect]:
        effects = submit(replica, given)
        items = [row.item for one in effects if isinstance(one, Append) for row in rows_of(one.draft)]
        early = [Send(link, Records(items)) for link, session in replica.sessions.items() if session.hello and items]
        return [*early, *effects]

    patch.setattr(Replica, "_submit", hasty)


def detachment_means_nothing(patch: Patch) -> None:
    """Sessions carry records whoever is detached."""
    patch.setattr(Session, "gate", lambda *_: Gate.OPEN)


def nobody_pushes(patch: Patch) -> None:
    """What is appended while a session is caught up is not sent on it."""
    patch.setattr(Session, "appended", lambda *_: [])


def full_disk_ends_writing(patch: Patch) -> None:
    """A machine that could not write once takes no change any more."""
    failed, submit = Replica._append_failed, Replica._submit
    offended: set[str] = set()

    def offending(replica: Replica, error: Any) -> list[Effect]:
        offended.add(replica.state.me)
        return failed(replica, error)

    def refusing(replica: Replica, given: Any) -> list[Effect]:
        if replica.state.me in offended:
            return [Reply(request.id, error=Refused("the disk was full once")) for request in given.requests]
        return submit(replica, given)

    patch.setattr(Replica, "_append_failed", offending)
    patch.setattr(Replica, "_submit", refusing)


def future_is_refused(patch: Patch) -> None:
    """A record is dropped for what a clock says."""
    reason = admission.void_reason

    def fearful(draft: Draft, record: Any, parent: Any) -> str:
        if record.envelope.time > 2_000_000_000_000:
            raise Malformed("a record from the future")
        return reason(draft, record, parent)

    patch.setattr(admission, "void_reason", fearful)


def late_machines_fail(patch: Patch) -> None:
    """A second branch of a feed ends the process."""
    place = Draft._place

    def failing(draft: Draft, record: Record, parent: Fact | None, *rest: Any) -> Line:
        line = place(draft, record, parent, *rest)
        if line.parent is not None:
            raise KeyError(line.parent)
        return line

    patch.setattr(Draft, "_place", failing)


def answered_before_durable(patch: Patch) -> None:
    """A caller hears of success while the disk is still busy."""
    submit = Replica._submit

    def hasty(replica: Replica, given: Any) -> list[Effect]:
        effects = submit(replica, given)
        if replica.pending is None:
            return effects
        replies, replica.pending.replies = replica.pending.replies, []
        answers: list[Reply] = replies
        return [*answers, *effects]

    patch.setattr(Replica, "_submit", hasty)


def half_an_append_stays(patch: Patch) -> None:
    """What was written and not committed is taken for written, but for the record that was being written."""

    def keeping(disk: Disk) -> None:
        disk.records += disk.uncommitted[:-1]
        disk.uncommitted = []

    patch.setattr(Disk, "recover", keeping)


def damage_goes_unseen(patch: Patch) -> None:
    """A store is opened without a look at what is in it."""
    patch.setattr("cluster_store.simulation.disk_log.examine", lambda disk: Found(len(disk.records), ""))


def nobody_takes_back(patch: Patch) -> None:
    """What was changed for a while stays: no machine looks at its clock."""
    patch.setattr("cluster_store.simulation.timing.own_timers", lambda _: [])


#: The bug, the invariant that it breaks, and the faults that it needs; whatever the seeds draw where there are none.
CANARIES: list[tuple[Callable[[Patch], None], int, Sequence[str] | None]] = [
    (tail_is_cut_in_silence, 1, ["cut", "crash"]),
    (forgetful_disk, 2, ["crash"]),
    (records_are_skipped, 3, None),
    (branches_are_mixed_up, 4, ["restore", "clone"]),
    (last_arrival_wins, 5, ["cut"]),
    (one_lane_survives_a_settlement, 6, ["cut"]),
    (documents_miss_changes, 7, None),
    (grouped_nowhere, 8, []),
    (groups_that_are_not_there, 9, []),
    (removed_machines_write_on, 10, []),
    (losers_are_forgotten, 11, ["cut"]),
    (sent_before_durable, 12, []),
    (detachment_means_nothing, 13, ["cut"]),
    (nobody_pushes, 14, []),
    (full_disk_ends_writing, 15, ["full"]),
    (future_is_refused, 16, ["clock"]),
    (late_machines_fail, 17, ["restore", "clone"]),
    (answered_before_durable, 18, []),
    (half_an_append_stays, 19, ["append"]),
    (damage_goes_unseen, 20, ["flip"]),
    (nobody_takes_back, 21, []),
]


@pytest.mark.parametrize(("plant", "number", "faults"), CANARIES)
def test_a_planted_bug_is_found(
    plant: Callable[[Patch], None], number: int, faults: Sequence[str] | None, monkeypatch: Patch
) -> None:
    """The run fails by the invariant that the bug breaks."""
    plant(monkeypatch)
    verdict = first_failure(faults)
    assert verdict.invariant == number, verdict.failure
    assert verdict.trace[-1].endswith(verdict.failure)
