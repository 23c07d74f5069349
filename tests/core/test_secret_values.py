"""The values of secrets travel and are kept beside their records, and only as the envelope's hashes say."""

from __future__ import annotations

import pytest

from cluster_store.core.records import Record
from tests.core.builders import Store, following, incoming, sealed, secret, store_of, write
from tests.core.pair import ADMISSION, BERT, FIRST, JOINED

PASSWORD = "setting/cluster/password"


def with_secret(text: str, salt: bytes = b"0123456789abcdef") -> tuple[Record, dict[str, tuple[bytes, str]]]:
    """Return a record that sets a secret, and what travels beside it."""
    value, beside = secret(PASSWORD, text, salt)
    return sealed(following(JOINED, writes=(write(PASSWORD, value),)), BERT), dict(beside)


def kept(store: Store) -> list[str | None]:
    """Return the texts of the secrets that a store keeps."""
    return [lane.text for (path, _), lane in store.log.lanes.items() if path == PASSWORD]


def test_a_secret_is_kept_beside_its_record() -> None:
    """The envelope has a hash; the text goes into the lane that readers see."""
    store = store_of(FIRST, ADMISSION, JOINED)
    record, beside = with_secret('"hush"')
    store.offer([incoming(record, beside)])
    assert kept(store) == ['"hush"']
    assert b"hush" not in record.data


SALT, TEXT = b"0123456789abcde5", "1234"


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {PASSWORD: (SALT, '"other"')},
        {PASSWORD: (b"fedcba9876543210", TEXT)},
        {"setting/cluster/other": (SALT, TEXT)},
        {PASSWORD: (SALT + b"12", "34")},
        {PASSWORD: (SALT[:-1], "51234")},
    ],
    ids=["nothing", "another text", "another salt", "another path", "a longer salt", "a shorter salt"],
)
def test_a_secret_that_its_hash_does_not_stand_for_is_left_out(beside: dict[str, tuple[bytes, str]]) -> None:
    """Whoever passes a record on cannot change the secret: the record is taken, the false text is not.

    Moving letters between salt and text keeps the hash, so the salt has a size.
    """
    store = store_of(FIRST, ADMISSION, JOINED)
    record, _ = with_secret(TEXT, SALT)
    store.offer([incoming(record, beside)])
    assert kept(store) == [None]
    assert store.log.secrets == {}


@pytest.mark.parametrize("text", ["hush", '"' + "x" * 65536 + '"', "[" * 65 + "]" * 65], ids=["word", "long", "deep"])
def test_a_secret_that_could_not_be_read_is_left_out(text: str) -> None:
    """What a reader would choke on is not kept, even if its author meant it."""
    store = store_of(FIRST, ADMISSION, JOINED)
    record, beside = with_secret(text)
    store.offer([incoming(record, beside)])
    assert kept(store) == [None]


def test_a_void_records_secrets_are_left_out() -> None:
    """What writes nothing keeps nothing."""
    value, beside = secret(PASSWORD, TEXT)
    void = sealed(following(JOINED, kind="GroupAdded", writes=(write(PASSWORD, value),)), BERT)
    store = store_of(FIRST, ADMISSION, JOINED)
    store.offer([incoming(void, beside)])
    assert store.void(void)
    assert store.log.secrets == {}
