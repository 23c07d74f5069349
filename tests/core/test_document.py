"""Derived changes are the engine's own, byte for byte; documents of them converge; the engine's failures are tame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn, cast

import pytest
from automerge import core
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import document as document_module
from cluster_store.core.document import Change, Delete, Document, Operation, Put, encode_change
from cluster_store.core.errors import EngineError
from tests.core.derived import ACTORS, TEXTS, batches, causal_order, derived_history
from tests.core.engine_panic import break_engine

# --- the encoder against the engine's own changes ---


@dataclass
class Writer:
    """An engine's document, and what the test itself knows of it: no figure below is asked of the engine."""

    engine: core.Document
    actor: bytes
    own: list[bytes] = field(default_factory=list)
    known: dict[bytes, Change] = field(default_factory=dict)
    op_max: int = 0
    standing: dict[str, Delete] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    def deps(self) -> list[bytes]:
        """The writer's change before, and the known changes that no known change depends on, in any order."""
        named = {dep for change in self.known.values() for dep in change.deps}
        return [*self.own[-1:], *(known for known in self.known if known not in named)]

    def merge(self, other: Writer) -> None:
        """Take all that another writer knows."""
        self.engine.merge(other.engine)
        self.known |= other.known
        self.op_max = max(self.op_max, other.op_max)
        self.deleted |= other.deleted
        both = self.standing | other.standing
        self.standing = {key: delete for key, delete in both.items() if key not in self.deleted}

    def fork(self, actor: bytes) -> Writer:
        """Return another writer that knows the same."""
        engine = self.engine.fork()
        engine.set_actor(actor)
        return Writer(engine, actor, [], dict(self.known), self.op_max, dict(self.standing), set(self.deleted))

    def write(self, operations: Sequence[Operation]) -> tuple[core.Change, Change]:
        """Let the engine make a change, and encode the same from what the test knows; return both."""
        before = self.engine.get_heads()
        with self.engine.transaction() as transaction:
            for operation in operations:
                if isinstance(operation, Put):
                    transaction.put(core.ROOT, operation.key, core.ScalarType.Str, operation.value)
                else:
                    transaction.delete(core.ROOT, operation.key)
        (theirs,) = self.engine.get_changes(before)
        ours = encode_change(self.actor, len(self.own) + 1, self.op_max + 1, self.deps(), operations)
        self.own.append(ours.hash)
        self.known[ours.hash] = ours
        for operation in operations:
            self.op_max += 1
            if isinstance(operation, Put):
                self.standing[operation.key] = Delete(operation.key, self.op_max, self.actor)
            else:
                del self.standing[operation.key]
                self.deleted.add(operation.key)
        return theirs, ours


def draw_operations(dice: Random, writer: Writer, number: int) -> list[Operation]:
    """Draw puts of fresh keys and deletes of standing ones, also of those put in the same change, in any order."""
    deletes = dice.sample(list(writer.standing.values()), min(len(writer.standing), dice.choice((0, 1, 1, 2, 6))))
    operations: list[Operation] = list(deletes)
    operations += [
        Put(f"{dice.choice(TEXTS)}@{number}.{part}", dice.choice(TEXTS))
        for part in range(dice.choice((1, 1, 1, 2, 20)) if deletes else 1)
    ]
    if dice.random() < 0.5:
        dice.shuffle(operations)
    else:
        operations.reverse()
    if dice.random() < 0.1:
        place = next(place for place, operation in enumerate(operations) if isinstance(operation, Put))
        operations.append(Delete(operations[place].key, writer.op_max + 1 + place, writer.actor))
    return operations


def shape_of(writer: Writer, operations: Sequence[Operation], change: Change) -> set[str]:
    """Name what makes this change worth comparing."""
    deletes = [operation for operation in operations if isinstance(operation, Delete)]
    others = {delete.actor for delete in deletes} - {writer.actor}
    return {
        name
        for name, holds in {
            "one put": len(operations) == 1,
            "put and delete": len(operations) == 2 and isinstance(operations[0], Put) and len(deletes) == 1,
            "many operations": len(operations) > 10,
            "several deletes": len(deletes) > 2,
            "several other actors": len(others) > 1,
            "own and other actors": bool(others) and len({delete.actor for delete in deletes}) > len(others),
            "several dependencies": len(change.deps) > 1,
            "no dependency": not change.deps,
            "delete of a key put in the same change": any(
                delete.op > writer.op_max - len(operations) for delete in deletes
            ),
            "operation over 127": any(delete.op > 127 for delete in deletes),
        }.items()
        if holds
    }


def test_encoded_changes_are_the_engines_own_in_branchy_histories() -> None:
    """What encode_change returns is byte for byte what the engine writes, with the same hash and dependencies."""
    shapes: Counter[str] = Counter()
    for seed in range(12):
        dice = Random(seed)
        writers = [Writer(core.Document(actor), actor) for actor in ACTORS[:3]]
        for number in range(120):
            writer, other = dice.sample(writers, 2)
            if dice.random() < 0.35:
                writer.merge(other)
            if dice.random() < 0.1 and len(writers) < len(ACTORS):
                writers.append(writer.fork(ACTORS[len(writers)]))
            operations = draw_operations(dice, writer, number)
            theirs, ours = writer.write(operations)
            assert ours.data == theirs.raw_bytes
            assert ours.hash == theirs.hash
            assert ours.deps == tuple(theirs.deps)
            shapes.update({"all"} | shape_of(writer, operations, ours))
    assert shapes["all"] == 1440
    assert len(shapes) == 11
    assert min(shapes.values()) >= 20, shapes


