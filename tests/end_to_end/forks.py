"""Commands and daemons without the price of starting Python: forked from a process that has everything imported.

A command costs a third of a second of processor time when it is started anew, nine tenths of it for imports, and the
suites give thousands. Each is still a process of its own, with arguments, streams, signals and an exit status, and runs
the program's own ``main``. With ``CLUSTER_STORE_REAL=1`` in the environment all are started anew, as on a real machine.

As a program, this module is the process to fork from. It ends with the one that asked for it, also if that is killed,
and so do all that were forked from it.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cluster_store_cli
from cluster_store_cli.main import main, run

import cluster_store
from tests.end_to_end import kill_points
from tests.end_to_end.plants import PLANTS

#: Where the tests' own modules are found.
_ROOT = Path(__file__).resolve().parents[2]
#: A request is one packet.
_PACKET_BYTES = 192 * 1024
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class How:
    """Where and how the program is to run.

    Attributes:
        namespace: the network namespace to run in, empty for this process's.
        plants: what it does otherwise than the program, see ``plants.py``.
        kill_at: end it with SIGKILL at so many system calls that change the disk, see ``kill_points.py``; 0 to count
            them and let it live, None to leave it alone.
        notes: a file to write those calls to, and what it sends; empty for none.
        terminal: what it reads and writes is a terminal, and it is interrupted from there.
        folder: the one that it runs in, empty for this process's.
        environment: all of it; None for this process's.
    """

    namespace: str = ""
    plants: tuple[str, ...] = ()
    kill_at: int | None = None
    notes: str = ""
    terminal: bool = False
    folder: str = ""
    environment: Mapping[str, str] | None = None


class Forked:
    """A process that was forked for this one; used as ``subprocess.Popen`` is."""

    def __init__(self, pid: int, status: IO[bytes], stdin: IO[str], out: IO[str], err: IO[str]) -> None:
        """Take over a process.

        Args:
            pid: its id.
            status: where its exit status is said when it has ended.
            stdin: what is written here it reads.
            out: a file of what it prints.
            err: a file of what it complains of.
        """
        self.pid = pid
        self.stdin = stdin
        self.returncode: int | None = None
        self._status = status
        self._out, self._err = out, err

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit status, negative for a signal. Raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(["a forked command"], timeout or 0)
            self.returncode = int(self._status.readline() or -signal.SIGKILL)
            self._status.close()
            with suppress(BrokenPipeError):
                self.stdin.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Say that no more will be typed, wait for its end, and return what it printed and complained of."""
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.wait(timeout)
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process to fork from, as seen by the one that asks."""

    def __init__(self) -> None:
        """Start it."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(theirs.fileno())],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # What interrupts the tests from the keyboard must not end the daemons before the tests do.
                start_new_session=True,
            )
        self._lock = threading.Lock()

    def start(
        self,
        words: Sequence[str],
        how: How,
        out: IO[Any] | None = None,
        err: IO[Any] | None = None,
        typed: IO[Any] | None = None,
    ) -> Forked:
        """Run the program with arguments; without files for its output, that is kept for ``communicate``.

        It reads what is written to the ``stdin`` of what is returned, or else ``typed``.
        """
        out = out or tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by communicate()
        err = err or tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - the same
        read_typed, write_typed = os.pipe()
        read_status, write_status = os.pipe()
        request = json.dumps({"words": list(words), "how": vars(how)}).encode()
        assert len(request) < _PACKET_BYTES
        with self._lock:
            typed_from = typed.fileno() if typed else read_typed
            socket.send_fds(self._control, [request], [typed_from, out.fileno(), err.fileno(), write_status])
        for handle in (read_typed, write_status):
            os.close(handle)
        status = os.fdopen(read_status, "rb", buffering=0)
        pid = int(status.readline())
        return Forked(pid, status, os.fdopen(write_typed, "w", encoding="utf-8"), out, err)

    def close(self) -> None:
        """End it, and all that it forked."""
        self._control.close()
        self._process.wait(30)


@functools.cache
def forks() -> Forks:
    """Return the process to fork from, the same one every time."""
    started = Forks()
    atexit.register(started.close)
    return started


# --- the process to fork from --------------------------------------------------------------------------


def _import_everything() -> None:
    for package in (cluster_store, cluster_store_cli):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # What cannot be imported here, the command that needs it will complain of.
            with suppress(ImportError):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
    # What only running imports: there is no such store, which is said to nobody.
    errors, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    for words in (["clusterconfig", "connstatus"], ["log"], ["set", "a", "1"]):
        main(["--store", "/nonexistent", *words])
    os.dup2(errors, 2)
    os.close(nowhere)
    os.close(errors)
    gc.collect()
    gc.freeze()


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Fork whenever asked to; return the request in each process that was forked, None at the end."""
    children: dict[int, int] = {}
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking)
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(children)
        if control.fileno() not in ready:
            continue
        data, handles, _, _ = socket.recv_fds(control, _PACKET_BYTES, 4)
        if not data:
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, handle in enumerate(handles[:3]):
                os.dup2(handle, number)
            os.closerange(3, max(*handles, *children.values(), waking, control.detach()) + 1)
            request: dict[str, Any] = json.loads(data)
            return request
        for handle in handles[:3]:
            os.close(handle)
        children[pid] = handles[3]
        os.write(handles[3], b"%d\n" % pid)


def _reap(children: dict[int, int]) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            handle = children.pop(ended[0])
            with suppress(BrokenPipeError):
                os.write(handle, b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
            os.close(handle)


def _become(words: Sequence[str], how: How) -> None:
    """Be the program, in a process that has just been forked."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if how.namespace:
        handle = os.open(f"/run/netns/{how.namespace}", os.O_RDONLY)
        if libc.setns(handle, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        os.close(handle)
    for plant in how.plants:
        PLANTS[plant]()
    if how.kill_at is not None:
        kill_points.trace(how.kill_at, how.notes)
    if how.terminal:
        _sit_down()
    if how.folder:
        os.chdir(how.folder)
    if how.environment is not None:
        os.environ.clear()
        os.environ.update(how.environment)
    sys.argv = ["cluster-store", *words]
    run()


def _sit_down() -> None:
    """Make the terminal that is read from the one that interrupts."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # What was made before there was a terminal does not write a line at a time by itself.
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end
    # What interrupts there must not be ignored here, because somebody started the tests in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    _import_everything()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(asked["words"], How(**asked["how"]))
