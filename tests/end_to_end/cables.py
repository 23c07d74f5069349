"""A network of real cables: machines in network namespaces of their own, each plugged into a switch.

A switch is a namespace with a bridge in it, a cable a pair of virtual interfaces. At the switch, a cable is called as
its machine. What is cut here is cut as in a machine room: nobody is told, packets just stop arriving.

What may pass from a cable into the switch is decided by a filter of classic BPF: that is in every kernel that has
traffic control at all, which ``netem`` is not.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.machines import Machine

#: A namespace's name begins with the id of the process whose tests made it, so that what a killed one left is known.
_NAME = re.compile(r"cs(\d+)-")

# Offsets in an Ethernet frame with an IPv4 header without options, which is what Linux sends.
_ETHERTYPE, _PROTOCOL, _SOURCE, _TARGET, _TCP_FLAGS = 12, 23, 26, 30, 47
_IPV4, _TCP, _SYN, _SYN_AND_ACK = 0x0800, 6, 0x02, 0x12
# Instructions of classic BPF, and what traffic control does with what a filter returns.
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _AND, _IF_EQUAL, _IF_GREATER, _RETURN = 0x20, 0x28, 0x30, 0x54, 0x15, 0x25, 0x06
_PASS, _DROP = 0, 2
#: Where a program reads a random word.
_RANDOM = 0xFFFFF000 + 56


def run(*words: str) -> str:
    """Run iproute2's program and return what it prints."""
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


