"""Damaged stores of all kinds: what each command says of them, and what ``repair`` makes of them."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster_store import bootstrap
from cluster_store.adapters.store_folder import StoreFolder
from tests.cli.damage import copied, cut, flip, killed, log_of, state_of, statements, worked_with
from tests.cli.stores import Store

Damage = Callable[[Store], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that has been worked with; nobody changes it."""
    return worked_with(tmp_path_factory.mktemp("sound") / "mx1")


@pytest.fixture(scope="module")
def crashed(sound: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same, with four changes more that are in the write-ahead log alone; nobody changes it."""
    return killed(sound, tmp_path_factory.mktemp("crashed") / "mx1")


def content(store: Store) -> dict[str, bytes]:
    """Return what a store's files hold; an empty one is as good as none, and an index is made anew by any reader."""
    files = [path for path in store.root.glob("cluster.db*") if not path.name.endswith("-shm")]
    return {path.name: path.read_bytes() for path in files if path.stat().st_size}


def refusal(store: Store, *words: str) -> str:
    """Return what a command says that must fail, in one or two lines with the next step, and change nothing."""
    before = content(store)
    outcome = store.run(*words).expect(1)
    assert 1 <= len(outcome.err.splitlines()) <= 2, outcome.err
    assert "cluster-store repair" in outcome.err
    assert content(store) == before
    return outcome.err


OF_THE_FILE: list[tuple[str, Damage, str]] = [
    ("emptied", lambda store: cut(store.root / "cluster.db", 0), "is empty"),
    ("cut off", lambda store: cut(store.root / "cluster.db", 60_000), "was cut off"),
    ("no database", lambda store: flip(store.root / "cluster.db", 3), "is not a database"),
    ("another application", lambda store: flip(store.root / "cluster.db", 68), "another program's"),
    ("a cut tail", statements("DELETE FROM records WHERE position > 9"), "its tail was cut off"),
]
OF_THE_LOG: list[tuple[str, Damage, str]] = [
    ("a missing log", lambda store: log_of(store).unlink(), "has lost its write-ahead log"),
    ("a cut log", lambda store: cut(log_of(store), 100_000), "has lost the end of its write-ahead log"),
]


def names(cases: list[tuple[str, Damage, str]]) -> list[str]:
    """Return what the cases are called."""
    return [name for name, *_ in cases]


@pytest.mark.parametrize(("_", "damage", "told"), OF_THE_FILE, ids=names(OF_THE_FILE))
def test_a_damaged_file_is_told_by_every_command(
    sound: Store, tmp_path: Path, _: str, damage: Damage, told: str
) -> None:
    """Reading, writing, serving and verifying say what is wrong and what to do, and leave it as it is."""
    store = copied(sound, tmp_path / "mx1")
    damage(store)
    for words in (("get", "key.1"), ("status",), ("set", "key.1", "2", "-m", "x"), ("serve",)):
        assert told in refusal(store, *words)
    outcome = store.run("verify").expect(3)
    assert "cluster-store repair" in outcome.err


@pytest.mark.parametrize(("_", "damage", "told"), OF_THE_LOG, ids=names(OF_THE_LOG))
def test_a_lost_write_ahead_log_is_told_by_every_command(
    crashed: Store, tmp_path: Path, _: str, damage: Damage, told: str
) -> None:
    """No command takes what is left for the whole, or makes a new log and with it the loss unknowable."""
    store = copied(crashed, tmp_path / "mx1")
    damage(store)
    for words in (("get", "key.1"), ("serve",), ("status",), ("set", "key.1", "2", "-m", "x")):
        assert told in refusal(store, *words)
    assert told in store.run("verify").expect(3).out
    assert told in refusal(store, "get", "key.1")
    found = store.run("repair", "--json").expect(3)
    assert '"repaired":false' in found.out
    store.do("repair", "--accept-loss")
    store.do("verify")


def test_another_stores_write_ahead_log_is_not_taken(sound: Store, crashed: Store, tmp_path: Path) -> None:
    """A log that was left beside another database is not moved into it, and its records are not believed."""
    other = killed(worked_with(tmp_path / "other"), tmp_path / "other-killed")
    store = copied(crashed, tmp_path / "mx1")
    shutil.copy(log_of(other), log_of(store))
    for words in (("get", "key.1"), ("serve",), ("set", "key.1", "2", "-m", "x")):
        assert "two stores" in refusal(store, *words)
    store.run("repair").expect(3)
    store.do("repair", "--accept-loss")
    store.do("verify")
    assert set(state_of(store)[1]) <= set(state_of(crashed)[1])
    assert store.ask("status")["machine"] == sound.ask("status")["machine"]


@pytest.mark.parametrize("place", [5000, -3000], ids=["in the middle", "in the last change"])
def test_a_damaged_write_ahead_log_is_not_thrown_away(crashed: Store, tmp_path: Path, place: int) -> None:
    """SQLite would drop all behind the damage without a word; here nothing is opened, and what is behind it is read."""
    store = copied(crashed, tmp_path / "mx1")
    flip(log_of(store), place)
    assert "is damaged: changes in it would be lost" in refusal(store, "serve")
    for words in (("verify",), ("repair",), ("verify",)):
        assert "its write-ahead log is damaged" in store.run(*words).expect(3).out
    store.do("repair", "--accept-loss")
    store.do("verify")
    assert len(state_of(store)[1]) >= len(state_of(crashed)[1]) - 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda store: flip(store.root / "cluster.db", 68),
        statements("DELETE FROM lanes WHERE path LIKE '%key.1'"),
        statements("UPDATE lanes SET value = '\"owned\"' WHERE path LIKE '%key.2'"),
        statements("UPDATE lines SET seq = seq + 1"),
        statements("UPDATE documents SET saved = x'00'", "UPDATE tails SET changes = x'00'"),
        statements("DELETE FROM tips"),
        statements("UPDATE records SET hybrid = hybrid + 1 WHERE position = 3"),
        statements("UPDATE records SET void = 'is not wanted' WHERE position = 4"),
        statements("DROP TABLE documents"),
    ],
    ids=["header", "a lane gone", "a lane changed", "lines", "documents", "tips", "a column", "a verdict", "a table"],
)
def test_what_follows_from_the_records_is_made_again(sound: Store, tmp_path: Path, damage: Damage) -> None:
    """Where every record is there, ``repair`` alone makes a whole store; the damaged file is kept."""
    store = copied(sound, tmp_path / "mx1")
    damage(store)
    store.run("verify").expect(3)
    damaged = content(store)["cluster.db"]
    told = store.ask("repair")
    assert (told["complete"], told["repaired"]) == (True, True)
    assert Path(told["kept"]).read_bytes() == damaged
    assert Path(told["kept"]).stat().st_mode & 0o777 == 0o600
    store.do("verify", "--every-signature")
    assert state_of(store) == state_of(sound)
    assert store.do("get", "secret") == sound.do("get", "secret")
    store.do("set", "key.1", "anew", "-m", "x")
    begun, changed = store.do("log", "-n", "2").splitlines()
    assert "#1 " in begun
    assert "began a new epoch: repaired" in begun
    assert "#2 " in changed
    assert store.ask("repair")["healthy"]