@given(
    st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=8),
    st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_encoded_changes_are_the_engines_own_for_any_text(
    first: dict[str, str], second: dict[str, str], dice: Random
) -> None:
    """Any keys and values, put by one and deleted by another, encode as the engine encodes them."""
    one = Writer(core.Document(b"one"), b"one")
    theirs, ours = one.write([Put(key, value) for key, value in first.items()])
    assert ours.data == theirs.raw_bytes
    other = one.fork(b"other")
    operations: list[Operation] = list(one.standing.values())
    operations += [Put(key, value) for key, value in second.items() if key not in first]
    dice.shuffle(operations)
    theirs, ours = other.write(operations)
    assert ours.data == theirs.raw_bytes
    assert ours.hash == theirs.hash


def test_dependencies_are_sorted_and_named_once() -> None:
    """The order and repetition of dependencies is the caller's business and makes no difference to the change."""
    low, high = b"\x01" * 32, b"\x02" * 32
    change = encode_change(b"a", 2, 2, [high, low, high], [Put("key", "value")])
    assert change.deps == (low, high)
    assert change == encode_change(b"a", 2, 2, [low, high], [Put("key", "value")])


# --- documents of derived changes ---


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_documents_converge_in_any_causal_order_and_grouping(seed: int, size: int) -> None:
    """The same changes in any causal order, in any batches, give equal content and heads: those of the naive twin."""
    dice = Random(seed)
    history = derived_history(dice, ACTORS[: dice.randint(1, len(ACTORS))], size)
    for _ in range(3):
        document = Document.open(None)
        for batch in batches(dice, causal_order(dice, history.changes)):
            document.apply(batch)
        assert document.items() == history.content
        assert document.heads() == history.heads()


@given(st.integers(0, 2**32), st.integers(0, 60))
def test_a_saved_document_opens_with_the_same_content_and_goes_on(seed: int, size: int) -> None:
    """A save anywhere in a history opens with equal items and heads, and takes the rest of the history."""
    dice = Random(seed)
    history = derived_history(dice, ACTORS[:4], size)
    changes = causal_order(dice, history.changes)
    cut = dice.randint(0, size)
    document = Document.open(None)
    document.apply(changes[:cut])
    opened = Document.open(document.save())
    assert opened.items() == document.items()
    assert opened.heads() == document.heads()
    opened.apply(changes[cut:])
    assert opened.items() == history.content
    assert opened.heads() == history.heads()
    assert Document.open(opened.save()).items() == history.content


def test_items_are_sorted_and_get_agrees_with_them() -> None:
    """Items come sorted by key, each as get returns it; a key that is deleted or was never put is None."""
    history = derived_history(Random(1), ACTORS, 200)
    document = Document.open(None)
    document.apply(history.changes)
    items = document.items()
    assert list(items) == sorted(history.content)
    assert all(document.get(key) == value for key, value in items.items())
    deleted = [
        operation.key
        for derived in history.derived
        for operation in derived.operations
        if operation.key not in history.content
    ]
    assert deleted
    assert all(document.get(key) is None for key in deleted)
    assert document.get("never put") is None


def test_a_key_that_no_document_can_hold_is_none() -> None:
    """Asking for an unpaired surrogate, at which the engine panics, finds nothing and leaves the document usable."""
    document = Document.open(None)
    assert document.get("\ud800") is None
    assert document.items() == {}


def test_an_empty_document_has_nothing_and_can_be_saved() -> None:
    """A document without changes has no items and no heads; its save opens."""
    document = Document.open(None)
    document.apply([])
    assert document.items() == {}
    assert document.heads() == ()
    assert Document.open(document.save()).items() == {}


def test_opened_documents_have_no_random_actor() -> None:
    """Every document has the same actor, which the engine would otherwise draw at random."""
    fresh = Document.open(None)
    opened = Document.open(fresh.save())
    assert fresh._door.engine is not None
    assert opened._door.engine is not None
    assert fresh._door.engine.get_actor() == opened._door.engine.get_actor() == b"\x00"


def test_known_changes_do_no_harm() -> None:
    """Changes that are already here, alone or among new ones, change nothing and raise nothing."""
    history = derived_history(Random(2), ACTORS, 80)
    document = Document.open(None)
    document.apply(history.changes[:50])
    document.apply(history.changes[:1])
    document.apply(history.changes[30:])
    document.apply(history.changes)
    assert document.items() == history.content
    assert document.heads() == history.heads()


