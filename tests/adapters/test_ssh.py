"""What only SSH can do wrong: bytes that no client of ours sends, peers that stall, and other people's SSH clients."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import orjson
import pytest

from cluster_store.adapters import ssh_server
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh import SshTransport
from cluster_store.adapters.ssh_link import LINK_SUBSYSTEM, REQUEST_SUBSYSTEM, WINDOW_BYTES, Times
from cluster_store.core import limits
from cluster_store.core.errors import InvalidValue, LinkError, Malformed
from cluster_store.core.types import MachineId
from cluster_store.ports import Link, PeerAddress
from tests.waiting import wait_until_async

PASSWORD = "correct horse battery staple"
MX1, MX2 = MachineId("1" * 32), MachineId("2" * 32)
LOOPBACK = "127.0.0.1"


class _Node:
    """A gatekeeper that lets one machine and one person in."""

    def __init__(self, machine_key: str) -> None:
        self.machine_key = machine_key
        self.links: asyncio.Queue[Link] = asyncio.Queue()
        self.passwords: list[str] = []
        self.finished = asyncio.Event()
        self.reply: Callable[[], Mapping[str, Any]] = lambda: {"welcome": True}

    def machine_for_key(self, client_key: str) -> MachineId | None:
        return MX2 if client_key == self.machine_key else None

    async def check_password(self, user: str, password: str, source: str) -> bool:
        self.passwords.append(password)
        return password == PASSWORD

    async def on_link(self, link: Link) -> None:
        self.links.put_nowait(link)
        await self.finished.wait()

    async def on_request(self, user: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"user": user, "request": request, **self.reply()}


class _Site:
    """mx1 listening on loopback, mx2's keys, and clients that do as they please."""

    def __init__(self, times: Times) -> None:
        self.mx1, self.mx2 = Keys.generate(), Keys.generate()
        self.times = times
        self.node = _Node(self.mx2.client_key_line)

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(MX1, LOOPBACK, self.port, self.mx1.host_key_line)

    async def start(self) -> None:
        self.listener = await SshTransport(self.mx1, self.times).listen(LOOPBACK, 0, self.node)
        self.port = self.listener.port

    async def stop(self) -> None:
        self.node.finished.set()
        await self.listener.close()

    async def dial(self, times: Times | None = None, port: int | None = None) -> Link:
        peer = PeerAddress(MX1, LOOPBACK, port or self.port, self.mx1.host_key_line)
        return await SshTransport(self.mx2, times or self.times).dial(peer)

    async def accepted(self) -> Link:
        return await asyncio.wait_for(self.node.links.get(), 10)

    async def ask(self, password: str = PASSWORD, port: int | None = None) -> Mapping[str, Any]:
        return await SshTransport(self.mx2, self.times).ask(
            LOOPBACK, port or self.port, "admin", password, _yes, {"join": "mx2"}
        )

    async def client(self, **options: Any) -> asyncssh.SSHClientConnection:
        """Log in with asyncssh itself, as the machine unless told otherwise."""
        plain: dict[str, Any] = {
            "config": None,
            "agent_path": None,
            "known_hosts": None,
            "username": "machine",
            "client_keys": [asyncssh.import_private_key(self.mx2.client_private)],
        }
        if "sock" not in options:
            plain |= {"host": LOOPBACK, "port": self.port}
        return await asyncssh.connect(**(plain | options))

    async def person(self, **options: Any) -> asyncssh.SSHClientConnection:
        """Log in with asyncssh itself as a person."""
        return await self.client(**({"username": "admin", "password": PASSWORD, "client_keys": None} | options))


async def _send_much(link: Link, sent: list[int] | None = None) -> None:
    """Send far more than anything buffers, noting each frame that was taken."""
    for _ in range(500):
        await link.send(bytes(100_000))
        if sent is not None:
            sent.append(100_000)


async def _yes(_fingerprint: str) -> bool:
    return True


@asynccontextmanager
async def _running(times: Times) -> AsyncIterator[_Site]:
    site = _Site(times)
    await site.start()
    try:
        yield site
    finally:
        await site.stop()


