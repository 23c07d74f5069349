"""The Automerge documents: changes encoded here, merged by the engine, read back as flat strings.

This is the only file that imports automerge, and the one door through which its failures pass.
The binding can neither label nor inspect a change, and applying one that a peer made may write what
nobody declared, panic, or make every later save unreadable. So no byte of a peer reaches the engine:
``encode_change`` derives each change from what a record says it writes.

Rules that callers keep, since the engine checks none of them and a save that breaks one cannot be loaded:

1. A key is not empty and put once in its document's life; a Delete names exactly the operation that put its key.
2. An actor's changes in one document are numbered 1, 2, 3 ...; a number is never used twice.
3. A change depends on its actor's change before and on every change that put a key it deletes;
   its operations are numbered from one more than the greatest operation of those.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from types import TracebackType

import msgspec
from automerge import core

from cluster_store.core.errors import EngineError

#: Changes handed to the engine at once. It holds the interpreter lock for the whole of one call: 200
#: changes are a few milliseconds, and larger messages are not quicker a change.
CHANGES_PER_MESSAGE = 200

_MAGIC = b"\x85\x6f\x4a\x83"
_DOCUMENT_CHUNK = 0
_PUT = b"\x01"
_DELETE = b"\x03"
_STR = 6
#: The engine wants an actor for changes of its own. It never makes any here, but picks a random one
#: if none is given, and nothing in the core is random.
_ACTOR = b"\x00"
#: A sync message with no heads, needs or "have" filters; the changes follow.
_MESSAGE_HEADER = b"\x42\x00\x00\x00"
_HASH_BYTES = 32


class Put(msgspec.Struct, frozen=True, gc=False):
    """Put a string on a root key that was never used in this document."""

    key: str
    value: str


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Delete the root key whose only put is operation number ``op`` of ``actor``."""

    key: str
    op: int
    actor: bytes


Operation = Put | Delete


class Change(msgspec.Struct, frozen=True, gc=False):
    """One change as the engine stores it.

    Attributes:
        data: the whole binary chunk, never compressed.
        hash: its SHA-256, 32 bytes: what other changes call it.
        deps: the hashes it depends on, sorted, each once.
    """

    data: bytes
    hash: bytes
    deps: tuple[bytes, ...]


# --- encoding a change ---


def encode_change(
    actor: bytes, seq: int, start_op: int, deps: Sequence[bytes], operations: Sequence[Operation]
) -> Change:
    """Return the change that the engine itself would write for these operations in this order.

    Args:
        actor: who makes the change, any number of bytes.
        seq: the number of the change among its actor's in this document, from 1.
        start_op: the number of its first operation.
        deps: hashes of the changes it depends on, in any order.
        operations: at least one. Keys and values must be free of unpaired surrogates.
    """
    assert operations, "a change without operations would be a change about nothing"
    ordered = tuple(deps) if len(deps) < 2 else tuple(sorted(set(deps)))
    body = b"".join(
        (
            _unsigned(len(ordered)),
            *ordered,
            _unsigned(len(actor)),
            actor,
            _unsigned(seq),
            _unsigned(start_op),
            b"\x00\x00",  # The time, and the length of the message: the record keeps both.
            _content(actor, operations),
        )
    )
    chunk = b"\x01" + _unsigned(len(body)) + body
    digest = hashlib.sha256(chunk).digest()
    return Change(_MAGIC + digest[:4] + chunk, digest, ordered)


def _content(actor: bytes, operations: Sequence[Operation]) -> bytes:
    """Return the end of a change: the other actors that it names, and its operations column by column.

    The two shapes that nearly all changes have are laid out by hand, in a fifth of the time.
    """
    first = operations[0]
    if isinstance(first, Put) and first.value:
        if len(operations) == 1:
            return _write(first)
        second = operations[1]
        if len(operations) == 2 and isinstance(second, Delete) and second.key != first.key:
            return _replacement(actor, first, second)
    return _any_operations(actor, operations)


