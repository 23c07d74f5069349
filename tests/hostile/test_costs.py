"""What a member can make others do grows no faster than what it sends, and nobody's memory is for it to fill."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_store.core import wire
from cluster_store.core.admission import Incoming, split
from cluster_store.core.causality import LEAF_HASH_DIGITS, Leaf, vector
from cluster_store.core.effects import CaughtUp, Hello
from cluster_store.core.errors import Malformed
from cluster_store.core.limits import (
    FRAME_BYTES_MAX,
    PARAMS_BYTES_MAX,
    REPLACED_PER_WRITE_MAX,
    VECTOR_LEAVES_MAX,
)
from cluster_store.core.records import Record, encode
from tests.core.builders import following, sealed, write
from tests.core.driving import hello
from tests.hostile.stage import BERT, CLEO, Stage

#: How many times as much memory as it has bytes an envelope of a hostile member may take for a moment: 250 MB, of the
#: largest.
MEMORY_FACTOR_MAX = 30


def branched(count: int) -> Stage:
    """Return a store with so many branches of Bert's feed, all of them from his first record."""
    stage = Stage()
    records = [sealed(following(stage.first, comment=str(number)), BERT) for number in range(count)]
    for start in range(0, count, 400):
        stage.bring(*records[start : start + 400])
    assert len(stage.state.lines) >= count
    return stage


def seconds(work: Callable[[], Any]) -> float:
    """Return the processor time that something takes."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _greet(stage: Stage, leaves: Iterable[Leaf]) -> Callable[[], Any]:
    def work() -> None:
        stage.driver.greet(CLEO.id, list(leaves), 3)
        stage.driver.receive(CaughtUp(), 3)
        session = stage.driver.replica.sessions[3]
        assert session.ahead(stage.state) >= 0
        assert session.behind(stage.state) >= 0

    return work


def _untrue(leaves: Iterable[Leaf]) -> list[Leaf]:
    return [msgspec.structs.replace(leaf, hash="f" * LEAF_HASH_DIGITS) for leaf in leaves]


WORK: dict[str, Callable[[Stage], Callable[[], Any]]] = {
    "the next change": lambda stage: lambda: stage.driver.set("a"),
    "a hello from a machine that has it all": lambda stage: _greet(stage, vector(stage.state.lines.values())),
    "a hello that claims as many other branches": lambda stage: _greet(
        stage, _untrue(vector(stage.state.lines.values()))
    ),
    "a restart": lambda stage: stage.driver.restart,
}


def test_the_costs_of_branches_grow_with_their_number() -> None:
    """Ten times as many cost about ten times as much; a hundred times would be the square."""
    few, many = branched(300), branched(3000)
    for what, prepare in WORK.items():
        small = min(seconds(prepare(few)) for _ in range(3))
        large = min(seconds(prepare(many)) for _ in range(3))
        assert large < max(45 * small, 0.05), f"{what}: {small:.4f} s for 300 branches, {large:.4f} s for 3,000"


def test_a_record_names_as_many_branches_as_it_may_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than a record can name do not keep anybody from writing."""
    stage = branched(30)
    monkeypatch.setattr("cluster_store.core.authoring.AFTER_MAX", 20)
    stage.driver.set("a", "1")
    assert len(stage.driver.records[-1].envelope.after) == 20
    assert not stage.driver.log.records[-1].void


