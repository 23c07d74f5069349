"""Invariant 0: the state is a function of the set of admitted records, whatever way they came.

Histories of machines that are cut off, rolled back, cloned, removed and misbehaving are offered to several stores in
different causal orders and groupings. All must end alike, and as the naive twin says. Planted bugs show that these
comparisons can fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cluster_store.core import admission, registers, rules
from cluster_store.core import settings as effective
from cluster_store.core.causality import LEAF_HASH_DIGITS, Leaf, Removal, Removals, vector
from cluster_store.core.cluster import Cluster
from cluster_store.core.derivation import lane_text
from cluster_store.core.document import Document
from cluster_store.core.errors import Malformed
from cluster_store.core.records import Record
from cluster_store.core.registers import Lane, document_of, lane_key, scope_of
from cluster_store.core.state import Draft, Fact, Needs
from cluster_store.core.types import Level, RecordId
from tests.core import builders
from tests.core.builders import Store
from tests.core.deliveries import deliveries
from tests.core.histories import History, Step, lanes_of, step_lists
from tests.core.plain import Lanes, Plain


@dataclass(frozen=True)
class Outcome:
    """All that must be the same everywhere."""

    lanes: Lanes
    vector: list[Leaf]
    void: dict[RecordId, bool]
    removals: dict[RecordId, Removals]
    read_model: Any
    settings: dict[str, dict[str, Any]] = field(repr=False)
    documents: dict[str, dict[str, str]] = field(repr=False)


def where_it_stands(lane: Lane) -> Lane:
    """Return a lane without its place in a document, which is each machine's own."""
    return msgspec.structs.replace(lane, place=registers.NOWHERE)


def levels_shown(model: Cluster, lanes: Lanes) -> dict[str, list[Level]]:
    """Return the levels of every machine, and every level with a lane alone."""
    levels: dict[str, list[Level]] = {scope: [scope] for scope in map(scope_of, lanes)}
    return levels | {machine: model.levels_for(machine) for machine in model.machines}


def views(source: registers.Registers, lanes: Lanes) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Return the read model and every machine's effective settings."""
    model = rules.read(source)
    levels = levels_shown(model, lanes)
    found = {name: effective.effective_settings(source, of) for name, of in levels.items()}
    plain = {
        name: {key: (value.value, value.level, value.lane.id) for key, value in values.items()}
        for name, values in found.items()
    }
    return msgspec.to_builtins(model), plain


def expected(history: History) -> Outcome:
    """Return what the naive twin makes of a history."""
    stored = history.stored
    lanes = lanes_of(stored)
    # A record that no other one names as the one before it is a leaf of its feed.
    followed = {made.record.envelope.prev for made in stored}
    leaves = [made for made in stored if made.id not in followed]
    documents: dict[str, dict[str, str]] = {}
    for path, standing in lanes.items():
        content = documents.setdefault(document_of(path), {})
        content |= {lane_key(path, lane.id): lane_text(lane.value) for lane in standing.values()}
    read_model, found = views(Plain(lanes), lanes)
    return Outcome(
        lanes,
        sorted(
            Leaf(
                made.record.envelope.machine,
                made.record.envelope.epoch,
                made.record.envelope.seq,
                made.id[:LEAF_HASH_DIGITS],
            )
            for made in leaves
        ),
        {made.id: made.void for made in stored},
        {made.id: made.removals for made in leaves},
        read_model,
        found,
        documents,
    )


def outcome(store: Store) -> Outcome:
    """Return what a store has come to."""
    log, here = store.log, store.state
    lanes: Lanes = {}
    for (path, record), lane in log.lanes.items():
        lanes.setdefault(path, {})[record] = where_it_stands(lane)
    store.learn(Needs({level for levels in levels_shown(rules.read(Draft(here)), lanes).values() for level in levels}))
    in_memory = {path: {lane.id: where_it_stands(lane) for lane in kept} for path, kept in here.lanes.items() if kept}
    assert in_memory == lanes, "the state and the log differ"
    documents = {}
    for name, changes in log.tails.items():
        document = Document()
        document.apply(changes)
        documents[name] = document.items()
    read_model, found = views(Draft(here), lanes)
    return Outcome(
        lanes,
        vector(here.lines.values()),
        {added.record.id: bool(added.void) for added in log.records},
        {line.head: here.removals_at(line.number, line.seq) for line in here.lines.values()},
        read_model,
        found,
        {name: content for name, content in documents.items() if content},
    )


