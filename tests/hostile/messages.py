"""Messages that are well formed and do not belong where they are said."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cluster_store.core.causality import LEAF_HASH_DIGITS, Leaf, vector
from cluster_store.core.effects import PROTOCOL, Ack, Bye, CaughtUp, Records, Standing, Twin
from cluster_store.core.records import SEAL_BYTES, Record
from cluster_store.core.types import Epoch, MachineId, RecordId
from tests.core.builders import following, identity, incoming, sealed, write
from tests.hostile.kinds import DROPPED, IGNORED, MESSAGE, REFUSED, TAKEN, Kind
from tests.hostile.stage import ANNA, BERT, CLEO, Stage

_REFUSED = frozenset((REFUSED,))
_IGNORED = frozenset((IGNORED,))
_numbers = st.one_of(st.integers(-(2**63), 2**64 - 1), st.integers(-3, 5))
_hash = st.text("0123456789abcdef", min_size=LEAF_HASH_DIGITS, max_size=LEAF_HASH_DIGITS)
_words = st.text(max_size=64)


@st.composite
def _leaves(draw: st.DrawFn) -> list[Any]:
    """Draw entries of a vector: of real feeds and of none, true and untrue, in and beyond what there is."""
    machine = st.sampled_from((ANNA.id, BERT.id, CLEO.id, identity("nobody").id))
    return draw(st.lists(st.tuples(machine, st.booleans(), st.integers(1, 40), st.booleans(), _hash), max_size=40))


def _claim(stage: Stage, drawn: Any) -> None:
    """Say hello with a vector of claims, then let all go on that follows from it."""
    leaves = []
    known = {leaf.machine: leaf for leaf in vector(stage.state.lines.values())}
    ids = {(record.envelope.machine, record.envelope.seq): record.id for record in stage.driver.records}
    for machine, real, seq, true, digits in drawn:
        epoch = known[machine].epoch if real and machine in known else Epoch("e" * 16)
        told = ids[machine, seq][:LEAF_HASH_DIGITS] if true and (machine, seq) in ids else digits
        leaves.append(Leaf(machine, epoch, seq if seq < 30 else 2**63 - seq, told))
    stage.say(stage.hello(vector=leaves), *(message for count in range(1, 4) for message in (Ack(count), CaughtUp())))


def _future(stage: Stage, drawn: Any) -> None:
    protocol, name, value = drawn
    import msgspec  # noqa: PLC0415 - only here

    body = msgspec.to_builtins(stage.hello(protocol=protocol))
    stage.raw({**body, f"x{name}": value})


def _records(stage: Stage) -> Records:
    return Records([incoming(sealed(following(stage.first), BERT))])


def _early(stage: Stage, which: int) -> None:
    stage.say([_records(stage), Ack(1), CaughtUp(), Twin("a", Epoch("")), Ack(-1)][which])


def _shuffled(stage: Stage, order: Any) -> None:
    """Say honest messages in any order, any number of times."""
    say = {
        "hello": stage.hello(),
        "records": _records(stage),
        "ack": Ack(1),
        "caught up": CaughtUp(),
        "bye": Bye("dropped", ""),
        "empty": Records([]),
    }
    stage.say(*(say[name] for name in order))


#: What is shown to a machine that is told to be removed, and proves nothing.
_UNPROVEN = ("nothing", "bytes", "no seal", "a seal of bytes", "another's seal", "another record", "bytes before it")


def _dismissal(stage: Stage, drawn: Any) -> None:
    """Say that this machine was removed, and show something else than the record that did it."""
    which, data, seal = drawn
    true = _removal(stage)
    shown = {
        "nothing": (b"", b""),
        "bytes": (data, seal),
        "no seal": (true.data, b""),
        "a seal of bytes": (true.data, seal),
        "another's seal": (true.data, sealed(true.envelope, CLEO).seal),
        "another record": (stage.first.data, stage.first.seal),
        "bytes before it": (data + true.data, true.seal),
    }
    stage.say(Bye("removed", "out", *shown[which]))
    assert stage.driver.replica.dismissals.shown is None


def _removal(stage: Stage) -> Record:
    """Return a true record of Bert's, which nobody else has, that removes Anna."""
    writes = (write(f"machine/{ANNA.id}/removed", f'["{BERT.id}"]'),)
    return sealed(following(stage.first, kind="MachinesRemoved", writes=writes), BERT)


