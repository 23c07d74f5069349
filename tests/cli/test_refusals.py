"""Every refusal: exit status 1, what and why, what to do, no traceback, nothing changed."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cluster_store import bootstrap
from tests.cli.stores import Store, run

#: In a cluster: the command, and what its refusal says.
IN_A_CLUSTER = [
    # unknown names
    (["get", "none"], "none is not set for this machine"),
    (["get", "none", "--level", "group:paris"], "none is not set at group:paris"),
    (["get", "none", "--machine", "mx1.example.com"], "none is not set for mx1.example.com"),
    (["get", "key", "--machine", "mx7"], "there is no machine named 'mx7'"),
    (["get", "key", "--level", "group:rome"], "there is no group named 'rome'"),
    (["get", "key", "--level", "planet"], "'planet' is no level"),
    (["set", "key", "1", "--level", "group:rome"], "there is no group named 'rome'"),
    (["set", "key", "1", "--level", "machine:mx7"], "there is no machine named 'mx7'"),
    (["set", "key", "1", "--level", ""], "'' is no level"),
    (["unset", "none"], "none is not set at cluster"),
    (["unset", "key", "--level", "group:paris"], "key is not set at group:paris"),
    (["remove", "hosts", "z"], "is not in hosts at cluster"),
    (["remove", "key", "z"], "key is not a set of values"),
    (["add", "key", "z"], "key has a plain value at cluster"),
    (["set", "hosts", "z"], "hosts is a set of values"),
    (["showconfig", "--machine", "mx7"], "there is no machine named 'mx7'"),
    (["showconfig", "--level", "group:rome"], "there is no group named 'rome'"),
    (["saveconfig", "-", "--level", "group:rome"], "there is no group named 'rome'"),
    (["clusterconfig", "setgroup", "mx7", "paris"], "there is no machine named 'mx7'"),
    (["clusterconfig", "setgroup", "mx1.example.com", "rome"], "there is no group named 'rome'"),
    (["clusterconfig", "disconnect", "mx7"], "there is no machine named 'mx7'"),
    (["clusterconfig", "disconnect", "mx1.example.com", "mx7"], "there is no machine named 'mx7'"),
    (["clusterconfig", "reconnect", "mx7"], "there is no machine named 'mx7'"),
    (["clusterconfig", "reconnect", "mx1.example.com"], "mx1.example.com is not detached"),
    # names that are taken or none
    (["clusterconfig", "addgroup", "PARIS"], "there is already a group named 'PARIS'"),
    (["clusterconfig", "addgroup", ""], "a group name is empty"),
    (["clusterconfig", "addgroup", " paris "], "begins or ends with a blank"),
    (["clusterconfig", "addgroup", "a:b"], "holds :, which names cannot"),
    (["machine", "set", "--hostname", ""], "a hostname is empty"),
    (["machine", "set", "--serial", ""], "a serial number is empty"),
    (["set", "", "1"], "a key is empty"),
    (["set", "a..b", "1"], "the key 'a..b' has an empty part"),
    (["get", "a..b"], "the key 'a..b' has an empty part"),
    # already in a cluster
    (["clusterconfig", "create", "other"], "this machine is already in the cluster americas"),
    (["init", "--hostname", "mx2", "--ssh-port", "0", "--ccs-port", "0"], "there is already a store in"),
    # hidden by a more specific value
    (["set", "own", "1"], "own is set at machine:mx1.example.com for this machine"),
    (["unset", "own"], "own is set at machine:mx1.example.com for this machine"),
    # values that cannot be kept, or are too large
    (["set", "key", '{"a": 1'], "the value"),
    (["set", "key", '{"a": 1, "a": 2}'], "the value"),
    (["set", "key", '{"a": 1.10}'], "1.10"),
    (["set", "key", "[1e400]"], "1e400"),
    (["set", "key", 70 * 1000 * "x"], "65536"),
    (["set", "key", "2", "-m", 5000 * "x"], "4096"),
    (["add", "hosts", 70 * 1000 * "x"], "65536"),
    (["set", "k" * 600, "1"], "512"),
    (["get", "none", "--default", "{"], "the value"),
    (["set", "key", "--secret"], "there is nobody to ask"),
    (["passwd"], "there is nobody to ask"),
    (["passwd", "--password-stdin"], "an empty password is no password"),
    # files
    (["loadconfig", "no/such/file.json"], "there is no file no/such/file.json"),
    (["loadconfig", "/"], "/ is a folder"),
    (["loadconfig", "/dev/null"], "its ending tells no format"),
    (["loadconfig", "-", "--format", "json"], "- has no settings"),
    (["saveconfig", "x.toml"], "toml"),
]


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A member with a few settings. Its tests are all refused, so they can share it."""
    store = Store(tmp_path_factory.mktemp("settled") / "mx1").init()
    store.do("clusterconfig", "create", "americas", "--by", "ip")
    store.do("clusterconfig", "addgroup", "paris")
    store.do("set", "key", "1", "-m", "why")
    store.do("set", "own", "1", "--level", "machine:mx1.example.com", "-m", "why")
    store.do("add", "hosts", "a", "-m", "why")
    return store


