# ruff: noqa: ARG002 - asyncssh decides what its callbacks are given
"""The dialling side of SSH. Only what is given here counts: no file of the user's, no agent, no environment."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncssh
import orjson

from cluster_store.adapters import link_errors
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh_link import (
    ALGORITHMS,
    CCS_SERVICE,
    LINK_SUBSYSTEM,
    PACKET_BYTES,
    REQUEST_SUBSYSTEM,
    SSH_SERVICE,
    WINDOW_BYTES,
    FrameStream,
    SshLink,
    Times,
    guard,
)
from cluster_store.core.errors import InvalidValue, LinkError, Malformed
from cluster_store.ports import MACHINE_USER, PeerAddress, host_port

#: What is kept of the other side's first words, to tell people what answers there instead of SSH.
HEARD_BYTES_MAX = 256

#: Service -> what people call its port.
_SERVICES = {SSH_SERVICE: "SSH", CCS_SERVICE: "CCS"}

_NO_FILES: dict[str, Any] = {
    "config": None,
    "agent_path": None,
    "pkcs11_provider": None,
    "gss_host": None,
    "host_based_auth": False,
    "kbdint_auth": False,
    "x509_trusted_certs": None,
    "proxy_command": None,
    "disable_trivial_auth": True,
}


async def dial(peer: PeerAddress, keys: Keys, times: Times) -> SshLink:
    """Open a link to a member, as ``ports.Transport.dial`` says."""
    call = _Call(peer.host, peer.port, times)
    stream = await call.open(
        LINK_SUBSYSTEM,
        pinned=peer.host_key,
        who="this machine",
        username=MACHINE_USER,
        client_keys=[asyncssh.import_private_key(keys.client_private)],
        preferred_auth=("publickey",),
    )
    return SshLink(peer.machine, call.where, stream)


async def ask(
    host: str,
    port: int,
    user: str,
    password: str,
    accept_key: Callable[[str], Awaitable[bool]],
    request: Mapping[str, Any],
    times: Times,
) -> Mapping[str, Any]:
    """Send a person's request, as ``ports.Transport.ask`` says."""
    try:
        password.encode()
    except UnicodeEncodeError:
        raise InvalidValue("the password is not valid text", "Type it again, or set another one.") from None
    login = {"username": user, "password": password, "client_keys": None, "preferred_auth": ("password",)}
    return await _ask(_Call(host, port, times, SSH_SERVICE), user, login, accept_key, request, times)


async def ask_by_key(
    host: str,
    port: int,
    keys: Keys,
    accept_key: Callable[[str], Awaitable[bool]],
    request: Mapping[str, Any],
    times: Times,
) -> Mapping[str, Any]:
    """Send an announced machine's request, as ``ports.Transport.ask_by_key`` says."""
    login = {
        "username": MACHINE_USER,
        "client_keys": [asyncssh.import_private_key(keys.client_private)],
        "preferred_auth": ("publickey",),
    }
    call = _Call(host, port, times, CCS_SERVICE)
    return await _ask(call, "this machine", login, accept_key, request, times)


async def _ask(
    call: _Call,
    who: str,
    login: Mapping[str, Any],
    accept_key: Callable[[str], Awaitable[bool]],
    request: Mapping[str, Any],
    times: Times,
) -> Mapping[str, Any]:
    frame = orjson.dumps(request)
    # One connection to see the key, and another one for the password, pinned to the key that was accepted: a person
    # may take minutes to compare fingerprints, and no server waits that long for a login.
    offered = await call.host_key()
    if not await accept_key(Keys.fingerprint(offered)):
        raise link_errors.host_key_refused(call.where, Keys.fingerprint(offered))
    stream = await call.open(REQUEST_SUBSYSTEM, pinned=offered, who=who, **login)
    try:
        async with asyncio.timeout(times.reply):
            await stream.send(frame)
            reply = await stream.receive()
    except TimeoutError:
        raise link_errors.dropped(call.where, f"no answer within {times.reply:g} s") from None
    finally:
        stream.abort()
    if reply is None:
        raise link_errors.dropped(call.where, stream.notice.strip() or "it was closed without an answer")
    return _reply(reply, call.where)


