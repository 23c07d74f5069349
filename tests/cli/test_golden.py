"""Every form of the commands and every refusal, as transcripts: see ``transcript.py``.

Each folder of ``transcripts`` has a stage of its own:

- ``alone``: the machine mx1, which is in no cluster, and some files.
- ``member``: mx1 in the cluster americas with the groups Main_Group and paris. It has let in mx2 into Main_Group and
  mx3 into paris, which have not been heard of. A guest and an operator are logged in to it.
- ``staging``: the same, with Alice and Bob, who own its files as the owner does.
- ``joining``: mx1 serves and is the only member of americas with the groups Main_Group and paris; mx2 and mx3 are in no
  cluster. All are on this host.
- ``apart``: mx1 and mx2 were cut apart, changed the same things and met again; nobody serves.
- ``by_hostname``: ``joining`` in a cluster that goes by hostname: mx1 is localhost, and nobody can look up the others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from cluster_store import bootstrap
from cluster_store.adapters import local_socket
from cluster_store.adapters.local_client import LOGIN_VARIABLE
from cluster_store.core import commands
from cluster_store.core.roles import GUEST, OPERATOR, Caller
from tests.cli.daemons import serving
from tests.cli.stores import Outcome, Store, run
from tests.cli.transcript import Setting, Stage, comes_to_what_it_did, play
from tests.collisions import stored_collision
from tests.core.builders import identity
from tests.core.keyring import key_line
from tests.waiting import wait_until

FILES = sorted((Path(__file__).parent / "transcripts").glob("*/*.txt"))
PASSWORD = "korrektes Pferd"
#: How long two machines may take to agree on a busy host, seconds.
PATIENCE_S = 60.0
VERSION = ("--platform-version", "9.0")
JOINING = ("mx1.example.com", "mx2.example.com", "mx3.example.com")


@contextmanager
def alone(folder: Path) -> Iterator[Stage]:
    """Set the stage of a machine that is in no cluster."""
    for name in ("alice", "bob"):
        (folder / f"{name}.pub").write_text(key_line(name, f"{name} at home") + "\n")
    (folder / "private").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    (folder / "empty").write_text("# no key\n")
    (folder / "binary").write_bytes(b"\xff\xfe")
    store = Store(folder / "mx1").init("mx1.example.com", *VERSION)
    yield Stage({"mx1": store}, {"$FOLDER": str(folder), "$PASSWORD": PASSWORD})


@contextmanager
def member(folder: Path) -> Iterator[Stage]:
    """Set the stage of a member that is linked to nobody."""
    store = Store(folder / "mx1").init("mx1.example.com", *VERSION)
    store.do("clusterconfig", "create", "americas", "--by", "ip")
    store.do("clusterconfig", "addgroup", "paris")
    admit(store, "mx2", "Main_Group")
    admit(store, "mx3", "paris")
    people = {"guest": Caller("gus", GUEST, "key"), "operator": Caller("olga", OPERATOR, "key")}
    logins = {name: Person(store, caller).run for name, caller in people.items()}
    strangers = {"$STRANGER": key_line("mx9"), "$OTHER": key_line("mx8")}
    yield Stage({"mx1": store}, {"$FOLDER": str(folder), **strangers, **about(store)}, logins)


def admit(store: Store, name: str, group: str) -> None:
    """Let a machine in."""
    card = commands.Card(
        key=identity(name).key.hex(),
        hostname=f"{name}.example.com",
        serial=f"SERIAL-{name}",
        interfaces={"Management": "192.0.2.7"},
        version=store.ask("machine", "show")["platform_version"],
        ssh_port=22,
        ccs_port=2222,
        listen="",
        host_key=f"ssh-ed25519 host-{name}",
        client_key=f"ssh-ed25519 client-{name}",
    )
    bootstrap.submit(store.root, commands.AdmitMachine(card=card, group=group))


class Person:
    """Somebody who is logged in to a machine, as the program knows them: by what the daemon says."""

    def __init__(self, store: Store, caller: Caller) -> None:
        self._store = store
        self._caller = caller

    def run(self, *words: str, typed: str = "") -> Outcome:
        """Run a command for them."""
        environment = {"CLUSTER_STORE": str(self._store.root), LOGIN_VARIABLE: "a token"}
        known = mock.patch.object(bootstrap, "whoami", return_value=self._caller)
        with mock.patch.dict("os.environ", environment), known:
            return run(*words, typed=typed)


@contextmanager
def staging(folder: Path) -> Iterator[Stage]:
    """Set the stage of such a member, at which two people work beside its owner."""
    with member(folder) as stage:
        store = stage.machines["mx1"]
        yield replace(stage, logins={name: Neighbour(store, name).run for name in ("alice", "bob")})


class Neighbour:
    """Somebody who owns a store's files, under another name than this process."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    def run(self, *words: str, typed: str = "") -> Outcome:
        """Run a command for them."""
        with mock.patch.object(local_socket, "os_user", return_value=self._name):
            return self._store.run(*words, typed=typed)


