"""Envelopes have one form, ids cover every byte, seals hold one machine to one record of one cluster."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_store.core import limits
from cluster_store.core.errors import InvalidValue, Malformed
from cluster_store.core.records import (
    FORMAT,
    Envelope,
    FutureFormat,
    Record,
    decode,
    encode,
    fault,
    is_value,
    machine_id,
    record_id,
    seal_is_valid,
    secret_hash,
)
from cluster_store.core.registers import SHARDS, Secret
from tests.core.builders import envelope, first_record, following, identity, sealed, unsealed, write

ANNA, BERT = identity("anna"), identity("bert")
FIRST = first_record(ANNA)
HASH = "ab" * 32
RICH = following(
    FIRST,
    after=(HASH,),
    comment='Grüße, "Zürich" \\ 日本\n',
    params={"hostname": "é", "list": [1, -2, None, True, {"b": 1, "a": 2}]},
    weak=True,
    writes=(write("setting/cluster/smtp.banner", '"x"', HASH), write("setting/cluster/pw", Secret(HASH))),
)


def plain(content: Envelope) -> dict[str, Any]:
    """Return an envelope as Python's own JSON reader sees it."""
    found: dict[str, Any] = json.loads(encode(content))
    return found


def written(content: Any) -> bytes:
    """Return what the canonical encoder makes of any content."""
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


# --- canonical form ---------------------------------------------------------------------------------


def test_the_form_of_a_record_is_fixed() -> None:
    """A released format never changes: this envelope has these bytes, on every version and machine."""
    content = envelope(ANNA, writes=(write("setting/cluster/a", '"é"', HASH), write("setting/cluster/b", None)))
    assert encode(content).decode() == (
        '{"after":[],"auth":"local","cluster":"","comment":"","epoch":"00000000000000e1",'
        '"hybrid":6963200000000000,"kind":"SettingSet","machine":"' + ANNA.id + '","params":{},"prev":"","seq":1,'
        '"time":1700000000000,"user":"os:root","v":1,"weak":false,"writes":[["setting/cluster/a","\\"é\\"",'
        f'["{HASH}"]],["setting/cluster/b",null,[]]]}}'
    )
    assert FORMAT == 1
    assert SHARDS == 16


def test_fields_stand_in_the_order_of_their_names() -> None:
    """The canonical order is the order in which the envelope declares its fields."""
    assert list(Envelope.__struct_fields__) == sorted(Envelope.__struct_fields__)
    assert list(plain(RICH)) == sorted(plain(RICH))


def test_a_record_comes_back_as_it_was_written() -> None:
    """Decoding gives the envelope again, and its id is the hash of the very bytes."""
    record = unsealed(RICH)
    assert decode(record.data, b"") == record
    assert record.id == record_id(record.data, b"")


def other_spellings() -> dict[str, bytes]:
    """Return bytes that a lenient reader would take for the same envelope."""
    data, content = encode(RICH), plain(RICH)
    name, rest = data[1:].split(b",", 1)
    return {
        "members in another order": json.dumps(dict(reversed(content.items())), separators=(",", ":")).encode(),
        "blanks": json.dumps(content).encode(),
        "a blank at the end": data + b" ",
        "a line end": data + b"\n",
        "a blank in front": b" " + data,
        "escapes": json.dumps(content, separators=(",", ":"), ensure_ascii=True).encode(),
        "an escaped slash": data.replace(b"setting/cluster", b"setting\\/cluster"),
        "a member twice": b"{" + name + b"," + name + b"," + rest,
        "an inner member twice": data.replace(b'"a":2,', b'"a":2,"a":2,'),
        "a fraction for a whole number": data.replace(b'"seq":2', b'"seq":2.0'),
        "an exponent": data.replace(b'"seq":2', b'"seq":2e0'),
        "a plus": data.replace(b'"seq":2', b'"seq":+2'),
        "a leading zero": data.replace(b'"seq":2', b'"seq":02'),
        "a minus zero": data.replace(b"-2,", b"-0,"),
        "a number beyond 64 bits": data.replace(b'"seq":2', b'"seq":18446744073709551618'),
        "a byte order mark": b"\xef\xbb\xbf" + data,
        "two documents": data + data,
        "a comment": data + b"//",
    }


