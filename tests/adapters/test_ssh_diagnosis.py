"""What an operator is told of an address where no machine of the cluster answers: the first step that fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import asyncssh
import pytest

from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh import SshTransport
from cluster_store.adapters.ssh_link import Times
from cluster_store.core.errors import LinkError
from cluster_store.ports import PeerAddress
from tests.adapters.ssh_site import LOOPBACK, MX1, PASSWORD

#: Short where silence is waited for, and long enough for a key exchange on a busy host everywhere else.
BRIEF, LONG = Times(connect=0.3), Times(connect=20)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@pytest.fixture(params=["dial", "ask"])
def tried(request: pytest.FixtureRequest) -> Callable[[int, Times], Coroutine[Any, Any, LinkError]]:
    """Return what tries a port, as a member that dials and as a machine that wants to join; it returns the failure."""

    async def accept(_fingerprint: str) -> bool:
        return True

    async def attempt(port: int, times: Times) -> LinkError:
        transport = SshTransport(Keys.generate(), times)
        peer = PeerAddress(MX1, LOOPBACK, port, Keys.generate().host_key_line)
        dialled = request.param == "dial"
        with pytest.raises(LinkError) as caught:
            await (transport.dial(peer) if dialled else transport.ask(LOOPBACK, port, "admin", PASSWORD, accept, {}))
        return caught.value

    return attempt


def _saying(words: bytes, *, after_a_line: bool = False, waits: bool = False) -> Serve:
    """Return a service that says something, and ends the connection, or waits until the other side does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if after_a_line:
                await reader.readline()
            writer.write(words)
            await writer.drain()
            if waits:
                await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    return serve


_HTTP = _saying(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", after_a_line=True)
_SMTP = _saying(b"220 mail.example.com ESMTP\x1b[2J\r\n", waits=True)
_OLD_SSH = _saying(b"SSH-1.5-ancient\r\n")
_BYTES = _saying(bytes(range(1, 9)) * 8000)
_NOTHING = _saying(b"")
_GREETING = _saying(b"SSH-2.0-sleepy\r\n", waits=True)


@pytest.mark.parametrize(
    ("serve", "times", "told"),
    [
        (_HTTP, LONG, "it speaks something else than SSH (answered 'HTTP/1.1 400 Bad Request')"),
        (_SMTP, BRIEF, "it speaks something else than SSH (answered '220 mail.example.com ESMTP [2J')"),
        (_OLD_SSH, LONG, "it speaks SSH of another version (answered 'SSH-1.5-ancient')"),
        (_BYTES, LONG, "it speaks something else than SSH (answered in unprintable bytes)"),
        (_NOTHING, LONG, "it takes connections, and ends them without a word"),
        (_GREETING, BRIEF, "it speaks SSH, but agreed on no keys within 0.3 s (timeout)"),
    ],
    ids=["http", "smtp", "old ssh", "bytes", "nothing", "greeting"],
)
async def test_what_answers_in_place_of_a_machine_is_named(
    tried: Callable[[int, Times], Coroutine[Any, Any, LinkError]], serve: Serve, times: Times, told: str
) -> None:
    """A foreign service is shown in its own first words, without what a terminal would obey."""
    serving: list[asyncio.Task[None]] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(accept, LOOPBACK, 0) as server:
        port = server.sockets[0].getsockname()[1]
        failure = await tried(port, times)
        await asyncio.gather(*serving)
    assert (failure.state, failure.message) == ("unreachable", f"{LOOPBACK}:{port} is unreachable: {told}")


async def test_a_port_that_answers_and_is_silent_is_told_from_one_that_does_not_answer(
    tried: Callable[[int, Times], Coroutine[Any, Any, LinkError]],
) -> None:
    """Something is there, and takes connections: that is neither a firewall nor a wrong address."""
    with socket.create_server((LOOPBACK, 0)) as silent:
        failure = await tried(silent.getsockname()[1], BRIEF)
    assert failure.state == "unreachable"
    assert failure.message.endswith("it takes connections, but is silent: not a word within 0.3 s (timeout)")


async def test_a_closed_port_refuses(tried: Callable[[int, Times], Coroutine[Any, Any, LinkError]]) -> None:
    """The host is there, and nobody listens."""
    with socket.create_server((LOOPBACK, 0)) as gone:
        port = gone.getsockname()[1]
    failure = await tried(port, LONG)
    assert (failure.state, failure.message) == ("unreachable", f"{LOOPBACK}:{port} is unreachable: Connection refused")


@pytest.fixture(scope="module")
def rsa_key() -> asyncssh.SSHKey:
    """A host key of a kind that no machine has."""
    return asyncssh.generate_private_key("ssh-rsa", key_size=2048)


@pytest.fixture
async def odd(request: pytest.FixtureRequest, rsa_key: asyncssh.SSHKey) -> AsyncIterator[int]:
    """The port of an SSH server with algorithms, or a host key, that this machine does not take."""
    options = dict(request.param)
    key = rsa_key if options.pop("rsa", False) else asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen(LOOPBACK, 0, server_host_keys=[key], config=None, **options) as server:
        yield server.get_port()


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (
            {"kex_algs": ["diffie-hellman-group14-sha256"]},
            ["no key exchange algorithm in common", "that one has diffie-hellman-group14-sha256"],
        ),
        ({"encryption_algs": ["aes256-ctr"]}, ["no encryption algorithm in common", "that one has aes256-ctr"]),
        ({"rsa": True}, ["no host key algorithm in common: this machine takes ssh-ed25519"]),
    ],
    indirect=["odd"],
)
async def test_algorithms_that_only_one_side_has_are_listed(
    tried: Callable[[int, Times], Coroutine[Any, Any, LinkError]], odd: int, told: list[str]
) -> None:
    """An operator who hardened an SSH server sees which list to look at, and what both sides have in it."""
    failure = await tried(odd, LONG)
    assert failure.state == "unreachable"
    assert [words for words in told if words not in failure.message] == [], failure.message


@pytest.mark.parametrize("odd", [{}], indirect=True)
async def test_an_ssh_server_that_is_no_cluster_store_is_named(odd: int) -> None:
    """Whoever joins at the port of the system's own SSH server need not look for a mistake in the password."""

    async def accept(_fingerprint: str) -> bool:
        return True

    transport = SshTransport(Keys.generate(), LONG)
    for asking in (
        transport.ask(LOOPBACK, odd, "admin", PASSWORD, accept, {}),
        transport.ask_by_key(LOOPBACK, odd, accept, {}),
    ):
        with pytest.raises(LinkError, match=r"what answers is an SSH server, but no cluster-store \('SSH-2.0-Async"):
            await asking