async def host_key(host: str, port: int, times: Times | None = None) -> str:
    """Return the public key line of the host key that is shown at ``host:port``, proven or not; nothing is sent.

    Raises:
        LinkError: nobody there shows one.
    """
    return await _Call(host, port, times or Times()).host_key()


async def fingerprint(host: str, port: int) -> str:
    """Return the fingerprint of that key. Raises as ``host_key``."""
    return Keys.fingerprint(await host_key(host, port))


def _reply(frame: bytes, where: str) -> dict[str, Any]:
    try:
        reply = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the answer of {where} is not JSON: {error}") from None
    if not isinstance(reply, dict):
        raise Malformed(f"the answer of {where} is not a JSON object")
    return reply


class _ClientStream(FrameStream, asyncssh.SSHClientSession[bytes]):
    """The one session of a connection that this machine dialled."""


class _Client(asyncssh.SSHClient):
    """What happens while a connection is being made."""

    def __init__(self, log_in: Callable[[], None]) -> None:
        self._log_in = log_in
        self.offered = ""
        #: The first that the other side said, whatever it speaks.
        self.heard = b""
        self.socket_has_room = asyncio.Event()

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.socket_has_room = guard(conn)
        take = conn.data_received

        def data_received(data: bytes, datatype: int | None = None) -> None:
            self.heard += data[: HEARD_BYTES_MAX - len(self.heard)]
            if len(self.heard) == HEARD_BYTES_MAX:
                conn.data_received = take  # type: ignore[method-assign]
            take(data, datatype)

        conn.data_received = data_received  # type: ignore[method-assign]

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        # Asked about any key but the pinned one: remembered, for a person to see, and refused.
        self.offered = " ".join(key.export_public_key("openssh").decode("ascii").split()[:2])
        return False

    def begin_auth(self, username: str) -> None:
        self._log_in()


