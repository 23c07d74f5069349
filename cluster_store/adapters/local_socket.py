"""The daemon's side of the local socket. Whoever can open it owns the store's files and is its administrator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from cluster_store.adapters.local_client import describe, short_path
from cluster_store.core.errors import ClusterStoreError, InvalidValue
from cluster_store.core.limits import REQUEST_BYTES_MAX
from cluster_store.core.roles import Caller

#: (operation, arguments, caller, progress) -> result.
Handler = Callable[[str, Mapping[str, Any], Caller, Callable[[str], None]], Awaitable[dict[str, Any]]]
#: From the token that a login's process was given to who that is. Raises Refused.
Recognise = Callable[[str], Caller]


async def listen(path: Path, handler: Handler, recognise: Recognise) -> asyncio.Server:
    """Answer at a socket, in place of a stale one. The caller holds the store's lock.

    Args:
        path: the socket.
        handler: answers.
        recognise: tells who a login is; whoever is none of these owns the store's files.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                await _converse(reader, writer, handler, recognise)
        finally:
            # Also where the handler failed: whoever waits for an answer has to hear that there will be none.
            writer.close()

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - one system call on a local file; pathlib's would be the same
    with short_path(path) as address:
        return await asyncio.start_unix_server(serve, address, limit=REQUEST_BYTES_MAX)


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler, recognise: Recognise
) -> None:
    owner = Caller(user_of(writer.get_extra_info("socket")))

    def who(login: str | None) -> Caller:
        return owner if login is None else recognise(login)

    def progress(text: str) -> None:
        writer.write(orjson.dumps({"progress": text}) + b"\n")

    while True:
        try:
            line = await reader.readline()
        except ValueError:
            writer.write(_error(InvalidValue("the request is too large", "split it into several")))
            await writer.drain()
            return
        if not line:
            return
        writer.write(await _answer(line, who, progress, handler))
        await writer.drain()


async def _answer(
    line: bytes, who: Callable[[str | None], Caller], progress: Callable[[str], None], handler: Handler
) -> bytes:
    try:
        request = orjson.loads(line)
        operation, arguments = str(request["operation"]), dict(request["arguments"])
        login = request.get("login")
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return _error(InvalidValue("that was no request", "is this program of the same version as the daemon?"))
    try:
        result = await handler(operation, arguments, who(login if login is None else str(login)), progress)
    except ClusterStoreError as error:
        return _error(error)
    return orjson.dumps({"result": result}) + b"\n"


def _error(error: ClusterStoreError) -> bytes:
    return orjson.dumps({"error": describe(error)}) + b"\n"


def user_of(connection: socket.socket) -> str:
    """Return who is at the other end of a local socket, as the log names them: ``os:NAME``."""
    if not hasattr(socket, "SO_PEERCRED"):
        # The folder is 0700, so it is the owner; macOS has no such call in Python.
        return os_user(None)
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return os_user(uid)


def os_user(uid: int | None) -> str:
    """Return a user of this system as the log names it, the one of this process for None."""
    number = os.getuid() if uid is None else uid
    try:
        return f"os:{pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"os:{number}"
