"""What a record does to the documents depends on the record and on what stands, and on nothing else."""

from __future__ import annotations

from cluster_store.core.derivation import Derived, derive
from cluster_store.core.registers import Lane, Place, Write
from cluster_store.core.types import Path, RecordId


def test_what_is_derived_does_not_depend_on_the_order_in_which_lanes_are_held() -> None:
    """A process that has read its lanes from a store holds them in another order than one that saw them come."""
    path = Path("setting/cluster/key")
    lanes = tuple(
        Lane(RecordId(name * 64), '"x"', 1, weak=False, place=Place(bytes([ord(name)] * 16), 1, name.encode() * 32, 1))
        for name in "ab"
    )
    write = Write(path, '"y"', tuple(lane.id for lane in lanes))

    def derived_with(held: tuple[Lane, ...]) -> Derived:
        return derive(RecordId("c" * 64), 2, b"c" * 16, [write], lambda _: held, lambda _: None, weak=False)

    derived = [derived_with(lanes), derived_with(lanes[::-1])]
    assert derived[0].changes == derived[1].changes
    assert derived[0].taken == derived[1].taken
