"""What both ends of an SSH connection share: the algorithms, the times, and a channel that carries whole frames.

A frame is its length as 4 bytes, most significant first, then the payload. What one peer can make this process hold is
bounded whatever it does, in each direction:

1. Coming in: one frame, plus one window that is buffered here and one that asyncssh holds back while reading pauses.
2. Going out: the frame being sent, plus what fits in the socket's buffer and the peer's window.
3. In time: a peer that stops in the middle of a frame, either way, loses the connection after ``Times.stall``.
4. In what asyncssh itself keeps and has no bound for, see ``guard``: ``HELD_BYTES_MAX``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any

from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection

from cluster_store.adapters import link_errors
from cluster_store.core import limits
from cluster_store.core.errors import LinkError, Malformed, OverLimit
from cluster_store.core.types import MachineId

LINK_SUBSYSTEM = "cluster-store-link"
REQUEST_SUBSYSTEM = "cluster-store-request"
#: How listeners name themselves in SSH's greeting: for people and machines, and where only machines get in (CCS).
SSH_SERVICE, CCS_SERVICE = "cluster-store-ssh", "cluster-store-ccs"

#: Bytes under way before the receiver has taken them. More would be faster over a far link, where this is the most for
#: each round trip (0.85 MB/s over a satellite). Less would be safer over a slow one, where the answer to a keepalive
#: waits behind them (below about 10 kB/s, longer than keepalive does), and where nobody reads, both sides hold them.
WINDOW_BYTES = 512 * 1024
#: asyncssh's work is mostly for each packet, so large ones are cheap; OpenSSH sends at most 32 KiB whatever we allow.
PACKET_BYTES = 128 * 1024
#: A frame goes to asyncssh in pieces, so that a large one is not copied whole.
PIECE_BYTES = 128 * 1024
#: What asyncssh may hold for a connection outside its channel. A peer that keeps to the protocol makes it hold a packet
#: or two, and a window's worth while keys are exchanged anew.
HELD_BYTES_MAX = 4 * 1024 * 1024
#: The same in packets, which may be small: window adjustments, and answers to what nobody asked for.
HELD_PACKETS_MAX = 1024
#: What a server has to say on its error stream is a sentence.
NOTICE_BYTES_MAX = 1024

#: What both sides offer, best first. The first cipher doubles the message rate of asyncssh's own first choice on
#: processors with AES instructions. The key exchanges are all those of Curve25519 that the installation has, those
#: that also resist a quantum computer before the plain one.
ALGORITHMS: dict[str, Any] = {
    "kex_algs": "*25519-sha*",
    "encryption_algs": "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-gcm@openssh.com",
    "mac_algs": "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com",
    "compression_algs": None,
    "signature_algs": "ssh-ed25519,ecdsa-sha2-nistp*,sk-ssh-*,sk-ecdsa-*,rsa-sha2-512,rsa-sha2-256",
}

_HEADER_BYTES = 4

# A library's remarks are no business of whoever looks at the terminal; without a handler of its own, Python would print
# its warnings there. A program that wants them adds a handler to this logger.
logging.getLogger("asyncssh").addHandler(logging.NullHandler())
logging.getLogger("asyncssh").propagate = False


@dataclass(frozen=True, slots=True)
class Times:
    """How long a connection waits for what, in seconds."""

    #: Name, TCP connection and key exchange.
    connect: float = 10.0
    #: From the key exchange (dialling) or the TCP connection (accepting) until logged in and asking for something.
    login: float = 20.0
    #: Silence after which the peer is asked whether it is there, and how often it may leave that unanswered.
    keepalive: float = 15.0
    keepalive_missed: int = 3
    #: A peer that neither takes nor sends a byte of a frame that was begun. A window takes half of that at 8 KiB/s.
    stall: float = 120.0
    #: The answer to a person's request.
    reply: float = 60.0
    #: Sending what is left, when a connection is closed.
    close: float = 2.0


def guard(connection: SSHConnection) -> asyncio.Event:
    """Drop a connection that makes asyncssh hold too much; return an event that is clear while the socket is full.

    asyncssh heeds the peer's window alone, which the peer chooses: one that grants 4 GiB and then does not read would
    fill this process's memory. It leaves these two callbacks of asyncio empty. And it answers, at once and without end,
    whatever asks for an answer.
    """
    has_room = asyncio.Event()
    has_room.set()
    connection.pause_writing = has_room.clear  # type: ignore[method-assign]
    connection.resume_writing = has_room.set  # type: ignore[method-assign]
    take = connection.data_received

    def data_received(data: bytes, datatype: int | None = None) -> None:
        take(data, datatype)
        if holds_too_much(connection):
            connection.abort()

    connection.data_received = data_received  # type: ignore[method-assign]
    return has_room


def holds_too_much(connection: SSHConnection) -> bool:
    """Say whether asyncssh holds more for a connection than an honest peer could make it hold.

    It has no public word for any of the three: what came in and is not looked at yet, what waits for a key exchange to
    end, which the peer may put off for ever, and what the socket does not take.
    """
    deferred = connection._deferred_packets  # noqa: SLF001 - see above
    if len(deferred) > HELD_PACKETS_MAX:
        return True
    transport = connection._transport  # noqa: SLF001 - see above
    held = len(connection._inpbuf)  # noqa: SLF001 - see above
    held += sum(len(part) for _, parts in deferred for part in parts)
    held += transport.get_write_buffer_size() if isinstance(transport, asyncio.WriteTransport) else 0
    return held > HELD_BYTES_MAX


class _Tap(asyncio.ReadTransport):
    """Lets a StreamReader pause an SSH channel."""

    def __init__(self, stream: FrameStream) -> None:
        super().__init__()
        self._stream = stream

    def pause_reading(self) -> None:
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        # Not at once: a channel hands over what it held back while this call runs, before the reader waits for it.
        asyncio.get_running_loop().call_soon(self._stream.resume_reading)


class FrameStream:
    """An asyncssh session that sends and receives frames; a client's and a server's session inherit from it."""

    _channel: SSHChannel[bytes]
    _connection: SSHConnection

    def __init__(self, where: str, times: Times, socket_has_room: asyncio.Event) -> None:
        self.where = where
        #: What the peer wrote on its error stream, for people; empty when it had nothing to say.
        self.notice = ""
        self._times = times
        # A reader pauses beyond twice its limit.
        self._reader = asyncio.StreamReader(limit=WINDOW_BYTES // 2)
        self._length: int | None = None
        self._frame_timeout: asyncio.Timeout | None = None
        self._sending = asyncio.Lock()
        self._channel_has_room = asyncio.Event()
        self._channel_has_room.set()
        self._socket_has_room = socket_has_room
        #: Whether this side ends the connection once the peer has closed the channel, see ``close``.
        self._hangs_up = True
        self._peer_finished = False
        self._closing = False
        self._gone = False
        self._why_gone: Exception | None = None

    # --- what asyncssh calls ---

    def connection_made(self, chan: SSHChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan
        self._connection = chan.get_connection()
        self._reader.set_transport(_Tap(self))

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Take bytes of the stream, or of the error stream."""
        if datatype is not None:
            self.notice = (self.notice + data[:NOTICE_BYTES_MAX].decode("utf-8", "replace"))[:NOTICE_BYTES_MAX]
            return
        self._reader.feed_data(data)
        if self._frame_timeout is not None and not self._frame_timeout.expired():
            self._frame_timeout.reschedule(asyncio.get_running_loop().time() + self._times.stall)

    def eof_received(self) -> bool:
        """Return that this side may still send: a person's client says all it has to say, then reads the answer."""
        self._reader.feed_eof()
        self._peer_finished = True
        return True

    def pause_writing(self) -> None:
        """The peer's window is used up."""
        self._channel_has_room.clear()

    def resume_writing(self) -> None:
        """The peer's window has room again."""
        self._channel_has_room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed; ``exc`` when it was not on purpose."""
        self._gone, self._why_gone = True, exc
        self._reader.feed_eof()
        self._channel_has_room.set()
        self._socket_has_room.set()
        if self._hangs_up and (self._peer_finished or not self._closing):
            asyncio.get_running_loop().call_soon(self._connection.close)

    # --- what the reader calls ---

    def pause_reading(self) -> None:
        """Have the peer's window run out."""
        self._channel.pause_reading()

    def resume_reading(self) -> None:
        """Take what was held back, and grant the peer a new window."""
        if not self._gone:
            self._channel.resume_reading()

    # --- what a link needs ---

    async def send(self, frame: bytes) -> None:
        """Send one frame, as ``ports.Link.send`` says."""
        if len(frame) > limits.FRAME_BYTES_MAX:
            raise OverLimit(f"a frame of {len(frame)} bytes is over the limit of {limits.FRAME_BYTES_MAX}")
        async with self._sending:
            whole = False
            try:
                self._write(len(frame).to_bytes(_HEADER_BYTES) + frame[:PIECE_BYTES])
                for start in range(PIECE_BYTES, len(frame), PIECE_BYTES):
                    await self._room()
                    self._write(frame[start : start + PIECE_BYTES])
                whole = True
                await self._room()
            finally:
                if not whole:
                    # The peer would take the next frame for the rest of this one.
                    self.abort()

    def _write(self, piece: bytes, datatype: int | None = None) -> None:
        if self._gone or self._closing:
            raise self._dropped("it was closed")
        try:
            self._channel.write(piece, datatype)
        except OSError as error:
            raise self._dropped(str(error)) from error
        if holds_too_much(self._connection):
            raise self._dropped("it puts off an exchange of keys, and what is sent to it piles up")

    async def _room(self) -> None:
        """Wait until what was written has mostly left this process."""
        if self._channel_has_room.is_set() and self._socket_has_room.is_set():
            return
        try:
            async with asyncio.timeout(self._times.stall):
                await self._channel_has_room.wait()
                await self._socket_has_room.wait()
        except TimeoutError:
            self.abort()
            raise link_errors.dropped(self.where, f"it took nothing for {self._times.stall:g} s") from None
        if self._gone:
            raise self._dropped("it was closed")

    async def receive(self) -> bytes | None:
        """Return the next frame, as ``ports.Link.receive`` says."""
        try:
            if self._length is None:
                self._length = int.from_bytes(await self._reader.readexactly(_HEADER_BYTES))
            if self._length > limits.FRAME_BYTES_MAX:
                self.abort()
                raise Malformed(
                    f"{self.where} announced a frame of {self._length} bytes; the limit is {limits.FRAME_BYTES_MAX}"
                )
            async with asyncio.timeout(self._times.stall) as self._frame_timeout:
                frame = await self._reader.readexactly(self._length)
        except TimeoutError:
            self.abort()
            raise link_errors.dropped(
                self.where, f"it stopped in the middle of a frame for {self._times.stall:g} s"
            ) from None
        except asyncio.IncompleteReadError as end:
            if self._closing or (self._why_gone is None and self._length is None and not end.partial):
                return None
            raise self._dropped("it ended in the middle of a frame") from None
        finally:
            self._frame_timeout = None
        self._length = None
        return frame

    def _dropped(self, why: str) -> LinkError:
        return link_errors.dropped(self.where, str(self._why_gone or why))

    def abort(self) -> None:
        """End the connection at once; what is under way is lost."""
        self._closing = True
        self._connection.abort()

    async def close(self) -> None:
        """Close the channel, and have the peer end the connection within ``Times.close``.

        The end of a connection overtakes what the peer's side of the channel still holds back. So whoever closes the
        channel leaves the connection to the other one, who ends it when all has arrived in its reader; where both close
        at once, either may.
        """
        self._closing = True
        try:
            self._channel.write_eof()
            self._channel.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._times.close):
                    await self._connection.wait_closed()
        finally:
            self._connection.close()
            # Whoever reads has read all there is, whatever becomes of the connection.
            self._reader.feed_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._times.close):
                await self._connection.wait_closed()


@dataclass(frozen=True, slots=True, eq=False)
class SshLink:
    """A link to a machine over one SSH channel; implements ``ports.Link``."""

    peer: MachineId
    where: str
    stream: FrameStream

    async def send(self, frame: bytes) -> None:
        """Send one frame."""
        await self.stream.send(frame)

    async def receive(self) -> bytes | None:
        """Return the next frame, None at the end."""
        return await self.stream.receive()

    async def close(self) -> None:
        """Close the link."""
        await self.stream.close()
