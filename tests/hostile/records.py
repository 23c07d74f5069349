"""Records that a member signed, or pretends to have: each wrong in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import orjson
from hypothesis import strategies as st

from cluster_store.core.admission import Incoming
from cluster_store.core.effects import Records
from cluster_store.core.limits import (
    RUN_RECORDS_MAX,
)
from cluster_store.core.records import Envelope, Record, encode, seal_record
from cluster_store.core.types import Epoch, HybridTime, MachineId, RecordId
from tests.core.builders import beginning, following, seal_last, sealed, unsealed, write
from tests.hostile.kinds import IGNORED, RECORD, REFUSED, TAKEN, VOID, WAITS, Kind
from tests.hostile.stage import ANNA, BERT, CLEO, MALLORY, Stage
from tests.strategies import json_values

_REFUSED = frozenset((REFUSED,))
_VOID = frozenset((VOID,))
_WAITS = frozenset((WAITS,))
_TAKEN = frozenset((TAKEN,))
BANNER = "setting/cluster/banner"
_texts = st.text(max_size=40)
_ids = st.text("0123456789abcdef", min_size=64, max_size=64).map(RecordId)


def one(make: Callable[[Stage, Any], Envelope]) -> Callable[[Stage, Any], None]:
    """Return the attack that brings one record of Bert's, honestly sealed, and an honest one behind it."""

    def attack(stage: Stage, drawn: Any) -> None:
        bad = sealed(make(stage, drawn), BERT)
        stage.bring(bad)
        if not stage.closed and stage.state.fact(bad.id) is not None:
            hybrid = HybridTime(stage.state.hybrid + 1)
            stage.bring(sealed(following(bad, hybrid=hybrid, comment="after it"), BERT))

    return attack


def setting(stage: Stage, value: Any = '"x"', path: str = BANNER, *replaced: str, **fields: Any) -> Envelope:
    """Return an envelope of Bert's that sets the banner, or what the fields say."""
    return following(stage.first, **{"writes": (write(path, value, *replaced),), **fields})


# --- not canonical -----------------------------------------------------------------------------------------


def _respelled(stage: Stage, how: str) -> None:
    data = encode(setting(stage, comment="é/"))
    plain = orjson.loads(data)
    spelled = {
        "blanks": orjson.dumps(plain, option=orjson.OPT_INDENT_2),
        "a blank behind": data + b" ",
        "order": orjson.dumps(dict(reversed(plain.items()))),
        "escapes": data.replace("é".encode(), b"\\u00e9"),
        "an escaped slash": data.replace(b"setting/", b"setting\\/"),
        "a member twice": data.replace(b'"seq":2', b'"seq":2,"seq":2'),
        "a member left out": orjson.dumps({k: v for k, v in plain.items() if k != "weak"}, option=orjson.OPT_SORT_KEYS),
        "a member more": orjson.dumps({**plain, "x": 1}, option=orjson.OPT_SORT_KEYS),
        "a fraction for a number": data.replace(b'"seq":2', b'"seq":2.0'),
        "minus nothing": data.replace(b'"params":{}', b'"params":{"a":-0}'),
        "a byte order mark": b"\xef\xbb\xbf" + data,
        "an array": b"[" + data + b"]",
        "nothing": b"{}",
        "half a character": data.replace("é".encode(), b"\\ud800"),
        "bytes that are no UTF-8": data.replace("é".encode(), b"\xff\xfe"),
        "a zero": data.replace("é".encode(), b"\0"),
        "infinity": data.replace(b'"params":{}', b'"params":{"a":1e999}'),
        "not a number": data.replace(b'"params":{}', b'"params":{"a":NaN}'),
        "a huge integer": data.replace(b'"params":{}', b'"params":{"a":1' + b"0" * 400 + b"}"),
    }
    assert spelled[how] != data
    stage.bring_bytes(spelled[how])


