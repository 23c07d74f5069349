"""The state built again from records alone."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings

from cluster_store.core.admission import Run
from cluster_store.core.errors import EngineError, StoreCorrupt
from cluster_store.core.records import seal_record
from cluster_store.core.registers import Standing
from cluster_store.core.replay import Replay, documents_that_differ
from cluster_store.core.state import Appended
from cluster_store.core.types import Path
from tests.core import builders
from tests.core.builders import Store, first_record, following, identity, sealed, unsealed, write
from tests.core.histories import History, Step, step_lists

ANN = identity("ann")


def runs_of(log: Iterable[Appended]) -> list[list[Appended]]:
    """Cut a log into its runs."""
    runs: list[list[Appended]] = [[]]
    for added in log:
        runs[-1].append(added)
        if added.record.seal:
            runs.append([])
    return [run for run in runs if run]


def replayed(store: Store, log: Iterable[Appended] | None = None) -> Replay:
    """Return a log's records after they have gone through a replay."""
    replay = Replay(store.state.me, store.log.cluster)
    for run in runs_of(store.log.records if log is None else log):
        added = replay.admit(Run([one.record for one in run], {}), run[0].learnt)
        assert added == run, "every record has its place, its line and its verdict again"
    replay.settle()
    return replay


@settings(max_examples=40)
@given(step_lists())
def test_a_log_replayed_is_the_state_that_it_came_to(steps: list[Step]) -> None:
    """Records of rolled back, cloned, removed and misbehaving machines come to one state, by lanes and by documents."""
    history = History().play(steps)
    store = Store(history.cluster)
    for run in history.runs:
        if not run.dropped:
            store.offer(run.items)
    replay = replayed(store)
    kept: dict[Path, list[object]] = {}
    for (path, _), lane in store.log.lanes.items():
        kept.setdefault(path, []).append(msgspec.structs.replace(lane, text=None))
    found = {path: sorted(some, key=repr) for path, some in replay.state.lanes.items() if some}
    assert found == {path: sorted(some, key=repr) for path, some in kept.items()}
    assert replay.state.lines == store.log.lines
    assert replay.state.removals == store.log.removals
    assert replay.state.tips == store.log.tips
    assert replay.state.log_hash == store.log.log_hash
    assert {name: changes for name, changes in replay.changes.items() if changes} == store.log.tails
    assert documents_that_differ(replay.changes, replay.state.lanes.items()) == []


def chain(count: int) -> Store:
    """Return a store with a first record and a run of some more."""
    store = builders.store_of(first_record(ANN))
    records, before = [], store.log.records[0].record
    for number in range(count):
        envelope = following(before, writes=(write("setting/cluster/a", str(number)),))
        before = sealed(envelope, ANN) if number == count - 1 else unsealed(envelope)
        records.append(before)
    store.take(*records)
    return store


def test_a_part_of_a_run_can_be_replayed() -> None:
    """A run is judged whole, also where only its first records are wanted."""
    store = chain(4)
    replay = Replay(store.state.me, store.log.cluster)
    first, rest = runs_of(store.log.records)
    replay.admit(Run([one.record for one in first], {}), 0)
    added = replay.admit(Run([one.record for one in rest], {}), 0, 2)
    replay.settle()
    assert [one.record.id for one in added] == [one.record.id for one in rest[:2]]
    assert [one.value for one in replay.state.lanes[Path("setting/cluster/a")]] == ["0", "1"]
    assert replay.state.position == 3


def test_records_that_could_never_have_been_stored_are_refused() -> None:
    """A missing record and a seal by another hand end a replay, which says where."""
    store = chain(1)
    more = sealed(following(store.log.records[-1].record), ANN)
    store.take(more)
    log = store.log.records
    with pytest.raises(StoreCorrupt, match=log[2].record.id):
        replayed(store, [log[0], log[2]])
    forged = seal_record(unsealed(log[1].record.envelope), identity("bob").sign)
    with pytest.raises(StoreCorrupt, match="seal"):
        replayed(store, [log[0], msgspec.structs.replace(log[1], record=forged)])


def test_a_part_of_a_run_with_a_false_seal_is_refused() -> None:
    """The seal on a run's last record vouches for the first ones, so it is checked for them too."""
    store = chain(2)
    first, rest = runs_of(store.log.records)
    replay = Replay(store.state.me, store.log.cluster)
    replay.admit(Run([one.record for one in first], {}), 0)
    forged = seal_record(unsealed(rest[1].record.envelope), identity("bob").sign)
    with pytest.raises(StoreCorrupt, match="seal"):
        replay.admit(Run([rest[0].record, forged], {}), 0, 1)


def test_documents_that_say_otherwise_are_named() -> None:
    """A change that is missing, and a lane that no change put, show in the document that they belong to."""
    replay = replayed(chain(2))
    lanes = replay.state.lanes
    (name,) = [name for name, changes in replay.changes.items() if len(changes) == 2]
    assert documents_that_differ({**replay.changes, name: replay.changes[name][:1]}, lanes.items()) == [name]
    without = {other: changes for other, changes in replay.changes.items() if other != name}
    assert documents_that_differ(without, lanes.items()) == [name]
    assert documents_that_differ(replay.changes, [(path, ()) for path in lanes]) == sorted(replay.changes)
    with pytest.raises(EngineError):
        documents_that_differ({name: replay.changes[name][1:]}, ())


def test_registers_in_memory_are_sorted_and_found_by_prefix() -> None:
    """``Standing`` gives what begins with a prefix, sorted, and nothing for registers that are empty."""
    store = chain(1)
    (lane,) = [lane for (path, _), lane in store.log.lanes.items() if path == "setting/cluster/a"]
    registers = Standing({Path("b"): (lane,), Path("a/2"): (lane,), Path("a/1"): (lane,), Path("a/3"): ()})
    assert [path for path, _ in registers.under("a/")] == ["a/1", "a/2"]
    assert [path for path, _ in registers.under("")] == ["a/1", "a/2", "b"]
    assert registers.standing(Path("b")) == (lane,)
    assert registers.standing(Path("a/3")) == registers.standing(Path("c")) == ()