def named(words: object) -> str:
    """Return a short name for a case."""
    return " ".join(word[:20] for word in words) if isinstance(words, list) else ""


@pytest.mark.parametrize(("words", "told"), IN_A_CLUSTER, ids=named)
def test_a_member_refuses(settled: Store, words: list[str], told: str) -> None:
    """The name, value or file is named with the reason."""
    assert told in settled.refuse(*words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["clusterconfig", "list"], "this machine is not in a cluster"),
        (["clusterconfig", "addgroup", "paris"], "this machine is not in a cluster"),
        (["clusterconfig", "setgroup", "mx1.example.com", "paris"], "this machine is not in a cluster"),
        (["clusterconfig", "disconnect", "mx1.example.com"], "this machine is not in a cluster"),
        (["clusterconfig", "reconnect", "mx1.example.com"], "this machine is not in a cluster"),
        (["clusterconfig", "create", ""], "a cluster name is empty"),
        (["set", "key", "1", "--level", "cluster"], "this machine is not in a cluster, so it has no cluster level"),
        (["set", "key", "1", "--level", "group:paris"], "there is no group named 'paris'"),
    ],
    ids=named,
)
def test_a_machine_alone_refuses(store: Store, words: list[str], told: str) -> None:
    """What only a cluster has, it has not; how to get into one is said."""
    assert told in store.refuse(*words)


@pytest.mark.parametrize("command", [["clusterconfig", "addgroup", "paris"], ["clusterconfig", "list"]], ids=named)
def test_whoever_is_in_no_cluster_is_told_how_to_get_into_one(store: Store, command: list[str]) -> None:
    """Both ways in are named."""
    hint = store.refuse(*command).splitlines()[1]
    assert "clusterconfig create NAME" in hint
    assert "clusterconfig join HOST --ssh" in hint


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (b"a = 1\n\xff\n", "x.cf", "line 2, byte 1 (0xFF) is not UTF-8"),
        (b'{"a": 1, "a": 2}', "x.json", "x.json"),
        (b'{"a": 1.10}', "x.json", "1.10"),
        (b"{", "x.json", "x.json"),
        (b"[1]", "x.json", "holds a single value"),
        (b"no setting\n", "x.cf", "line 1: 'no setting' is not of the form name = value"),
        (b"a: 2026-01-01\n", "x.yaml", "is a date"),
        (b"a: [\n", "x.yaml", "not YAML"),
        (b"a = 1979-05-27\n", "x.toml", "a"),
        (b"a = 1\na..b = 2\n", "x.cf", "line 2: the key 'a..b' has an empty part"),
        (b"a = " + 70_000 * b"x", "x.cf", "65536"),
        (b"".join(b"k%d = 1\n" % number for number in range(20_001)), "x.cf", "20001 settings"),
        (b"\0", "x.cf", "is no text"),
        (b"", "x.cf", "x.cf has no settings"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("x.") else "",
)
@pytest.mark.parametrize("rehearsal", [[], ["--dry-run"]], ids=["", "dry-run"])
def test_a_file_that_cannot_be_kept_is_refused_whole(
    settled: Store, tmp_path: Path, content: bytes, name: str, told: str, rehearsal: list[str]
) -> None:
    """By its place and reason; none of its settings is set."""
    file = tmp_path / name
    file.write_bytes(content)
    assert told in settled.refuse("loadconfig", str(file), *rehearsal)


@pytest.mark.parametrize("rehearsal", [[], ["--dry-run"]], ids=["", "dry-run"])
def test_a_file_for_an_unknown_level_is_refused(settled: Store, rehearsal: list[str]) -> None:
    """A rehearsal refuses what the performance would."""
    words = ["loadconfig", "-", "--format", "json", "--level", "group:rome", *rehearsal]
    assert "there is no group named 'rome'" in settled.refuse(*words, typed='{"a": 1}')


