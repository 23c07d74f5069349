"""What is refused: with what and why and what next, without a traceback, and nothing is changed by it."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.machines import PASSWORD, Machine, fleet

#: A machine of the cluster that the refused commands are given on, one that is in no cluster, and their folder.
Site = tuple[Machine, Machine]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A member of a cluster of two with a group more, and a machine that is in none."""
    with fleet(tmp_path_factory.mktemp("refusals")) as machines:
        member, _ = machines.cluster("mx1", "mx2")
        member.do("clusterconfig", "addgroup", "Paris")
        member.do("set", "plain", "1", "-m", "why")
        member.do("add", "hosts", "one", "-m", "why")
        (machines.folder / "latin1.cf").write_bytes("greeting = hello\nname = caf\u00e9\n".encode("latin-1"))
        (machines.folder / "broken.json").write_text('{"a": 1,')
        (machines.folder / "inexact.json").write_text('{"version": 1.10}')
        (machines.folder / "twice.json").write_text('{"a": 1, "a": 2}')
        yield member, machines.machine("mx9").init()


#: (what is wrong, words, what the operator is told); MISSING and the like stand for files in the site's folder.
AT_A_MEMBER = [
    ("unknown machine", "clusterconfig setgroup nobody.example.com Paris", "nobody.example.com"),
    ("unknown group", "clusterconfig setgroup mx1.example.com Rome", "Rome"),
    ("unknown group as a level", "set a 1 --level group:Rome", "Rome"),
    ("unknown machine as a level", "set a 1 --level machine:nobody", "nobody"),
    ("no level at all", "set a 1 --level planet", "planet"),
    ("unknown machine to detach", "clusterconfig disconnect nobody", "nobody"),
    ("not detached", "clusterconfig reconnect mx2.example.com", "not detached"),
    ("duplicate group", "clusterconfig addgroup PARIS", "PARIS"),
    ("duplicate hostname", "machine set --hostname MX2.example.com", "MX2.example.com"),
    ("empty hostname", "machine set --hostname=", "empty"),
    ("empty group name", "clusterconfig addgroup ''", "empty"),
    ("empty key", "set '' 1", "key"),
    ("part of a key empty", "set a..b 1", "a..b"),
    ("already in a cluster", "clusterconfig create europe", "already in the cluster americas"),
    ("key is not set", "get nothing.here", "nothing.here"),
    ("nothing to unset", "unset nothing.here", "nothing.here"),
    ("no such element", "remove hosts two", "two"),
    ("added to a plain value", "add plain two", "plain"),
    ("no such file", "loadconfig MISSING", "MISSING"),
    ("file that is a folder", "loadconfig mx1", "mx1"),
    ("file not in UTF-8", "loadconfig latin1.cf", "line 2"),
    ("file that is no JSON", "loadconfig broken.json", "broken.json"),
    ("file with a number that would change", "loadconfig inexact.json", "1.10"),
    ("file with a name twice", "loadconfig twice.json", "twice"),
    ("value that is no JSON", 'set a {"b":', "expected a value"),
    ("value over the limit", "set a " + "x" * 70_000, "65536"),
    ("no such event", "log --since 0123456789", "0123456789"),
    ("port that is taken", "machine set --ssh-port TAKEN", "cannot listen"),
    ("store made twice", "init --hostname again", "already a store"),
]
AT_A_MACHINE_ALONE = [
    ("group without a cluster", "clusterconfig addgroup Paris", "not in a cluster"),
    ("detaching without a cluster", "clusterconfig disconnect mx9.example.com", "not in a cluster"),
    ("cluster without a name", "clusterconfig create ''", "empty"),
    ("group level without a cluster", "set a 1 --level group:Paris", "Paris"),
]


def refuse(machine: Machine, words: str, told: str) -> None:
    """Insist that a command is refused and says so. Words are separated by blanks; ``''`` is an empty one."""
    with socket.create_server((machine.address, 0)) as busy:
        given = [word.replace("''", "") for word in words.replace("TAKEN", str(busy.getsockname()[1])).split(" ")]
        files = {path.name: str(path) for path in machine.folder.iterdir()} | {
            "MISSING": str(machine.folder / "MISSING")
        }
        error = machine.refused(*(files.get(word, word) if "load" in given[0] else word for word in given))
    assert told in error
    first, *hint = error.strip().splitlines()
    # Of a fault in a file, the place in it is what to do.
    assert hint or ", column " in first, f"there is no word of what to do: {error}"


