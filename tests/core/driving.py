"""One replica with a log in memory and a peer that the test plays itself: every message in and out is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.core import commands
from cluster_store.core.causality import Leaf
from cluster_store.core.effects import (
    PROTOCOL,
    Append,
    AppendDone,
    AppendFailed,
    CaughtUp,
    Close,
    Effect,
    Hello,
    Input,
    LinkDown,
    LinkUp,
    LogRead,
    Message,
    Read,
    Received,
    Records,
    Reply,
    Request,
    Send,
    Submit,
)
from cluster_store.core.errors import StoreError
from cluster_store.core.records import Record
from cluster_store.core.replica import Replica
from cluster_store.core.state import State
from cluster_store.core.types import Epoch, MachineId
from tests.core.builders import beginning, finished, identity, incoming, sealed
from tests.core.desk import SALT, card

_Effect = TypeVar("_Effect", bound=Effect)

#: How much of the log is read at once.
READ_RECORDS, READ_BYTES = 10, 1 << 18


class Driver:
    """Feeds a replica, performs what it asks of its log, and keeps all effects in their order."""

    def __init__(self, name: str, cluster: str = "", log: MemoryLog | None = None) -> None:
        self.me = identity(name)
        self.log = log or MemoryLog(cluster)
        self.now = 1_700_000_000_000
        self.effects: list[Effect] = []
        self._epochs = 0
        self.restart()

    def restart(self) -> None:
        """Begin anew with what the log has."""
        state = State.restored(self.me.id, finished(self.log.load()))
        self.replica = Replica(state, self.me.sign, "1" * 16)

    @property
    def state(self) -> State:
        """What the log adds up to."""
        return self.replica.state

    # --- inputs --------------------------------------------------------------------------------------

    def prepare(self, given: Input) -> None:
        """Look up what an input needs."""
        while needs := self.replica.needs(given):
            self.replica.learn(finished(self.log.lookup(needs)))

    def feed(self, given: Input) -> list[Effect]:
        """Give an input, perform what comes out and what comes of that; return all effects in order."""
        self.prepare(given)
        done: list[Effect] = []
        for effect in self.replica.step(given):
            done.append(effect)
            done += self._perform(effect)
        if not isinstance(given, AppendDone | AppendFailed | LogRead):
            self.effects += done
        return done

    def _perform(self, effect: Effect) -> list[Effect]:
        if isinstance(effect, Append):
            try:
                finished(self.log.append(effect.draft))
            except StoreError as error:
                return self.feed(AppendFailed(error))
            return self.feed(AppendDone())
        if isinstance(effect, Read):
            after = effect.after
            if after is None:
                after = finished(self.log.first_missing(effect.covered))
            return self.feed(LogRead(effect.link, after, finished(self.log.read(after, READ_RECORDS, READ_BYTES))))
        return []

    def submission(self, *given: commands.Command) -> Submit:
        """Return commands as callers submit them together, a second after whatever came before."""
        self.now += 1000
        self._epochs += 1
        requests = [Request(number, command, "os:root", "local") for number, command in enumerate(given)]
        return Submit(requests, self.now, Epoch(f"{self.me.id[:8]}{self._epochs:08x}"))

    def submit(self, *given: commands.Command) -> list[Reply]:
        """Submit commands together; return their replies."""
        return self.only(Reply, self.feed(self.submission(*given)))

    def do(self, *given: commands.Command) -> dict[str, Any]:
        """Submit commands that must all be accepted; return the last one's result."""
        replies = self.submit(*given)
        assert [reply.error for reply in replies] == [None] * len(given)
        return replies[-1].result or {}

    def set(self, key: str, value: str = '"x"', level: str | None = None) -> dict[str, Any]:
        """Set a key to a JSON text."""
        return self.do(setting(key, value, level))

    # --- the peer ------------------------------------------------------------------------------------

    def link(self, peer: MachineId, number: int = 1) -> list[Effect]:
        """Bring a link up."""
        return self.feed(self.link_up(peer, number))

    def link_up(self, peer: MachineId, number: int = 1) -> LinkUp:
        """Return the input that says that a link is up."""
        return LinkUp(number, peer, self.now)

    def receive(self, message: Message, number: int = 1) -> list[Effect]:
        """Let the peer say something."""
        return self.feed(Received(number, message, self.now))

    def greet(self, peer: MachineId, vector: Sequence[Leaf] = (), number: int = 1, **fields: Any) -> list[Effect]:
        """Bring a link up and let the peer say hello."""
        self.link(peer, number)
        return self.receive(hello(self, peer, vector, **fields), number)

    def offer(self, *records: Record, number: int = 1) -> list[Effect]:
        """Let the peer send a batch of records."""
        return self.receive(Records([incoming(record) for record in records]), number)

    # --- effects -------------------------------------------------------------------------------------

    @staticmethod
    def only(kind: type[_Effect], effects: Sequence[Effect]) -> list[_Effect]:
        """Return the effects of one kind."""
        return [effect for effect in effects if isinstance(effect, kind)]

    @property
    def sent(self) -> list[Message]:
        """All messages that were ever sent, on whatever link."""
        return [effect.message for effect in self.only(Send, self.effects)]

    @property
    def sent_records(self) -> list[list[str]]:
        """The batches of records that were sent, as lists of their bytes' comments or kinds."""
        return [[item.data.decode() for item in message.items] for message in self.sent if isinstance(message, Records)]

    @property
    def closed(self) -> list[tuple[str, str]]:
        """The states and reasons that links were closed with."""
        return [(effect.state, effect.reason) for effect in self.only(Close, self.effects)]

    @property
    def records(self) -> list[Record]:
        """The records in the log, in its order."""
        return [added.record for added in self.log.records]


def hello(driver: Driver, peer: MachineId, vector: Sequence[Leaf] = (), **fields: Any) -> Hello:
    """Return a hello that a peer of the same cluster says."""
    given = {
        "protocol": PROTOCOL,
        "cluster": driver.state.cluster,
        "machine": peer,
        "instance": "2" * 16,
        "epoch": "",
        "version": "9.0",
        "time": driver.now,
        "vector": list(vector),
        "detached": [],
        **fields,
    }
    return Hello(**given)


def setting(key: str, value: str = '"x"', level: str | None = None, **fields: Any) -> commands.SetSetting:
    """Return the command that sets a key."""
    return commands.SetSetting(key=key, value=value, level=level, salt=SALT, **fields)


def founder(name: str = "anna") -> Driver:
    """Return a machine that made a cluster of itself."""
    driver = Driver(name)
    driver.do(commands.InitialiseMachine(card=card(name), salt=SALT))
    driver.do(commands.CreateCluster(name="ships", salt=SALT))
    return driver


def caught_up(driver: Driver) -> bool:
    """Say whether a machine has said that it has sent all it had."""
    return any(isinstance(message, CaughtUp) for message in driver.sent)


def with_bert() -> tuple[Driver, Record]:
    """Return a machine whose cluster Bert has joined, without a link, and his first record."""
    driver, bert = founder(), identity("bert")
    driver.do(commands.AdmitMachine(card=card("bert")))
    first = sealed(beginning(bert, driver.records[-1]), bert)
    driver.greet(bert.id)
    driver.offer(first)
    driver.feed(LinkDown(1))
    driver.effects.clear()
    return driver, first
