"""Machines as their operators know them: a store, a daemon that is a process of its own, and the command line.

What they are asked is asked on the command line. Only waiting looks behind it: whether machines agree is read from
their stores, by the functions that ``status`` has it from, because a process for each look would take the host's time
from the daemons.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cluster_store import bootstrap
from cluster_store.adapters import local_client
from cluster_store.core.digest import digest, lanes_digest
from tests.end_to_end.forks import Forked, How, forks
from tests.waiting import wait_until

#: Of every machine's ``admin``. Distinctive, so that it is found wherever it should not be.
PASSWORD = "korrektes Pferd, Batterie+Heftklammer"
#: How long a command, a daemon's start, or two machines' agreement may take on a busy host, seconds.
PATIENCE_S = 40.0
#: Whether each command is a Python of its own, as on a real machine, which costs five times as much.
REAL = os.environ.get("CLUSTER_STORE_REAL") == "1"

#: A command or a daemon, however it was started.
Process = subprocess.Popen[str] | Forked


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    words: Sequence[str]
    status: int
    out: str
    err: str

    def expect(self, status: int) -> Outcome:
        """Insist on an exit status."""
        shown = (
            f"'{' '.join(self.words)}' ended with {self.status}, not {status}\n{self.out[-2000:]}\n{self.err[-2000:]}"
        )
        assert self.status == status, shown
        return self


@dataclass
class Machine:
    """One machine under a folder of the test's.

    Attributes:
        folder: where its store and its daemon's output are.
        name: the first part of its hostname.
        address: what its interface says: where the others dial it.
        listen: where its daemon listens, if that differs, as behind a port forwarding.
        namespace: the network namespace that it is in, empty for the host's own.
        plants: what its commands and its daemon do otherwise than the program, see ``plants.py``.
        real: whether each of its commands is a Python of its own.
    """

    folder: Path
    name: str
    address: str
    listen: str = ""
    namespace: str = ""
    plants: tuple[str, ...] = ()
    real: bool = REAL
    daemon: Process | None = None

    @property
    def hostname(self) -> str:
        """Its hostname."""
        return f"{self.name}.example.com"

    @property
    def store(self) -> Path:
        """Its store's folder."""
        return self.folder / self.name

    @property
    def output(self) -> Path:
        """What its daemons have written to standard error, all of them."""
        return self.folder / f"{self.name}.log"

    # --- commands ----------------------------------------------------------------------------------

    def start(
        self,
        *words: str,
        out: IO[Any] | None = None,
        err: IO[Any] | None = None,
        kill_at: int | None = None,
        notes: str = "",
    ) -> Process:
        """Start a command and let it run; see ``How`` for ``kill_at`` and ``notes``."""
        words = ("--store", str(self.store), *words)
        how = How(self.namespace, self.plants, kill_at, notes)
        # What only a forked process can do has no door in the program.
        if not self.real or self.plants or kill_at is not None:
            return forks().start(words, how, out, err)
        inside = ("ip", "netns", "exec", self.namespace) if self.namespace else ()
        return subprocess.Popen(
            [*inside, sys.executable, "-m", "cluster_store_cli", *words],
            stdin=subprocess.PIPE,
            stdout=out or subprocess.PIPE,
            stderr=err or subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, typed: str = "", kill_at: int | None = None) -> Outcome:
        """Run a command to its end."""
        command = self.start(*words, kill_at=kill_at)
        type_in(command, typed)
        out, err = command.communicate(timeout=60)
        assert "Traceback" not in err, err
        assert command.returncode is not None
        return Outcome(words, command.returncode, out, err)

    def do(self, *words: str, typed: str = "") -> str:
        """Run a command that must succeed; return what it printed."""
        return self.run(*words, typed=typed).expect(0).out

    def ask(self, *words: str, status: int = 0) -> Any:
        """Run a command for its JSON."""
        return json.loads(self.run(*words, "--json").expect(status).out)

    def refused(self, *words: str, typed: str = "") -> str:
        """Run a command that must be refused, and changes nothing; return what the operator is told."""
        before = self.state()
        outcome = self.run(*words, typed=typed).expect(1)
        told = outcome.err.strip().splitlines()
        assert 1 <= len(told) <= 2, f"one or two lines are expected: {outcome.err}"
        assert self.state() == before, "the refused command changed something"
        return outcome.err

    # --- its life ----------------------------------------------------------------------------------

    def init(self, *more: str) -> Machine:
        """Make its store."""
        words = ("init", "--hostname", self.hostname, "--interface", f"Management={self.address}")
        listen = self.listen or self.address
        ports = ("--listen", listen, "--ssh-port", "0", "--ccs-port", "0")
        self.do(*words, *ports, *more, "--password-stdin", typed=PASSWORD + "\n")
        return self

    def serve(self) -> Machine:
        """Start its daemon and wait until it accepts connections."""
        self.launch()
        self.ready()
        return self

    def launch(self, kill_at: int | None = None, notes: str = "") -> Process:
        """Start its daemon without waiting for it; see ``How`` for ``kill_at`` and ``notes``."""
        assert self.daemon is None
        with self.output.open("ab") as errors, self._line.open("wb") as line:
            self.daemon = self.start("serve", out=line, err=errors, kill_at=kill_at, notes=notes)
        return self.daemon

    def ready(self) -> None:
        """Wait until its daemon accepts connections."""
        wait_until(self._is_ready, PATIENCE_S, what=f"the daemon of {self.name}")

    @property
    def _line(self) -> Path:
        return self.folder / f"{self.name}.out"

    def _is_ready(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.poll() is None, f"the daemon of {self.name} ended: {self.output.read_text()[-2000:]}"
        return self._line.read_bytes().endswith(b"\n")

    def stop(self) -> None:
        """End its daemon as a service manager does; it must go in peace."""
        daemon, self.daemon = self.daemon, None
        if daemon is not None:
            daemon.terminate()
            assert ended(daemon) == 0, self.output.read_text()[-2000:]

    def kill(self) -> None:
        """End its daemon as a power failure does."""
        daemon, self.daemon = self.daemon, None
        if daemon is not None:
            daemon.kill()
            ended(daemon)

    def close(self) -> None:
        """End its daemon, whatever state it is in."""
        if self.daemon is not None:
            self.daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.daemon.wait(10)
        self.kill()

    # --- what it says ------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return its status."""
        status: dict[str, Any] = self.ask("status")
        return status

    def state(self) -> tuple[int, str, str]:
        """Return records, digest and lanes digest: the same on two machines that agree and have the same records."""
        with bootstrap.read(self.store) as store, store.snapshot():
            return store.count, digest(store.cluster(), store), lanes_digest(store)

    def get(self, key: str, *more: str) -> Any:
        """Return a key's effective value."""
        return self.ask("get", key, *more)["value"]

    def set(self, key: str, value: str, level: str = "cluster", comment: str = "") -> str:
        """Give a key another value; return the event's id."""
        told = self.ask("set", key, value, "--level", level, "-m", comment)
        assert told["changed"], f"{key} had this value already"
        return str(told["event"])

    def events(self) -> list[dict[str, Any]]:
        """Return its log."""
        return [json.loads(line) for line in self.do("log", "--json").splitlines()]

    def call(self, operation: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask its daemon as the command line asks it."""
        return local_client.call(self.store / "node.sock", operation, arguments or {}, lambda _: None)

    def links(self) -> dict[str, dict[str, Any]]:
        """Return what connstatus shows of every machine, by the first part of its hostname."""
        rows = self.call("connstatus")["machines"]
        return {row["hostname"].partition(".")[0]: row for row in rows}

    def link(self, other: Machine) -> str:
        """Return the state of its link to another machine."""
        return str(self.links()[other.name]["state"])

    @property
    def where(self) -> str:
        """Where a machine that wants to join finds it."""
        return f"{self.address}:{self.status()['ssh_port']}"

    def joining(self, member: Machine, *more: str) -> list[str]:
        """Return the words by which it joins a member's cluster; the password is to be typed."""
        status = member.status()
        words = [
            "clusterconfig",
            "join",
            f"{member.address}:{status['ssh_port']}",
            "--ssh",
            "--password-stdin",
            "--yes",
        ]
        return [*words, "--fingerprint", status["fingerprint"], *more]

    def join(self, member: Machine, *more: str) -> None:
        """Join a member's cluster."""
        self.do(*self.joining(member, *more), typed=PASSWORD + "\n")

    def verify(self) -> None:
        """Prove its log."""
        self.do("verify", "--every-signature")


@dataclass
class Fleet:
    """Machines of one test or of one module of tests; ended with it. ``real`` holds for those made from then on."""

    folder: Path
    real: bool = REAL
    machines: dict[str, Machine] = field(default_factory=dict)

    def machine(self, name: str, address: str = "", **more: Any) -> Machine:
        """Return a new machine without a store. Addresses are 127.0.0.1, 127.0.0.2 and so on."""
        self.folder.mkdir(exist_ok=True)
        machine = Machine(self.folder, name, address or f"127.0.0.{len(self.machines) + 1}", real=self.real, **more)
        self.machines[name] = machine
        return machine

    def cluster(self, *names: str) -> list[Machine]:
        """Form a cluster of new machines over SSH; the first of them makes it."""
        return form([self.machine(name).init() for name in names])

    def close(self) -> None:
        """End every daemon."""
        for machine in self.machines.values():
            machine.close()


def ended(daemon: Process) -> int:
    """Wait for a daemon's end; return its exit status."""
    status = daemon.wait(PATIENCE_S)
    if daemon.stdin is not None:
        daemon.stdin.close()
    return status


def type_in(command: Process, text: str) -> None:
    """Type something, and let the command wait for more."""
    assert command.stdin is not None
    # What was refused at once reads nothing.
    with contextlib.suppress(BrokenPipeError):
        command.stdin.write(text)
        command.stdin.flush()


@contextlib.contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """Have machines in a folder for a while."""
    opened = Fleet(folder)
    try:
        yield opened
    finally:
        opened.close()


def form(machines: Sequence[Machine]) -> list[Machine]:
    """Start the daemons of machines that have a store, and form one cluster over SSH; the first machine makes it."""
    first, *others = machines
    for machine in machines:
        machine.launch()
    for machine in machines:
        machine.ready()
    first.do("clusterconfig", "create", "americas", "--by", "ip")
    for other in others:
        other.join(first)
    converged(*machines)
    return list(machines)


def converged(*machines: Machine, timeout: float = PATIENCE_S) -> tuple[int, str, str]:
    """Wait until machines have the same records, digest and lanes; return these."""

    def agree() -> tuple[int, str, str] | None:
        states = {machine.name: machine.state() for machine in machines}
        seen.append(states)
        first, *others = states.values()
        return first if all(other == first for other in others) else None

    seen: list[dict[str, tuple[int, str, str]]] = []
    try:
        agreed = wait_until(agree, timeout, what="convergence")
    except AssertionError as error:
        raise AssertionError(f"{error}; at last {seen[-1]}") from error
    assert agreed is not None
    return agreed
