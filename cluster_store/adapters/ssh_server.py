# ruff: noqa: ARG002 - asyncssh decides what its callbacks are given
"""The listening side of SSH: who may connect, how long they may take, and the few things that they may ask for.

1. The user ``machine`` logs in with a key that a member's record pins, and may open the subsystem for links, once.
2. Anybody else logs in with a key, a password, or both where that is required of them. With a password they may open
   the subsystem for requests: one in, one answer out. Where only machines are let in (CCS), an announced machine may do
   so with its key, and no person can log in.
3. A person may ask for a prompt or for one command, at a terminal or not; what answers is this product's command line.
4. Nothing else is served: no shell of the system's, no file transfer, no forwarding, no agent. Environment variables
   are not read by anything.
5. Whoever is not logged in and asking for something within ``Times.login`` is disconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import asyncssh
import orjson

from cluster_store.adapters import link_errors
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh_conversation import SshConversation, TalkingStream
from cluster_store.adapters.ssh_link import (
    ALGORITHMS,
    CCS_SERVICE,
    LINK_SUBSYSTEM,
    PACKET_BYTES,
    REQUEST_SUBSYSTEM,
    SSH_SERVICE,
    WINDOW_BYTES,
    SshLink,
    Times,
    guard,
)
from cluster_store.core.errors import Malformed, PeerError, Refused
from cluster_store.core.types import MachineId
from cluster_store.ports import MACHINE_USER, Gatekeeper, announced_user, host_port

#: Connections at once: every member of a large cluster twice over, and people; each may hold a few MB of frames.
CONNECTIONS_MAX = 512
#: Connections that are not logged in. When one more comes, the oldest goes: a login takes a fraction of a second, so
#: those that hang about to keep others out are the ones that go.
STRANGERS_MAX = 64
#: Connections of one machine: it needs one, and a broken one may take a while to go. Without a bound, a member that
#: dials again and again would keep the others out.
CONNECTIONS_PER_MACHINE_MAX = 4
#: Passwords for each connection; the gatekeeper slows down those who come back.
PASSWORDS_MAX = 3

#: What somebody can prove who they are with.
KEY, PASSWORD = "key", "password"

_NOTHING_ELSE = (
    "cluster-store: this service answers other machines and `clusterconfig`; it has no {what}. "
    "Run `cluster-store` on the machine itself.\r\n"
)


class SshListener:
    """A listening socket and the connections that it accepted; implements ``ports.Listener``."""

    port: int

    def __init__(self, gatekeeper: Gatekeeper, times: Times, *, machines_only: bool = False) -> None:
        self.gatekeeper = gatekeeper
        self.machines_only = machines_only
        self.times = times
        self._acceptor: asyncssh.SSHAcceptor | None = None
        # Both in the order of arrival.
        self._guests: dict[_Guest, None] = {}
        self._strangers: dict[_Guest, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, address: str, port: int, keys: Keys) -> None:
        """Start to listen. Raises Refused when the address or the port cannot be had."""
        try:
            self._acceptor = await asyncssh.listen(
                address,
                port,
                server_factory=lambda: _Guest(self),
                server_host_keys=[asyncssh.import_private_key(keys.host_private)],
                server_version=CCS_SERVICE if self.machines_only else SSH_SERVICE,
                config=None,
                encoding=None,
                line_editor=False,
                agent_forwarding=False,
                x11_forwarding=False,
                gss_host=None,
                host_based_auth=False,
                kbdint_auth=False,
                login_timeout=self.times.login,
                keepalive_interval=self.times.keepalive,
                keepalive_count_max=self.times.keepalive_missed,
                window=WINDOW_BYTES,
                max_pktsize=PACKET_BYTES,
                **ALGORITHMS,
            )
        except (OSError, ValueError) as error:
            raise Refused(
                f"cannot listen on {host_port(address, port)}: {link_errors.reason(error)}",
                "Choose an address of this machine and a free port; ports below 1024 need special rights.",
            ) from error
        self.port = self._acceptor.get_port()

    async def close(self) -> None:
        """Stop listening and drop every connection; what serves them gets ``Times.close`` to end by itself."""
        if self._acceptor is None:
            return
        self._acceptor.close()
        guests, tasks = list(self._guests), list(self._tasks)
        for guest in guests:
            guest.connection.abort()
        for guest in guests:
            await guest.connection.wait_closed()
        if tasks:
            await asyncio.wait(tasks, timeout=self.times.close)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._acceptor.wait_closed()
        self._acceptor = None

    def admit(self, guest: _Guest) -> None:
        """Count a new connection, and make room for it among those that are not logged in."""
        self._guests[guest] = None
        self._strangers[guest] = None
        if len(self._guests) > CONNECTIONS_MAX:
            guest.connection.abort()
        elif len(self._strangers) > STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.connection.abort()

    def recognise(self, guest: _Guest) -> None:
        """Take a connection that is logged in out of the strangers. Of too many of one machine the oldest go."""
        self._strangers.pop(guest, None)
        if guest.machine is not None:
            # A stranger that only named the machine's key is not the machine.
            known = (other for other in self._guests if other not in self._strangers)
            its_own = [other for other in known if other.machine == guest.machine]
            for other in its_own[:-CONNECTIONS_PER_MACHINE_MAX]:
                other.connection.abort()

    def forget(self, guest: _Guest) -> None:
        """Stop counting a connection that has ended."""
        self._guests.pop(guest, None)
        self._strangers.pop(guest, None)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what serves a session until the listener closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A fault of the node, not of the peer: it must not pass unseen, nor end the listener.
            task.get_loop().call_exception_handler(
                {"message": "serving an SSH session failed", "exception": error, "task": task}
            )


class _Guest(asyncssh.SSHServer):
    """One accepted connection: logs it in and gives it its one session."""

    connection: asyncssh.SSHServerConnection

    def __init__(self, listener: SshListener) -> None:
        self._listener = listener
        self._where = ""
        self._user = ""
        self.machine: MachineId | None = None
        #: Who it may ask to be let in as, where it need not log in for that: the hostname of an announced machine, or
        #: the id of a member.
        self._announced: str | None = None
        self._passwords = 0
        #: What a person has proven so far, and the means whose proof is under way.
        self._proven: set[str] = set()
        self._means = ""
        #: Who they were when they began to log in.
        self._person: object = None
        self._session: _Session | None = None
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn
        self._where = host_port(*conn.get_extra_info("peername", ("?", 0))[:2])
        self._socket_has_room = guard(conn)
        self._log_in = conn.send_userauth_success
        # asyncssh knows of one proof only: what it calls after each is where another one can be asked for.
        conn.send_userauth_success = self._take_proof  # type: ignore[method-assign]
        self._listener.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        self.busy()

    # --- logging in ---

    def begin_auth(self, username: str) -> bool:
        self._user, self.machine, self._announced = username, None, None
        self._proven = set()
        self._person = self._listener.gatekeeper.person(username)
        return True

    @property
    def _is_person(self) -> bool:
        return self._user != MACHINE_USER and not self._listener.machines_only

    def public_key_auth_supported(self) -> bool:
        return self._user == MACHINE_USER or (self._is_person and KEY not in self._proven)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        # Called again with the key that the signature is then checked with: the last one is the one that logs in.
        line = " ".join(key.export_public_key("openssh").decode("ascii").split()[:2])
        keeper = self._listener.gatekeeper
        self._means = KEY
        if self._is_person:
            return keeper.has_key(username, line)
        self.machine = keeper.machine_for_key(line)
        if self._listener.machines_only:
            # One that was let in and could not fetch the log then asks once more.
            self._announced = self.machine or keeper.announced_for_key(line)
        is_known = self.machine is not None or self._announced is not None
        if not is_known and self._listener.machines_only:
            keeper.on_stranger(line, self._where)
        return is_known

    def password_auth_supported(self) -> bool:
        return self._is_person and PASSWORD not in self._proven and self._passwords < PASSWORDS_MAX

    async def validate_password(self, username: str, password: str) -> bool:
        # Counted before it is checked: a client need not wait for the answer to send the next one.
        self._passwords += 1
        self._means = PASSWORD
        if self._passwords > PASSWORDS_MAX:
            return False
        source = self.connection.get_extra_info("peername", ("?",))[0]
        return await self._listener.gatekeeper.check_password(username, password, source)

    async def _take_proof(self) -> None:
        """Log in whoever has proven enough; ask for another proof otherwise."""
        self._proven.add(self._means)
        if self._is_person and not self._proven_enough():
            self.connection.send_userauth_failure(partial_success=True)
        else:
            await self._log_in()

    @property
    def _is_unchanged(self) -> bool:
        # What was proven before somebody's password was changed must not be kept for afterwards.
        return self._listener.gatekeeper.person(self._user) == self._person

    def _proven_enough(self) -> bool:
        both = self._listener.gatekeeper.needs_both(self._user)
        return self._proven == {KEY, PASSWORD} if both else bool(self._proven)

    def auth_completed(self) -> None:
        if self._is_person and not self._proven_enough():
            # Whatever asyncssh does: nobody gets in with less.
            self.connection.abort()
            return
        self._listener.recognise(self)
        self.idle()

    # --- what it asks for ---

    def session_requested(self) -> _Session:
        if self._session is not None:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "cluster-store: one session for each connection"
            )
        self._session = _Session(self, self._where, self._listener.times, self._socket_has_room)
        return self._session

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        raise asyncssh.ChannelOpenError(
            asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "cluster-store: no forwarding of ports"
        )

    def unix_connection_requested(self, dest_path: str) -> bool:
        raise asyncssh.ChannelOpenError(
            asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "cluster-store: no forwarding of sockets"
        )

    def service(self, subsystem: str) -> Coroutine[Any, Any, None] | None:
        """Return what serves a subsystem for this user, or None when it is not for them."""
        if self._session is None:
            return None
        if subsystem == LINK_SUBSYSTEM and self.machine is not None:
            return self._serve_link(SshLink(self.machine, self._where, self._session))
        if subsystem == REQUEST_SUBSYSTEM and self._announced is not None:
            return self._serve_request(self._session, announced_user(self._announced))
        if subsystem == REQUEST_SUBSYSTEM and PASSWORD in self._proven and self._is_person and self._is_unchanged:
            return self._serve_request(self._session, self._user)
        return None

    def command_line(self, command: str | None) -> Coroutine[Any, Any, None] | None:
        """Return what serves a person at the command line, or None for a machine."""
        session = self._session
        if session is None or not self._is_person:
            return None
        auth = "+".join(sorted(self._proven))
        session.conversation = SshConversation(self._user, auth, command, session.terminal, session)
        return self._serve_conversation(session.conversation)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what serves the session."""
        self._listener.start(work)

    async def _serve_link(self, link: SshLink) -> None:
        self.busy()
        try:
            await self._listener.gatekeeper.on_link(link)
        finally:
            await link.close()

    async def _serve_conversation(self, conversation: SshConversation) -> None:
        self.busy()
        try:
            if not self._is_unchanged:
                conversation.finish(1, "your user was changed meanwhile: log in again")
                return
            # Whoever shows something to a person who has gone hears of it by an error.
            with contextlib.suppress(PeerError):
                await self._listener.gatekeeper.on_conversation(conversation)
        finally:
            # Where it has said how it ends, this changes nothing.
            conversation.finish(1)
            self.idle()

    async def _serve_request(self, session: _Session, user: str) -> None:
        status, notice = 1, "cluster-store: the request failed\r\n"
        try:
            request = _request(await session.receive())
            self.busy()
            reply = await self._listener.gatekeeper.on_request(user, request)
            await session.send(orjson.dumps(reply))
            status, notice = 0, ""
        except PeerError as error:
            notice = f"cluster-store: {error.message}\r\n"
        finally:
            session.end(status, notice)
            self.idle()

    # --- how long it may take ---

    def idle(self) -> None:
        """Give it a while to ask for something, or to go."""
        self.busy()
        if not self.connection.is_closed():
            self._idle = asyncio.get_running_loop().call_later(self._listener.times.login, self.connection.close)

    def busy(self) -> None:
        """Let it take its time: it is being served."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


class _Session(TalkingStream):
    """The one session of a connection: a subsystem of ours, the command line, or a sentence that says why not."""

    def __init__(self, guest: _Guest, where: str, times: Times, socket_has_room: asyncio.Event) -> None:
        super().__init__(where, times, socket_has_room)
        self._guest = guest
        self._work: Coroutine[Any, Any, None] | None = None
        self._refusal = ""

    # To each of these "yes" is the answer, even where the next thing sent is why it is refused: SSH has no words for
    # refusing such a request, and clients print only that it failed.

    def shell_requested(self) -> bool:
        self._work = self._guest.command_line(None)
        self._refusal = _NOTHING_ELSE.format(what="shell")
        return True

    def exec_requested(self, command: str) -> bool:
        self._work = self._guest.command_line(command)
        self._refusal = _NOTHING_ELSE.format(what="way to run commands")
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        self._work = self._guest.service(subsystem)
        name = subsystem if subsystem.isprintable() else "such"
        self._refusal = _NOTHING_ELSE.format(what=f"{name[:40]} subsystem for this user")
        return True

    def session_started(self) -> None:
        if self._work is None:
            self.end(1, self._refusal)
        else:
            self._guest.start(self._work)


def _request(frame: bytes | None) -> dict[str, Any]:
    try:
        request = orjson.loads(frame or b"")
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the request is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise Malformed("the request is not a JSON object")
    return request
