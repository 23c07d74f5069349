"""``init``, ``machine``, ``status`` and ``passwd``: a machine before and between its clusters."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest
from cluster_store_cli import network, prompts

from tests.cli.stores import Store, run


@contextmanager
def listening(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Listen at a port, so that nobody else can."""
    with socket.create_server((address, port)) as server:
        yield server.getsockname()[1]


def test_a_store_begins_with_what_was_said(tmp_path: Path) -> None:
    """Everything that ``init`` was given is what ``machine show`` tells."""
    store = Store(tmp_path / "store")
    words = ["--hostname", "mx1.example.com", "--serial", "S-1", "--platform-version", "9.0"]
    words += ["--interface", "Management=192.0.2.1", "--interface", "Data=[2001:DB8::1]", "--listen", "[::1]"]
    made = store.ask("init", *words, "--ssh-port", "2201", "--ccs-port", "2202")
    shown = store.ask("machine", "show")
    assert shown | {"fingerprint": ""} == {
        "machine": made["machine"],
        "hostname": "mx1.example.com",
        "serial": "S-1",
        "interfaces": {"Management": "192.0.2.1", "Data": "2001:db8::1"},
        "platform_version": "9.0",
        "ssh_port": 2201,
        "ccs_port": 2202,
        "listen": "::1",
        "fingerprint": "",
    }
    assert (store.root.stat().st_mode & 0o777) == 0o700


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    """The serial number comes from the machine's id, the version is this program's."""
    store = Store(tmp_path / "store")
    made = store.ask("init", "--hostname", "mx1", "--ssh-port", "0", "--ccs-port", "0")
    assert made["serial"] == made["machine"][:12].upper()
    assert store.ask("machine", "show")["platform_version"] == metadata.version("cluster-store")


def test_port_0_takes_a_free_one_that_stays_free(tmp_path: Path) -> None:
    """Below the ports that outgoing connections are given, so that none takes it before the daemon does."""
    store = Store(tmp_path / "store").init()
    status = store.ask("status")
    ports = [status["ssh_port"], status["ccs_port"]]
    assert len(set(ports)) == 2
    assert all(20_000 <= port < 32_000 for port in ports)
    for port in ports:
        with listening(port=port):
            pass


def test_a_usual_port_that_is_taken_is_replaced_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not ask for a port gets one that can be had, and hears which."""
    store = Store(tmp_path / "store")
    with listening() as taken, listening() as other:
        monkeypatch.setattr(network, "USUAL_PORTS", (taken, other))
        told = store.run("init", "--hostname", "mx1", "--listen", "127.0.0.1").expect(0).err
    status = store.ask("status")
    assert f"port {taken} cannot be had here, so this machine takes {status['ssh_port']} instead" in told
    assert f"port {other} cannot be had here, so this machine takes {status['ccs_port']} instead" in told
    assert status["ssh_port"] != taken


def test_a_usual_port_that_is_free_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is nothing to say."""
    with listening() as first, listening() as second:
        pass
    monkeypatch.setattr(network, "USUAL_PORTS", (first, second))
    store = Store(tmp_path / "store")
    told = store.run("init", "--hostname", "mx1", "--listen", "127.0.0.1").expect(0).err
    assert "instead" not in told
    assert store.ask("status")["ssh_port"] == first


def test_a_port_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    """Though somebody else has it now: the operator may be about to stop that."""
    store = Store(tmp_path / "store")
    with listening() as taken:
        store.do("init", "--hostname", "mx1", "--listen", "127.0.0.1", "--ssh-port", str(taken))
    assert store.ask("status")["ssh_port"] == taken


def test_without_a_password_it_is_said_how_to_give_one(tmp_path: Path) -> None:
    """Nobody at a terminal, nothing on standard input: the store is made, and the operator hears what it lacks."""
    outcome = Store(tmp_path / "store").run("init", "--hostname", "mx1").expect(0)
    assert "admin has no password yet" in outcome.err
    outcome = (
        Store(tmp_path / "other")
        .run("init", "--hostname", "mx1", "--password-stdin", typed="correct horse\n")
        .expect(0)
    )
    assert "password" not in outcome.err


