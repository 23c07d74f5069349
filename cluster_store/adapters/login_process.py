"""The process behind a login: this product's command line for one user, at a pseudo-terminal or at three pipes.

No shell of the system's is involved: the words of a command line are split here and given to the program as they are.
The process sees the store's folder, the login's token and the kind of terminal, and nothing that the person's client
sends besides. It ends when the person goes, when their login ends, or when neither side says anything for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shlex
import signal
import struct
import sys
import termios
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_store.adapters.local_client import LOGIN_VARIABLE
from cluster_store.core.errors import LinkError
from cluster_store.core.limits import LOGIN_IDLE_S
from cluster_store.ports import Conversation, Terminal

#: The program, as the interpreter that runs this finds it.
_PROGRAM = ("-P", "-m", "cluster_store_cli")
_NAME = "cluster-store"
#: What a login without a command is given.
_PROMPT = ("shell",)
#: What of the daemon's own environment its processes need to start.
_KEPT = ("PATH", "HOME", "PYTHONPATH")
_TERMINAL_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_USAGE = 2
_PIECE_BYTES = 32 * 1024
#: What a process may take to end once it is told to, seconds.
_GRACE_S = 3.0
#: End of file, as typed at a terminal.
_END_TYPED = b"\x04"


async def serve(root: Path, conversation: Conversation, token: str, ended: asyncio.Event) -> None:
    """Run the command line for a login until one side has enough.

    Args:
        root: the store's folder.
        conversation: with the person.
        token: by which the daemon knows whose requests the process's are.
        ended: set when the login ends.
    """
    try:
        words = _words(conversation.command)
    except ValueError as error:
        conversation.finish(_USAGE, f"the command line cannot be split into words: {error}")
        return
    try:
        process = await _start(words, _environment(root, token, conversation.terminal), conversation.terminal)
    except OSError as error:
        conversation.finish(1, f"the command cannot be started: {error.strerror}")
        return
    await _Exchange(conversation, process).carry_on(ended)


def _words(command: str | None) -> Sequence[str]:
    if command is None:
        return _PROMPT
    words = shlex.split(command)
    if any("\0" in word for word in words):
        raise ValueError("it holds a NUL")
    return words[1:] if words[:1] == [_NAME] else words


def _environment(root: Path, token: str, terminal: Terminal | None) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    own = {"CLUSTER_STORE": str(root.absolute()), LOGIN_VARIABLE: token, "LANG": "C.UTF-8"}
    if terminal is not None:
        own["TERM"] = terminal.kind if _TERMINAL_KIND.fullmatch(terminal.kind) else "dumb"
    return kept | own


@dataclass(frozen=True, slots=True, eq=False)
class _Process:
    """A running process and its streams; ``errors`` is None at a terminal, which has one for both."""

    process: asyncio.subprocess.Process
    typing: asyncio.StreamWriter
    output: asyncio.StreamReader
    errors: asyncio.StreamReader | None
    #: Descriptor of the terminal's other end, and what reads from it; None without a terminal.
    terminal: int | None = None
    reading: asyncio.BaseTransport | None = None


async def _start(words: Sequence[str], environment: dict[str, str], terminal: Terminal | None) -> _Process:
    command = (sys.executable, *_PROGRAM, *words)
    if terminal is None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd="/", start_new_session=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        return _Process(process, process.stdin, process.stdout, process.stderr)
    ours, theirs = os.openpty()
    try:
        _resize(ours, terminal)
        process = await asyncio.create_subprocess_exec(
            *command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd="/", start_new_session=True
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    loop = asyncio.get_running_loop()
    output = asyncio.StreamReader(limit=_PIECE_BYTES)
    reading, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), os.fdopen(os.dup(ours), "rb", buffering=0)
    )
    nothing = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, protocol = await loop.connect_write_pipe(lambda: nothing, os.fdopen(ours, "wb", buffering=0))
    typing = asyncio.StreamWriter(transport, protocol, None, loop)
    return _Process(process, typing, output, None, ours, reading)


def _resize(descriptor: int, terminal: Terminal) -> None:
    size = struct.pack("HHHH", min(terminal.rows, 0xFFFF), min(terminal.columns, 0xFFFF), 0, 0)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)


class _Exchange:
    """Carries what is typed to a process, and what it shows back."""

    def __init__(self, conversation: Conversation, started: _Process) -> None:
        self._conversation = conversation
        self._started = started
        self._last = asyncio.get_running_loop().time()

    async def carry_on(self, ended: asyncio.Event) -> None:
        """Carry on until either side has enough, or the login ends."""
        self._conversation.on_resize(self._resize)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._end)
            typing = stack.enter_context(_task(self._carry_typing()))
            finished = stack.enter_context(_task(self._carry_output()))
            gone = stack.enter_context(_task(self._conversation.gone.wait()))
            over = stack.enter_context(_task(ended.wait()))
            idle = stack.enter_context(_task(self._idle()))
            await asyncio.wait({finished, gone, over, idle}, return_when=asyncio.FIRST_COMPLETED)
            typing.cancel()
            if finished.done():
                await finished
                self._conversation.finish(_status(self._started.process.returncode or 0))
            elif gone.done():
                self._conversation.finish(1)
            elif over.done():
                self._conversation.finish(1, "your user was changed or removed, so this login ends")
            else:
                self._conversation.finish(1, f"nothing happened for {LOGIN_IDLE_S / 60:g} minutes, so this login ends")

    async def _carry_typing(self) -> None:
        typing = self._started.typing
        with contextlib.suppress(ConnectionError, LinkError):
            while data := await self._conversation.read():
                self._last = asyncio.get_running_loop().time()
                typing.write(data)
                await typing.drain()
            if self._started.terminal is not None:
                typing.write(_END_TYPED)
                await typing.drain()
            else:
                typing.close()

    async def _carry_output(self) -> None:
        """Show all of it, until the process has ended."""
        streams = [self._carry(self._started.output, error=False)]
        if self._started.errors is not None:
            streams.append(self._carry(self._started.errors, error=True))
        await asyncio.gather(*streams)
        await self._started.process.wait()

    async def _carry(self, stream: asyncio.StreamReader, *, error: bool) -> None:
        # A terminal whose last user has gone fails to be read; the person's side may be gone first.
        with contextlib.suppress(OSError, LinkError):
            while data := await stream.read(_PIECE_BYTES):
                self._last = asyncio.get_running_loop().time()
                await self._conversation.write(data, error=error)

    async def _idle(self) -> None:
        loop, left = asyncio.get_running_loop(), LOGIN_IDLE_S
        while left > 0:
            await asyncio.sleep(left)
            left = self._last + LOGIN_IDLE_S - loop.time()

    def _resize(self, terminal: Terminal) -> None:
        if self._started.terminal is not None and not self._started.typing.is_closing():
            _resize(self._started.terminal, terminal)

    async def _end(self) -> None:
        """Let the process end, as when a terminal is unplugged; one that does not is killed."""
        process = self._started.process
        try:
            if process.returncode is None:
                _signal(process.pid, signal.SIGHUP)
                async with asyncio.timeout(_GRACE_S):
                    await process.wait()
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                _signal(process.pid, signal.SIGKILL)
                await process.wait()
            self._started.typing.close()
            if self._started.reading is not None:
                self._started.reading.close()


@contextlib.contextmanager
def _task(work: Coroutine[Any, Any, object]) -> Iterator[asyncio.Task[object]]:
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield task
    finally:
        task.cancel()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _status(returned: int) -> int:
    """Return an exit status as a shell reports it, also of what was ended by a signal."""
    return returned if returned >= 0 else 128 - returned
