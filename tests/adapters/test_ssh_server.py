"""What an SSH listener puts up with, and what it serves to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from cluster_store.adapters import ssh_server
from cluster_store.adapters.ssh_link import LINK_SUBSYSTEM, REQUEST_SUBSYSTEM, Times
from cluster_store.core.errors import LinkError, Malformed
from tests.adapters.ssh_site import LOOPBACK, Site, read_to_the_end, running
from tests.waiting import wait_until_async


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A listening machine with the times of a real one, except that it does not wait long to close."""
    async with running(Times(close=0.5)) as made:
        yield made


async def test_whoever_does_not_log_in_is_disconnected() -> None:
    """A connection that says nothing, and one that never authenticates, are closed after the login time."""
    async with running(Times(login=0.3, close=0.5)) as site:
        reader, writer = await asyncio.open_connection(LOOPBACK, site.port)
        assert (await reader.readline()).startswith(b"SSH-2.0-")
        await asyncio.wait_for(read_to_the_end(reader), 10)
        writer.close()


async def test_whoever_logs_in_and_asks_for_nothing_is_disconnected() -> None:
    """Logged-in connections without a session, and requests that are never finished, are closed as well."""
    async with running(Times(login=0.3, close=0.5)) as site:
        machine, person = await site.client(), await site.person()
        writer, _, _ = await person.open_session(subsystem=REQUEST_SUBSYSTEM, encoding=None)
        writer.write((10).to_bytes(4) + b"half")
        await asyncio.wait_for(asyncio.gather(machine.wait_closed(), person.wait_closed()), 10)


async def test_connections_that_do_not_log_in_cannot_keep_others_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a bound the oldest of them goes; a machine that logs in at once always gets in."""
    monkeypatch.setattr(ssh_server, "STRANGERS_MAX", 3)
    silent = [await asyncio.open_connection(LOOPBACK, site.port) for _ in range(6)]
    await (await site.dial()).close()
    first = [await asyncio.wait_for(read_to_the_end(reader), 10) for reader, _ in silent[:3]]
    assert len(first) == 3
    for _, writer in silent:
        writer.close()


async def test_connections_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a new connection is closed at once, and those that are there stay."""
    monkeypatch.setattr(ssh_server, "CONNECTIONS_MAX", 2)
    dialled = await site.dial()
    other = await site.dial()
    accepted = await site.accepted()
    with pytest.raises(LinkError) as caught:
        await site.dial()
    assert caught.value.state == "unreachable"
    assert caught.value.message.endswith("it takes connections, and ends them without a word")
    await dialled.send(b"still here")
    assert await accepted.receive() == b"still here"
    await other.close()
    await wait_until_async(lambda: len(site.listener._guests) < 2, what="the closed connection to be forgotten")
    await (await site.dial()).close()


async def test_a_connection_tries_few_passwords(site: Site) -> None:
    """However many a client sends, the gatekeeper is asked about three of them."""

    class Guesser(asyncssh.SSHClient):
        guesses = 0

        def password_auth_requested(self) -> str:
            self.guesses += 1
            return f"guess {self.guesses}"

    with pytest.raises(asyncssh.PermissionDenied):
        await site.person(password=None, client_factory=Guesser)
    assert site.node.passwords == ["guess 1", "guess 2", "guess 3"]


@pytest.mark.parametrize("subsystem", [LINK_SUBSYSTEM, "sftp", "cluster-store-\x1b[2J"])
async def test_a_person_gets_no_link_and_nothing_else(site: Site, subsystem: str) -> None:
    """A password does not open a link between machines; the refusal says what this service is for."""
    person = await site.person()
    _, reader, errors = await person.open_session(subsystem=subsystem, encoding=None)
    assert await reader.read() == b""
    notice = await errors.read()
    assert b"cluster-store" in notice
    assert b"\x1b" not in notice
    assert site.node.links.empty()
    person.close()


async def test_a_machine_sends_no_person_s_request(site: Site) -> None:
    """A machine's key opens links only."""
    client = await site.client()
    _, reader, errors = await client.open_session(subsystem=REQUEST_SUBSYSTEM, encoding=None)
    assert await reader.read() == b""
    assert b"cluster-store" in await errors.read()
    client.close()


async def test_a_person_does_not_log_in_with_a_key(site: Site) -> None:
    """Not even with one that is on record for a machine."""
    with pytest.raises(asyncssh.PermissionDenied):
        await site.client(username="admin")


async def test_a_connection_has_one_session(site: Site) -> None:
    """The second session of a connection is refused, and the first one goes on."""
    client = await site.client()
    writer, _, _ = await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
    link = await site.accepted()
    with pytest.raises(asyncssh.ChannelOpenError, match="one session"):
        await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
    writer.write((1).to_bytes(4) + b"x")
    assert await link.receive() == b"x"
    client.close()


async def test_an_agent_is_not_forwarded(site: Site, tmp_path: Path) -> None:
    """No socket is opened on the machine for the keys of whoever connects."""
    client = await site.client(agent_path=str(tmp_path / "agent"), agent_forwarding=True)
    writer, _, _ = await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
    link = await site.accepted()
    writer.write((1).to_bytes(4) + b"x")
    assert await link.receive() == b"x"
    assert [guest.connection.get_agent_path() for guest in site.listener._guests] == [None]
    client.close()


@pytest.mark.parametrize("frame", [b"", b"{", b"[1]", b"\xff"])
async def test_a_request_that_is_no_json_object_is_refused_with_a_reason(site: Site, frame: bytes) -> None:
    """The reason comes on the error stream with exit status 1; the node sees nothing."""
    person = await site.person()
    writer, reader, errors = await person.open_session(subsystem=REQUEST_SUBSYSTEM, encoding=None)
    writer.write(len(frame).to_bytes(4) + frame)
    assert await reader.read() == b""
    assert b"not" in await errors.read()
    channel: Any = writer.channel
    assert channel.get_exit_status() == 1
    person.close()


async def test_a_fault_of_the_node_is_reported_and_the_person_hears_of_an_end(site: Site) -> None:
    """An exception while answering reaches the event loop's handler; the listener goes on."""

    def fail() -> Mapping[str, Any]:
        raise RuntimeError("a fault")

    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    site.node.reply = fail
    with pytest.raises(LinkError) as caught:
        await site.ask()
    assert caught.value.state == "dropped"
    assert [str(fault["exception"]) for fault in faults] == ["a fault"]
    site.node.reply = lambda: {"welcome": True}
    assert (await site.ask())["welcome"]


@pytest.mark.parametrize("reply", [b"", b"[1]", b"\xff"])
async def test_a_reply_that_is_no_json_object_is_malformed(site: Site, reply: bytes) -> None:
    """The other side's answer is checked as its request would be."""

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return True

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write(len(reply).to_bytes(4) + reply)
        await process.stdin.read()
        process.exit(0)

    host_key = asyncssh.import_private_key(site.mx1.host_private)
    async with await asyncssh.listen(
        LOOPBACK, 0, server_factory=Server, process_factory=serve, server_host_keys=[host_key], encoding=None
    ) as server:
        with pytest.raises(Malformed):
            await site.ask(port=server.get_port())
