"""A member that does not read, does not acknowledge or says nothing holds up nobody but itself, and loses the link."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from cluster_store import documents
from cluster_store.adapters import memory_transport
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.core import commands, document, wire
from cluster_store.core.causality import vector
from cluster_store.core.document import Change, Document
from cluster_store.core.effects import PROTOCOL, Bye, CaughtUp, Hello, Message, Records
from cluster_store.core.errors import LinkError
from cluster_store.core.limits import OUTBOX_MESSAGES_MAX
from cluster_store.core.records import Record, encode, record_id, seal_record
from cluster_store.core.sync import WINDOW
from cluster_store.core.types import Epoch, MachineId
from cluster_store.open_link import OpenLink
from cluster_store.ports import Link, PeerAddress
from tests.core.builders import beginning, following, incoming
from tests.hostile.stage import was_encoded, watch_encoder
from tests.sites import Site
from tests.waiting import wait_until_async

SECONDS = 30.0


class Trio:
    """Anna and Cleo, linked and honest; Bert is a member whose keys the test has, and no daemon."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.anna, self.bert, self.cleo = (Site(self.network, name) for name in ("anna", "bert", "cleo"))

    async def start(self) -> None:
        """Form the cluster."""
        await self.anna.begin()
        await self.anna.command(commands.CreateCluster(name="ships", salt=bytes(16)))
        await self.anna.command(commands.AdmitMachine(card=self.bert.card()))
        self.admission = self.anna.log.records[-1].record
        await self.anna.command(commands.AdmitMachine(card=self.cleo.card()))
        self.cleo.log = type(self.cleo.log)(self.anna.node.replica.state.cluster)
        await self.cleo.open()
        await self.cleo.listen()
        link = await self.cleo.transport.dial(self._anna())
        self.serving = asyncio.create_task(self.cleo.links.serve(link, dialled=True))
        async with asyncio.timeout(SECONDS):
            await self.cleo.node.wait_for(lambda: self.cleo.id in self.cleo.node.replica.cluster.machines)

    def _anna(self) -> PeerAddress:
        return PeerAddress(self.anna.id, "anna", 22, self.anna.keys.host_key_line)

    async def stop(self) -> None:
        """End it."""
        await self.cleo.end()
        await self.anna.end()
        self.serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.serving

    async def attack(self) -> Link:
        """Dial Anna as Bert, who does not take calls himself."""
        return await MemoryTransport(self.network, "bert", self.bert.keys).dial(self._anna())

    def hello(self, *, has_all: bool = True) -> Hello:
        """What Bert says."""
        state = self.anna.node.replica.state
        return Hello(
            protocol=PROTOCOL,
            cluster=state.cluster,
            machine=self.bert.id,
            instance="b" * 16,
            epoch=Epoch(""),
            version=self.bert.card().version,
            time=0,
            vector=vector(state.lines.values()) if has_all else [],
            detached=[],
        )

    def first(self) -> Record:
        """Bert's first record."""
        envelope = beginning(_Named(self.bert), self.admission)  # type: ignore[arg-type] # all that is asked of it
        data = encode(envelope)
        return seal_record(Record(envelope, data, b"", record_id(data, b"")), self.bert.keys.sign)

    def following(self, record: Record, **fields: object) -> Record:
        """A record of Bert's behind another."""
        envelope = following(record, **fields)
        data = encode(envelope)
        return seal_record(Record(envelope, data, b"", record_id(data, b"")), self.bert.keys.sign)

    async def others_go_on(self, key: str) -> None:
        """Anna takes a change, and Cleo hears of it."""
        await self.anna.set(key, '"here"')
        await self.cleo.has(key, '"here"', SECONDS)

    def opened(self) -> OpenLink | None:
        """Anna's side of the link with Bert."""
        return self.anna.links.by_peer.get(self.bert.id)


class _Named:
    def __init__(self, site: Site) -> None:
        self.id = site.id
        self.name = site.name


@pytest.fixture
async def trio(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Trio]:
    """The three of them, with every change that reaches the engine watched, and all brought to it that can be."""
    watch_encoder(monkeypatch)
    monkeypatch.setattr(documents, "_GATHERED_MAX", 1)
    monkeypatch.setattr(documents, "DOCUMENT_TAIL_BYTES", -1)
    apply = Document.apply

    def watched(self: Document, changes: list[Change]) -> None:
        assert all(map(was_encoded, changes)), "something else than a derived change came to the engine"
        seen.append(len(changes))
        apply(self, changes)

    seen: list[int] = []
    monkeypatch.setattr(document.Document, "apply", watched)
    cast = Trio()
    await cast.start()
    yield cast
    await cast.stop()
    assert seen


async def say(link: Link, *messages: Message) -> None:
    """Say messages on a link."""
    for message in messages:
        await link.send(wire.encode(message))