@pytest.mark.parametrize("spelling", list(other_spellings()))
def test_another_spelling_is_no_record(spelling: str) -> None:
    """One content has one form; whatever else reads as the same is dropped, never silently normalised."""
    data = other_spellings()[spelling]
    assert data != encode(RICH)
    with pytest.raises(Malformed):
        decode(data, b"")


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"\x00", b"[" * 100_000, b'{"a":' * 100_000, b"NaN"],
    ids=lambda data: repr(data[:8]),
)
def test_garbage_is_no_record(data: bytes) -> None:
    """Bytes that are no JSON object of the right shape are dropped, however deep or broken."""
    with pytest.raises(Malformed):
        decode(data, b"")


@pytest.mark.parametrize("name", Envelope.__struct_fields__)
def test_every_field_is_there(name: str) -> None:
    """No field has a silent default on the wire: two spellings of one event would be two records."""
    content = plain(RICH)
    del content[name]
    with pytest.raises(Malformed):
        decode(written(content), b"")


def test_no_other_field_is_there() -> None:
    """A field that this format does not know is refused, not ignored."""
    with pytest.raises(Malformed, match="wrong shape"):
        decode(written({**plain(RICH), "zzz": 1}), b"")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("after", HASH),
        ("after", ["ab"]),
        ("after", [HASH + "0"]),
        ("after", [1]),
        ("auth", None),
        ("cluster", HASH + "0"),
        ("comment", 1),
        ("epoch", "short"),
        ("epoch", "e" * 17),
        ("hybrid", -1),
        ("hybrid", 2**63),
        ("hybrid", "1"),
        ("machine", ""),
        ("machine", "m" * 33),
        ("params", []),
        ("prev", None),
        ("prev", HASH + "0"),
        ("seq", -1),
        ("seq", 2**63),
        ("seq", True),
        ("time", -1),
        ("time", 2**64 - 1),
        ("v", 0),
        ("v", -1),
        ("v", "1"),
        ("v", True),
        ("v", 2.0),
        ("weak", 0),
        ("writes", {}),
        ("writes", [["setting/cluster/a", '"x"']]),
        ("writes", [["setting/cluster/a", '"x"', [], []]]),
        ("writes", [["setting/cluster/a", 1, []]]),
        ("writes", [["setting/cluster/a", {"secret": HASH, "text": "x"}, []]]),
        ("writes", [{"path": "setting/cluster/a", "value": None, "replaced": []}]),
    ],
)
def test_a_field_of_another_shape_is_no_record(name: str, value: Any) -> None:
    """Sizes and types that tables, vectors and other languages could not hold are dropped at the door."""
    with pytest.raises(Malformed):
        decode(written({**plain(RICH), name: value}), b"")


@pytest.mark.parametrize("params", [{"a": 1.5}, {"a": [{"b": 1e16}]}, {"a": {"b": [-0.0]}}])
def test_a_fraction_is_no_part_of_a_record(params: dict[str, Any]) -> None:
    """Libraries print them in different ways, so the canonical form would depend on a version."""
    with pytest.raises(Malformed, match="a fraction"):
        decode(encode(envelope(ANNA, params=params)), b"")


def test_text_that_is_not_unicode_is_refused_before_it_is_written() -> None:
    """A comment with half a character, as a shell can hand over, is refused with words."""
    with pytest.raises(InvalidValue, match="cannot be written down"):
        encode(envelope(ANNA, comment="\udcff"))


def test_a_record_over_the_limit_is_dropped_unread() -> None:
    """An envelope must fit in memory at once."""
    data = b'{"after":[]' + b" " * limits.ENVELOPE_BYTES_MAX
    with pytest.raises(Malformed, match=str(len(data))):
        decode(data, b"")


@pytest.mark.parametrize("size", [1, 63, 65])
def test_a_seal_has_the_size_of_a_signature(size: int) -> None:
    """A seal is 64 bytes or not there."""
    with pytest.raises(Malformed, match=f"a seal of {size}"):
        decode(encode(RICH), bytes(size))


@pytest.mark.parametrize("version", [2, 3, 10**9])
def test_a_later_format_is_told_apart_from_garbage(version: int) -> None:
    """A record of a later version has to wait, whatever fields it has; nothing of it is looked at."""
    later = {"v": version, "what": "nobody knows"}
    with pytest.raises(FutureFormat, match=f"format {version}; this version reads format 1"):
        decode(written(later), b"")


