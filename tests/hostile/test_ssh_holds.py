"""What asyncssh itself would keep for a peer without a bound: the connection is dropped before it does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import asyncssh
import pytest

from cluster_store.adapters import ssh_link
from cluster_store.adapters.ssh_link import HELD_BYTES_MAX, LINK_SUBSYSTEM, Times, holds_too_much
from cluster_store.core.errors import LinkError
from tests.adapters.ssh_site import LOOPBACK, Site, running
from tests.waiting import wait_until_async

#: An ignored packet of 32 KiB, as SSH has it.
_IGNORED = (2, (1 << 15).to_bytes(4) + bytes(1 << 15))


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A machine that listens, with a lot of patience."""
    async with running(Times(login=60.0, stall=60.0)) as opened:
        yield opened


async def test_what_comes_while_a_password_is_checked_is_not_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anybody has logged in: what comes during the check is looked at and forgotten."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow_check(_user: str, _password: str, _source: str) -> bool:
        asked.set()
        await go_on.wait()
        return False

    monkeypatch.setattr(site.node, "check_password", slow_check)
    made: list[Any] = []

    class Client(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            made.append(conn)

    login = asyncio.create_task(site.person(client_factory=Client))
    await asyncio.wait_for(asked.wait(), 30)
    (guest,) = site.listener._guests
    for _ in range(4 * HELD_BYTES_MAX >> 15):
        made[0].send_packet(*_IGNORED)
        await asyncio.sleep(0)
        assert not holds_too_much(guest.connection)
    go_on.set()
    async with asyncio.timeout(30):
        with pytest.raises(asyncssh.PermissionDenied):
            await login


async def test_a_peer_that_puts_off_an_exchange_of_keys_is_not_buffered_for(site: Site) -> None:
    """It grants all the window there is, begins to exchange keys, and never goes on: what is sent would pile up."""
    connection: Any = await site.client()
    session, _ = await connection.create_session(
        asyncssh.SSHClientSession, subsystem=LINK_SUBSYSTEM, encoding=None, window=2**31, max_pktsize=1 << 17
    )
    link = await site.accepted()
    connection._recv_handler = lambda: False
    connection._send_kexinit()
    server: Any = link.stream._connection  # type: ignore[attr-defined]
    await wait_until_async(lambda: not server._kex_complete, 30, what="the exchange to begin")
    sent = 0

    async def send_without_end() -> None:
        nonlocal sent
        async with asyncio.timeout(30):
            while sent < 16 * HELD_BYTES_MAX:
                await link.send(bytes(100_000))
                sent += 100_000

    with pytest.raises(LinkError, match="puts off an exchange of keys"):
        await send_without_end()
    assert sent <= HELD_BYTES_MAX
    assert session is not None
    connection.abort()


async def test_a_peer_that_takes_no_answers_is_not_answered_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for what is refused each time, and reads nothing: the answers would pile up for the socket."""
    monkeypatch.setattr(ssh_link, "HELD_BYTES_MAX", 1 << 17)
    for listening in site.listener._acceptor.sockets:  # type: ignore[union-attr]
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.create_connection((LOOPBACK, site.port)) as connected:
        connected.setblocking(False)
        connection: Any = await site.client(sock=connected)
        await wait_until_async(lambda: site.listener._guests, 30)
        connection._transport.pause_reading()
        sent = 0
        while site.listener._guests and sent < 1_000_000:
            for _ in range(200):
                connection.send_packet(80, b"\0\0\0\x01x\1")
            sent += 200
            await asyncio.sleep(0)
        assert not site.listener._guests
        connection.abort()
        await connection.wait_closed()