def _write(put: Put) -> bytes:
    """Return the content of a change that puts one value: no other actor, six columns."""
    key, value = put.key.encode(), put.value.encode()
    key_size, value_kind = _unsigned(len(key)), _unsigned(len(value) << 4 | _STR)
    return b"".join(
        (
            b"\x00\x06\x15",
            _unsigned(1 + len(key_size) + len(key)),
            b"\x34\x01\x42\x02\x56",
            _SMALL[1 + len(value_kind)],
            b"\x57",
            _unsigned(len(value)),
            b"\x70\x02\x7f",
            key_size,
            key,
            b"\x01\x7f\x01\x7f",
            value_kind,
            value,
            b"\x7f\x00",
        )
    )


def _replacement(actor: bytes, put: Put, delete: Delete) -> bytes:
    """Return the content of a change that puts one value and deletes another key: eight columns."""
    key, value, gone = put.key.encode(), put.value.encode(), delete.key.encode()
    key_size, gone_size, value_kind = _unsigned(len(key)), _unsigned(len(gone)), _unsigned(len(value) << 4 | _STR)
    op, own = _signed(delete.op), delete.actor == actor
    return b"".join(
        (
            b"\x00\x08\x15" if own else b"\x01" + _unsigned(len(delete.actor)) + delete.actor + b"\x08\x15",
            _unsigned(1 + len(key_size) + len(key) + len(gone_size) + len(gone)),
            b"\x34\x01\x42\x03\x56",
            _SMALL[2 + len(value_kind)],
            b"\x57",
            _unsigned(len(value)),
            b"\x70\x03\x71\x02\x73",
            _SMALL[1 + len(op)],
            b"\x7e",
            key_size,
            key,
            gone_size,
            gone,
            b"\x02\x7e\x01\x03\x7e",
            value_kind,
            b"\x00",
            value,
            b"\x7e\x00\x01\x7f\x00\x7f" if own else b"\x7e\x00\x01\x7f\x01\x7f",
            op,
        )
    )


def _any_operations(actor: bytes, operations: Sequence[Operation]) -> bytes:
    """Return the content of any change; columns without a byte are left out."""
    deletes = [operation for operation in operations if isinstance(operation, Delete)]
    others = sorted(dict.fromkeys([delete.actor for delete in deletes if delete.actor != actor]))
    index = {name: _unsigned(position) for position, name in enumerate((actor, *others))}
    keys = [operation.key.encode() for operation in operations]
    values = [operation.value.encode() if isinstance(operation, Put) else None for operation in operations]
    predecessors = [delete.op for delete in deletes]
    steps = [op - before for before, op in zip((0, *predecessors), predecessors, strict=False)]
    columns = (
        (0x15, _runs([_unsigned(len(key)) + key for key in keys])),
        (0x34, _unsigned(len(keys))),  # A run of that many "not inserted into a list".
        (0x42, _runs([_DELETE if value is None else _PUT for value in values])),
        (0x56, _runs([b"\x00" if value is None else _unsigned(len(value) << 4 | _STR) for value in values])),
        (0x57, b"".join([value for value in values if value])),
        (0x70, _runs([b"\x01" if value is None else b"\x00" for value in values])),
        (0x71, _runs([index[delete.actor] for delete in deletes])),
        (0x73, _runs([_signed(step) for step in steps])),
    )
    present = [(_SMALL[number], content) for number, content in columns if content]
    parts = [_unsigned(len(others))]
    for other in others:
        parts += (_unsigned(len(other)), other)
    parts.append(_unsigned(len(present)))
    for number, content in present:
        parts += (number, _unsigned(len(content)))
    parts += [content for _, content in present]
    return b"".join(parts)


def _runs(values: Sequence[bytes]) -> bytes:
    """Return a column as runs: a count and a value repeated, or a negative count and that many different values."""
    parts: list[bytes] = []
    literals: list[bytes] = []
    start = 0
    while start < len(values):
        value, end = values[start], start + 1
        while end < len(values) and values[end] == value:
            end += 1
        if end - start == 1:
            literals.append(value)
        else:
            if literals:
                parts += (_signed(-len(literals)), *literals)
                literals = []
            parts += (_signed(end - start), value)
        start = end
    if literals:
        parts += (_signed(-len(literals)), *literals)
    return b"".join(parts)


_SMALL = tuple(bytes((number,)) for number in range(128))
#: The same with bit 7 set: more bytes follow.
_SMALL_MORE = tuple(bytes((number | 128,)) for number in range(128))