@pytest.mark.parametrize(("words", "told"), [case[1:] for case in AT_A_MEMBER], ids=[case[0] for case in AT_A_MEMBER])
def test_refused_at_a_member(site: Site, words: str, told: str) -> None:
    """A member refuses what cannot be, and is what it was."""
    refuse(site[0], words, told)


@pytest.mark.parametrize(
    ("words", "told"), [case[1:] for case in AT_A_MACHINE_ALONE], ids=[case[0] for case in AT_A_MACHINE_ALONE]
)
def test_refused_at_a_machine_alone(site: Site, words: str, told: str) -> None:
    """A machine that is in no cluster refuses what needs one."""
    refuse(site[1], words, told)


def test_a_join_that_cannot_be_is_refused(site: Site) -> None:
    """Wrong fingerprint or password, an unknown group, a silent host, a machine that is in already."""
    member, alone = site
    words = alone.joining(member)
    typed = PASSWORD + "\n"
    at = words.index("--fingerprint") + 1
    fingerprint = "SHA256:" + "A" * 43
    told = alone.refused(*words[:at], fingerprint, *words[at + 1 :], typed=typed)
    assert words[at] in told
    assert "does not let admin in" in alone.refused(*words, typed="wrong\n")
    assert "Rome" in alone.refused(*words, "--group", "Rome", typed=typed)
    # There are two groups, so one must be named.
    assert "Main_Group, Paris" in alone.refused(*words, typed=typed)
    with socket.create_server((alone.address, 0)) as nobody:
        port = nobody.getsockname()[1]
    unreachable = [f"{alone.address}:{port}" if word == words[2] else word for word in words]
    assert "is unreachable" in alone.refused(*unreachable, typed=typed)
    unknown = ["no-such-host.invalid" if word == words[2] else word for word in words]
    assert "no-such-host.invalid" in alone.refused(*unknown, typed=typed)
    assert "already in the cluster americas" in member.refused(*words, typed=typed)


def test_a_join_that_does_not_fit_is_refused(site: Site) -> None:
    """Another version, other interface names, a hostname that is taken: each with both sides' facts and the cure."""
    member, alone = site
    typed = PASSWORD + "\n"
    words = alone.joining(member, "--group", "Paris")
    alone.do("machine", "set", "--platform-version", "9.9")
    told = alone.refused(*words, typed=typed)
    assert "9.9" in told
    alone.do("machine", "set", "--platform-version", member.ask("machine", "show")["platform_version"])
    alone.do("machine", "set", "--interface", f"Data 1={alone.address}")
    assert "Data 1" in alone.refused(*words, typed=typed)
    alone.do("machine", "set", "--interface", f"Management={alone.address}", "--hostname", member.hostname)
    assert member.hostname in alone.refused(*words, typed=typed)
    alone.do("machine", "set", "--hostname", alone.hostname)
    rehearsed = alone.run(*words, "--dry-run", typed=typed).expect(0)
    assert "americas" in rehearsed.out + rehearsed.err
    assert alone.status()["cluster"] is None


@pytest.fixture
def damaged(site: Site, tmp_path: Path) -> Machine:
    """A copy of a store, to be damaged."""
    copy = Machine(tmp_path, "copy", "127.0.0.1")
    shutil.copytree(site[1].store, copy.store)
    return copy


def refused_by_every_door(machine: Machine) -> str:
    """Insist that reading, writing and serving are all refused in two lines; return what is said."""
    told = [machine.run(*words).expect(1).err for words in (("get", "a"), ("set", "a", "1"), ("serve",), ("status",))]
    assert all(len(text.strip().splitlines()) == 2 for text in told), told
    return "".join(told)


def test_a_corrupt_database_is_not_used(damaged: Machine) -> None:
    """A file that is no database, and one whose newest record is gone, are called damaged by every command."""
    database = damaged.store / "cluster.db"
    whole = database.read_bytes()
    database.write_bytes(b"this is no database" * 1000)
    assert "is not a database" in refused_by_every_door(damaged)
    database.write_bytes(whole[: len(whole) // 2])
    refused_by_every_door(damaged)
    database.write_bytes(b"")
    assert "is empty" in refused_by_every_door(damaged)


def test_a_store_of_a_later_version_is_not_used(damaged: Machine) -> None:
    """A schema that this version does not know is neither read nor written."""
    connection = sqlite3.connect(damaged.store / "cluster.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "later version" in refused_by_every_door(damaged)


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Without a store, and with one whose keys are gone, each command says so and what to do."""
    nowhere = Machine(tmp_path, "nowhere", "127.0.0.1")
    assert "cluster-store init" in refused_by_every_door(nowhere)
    assert not nowhere.store.exists()