class Switch:
    """Machines plugged into one switch, until ``close``. Needs root."""

    def __init__(self, stack: contextlib.ExitStack, machines: Sequence[Machine]) -> None:
        """Plug machines in; a stack takes what undoes it."""
        self._machines = machines
        prefix = f"cs{os.getpid()}-{os.urandom(3).hex()}"
        self.namespace = stack.enter_context(_namespace(f"{prefix}-switch"))
        for bridge in ("main", "other"):
            run("ip", "-n", self.namespace, "link", "add", "name", bridge, "type", "bridge")
            run("ip", "-n", self.namespace, "link", "set", bridge, "up")
        for machine in machines:
            self._plug_in(stack.enter_context(_namespace(f"{prefix}-{machine.name}")), machine)

    def _plug_in(self, own: str, machine: Machine) -> None:
        machine.namespace = own
        at_switch = ("ip", "-n", self.namespace, "link")
        run(*at_switch, "add", "name", machine.name, "type", "veth", "peer", "name", "eth0", "netns", own)
        run(*at_switch, "set", machine.name, "master", "main", "up")
        run("tc", "-n", self.namespace, "qdisc", "add", "dev", machine.name, "clsact")
        self.add_address(machine, machine.address)
        # Without it, the first address of a network takes those that came later along when it goes.
        run("ip", "netns", "exec", own, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/promote_secondaries")
        run("ip", "-n", own, "link", "set", "eth0", "up")

    # --- cuts --------------------------------------------------------------------------------------

    def pull(self, machine: Machine) -> None:
        """Pull a machine's cable."""
        run("ip", "-n", self.namespace, "link", "set", machine.name, "down")

    def push(self, machine: Machine) -> None:
        """Put a machine's cable back."""
        run("ip", "-n", self.namespace, "link", "set", machine.name, "up")

    def set_apart(self, *machines: Machine) -> None:
        """Have these machines reach each other and nobody else, and so the rest."""
        for machine in machines:
            run("ip", "-n", self.namespace, "link", "set", machine.name, "master", "other")

    def drop_packets(self, source: Machine, target: Machine) -> None:
        """Lose all that one machine sends to another, and nothing of what that one sends back."""
        self._filter(source, [(_LOAD_WORD, _TARGET), (_IF_EQUAL, int(ipaddress.ip_address(target.address)))])

    def drop_dialling(self, source: Machine) -> None:
        """Have a machine begin no connection with anybody; those that others begin are let through, both ways."""
        is_tcp = [(_LOAD_BYTE, _PROTOCOL), (_IF_EQUAL, _TCP)]
        begins = [(_LOAD_BYTE, _TCP_FLAGS), (_AND, _SYN_AND_ACK), (_IF_EQUAL, _SYN)]
        self._filter(source, [*is_tcp, *begins])

    def lose(self, part: float) -> None:
        """Lose a part of all packets, whichever."""
        for machine in self._machines:
            self._filter(machine, [(_LOAD_WORD, _RANDOM), (_IF_GREATER, int((1 - part) * 0xFFFFFFFF))])

    def narrow(self, rate: str, queue: str) -> None:
        """Let a machine's cable carry so much: what comes faster waits in a queue, and what is beyond that is lost."""
        for machine in self._machines:
            shape = ("tbf", "rate", rate, "burst", "4kb", "limit", queue)
            run("tc", "-n", self.namespace, "qdisc", "add", "dev", machine.name, "root", *shape)

    def delay(self, *netem: str) -> None:
        """Delay, reorder and lose what goes to each machine, as netem can. Skips the test where the kernel has none."""
        for machine in self._machines:
            try:
                run("tc", "-n", self.namespace, "qdisc", "add", "dev", machine.name, "root", "netem", *netem)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"this kernel has no netem: {error.stderr.strip().splitlines()[0]}")

    def _filter(self, source: Machine, conditions: Sequence[tuple[int, int]]) -> None:
        """Drop the IPv4 packets from a machine for which every comparison of a program holds."""
        program = [(_LOAD_HALF, _ETHERTYPE), (_IF_EQUAL, _IPV4), *conditions, (_RETURN, _DROP), (_RETURN, _PASS)]
        comparing = (_IF_EQUAL, _IF_GREATER)
        lines = [
            # Where a comparison fails, jump to the last instruction.
            f"{code} 0 {len(program) - 2 - at if code in comparing else 0} {value}"
            for at, (code, value) in enumerate(program)
        ]
        where = ("dev", source.name, "ingress", "bpf", "da", "bytecode")
        run("tc", "-n", self.namespace, "filter", "add", *where, ",".join([str(len(lines)), *lines]))

    def let_pass(self, source: Machine) -> None:
        """Drop nothing any more of what a machine sends."""
        run("tc", "-n", self.namespace, "filter", "del", "dev", source.name, "ingress")

    def heal(self) -> None:
        """Let everything pass again, as at first."""
        for machine in self._machines:
            run("ip", "-n", self.namespace, "link", "set", machine.name, "master", "main", "up")
            self.let_pass(machine)
            with contextlib.suppress(subprocess.CalledProcessError):
                # It is an error to remove what is not there.
                run("tc", "-n", self.namespace, "qdisc", "del", "dev", machine.name, "root")

    # --- addresses ---------------------------------------------------------------------------------

    def add_address(self, machine: Machine, address: str) -> None:
        """Give a machine's interface an address more."""
        run("ip", "-n", machine.namespace, "addr", "add", f"{address}/24", "dev", "eth0")

    def remove_address(self, machine: Machine, address: str) -> None:
        """Take an address from a machine's interface."""
        run("ip", "-n", machine.namespace, "addr", "del", f"{address}/24", "dev", "eth0")


@contextlib.contextmanager
def _namespace(name: str) -> Iterator[str]:
    """Have a network namespace for a while; whoever is still in it at the end is ended."""
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        _remove(name)


def _remove(name: str) -> None:
    for process in run("ip", "netns", "pids", name).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    run("ip", "netns", "del", name)


def _remove_leftovers() -> None:
    """Remove the namespaces of test runs that were killed."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        found = _NAME.match(name)
        if found is not None and not Path("/proc", found[1]).exists():
            with contextlib.suppress(subprocess.CalledProcessError):
                # Another run may be at it as well.
                _remove(name)


@contextlib.contextmanager
def switch(machines: Sequence[Machine]) -> Iterator[Switch]:
    """Have machines at a switch for a while. Skips the test where that cannot be."""
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program} (iproute2) is not installed: no cable can be pulled")
    if os.geteuid():
        pytest.skip("only root can make network namespaces: no cable can be pulled")
    with contextlib.ExitStack() as stack:
        try:
            _remove_leftovers()
            plugged = Switch(stack, machines)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        yield plugged
