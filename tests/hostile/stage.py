"""A member that somebody has taken over against a real replica, with an honest member looking on.

Anna keeps the store. Bert is the hostile member: his identity is real, so he can sign whatever he likes and say it on
an authenticated link. Cleo is honest, linked to Anna all the time, and must not notice any of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
import zstandard

from cluster_store.core import commands, derivation, document, wire
from cluster_store.core.admission import Incoming
from cluster_store.core.causality import vector
from cluster_store.core.digest import digest, lanes_digest
from cluster_store.core.document import Change
from cluster_store.core.effects import (
    Ack,
    ApplyChanges,
    Bye,
    CaughtUp,
    Close,
    Effect,
    Hello,
    LinkDown,
    Message,
    Noticed,
    Records,
    Send,
)
from cluster_store.core.errors import Malformed
from cluster_store.core.records import Record, seal_record
from cluster_store.core.rules import read
from cluster_store.core.state import Draft, Needs
from cluster_store.core.types import MachineId
from tests.core.builders import beginning, finished, following, identity, incoming, sealed
from tests.core.desk import card
from tests.core.driving import Driver, founder, hello

ANNA, BERT, CLEO = identity("anna"), identity("bert"), identity("cleo")
#: Whom nobody let in.
MALLORY = identity("mallory")
#: The links of the honest and of the hostile member.
HONEST, HOSTILE = 2, 1

#: The changes that the encoder has made in this process, by their bytes: nothing else may reach the engine.
_encoded: set[bytes] = set()


def watch_encoder(monkeypatch: Any) -> None:
    """Take note of every change that is derived, and of nothing else."""
    encode = document.encode_change

    def noting(*args: Any) -> Change:
        change = encode(*args)
        _encoded.add(change.data)
        return change

    monkeypatch.setattr(derivation, "encode_change", noting)


def was_encoded(change: Change) -> bool:
    """Say whether a change came from the encoder."""
    return change.data in _encoded


@lru_cache
def _cluster() -> tuple[Driver, Record]:
    driver = founder("anna")
    driver.do(commands.AddGroup(name="paris"))
    driver.set("banner")
    driver.do(commands.AdmitMachine(card=card("bert"), group="Main_Group"))
    first = sealed(beginning(BERT, driver.records[-1]), BERT)
    driver.do(commands.AdmitMachine(card=card("cleo"), group="Main_Group"))
    joined = sealed(beginning(CLEO, driver.records[-1]), CLEO)
    for peer, record in ((BERT, first), (CLEO, joined)):
        driver.greet(peer.id)
        driver.offer(record)
        driver.feed(LinkDown(1))
    return driver, first


@dataclass
class Outcome:
    """What an attack came to.

    Attributes:
        words: what the operators and the attacker see of it.
        taken: ids of records that were stored because of it.
    """

    words: set[str] = field(default_factory=set)
    taken: int = 0


class Stage:
    """Anna's store with two links, fresh for each attack."""

    def __init__(self, *, greeted: bool = True) -> None:
        """Set the scene; ``greeted``: the hostile member has said an honest hello already."""
        known, self.first = _cluster()
        self.driver = Driver("anna", known.state.cluster)
        # The log is only ever added to, so a copy of its lists and dictionaries is a store of its own.
        for name, value in vars(known.log).items():
            setattr(self.driver.log, name, value.copy() if isinstance(value, list | dict) else value)
        self.driver.log.tails = {name: list(tail) for name, tail in known.log.tails.items()}
        self.driver.now = known.now
        self.driver.restart()
        here = vector(self.state.lines.values())
        self.driver.greet(CLEO.id, here, HONEST)
        self.driver.receive(CaughtUp(), HONEST)
        self.driver.link(BERT.id, HOSTILE)
        if greeted:
            self.driver.receive(hello(self.driver, BERT.id, here), HOSTILE)
        self.before = self._readings()
        self.driver.effects.clear()
        self.effects: list[Effect] = []
        self._batches = 0
        self._acknowledged = 0

    @property
    def state(self) -> Any:
        """Anna's."""
        return self.driver.state

    @property
    def cluster(self) -> str:
        """Its id."""
        return str(self.state.cluster)

    def hello(self, **fields: Any) -> Hello:
        """Return an honest hello of Bert's, but for what the fields say."""
        given = hello(self.driver, BERT.id, vector(self.state.lines.values()))
        return msgspec.structs.replace(given, **fields)

    # --- attacking -----------------------------------------------------------------------------------

    def frame(self, frame: bytes) -> None:
        """Send a frame as Bert. What is no message ends the link, as the shell does it."""
        if self.closed:
            return
        try:
            message = wire.decode(frame)
        except Malformed as error:
            self.effects += [Close(HOSTILE, "dropped", f"the peer sent {error.message}"), *self._hang_up()]
            return
        self._batches += isinstance(message, Records)
        self.effects += self.driver.receive(message, HOSTILE)
        self._let_cleo_acknowledge()
        if any(isinstance(effect, Close) and effect.link == HOSTILE for effect in self.effects):
            self.effects += self._hang_up()

    def _let_cleo_acknowledge(self) -> None:
        while (count := len(self._sent_to_cleo())) > self._acknowledged:
            self._acknowledged = count
            self.driver.receive(Ack(count), HONEST)

    def _sent_to_cleo(self) -> list[list[bytes]]:
        return [
            [item.data for item in effect.message.items]
            for effect in self.driver.only(Send, self.driver.effects)
            if effect.link == HONEST and isinstance(effect.message, Records)
        ]

    def _hang_up(self) -> list[Effect]:
        return self.driver.feed(LinkDown(HOSTILE))

    def raw(self, body: object) -> None:
        """Send MessagePack of anything, compressed."""
        packed = body if isinstance(body, bytes) else msgspec.msgpack.encode(body)
        self.frame(b"\1" + zstandard.ZstdCompressor(level=1).compress(packed))

    def say(self, *messages: Message) -> None:
        """Say messages as Bert, through their frames."""
        for message in messages:
            self.frame(wire.encode(message))

    def bring(self, *records: Record) -> None:
        """Send a batch of records as Bert."""
        self.say(Records([incoming(record) for record in records]))

    def bring_bytes(self, data: bytes, *, sign: bool = True) -> None:
        """Send one record of these bytes, sealed by Bert as if they were an envelope of his."""
        honest = following(self.first)
        seal = seal_record(Record(honest, data, b"", self.first.id), BERT.sign).seal if sign else b""
        self.say(Records([Incoming(data, seal)]))

    @property
    def closed(self) -> bool:
        """Whether Anna has closed the hostile link."""
        return any(isinstance(effect, Close) and effect.link == HOSTILE for effect in self.effects)

    # --- what must hold --------------------------------------------------------------------------------

    def _readings(self) -> tuple[Any, ...]:
        draft = Draft(self.state)
        cluster = read(draft)
        return (
            self.state.position,
            vector(self.state.lines.values()),
            digest(cluster, draft),
            lanes_digest(draft),
            self.state.log_hash,
        )

    def outcome(self) -> Outcome:
        """Say what the attack came to, and insist on what must hold after every one."""
        found = Outcome(taken=self.state.position - self.before[0])
        closes = [effect for effect in self.effects if isinstance(effect, Close) and effect.link == HOSTILE]
        byes = [effect for effect in self.effects if isinstance(effect, Send) and isinstance(effect.message, Bye)]
        acks = [effect for effect in self.effects if isinstance(effect, Send) and isinstance(effect.message, Ack)]
        voids = [added.void for added in self.driver.log.records[self.before[0] :]]
        if closes:
            assert closes[0].reason, "a link is dropped for a reason that an operator sees"
            found.words.add("refused with a reason" if byes else "dropped")
        elif self._batches:
            assert len(acks) >= self._batches, "a batch that was handled is acknowledged"
        if any(isinstance(effect, Noticed) and effect.text.startswith("waiting") for effect in self.effects):
            found.words.add("waits")
        if any(voids):
            found.words.add("void")
        if not all(voids):
            found.words.add("taken")
        if not found.taken:
            assert self._readings() == self.before, "what was not stored changed nothing"
        if not found.words:
            found.words.add("no effect")
        self._insist()
        return found

    def _insist(self) -> None:
        driver = self.driver
        for effect in driver.only(ApplyChanges, driver.effects):
            assert all(was_encoded(change) for made in effect.changes.values() for change in made)
        # Anna goes on, and Cleo gets all of it.
        driver.set("still.alive", f'"{self.state.position}"')
        self._let_cleo_acknowledge()
        new = [record.data for record in driver.records[self.before[0] :]]
        assert [data for batch in self._sent_to_cleo() for data in batch] == new, "the honest member gets all of it"
        closed = [effect for effect in driver.only(Close, driver.effects) if effect.link == HONEST]
        assert not closed, "the honest member is not to blame"
        # Cleo writes, and it is taken.
        head = next(r for r in reversed(driver.records) if r.envelope.machine == CLEO.id)
        self._honest_write(head)
        before, scopes = self._readings(), self.state.scopes
        driver.restart()
        driver.replica.learn(finished(driver.log.lookup(Needs(scopes=set(scopes)))))
        assert self._readings()[1:] == before[1:], "a restart finds what was there"

    def _honest_write(self, head: Record) -> None:
        record = sealed(following(head, comment="honest"), CLEO)
        self.driver.offer(record, number=HONEST)
        assert self.driver.records[-1] == record


def play(attack: Callable[[Stage, Any], None], drawn: Any, *, greeted: bool = True) -> Outcome:
    """Carry out an attack on a fresh stage; return what it came to."""
    stage = Stage(greeted=greeted)
    attack(stage, drawn)
    return stage.outcome()


def bert_id() -> MachineId:
    """Return the hostile member's id."""
    return BERT.id
