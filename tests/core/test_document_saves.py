"""What is not a flat document of strings, whole and undamaged, is refused before a value of it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random

import pytest
from automerge import core

from cluster_store.core.document import Document, Put, encode_change
from cluster_store.core.errors import EngineError
from tests.core.derived import derived_history


def saved_by(write: Callable[[core.Transaction], object]) -> bytes:
    """Return a document that the engine saved after one transaction, a string among what it wrote."""
    engine = core.Document(b"\x01")
    with engine.transaction() as transaction:
        transaction.put(core.ROOT, "string", core.ScalarType.Str, "text")
        write(transaction)
    return engine.save()


def saved_with_kind(kind: int) -> bytes:
    """Return a saved document whose one value is of a kind that the binding cannot write or read."""
    change = encode_change(b"\x01", 1, 1, [], [Put("key", "\x05")])
    body = change.data[10:].replace(b"\x7f\x16\x05", bytes((0x7F, 0x10 | kind, 0x05)))
    chunk = bytes((1, len(body))) + body
    data = change.data[:4] + hashlib.sha256(chunk).digest()[:4] + chunk
    assert data != change.data
    engine = core.Document(b"\x02")
    message = bytes((0x42, 0, 0, 0, 1, len(data))) + data
    engine.receive_sync_message(core.SyncState(), core.Message.decode(message))
    assert engine.keys(core.ROOT) == ["key"]
    return engine.save()


def put(kind: core.ScalarType, value: core.ScalarValue) -> Callable[[core.Transaction], object]:
    """Return a write of one value."""
    return lambda transaction: transaction.put(core.ROOT, "odd", kind, value)


def put_and_delete(transaction: core.Transaction) -> None:
    """Leave a number only in the history."""
    transaction.put(core.ROOT, "odd", core.ScalarType.Int, 1)
    transaction.delete(core.ROOT, "odd")


def put_many(transaction: core.Transaction) -> None:
    """Put strings of so many lengths that the engine deflates the column that tells their kinds."""
    for size in range(400):
        transaction.put(core.ROOT, f"key {size}", core.ScalarType.Str, "x" * (size * 7919 % 400))


def put_many_and_a_number(transaction: core.Transaction) -> None:
    """Hide a number among many strings."""
    put_many(transaction)
    transaction.put(core.ROOT, "odd", core.ScalarType.Int, 1)


NESTED = {
    "map": saved_by(lambda transaction: transaction.put_object(core.ROOT, "odd", core.ObjType.Map)),
    "list": saved_by(lambda transaction: transaction.put_object(core.ROOT, "odd", core.ObjType.List)),
    "text": saved_by(lambda transaction: transaction.put_object(core.ROOT, "odd", core.ObjType.Text)),
    "string in a map": saved_by(
        lambda transaction: transaction.put(
            transaction.put_object(core.ROOT, "odd", core.ObjType.Map), "inner", core.ScalarType.Str, "text"
        )
    ),
}

NOT_STRINGS = {
    "integer": saved_by(put(core.ScalarType.Int, 1)),
    "unsigned": saved_by(put(core.ScalarType.Uint, 1)),
    "float": saved_by(put(core.ScalarType.F64, 1.5)),
    "boolean": saved_by(put(core.ScalarType.Boolean, True)),
    "null": saved_by(put(core.ScalarType.Null, None)),
    "bytes": saved_by(put(core.ScalarType.Bytes, b"text")),
    "deleted integer": saved_by(put_and_delete),
    "integer among many strings": saved_by(put_many_and_a_number),
    "counter": saved_with_kind(8),
    "timestamp": saved_with_kind(9),
    "unknown kind": saved_with_kind(10),
}


@pytest.mark.parametrize("saved", NESTED.values(), ids=NESTED)
def test_nested_objects_are_refused(saved: bytes) -> None:
    """A document in which anything was ever kept elsewhere than at the root is refused."""
    with pytest.raises(EngineError, match="operations other than put and delete"):
        Document.open(saved)


@pytest.mark.parametrize("saved", NOT_STRINGS.values(), ids=NOT_STRINGS)
def test_values_that_are_not_strings_are_refused(saved: bytes) -> None:
    """A document that ever held another kind of value is refused before any value is read."""
    with pytest.raises(EngineError, match="values that are not strings"):
        Document.open(saved)


def test_strings_at_the_root_are_taken_whoever_wrote_them() -> None:
    """The engine's own flat document of strings opens: the refusals above are due to what was added."""
    items = Document.open(saved_by(put_many)).items()
    assert len(items) == 401
    assert items["string"] == "text"


def small_save() -> tuple[Document, bytes]:
    """Return a document with puts and deletes of three actors, and its save."""
    document = Document.open(None)
    document.apply(derived_history(Random(4), (b"a", b"b", b"c"), 6).changes)
    return document, document.save()


def test_a_truncated_save_is_refused() -> None:
    """Every proper beginning of a save, the empty one included, is an EngineError."""
    _, saved = small_save()
    for end in range(len(saved)):
        with pytest.raises(EngineError):
            Document.open(saved[:end])


def test_a_save_with_more_behind_it_is_refused() -> None:
    """A save is one whole document: neither a second one nor a change may follow it."""
    document, saved = small_save()
    for more in (b"\x00", saved, document.save(), encode_change(b"z", 1, 1, [], [Put("key", "value")]).data):
        with pytest.raises(EngineError, match="not one whole Automerge document"):
            Document.open(saved + more)


def test_a_change_is_not_a_save() -> None:
    """A bare change, which the engine itself would load, is refused."""
    with pytest.raises(EngineError, match="not one whole Automerge document"):
        Document.open(encode_change(b"z", 1, 1, [], [Put("key", "value")]).data)


def test_a_flipped_bit_anywhere_in_a_save_is_refused() -> None:
    """No single flipped bit passes the checksum and what it covers."""
    _, saved = small_save()
    for place in range(len(saved)):
        for bit in range(8):
            flipped = bytearray(saved)
            flipped[place] ^= 1 << bit
            with pytest.raises(EngineError, match=r"checksum is wrong|not one whole|ends too early"):
                Document.open(bytes(flipped))


def signed(forged: bytes) -> bytes:
    """Return a chunk with the checksum that it should have."""
    return forged[:4] + hashlib.sha256(forged[8:]).digest()[:4] + forged[8:]


def test_a_save_with_a_missing_value_is_refused() -> None:
    """An operation whose kind of value is left out, as the format could say, is refused."""
    document = Document.open(None)
    document.apply([encode_change(b"a", 1, 1, [], [Put("key", "v")])])
    saved = document.save()
    assert saved.count(b"\x7f\x16v") == 1
    with pytest.raises(EngineError, match="lacks its action or value"):
        Document.open(signed(saved.replace(b"\x7f\x16v", b"\x00\x01v")))


def test_a_forged_save_is_refused_or_harmless() -> None:
    """A changed byte under a checksum made to match is an EngineError, or the same document: never a panic."""
    document, saved = small_save()
    content, taken = document.items(), 0
    for place in range(8, len(saved)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, saved[place] ^ 1, saved[place] ^ 8):
            try:
                opened = Document.open(signed(saved[:place] + bytes((value,)) + saved[place + 1 :]))
            except EngineError:
                continue
            assert opened.items() == content
            taken += 1
    assert taken > 0
