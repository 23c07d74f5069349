"""A process killed right before one certain system call that changes the disk.

The program runs as it is, under ``ptrace``, whose stops are counted: the first call that writes, syncs, makes, renames
or removes a file is number 1, and so on. A kill before each of them in turn is a kill at every moment that matters,
because between two of them nothing changes that outlives the process.

The same stops can be written down instead, with those that send something, to see in which order things are done.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from typing import IO

_X86_64 = {
    "open": 2,
    "write": 1,
    "pwrite64": 18,
    "writev": 20,
    "fsync": 74,
    "fdatasync": 75,
    "ftruncate": 77,
    "rename": 82,
    "mkdir": 83,
    "link": 86,
    "unlink": 87,
    "chmod": 90,
    "fchmod": 91,
    "openat": 257,
    "mkdirat": 258,
    "unlinkat": 263,
    "renameat": 264,
    "linkat": 265,
    "renameat2": 316,
    "sendto": 44,
}
_AARCH64 = {
    "mkdirat": 34,
    "unlinkat": 35,
    "linkat": 37,
    "renameat": 38,
    "ftruncate": 46,
    "fchmod": 52,
    "fchmodat": 53,
    "openat": 56,
    "write": 64,
    "writev": 66,
    "pwrite64": 68,
    "fsync": 82,
    "fdatasync": 83,
    "renameat2": 276,
    "sendto": 206,
}
#: System calls that are looked at, by number; empty for a processor whose numbers nobody has looked up.
CALLS = {number: name for name, number in {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine(), {}).items()}
#: Which argument of a call that opens a file says whether it may make one.
_FLAGS = {"open": 1, "openat": 2}
#: Calls whose first argument is an open file.
_OF_A_HANDLE = {"write", "writev", "pwrite64", "fsync", "fdatasync", "ftruncate", "fchmod", "sendto"}

_TRACEME, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
_OPTIONS = 0x1 | 0x8 | 0x100000  # tell system calls from signals, follow threads, leave nobody behind
_WALL = 0x40000000
_ENTRY = 1
_SYSCALL_STOP = signal.SIGTRAP | 0x80

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def trace(kill_at: int, notes: str = "") -> None:
    """Return in a new process, which is killed before a certain call; this one waits for it, and ends as it ended.

    Args:
        kill_at: the number of the call; with 0, or where there are fewer, the process lives, and the number of its
            calls is the last line on standard error.
        notes: a file to write each call and its file's name to; empty for none.
    """
    pid = os.fork()
    if pid == 0:
        _ptrace(_TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        return
    os.waitpid(pid, 0)
    _ptrace(_SETOPTIONS, pid, _OPTIONS)
    _ptrace(_SYSCALL, pid)
    with open(notes or os.devnull, "w", encoding="utf-8", buffering=1) as file:  # noqa: PTH123 - may be no path at all
        code, calls = _watch(pid, kill_at, file)
    if code == -signal.SIGKILL:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stderr.write(f"{calls}\n")
    sys.stderr.flush()
    os._exit(code)


def _watch(pid: int, kill_at: int, notes: IO[str]) -> tuple[int, int]:
    """Let a process run to its end; return its exit status and how often it changed the disk."""
    calls = 0
    while True:
        task, status = os.waitpid(-1, _WALL)
        if not os.WIFSTOPPED(status):
            if task == pid:
                return os.waitstatus_to_exitcode(status), calls
            continue
        stopped_by = os.WSTOPSIG(status)
        if stopped_by == _SYSCALL_STOP and (note := _looked_at(task)):
            notes.write(f"{note}\n")
            calls += not note.startswith("sendto")
            if calls == kill_at:
                os.kill(pid, signal.SIGKILL)
                continue
        # A thread begins with a stop of its own; that, and what only ptrace speaks of, is not handed on.
        handed_on = 0 if stopped_by in {_SYSCALL_STOP, signal.SIGTRAP, signal.SIGSTOP} else stopped_by
        _ptrace(_SYSCALL, task, handed_on)


def _looked_at(task: int) -> str:
    """Return what a stopped thread is about to do to which file, empty where that is nothing to look at."""
    info = ctypes.create_string_buffer(88)
    if _libc.ptrace(_GET_SYSCALL_INFO, task, len(info), ctypes.addressof(info)) < 0 or info.raw[0] != _ENTRY:
        return ""
    number, *arguments = struct.unpack_from("7Q", info, 24)
    name = CALLS.get(number, "")
    if not name or (name in _FLAGS and not arguments[_FLAGS[name]] & os.O_CREAT):
        return ""
    target = ""
    if name in _OF_A_HANDLE:
        target = os.readlink(f"/proc/{task}/fd/{arguments[0]}")  # noqa: PTH115 - a path would lose what it says
        # Terminals, pipes and sockets have no path of their own.
        if name in {"write", "writev"} and (
            not target.startswith("/") or target.startswith("/dev/") or target.endswith(" (deleted)")
        ):
            return ""
    return f"{name} {target}"


def _ptrace(request: int, task: int, data: int = 0) -> None:
    # A thread that was killed meanwhile is not there any more: its end is what is waited for next.
    if _libc.ptrace(request, task, 0, data) < 0 and ctypes.get_errno() != 3:
        raise OSError(ctypes.get_errno(), f"ptrace: {os.strerror(ctypes.get_errno())}")
