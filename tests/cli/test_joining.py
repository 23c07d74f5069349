"""``clusterconfig join`` and ``serve``: a member that is a process of its own, and a machine that wants in."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster_store_cli import prompts

from cluster_store.adapters import store_swap
from cluster_store.adapters.resolver import SystemResolver
from cluster_store.core.errors import StoreFull
from tests.cli.daemons import serving
from tests.cli.stores import Store
from tests.waiting import wait_until

PASSWORD = "Haus+Baum Katze"


@dataclass(frozen=True)
class Member:
    """A serving member of a cluster with two groups and one setting."""

    store: Store
    port: int
    fingerprint: str

    @property
    def place(self) -> str:
        """Where it is dialled."""
        return f"127.0.0.1:{self.port}"

    def invitation(self, *words: str, group: str = "paris") -> list[str]:
        """Return a command that joins it, with more words behind."""
        words = (*words, "--group", group) if group else words
        join = ["clusterconfig", "join", self.place, "--ssh", "--yes", "--password-stdin"]
        return [*join, "--fingerprint", self.fingerprint, *words]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """The member that all here want to join. Each joiner has a hostname of its own."""
    store = Store(tmp_path_factory.mktemp("member") / "mx1")
    store.init("mx1.example.com", "--password-stdin", typed=PASSWORD + "\n")
    store.do("clusterconfig", "create", "americas", "--by", "ip")
    store.do("clusterconfig", "addgroup", "paris")
    store.do("set", "smtp.banner", "Welcome", "-m", "why")
    with serving(store, "--json") as line:
        about = json.loads(line)
        yield Member(store, about["ssh_port"], about["fingerprint"])


@pytest.fixture
def joiner(tmp_path: Path) -> Store:
    """A machine alone, with a setting of its own."""
    store = Store(tmp_path / "joiner").init(f"{tmp_path.name.replace('_', '-')}.example.com")
    store.do("set", "own", "1", "-m", "why")
    return store


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody sits there and gives these answers, once filled in; the password is always the right one."""
    answers: list[str] = []
    monkeypatch.setattr(prompts, "at_terminal", lambda: True)
    monkeypatch.setattr(prompts, "ask", lambda _: answers.pop(0))
    monkeypatch.setattr("getpass.getpass", lambda *_: PASSWORD)
    return answers


def test_serve_prints_one_line_when_it_accepts_connections(joiner: Store) -> None:
    """Its name, place and key, then nothing more; ``status`` tells the same, and that it serves."""
    with serving(joiner) as line:
        status = joiner.ask("status")
        assert line == (
            f"{status['hostname']} accepts connections at 127.0.0.1:{status['ssh_port']}, {status['fingerprint']}\n"
        )
        assert status["serving"] is True
        with socket.create_connection(("127.0.0.1", status["ssh_port"])) as connection:
            assert connection.recv(4) == b"SSH-"
        assert "cluster-store serve" in joiner.refuse("serve")
    assert joiner.ask("status")["serving"] is False


def test_a_daemon_moves_to_another_port_at_once(joiner: Store) -> None:
    """``machine set`` changes the record and the listener."""
    with serving(joiner):
        before = joiner.ask("status")["ssh_port"]
        after = joiner.ask("machine", "set", "--ssh-port", "0")["ssh_port"]
        assert joiner.ask("status")["ssh_port"] == after != before
        socket.create_connection(("127.0.0.1", after)).close()


def test_a_port_in_use_is_named(joiner: Store) -> None:
    """Nothing is printed on standard output: it does not accept connections."""
    port = joiner.ask("status")["ssh_port"]
    with socket.create_server(("127.0.0.1", port)):
        assert f"cannot listen on 127.0.0.1:{port}" in joiner.refuse("serve")


def test_a_join_brings_the_cluster_and_keeps_what_was(member: Member, joiner: Store) -> None:
    """The cluster's settings take the place of the machine's own, which stay in a file beside the store.

    What is staged stays so, and what the join took from under it is shown.
    """
    joiner.do("set", "own", "2")
    told = joiner.ask(*member.invitation(), typed=PASSWORD)
    (changed,) = joiner.ask("diff")["changed_since"]
    assert (changed["stood"], changed["stands"], changed["staged"]) == ([1], [], 2)
    assert (told["cluster"], told["group"], told["through"]) == ("americas", "paris", "mx1.example.com")
    assert Path(told["former"]).is_file()
    saved = Path(told["saved"])
    assert (saved.parent, json.loads(saved.read_text())) == (joiner.root, {"own": 1})
    assert saved.stat().st_mode & 0o777 == 0o600
    assert joiner.get("smtp.banner") == "Welcome"
    assert joiner.run("get", "own").status == 1
    wait_until(lambda: joiner.ask("status")["digest"] == member.store.ask("status")["digest"])
    assert joiner.ask("status")["group"] == "paris"
    hint = joiner.refuse(*member.invitation(), typed=PASSWORD)
    assert "this machine is already in the cluster americas" in hint