def _dismissed(stage: Stage, _: None) -> None:
    """Say that this machine was removed, and show that it is so."""
    record = _removal(stage)
    stage.say(Bye("removed", "out", record.data, record.seal), _records(stage))
    assert stage.driver.replica.dismissals.shown is not None


MESSAGES = [
    Kind(
        MESSAGE,
        "something else than a hello first",
        st.integers(0, 4),
        _early,
        _REFUSED,
        greeted=False,
    ),
    Kind(MESSAGE, "a second hello", st.none(), lambda stage, _: stage.say(stage.hello()), _REFUSED),
    Kind(
        MESSAGE,
        "a hello of another cluster",
        _words.filter(lambda text: len(text) < 64),
        lambda stage, cluster: stage.say(stage.hello(cluster=cluster)),
        _REFUSED,
        greeted=False,
    ),
    Kind(
        MESSAGE,
        "a hello in another machine's name",
        st.one_of(st.sampled_from((ANNA.id, CLEO.id)), _words),
        lambda stage, machine: stage.say(stage.hello(machine=MachineId(machine))),
        _REFUSED,
        greeted=False,
    ),
    Kind(
        MESSAGE,
        "a hello of another protocol, with members of its own",
        st.tuples(_numbers.filter(lambda number: number != PROTOCOL), _words, st.integers(0, 5)),
        _future,
        _REFUSED,
        greeted=False,
    ),
    Kind(
        MESSAGE,
        "a hello of another version, control characters among its letters",
        _words.filter(lambda text: text not in ("", "1.0")),
        lambda stage, version: stage.say(stage.hello(version=version)),
        _REFUSED,
        greeted=False,
    ),
    Kind(
        MESSAGE,
        "a hello from any time",
        _numbers,
        lambda stage, time: stage.say(stage.hello(time=time)),
        _IGNORED,
        greeted=False,
    ),
    Kind(MESSAGE, "a vector that claims anything", _leaves(), _claim, _IGNORED, greeted=False),
    Kind(
        MESSAGE,
        "detachments that nobody wrote",
        st.lists(st.tuples(st.sampled_from((ANNA.id, BERT.id, CLEO.id, "x")), _hash), max_size=20),
        lambda stage, drawn: stage.say(
            stage.hello(detached=[Standing(MachineId(machine), RecordId(record)) for machine, record in drawn]),
            _records(stage),
        ),
        frozenset((TAKEN, IGNORED, DROPPED)),
        greeted=False,
    ),
    Kind(
        MESSAGE,
        "acknowledgements of what was never sent, backwards, again",
        st.lists(_numbers, max_size=10),
        lambda stage, counts: stage.say(*map(Ack, counts)),
        _IGNORED,
    ),
    Kind(
        MESSAGE,
        "the word that all was sent, again and again",
        st.integers(1, 30),
        lambda stage, count: stage.say(*[CaughtUp()] * count),
        _IGNORED,
    ),
    Kind(
        MESSAGE,
        "a leave in any words",
        st.tuples(_words, st.text(max_size=100)),
        lambda stage, drawn: stage.say(Bye(*drawn), _records(stage)),
        frozenset((DROPPED,)),
    ),
    Kind(
        MESSAGE,
        "the word that this machine was removed, with what proves nothing",
        st.tuples(
            st.sampled_from(_UNPROVEN),
            st.binary(min_size=1, max_size=100),
            st.binary(max_size=SEAL_BYTES),
        ),
        _dismissal,
        frozenset((DROPPED,)),
    ),
    Kind(
        MESSAGE,
        "a true record that removes this machine, beside the log",
        st.none(),
        _dismissed,
        frozenset((DROPPED,)),
    ),
    Kind(
        MESSAGE,
        "batches without records",
        st.integers(1, 30),
        lambda stage, count: stage.say(*[Records([])] * count),
        _IGNORED,
    ),
    Kind(
        MESSAGE,
        "honest messages in any order, any number of times",
        st.lists(st.sampled_from(("hello", "records", "ack", "caught up", "bye", "empty")), max_size=12),
        _shuffled,
        frozenset((TAKEN, IGNORED, REFUSED, DROPPED)),
        greeted=False,
    ),
]