_SPELLINGS = (
    *("blanks", "a blank behind", "order", "escapes", "an escaped slash", "a member twice", "a member left out"),
    *("a member more", "a fraction for a number", "minus nothing", "a byte order mark", "an array", "nothing"),
    *("half a character", "bytes that are no UTF-8", "a zero", "infinity", "not a number", "a huge integer"),
)


def _mutated(stage: Stage, drawn: Any) -> None:
    name, value = drawn
    plain = orjson.loads(encode(setting(stage)))
    names = sorted(plain)
    plain[names[name % len(names)]] = value
    try:
        data = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        data = b"{}"
    stage.bring_bytes(data)


def _nested(stage: Stage, drawn: Any) -> None:
    depth, brackets = drawn
    nested = brackets[0] * depth + b"1" + brackets[1] * depth
    stage.bring_bytes(encode(setting(stage)).replace(b'"params":{}', b'"params":{"a":' + nested + b"}"))


# --- chain, seals, authors -----------------------------------------------------------------------------------


def _seals(stage: Stage, how: str) -> None:
    one, two = following(stage.first, comment="one"), following(stage.first, comment="two")
    good = sealed(one, BERT)
    other_cluster = msgspec.structs.replace(two, cluster="f" * 64)
    seal = {
        "of another machine": sealed(one, ANNA).seal,
        "of a stranger": sealed(one, MALLORY).seal,
        "of another record": sealed(two, BERT).seal,
        "of another cluster": sealed(other_cluster, BERT).seal,
        "of the record before": stage.first.seal,
        "zeros": bytes(64),
        "flipped": bytes((good.seal[0] ^ 1, *good.seal[1:])),
        "short": good.seal[:63],
        "none": b"",
    }[how]
    stage.say(Records([Incoming(good.data, seal)]))


_SEALS = (
    *("of another machine", "of a stranger", "of another record", "of another cluster", "of the record before"),
    *("zeros", "flipped", "short", "none"),
)


def _misplaced_seals(stage: Stage, drawn: Any) -> None:
    """A run of several records whose seal stands elsewhere than on its last one."""
    size, at = drawn
    records = []
    before = stage.first
    for _ in range(size):
        before = unsealed(following(before))
        records.append(before)
    good = seal_record(records[-1], BERT.sign).seal
    stage.say(Records([Incoming(r.data, good if number == at % size else b"") for number, r in enumerate(records)]))


def _moved_chain(stage: Stage, how: str) -> None:
    """Records that go on from what they cannot go on from."""
    first, records = stage.first, stage.driver.records
    mine = records[-1] if records[-1].envelope.machine == ANNA.id else records[0]
    good = following(first)
    envelope = {
        "another machine's record": following(first, prev=mine.id),
        "a later record of its own": following(first, seq=5),
        "an earlier number": following(first, seq=1),
        "a huge number": following(first, seq=2**63 - 1),
        "no number": following(first, seq=0),
        "nothing, in the middle": following(first, prev="", seq=2, kind="EpochBegun"),
        "nothing, as no beginning": following(first, prev="", seq=1),
        "another epoch": following(first, epoch=Epoch("f" * 16)),
        "another cluster": following(first, cluster="f" * 64),
        "no cluster": following(first, cluster=""),
        "a stranger's key": following(first, machine=MALLORY.id),
        "in the victim's name": following(mine),
        "in an honest member's name": following(first, machine=CLEO.id),
        "in a name that is none": following(first, machine=MachineId("\x1b[2J" * 8)),
        "an upper case hash": msgspec.structs.replace(good, prev=first.id.upper()),
        "a hash that is none": msgspec.structs.replace(good, prev="z" * 64),
    }[how]
    stage.bring(sealed(envelope, BERT))


_CHAINS = (
    *("another machine's record", "a later record of its own", "an earlier number", "a huge number", "no number"),
    *("nothing, in the middle", "nothing, as no beginning", "another epoch", "another cluster", "no cluster"),
    *("a stranger's key", "in the victim's name", "in an honest member's name", "in a name that is none"),
    *("an upper case hash", "a hash that is none"),
)