def test_a_later_format_in_another_form_is_garbage() -> None:
    """Canonical form is older than all formats."""
    with pytest.raises(Malformed, match="canonical"):
        decode(b'{ "v":2}', b"")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=3), st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_whatever_is_encoded_is_canonical(params: dict[str, Any], comment: str, user: str, values: list[str]) -> None:
    """Everything that this program can write down, it reads back as the same bytes."""
    writes = tuple(write(f"setting/cluster/k{index}", value) for index, value in enumerate(values))
    content = envelope(ANNA, params=params, comment=comment, user=user, writes=writes)
    assert decode(encode(content), b"").envelope == content


# --- ids and seals ----------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_flipped_byte_anywhere_changes_the_id(at: int, difference: int) -> None:
    """The id covers the envelope and the seal: damage shows without checking a signature."""
    record = sealed(RICH, ANNA)
    whole = bytearray(record.data + record.seal)
    whole[at % len(whole)] ^= difference
    data, seal = bytes(whole[:-64]), bytes(whole[-64:])
    assert record_id(data, seal) != record.id


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_flipped_byte_anywhere_breaks_the_seal(at: int, difference: int) -> None:
    """What was changed is either no record any more, or one that its seal does not hold."""
    record = sealed(RICH, ANNA)
    whole = bytearray(record.data + record.seal)
    whole[at % len(whole)] ^= difference
    try:
        changed = decode(bytes(whole[:-64]), bytes(whole[-64:]))
    except Malformed:
        return
    assert not seal_is_valid(changed, ANNA.key)


def test_the_seal_of_a_record_is_fixed() -> None:
    """What is signed is part of the format: a context, the cluster and the envelope's hash, with NULs between."""
    record = sealed(envelope(ANNA, writes=(write("setting/cluster/a", "1"),)), ANNA)
    message = b"cluster-store/record/1" + b"\0" + b"" + b"\0" + sha256(record.data).digest()
    assert record.seal == ANNA.sign(message)
    within = sealed(RICH, ANNA)
    message = b"cluster-store/record/1" + b"\0" + FIRST.id.encode() + b"\0" + sha256(within.data).digest()
    assert within.seal == ANNA.sign(message)


def test_a_seal_is_part_of_the_chain() -> None:
    """The same envelope with another seal, or without one, is another record."""
    ids = {unsealed(RICH).id, sealed(RICH, ANNA).id, sealed(RICH, BERT).id}
    assert len(ids) == 3
    follower = following(sealed(RICH, ANNA))
    assert follower.prev == sealed(RICH, ANNA).id


def test_a_seal_holds_for_its_machine_alone() -> None:
    """Another machine's key does not open it."""
    record = sealed(RICH, ANNA)
    assert seal_is_valid(record, ANNA.key)
    assert not seal_is_valid(record, BERT.key)
    assert not seal_is_valid(sealed(RICH, BERT), ANNA.key)


def test_a_seal_holds_for_its_cluster_alone() -> None:
    """The cluster is part of what is signed, so a seal cannot be moved to another one."""
    here = sealed(RICH, ANNA)
    there = unsealed(msgspec.structs.replace(RICH, cluster="f" * 64))
    assert not seal_is_valid(Record(there.envelope, there.data, here.seal, there.id), ANNA.key)


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)])
def test_a_key_that_is_no_key_opens_nothing(key: bytes) -> None:
    """Weak and impossible keys are refused or fail; they never raise anything else."""
    assert not seal_is_valid(sealed(RICH, ANNA), key)


def test_a_machines_id_is_the_hash_of_its_key() -> None:
    """The id is 16 bytes of SHA-256, so it needs no registry and cannot be chosen."""
    assert machine_id(bytes(32)) == "66687aadf862bd776c8fc18b8e9f8e20"


def test_a_secrets_hash_covers_salt_and_text() -> None:
    """Neither can be changed, and equal values look different."""
    digests = {secret_hash(salt, text) for salt in (b"a" * 16, b"b" * 16) for text in ('"x"', '"y"')}
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)


# --- limits that void -------------------------------------------------------------------------------


