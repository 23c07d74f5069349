"""The OpenSSH client against our listener: a request with a password, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

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


@pytest.mark.parametrize(
    "arguments",
    [("-T",), ("-T", "id"), ("-T", "scp -f /etc/passwd")],
    ids=["shell", "exec", "scp"],
)
async def test_openssh_gets_no_shell_and_no_command(openssh: _OpenSsh, arguments: tuple[str, ...]) -> None:
    """It logs in, is told in a sentence what this service is for, and ends with status 1; nothing was run."""
    option, *command = arguments
    status, output, errors = await openssh.ssh(option, f"admin@{LOOPBACK}", *command)
    assert status == 1
    assert output == b""
    assert "cluster-store: this service answers other machines" in errors


async def test_openssh_gets_no_terminal(openssh: _OpenSsh) -> None:
    """Insisting on a terminal ends in its refusal."""
    status, output, errors = await openssh.ssh("-tt", f"admin@{LOOPBACK}")
    assert (status, output) == (255, b"")
    assert "PTY allocation request failed" in errors


async def test_openssh_transfers_no_files(openssh: _OpenSsh, tmp_path: Path) -> None:
    """Neither sftp nor scp, with its new protocol or its old one, gets a file."""
    source, target = f"admin@{LOOPBACK}:/etc/passwd", str(tmp_path / "copy")
    for attempt in (("sftp", source, target), ("scp", source, target), ("scp", "-O", source, target)):
        status, _, errors = await openssh.copy(*attempt)
        assert status != 0, attempt
        assert "cluster-store" in errors, attempt
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


async def test_openssh_shows_the_password_method_alone_to_people(site: Site, openssh: _OpenSsh) -> None:
    """A person is offered passwords, the user name of machines only keys."""
    status, _, errors = await openssh.ssh(f"admin@{LOOPBACK}", methods="none")
    assert status == 255
    assert "Permission denied (password)." in errors
    status, _, errors = await openssh.ssh(f"machine@{LOOPBACK}")
    assert status == 255
    assert "Permission denied (publickey)." in errors
    assert site.node.passwords == []