@contextmanager
def joining(folder: Path, hostnames: Sequence[str] = JOINING, by: str = "ip") -> Iterator[Stage]:
    """Set the stage of a member that serves, and of two machines that may want to join."""
    stores = {name: Store(folder / name) for name in ("mx1", "mx2", "mx3")}
    for store, hostname in zip(stores.values(), hostnames, strict=True):
        words = ("--password-stdin",) if hostname == hostnames[0] else ()
        store.init(hostname, *VERSION, *words, typed=PASSWORD + "\n" if words else "")
    first = stores["mx1"]
    first.do("clusterconfig", "create", "americas", "--by", by)
    first.do("clusterconfig", "addgroup", "paris")
    first.do("set", "smtp.banner", "Welcome", "-m", "to all")
    with ExitStack() as daemons:

        def serve(name: str) -> None:
            daemons.enter_context(serving(stores[name]))
            wait_until(lambda: has_heard(stores[name], first), PATIENCE_S, what=f"{name} to hear what mx1 knows")

        told = json.loads(daemons.enter_context(serving(first, "--json")))
        places = {"$MX1": f"127.0.0.1:{told['ssh_port']}", "$CCS": f"127.0.0.1:{told['ccs_port']}"}
        names = {"$FOLDER": str(folder), "$PASSWORD": PASSWORD, **places}
        for name, store in stores.items():
            names |= {f"{key}_{name.upper()}": value for key, value in about(store).items()}
        yield Stage(stores, names, serve=serve)


@contextmanager
def by_hostname(folder: Path) -> Iterator[Stage]:
    """Set the stage of such a member of a cluster that goes by hostname; nobody can look up mx2."""
    with joining(folder, ("localhost", "mx2.invalid", "mx3.invalid"), "hostname") as stage:
        yield stage


@contextmanager
def apart(folder: Path) -> Iterator[Stage]:
    """Set the stage of two machines that were cut apart, changed the same things and met again."""
    asyncio.run(stored_collision(folder))
    yield Stage({name: Store(folder / name) for name in ("mx1", "mx2")}, {"$FOLDER": str(folder)})


def has_heard(store: Store, other: Store) -> bool:
    """Say whether a machine knows what another one does, or has been told that it is no member any more."""
    return store.state() == other.state() or store.ask("status")["removed"] is not None


def about(store: Store) -> Mapping[str, str]:
    """Return what a machine is known by."""
    with bootstrap.read(store.root) as reader:
        machine = reader.cluster().machines[reader.me]
    fingerprint = store.ask("status")["fingerprint"]
    return {"$KEY": machine.client_key, "$SERIAL": machine.serial, "$FINGERPRINT": fingerprint}


SETTINGS: Mapping[str, Setting] = {
    "alone": alone,
    "member": member,
    "staging": staging,
    "joining": joining,
    "by_hostname": by_hostname,
    "apart": apart,
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_commands_come_to_what_they_came_to_before(file: Path, tmp_path: Path) -> None:
    """Every answer, question, refusal and exit status is as recorded."""
    with SETTINGS[file.parent.name](tmp_path) as stage:
        comes_to_what_it_did(file, stage)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_transcript_says_what_it_is_about(file: Path) -> None:
    """It begins with a sentence, and something comes of it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert any(line.startswith(("| ", "! ")) for line in lines)


@pytest.mark.parametrize("recorded", ["$ userconfig list\n| nobody\n", "% clusterconfig\n| []> 7\n"])
def test_a_changed_outcome_is_noticed(recorded: str, tmp_path: Path) -> None:
    """The comparison can fail, for what is printed and for what is on the screen."""
    with alone(tmp_path) as stage:
        assert play(recorded, stage) != recorded