def _begin(stage: Stage, how: str) -> None:
    """Feeds begun by those who may not, or in another way than they may."""
    admission = next(r for r in stage.driver.records if r.envelope.kind == "MachineAdmitted")
    begun = beginning(BERT, admission, epoch=Epoch("f" * 16), hybrid=HybridTime(stage.state.hybrid + 1))
    record = {
        "without an admission": sealed(msgspec.structs.replace(begun, params={}), BERT),
        "with an admission that is none": sealed(msgspec.structs.replace(begun, params={"admission": 17}), BERT),
        "with another machine's admission": sealed(
            msgspec.structs.replace(begun, params={"admission": stage.driver.records[0].id}), BERT
        ),
        "with its own record as admission": sealed(
            msgspec.structs.replace(begun, params={"admission": stage.first.id}, after=()), BERT
        ),
        "by a stranger": sealed(beginning(MALLORY, admission), MALLORY),
        "by a stranger who brings a key": sealed(
            beginning(MALLORY, admission, writes=(write(f"machine/{MALLORY.id}/key", MALLORY.key_text),)), MALLORY
        ),
        "as a second creator": sealed(
            msgspec.structs.replace(
                begun, kind="MachineInitialised", params={}, writes=(write(f"machine/{BERT.id}/key", BERT.key_text),)
            ),
            BERT,
        ),
    }[how]
    stage.bring(record)


_BEGINNINGS = (
    *("without an admission", "with an admission that is none", "with another machine's admission"),
    *("with its own record as admission", "by a stranger", "by a stranger who brings a key", "as a second creator"),
)


# --- replays, orders, branches ---------------------------------------------------------------------------------


def _replay(stage: Stage, picks: Any) -> None:
    """Bring what is known already, sealed as it is, in any order."""
    known = [record for record in stage.driver.records if record.seal]
    for pick in picks:
        stage.bring(*[known[at % len(known)] for at in pick])


def _tail(stage: Stage, size: int) -> list[Record]:
    records, before = [], stage.first
    for number in range(size):
        before = sealed(following(before, comment=str(number)), BERT)
        records.append(before)
    return records


def _reordered(stage: Stage, order: Any) -> None:
    """Bring honest records in any order, some twice, some not at all."""
    records = _tail(stage, 5)
    for batch in order:
        if not stage.closed and batch:
            stage.bring(*[records[at] for at in batch])


def _branches(stage: Stage, shape: Any) -> None:
    """Branch on purpose, anywhere."""
    records = [stage.first]
    for number, parent in enumerate(shape):
        before = records[parent % len(records)]
        records.append(
            sealed(following(before, comment=f"branch {number}", writes=(write(BANNER, str(number)),)), BERT)
        )
    stage.bring(*records)


def _epochs(stage: Stage, count: int) -> None:
    admission = next(
        r for r in stage.driver.records if any(w.path == f"machine/{BERT.id}/key" for w in r.envelope.writes)
    )
    stage.bring(*[sealed(beginning(BERT, admission, epoch=Epoch(f"{number:016x}")), BERT) for number in range(count)])


def _long_run(stage: Stage, more: int) -> None:
    envelopes = []
    before = stage.first
    for _ in range(RUN_RECORDS_MAX + more):
        envelopes.append(following(before))
        before = unsealed(envelopes[-1])
    stage.bring(*seal_last(envelopes, BERT))


def _past(stage: Stage, drawn: Any) -> Envelope:
    """Come after what nobody has."""
    where, unknown = drawn
    if where == "after":
        return setting(stage, after=tuple(sorted(unknown)))
    if where == "replaced":
        return setting(stage, '"x"', BANNER, *unknown)
    return following(stage.first, prev=unknown[0])


def _future(stage: Stage, drawn: Any) -> None:
    version, more = drawn
    plain = orjson.loads(encode(setting(stage)))
    data = orjson.dumps({**plain, "v": version, **more}, option=orjson.OPT_SORT_KEYS)
    stage.bring_bytes(data)