def test_records_behind_a_gap_are_told_and_left_out(sound: Store, tmp_path: Path) -> None:
    """What went on from a lost record cannot be vouched for without it; the numbers are named."""
    store = copied(sound, tmp_path / "mx1")
    statements("DELETE FROM records WHERE position = 7")(store)
    assert "lacks 1 of its records" in refusal(store, "serve")
    before = content(store)
    outcome = store.run("repair").expect(3)
    total = len(state_of(sound)[1])
    assert f"6 of {total} records could be read and prove themselves" in outcome.out
    assert f"numbers 7 to {total}; {total - 7} of them could be read" in outcome.out
    assert "--accept-loss" in outcome.err
    assert content(store) == before
    assert not list(store.root.glob("repairing*"))
    told = store.ask("repair", "--accept-loss")
    (feed,) = told["feeds"]
    assert (feed["up_to"], feed["lost"]) == (6, total - 6)
    store.do("verify")
    assert state_of(store)[1] == state_of(sound)[1][:6]


def test_a_secret_whose_value_is_lost_is_named(sound: Store, tmp_path: Path) -> None:
    """No record holds it; it has to be set again, and then nothing is wrong any more."""
    store = copied(sound, tmp_path / "mx1")
    statements("DELETE FROM secrets WHERE path LIKE '%secret'")(store)
    outcome = store.run("repair").expect(3)
    assert "the value of the secret setting/cluster/secret is lost: set it again" in outcome.out
    store.do("set", "secret", "--secret", "--password-stdin", "--level", "cluster", "-m", "again", typed="neu")
    store.do("verify")


def test_nothing_is_done_to_a_whole_store(sound: Store, tmp_path: Path) -> None:
    """No option makes ``repair`` touch what is as it was written."""
    store = copied(sound, tmp_path / "mx1")
    before = content(store)
    for options in ((), ("--accept-loss",), ("--from-peers",)):
        assert store.do("repair", *options) == "nothing is wrong with the store\n"
    assert content(store) == before


