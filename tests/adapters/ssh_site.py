"""A machine that listens for SSH on loopback, a wire to it that can be cut, and clients that do as they please."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncssh

from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh import SshTransport
from cluster_store.adapters.ssh_link import Times
from cluster_store.core.types import MachineId
from cluster_store.ports import Conversation, Link, PeerAddress

PASSWORD = "correct horse battery staple"
MX1, MX2 = MachineId("1" * 32), MachineId("2" * 32)
LOOPBACK = "127.0.0.1"


async def _repeat(conversation: Conversation) -> None:
    """Say what was asked for, and give back what is typed."""
    asked = (conversation.user, conversation.auth, conversation.command, conversation.terminal)
    await conversation.write(f"{asked}\n".encode())
    while data := await conversation.read():
        await conversation.write(data)
    await conversation.write(b"that is all\n", error=True)
    conversation.finish(7)


class Node:
    """A gatekeeper that lets one machine and one person in."""

    def __init__(self, machine_key: str) -> None:
        self.machine_key = machine_key
        #: The person's keys, and whether a key and the password are needed.
        self.keys: set[str] = set()
        self.both = False
        self.converse: Callable[[Conversation], Awaitable[None]] = _repeat
        self.links: asyncio.Queue[Link] = asyncio.Queue()
        self.passwords: list[str] = []
        self.finished = asyncio.Event()
        self.reply: Callable[[], Mapping[str, Any]] = lambda: {"welcome": True}

    def machine_for_key(self, client_key: str) -> MachineId | None:
        """Know the one machine's key."""
        return MX2 if client_key == self.machine_key else None

    def announced_for_key(self, client_key: str) -> str | None:
        """Know nobody else."""

    def on_stranger(self, client_key: str, source: str) -> None:
        """Let them go."""

    async def check_password(self, user: str, password: str, source: str) -> bool:
        """Take the one password, and note every one that was tried."""
        self.passwords.append(password)
        return password == PASSWORD

    def person(self, user: str) -> object:
        """Take everybody for the same who has the same keys."""
        return user, frozenset(self.keys), self.both

    def has_key(self, user: str, key: str) -> bool:
        """Know the person's keys."""
        return user == "admin" and key in self.keys

    def needs_both(self, user: str) -> bool:
        """Say what the test wants said."""
        return self.both

    async def on_conversation(self, conversation: Conversation) -> None:
        """Do what the test wants done."""
        await self.converse(conversation)

    async def on_link(self, link: Link) -> None:
        """Hand the link to the test, and keep it until the test is over."""
        self.links.put_nowait(link)
        await self.finished.wait()

    async def on_request(self, user: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer with what was asked, and what the test wants said."""
        return {"user": user, "request": request, **self.reply()}


class Site:
    """mx1 listening on loopback, mx2's keys, and clients that do as they please."""

    def __init__(self, times: Times) -> None:
        self.mx1, self.mx2 = Keys.generate(), Keys.generate()
        self.times = times
        self.node = Node(self.mx2.client_key_line)

    async def start(self) -> None:
        """Start to listen."""
        self.listener = await SshTransport(self.mx1, self.times).listen(LOOPBACK, 0, self.node)
        self.port = self.listener.port

    async def stop(self) -> None:
        """Stop listening, without making the listener wait for its links."""
        self.node.finished.set()
        await self.listener.close()

    async def dial(self, times: Times | None = None, port: int | None = None) -> Link:
        """Dial mx1 as mx2, at another port if one is given."""
        peer = PeerAddress(MX1, LOOPBACK, port or self.port, self.mx1.host_key_line)
        return await SshTransport(self.mx2, times or self.times).dial(peer)

    async def accepted(self) -> Link:
        """Return the other end of the oldest link that was not returned yet."""
        return await asyncio.wait_for(self.node.links.get(), 10)

    async def ask(self, password: str = PASSWORD, port: int | None = None) -> Mapping[str, Any]:
        """Send a request as a person who accepts any host key."""
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


async def send_much(link: Link, sent: list[int] | None = None) -> None:
    """Send far more than anything buffers, noting each frame that was taken."""
    for _ in range(500):
        await link.send(bytes(100_000))
        if sent is not None:
            sent.append(100_000)


async def _yes(_fingerprint: str) -> bool:
    return True


@asynccontextmanager
async def running(times: Times) -> AsyncIterator[Site]:
    """Have a machine listen for the time of a test."""
    site = Site(times)
    await site.start()
    try:
        yield site
    finally:
        await site.stop()


class Wire:
    """A TCP proxy that can be cut: it then neither forwards nor closes, like a cable pulled out."""

    def __init__(self, *ports: int) -> None:
        self._ports = list(ports)
        self._writers: list[asyncio.StreamWriter] = []
        self._whole = asyncio.Event()
        self._whole.set()

    async def start(self) -> int:
        """Return the port at which it takes connections."""
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
        """Forward nothing any more."""
        self._whole.clear()

    def break_off(self) -> None:
        """Reset both sides, as a host does that has restarted."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        self._whole.set()
        self.break_off()
        await self._server.wait_closed()


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the other side closes or resets the connection."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""