@pytest.fixture
async def site() -> AsyncIterator[_Site]:
    """A listening machine with the times of a real one, except that it does not wait long to close."""
    async with _running(Times(close=0.5)) as made:
        yield made


class _Wire:
    """A TCP proxy that can be cut: it then neither forwards nor closes, like a cable pulled out."""

    def __init__(self, *ports: int) -> None:
        self._ports = list(ports)
        self._writers: list[asyncio.StreamWriter] = []
        self._whole = asyncio.Event()
        self._whole.set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._carry, LOOPBACK, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Each connection goes to the next port, the last one from then on.
        port = self._ports.pop(0) if len(self._ports) > 1 else self._ports[0]
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, port)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._whole.wait()
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()

    def cut(self) -> None:
        self._whole.clear()

    def break_off(self) -> None:
        """Reset both sides, as a host does that has restarted."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        self._whole.set()
        self.break_off()
        await self._server.wait_closed()


# --- bytes that our own client never sends ---


async def test_an_oversized_frame_is_malformed_and_ends_the_connection(site: _Site) -> None:
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


async def test_a_stream_that_ends_inside_a_frame_is_dropped_not_ended(site: _Site) -> None:
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


async def test_a_receive_that_is_cancelled_inside_a_frame_goes_on_with_it(site: _Site) -> None:
    """A header that was already read is not read again."""
    client = await site.client()
    writer, _, _ = await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
    link = await site.accepted()
    writer.write((10).to_bytes(4) + b"half-")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(link.receive(), 0.05)
    writer.write(b"frame" + (1).to_bytes(4) + b"x")
    assert [await link.receive(), await link.receive()] == [b"half-frame", b"x"]


async def test_a_peer_that_stops_inside_a_frame_loses_the_connection() -> None:
    """Nobody keeps memory and a task of ours for ever by not going on; silence between frames is no fault."""
    async with _running(Times(stall=0.2, close=0.5)) as site:
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
    async with _running(Times(stall=0.3, close=0.5)) as site:
        link = await site.dial()
        await site.accepted()
        with pytest.raises(LinkError) as caught:
            await _send_much(link)
        assert caught.value.state == "dropped"
        assert "took nothing" in caught.value.message


async def test_a_peer_that_grants_a_huge_window_and_does_not_read_is_not_buffered_for() -> None:
    """The peer chooses its window; what it does not take off the network must not pile up in this process."""
    async with _running(Times(stall=0.5, close=0.5)) as site:
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
            await _send_much(link, sent)
        assert sum(sent) <= 5_000_000
        client.abort()


# --- connections that break ---


async def test_a_peer_that_has_gone_silent_is_dropped_by_keepalive() -> None:
    """A cable pulled out is noticed on both sides within the keepalive times, although nobody sends."""
    times = Times(keepalive=0.1, keepalive_missed=2, close=0.5)
    async with _running(times) as site:
        wire = _Wire(site.port)
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
    async with _running(times) as site:
        dialled = await site.dial()
        accepted = await site.accepted()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dialled.receive(), 0.5)
        await accepted.send(b"still here")
        assert await dialled.receive() == b"still here"


async def test_a_reset_connection_is_dropped_not_ended(site: _Site) -> None:
    """A peer that restarted is told apart from one that closed the link; frames received before are not lost."""
    wire = _Wire(site.port)
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


async def test_a_host_that_accepts_and_says_nothing_is_unreachable_after_the_timeout(site: _Site) -> None:
    """The connect timeout covers the SSH handshake, not just TCP."""
    with socket.create_server((LOOPBACK, 0)) as silent, pytest.raises(LinkError) as caught:
        await site.dial(Times(connect=0.2), silent.getsockname()[1])
    assert caught.value.state == "unreachable"
    assert "timeout" in caught.value.message


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 2000, b"SSH-1.0-old\r\n", b"\xff" * 100_000]
)
async def test_what_does_not_speak_our_protocol_is_no_reachable_machine(site: _Site, greeting: bytes) -> None:
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


async def test_a_host_key_that_changes_between_the_question_and_the_login_gets_no_password(site: _Site) -> None:
    """The key that was accepted must be the key of the connection that the password goes over."""
    impostor = _Site(Times(close=0.5))
    await impostor.start()
    wire = _Wire(site.port, impostor.port)
    with pytest.raises(LinkError) as caught:
        await site.ask(port=await wire.start())
    assert caught.value.state == "host key changed"
    assert Keys.fingerprint(impostor.mx1.host_key_line) in caught.value.message
    assert impostor.node.passwords == []
    await wire.stop()
    await impostor.stop()


async def test_a_pinned_key_that_is_no_key_is_malformed(site: _Site) -> None:
    """A record can hold anything; it is not passed on to SSH."""
    with pytest.raises(Malformed):
        await SshTransport(site.mx2).dial(PeerAddress(MX1, LOOPBACK, site.port, "ssh-ed25519 nonsense"))


# --- what the listener puts up with ---


async def test_whoever_does_not_log_in_is_disconnected() -> None:
    """A connection that says nothing, and one that never authenticates, are closed after the login time."""
    async with _running(Times(login=0.3, close=0.5)) as site:
        reader, writer = await asyncio.open_connection(LOOPBACK, site.port)
        assert (await reader.readline()).startswith(b"SSH-2.0-")
        await asyncio.wait_for(_read_to_the_end(reader), 10)
        writer.close()


async def _read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_whoever_logs_in_and_asks_for_nothing_is_disconnected() -> None:
    """Logged-in connections without a session, and requests that are never finished, are closed as well."""
    async with _running(Times(login=0.3, close=0.5)) as site:
        machine, person = await site.client(), await site.person()
        writer, _, _ = await person.open_session(subsystem=REQUEST_SUBSYSTEM, encoding=None)
        writer.write((10).to_bytes(4) + b"half")
        await asyncio.wait_for(asyncio.gather(machine.wait_closed(), person.wait_closed()), 10)


async def test_connections_that_do_not_log_in_cannot_keep_others_out(
    site: _Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a bound the oldest of them goes; a machine that logs in at once always gets in."""
    monkeypatch.setattr(ssh_server, "STRANGERS_MAX", 3)
    silent = [await asyncio.open_connection(LOOPBACK, site.port) for _ in range(6)]
    await (await site.dial()).close()
    first = [await asyncio.wait_for(_read_to_the_end(reader), 10) for reader, _ in silent[:3]]
    assert len(first) == 3
    for _, writer in silent:
        writer.close()


