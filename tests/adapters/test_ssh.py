"""What only SSH can do wrong on a link: bytes that no client of ours sends, peers that stall, wires that break."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import asyncssh
import pytest

from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh import SshTransport
from cluster_store.adapters.ssh_link import LINK_SUBSYSTEM, PACKET_BYTES, WINDOW_BYTES, Times
from cluster_store.core import limits
from cluster_store.core.errors import LinkError, Malformed
from cluster_store.ports import PeerAddress
from tests.adapters.ssh_site import LOOPBACK, MX1, Site, Wire, running, send_much
from tests.waiting import wait_until_async


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A listening machine with the times of a real one, except that it does not wait long to close."""
    async with running(Times(close=0.5)) as made:
        yield made


# --- bytes that our own client never sends ---


async def test_an_oversized_frame_is_malformed_and_ends_the_connection(site: Site) -> None:
    """Four bytes that announce too much are enough: nothing is held for the frame, and the peer is cut off."""
    client = await site.client()
    writer, reader, _ = await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
    link = await site.accepted()
    writer.write((limits.FRAME_BYTES_MAX + 1).to_bytes(4))
    with pytest.raises(Malformed) as caught:
        await link.receive()
    assert str(limits.FRAME_BYTES_MAX) in caught.value.message
    with pytest.raises(asyncssh.ConnectionLost):
        await reader.read()
    with pytest.raises(LinkError):
        await link.send(b"too late")


async def test_a_stream_that_ends_inside_a_frame_is_dropped_not_ended(site: Site) -> None:
    """Half a frame is never taken for a frame, nor its loss for an orderly end."""
    client = await site.client()
    writer, _, _ = await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
    link = await site.accepted()
    writer.write((10).to_bytes(4) + b"half")
    writer.close()
    with pytest.raises(LinkError) as caught:
        await link.receive()
    assert caught.value.state == "dropped"
    assert "middle of a frame" in caught.value.message


async def test_a_receive_that_is_cancelled_inside_a_frame_goes_on_with_it(site: Site) -> None:
    """A header that was already read is not read again."""
    client = await site.client()
    writer, _, _ = await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
    link = await site.accepted()
    writer.write((10).to_bytes(4) + b"half-")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(link.receive(), 0.05)
    writer.write(b"frame" + (1).to_bytes(4) + b"x")
    assert [await link.receive(), await link.receive()] == [b"half-frame", b"x"]


async def test_a_send_that_is_cancelled_inside_a_frame_ends_the_link(site: Site) -> None:
    """The rest of the frame will never come, and nothing else must be taken for it."""
    dialled = await site.dial()
    accepted = await site.accepted()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(dialled.send(bytes(10_000_000)), 0.1)
    with pytest.raises(LinkError):
        await dialled.send(b"taken for the rest")
    with pytest.raises(LinkError) as caught:
        await accepted.receive()
    assert caught.value.state == "dropped"


async def test_a_peer_that_stops_inside_a_frame_loses_the_connection() -> None:
    """Nobody keeps memory and a task of ours for ever by not going on; silence between frames is no fault."""
    async with running(Times(stall=0.2, close=0.5)) as site:
        client = await site.client()
        writer, reader, _ = await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
        link = await site.accepted()
        writer.write((1).to_bytes(4) + b"x" + (10).to_bytes(4) + b"half")
        assert await link.receive() == b"x"
        with pytest.raises(LinkError) as caught:
            await link.receive()
        assert caught.value.state == "dropped"
        with pytest.raises(asyncssh.ConnectionLost):
            await reader.read()


async def test_a_peer_that_takes_nothing_loses_the_connection() -> None:
    """A send waits for a peer that does not read, but not for ever."""
    async with running(Times(stall=0.3, close=0.5)) as site:
        link = await site.dial()
        await site.accepted()
        with pytest.raises(LinkError) as caught:
            await send_much(link)
        assert caught.value.state == "dropped"
        assert "took nothing" in caught.value.message


async def test_a_peer_that_grants_a_huge_window_and_does_not_read_is_not_buffered_for() -> None:
    """The peer chooses its window; what it does not take off the network must not pile up in this process."""
    async with running(Times(stall=0.5, close=0.5)) as site:
        sock = socket.socket()
        # The kernel's own buffers are not what is measured.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.connect((LOOPBACK, site.port))
        sock.settimeout(0)
        client = await site.client(sock=sock)
        await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None, window=2**31)
        link = await site.accepted()
        client._transport.pause_reading()  # type: ignore[union-attr]
        sent: list[int] = []
        with pytest.raises(LinkError, match="took nothing"):
            await send_much(link, sent)
        assert sum(sent) <= 5_000_000
        client.abort()


async def test_a_receiver_holds_little_of_what_it_does_not_read(site: Site) -> None:
    """What is buffered here and held back by asyncssh is within two windows and two packets."""
    dialled = await site.dial()
    accepted: Any = await site.accepted()
    sending = asyncio.create_task(send_much(dialled))
    reader, channel = accepted.stream._reader, accepted.stream._channel
    held: list[int] = []

    def full() -> bool:
        held.append(len(reader._buffer) + sum(len(data) for data, _ in channel._recv_buf))
        return len(held) > 12 and held[-1] > WINDOW_BYTES and len(set(held[-12:])) == 1

    await wait_until_async(full, what="the receiver to be full")
    assert max(held) <= 2 * WINDOW_BYTES + 2 * PACKET_BYTES
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


# --- closing ---