def test_a_hello_tells_of_so_many_branches_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were written to last: a peer may send the others again, which does no harm."""
    stage = branched(30)
    monkeypatch.setattr("cluster_store.core.causality.VECTOR_LEAVES_MAX", 20)
    stage.driver.link(CLEO.id, 3)
    said = stage.driver.sent[-1]
    assert isinstance(said, Hello)
    assert len(said.vector) == 20
    newest = sorted(stage.state.lines.values(), key=lambda line: line.position)[-20:]
    assert said.vector == vector(newest)
    assert VECTOR_LEAVES_MAX >= 20


def test_a_register_with_too_many_lanes_can_still_be_written() -> None:
    """A write takes as many of them away as it may, the strongest first; the next ones take the rest."""
    stage = Stage()
    records = [
        sealed(following(stage.first, comment=str(n), writes=(write("setting/cluster/k", str(n)),)), BERT)
        for n in range(REPLACED_PER_WRITE_MAX + 5)
    ]
    for start in range(0, len(records), 400):
        stage.bring(*records[start : start + 400])
    path = stage.driver.records[-1].envelope.writes[0].path
    stage.driver.set("k", '"mine"')
    assert [lane.value for lane in stage.state.lanes[path]].count('"mine"') == 1
    assert len(stage.state.lanes[path]) == 6
    stage.driver.set("k", '"mine again"')
    assert [lane.value for lane in stage.state.lanes[path]] == ['"mine again"']


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(0, 50), max_size=3)), max_size=25))
def test_a_record_names_exactly_the_heads_that_no_record_came_after(shape: list[tuple[int, list[int]]]) -> None:
    """A naive twin agrees: of all that its author has not told of, what is in nobody else's past."""
    stage = Stage()
    stage.driver.set("told", "1")
    known = [*stage.driver.records, stage.first]
    made: list[Record] = []
    for number, (parent, seen) in enumerate(shape):
        mine = [stage.first, *made]
        before = mine[parent % len(mine)]
        after = tuple(dict.fromkeys(made[at % len(made)].id for at in seen)) if made else ()
        after = tuple(sorted(record for record in after if record != before.id))
        hybrid = stage.state.hybrid + 1 + number
        made.append(sealed(following(before, after=after, hybrid=hybrid, comment=str(number)), BERT))
        stage.bring(made[-1])
        assert not stage.closed
    followed = {record.envelope.prev for record in made} | {seen for record in made for seen in record.envelope.after}
    stage.driver.set("next", "1")
    assert set(stage.driver.records[-1].envelope.after) == {record.id for record in made} - followed
    assert known


# --- memory ------------------------------------------------------------------------------------------------------


def _frame(body: bytes) -> bytes:
    return b"\1" + zstandard.ZstdCompressor(level=1).compress(body)


def _hungry(stage: Stage) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return the worst that can be put into a frame: how many bytes it unpacks to, and what is done with it."""
    size = FRAME_BYTES_MAX // 16
    items = msgspec.msgpack.encode({"type": "Records", "items": []})[:-1]
    secret = msgspec.msgpack.encode(["k", bytes(16), "1"])
    count = size // len(secret)
    secrets = items + b"\x91\x93\xc4\x02{}\xc4\x00\xdd" + count.to_bytes(4) + secret * count
    envelope = encode(following(stage.first))

    def params(text: bytes) -> bytes:
        return envelope.replace(b'"params":{}', b'"params":{"a":[' + text + b"1]}")

    small = params(b"[]," * 1200)
    names = params(b'"ab",' * (PARAMS_BYTES_MAX // 6))
    writes = envelope.replace(b'"writes":[]', b'"writes":[' + b'["",null,[]],' * (size // 13) + b'["",null,[]]]')
    seal = bytes(64)
    return {
        "secrets": (len(secrets), lambda: wire.decode(_frame(secrets))),
        "small parameters": (50 * len(small), lambda: split([Incoming(small, seal)] * 50)),
        "names as parameters": (4 * len(names), lambda: split([Incoming(names, seal)] * 4)),
        "brackets": (size, lambda: split([Incoming(params(b"[]," * (size // 3)), seal)])),
        "writes": (len(writes), lambda: split([Incoming(writes, seal)])),
        "nothing": (size, lambda: wire.decode(_frame(bytes(size)))),
        "text": (size, lambda: wire.decode(_frame(b"\x81\xa4type\xdb" + (size - 10).to_bytes(4) + bytes(size - 10)))),
    }


@pytest.mark.parametrize("what", list(_hungry(Stage())))
def test_a_frame_takes_little_memory(what: str) -> None:
    """However it is made, reading it takes a bounded multiple of what it unpacks to, which is bounded too."""
    size, work = _hungry(Stage())[what]
    tracemalloc.start()
    try:
        try:
            kept = work()
        except Malformed:
            kept = None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del kept
    assert peak < MEMORY_FACTOR_MAX * size, f"{peak / size:.1f} times as much"


def test_what_a_peer_claims_is_forgotten_with_the_next_step() -> None:
    """Records that were looked up for its hello are not kept for it."""
    stage = branched(20)
    leaves = [
        Leaf(record.envelope.machine, record.envelope.epoch, record.envelope.seq, record.id[:LEAF_HASH_DIGITS])
        for record in stage.driver.records
    ]
    stage.driver.link(CLEO.id, 3)
    stage.driver.receive(hello(stage.driver, CLEO.id, leaves), 3)
    stage.driver.set("a")
    assert not stage.state.steps
    assert not stage.state.absent