async def test_connections_are_bounded(site: _Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a new connection is closed at once, and those that are there stay."""
    monkeypatch.setattr(ssh_server, "CONNECTIONS_MAX", 2)
    dialled = await site.dial()
    other = await site.dial()
    accepted = await site.accepted()
    with pytest.raises(LinkError) as caught:
        await site.dial()
    assert caught.value.state == "dropped"
    await dialled.send(b"still here")
    assert await accepted.receive() == b"still here"
    await other.close()
    await wait_until_async(lambda: len(site.listener._guests) < 2, what="the closed connection to be forgotten")
    await (await site.dial()).close()


async def test_a_connection_tries_few_passwords(site: _Site) -> None:
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
async def test_a_person_gets_no_link_and_nothing_else(site: _Site, subsystem: str) -> None:
    """A password does not open a link between machines; the refusal says what this service is for."""
    person = await site.person()
    _, reader, errors = await person.open_session(subsystem=subsystem, encoding=None)
    assert await reader.read() == b""
    notice = await errors.read()
    assert b"cluster-store" in notice
    assert b"\x1b" not in notice
    assert site.node.links.empty()
    person.close()


async def test_a_machine_sends_no_person_s_request(site: _Site) -> None:
    """A machine's key opens links only."""
    client = await site.client()
    _, reader, errors = await client.open_session(subsystem=REQUEST_SUBSYSTEM, encoding=None)
    assert await reader.read() == b""
    assert b"cluster-store" in await errors.read()
    client.close()


async def test_a_person_does_not_log_in_with_a_key(site: _Site) -> None:
    """Not even with one that is on record for a machine."""
    with pytest.raises(asyncssh.PermissionDenied):
        await site.client(username="admin")


async def test_a_connection_has_one_session(site: _Site) -> None:
    """The second session of a connection is refused, and the first one goes on."""
    client = await site.client()
    writer, _, _ = await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
    link = await site.accepted()
    with pytest.raises(asyncssh.ChannelOpenError, match="one session"):
        await client.open_session(subsystem=LINK_SUBSYSTEM, encoding=None)
    writer.write((1).to_bytes(4) + b"x")
    assert await link.receive() == b"x"
    client.close()


@pytest.mark.parametrize("frame", [b"", b"{", b"[1]", b"\xff"])
async def test_a_request_that_is_no_json_object_is_refused_with_a_reason(site: _Site, frame: bytes) -> None:
    """The reason comes on the error stream with exit status 1; the node sees nothing."""
    person = await site.person()
    writer, reader, errors = await person.open_session(subsystem=REQUEST_SUBSYSTEM, encoding=None)
    writer.write(len(frame).to_bytes(4) + frame)
    assert await reader.read() == b""
    assert b"not" in await errors.read()
    assert writer.channel.get_exit_status() == 1
    person.close()


async def test_a_fault_of_the_node_is_reported_and_the_person_hears_of_an_end(site: _Site) -> None:
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
async def test_a_reply_that_is_no_json_object_is_malformed(site: _Site, reply: bytes) -> None:
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


# --- keys, algorithms, secrets ---


async def test_links_use_the_preferred_algorithms(site: _Site) -> None:
    """AES-128-GCM without compression, whichever side asks asyncssh what was agreed."""
    link: Any = await site.dial()
    connection = link.stream._connection
    agreed = {
        connection.get_extra_info(f"{way}_{what}") for way in ("send", "recv") for what in ("cipher", "compression")
    }
    assert agreed == {"aes128-gcm@openssh.com", "none"}


@pytest.mark.parametrize(
    "weak",
    [
        {"encryption_algs": ["aes128-ctr", "aes256-cbc"]},
        {"kex_algs": ["diffie-hellman-group14-sha256", "ecdh-sha2-nistp256"]},
        {"server_host_key_algs": ["rsa-sha2-256", "ecdsa-sha2-nistp256"]},
        {"compression_algs": ["zlib@openssh.com"]},
    ],
    ids=lambda weak: next(iter(weak)),
)
async def test_other_algorithms_are_not_offered(site: _Site, weak: dict[str, Any]) -> None:
    """A client that insists on anything else gets no connection."""
    with pytest.raises(asyncssh.KeyExchangeFailed):
        await site.client(**weak)


async def test_nothing_of_the_user_s_own_is_used(site: _Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration, no known_hosts, no key and no agent of the person who runs the program changes a dial."""
    folder = tmp_path / ".ssh"
    folder.mkdir()
    (folder / "config").write_text("Host *\n  Port 1\n  User nobody\n  Ciphers aes256-cbc\n  ProxyCommand false\n")
    (folder / "known_hosts").write_text(f"* {site.mx2.host_key_line}\n")
    (folder / "id_ed25519").write_bytes(Keys.generate().client_private)
    calls: list[int] = []

    async def agent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(1)
        writer.close()

    async with await asyncio.start_unix_server(agent, tmp_path / "agent"):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        link = await site.dial()
        assert (await site.ask())["user"] == "admin"
        await link.close()
    assert calls == []


async def test_a_user_without_a_name_can_dial(site: _Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container a process may run under a uid that no table names."""

    def nameless() -> str:
        if "LOGNAME" in os.environ:
            return os.environ["LOGNAME"]
        raise KeyError("uid not found")

    monkeypatch.delenv("LOGNAME", raising=False)
    monkeypatch.setattr(getpass, "getuser", nameless)
    await (await site.dial()).close()


async def test_a_password_is_in_no_log_and_no_error(site: _Site, capfd: pytest.CaptureFixture[str]) -> None:
    """Not even with all that asyncssh can be made to log; and without that, nothing reaches the terminal."""

    class Collector(logging.Handler):
        def __init__(self) -> None:
            super().__init__(logging.DEBUG)
            self.lines: list[str] = []

        def emit(self, record: logging.LogRecord) -> None:
            self.lines.append(record.getMessage())

    with pytest.raises(LinkError) as caught:
        await site.ask("hunter2 hunter2")
    assert capfd.readouterr() == ("", "")
    collector, logger = Collector(), logging.getLogger("asyncssh")
    logger.addHandler(collector)
    logger.setLevel(logging.DEBUG)
    asyncssh.set_debug_level(2)
    try:
        with pytest.raises(LinkError) as caught:
            await site.ask("hunter2 hunter2")
    finally:
        asyncssh.set_debug_level(1)
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(collector)
    assert collector.lines
    text = "\n".join(collector.lines) + repr(caught.value) + caught.value.describe() + str(caught.value.__cause__)
    assert "hunter2" not in text
    assert capfd.readouterr() == ("", "")


async def test_a_password_that_is_not_text_is_refused_without_repeating_it(site: _Site) -> None:
    """A surrogate from a wrongly decoded terminal is named as such before anything is sent."""
    with pytest.raises(InvalidValue) as caught:
        await site.ask("hunter2\udcff")
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert site.node.passwords == []


async def test_what_a_peer_says_cannot_drive_the_terminal(site: _Site) -> None:
    """Control characters in another machine's words are taken out of our errors."""

    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n")
        reason = b"\x1b[2Jgone"
        payload = b"\x01" + (2).to_bytes(4) + len(reason).to_bytes(4) + reason + (0).to_bytes(4)
        padding = 8 - (5 + len(payload)) % 8 + 8
        writer.write((1 + len(payload) + padding).to_bytes(4) + bytes([padding]) + payload + bytes(padding))
        await _read_to_the_end(reader)
        writer.close()

    async with await asyncio.start_server(shout, LOOPBACK, 0) as server:
        with pytest.raises(LinkError) as caught:
            await site.dial(port=server.sockets[0].getsockname()[1])
    assert "gone" in caught.value.message
    assert "\x1b" not in caught.value.describe()


async def test_a_receiver_holds_little_of_what_it_does_not_read(site: _Site) -> None:
    """What is buffered here and held back by asyncssh is within two windows and two packets."""
    dialled = await site.dial()
    accepted: Any = await site.accepted()
    sending = asyncio.create_task(_send_much(dialled))
    reader, channel = accepted.stream._reader, accepted.stream._channel
    held: list[int] = []

    def full() -> bool:
        held.append(len(reader._buffer) + sum(len(data) for data, _ in channel._recv_buf))
        return len(held) > 12 and held[-1] > WINDOW_BYTES and len(set(held[-12:])) == 1

    await wait_until_async(full, what="the receiver to be full")
    assert max(held) <= 2 * WINDOW_BYTES + 2 * 128 * 1024
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


# --- the OpenSSH client ---


class _OpenSsh:
    """The client that administrators have, pointed at a site, with a person's password."""

    def __init__(self, site: _Site, folder: Path) -> None:
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
def openssh(site: _Site, tmp_path: Path) -> _OpenSsh:
    """The OpenSSH client, where it is installed."""
    if not all(shutil.which(program) for program in ("ssh", "sftp", "scp")):
        pytest.skip("the OpenSSH client is not installed")
    return _OpenSsh(site, tmp_path)


async def test_openssh_asks_a_request_with_a_password(site: _Site, openssh: _OpenSsh) -> None:
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


async def test_openssh_forwards_nothing(site: _Site, openssh: _OpenSsh, tmp_path: Path) -> None:
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


async def test_openssh_shows_the_password_method_alone_to_people(site: _Site, openssh: _OpenSsh) -> None:
    """A person is offered passwords, the user name of machines only keys."""
    status, _, errors = await openssh.ssh(f"admin@{LOOPBACK}", methods="none")
    assert status == 255
    assert "Permission denied (password)." in errors
    status, _, errors = await openssh.ssh(f"machine@{LOOPBACK}")
    assert status == 255
    assert "Permission denied (publickey)." in errors
    assert site.node.passwords == []
