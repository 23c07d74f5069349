"""Records: the envelope of an event, its hash chain and its seals. Every format version lives here.

Invariants kept here:

1. An envelope is canonical JSON: it is what ``encode`` makes of its own content, byte for byte.
2. A record's id is SHA-256 of its envelope followed by its seal (nothing where it has none). Seals are
   therefore part of the chain, and one flipped byte anywhere shows without checking a signature.
3. A seal is an ed25519 signature of the machine's identity over the last record of a commit batch. It
   covers every record of the feed since the seal before, through ``prev``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from cluster_store.core.errors import InvalidValue, Malformed
from cluster_store.core.limits import (
    AFTER_MAX,
    COMMENT_BYTES_MAX,
    ENVELOPE_BYTES_MAX,
    JSON_DEPTH_MAX,
    PARAMS_BRACKETS_MAX,
    PARAMS_BYTES_MAX,
    PATH_BYTES_MAX,
    REPLACED_PER_WRITE_MAX,
    TIME_MAX,
    VALUE_BYTES_MAX,
    WRITES_PER_EVENT_MAX,
)
from cluster_store.core.registers import Secret, Write, valid_path
from cluster_store.core.types import Epoch, HybridTime, MachineId, RecordId
from cluster_store.core.values import unquote_part

FORMAT: Final = 1

#: Sizes: a raw ed25519 key, a signature and a secret's salt in bytes, SHA-256 in hex digits.
KEY_BYTES, SEAL_BYTES, SALT_BYTES, HASH_DIGITS = 32, 64, 16, 64

_SEAL_CONTEXT = b"cluster-store/record/1"

#: What does not fit is dropped: vectors, tables and other languages must hold whatever is stored.
_Count = msgspec.Meta(ge=0, le=2**63 - 1)
_Hash = Annotated[RecordId, msgspec.Meta(min_length=HASH_DIGITS, max_length=HASH_DIGITS)]
#: A hash or nothing.
_Link = Annotated[str, msgspec.Meta(max_length=HASH_DIGITS)]
#: Both are shown to people, in whose name ever they are claimed.
_Machine = Annotated[MachineId, msgspec.Meta(pattern="^[0-9a-f]{32}\\Z")]
_Epoch = Annotated[Epoch, msgspec.Meta(pattern="^[0-9a-f]{16}\\Z")]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event as it is hashed. Fields are in the order of their names, which is the canonical order."""

    #: Ids of the newest records of other feeds that the author had seen since its last record.
    after: tuple[_Hash, ...]
    #: How the user was authenticated: ``local``, ``password``, ``key``.
    auth: str
    #: Id of the cluster's first record; empty in that record itself.
    cluster: _Link
    comment: str
    epoch: _Epoch
    hybrid: Annotated[HybridTime, _Count]
    kind: str
    machine: _Machine
    params: dict[str, Any]
    #: Id of the feed's previous record; empty in its first.
    prev: _Link
    seq: Annotated[int, _Count]
    #: The author's wall clock, milliseconds since 1970. Shown and searched; admission never looks at it.
    time: Annotated[int, _Count]
    user: str
    v: Literal[1] = FORMAT
    weak: bool = False
    writes: tuple[Write, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """An envelope with what was computed from its bytes."""

    envelope: Envelope
    data: bytes
    seal: bytes
    id: RecordId


class FutureFormat(Malformed):
    """A record of a format that this version cannot read yet: it has to wait for an upgrade."""


class _Outline(msgspec.Struct):
    """What is looked at before a large envelope is read."""

    params: msgspec.Raw


#: Up to this size an envelope is read without a look at its outline.
_SMALL_BYTES = 4096

_decoder = msgspec.json.Decoder(Envelope)
_outline = msgspec.json.Decoder(_Outline)


def encode(envelope: Envelope) -> bytes:
    """Return an envelope's canonical bytes. Raises InvalidValue for text that is not Unicode."""
    try:
        return orjson.dumps(msgspec.to_builtins(envelope), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise InvalidValue(f"the change cannot be written down: {error}", "give text in UTF-8") from error


def record_id(data: bytes, seal: bytes) -> RecordId:
    """Return the id of the record with these bytes."""
    return RecordId(sha256(data + seal).hexdigest())


def decode(data: bytes, seal: bytes) -> Record:
    """Return the record with these bytes.

    Raises:
        FutureFormat: its format version is later than this program's.
        Malformed: the bytes are no envelope, or not in canonical form.
    """
    if len(data) > ENVELOPE_BYTES_MAX or len(seal) not in (0, SEAL_BYTES):
        raise Malformed(f"a record of {len(data)} bytes with a seal of {len(seal)}")
    try:
        if len(data) > _SMALL_BYTES:
            _check_outline(data)
        plain = orjson.loads(data)
        canonical = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS) == data
    except (ValueError, TypeError, RecursionError) as error:
        raise Malformed(f"a record that is not JSON: {error}") from error
    if not canonical or not isinstance(plain, dict):
        raise Malformed("a record that is not in canonical form")
    _check_fractions(plain.get("params"))
    version = plain.get("v")
    if isinstance(version, int) and version > FORMAT:
        raise FutureFormat(f"a record of format {version}; this version reads format {FORMAT}")
    envelope = _decode_envelope(data)
    if len(plain) != len(Envelope.__struct_fields__):
        raise Malformed("a record that leaves fields out")
    return Record(envelope, data, seal, record_id(data, seal))


def _check_outline(data: bytes) -> None:
    """Raise Malformed for an envelope that would take too much memory to be read."""
    params = bytes(_outline.decode(data).params)
    if len(params) > PARAMS_BYTES_MAX or params.count(b"[") + params.count(b"{") > PARAMS_BRACKETS_MAX:
        raise Malformed(f"a record with over {PARAMS_BYTES_MAX} bytes or {PARAMS_BRACKETS_MAX} brackets of parameters")


def _decode_envelope(data: bytes) -> Envelope:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise Malformed(f"a record with a wrong shape: {error}") from error


def _check_fractions(params: object) -> None:
    if params and _has_fraction(params):
        raise Malformed("a record with a fraction, which another version could print in another way")


def _has_fraction(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_fraction, value.values()))
    return isinstance(value, float) or (isinstance(value, list) and any(map(_has_fraction, value)))


