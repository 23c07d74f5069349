"""Random histories of derived changes, as the project makes them, and the causal orders they may arrive in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from cluster_store.core.document import Change, Delete, Operation, Put, encode_change

#: Texts at the edges of the format: empty, beyond ASCII, and around the lengths where a size takes another byte.
TEXTS = (
    "",
    "a",
    '"mail.example.com"',
    "Grüße, Zürich",
    "日本語",
    "😀\U0010ffff",
    "\x00\x7f\n",
    *("x" * size for size in (3, 4, 7, 8, 63, 64, 127, 128, 1023, 1024, 1025, 20_000)),
)

#: Actors of the lengths that a hash, a branch or another program may have.
ACTORS = (b"\x00", b"\x01", b"\x01\x02", b"machine a epoch 1", b"\xff" * 16, b"\x80" * 32, bytes(range(130)))


@dataclass(frozen=True)
class Derived:
    """One change with all that it was encoded from."""

    actor: bytes
    seq: int
    start_op: int
    operations: tuple[Operation, ...]
    change: Change

    @property
    def end_op(self) -> int:
        """The number of the last operation."""
        return self.start_op + len(self.operations) - 1


@dataclass
class History:
    """Changes in the order of their making, and what the naive twin, a dict, holds after all of them."""

    derived: list[Derived] = field(default_factory=list)
    content: dict[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> list[Change]:
        """The changes alone."""
        return [derived.change for derived in self.derived]

    def heads(self) -> tuple[bytes, ...]:
        """Return the hashes that no change depends on, sorted."""
        named = {dep for change in self.changes for dep in change.deps}
        return tuple(sorted(change.hash for change in self.changes if change.hash not in named))


def derived_history(dice: Random, actors: Sequence[bytes], size: int) -> History:
    """Return a history in which any writer deletes any key put before, standing or not.

    A change depends on its writer's change before and on those that put what it deletes, as in the product.
    """
    history = History()
    last: dict[bytes, Derived] = {}
    puts: dict[str, tuple[int, Derived]] = {}
    for number in range(size):
        actor = dice.choice(actors)
        gone = _keys_to_delete(dice, history, puts)
        own = last.get(actor)
        needed = [*([own] if own else []), *(puts[key][1] for key in gone)]
        operations: list[Operation] = [Delete(key, puts[key][0], puts[key][1].actor) for key in gone]
        operations += [
            Put(f"{dice.choice(TEXTS)[:200]}@{number}.{part}", dice.choice(TEXTS))
            for part in range(dice.choice((1, 1, 1, 1, 2, 5)) if gone else 1)
        ]
        if dice.random() < 0.5:
            operations.reverse()
        seq = own.seq + 1 if own else 1
        start_op = 1 + max((derived.end_op for derived in needed), default=0)
        change = encode_change(actor, seq, start_op, [derived.change.hash for derived in needed], operations)
        made = Derived(actor, seq, start_op, tuple(operations), change)
        history.derived.append(made)
        last[actor] = made
        for op, operation in enumerate(operations, start_op):
            if isinstance(operation, Put):
                puts[operation.key] = op, made
                history.content[operation.key] = operation.value
            else:
                history.content.pop(operation.key, None)
    return history


def _keys_to_delete(dice: Random, history: History, puts: dict[str, tuple[int, Derived]]) -> list[str]:
    """Draw mostly one standing key; now and then several, among them keys that others deleted before."""
    from_all = dice.random() < 0.2
    pool = list(puts if from_all else history.content)
    return dice.sample(pool, min(len(pool), dice.choice((0, 1, 1, 1, 2, 3))))


def causal_order(dice: Random, changes: Sequence[Change]) -> list[Change]:
    """Return the changes in another order, each behind all that it depends on."""
    waiting, present, ordered = list(changes), set[bytes](), list[Change]()
    while waiting:
        ready = [change for change in waiting if present.issuperset(change.deps)]
        change = dice.choice(ready)
        waiting.remove(change)
        present.add(change.hash)
        ordered.append(change)
    return ordered


def batches(dice: Random, changes: Sequence[Change]) -> list[Sequence[Change]]:
    """Return the changes cut into batches of random sizes."""
    cut, start = list[Sequence[Change]](), 0
    while start < len(changes):
        end = start + dice.choice((1, 1, 2, 3, 10, 50))
        cut.append(changes[start:end])
        start = end
    return cut