def _unsigned(number: int) -> bytes:
    """Return a number as LEB128: seven bits a byte, the lowest first."""
    if number < 128:
        return _SMALL[number]
    if number < 1 << 14:
        return _SMALL_MORE[number & 127] + _SMALL[number >> 7]
    return _SMALL_MORE[number & 127] + _unsigned(number >> 7)


def _signed(number: int) -> bytes:
    """Return a number as signed LEB128: the same, but bit 6 of the last byte is the sign."""
    if -64 <= number < 64:
        return _SMALL[number & 127]
    return _SMALL_MORE[number & 127] + _signed(number >> 7)


# --- a document ---


class _Door:
    """The way into the engine: gives the document out, translates whatever comes back, panics included.

    After any failure the engine's locks and half-done work cannot be trusted, so its document is let go.
    """

    __slots__ = ("engine",)

    def __init__(self, engine: core.Document) -> None:
        self.engine: core.Document | None = engine

    def __enter__(self) -> core.Document:
        if self.engine is None:
            raise EngineError("This document's engine has failed before.", "Rebuild the document from the log.")
        return self.engine

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return
        self.engine = None
        # A panic of the engine derives from BaseException, from a class that cannot be imported. The
        # interpreter's own (KeyboardInterrupt, SystemExit) go on as they are.
        if isinstance(error, EngineError) or not (
            isinstance(error, Exception) or type(error).__name__ == "PanicException"
        ):
            return
        raise EngineError(f"The merge engine failed: {error}.", "Rebuild the document from the log.") from error


class Document:
    """One Automerge document: a flat map of strings at the root.

    Every method raises EngineError when the engine fails, and from then on always: drop the document
    and build another from the log.
    """

    __slots__ = ("_door",)

    def __init__(self) -> None:
        self._door = _Door(core.Document(_ACTOR))

    @classmethod
    def open(cls, saved: bytes | None) -> Document:
        """Return an empty document, or the one that ``save`` wrote.

        Raises EngineError if the bytes cannot be loaded or hold anything but strings at the root.
        """
        document = cls()
        if saved is not None:
            with document._door:
                _require_flat(saved)
                engine = core.Document.load(saved)
                engine.set_actor(_ACTOR)
                document._door.engine = engine
        return document

    def apply(self, changes: Sequence[Change]) -> None:
        """Merge changes, whose dependencies are here or among them; those already here do no harm.

        Raises EngineError also when a change did not arrive: the engine says nothing when it drops one.
        """
        with self._door as engine:
            before = engine.get_heads()
            for start in range(0, len(changes), CHANGES_PER_MESSAGE):
                message = core.Message.decode(_message(changes[start : start + CHANGES_PER_MESSAGE]))
                engine.receive_sync_message(core.SyncState(), message)
            _require_arrived(engine, before, changes)

    def items(self) -> dict[str, str]:
        """Return every key with its value, sorted by key."""
        with self._door as engine:
            keys = engine.keys(core.ROOT)
            values = engine.values(core.ROOT)
            return {key: _string(value) for key, (value, _) in zip(keys, values, strict=True)}

    def get(self, key: str) -> str | None:
        """Return the value of a key, or None if it was never put or is deleted."""
        if not _is_text(key):
            return None
        with self._door as engine:
            found = engine.get(core.ROOT, key)
            return None if found is None else _string(found[0])

    def heads(self) -> tuple[bytes, ...]:
        """Return the hashes of the changes that no other depends on, sorted."""
        with self._door as engine:
            return tuple(sorted(engine.get_heads()))

    def save(self) -> bytes:
        """Return the document and its history as bytes for ``open``.

        Documents with equal changes may differ here, by the order in which the changes came.
        """
        with self._door as engine:
            return engine.save()


def _message(changes: Sequence[Change]) -> bytes:
    parts = [_MESSAGE_HEADER, _unsigned(len(changes))]
    for change in changes:
        parts += (_unsigned(len(change.data)), change.data)
    return b"".join(parts)