def sealed_message(envelope: Envelope, data: bytes) -> bytes:
    """Return the bytes that a seal signs."""
    return _SEAL_CONTEXT + b"\0" + envelope.cluster.encode() + b"\0" + sha256(data).digest()


def written(envelope: Envelope) -> Record:
    """Return a new record without its seal.

    Raises:
        InvalidValue: text that is not Unicode.
        Malformed: other machines would drop it.
    """
    data = encode(envelope)
    # In canonical form it is by now; the rest of what ``decode`` asks for shows here, before anybody signs it.
    if len(data) > _SMALL_BYTES:
        _check_outline(data)
    _check_fractions(envelope.params)
    _decode_envelope(data)
    return Record(envelope, data, b"", record_id(data, b""))


def seal_record(record: Record, sign: Callable[[bytes], bytes]) -> Record:
    """Return the record with a seal; its id changes with it."""
    seal = sign(sealed_message(record.envelope, record.data))
    return Record(record.envelope, record.data, seal, record_id(record.data, seal))


def seal_is_valid(record: Record, public_key: bytes) -> bool:
    """Check a record's seal against the raw ed25519 key of its author."""
    return _is_signed(record.seal, sealed_message(record.envelope, record.data), public_key)


@lru_cache(maxsize=4096)
def signature_is_valid(signature: bytes, message: bytes, public_key: bytes) -> bool:
    """Say whether a machine signed a message with its identity key (32 bytes)."""
    return _is_signed(signature, message, public_key)


def _is_signed(signature: bytes, message: bytes, public_key: bytes) -> bool:
    # The library reads so many bytes of each, whether or not they are there.
    if len(signature) != SEAL_BYTES or len(public_key) != KEY_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def machine_id(public_key: bytes) -> MachineId:
    """Return the id that belongs to a raw ed25519 identity key."""
    return MachineId(sha256(public_key).hexdigest()[:32])


def secret_hash(salt: bytes, text: str) -> str:
    """Return what stands in the envelope for a secret value."""
    return sha256(salt + text.encode()).hexdigest()


def fault(envelope: Envelope) -> str:
    """Return why an authentic record is void by its own content, or ``""``.

    A void record keeps its number and writes nothing, on every machine alike.
    """
    if len(envelope.after) > AFTER_MAX:
        return f"names {len(envelope.after)} predecessors; the limit is {AFTER_MAX}"
    for text in (envelope.comment, envelope.user, envelope.auth):
        if _is_over(text, COMMENT_BYTES_MAX):
            return f"has a comment or a user's name over {COMMENT_BYTES_MAX} bytes"
    if not envelope.hybrid or envelope.time > TIME_MAX:
        return "its time is outside the calendar"
    if len(envelope.writes) > WRITES_PER_EVENT_MAX:
        return f"writes {len(envelope.writes)} registers; the limit is {WRITES_PER_EVENT_MAX}"
    if len(envelope.writes) > 1 and len({write.path for write in envelope.writes}) != len(envelope.writes):
        return "writes one register twice"
    for write in envelope.writes:
        if reason := _write_fault(write):
            return reason
    return ""


def _is_over(text: str, size: int) -> bool:
    # A character has four bytes at most: nearly all text is too short to be worth encoding.
    return 4 * len(text) > size and len(text.encode()) > size


def _write_fault(write: Write) -> str:
    if len(write.path) > PATH_BYTES_MAX:
        return f"writes to {write.path[:80]!r}…, a path over {PATH_BYTES_MAX} bytes"
    if not valid_path(write.path):
        return f"writes to {write.path[:80]!r}, which is no register"
    if isinstance(write.value, str):
        if _is_over(write.value, VALUE_BYTES_MAX):
            return f"the value of {write.path} is over {VALUE_BYTES_MAX} bytes"
        if not is_value(write.value):
            return f"the value of {write.path} is not JSON, or nested over {JSON_DEPTH_MAX} deep"
    if write.value is True or (isinstance(write.value, Secret) and len(write.value.secret) != HASH_DIGITS):
        return f"the value of {write.path} has a wrong shape"
    if write.path.startswith("element/") and not is_value(unquote_part(write.path.rpartition("/")[2])):
        return f"the element of {write.path} is not JSON"
    if len(write.replaced) > REPLACED_PER_WRITE_MAX:
        return f"replaces {len(write.replaced)} lanes of {write.path}; the limit is {REPLACED_PER_WRITE_MAX}"
    if write.value is False and not write.replaced:
        return f"takes nothing away from {write.path}"
    return ""


#: Checks the grammar alone: numbers are not converted, so their size depends on no library.
_check_grammar = msgspec.json.Decoder(msgspec.Raw).decode
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')
_BRACKET = re.compile(r"[\[\]{}]")


def is_value(text: str) -> bool:
    """Say whether text is JSON that every reader gets through. Part of record format 1."""
    if text.count("[") + text.count("{") > JSON_DEPTH_MAX:
        depth = 0
        for bracket in _BRACKET.findall(_STRING.sub("", text)):
            depth += 1 if bracket in "[{" else -1
            if depth > JSON_DEPTH_MAX:
                return False
    try:
        _check_grammar(text)
    except msgspec.DecodeError:
        return False
    return True