def nested(depth: int) -> str:
    """Return a JSON text that is nested so deep."""
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"after": (HASH,) * (limits.AFTER_MAX + 1)}, "names 4097 predecessors"),
        ({"comment": "é" * (limits.COMMENT_BYTES_MAX // 2 + 1)}, "a comment or a user's name over"),
        ({"user": "u" * (limits.COMMENT_BYTES_MAX + 1)}, "a comment or a user's name over"),
        ({"auth": "a" * (limits.COMMENT_BYTES_MAX + 1)}, "a comment or a user's name over"),
        ({"hybrid": 0}, "outside the calendar"),
        ({"time": limits.TIME_MAX + 1}, "outside the calendar"),
        ({"writes": (write("setting/cluster/a", "1"),) * 2}, "writes one register twice"),
        ({"writes": (write("nowhere", "1"),)}, "'nowhere', which is no register"),
        ({"writes": (write("setting/cluster/a", '"' + "x" * limits.VALUE_BYTES_MAX),)}, "over 65536 bytes"),
        ({"writes": (write("setting/cluster/a", '"' + "é" * (limits.VALUE_BYTES_MAX // 2)),)}, "over 65536 bytes"),
        ({"writes": (write("setting/cluster/a", "word"),)}, "is not JSON"),
        ({"writes": (write("setting/cluster/a", nested(limits.JSON_DEPTH_MAX + 1)),)}, "nested over 64 deep"),
        ({"writes": (write("setting/cluster/a", True),)}, "wrong shape"),
        ({"writes": (write("setting/cluster/a", Secret("ab")),)}, "wrong shape"),
        ({"writes": (write("setting/cluster/a", False),)}, "takes nothing away"),
        ({"writes": (write("setting/cluster/a", "1", *[HASH] * 1025),)}, "replaces 1025 lanes"),
        ({"writes": (write("element/cluster/a/word", "true"),)}, "the element of element/cluster/a/word is not JSON"),
    ],
)
def test_a_record_over_a_limit_is_void(fields: dict[str, Any], reason: str) -> None:
    """Each bound of the format has its words; the record itself is authentic and keeps its number."""
    assert reason in fault(following(FIRST, **fields))


def test_too_many_writes_are_void() -> None:
    """One event replaces at most a whole appliance's configuration."""
    writes = tuple(write(f"setting/cluster/k{index}", "1") for index in range(limits.WRITES_PER_EVENT_MAX + 1))
    assert fault(following(FIRST, writes=writes)) == "writes 20001 registers; the limit is 20000"
    assert fault(following(FIRST, writes=writes[1:])) == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"after": (HASH,) * limits.AFTER_MAX},
        {"comment": "é" * (limits.COMMENT_BYTES_MAX // 2)},
        {"hybrid": 1},
        {"hybrid": limits.HYBRID_MAX},
        {"time": 0},
        {"time": limits.TIME_MAX},
        {"writes": (write("setting/cluster/a", '"' + "x" * (limits.VALUE_BYTES_MAX - 2) + '"'),)},
        {"writes": (write("setting/cluster/a", nested(limits.JSON_DEPTH_MAX)),)},
        {"writes": (write("setting/cluster/a", f'"{nested(500)}"'),)},
        {"writes": (write("setting/cluster/a", f"[{','.join(['[]'] * 500)}]"),)},
        {"writes": (write("setting/cluster/a", None), write("setting/cluster/b", False, HASH))},
        {"writes": (write("setting/cluster/a", Secret(HASH)),)},
        {"writes": (write("setting/cluster/a", "1", *[HASH] * 1024),)},
        {"writes": (write("setting/cluster/a", "9" * 5000), write("setting/cluster/b", "1e400"))},
        {"writes": (write("element/cluster/a/%22b%22", "true"),)},
    ],
)
def test_a_record_at_a_limit_counts(fields: dict[str, Any]) -> None:
    """The bounds themselves are allowed; numbers may have any size, brackets inside strings are no nesting."""
    assert fault(following(FIRST, **fields)) == ""


@pytest.mark.parametrize("text", ["", " ", "1 2", "'x'", "{", '"\\ud800"', '"\t"', "01", "+1", "NaN", "[1,]", "tru"])
def test_what_is_not_json_is_no_value(text: str) -> None:
    """The grammar alone decides: not what some library happens to take."""
    assert not is_value(text)


@given(JSON)
def test_all_json_is_a_value(value: Any) -> None:
    """Whatever Python's own writer prints is one."""
    assert is_value(json.dumps(value))