def _require_arrived(engine: core.Document, before: Sequence[bytes], changes: Sequence[Change]) -> None:
    """Raise EngineError unless the engine now has every change.

    If all were new, the heads say so: those from before and the new changes, less what a new change
    depends on. A change that is missing has a last dependent, or is it, which would be a head and is
    not. Only changes that were already here make the sum differ; then the whole history is asked.
    """
    expected = {*before, *(change.hash for change in changes)}
    expected.difference_update(*(change.deps for change in changes))
    if expected == set(engine.get_heads()):
        return
    present = {change.hash for change in engine.get_changes([])}
    missing = [change.hash.hex() for change in changes if change.hash not in present]
    if missing:
        raise EngineError(
            f"The merge engine did not take {len(missing)} of {len(changes)} changes, the first being {missing[0]}.",
            "Rebuild the document from the log.",
        )


def _is_text(key: str) -> bool:
    """Say whether a key can be in a document at all: the engine panics when asked for an unpaired surrogate."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _string(value: core.Value) -> str:
    assert isinstance(value, tuple)
    assert isinstance(value[1], str)
    return value[1]


# --- what may be loaded ---

#: The columns of a saved document's operations that say what each does and of what kind its value is.
_ACTIONS = 0x42
_KINDS = 0x56
#: The bit of a column's number that says that its content is deflated.
_DEFLATED = 8


def _require_flat(saved: bytes) -> None:
    """Raise EngineError unless the bytes are one whole saved document that only ever held strings at the root.

    Reading a counter or an unknown kind of value panics, and there is no way to ask the engine for a
    value's kind first; so the saved columns are read here, before the engine sees them. Without an
    operation that makes a map, list or text there is no place but the root.
    """
    try:
        columns = _operation_columns(saved)
        if any(action != _PUT[0] for action in _run_values(columns.get(_ACTIONS, b""))):
            raise ValueError("it holds operations other than put and delete")
        if any(kind & 15 != _STR for kind in _run_values(columns.get(_KINDS, b""))):
            raise ValueError("it holds values that are not strings")
    except (ValueError, IndexError, zlib.error) as error:
        reason = "it ends too early" if isinstance(error, IndexError) else error
        raise EngineError(
            f"The saved document cannot be used: {reason}.", "Rebuild the document from the log."
        ) from error


def _operation_columns(saved: bytes) -> dict[int, bytes]:
    """Return the columns of a saved document's operations by their number, inflated."""
    length, start = _read_unsigned(saved, 9)
    if saved[:4] != _MAGIC or saved[8] != _DOCUMENT_CHUNK or start + length != len(saved):
        raise ValueError("it is not one whole Automerge document")
    if hashlib.sha256(saved[8:]).digest()[:4] != saved[4:8]:
        raise ValueError("its checksum is wrong")
    actors, at = _read_unsigned(saved, start)
    for _ in range(actors):
        size, at = _read_unsigned(saved, at)
        at += size
    heads, at = _read_unsigned(saved, at)
    about_changes, at = _read_column_sizes(saved, at + heads * _HASH_BYTES)
    about_operations, at = _read_column_sizes(saved, at)
    at += sum(size for _, size in about_changes)
    columns = {}
    for number, size in about_operations:
        content = saved[at : at + size]
        columns[number & ~_DEFLATED] = zlib.decompress(content, wbits=-15) if number & _DEFLATED else content
        at += size
    return columns


def _read_column_sizes(data: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    count, at = _read_unsigned(data, at)
    sizes = []
    for _ in range(count):
        number, at = _read_unsigned(data, at)
        size, at = _read_unsigned(data, at)
        sizes.append((number, size))
    return sizes, at


def _run_values(column: bytes) -> Iterator[int]:
    """Yield the values of a run-length encoded column, a repeated one once. Raises ValueError for a missing one."""
    at = 0
    while at < len(column):
        count, at = _read_signed(column, at)
        if count == 0:
            raise ValueError("an operation lacks its action or value")
        for _ in range(1 if count > 0 else -count):
            value, at = _read_unsigned(column, at)
            yield value


def _read_unsigned(data: bytes, at: int) -> tuple[int, int]:
    """Return a LEB128 number and the position behind it. Raises IndexError at the end of the data."""
    number = shift = 0
    while (byte := data[at]) > 127:
        number |= (byte & 127) << shift
        shift += 7
        at += 1
    return number | byte << shift, at + 1


def _read_signed(data: bytes, at: int) -> tuple[int, int]:
    number, behind = _read_unsigned(data, at)
    bits = 7 * (behind - at)
    return number - (1 << bits) if data[behind - 1] & 64 else number, behind
