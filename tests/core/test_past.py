"""What stood at an earlier time, against a naive fold of the same records."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.core.history import came_after
from cluster_store.core.past import past_of
from cluster_store.core.registers import Lane, Standing
from cluster_store.core.rules import read
from cluster_store.core.state import Appended
from cluster_store.core.types import Path, RecordId
from tests.core.builders import Store, rows_of
from tests.core.histories import History, Step, lanes_of, step_lists
from tests.replicas import Fleet


def stored(history: History) -> Store:
    """Return a store that has all of a history."""
    store = Store(history.cluster)
    for run in history.runs:
        if not run.dropped:
            store.offer(run.items)
    return store


def closure_of(log: list[Appended], ids: set[RecordId]) -> set[RecordId]:
    """Return events and all that they came after: the naive way, event by event, until nothing is new."""
    by_id = {added.record.id: added for added in log}
    found: set[RecordId] = set()
    waiting = list(ids)
    while waiting:
        one = waiting.pop()
        if one not in found and one in by_id:
            found.add(one)
            waiting += came_after(by_id[one].record.envelope)
    return found


@settings(max_examples=60)
@given(step_lists(), st.sets(st.integers(0, 200), max_size=3))
def test_a_past_is_the_naive_fold_of_what_it_came_after(steps: list[Step], picks: set[int]) -> None:
    """Any events and all that they came after leave the lanes standing that nothing among these replaces."""
    history = History().play(steps)
    store = stored(history)
    log = store.log.records
    ids = {log[pick % len(log)].record.id for pick in picks}
    closure = closure_of(log, ids)

    def secret(path: Path, record: RecordId) -> str | None:
        return store.log.secrets.get(record, {}).get(path, (b"", None))[1]

    past = past_of(rows_of(reversed(log)), lambda row, _: row.id in ids, store.state.me, secret)
    made = [one for one in history.stored if one.id in closure]
    twin = lanes_of(made)
    found = {path: {lane.id: lane for lane in lanes} for path, lanes in past.under("")}
    assert found == {path: lanes for path, lanes in twin.items() if lanes}
    assert past.records == len(closure)
    assert past.cluster() == read(Standing({path: tuple(lanes.values()) for path, lanes in twin.items()}))


async def test_the_past_of_everything_is_what_stands_now() -> None:
    """With all events chosen, nothing differs from the present."""
    fleet = Fleet()
    mx1, mx2 = await fleet.fleet_of("mx1", "mx2")
    await mx1.set("a", "1")
    await mx2.set("a", "2", secret=True)
    await fleet.pump()
    log = mx1.log.records  # type: ignore[attr-defined]
    past = past_of(rows_of(reversed(log)), lambda *_: True, mx1.id, lambda *_: None)
    now: dict[Path, dict[RecordId, Lane]] = {}
    for (path, record), lane in mx1.log.lanes.items():  # type: ignore[attr-defined]
        now.setdefault(path, {})[record] = lane
    assert {path: {lane.id for lane in lanes} for path, lanes in past.under("")} == {
        path: set(lanes) for path, lanes in now.items()
    }
    assert past.records == len(log)