@pytest.mark.parametrize("closers", [("dialled",), ("accepted",), ("dialled", "accepted")], ids="+".join)
async def test_closing_does_not_wait_where_there_is_nothing_to_wait_for(closers: tuple[str, ...]) -> None:
    """Either end, or both at once, is done long before the time that a slow reader would be given."""
    async with running(Times(close=60)) as site:
        ends = {"dialled": await site.dial(), "accepted": await site.accepted()}
        await ends["dialled"].send(b"not read by anybody")
        await asyncio.wait_for(asyncio.gather(*(ends[closer].close() for closer in closers)), 10)
        site.node.finished.set()


# --- connections that break ---


async def test_a_peer_that_has_gone_silent_is_dropped_by_keepalive() -> None:
    """A cable pulled out is noticed on both sides within the keepalive times, although nobody sends."""
    times = Times(keepalive=0.1, keepalive_missed=2, close=0.5)
    async with running(times) as site:
        wire = Wire(site.port)
        dialled = await site.dial(times, await wire.start())
        accepted = await site.accepted()
        wire.cut()
        for link in (dialled, accepted):
            with pytest.raises(LinkError) as caught:
                await asyncio.wait_for(link.receive(), 10)
            assert caught.value.state == "dropped"
            assert "keepalive" in caught.value.message
        await wire.stop()


async def test_keepalive_leaves_a_quiet_link_alone() -> None:
    """A peer that answers keeps its link, however long there is nothing to say."""
    times = Times(keepalive=0.05, keepalive_missed=1, close=0.5)
    async with running(times) as site:
        dialled = await site.dial()
        accepted = await site.accepted()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dialled.receive(), 0.5)
        await accepted.send(b"still here")
        assert await dialled.receive() == b"still here"


async def test_a_reset_connection_is_dropped_not_ended(site: Site) -> None:
    """A peer that restarted is told apart from one that closed the link; frames received before are not lost."""
    wire = Wire(site.port)
    dialled = await site.dial(port=await wire.start())
    accepted = await site.accepted()
    await accepted.send(b"before")
    await asyncio.wait_for(asyncio.shield(_wait_for_buffered(dialled)), 10)
    wire.break_off()
    with pytest.raises(LinkError):
        await asyncio.wait_for(accepted.receive(), 10)
    assert await dialled.receive() == b"before"
    with pytest.raises(LinkError) as caught:
        await dialled.receive()
    assert caught.value.state == "dropped"
    await wire.stop()


async def _wait_for_buffered(link: Any) -> None:
    await wait_until_async(lambda: bool(link.stream._reader._buffer), what="a frame to arrive")


async def test_a_host_that_accepts_and_says_nothing_is_unreachable_after_the_timeout(site: Site) -> None:
    """The connect timeout covers the SSH handshake, not just TCP."""
    with socket.create_server((LOOPBACK, 0)) as silent, pytest.raises(LinkError) as caught:
        await site.dial(Times(connect=0.2), silent.getsockname()[1])
    assert caught.value.state == "unreachable"
    assert "timeout" in caught.value.message


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 2000, b"SSH-1.0-old\r\n", b"\xff" * 100_000]
)
async def test_what_does_not_speak_our_protocol_is_no_reachable_machine(site: Site, greeting: bytes) -> None:
    """Another service at the address is an error in connstatus's words, whatever it says."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, LOOPBACK, 0) as server:
        with pytest.raises(LinkError) as caught:
            await site.dial(Times(connect=5), server.sockets[0].getsockname()[1])
    assert caught.value.state in {"unreachable", "dropped"}
    assert LOOPBACK in caught.value.message


async def test_a_peer_that_is_gone_before_the_library_looks_at_the_socket_is_no_fault(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the connection and reset it: the socket has no peer any more, which is told as any other end."""
    connecting = asyncssh.connect

    async def late(*words: Any, sock: socket.socket, **more: Any) -> asyncssh.SSHClientConnection:
        await wait_until_async(lambda: not has_peer(sock))
        return await connecting(*words, sock=sock, **more)

    def has_peer(sock: socket.socket) -> bool:
        try:
            sock.getpeername()
        except OSError:
            return False
        return True

    monkeypatch.setattr(asyncssh, "connect", late)
    with socket.create_server((LOOPBACK, 0)) as server:
        dialling = asyncio.create_task(site.dial(Times(connect=30), server.getsockname()[1]))
        taken, _ = await asyncio.to_thread(server.accept)
        # Closed so that the connection is reset, not ended.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.close()
        with pytest.raises(LinkError) as caught:
            await dialling
    assert caught.value.state in {"unreachable", "dropped"}
    assert LOOPBACK in caught.value.message


async def test_a_host_key_that_changes_between_the_question_and_the_login_gets_no_password(site: Site) -> None:
    """The key that was accepted must be the key of the connection that the password goes over."""
    impostor = Site(Times(close=0.5))
    await impostor.start()
    wire = Wire(site.port, impostor.port)
    with pytest.raises(LinkError) as caught:
        await site.ask(port=await wire.start())
    assert caught.value.state == "host key changed"
    assert Keys.fingerprint(impostor.mx1.host_key_line) in caught.value.message
    assert impostor.node.passwords == []
    await wire.stop()
    await impostor.stop()


async def test_a_pinned_key_that_is_no_key_is_malformed(site: Site) -> None:
    """A record can hold anything; it is not passed on to SSH."""
    with pytest.raises(Malformed):
        await SshTransport(site.mx2).dial(PeerAddress(MX1, LOOPBACK, site.port, "ssh-ed25519 nonsense"))
