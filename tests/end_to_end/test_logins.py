"""People at the command line over SSH, with the client that they have, on a machine whose peers are all cut off."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pexpect
import pytest

from cluster_store.adapters import local_client
from cluster_store.core.commands import ChangePassword, SetSetting
from cluster_store.core.errors import Refused
from tests.end_to_end.machines import PASSWORD, PATIENCE_S, Machine, Outcome, converged, fleet
from tests.waiting import wait_until

needs_openssh = pytest.mark.skipif(
    not all(map(shutil.which, ("ssh", "ssh-keygen", "sftp", "scp"))), reason="the OpenSSH client is not installed"
)
pytestmark = needs_openssh

OLGA = "the operator's own"


@dataclass(frozen=True)
class Client:
    """Somebody's OpenSSH client, pointed at one machine."""

    machine: Machine
    folder: Path
    port: str

    @property
    def key(self) -> Path:
        """A private key of theirs."""
        return self.folder / "key"

    def words(self, program: str, *, key: bool) -> list[str]:
        """Return the beginning of a command."""
        known = ("-F", "none", "-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}")
        sure = ("-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "NumberOfPasswordPrompts=1")
        port = ("-p" if program == "ssh" else "-P", self.port)
        return [program, *port, *known, *sure, "-o", f"IdentityFile={self.key if key else 'none'}"]

    def environment(self, password: str) -> dict[str, str]:
        """Let the client have a password without a terminal."""
        askpass = {"SSH_ASKPASS": str(self.folder / "askpass"), "SSH_ASKPASS_REQUIRE": "force", "TYPED": password}
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **askpass}

    def ssh(self, *words: str, password: str = "", key: bool = False, typed: str = "") -> Outcome:
        """Run ``ssh`` to its end."""
        done = subprocess.run(
            [*self.words("ssh", key=key), *words],
            env=self.environment(password),
            input=typed,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Outcome(words, done.returncode, done.stdout, done.stderr)

    def copy(self, program: str, *words: str) -> Outcome:
        """Run ``scp`` or ``sftp`` as the guest."""
        done = subprocess.run(
            [*self.words(program, key=True), *words],
            env=self.environment(""),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Outcome(words, done.returncode, done.stdout, done.stderr)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Let ``ssh`` run as the guest."""
        return subprocess.Popen(
            [*self.words("ssh", key=True), *words],
            env=self.environment(""),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of mx2's, whose users were all added on mx1, which is down by now."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "askpass").write_text('#!/bin/sh\necho "$TYPED"\n')
    (folder / "askpass").chmod(0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    with fleet(tmp_path_factory.mktemp("machines")) as machines:
        mx1, mx2 = machines.cluster("mx1", "mx2")
        mx1.do("userconfig", "new", "gus", "--role", "guest", "--key", f"{folder}/key.pub")
        olga = ("--role", "operator", "--key", f"{folder}/key.pub", "--require-both", "--password-stdin")
        mx1.do("userconfig", "new", "olga", *olga, typed=OLGA + "\n")
        mx1.do("set", "relay.password", "--secret", "--password-stdin", "-m", "why", typed="geheim")
        converged(mx1, mx2)
        mx1.stop()
        port = str(mx2.status()["ssh_port"])
        scan = ["ssh-keyscan", "-p", port, "-t", "ed25519", mx2.address]
        (folder / "known_hosts").write_text(subprocess.run(scan, capture_output=True, text=True, check=True).stdout)
        yield Client(mx2, folder, port)


def test_an_administrator_works_over_ssh(client: Client) -> None:
    """A password, one command, its output, its exit status; a wrong password opens nothing."""
    there = f"admin@{client.machine.address}"
    told = client.ssh(there, "clusterconfig", "list", "--json", password=PASSWORD).expect(0)
    assert [machine["hostname"] for machine in json.loads(told.out)["groups"][0]["machines"]] == [
        "mx1.example.com",
        "mx2.example.com",
    ]
    assert client.ssh(there, "get relay.password -r", password=PASSWORD).expect(0).out == "geheim\n"
    client.ssh(there, "status", password="wrong").expect(255)


def test_a_guest_reads_and_changes_nothing(client: Client) -> None:
    """A refused command ends with 1, a wrong one with 2; a secret's value is not shown."""
    there = f"gus@{client.machine.address}"
    before = client.machine.state()
    refused = client.ssh(there, "set", "smtp.banner", "mine", "-m", "why", key=True).expect(1)
    assert refused.err == (
        "gus is a guest and may not do 'set': it takes an operator\nask an operator or an administrator\n"
    )
    assert "relay.password is secret" in client.ssh(there, "get relay.password", key=True).expect(1).err
    assert "there is no command" in client.ssh(there, "sh -c id", key=True).expect(2).err
    assert client.machine.state() == before


def test_key_and_password_are_both_asked_for(client: Client) -> None:
    """Where both are required; what is changed then is in the log as that user's."""
    there = f"olga@{client.machine.address}"
    words = ("set", "smtp.banner", "'Bonjour, olga'", "-m", "'a comment'")
    client.ssh(there, *words, key=True).expect(255)
    client.ssh(there, *words, password=OLGA).expect(255)
    client.ssh(there, *words, password=OLGA, key=True).expect(0)
    last = client.machine.events()[-1]
    assert (last["user"], last["auth"], last["comment"]) == ("olga", "key+password", "a comment")
    assert client.machine.get("smtp.banner") == "Bonjour, olga"
    # What she stages is hers, and waits for her next login.
    client.ssh(there, "set smtp.banner staged", password=OLGA, key=True).expect(0)
    assert client.machine.run("diff").out == "nothing is staged\n"
    client.ssh(there, "commit -m live", password=OLGA, key=True).expect(0)
    last = client.machine.events()[-1]
    assert (last["user"], last["kind"], client.machine.get("smtp.banner")) == ("olga", "ConfigCommitted", "staged")


def test_nothing_else_is_behind_the_login(client: Client, tmp_path: Path) -> None:
    """No file is copied, no port forwarded; what reads or writes files of the host is refused."""
    there, target = f"gus@{client.machine.address}", tmp_path / "copy"
    for attempt in (("sftp",), ("scp",), ("scp", "-O")):
        assert client.copy(*attempt, f"{there}:/etc/passwd", str(target)).status != 0
    assert not target.exists()
    forwarded = client.ssh("-W", f"127.0.0.1:{client.port}", there, key=True).expect(255)
    assert "no forwarding of ports" in forwarded.err
    refused = client.ssh(there, "saveconfig", str(target), key=True).expect(1)
    assert "login host only" in refused.err
    assert not target.exists()


def test_the_prompt_is_there_for_whoever_logs_in(client: Client) -> None:
    """At a terminal it shows the mode, takes commands one after the other and ends with the last one's status."""
    words = [*client.words("ssh", key=True)[1:], "-tt", f"gus@{client.machine.address}"]
    terminal = pexpect.spawn("ssh", words, env=client.environment(""), timeout=PATIENCE_S, encoding="utf-8")
    try:
        terminal.expect_exact("(Cluster americas)>")
        terminal.sendline("clusterconfig list")
        terminal.expect_exact("Cluster americas")
        terminal.expect_exact("(Cluster americas)>")
        for refused in ("clusterconfig addgroup gus", "clusterconfig"):
            terminal.sendline(refused)
            # Before any menu is shown, and any question asked.
            terminal.expect_exact(f"gus is a guest and may not do '{refused.removesuffix(' gus')}'")
            terminal.expect_exact("(Cluster americas)>")
        terminal.sendline("exit")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close()
    assert terminal.exitstatus == 1


def test_the_menus_are_there_for_an_administrator(client: Client) -> None:
    """One command at a terminal: each question is asked and answered through the login, and its end is ssh's."""
    words = [*client.words("ssh", key=False)[1:], "-tt", f"admin@{client.machine.address}", "clusterconfig"]
    terminal = pexpect.spawn("ssh", words, env=client.environment(PASSWORD), timeout=PATIENCE_S, encoding="utf-8")
    try:
        for question, answer in (
            ("PREPJOIN - Announce a machine", "ADDGROUP"),
            ("Name of the new group:", "Oslo"),
            ("the group Oslo is added", "deletegroup"),
            ("Which group is to be deleted?", "Oslo"),
        ):
            terminal.expect_exact(question)
            terminal.expect_exact("[]> ")
            terminal.sendline(answer)
        terminal.expect_exact("Delete Oslo for good? [y/N] ")
        terminal.sendline("y")
        terminal.expect_exact("the group Oslo is deleted")
        terminal.expect_exact("[]> ")
        terminal.sendline("")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close()
    assert terminal.exitstatus == 0
    assert [event["user"] for event in client.machine.events()[-2:]] == ["admin", "admin"]


def test_a_terminal_interrupts_what_runs(client: Client) -> None:
    """At a terminal, an interrupt that is typed reaches the command, which ends as it does on any terminal."""
    watching = client.begin("-tt", f"gus@{client.machine.address}", "log", "--follow")
    assert watching.stdin is not None
    assert watching.stdout is not None
    assert "MachineInitialised" in watching.stdout.readline()
    watching.stdin.write("\x03")
    watching.stdin.flush()
    watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 128 + signal.SIGINT


def test_a_deleted_users_login_ends(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open session of theirs is closed at once, with a sentence; and so is the door, and what their process had.

    Until then the daemon itself keeps that process to the guest's role, whatever it may ask for.
    """
    there = f"gus@{client.machine.address}"
    following = client.begin(there, "log", "--follow")
    assert following.stdout is not None
    assert "MachineInitialised" in following.stdout.readline()
    (token,) = _tokens(client.machine)
    before = client.machine.state()
    setting = msgspec.to_builtins(SetSetting(key="a", value="1", salt=bytes(16)))
    password = msgspec.to_builtins(ChangePassword(user="admin", password="$argon2id$x", salt=bytes(16)))
    with monkeypatch.context() as inside:
        inside.setenv(local_client.LOGIN_VARIABLE, token)
        assert client.machine.call("whoami") == {"user": "gus", "role": "guest", "auth": "key"}
        for operation, arguments in (("submit", setting), ("submit", password), ("join", {})):
            with pytest.raises(Refused, match="gus is a guest and may not do"):
                client.machine.call(operation, arguments)
    assert client.machine.state() == before
    client.machine.do("userconfig", "delete", "gus", "--yes")
    _, told = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 1
    assert "your user was changed or removed" in told
    client.ssh(there, "status", key=True).expect(255)
    wait_until(lambda: not _tokens(client.machine), PATIENCE_S, what="no process is left behind")
    monkeypatch.setenv(local_client.LOGIN_VARIABLE, token)
    with pytest.raises(Refused, match="this login has ended"):
        client.machine.call("status")


def _tokens(machine: Machine) -> list[str]:
    """Return the tokens of the processes that serve logins of a machine's daemon."""
    found, name = [], f"{local_client.LOGIN_VARIABLE}="
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_text(encoding="utf-8", errors="replace").split("\0")
        except OSError:
            continue
        if f"CLUSTER_STORE={machine.store}" in environment:
            found += [entry.removeprefix(name) for entry in environment if entry.startswith(name)]
    return found
