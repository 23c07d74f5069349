"""Asking a running daemon: one line of JSON out, lines of progress and one answer back.

Light to import, because a ``get`` that asks nobody imports it too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster_store.core import errors
from cluster_store.core.errors import ClusterStoreError, StoreError

if TYPE_CHECKING:
    import socket

#: A join of a large cluster over a slow line takes this long at most, seconds.
_ANSWER_S = 3600.0


#: How long the daemon is waited for without a word, seconds.
_WORDLESS_S = 5.0


#: Room for a socket's path on every system, bytes.
_ADDRESS_BYTES = 100


#: Where the daemon puts the token of a login, for the process that serves it. Every request of that process carries it,
#: because this is the one door: a process that forgot it would be taken for the owner of the store.
LOGIN_VARIABLE = "CLUSTER_STORE_LOGIN"


def login() -> str | None:
    """Return the token of the login that this process serves, None where it serves the owner of the store's files."""
    return os.environ.get(LOGIN_VARIABLE)


class NoDaemon(Exception):  # noqa: N818 - an answer, not a failure: the caller does the work itself
    """Nobody answers at the store's socket."""


def call(path: Path, operation: str, arguments: Mapping[str, Any], progress: Callable[[str], None]) -> dict[str, Any]:
    """Ask the daemon for an operation and return its result.

    Raises:
        NoDaemon: nobody is there; nothing was asked.
        ClusterStoreError: what the daemon refused it with, or that it went away before it answered.
    """
    # Both load much that a ``get`` has no use for.
    import socket  # noqa: PLC0415

    import orjson  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_S)
        with short_path(path) as address:
            try:
                connection.connect(address)
            except OSError as error:
                raise NoDaemon from error
        try:
            request = {"operation": operation, "arguments": arguments}
            token = login()
            connection.sendall(orjson.dumps(request if token is None else {**request, "login": token}) + b"\n")
            _tell_of_silence(connection)
            with connection.makefile("rb") as lines:
                for line in lines:
                    answer = orjson.loads(line)
                    if "progress" in answer:
                        progress(answer["progress"])
                    elif "error" in answer:
                        raise error_of(answer["error"])
                    else:
                        result: dict[str, Any] = answer["result"]
                        return result
        except (OSError, orjson.JSONDecodeError) as error:
            raise _no_answer() from error
    raise _no_answer()


def _tell_of_silence(connection: socket.socket) -> None:
    """Wait for the daemon's first word; say on standard error, once, that it does not come, and go on waiting."""
    import select  # noqa: PLC0415
    import time  # noqa: PLC0415

    begun = time.localtime()
    # Not select(), which refuses the numbers of files that a program with many open ones has.
    answers = select.poll()
    answers.register(connection, select.POLLIN)
    if not answers.poll(_WORDLESS_S * 1000):
        sys.stderr.write(
            f"waiting since {time.strftime('%H:%M:%S', begun)} for the daemon{_process_of(connection)} to answer\n"
            "Ctrl-C ends only the waiting: what was asked may still be done once the daemon goes on\n"
        )
        sys.stderr.flush()


def _process_of(connection: socket.socket) -> str:
    """Return the number of the process that listens at the other end, for a sentence; "" where no system tells."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    if not hasattr(socket, "SO_PEERCRED"):
        return ""
    who = struct.Struct("3i")
    process, _, _ = who.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, who.size))
    return f" (process {process})"


def _no_answer() -> StoreError:
    return StoreError(
        "the daemon stopped before it answered", "'cluster-store log -n 5' shows whether the change was made"
    )


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a socket's path in a form that the system accepts: it has little room."""
    if len(os.fsencode(path)) < _ADDRESS_BYTES:
        yield str(path)
        return
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield str(path)
        return
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        with suppress(OSError):
            os.close(folder)


def describe(error: ClusterStoreError) -> dict[str, Any]:
    """Return an error as it goes over the socket."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "state": getattr(error, "state", ""),
    }


def error_of(told: Mapping[str, Any]) -> ClusterStoreError:
    """Return the error that ``describe`` told of."""
    kind = getattr(errors, str(told.get("kind")), ClusterStoreError)
    if kind is errors.LinkError:
        return errors.LinkError(str(told["state"]), str(told["message"]), str(told["hint"]))
    if not (isinstance(kind, type) and issubclass(kind, ClusterStoreError)):
        kind = ClusterStoreError
    return kind(str(told["message"]), str(told["hint"]))