class _Call:
    """One attempt to reach ``host:port``: every failure of asyncssh and of the network is translated here."""

    def __init__(self, host: str, port: int, times: Times, service: str = "") -> None:
        """Prepare to call; ``service``: which one is wanted, where it is not all the same."""
        self._service = service
        self.where = host_port(host, port)
        self._host = host
        self._port = port
        self._times = times
        self._deadline: asyncio.Timeout | None = None
        self._connected = False
        self._logging_in = False
        self._client = _Client(self._log_in)

    def _log_in(self) -> None:
        """Allow for the time that checking a password takes on purpose."""
        self._logging_in = True
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._times.login)

    async def host_key(self) -> str:
        """Return the public key line that the other side shows, proven or not; nothing is sent."""
        try:
            async with asyncio.timeout(self._times.connect):
                connection = await self._connect(None)
        except (asyncssh.Error, OSError, ValueError) as error:
            if self._client.offered:
                return self._client.offered
            raise self._translate(error, "", "") from error
        connection.abort()
        raise AssertionError("a connection was made although no host key was accepted")

    async def open(self, subsystem: str, *, pinned: str, who: str, **login: Any) -> FrameStream:
        """Log in and open a subsystem, accepting only the pinned host key."""
        try:
            Keys.fingerprint(pinned)
            key = asyncssh.import_public_key(pinned)
        except (InvalidValue, asyncssh.KeyImportError) as error:
            raise Malformed(f"the host key on record for {self.where} is no OpenSSH key: {pinned[:80]!r}") from error
        try:
            async with asyncio.timeout(self._times.connect) as self._deadline:
                connection = await self._connect(key, **login)
                try:
                    stream = _ClientStream(self.where, self._times, self._client.socket_has_room)
                    await connection.create_session(
                        lambda: stream,
                        subsystem=subsystem,
                        encoding=None,
                        window=WINDOW_BYTES,
                        max_pktsize=PACKET_BYTES,
                    )
                except BaseException:
                    connection.abort()
                    raise
        except (asyncssh.Error, OSError, ValueError) as error:
            raise self._translate(error, pinned, who) from error
        return stream

    async def _connect(self, pinned: asyncssh.SSHKey | None, **login: Any) -> asyncssh.SSHClientConnection:
        _have_local_name()
        connected = await self._socket()
        self._connected = True
        try:
            return await asyncssh.connect(
                # Named too: of a peer that is gone again the socket cannot say, and asyncssh fails over that.
                self._host,
                self._port,
                sock=connected,
                client_factory=lambda: self._client,
                client_version="cluster-store",
                known_hosts=([pinned] if pinned else [], [], []),
                server_host_key_algs=["ssh-ed25519"],
                keepalive_interval=self._times.keepalive,
                keepalive_count_max=self._times.keepalive_missed,
                **_NO_FILES,
                **ALGORITHMS,
                **login,
            )
        except BaseException:
            # asyncssh closes it once a connection was begun, but not before.
            connected.close()
            raise

    async def _socket(self) -> socket.socket:
        """Look the name up and connect to the first of its addresses that answers, each having its share of the time.

        Otherwise one address behind a broken route (IPv6, as a rule) would use up the time of those that work.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in found:
            candidate = socket.socket(family, kind, protocol)
            try:
                candidate.settimeout(0)
                async with asyncio.timeout(self._times.connect / len(found)):
                    await loop.sock_connect(candidate, address)
            except OSError as error:
                candidate.close()
                failure = error
            except BaseException:
                candidate.close()
                raise
            else:
                return candidate
        raise failure

    def _translate(self, error: Exception, pinned: str, who: str) -> LinkError:
        """Return what failed in connstatus's words: the first step that did."""
        if isinstance(error, socket.gaierror | ValueError):
            return link_errors.no_such_name(self.where, link_errors.reason(error))
        if isinstance(error, TimeoutError):
            return self._timed_out()
        if self._connected and not link_errors.is_ssh(self._client.heard):
            return link_errors.no_ssh(self.where, self._client.heard, None)
        match error:
            case asyncssh.KeyExchangeFailed():
                return link_errors.nothing_in_common(self.where, error.reason)
            case asyncssh.HostKeyNotVerifiable() if self._client.offered:
                fingerprints = (Keys.fingerprint(pinned), Keys.fingerprint(self._client.offered))
                return link_errors.host_key_changed(self.where, *fingerprints)
            case asyncssh.PermissionDenied():
                return self._refused(who)
            case asyncssh.ChannelOpenError():
                return link_errors.unreachable(self.where, f"it offers no cluster-store service ({error.reason})")
            case asyncssh.ProtocolError() | asyncssh.ProtocolNotSupported():
                return link_errors.unreachable(self.where, f"what answers is no cluster-store service ({error.reason})")
            case asyncssh.DisconnectError() | ConnectionResetError() | BrokenPipeError():
                return link_errors.dropped(self.where, link_errors.reason(error))
            case _:
                return link_errors.unreachable(self.where, link_errors.reason(error))

    def _refused(self, who: str) -> LinkError:
        """Return why nobody was let in: it is another service's port, or they are not known."""
        found = self._answering
        if self._service in ("", found):
            return link_errors.authentication_failed(self.where, who)
        told = _SERVICES.get(found, f"SSH-2.0-{found}")
        return link_errors.another_service(self.where, who, _SERVICES[self._service], told)

    @property
    def _answering(self) -> str:
        """How the other side names itself in SSH's greeting."""
        greeting = next((line for line in self._client.heard.splitlines() if link_errors.is_ssh(line)), b"")
        return greeting.partition(b"-")[2].partition(b"-")[2].decode("ascii", "replace")

    def _timed_out(self) -> LinkError:
        """Return what was waited for in vain."""
        within = f"within {self._times.connect:g} s (timeout)"
        if self._logging_in:
            return link_errors.dropped(self.where, f"no answer to the login within {self._times.login:g} s")
        if not self._connected:
            return link_errors.unreachable(self.where, f"no answer {within}")
        if not link_errors.is_ssh(self._client.heard):
            return link_errors.no_ssh(self.where, self._client.heard, self._times.connect)
        return link_errors.unreachable(self.where, f"it speaks SSH, but agreed on no keys {within}")


def _have_local_name() -> None:
    """Let asyncssh find a local user name, which it asks for and we never use: a container's user may have none."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
