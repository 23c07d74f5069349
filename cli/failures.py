"""The one door for whatever goes wrong: one or two lines on standard error, an exit status, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

from cluster_store.core.errors import ClusterStoreError

DONE = 0
REFUSED = 1
USAGE = 2
#: The command worked, and what it looked for is bad.
BAD = 3
#: As a shell reports a program that was ended by SIGINT, or by SIGPIPE.
INTERRUPTED = 130
NOBODY_READS = 141


def guarded(work: Callable[[], int]) -> int:
    """Do the program's work, which returns its exit status or raises; return the status."""
    try:
        status = work()
        sys.stdout.flush()
    except ClusterStoreError as error:
        complain(error.message, error.hint)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough. What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except Exception as error:  # noqa: BLE001 - the last resort: an operator gets a sentence, and we the traceback
        complain(f"{type(error).__name__}: {error}", f"this is a bug; {_keep_traceback(error)}")
        return REFUSED
    return status


def is_text(arguments: Iterable[str]) -> bool:
    """Say whether what somebody gave is text, which is all that can be kept: arguments can hold any bytes."""
    try:
        "".join(arguments).encode()
    except UnicodeEncodeError:
        return False
    return True


def complain(message: str, hint: str = "") -> None:
    """Say what was refused and why, and what to do: a line each."""
    from cluster_store.core.naming import one_line

    with suppress(BrokenPipeError):
        for line in filter(None, (message, hint)):
            # What somebody gave, or another machine wrote, may be quoted in it.
            sys.stderr.write(one_line(" ".join(line.split())) + "\n")


def _keep_traceback(error: Exception) -> str:
    """Write a traceback to a file that only this user can read; return a sentence on where it is."""
    import tempfile
    import traceback

    try:
        handle, name = tempfile.mkstemp(".txt", "cluster-store-bug-")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123 - a descriptor
            file.writelines(traceback.format_exception(error))
    except OSError:
        return "its traceback could not be kept anywhere"
    return f"please report it with {name}"