def replay(history: History, dice: Random) -> Store:
    """Offer a history to a new store, in some order and grouping; forget and reopen now and then."""
    store = Store(history.cluster)
    forbidden = [run for run in history.runs if run.dropped]
    for batch in deliveries(dice, [run for run in history.runs if not run.dropped]):
        try:
            answers = store.offer(batch.items)
        except Malformed as error:
            raise AssertionError("a store dropped what another one keeps") from error
        assert not (batch.ready and any(answers)), answers
        if dice.random() < 0.1:
            store.restart()
        if dice.random() < 0.2:
            store.state.facts.clear()
        if forbidden and dice.random() < 0.2:
            offer_forbidden(store, dice.choice(forbidden).items)
    for run in forbidden:
        assert offer_forbidden(store, run.items), "a run of a removed machine had to wait for ever"
    return store


def offer_forbidden(store: Store, items: Iterable[Any]) -> bool:
    """Offer a run that nobody may store; say whether it was dropped, not told to wait."""
    position = store.state.position
    try:
        assert all(store.offer(items)), "a run whose author knew of its own removal was stored"
    except Malformed:
        assert store.state.position == position
        return True
    return False


def check(steps: list[Step], seed: int) -> None:
    """Every delivery of a history must end as the naive twin says."""
    history = History().play(steps)
    wanted = expected(history)
    for number in range(3):
        found = outcome(replay(history, Random(f"{seed} {number}")))
        for name in Outcome.__dataclass_fields__:
            assert getattr(found, name) == getattr(wanted, name), name
            # Dictionaries are equal in any order, but readers show them in theirs.
            assert repr(found.read_model) == repr(wanted.read_model)


@given(step_lists(), st.integers(0, 2**32))
@settings(max_examples=150)
def test_any_causal_order_and_grouping_ends_in_one_state(steps: list[Step], seed: int) -> None:
    """Stores that were offered the same records, in whatever order and batches, hold and say the same."""
    check(steps, seed)


# --- canaries: the property must fail where the product is wrong -------------------------------------


def find_the_bug() -> None:
    """Look for a history that ends in different states; pass exactly if there is one."""
    quick = settings(max_examples=300, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        quick(given(step_lists(), st.integers(0, 2**32))(check))()


def test_a_winner_by_arrival_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking the lane that came last for the value makes stores differ."""

    def last(lanes: Iterable[Lane]) -> Lane | None:
        return next(reversed(tuple(lanes)), None)

    monkeypatch.setattr(rules, "winner", last)
    monkeypatch.setattr(effective, "winner", last)
    find_the_bug()


def test_an_ignored_fork_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusing the second record after the same one makes stores differ."""

    def admit(draft: Draft, run: admission.Run, learnt: int) -> int:
        parent = draft.fact(RecordId(run.records[0].envelope.prev))
        if parent is not None and draft.line(parent.line).seq != parent.seq:
            return 0
        return admission.admit(draft, run, learnt)

    monkeypatch.setattr(builders, "admit", admit)
    find_the_bug()


def test_a_removal_judged_by_what_the_receiver_knows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusing the records of whoever is removed by now, instead of by then, makes stores differ."""

    def everything_known(draft: Draft, record: Record, parent: Fact | None) -> Removals:
        known = {**draft.state.removals, **draft.removals}
        return frozenset[Removal]().union(*(removals for told in known.values() for _, removals in told))

    monkeypatch.setattr(Draft, "past_removals", everything_known)
    find_the_bug()


def test_a_clock_of_the_receiver_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Voiding what is older than something that has nothing to do with it makes stores differ."""

    def void_reason(draft: Draft, record: Record, parent: Fact | None) -> str:
        return "old" if record.envelope.hybrid <= draft.hybrid else judged(draft, record, parent)

    judged = admission.void_reason
    monkeypatch.setattr(admission, "void_reason", void_reason)
    find_the_bug()