def _own_history(stage: Stage, _: Any) -> None:
    """Say with a stolen shape what the victim wrote: its own record with another comment, sealed by the attacker."""
    mine = next(record for record in reversed(stage.driver.records) if record.envelope.machine == ANNA.id)
    stage.bring(sealed(msgspec.structs.replace(mine.envelope, comment="not mine"), BERT))


RECORDS = [
    Kind(RECORD, "an envelope that is not canonical", st.sampled_from(_SPELLINGS), _respelled, _REFUSED),
    Kind(
        RECORD,
        "an envelope with a member of another type or size",
        st.tuples(st.integers(0, 20), json_values),
        _mutated,
        frozenset((REFUSED, WAITS, VOID, TAKEN, IGNORED)),
    ),
    Kind(
        RECORD,
        "parameters nested to any depth",
        st.tuples(st.integers(300, 60_000), st.sampled_from(((b"[", b"]"), (b'{"a":', b"}")))),
        _nested,
        _REFUSED,
    ),
    Kind(RECORD, "random bytes under a true seal", st.binary(min_size=2, max_size=300), Stage.bring_bytes, _REFUSED),
    Kind(RECORD, "a forged, foreign or missing seal", st.sampled_from(_SEALS), _seals, _REFUSED),
    Kind(
        RECORD,
        "a seal that stands in the middle of its run",
        st.tuples(st.integers(2, 6), st.integers(0, 5)).filter(lambda drawn: drawn[1] % drawn[0] != drawn[0] - 1),
        _misplaced_seals,
        _REFUSED,
    ),
    Kind(
        RECORD,
        "a record that goes on from what it cannot, or in a name not its own",
        st.sampled_from(_CHAINS),
        _moved_chain,
        frozenset((REFUSED, WAITS)),
    ),
    Kind(RECORD, "a feed begun without leave", st.sampled_from(_BEGINNINGS), _begin, frozenset((REFUSED, VOID))),
    Kind(RECORD, "the victim's own record, changed", st.none(), _own_history, _REFUSED),
    Kind(
        RECORD,
        "known records again, in any order",
        st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=6), max_size=4),
        _replay,
        frozenset((IGNORED, REFUSED)),
    ),
    Kind(
        RECORD,
        "honest records in any order, twice or not at all",
        st.lists(st.lists(st.integers(0, 4), max_size=5), max_size=5),
        _reordered,
        frozenset((IGNORED, WAITS, TAKEN)),
    ),
    Kind(RECORD, "branches on purpose", st.lists(st.integers(0, 30), min_size=2, max_size=30), _branches, _TAKEN),
    Kind(RECORD, "epochs without end", st.integers(1, 60), _epochs, _TAKEN),
    Kind(RECORD, "a run longer than any author makes", st.integers(1, 3), _long_run, _REFUSED),
    Kind(
        RECORD,
        "a past that nobody has",
        st.tuples(st.sampled_from(("after", "replaced", "prev")), st.lists(_ids, min_size=1, max_size=5, unique=True)),
        one(_past),
        _WAITS,
    ),
    Kind(
        RECORD,
        "replaces what is no record's id",
        st.lists(_texts, min_size=1, max_size=4),
        one(lambda stage, replaced: setting(stage, '"x"', BANNER, *replaced)),
        _WAITS,
    ),
    Kind(
        RECORD,
        "replaces records that wrote nothing there",
        st.integers(0, 20),
        one(lambda stage, at: setting(stage, '"x"', BANNER, stage.driver.records[at % len(stage.driver.records)].id)),
        _TAKEN,
    ),
    Kind(
        RECORD,
        "a later format",
        st.tuples(
            st.integers(2, 2**64 - 1), st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 9), max_size=3)
        ),
        _future,
        frozenset((WAITS, REFUSED)),
    ),
]