def test_somebody_at_a_terminal_is_asked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two different answers are refused before anything is made."""
    answers = iter(["one", "two", "", ""])
    monkeypatch.setattr(prompts, "at_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda *_: next(answers))
    store = Store(tmp_path / "store")
    assert store.refuse("init", "--hostname", "mx1") == "the two passwords differ\ntry again\n"
    assert "admin has no password yet" in store.run("init", "--hostname", "mx1").expect(0).err


def test_what_is_said_of_a_machine_can_be_changed(member: Store) -> None:
    """What is not named stays, interfaces are replaced as a whole, and 0 takes a free port."""
    before = member.ask("machine", "show")
    member.do("machine", "set", "--hostname", "mx9", "--interface", "Data=192.0.2.9", "--ssh-port", "0")
    after = member.ask("machine", "show")
    assert after["ssh_port"] != before["ssh_port"]
    assert after == before | {"hostname": "mx9", "interfaces": {"Data": "192.0.2.9"}, "ssh_port": after["ssh_port"]}
    assert member.run("machine", "set", "--hostname", "mx9").expect(0).err == "nothing to change\n"
    member.run("machine", "set").expect(2)
    member.run("machine", "set", "--ccs-port", str(after["ssh_port"])).expect(2)


def test_status_tells_the_contract_s_facts(member: Store) -> None:
    """Each under its name, whether or not a daemon runs."""
    status = member.ask("status")
    assert list(status) == [
        *("machine", "hostname", "serial", "cluster", "group", "serving", "ssh_port", "ccs_port", "fingerprint"),
        *("records", "digest", "lanes_digest", "conflicts", "problems", "detached", "removed", "epoch"),
        *("deaf", "twin", "staged", "pending"),
    ]
    assert status["epoch"]["reason"] == "created"
    assert (status["cluster"], status["group"], status["serving"]) == ("americas", "Main_Group", False)
    assert (status["records"], status["conflicts"], status["problems"], status["detached"]) == (3, 0, 0, False)
    assert status["fingerprint"].startswith("SHA256:")
    for fact in (status["digest"], "americas", "serving"):
        assert fact in member.do("status")
    member.do("set", "key", "1", "-m", "why")
    assert member.ask("status")["digest"] != status["digest"]


def test_a_machine_alone_has_neither_cluster_nor_group(store: Store) -> None:
    """They are null in JSON and told in a word otherwise."""
    status = store.ask("status")
    assert (status["cluster"], status["group"]) == (None, None)
    assert "none" in store.do("status")


def test_a_password_is_changed_from_standard_input(store: Store) -> None:
    """It is nowhere in what is printed."""
    outcome = store.run("passwd", "--password-stdin", "--json", typed="Haus+Baum\r\n").expect(0)
    assert outcome.err.startswith("the password of admin is changed, event ")
    assert "Haus" not in outcome.out + outcome.err
    assert store.run("passwd", "admin", "--password-stdin", typed="again").status == 0


def test_the_platform_s_folder_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store made without naming a folder is found again without naming one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    run("init", "--hostname", "mx1", "--ssh-port", "0", "--ccs-port", "0").expect(0)
    assert "mx1" in run("status").expect(0).out


# --- the feature key ---------------------------------------------------------------------------------------


def test_an_old_platform_version_forms_no_cluster_without_a_feature_key(tmp_path: Path) -> None:
    """The refusal says where to give it; with one the cluster is made."""
    store = Store(tmp_path / "mx1").init("mx1.example.com", "--platform-version", "8.0.1")
    assert store.ask("featurekey") == {"platform_version": "8.0.1", "needed": True, "feature_key": None}
    told = store.refuse("clusterconfig", "create", "americas", "--by", "ip")
    assert "has no feature key; clusters need one before 8.5.6\ngive it there with 'cluster-store featurekey" in told
    assert "a feature key is a text on one line" in store.refuse("featurekey", "")
    assert store.run("featurekey", "ABC-7/x=").expect(0).err.startswith("the feature key is set, event ")
    assert store.do("featurekey") == "ABC-7/x=\n"
    store.do("clusterconfig", "create", "americas", "--by", "ip")


def test_from_8_5_6_on_no_feature_key_is_needed(tmp_path: Path) -> None:
    """It says so, and keeps one all the same; the version that a machine has by default needs none either."""
    for version in ("8.5.6", ""):
        given = ("--platform-version", version) if version else ()
        store = Store(tmp_path / f"mx{version}").init("mx1.example.com", *given)
        outcome = store.run("featurekey").expect(0)
        assert outcome.out == "none\n"
        assert "which needs no feature key: only those before 8.5.6 do" in outcome.err
        store.do("featurekey", "KEY")
        assert store.ask("featurekey")["feature_key"] == "KEY"
        store.do("clusterconfig", "create", "americas", "--by", "ip")