def test_a_rehearsed_join_changes_nothing(member: Member, joiner: Store) -> None:
    """On neither machine; it says what would come of it."""
    before = joiner.state(), member.store.state()
    told = joiner.ask(*member.invitation("--dry-run"), typed=PASSWORD)
    assert (told["cluster"], told["group"], told["dry_run"]) == ("americas", "paris", True)
    assert "this machine would be in the cluster americas" in joiner.do(*member.invitation("--dry-run"), typed=PASSWORD)
    assert (joiner.state(), member.store.state()) == before


def test_a_rehearsed_join_shows_what_would_be_lost_and_gained(member: Member, joiner: Store) -> None:
    """Key by key, with the level that gives it; users, and what stays. Secrets are not told."""
    joiner.do("set", "smtp.banner", "Mine", "-m", "why")
    joiner.do("set", "secret", "--secret", "--password-stdin", "-m", "why", typed="hush-hush")
    member.store.do("set", "group.only", "7", "--level", "group:paris", "-m", "why")
    member.store.do("set", "there", "--secret", "--password-stdin", "-m", "why", typed="hush-hush")
    differences = joiner.ask(*member.invitation("--dry-run"), typed=PASSWORD)["differences"]
    assert [tuple(change.values()) for change in differences["settings"]] == [
        ("group.only", None, 7, "group:paris", False),
        ("own", 1, None, None, True),
        ("secret", "(secret)", None, None, True),
        ("smtp.banner", "Mine", "Welcome", "cluster", False),
        ("there", None, "(secret)", "cluster", False),
    ]
    assert differences["users"] == {"lost": [], "gained": [], "replaced": ["admin"]}
    assert differences["kept"]["hostname"] == joiner.ask("machine", "show")["hostname"]
    assert differences["kept"]["interfaces"] == {"Management": "127.0.0.1"}
    shown = joiner.do(*member.invitation("--dry-run"), typed=PASSWORD)
    assert "hush-hush" not in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["smtp.banner", '"Mine"', '"Welcome"', "cluster"] in lines
    assert ["own", "1", "unset"] in lines
    assert "users that become the cluster's, with the cluster's password and role: admin" in shown
    assert "interfaces Management=127.0.0.1" in shown
    told = joiner.ask(*member.invitation(), typed=PASSWORD)
    assert told["left_out"] == ["secret"]
    assert json.loads(Path(told["saved"]).read_text()) == {"own": 1, "smtp.banner": "Mine"}
    assert (joiner.get("group.only"), joiner.get("smtp.banner")) == (7, "Welcome")
    for key in ("group.only", "there"):
        level = "group:paris" if key == "group.only" else "cluster"
        member.store.do("clusterset", "delete", key, "--from", level, "-m", "why")


def files_of(store: Store) -> list[str]:
    """Return what is in a store's folder, but for what SQLite makes and takes away, and what the next join replaces."""
    passing = ("joining.db", "cluster.db-")
    return sorted(path.name for path in store.root.iterdir() if not path.name.startswith(passing))