async def ended(link: Link) -> None:
    """Read until the link ends."""
    with contextlib.suppress(LinkError):
        async with asyncio.timeout(SECONDS):
            while await link.receive() is not None:
                pass


async def test_a_member_that_reads_nothing_holds_up_nobody(trio: Trio) -> None:
    """It lacks everything and takes nothing of it; what waits for it is a window of batches, whatever else happens."""
    link = await trio.attack()
    await say(link, trio.hello(has_all=False))
    for number in range(30):
        await trio.anna.set(f"k{number}", '"' + "x" * 60_000 + '"')
    await trio.others_go_on("last")
    opened = trio.opened()
    assert opened is not None
    session = trio.anna.node.replica.sessions[opened.number]
    assert len(session.in_flight) <= WINDOW
    assert opened.waiting <= WINDOW + 2
    await link.close()


async def test_a_member_that_never_acknowledges_loses_the_link(trio: Trio, caplog: pytest.LogCaptureFixture) -> None:
    """It reads, and says nothing of it: after a while its place is given up, and the operator is told."""
    trio.anna.links.patience = 0.1
    link = await trio.attack()
    await say(link, trio.hello(has_all=False))
    await ended(link)
    assert "it has acknowledged 0 batches, and none of those behind them" in caplog.text
    await trio.others_go_on("last")


async def test_a_member_that_says_no_hello_loses_the_link(trio: Trio, caplog: pytest.LogCaptureFixture) -> None:
    """It holds the place of a link that works."""
    trio.anna.links.patience = 0.1
    link = await trio.attack()
    await ended(link)
    assert "it has said no hello" in caplog.text
    await trio.others_go_on("last")


async def test_a_member_that_owes_nothing_keeps_its_link(trio: Trio) -> None:
    """Silence is no fault: between two changes nobody has anything to say."""
    trio.anna.links.patience = 0.05
    link = await trio.attack()
    await say(link, trio.hello(), CaughtUp())
    await wait_until_async(lambda: trio.opened() is not None and trio.anna.links.linked(trio.bert.id), SECONDS)
    opened = trio.opened()
    assert opened is not None
    loop = asyncio.get_running_loop()
    await wait_until_async(lambda: loop.time() > opened.since + 10 * trio.anna.links.patience, SECONDS)
    assert trio.opened() is opened
    await link.close()


async def test_a_member_that_asks_and_takes_no_answer_loses_the_link(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each batch is owed an acknowledgement; only so many wait for one who does not take them."""
    monkeypatch.setattr(memory_transport, "_UNREAD_BYTES_MAX", 64)
    link = await trio.attack()
    first = trio.first()
    await say(link, trio.hello())
    sent = 0

    async def ask_without_end() -> None:
        nonlocal sent
        async with asyncio.timeout(SECONDS):
            while True:
                await say(link, Records([incoming(first)]))
                sent += 1

    with pytest.raises(LinkError):
        await ask_without_end()
    assert sent < 3 * OUTBOX_MESSAGES_MAX
    assert "it does not take what it is sent" in caplog.text
    await trio.others_go_on("last")


async def test_a_void_record_stops_nobody(trio: Trio) -> None:
    """What follows it in its feed, and what another machine builds on it, is on every machine."""
    link = await trio.attack()
    first = trio.first()
    void = trio.following(first, kind="CoupAttempted", comment="void")
    behind = trio.following(void, comment="behind")
    await say(link, trio.hello(), Records([incoming(first), incoming(void), incoming(behind)]))
    await wait_until_async(lambda: trio.anna.node.replica.state.fact(behind.id) is not None, SECONDS)
    await trio.others_go_on("built")
    last = trio.cleo.log.records[-1].record
    built = next(added.record for added in reversed(trio.anna.log.records) if added.record.envelope.after)
    assert behind.id in built.envelope.after
    assert [added.void != "" for added in trio.cleo.log.records if added.record.id in (void.id, behind.id)] == [
        True,
        False,
    ]
    assert last.envelope.machine == trio.anna.id
    await link.close()


async def test_a_farewell_in_words_of_its_own_is_no_state(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a peer calls itself is not what connstatus calls it, and no terminal obeys it."""
    link = await trio.attack()
    notes: list[tuple[str, str]] = []
    note = trio.anna.links.status.note

    def noting(machine: MachineId, state: str, reason: str) -> None:
        notes.append((state, reason))
        note(machine, state, reason)

    monkeypatch.setattr(trio.anna.links.status, "note", noting)
    await say(link, trio.hello(), Bye("connected", "\x1b[2Jall is well"))
    await ended(link)
    status = trio.anna.links.status[trio.bert.id]
    await wait_until_async(lambda: any(why.endswith("all is well") for _, why in notes), SECONDS)
    assert ("dropped", "\x1b[2Jall is well") in notes
    assert status.reason.isprintable()
