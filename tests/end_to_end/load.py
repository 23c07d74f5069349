"""People who change settings without a pause, and remember what they were told is done."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

import msgspec

from cluster_store.adapters import local_client
from cluster_store.adapters.local_client import NoDaemon
from cluster_store.core.commands import SetSetting
from cluster_store.core.errors import StoreError
from tests.end_to_end.machines import PATIENCE_S, Machine
from tests.waiting import wait_until

#: Different keys that each writer goes around.
KEYS = 50


class Writer(threading.Thread):
    """Changes settings on one machine, by the socket that the command line uses; what fails is not repeated."""

    def __init__(self, machine: Machine) -> None:
        """Prepare to write on a machine, whose daemon may come and go."""
        super().__init__(name=f"writer on {machine.name}", daemon=True)
        self.machine = machine
        #: Ids of the events of which the daemon said that they are done.
        self.acknowledged: list[str] = []
        #: Key -> the number last acknowledged for it.
        self.numbers: dict[str, int] = {}
        #: Changes of which nobody knows whether they were made.
        self.unanswered = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Write until ``stop``."""
        number = 0
        while not self._over.is_set():
            number += 1
            key = f"load.{self.machine.name}.{number % KEYS}"
            command = SetSetting(key=key, value=str(number), level="cluster", salt=os.urandom(16))
            try:
                result = local_client.call(
                    self.machine.store / "node.sock", "submit", msgspec.to_builtins(command), lambda _: None
                )
            except NoDaemon:
                self._over.wait(0.02)
            except StoreError:
                self.unanswered += 1
            else:
                self.numbers[key] = number
                # A writer before this one may have come to the same number.
                if result["changed"]:
                    self.acknowledged.append(result["event"])

    def wait_for(self, more: int) -> None:
        """Wait until so many more changes have been acknowledged."""
        goal = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= goal, PATIENCE_S, what=f"{more} changes on {self.machine.name}")

    def stop(self) -> None:
        """Finish the change that is under way, and no more."""
        self._over.set()
        self.join(PATIENCE_S)
        assert not self.is_alive()


@contextlib.contextmanager
def writers(machines: Sequence[Machine]) -> Iterator[dict[str, Writer]]:
    """Have somebody write on each of some machines for a while; by the machines' names."""
    started = {machine.name: Writer(machine) for machine in machines}
    for writer in started.values():
        writer.start()
    try:
        yield started
    finally:
        for writer in started.values():
            writer.stop()
