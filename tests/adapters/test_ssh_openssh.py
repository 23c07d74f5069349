"""The OpenSSH client against our listener: a request, the command line, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import orjson
import pytest

from cluster_store.adapters.ssh_link import REQUEST_SUBSYSTEM, Times
from tests.adapters.ssh_site import LOOPBACK, PASSWORD, Site, running


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A listening machine with the times of a real one, except that it does not wait long to close."""
    async with running(Times(close=0.5)) as made:
        yield made


class _OpenSsh:
    """The client that administrators have, pointed at a site, with a person's password."""

    def __init__(self, site: Site, folder: Path) -> None:
        known = folder / "known_hosts"
        known.write_text(f"[{LOOPBACK}]:{site.port} {site.mx1.host_key_line}\n")
        askpass = folder / "askpass"
        askpass.write_text(f"#!/bin/sh\necho '{PASSWORD}'\n")
        askpass.chmod(0o700)
        self._port = str(site.port)
        self._options = [
            *("-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=none"),
            *("-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityFile=none"),
            *("-o", "NumberOfPasswordPrompts=1"),
        ]
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "SSH_ASKPASS": str(askpass),
            "SSH_ASKPASS_REQUIRE": "force",
        }

    async def ssh(self, *arguments: str, stdin: bytes = b"", methods: str = "password") -> tuple[int, bytes, str]:
        method = ("-o", f"PreferredAuthentications={methods}")
        return await self.run("ssh", "-p", self._port, *self._options, *method, *arguments, stdin=stdin)

    async def copy(self, program: str, *arguments: str) -> tuple[int, bytes, str]:
        return await self.run(program, "-P", self._port, *self._options, *arguments)

    async def run(self, *command: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        """Return exit status, output, and what was said on the error stream."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=self._environment
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(stdin), 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, output, errors.decode()


@pytest.fixture
def openssh(site: Site, tmp_path: Path) -> _OpenSsh:
    """The OpenSSH client, where it is installed."""
    if not all(shutil.which(program) for program in ("ssh", "sftp", "scp")):
        pytest.skip("the OpenSSH client is not installed")
    return _OpenSsh(site, tmp_path)


async def test_openssh_asks_a_request_with_a_password(site: Site, openssh: _OpenSsh) -> None:
    """`ssh -s ... cluster-store-request` logs in and gets the answer to the frame on its standard input."""
    frame = orjson.dumps({"join": "mx3"})
    status, output, errors = await openssh.ssh(
        "-s", f"admin@{LOOPBACK}", REQUEST_SUBSYSTEM, stdin=len(frame).to_bytes(4) + frame
    )
    assert (status, errors) == (0, "")
    assert int.from_bytes(output[:4]) == len(output) - 4
    assert orjson.loads(output[4:]) == {"user": "admin", "request": {"join": "mx3"}, "welcome": True}
    assert site.node.passwords == [PASSWORD]


@pytest.mark.parametrize("command", [None, "get smtp.banner -r"], ids=["prompt", "command"])
async def test_openssh_gets_the_command_line(openssh: _OpenSsh, command: str | None) -> None:
    """What was asked for arrives as it was written, typing goes there, output and errors come back, and the status."""
    words = [command] if command else []
    status, output, errors = await openssh.ssh("-T", f"admin@{LOOPBACK}", *words, stdin=b"typed\n")
    assert (status, errors) == (7, "that is all\n")
    assert output.decode() == f"{('admin', 'password', command, None)}\ntyped\n"


async def test_openssh_gets_a_terminal(openssh: _OpenSsh) -> None:
    """Its kind and size arrive; what a client sends of its environment besides goes nowhere."""
    status, output, errors = await openssh.ssh("-tt", "-o", "SetEnv=SECRET=1", f"admin@{LOOPBACK}")
    assert status == 7
    assert errors.startswith("that is all\n")
    assert "Terminal(kind=" in output.decode()


async def test_openssh_transfers_no_files(openssh: _OpenSsh, tmp_path: Path) -> None:
    """Neither sftp nor scp gets a file; what scp's old protocol runs is a command that is not there."""
    source, target = f"admin@{LOOPBACK}:/etc/passwd", str(tmp_path / "copy")
    for attempt in (("sftp", source, target), ("scp", source, target), ("scp", "-O", source, target)):
        status, _, errors = await openssh.copy(*attempt)
        assert status != 0, attempt
        assert "cluster-store" in errors or "-O" in attempt, attempt
    assert not (tmp_path / "copy").exists()


async def test_openssh_forwards_nothing(site: Site, openssh: _OpenSsh, tmp_path: Path) -> None:
    """Neither to a port of the machine, nor from one, nor over a socket."""
    status, output, errors = await openssh.ssh("-W", f"{LOOPBACK}:{site.port}", f"admin@{LOOPBACK}")
    assert (status, output) == (255, b"")
    assert "no forwarding of ports" in errors
    status, _, errors = await openssh.ssh(
        *("-o", "ExitOnForwardFailure=yes", "-N", "-R", f"0:{LOOPBACK}:{site.port}", f"admin@{LOOPBACK}")
    )
    assert status == 255
    assert "forwarding failed" in errors
    status, _, errors = await openssh.ssh(
        *("-o", "ExitOnForwardFailure=yes", "-N", "-R", f"{tmp_path}/there:{tmp_path}/here", f"admin@{LOOPBACK}")
    )
    assert status == 255
    assert "forwarding failed" in errors
    assert not (tmp_path / "there").exists()


async def test_openssh_gives_key_and_password_where_both_are_required(
    site: Site, openssh: _OpenSsh, tmp_path: Path
) -> None:
    """After the one it is asked for the other, and for that alone; with one of them it is turned away at once."""
    site.node.both = True
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    site.node.keys.add(" ".join(key.export_public_key("openssh").decode().split()[:2]))
    there, identity = f"admin@{LOOPBACK}", ("-i", str(tmp_path / "key"))
    status, output, _ = await openssh.ssh("-T", *identity, there, "x", methods="publickey,password")
    assert (status, output) == (7, b"('admin', 'key+password', 'x', None)\n")
    for methods, words in (("publickey", [*identity, there]), ("publickey,password", [there])):
        status, _, errors = await openssh.ssh("-T", *words, "x", methods=methods)
        assert status == 255
        assert "Permission denied" in errors


async def test_openssh_is_offered_keys_and_passwords(site: Site, openssh: _OpenSsh) -> None:
    """A person is offered both, whoever it is, the user name of machines only keys."""
    status, _, errors = await openssh.ssh(f"admin@{LOOPBACK}", methods="none")
    assert status == 255
    assert "Permission denied (publickey,password)." in errors
    status, _, errors = await openssh.ssh(f"machine@{LOOPBACK}")
    assert status == 255
    assert "Permission denied (publickey)." in errors
    assert site.node.passwords == []
