# ruff: noqa: ARG002 - asyncssh decides what its callbacks are given
"""A person at the command line, over one SSH channel; implements ``ports.Conversation``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import asyncssh
from asyncssh.constants import EXTENDED_DATA_STDERR

from cluster_store.adapters.ssh_link import FrameStream, Times
from cluster_store.ports import Terminal

_PIECE_BYTES = 32 * 1024


class _Forgetful(dict[bytes, bytes]):
    """What asyncssh keeps a client's environment in: none of it is used here, and it would be kept without a bound."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        """Forget it."""


class TalkingStream(FrameStream, asyncssh.SSHServerSession[bytes]):
    """A channel that carries either frames or what somebody types and reads."""

    _channel: asyncssh.SSHServerChannel[bytes]

    def __init__(self, where: str, times: Times, socket_has_room: asyncio.Event) -> None:
        super().__init__(where, times, socket_has_room)
        self.terminal: Terminal | None = None
        self.resized: Callable[[Terminal], None] | None = None
        self.conversation: SshConversation | None = None

    # --- what asyncssh calls ---

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:  # type: ignore[override]
        """The channel is open."""
        super().connection_made(chan)
        chan._env = _Forgetful()  # noqa: SLF001 - asyncssh asks nobody whether it should be kept

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        """Remember what somebody sits at. Its modes are the client's own business: it has set its terminal already."""
        self.terminal = Terminal(term_type, *term_size[:2])
        return True

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        """Pass on the size of a window."""
        if self.resized is not None and self.terminal is not None:
            self.resized(Terminal(self.terminal.kind, width, height))

    def signal_received(self, signal: str) -> None:
        """End what goes on, whatever the signal: it is one command, which nobody wants any more."""
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed."""
        super().connection_lost(exc)
        self._leave()

    def _leave(self) -> None:
        if self.conversation is not None:
            self.conversation.gone.set()

    # --- what a conversation needs ---

    async def read_typed(self) -> bytes:
        """Return what came next, nothing at the end."""
        return await self._reader.read(_PIECE_BYTES)

    async def show(self, data: bytes, *, error: bool) -> None:
        """Send something as it is. Raises LinkError when the channel is gone, or takes nothing for too long."""
        self._write(data, EXTENDED_DATA_STDERR if error else None)
        await self._room()

    def end(self, status: int, notice: str = "") -> None:
        """Close the channel with an exit status and a sentence on its error stream; the client ends the connection."""
        self._hangs_up = False
        if not self._channel.is_closing():
            self._channel.write_stderr(notice.encode())
            self._channel.exit(status)


@dataclass(eq=False, slots=True)
class SshConversation:
    """What one person types and reads."""

    user: str
    auth: str
    command: str | None
    terminal: Terminal | None
    stream: TalkingStream
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def on_resize(self, tell: Callable[[Terminal], None]) -> None:
        """Let somebody know whenever the terminal has another size."""
        self.stream.resized = tell

    async def read(self) -> bytes:
        """Return what was typed next, nothing at the end."""
        return await self.stream.read_typed()

    async def write(self, data: bytes, *, error: bool = False) -> None:
        """Show something."""
        await self.stream.show(data, error=error)

    def finish(self, status: int, notice: str = "") -> None:
        """End with an exit status, and a sentence on the error stream where there is one."""
        lines = "".join(f"cluster-store: {line}\r\n" for line in notice.splitlines())
        self.stream.end(status, lines)
