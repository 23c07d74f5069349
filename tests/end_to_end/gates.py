"""A network of gates: each stands where a machine is dialled and lets through whom it should.

A machine behind a gate listens at another address than the one that its interface says, as behind a port forwarding.
Whoever dials is told from the others by the socket's owner, which Linux says in /proc.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.machines import Machine


@dataclass(eq=False)
class Passage:
    """One connection through a gate; ``between`` are the names of the two machines, as far as they are known."""

    between: frozenset[str]
    sockets: tuple[socket.socket, socket.socket]

    def carry(self, gates: Gates) -> None:
        """Carry bytes both ways until either side ends or the passage is cut."""
        outside, inside = self.sockets
        inward = threading.Thread(target=self._pump, args=(outside, inside, gates), daemon=True)
        inward.start()
        self._pump(inside, outside, gates)
        inward.join()
        for end in self.sockets:
            end.close()

    def _pump(self, source: socket.socket, target: socket.socket, gates: Gates) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passing = gates.allowed(data)
                target.sendall(passing)
                if len(passing) < len(data):
                    # Neither side might have more to say before it has heard the rest.
                    break
        self.cut()

    def cut(self) -> None:
        """End the connection on both sides at once."""
        for end in self.sockets:
            with contextlib.suppress(OSError):
                # Not closed: somebody may be waiting on it in another thread.
                end.shutdown(socket.SHUT_RDWR)


class Gates:
    """The gates of some machines, all open at first."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        """Stand in front of machines that have a store."""
        self._machines = machines
        self._blocked: set[frozenset[str]] = set()
        self._passages: set[Passage] = set()
        self._lock = threading.Lock()
        #: Bytes that may still pass, over all gates, before everything is cut; None for any number.
        self.allowance: int | None = None
        self._listeners = [self._open(machine) for machine in machines]

    def _open(self, machine: Machine) -> socket.socket:
        port = machine.status()["ssh_port"]
        listener = socket.create_server((machine.address, port))
        threading.Thread(target=self._accept, args=(listener, machine, port), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket, machine: Machine, port: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                outside, (_, dialled_from) = listener.accept()
                passing = threading.Thread(target=self._pass, args=(outside, machine, port, dialled_from), daemon=True)
                passing.start()

    def _pass(self, outside: socket.socket, machine: Machine, port: int, dialled_from: int) -> None:
        between = frozenset((machine.name, self._owner(dialled_from, port)))
        try:
            inside = socket.create_connection((machine.listen, port))
        except OSError:
            outside.close()
            return
        passage = Passage(between, (outside, inside))
        with self._lock:
            self._passages.add(passage)
            if between in self._blocked or self.allowance == 0:
                passage.cut()
        passage.carry(self)
        with self._lock:
            self._passages.discard(passage)

    def _owner(self, local_port: int, remote_port: int) -> str:
        """Return the name of the machine whose daemon dialled, empty for anybody else."""
        ends = (f":{local_port:04X}", f":{remote_port:04X}")
        rows = (row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:])
        owned = next((f"socket:[{row[9]}]" for row in rows if (row[1][-5:], row[2][-5:]) == ends), "")
        for machine in self._machines:
            if machine.daemon is not None and owned in _open_files(machine.daemon.pid):
                return machine.name
        return ""

    def allowed(self, data: bytes) -> bytes:
        """Return what of some bytes may pass; raises OSError where nothing may any more."""
        with self._lock:
            if self.allowance is None:
                return data
            passing = data[: self.allowance]
            self.allowance -= len(passing)
        if not passing:
            raise ConnectionAbortedError
        return passing

    def allow(self, size: int) -> None:
        """Let so many bytes pass over all gates, from now on, and then cut everything until ``heal``."""
        with self._lock:
            self.allowance = size

    def block(self, one: Machine, other: Machine) -> None:
        """Let nothing pass between two machines, from now on."""
        between = frozenset((one.name, other.name))
        with self._lock:
            self._blocked.add(between)
            for passage in self._passages:
                if passage.between == between:
                    passage.cut()

    def cut_off(self, machine: Machine) -> None:
        """Let nothing pass between a machine and all others."""
        for other in self._machines:
            if other is not machine:
                self.block(machine, other)

    def heal(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self._blocked.clear()
            self.allowance = None

    def close(self) -> None:
        """Take the gates away."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for passage in self._passages:
                passage.cut()


def _open_files(process: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))  # noqa: PTH115 - a thousand of them; they name no paths
    return found


@contextlib.contextmanager
def gates(machines: Sequence[Machine]) -> Iterator[Gates]:
    """Have gates in front of machines for a while."""
    opened = Gates(machines)
    try:
        yield opened
    finally:
        opened.close()