def test_a_machine_alone_has_nobody_to_ask(sound: Store, tmp_path: Path) -> None:
    """It is told so, and nothing is changed."""
    store = copied(sound, tmp_path / "mx1")
    statements("DELETE FROM records WHERE position = 7")(store)
    before = content(store)
    outcome = store.run("repair", "--from-peers").expect(1)
    assert "no other member is known" in outcome.err
    assert content(store) == before


def test_lost_keys_cannot_be_made_again(sound: Store, tmp_path: Path) -> None:
    """Without them the machine can never be itself: the way is a backup, or a new identity and a join."""
    store = copied(sound, tmp_path / "mx1")
    shutil.rmtree(store.root / "keys")
    told = store.run("repair").expect(1).err
    assert "can never be itself again" in told
    assert "join" in told


def test_the_keys_of_another_machine_are_noticed(sound: Store, tmp_path: Path) -> None:
    """Nothing is written under an identity that is not the store's."""
    other = Store(tmp_path / "other").init("mx2.example.com")
    store = copied(sound, tmp_path / "mx1")
    shutil.rmtree(store.root / "keys")
    shutil.copytree(other.root / "keys", store.root / "keys")
    assert "another machine than its keys" in refusal(store, "set", "key.1", "2", "-m", "x")
    assert "another machine than the keys" in store.run("repair").expect(3).out


def test_a_store_that_is_held_is_left_alone(sound: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repair nor restore touches a store that a daemon or a command holds."""
    monkeypatch.setattr(bootstrap, "_PATIENCE_S", 0.1)
    store = copied(sound, tmp_path / "mx1")
    store.do("backup", str(tmp_path / "mx1.tar"))
    with StoreFolder(store.root).lock("cluster-store serve"):
        for words in (("repair",), ("restore", str(tmp_path / "mx1.tar"), "--force"), ("serve",)):
            assert "is held by cluster-store serve" in store.run(*words).expect(1).err


def test_a_command_that_holds_the_store_for_a_moment_is_waited_for(sound: Store, tmp_path: Path) -> None:
    """Whoever needs the store alone waits for a change that is being made, and then goes on."""
    store = copied(sound, tmp_path / "mx1")
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with StoreFolder(store.root).lock("cluster-store submit"):
            held.set()
            over.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    releasing = threading.Timer(0.2, over.set)
    releasing.start()
    try:
        assert store.do("repair") == "nothing is wrong with the store\n"
        assert over.is_set()
    finally:
        over.set()
        holder.join(30)


def test_there_is_nothing_to_repair_where_no_store_is(tmp_path: Path) -> None:
    """Not even a lock is left behind."""
    assert "there is no store" in Store(tmp_path / "none").run("repair").expect(1).err
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read a file")
@pytest.mark.parametrize("which", ["", "cluster.db", "keys"], ids=["the folder", "the database", "the keys"])
def test_files_that_this_user_may_not_read(sound: Store, which: str) -> None:
    """The permissions are told as what is wrong; nobody is told to repair what is not damaged."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = copied(sound, Path(folder) / "mx1")
        for path in (store.root, *store.root.rglob("*")):
            os.chown(path, 65534, 65534)
        os.chown(store.root / which, 0, 0)
        (store.root / which).chmod(0o700 if (store.root / which).is_dir() else 0o600)
        # Whatever is imported for the first time is imported as root.
        sound.do("repair")
        os.seteuid(65534)
        try:
            outcomes = [store.run(*words) for words in (("set", "key.1", "2", "-m", "x"), ("repair",), ("serve",))]
        finally:
            os.seteuid(0)
    for outcome in outcomes:
        assert outcome.status == 1
        assert "bug" not in outcome.err
        assert "damaged" not in outcome.err
        assert "user" in outcome.err or "who owns" in outcome.err


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bytes_changed_anywhere_are_never_taken_for_sound(sound: Store, tmp_path: Path, data: st.DataObject) -> None:
    """No command fails but by its own words, and what passes ``verify`` or was repaired says what was written."""
    whole = (sound.root / "cluster.db").read_bytes()
    store = Store(tmp_path / "mx1")
    shutil.rmtree(store.root, ignore_errors=True)
    copied(sound, store.root)
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    (store.root / "cluster.db").write_bytes(damaged)
    for words in (("get", "key.1"), ("status",), ("log",), ("verify",)):
        outcome = store.run(*words)
        assert "this is a bug" not in outcome.err, outcome
    repaired = store.run("repair")
    if repaired.status == 3 and "secret" not in repaired.out:
        repaired = store.run("repair", "--accept-loss")
    assert "this is a bug" not in repaired.err, repaired
    if repaired.status == 0:
        assert store.run("verify").status == 0
        digests, events = state_of(store)
        known, all_events = state_of(sound)
        assert set(events) <= set(all_events)
        assert len(events) < len(all_events) or digests == known