def test_new_changes_are_checked_by_the_heads_alone() -> None:
    """Only a known change makes apply ask for the whole history, which costs more the longer it is."""
    asked: list[str] = []

    class Watched:
        def __init__(self, engine: core.Document) -> None:
            self.engine = engine

        def __getattr__(self, name: str) -> object:
            asked.append(name)
            return getattr(self.engine, name)

    history = derived_history(Random(6), ACTORS, 60)
    document = Document.open(None)
    assert document._door.engine is not None
    document._door.engine = cast("core.Document", Watched(document._door.engine))
    for batch in batches(Random(7), history.changes):
        document.apply(batch)
    assert "get_heads" in asked
    assert "get_changes" not in asked
    document.apply(history.changes[:1])
    assert "get_changes" in asked


def test_more_changes_than_one_message_holds_arrive_in_any_order() -> None:
    """Many messages' worth of changes arrive in one call, even backwards."""
    history = derived_history(Random(3), ACTORS, 3 * document_module.CHANGES_PER_MESSAGE + 1)
    document = Document.open(None)
    document.apply(history.changes[::-1])
    assert document.items() == history.content
    assert document.heads() == history.heads()


def test_several_may_delete_one_key() -> None:
    """Concurrent and later deletes of one key all count as changes, and the key is gone."""
    put = encode_change(b"a", 1, 1, [], [Put("key", "value")])
    deletes = [encode_change(actor, 1, 2, [put.hash], [Delete("key", 1, b"a")]) for actor in (b"b", b"c", b"d")]
    later = encode_change(b"b", 2, 3, [deletes[0].hash, put.hash], [Delete("key", 1, b"a"), Put("next", "")])
    document = Document.open(None)
    document.apply([put, *deletes, later])
    assert document.items() == {"next": ""}
    assert document.heads() == tuple(sorted((deletes[1].hash, deletes[2].hash, later.hash)))
    assert Document.open(document.save()).heads() == document.heads()


# --- failures of the engine ---


def test_a_change_whose_dependency_is_missing_is_noticed() -> None:
    """The engine keeps such a change waiting and says nothing; apply names it."""
    first = encode_change(b"a", 1, 1, [], [Put("first", "1")])
    second = encode_change(b"a", 2, 2, [first.hash], [Put("second", "2")])
    document = Document.open(None)
    with pytest.raises(EngineError, match=f"did not take 1 of 1 changes, the first being {second.hash.hex()}"):
        document.apply([second])
    assert_dead(document)


def test_a_dropped_change_is_noticed_among_known_ones() -> None:
    """A change that does not arrive is noticed also when others in the call were already here."""
    known = encode_change(b"a", 1, 1, [], [Put("first", "1")])
    latest = encode_change(b"a", 2, 2, [known.hash], [Put("second", "2")])
    lost = encode_change(b"b", 1, 9, [b"\x01" * 32], [Put("third", "3")])
    document = Document.open(None)
    document.apply([known, latest])
    with pytest.raises(EngineError, match="did not take 1 of 2 changes"):
        document.apply([known, lost])


@pytest.mark.parametrize("data", [b"", b"junk", b"\x85\x6f\x4a\x83"])
def test_bytes_that_are_no_change_are_an_engine_error(data: bytes) -> None:
    """Whether the engine refuses or drops what it cannot parse, apply raises."""
    document = Document.open(None)
    with pytest.raises(EngineError):
        document.apply([Change(data, b"\x01" * 32, ())])
    assert_dead(document)


def test_a_sequence_number_used_twice_is_an_engine_error() -> None:
    """Two changes of one actor with one number, which wedge the engine, are refused and end the document."""
    document = Document.open(None)
    document.apply([encode_change(b"a", 1, 1, [], [Put("first", "1")])])
    with pytest.raises(EngineError, match="duplicate seq"):
        document.apply([encode_change(b"a", 1, 1, [], [Put("second", "2")])])
    assert_dead(document)


CALLS: dict[str, Callable[[Document], object]] = {
    "apply": lambda document: document.apply([encode_change(b"a", 1, 1, [], [Put("key", "value")])]),
    "items": Document.items,
    "get": lambda document: document.get("key"),
    "heads": Document.heads,
    "save": Document.save,
}


def assert_dead(document: Document) -> None:
    """Every call of a document that failed raises EngineError."""
    for call in CALLS.values():
        with pytest.raises(EngineError, match="has failed before"):
            call(document)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_panic_becomes_an_engine_error_and_ends_the_document(call: Callable[[Document], object]) -> None:
    """A panic of the engine, which no ``except Exception`` catches, is translated; the document is dead from then."""
    document = Document.open(None)
    break_engine(document)
    with pytest.raises(EngineError, match="not yet implemented") as raised:
        call(document)
    panic = raised.value.__cause__
    assert panic is not None
    assert type(panic).__name__ == "PanicException"
    assert not isinstance(panic, Exception)
    assert_dead(document)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_passed_on_and_ends_the_document(interrupt: type[BaseException]) -> None:
    """Ctrl-C in the middle of a call is not an engine's failure, but leaves a document that cannot be trusted."""

    class Interrupted:
        def get_heads(self) -> NoReturn:
            raise interrupt

    document = Document.open(None)
    document._door.engine = cast("core.Document", Interrupted())
    with pytest.raises(interrupt):
        document.heads()
    assert_dead(document)