def test_a_join_that_fails_at_its_very_end_leaves_the_machine_as_it_was(
    member: Member, joiner: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is left either; the same join works later."""
    before = joiner.state(), files_of(joiner)

    def full(*_: object) -> None:
        raise StoreFull("there is no room", "make some")

    with monkeypatch.context() as patched:
        patched.setattr(store_swap, "replace_database", full)
        assert "there is no room" in joiner.run(*member.invitation(), typed=PASSWORD).expect(1).err
    assert (joiner.state(), files_of(joiner)) == before
    assert joiner.get("own") == 1
    joiner.do(*member.invitation(), typed=PASSWORD)
    assert joiner.ask("status")["group"] == "paris"


def refused(member: Member, joiner: Store, *words: str, typed: str = PASSWORD) -> str:
    """Have a join refused; nothing changes on either machine and no password is told."""
    before = member.store.state()
    told = joiner.refuse(*words, typed=typed)
    assert member.store.state() == before
    assert PASSWORD not in told
    return told


def test_a_wrong_password_is_refused(member: Member, joiner: Store) -> None:
    """Who and where is said, and neither password."""
    told = refused(member, joiner, *member.invitation(), typed="wrong+wrong")
    assert f"{member.place} does not let admin in" in told
    assert "wrong+wrong" not in told
    assert "does not let nobody in" in refused(member, joiner, *member.invitation("--user", "nobody"))


def test_a_wrong_fingerprint_is_refused_with_the_one_that_was_shown(member: Member, joiner: Store) -> None:
    """So that it can be compared; --yes does not accept it."""
    words = ["clusterconfig", "join", member.place, "--ssh", "--password-stdin", "--yes", "--group", "paris"]
    for given in (["--fingerprint", "SHA256:" + 43 * "A"], []):
        assert member.fingerprint in refused(member, joiner, *words, *given)


def test_whoever_is_not_there_is_named(member: Member, joiner: Store) -> None:
    """An address without a daemon, and a name that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    words = ["--ssh", "--yes", "--password-stdin", "--fingerprint", member.fingerprint]
    assert f"127.0.0.1:{port} is unreachable" in refused(
        member, joiner, "clusterconfig", "join", f"127.0.0.1:{port}", *words
    )
    told = refused(member, joiner, "clusterconfig", "join", "nobody.invalid", *words)
    assert "cannot look up the name in nobody.invalid:22" in told


def test_what_a_member_demands_is_said_in_its_words(member: Member, joiner: Store) -> None:
    """A group's name where there are several, and facts that fit."""
    assert "several groups\nsay which one with --group: Main_Group, paris" in refused(
        member, joiner, *member.invitation(group="")
    )
    assert "there is no group named 'rome'" in refused(member, joiner, *member.invitation(group="rome"))
    assert "an empty password is no password" in refused(member, joiner, *member.invitation(), typed="")
    joiner.do("machine", "set", "--platform-version", "9.9")
    assert "runs version 9.9" in refused(member, joiner, *member.invitation())
    version = member.store.ask("machine", "show")["platform_version"]
    joiner.do("machine", "set", "--platform-version", version, "--interface", "Data=127.0.0.1")
    assert "lacks Management and has also Data" in refused(member, joiner, *member.invitation())
    joiner.do("machine", "set", "--interface", "Management=127.0.0.1", "--hostname", "MX1.example.com")
    assert "the hostname MX1.example.com is taken" in refused(member, joiner, *member.invitation())


def test_a_cluster_that_uses_hostnames_is_joined_by_who_can_look_them_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the joiner stays as it was; a name whose address leads elsewhere is only warned of."""
    store = Store(tmp_path / "mx1").init("mx1.example.com", "--password-stdin", typed=PASSWORD + "\n")
    store.do("clusterconfig", "create", "americas", "--by", "hostname")
    # The member is a process of its own, which looks up this one for real.
    joiner = Store(tmp_path / "joiner").init("localhost")
    known: list[str] = []

    async def addresses(_: SystemResolver, __: str) -> list[str]:
        return known

    async def hostname(_: SystemResolver, __: str) -> str:
        return "localhost"

    monkeypatch.setattr(SystemResolver, "addresses", addresses)
    monkeypatch.setattr(SystemResolver, "hostname", hostname)
    with serving(store, "--json") as line:
        about = json.loads(line)
        words = Member(store, about["ssh_port"], about["fingerprint"]).invitation(group="")
        before = joiner.state()
        assert "localhost cannot look up mx1.example.com" in joiner.run(*words, typed=PASSWORD).expect(1).err
        assert joiner.state() == before
        known.append("127.0.0.1")
        told = joiner.run(*words, typed=PASSWORD).expect(0).err
        assert "warning: 127.0.0.1, the address of mx1.example.com, leads back to localhost on localhost" in told
        assert joiner.ask("status")["cluster"] == "americas"


def test_somebody_at_a_terminal_is_asked(member: Member, joiner: Store, at_a_terminal: list[str]) -> None:
    """Whether the key is right, which group, and whether to go on; a no at any of them changes nothing."""
    words = ["clusterconfig", "join", member.place, "--ssh"]
    before = joiner.state()
    for answers, why in ((["no"], "was not accepted"), (["y", "paris", ""], "was not confirmed")):
        at_a_terminal[:] = answers
        outcome = joiner.run(*words).expect(1)
        assert why in outcome.err
        assert member.fingerprint in outcome.err
        assert joiner.state() == before
    at_a_terminal[:] = ["yes", "Paris", "y"]
    told = joiner.run(*words).expect(0).err
    assert "The settings and users of the cluster americas will take" in told
    assert "Of its settings it loses 1 (own), gains 1 (smtp.banner).\n" in told
    assert joiner.ask("status")["group"] == "paris"
    assert at_a_terminal == []


def test_yes_answers_all_but_the_key(member: Member, joiner: Store, at_a_terminal: list[str]) -> None:
    """Only whether the key is right is asked for."""
    at_a_terminal[:] = ["y"]
    joiner.do("clusterconfig", "join", member.place, "--ssh", "--group", "paris", "--yes")
    assert at_a_terminal == []
    assert joiner.ask("status")["cluster"] == "americas"
