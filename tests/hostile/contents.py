"""Records that are authentic, and hold what no honest author would write."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from hypothesis import strategies as st

from cluster_store.core.admission import Incoming
from cluster_store.core.effects import Records
from cluster_store.core.events import KINDS as EVENT_KINDS
from cluster_store.core.limits import (
    AFTER_MAX,
    COMMENT_BYTES_MAX,
    ENVELOPE_BYTES_MAX,
    HYBRID_MAX,
    JSON_DEPTH_MAX,
    PARAMS_BYTES_MAX,
    PATH_BYTES_MAX,
    REPLACED_PER_WRITE_MAX,
    TIME_MAX,
    VALUE_BYTES_MAX,
    WRITES_PER_EVENT_MAX,
)
from cluster_store.core.records import Envelope, encode
from cluster_store.core.registers import Secret
from cluster_store.core.types import RecordId
from tests.core.builders import admitting, following, sealed, write
from tests.hostile.kinds import DROPPED, RECORD, REFUSED, TAKEN, VOID, WAITS, Kind
from tests.hostile.records import BANNER, one, setting
from tests.hostile.stage import ANNA, BERT, CLEO, MALLORY, Stage
from tests.strategies import json_values

_REFUSED = frozenset((REFUSED,))
_VOID = frozenset((VOID,))
_WAITS = frozenset((WAITS,))
_TAKEN = frozenset((TAKEN,))
_texts = st.text(max_size=40)
_ids = st.text("0123456789abcdef", min_size=64, max_size=64).map(RecordId)


# --- over the limits of a record ---------------------------------------------------------------------------------


def _over(stage: Stage, what: str) -> Envelope:
    known = [record.id for record in stage.driver.records]
    return {
        "comment": lambda: setting(stage, comment="x" * (COMMENT_BYTES_MAX + 1)),
        "user": lambda: setting(stage, user="é" * (COMMENT_BYTES_MAX // 2 + 1)),
        "how it was authenticated": lambda: setting(stage, auth="x" * (COMMENT_BYTES_MAX + 1)),
        "hybrid time of nothing": lambda: setting(stage, hybrid=0),
        "hybrid time": lambda: setting(stage, hybrid=HYBRID_MAX + 1),
        "hybrid time that a signed integer holds": lambda: setting(stage, hybrid=2**63 - 1),
        "time": lambda: setting(stage, time=TIME_MAX + 1),
        "path": lambda: setting(stage, path="setting/cluster/" + "x" * PATH_BYTES_MAX),
        "value": lambda: setting(stage, '"' + "x" * VALUE_BYTES_MAX + '"'),
        "value's depth": lambda: setting(stage, "[" * (JSON_DEPTH_MAX + 1) + "]" * (JSON_DEPTH_MAX + 1)),
        "lanes replaced": lambda: setting(stage, '"x"', BANNER, *[known[0]] * (REPLACED_PER_WRITE_MAX + 1)),
        "predecessors": lambda: setting(stage, after=(RecordId(known[0]),) * (AFTER_MAX + 1)),
        "writes": lambda: following(
            stage.first,
            writes=tuple(write(f"setting/cluster/k{n}", "1") for n in range(WRITES_PER_EVENT_MAX + 1)),
        ),
    }[what]()


_LIMITS = (
    *("comment", "user", "how it was authenticated", "hybrid time of nothing", "hybrid time"),
    *("hybrid time that a signed integer holds", "time", "path", "value", "value's depth", "lanes replaced"),
    *("predecessors", "writes"),
)


def _too_large(stage: Stage, what: str) -> None:
    data = encode(setting(stage))
    if what == "envelope":
        stage.bring_bytes(data[:-1] + b" " * (ENVELOPE_BYTES_MAX - len(data) + 1) + b"}")
    elif what == "parameters":
        stage.bring_bytes(data.replace(b'"params":{}', b'"params":{"a":[' + b"[]," * (PARAMS_BYTES_MAX // 3) + b"1]}"))
    else:
        stage.bring_bytes(data.replace(b'"params":{}', b'"params":' + b"[" * (1 << 20)))


# --- registers ---------------------------------------------------------------------------------------------------

_REGISTERS = (
    *("cluster/name", "cluster/by", "group/paris/name", "group/paris/created", "group/paris/deleted", "user/admin"),
    *("group/main_group/deleted", "group/new/created", "user/eve", "kind/banner", "kind/new", BANNER),
    *("element/cluster/new/1", "element/group/paris/new/%22a%22", "setting/group/gone/k", "announced/x"),
    *(f"machine/{ANNA.id}/{name}" for name in ("hostname", "serial", "group", "interfaces", "version", "ssh_port")),
    *(f"machine/{ANNA.id}/{name}" for name in ("listen", "address", "host_key", "client_key", "detached", "removal")),
    *(f"machine/{CLEO.id}/{name}" for name in ("hostname", "group", "ssh_port", "host_key", "epoch:x", "detached")),
)
#: Text that is JSON, of any shape; some that readers stumble over.
_json = st.one_of(
    json_values.map(lambda value: msgspec.json.encode(value).decode()),
    st.sampled_from(
        ('"\\u0000"', "1e999", "-0", '{"a":1,"a":2}', "1" * 5000, '"\\ud83d\\ude00"', "[]", "{}", '""', '"\\u001b[2J"')
    ),
)


def kind_for(path: str) -> str:
    """Return a kind of event that may write to a register."""
    return next(
        kind
        for kind, allowed in sorted(EVENT_KINDS.items(), reverse=True)
        if path.startswith(allowed) and kind not in ("MachinesRemoved", "MachineInitialised", "EpochBegun")
    )


def _scribble(stage: Stage, drawn: Any) -> Envelope:
    """Write anything that is JSON into any register, as the kind of event that may."""
    path, value, weak = drawn
    kind = kind_for(path)
    return following(stage.first, kind=kind, weak=weak, writes=(write(path, value),))


def _path_of(stage: Stage, path: str) -> Envelope:
    return setting(stage, path=path)


def _secrets(stage: Stage, drawn: Any) -> None:
    """Beside an honest record of a secret, anything but its value."""
    how, text, salt = drawn
    true = hashlib.sha256(salt + b'"hush"').hexdigest()
    record = sealed(setting(stage, Secret(true if how != "hash" else "x" * 64)), BERT)
    beside = {
        "text": ((BANNER, salt, text),),
        "salt": ((BANNER, salt[::-1], '"hush"'),),
        "path": (("setting/cluster/other", salt, '"hush"'), ("\x1b[2J", salt, text)),
        "twice": ((BANNER, salt, '"hush"'), (BANNER, salt, text)),
        "hash": ((BANNER, salt, '"hush"'),),
    }[how]
    stage.say(Records([Incoming(record.data, record.seal, beside)]))


def _kinds_misused(stage: Stage, drawn: Any) -> Envelope:
    kind, path = drawn
    return following(stage.first, kind=kind, writes=(write(path, '"x"'),))


_misused = st.tuples(st.sampled_from(sorted(EVENT_KINDS)), st.sampled_from(_REGISTERS)).filter(
    lambda pair: not pair[1].startswith(EVENT_KINDS[pair[0]])
)
_unpaths = st.one_of(
    _texts,
    st.sampled_from(
        (
            *("setting/cluster/", "setting/cluster/a/b", "setting/cluster/%41", "setting/cluster/%ff", "setting//a"),
            *("setting/cluster/..\x00", "SETTING/cluster/a", "setting/cluster/a@b c", "/", "", "machine/x", "é"),
        )
    ),
)


def _removals(stage: Stage, drawn: Any) -> Envelope:
    value, replaced = drawn
    path = f"machine/{CLEO.id}/removed"
    return following(stage.first, kind="MachinesRemoved", writes=(write(path, value, *replaced),))


def _keys(stage: Stage, value: Any) -> Envelope:
    return admitting(stage.first, MALLORY, writes=(write(f"machine/{MALLORY.id}/key", value),))


CONTENTS = [
    Kind(
        RECORD,
        "an envelope or its parameters too large",
        st.sampled_from(("envelope", "parameters", "brackets")),
        _too_large,
        frozenset((REFUSED, DROPPED)),
    ),
    Kind(RECORD, "over a limit of the format", st.sampled_from(_LIMITS), one(_over), frozenset((VOID, TAKEN))),
    Kind(
        RECORD,
        "a path that is no register",
        _unpaths,
        one(_path_of),
        frozenset((VOID, TAKEN)),
    ),
    Kind(
        RECORD,
        "one register written twice",
        st.integers(2, 5),
        one(lambda stage, count: following(stage.first, writes=(write(BANNER, "1"),) * count)),
        frozenset((VOID, TAKEN)),
    ),
    Kind(
        RECORD,
        "a value that is no JSON",
        _texts,
        one(setting),
        frozenset((VOID, TAKEN)),
    ),
    Kind(
        RECORD,
        "an event that says it is something else",
        st.one_of(_misused, st.tuples(_texts, st.just(BANNER))),
        one(_kinds_misused),
        frozenset((VOID, TAKEN)),
    ),
    Kind(
        RECORD,
        "anything at all in any register",
        st.tuples(st.sampled_from(_REGISTERS), _json, st.booleans()),
        one(_scribble),
        frozenset((VOID, TAKEN)),
    ),
    Kind(
        RECORD,
        "a machine's key that is none",
        st.one_of(_json, st.none(), st.just(False), st.just(Secret("ab" * 32))),
        one(_keys),
        frozenset((VOID, TAKEN)),
    ),
    Kind(
        RECORD,
        "a removal in a wrong shape",
        st.tuples(st.one_of(_json.filter(lambda text: not text.startswith("[")), st.none()), st.just(())),
        one(_removals),
        frozenset((VOID, TAKEN)),
    ),
    Kind(
        RECORD,
        "time at its end, or running backwards",
        st.sampled_from((HYBRID_MAX, 1, HYBRID_MAX - 1)),
        one(lambda stage, hybrid: setting(stage, hybrid=hybrid)),
        frozenset((VOID, TAKEN)),
    ),
    Kind(
        RECORD,
        "beside a secret's hash, anything but its value",
        st.tuples(
            st.sampled_from(("text", "salt", "path", "twice", "hash")),
            st.text(min_size=1, max_size=40),
            st.binary(min_size=16, max_size=16).filter(lambda salt: salt != salt[::-1]),
        ),
        _secrets,
        _TAKEN,
    ),
]