def test_an_unknown_user_gets_no_password(settled: Store) -> None:
    """Nobody is made by a slip of the keyboard."""
    assert "there is no user named 'nobody'" in settled.refuse("passwd", "nobody", "--password-stdin", typed="x\n")


def test_standard_input_that_is_no_text_is_no_password(settled: Store) -> None:
    """Nor is one without an end."""
    assert "is not UTF-8" in settled.refuse("passwd", "--password-stdin", typed=b"\xff\n")
    assert "longer than" in settled.refuse("passwd", "--password-stdin", typed=70_000 * b"x")
    assert "longer than" in settled.refuse("set", "key", "--secret", "--password-stdin", typed=70_000 * b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_named(settled: Store, tmp_path: Path) -> None:
    """With the system's reason."""
    file = tmp_path / "x.cf"
    file.touch(mode=0)
    assert "Permission denied" in settled.refuse("loadconfig", str(file))


# --- the store itself ----------------------------------------------------------------------------------

WRITE, READ = ["set", "key", "1"], ["get", "key"]
EITHER = pytest.mark.parametrize("words", [WRITE, READ, ["status"], ["showconfig"]], ids=named)


@EITHER
def test_where_there_is_no_store_init_is_named(tmp_path: Path, words: list[str]) -> None:
    """No folder is made by asking."""
    store = Store(tmp_path / "none")
    assert "cluster-store init --hostname NAME" in store.refuse(*words)
    assert not store.root.exists()


@EITHER
def test_a_store_whose_making_was_cut_short_is_not_used(store: Store, words: list[str]) -> None:
    """There is no database yet: whatever is there, ``init`` begins anew."""
    (store.root / "cluster.db").unlink()
    assert "init" in store.refuse(*words)


@EITHER
def test_a_corrupt_database_is_named(store: Store, words: list[str]) -> None:
    """What is no database is not taken for an empty one, and is left as it is."""
    database = store.root / "cluster.db"
    database.write_bytes(b"no database " * 1000)
    outcome = store.run(*words).expect(1)
    assert str(database) in outcome.err
    assert len(outcome.err.splitlines()) == 2
    assert database.read_bytes() == b"no database " * 1000


@EITHER
def test_a_newer_schema_is_named(store: Store, words: list[str]) -> None:
    """Its version and ours, and that the later program is wanted."""
    with closing(sqlite3.connect(store.root / "cluster.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    outcome = store.run(*words).expect(1)
    assert "later version" in outcome.err
    assert "99" in outcome.err
    assert len(outcome.err.splitlines()) == 2


@contextmanager
def held(store: Store) -> Iterator[None]:
    """Hold a store for writing, as another process would."""
    with (store.root / "lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write("cluster-store restore (process 4711)\n")
        file.flush()
        yield


@pytest.mark.parametrize(
    "words", [WRITE, ["serve"], ["clusterconfig", "create", "americas"], ["connstatus"]], ids=named
)
def test_whoever_holds_the_store_is_named(store: Store, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """After some patience; reading goes on meanwhile."""
    monkeypatch.setattr(bootstrap, "_PATIENCE_S", 0.1)
    words = ["clusterconfig", *words] if words == ["connstatus"] else words
    with held(store):
        assert "is held by cluster-store restore (process 4711)" in store.refuse(*words)
        assert store.run("get", "key", "--default", "1").status == 0


def test_a_store_s_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "file").touch()
    outcome = Store(tmp_path / "file" / "store").run("init", "--hostname", "mx1").expect(1)
    assert "cannot be made" in outcome.err
    assert len(outcome.err.splitlines()) == 2


def test_init_refuses_bad_names(tmp_path: Path) -> None:
    """Before anything is made."""
    store = Store(tmp_path / "store")
    for words, told in (
        (["--hostname", ""], "a hostname is empty"),
        (["--hostname", "a/b"], "holds /, which names cannot"),
        (["--hostname", "mx1", "--serial", "a:b"], "the serial number 'a:b' holds :"),
        (["--hostname", "mx1", "--interface", "=192.0.2.1"], "an interface name is empty"),
        (["--hostname", "mx1", "--password-stdin"], "an empty password is no password"),
    ):
        assert told.removeprefix("an ") in run("--store", str(store.root), "init", *words).expect(1).err
        assert not (store.root / "cluster.db").exists()
    store.init()


def test_a_refusal_s_json_is_no_json(settled: Store) -> None:
    """Scripts see the exit status; standard output stays empty."""
    assert settled.run("get", "none", "--json").expect(1).out == ""
    with pytest.raises(json.JSONDecodeError):
        json.loads(settled.refuse("clusterconfig", "addgroup", "paris", "--json"))
