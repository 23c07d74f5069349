"""A real daemon, and clients that do as they please: before the login, and as a member whose keys were stolen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cluster_store import bootstrap
from cluster_store.adapters import ssh_client
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh_link import SshLink, Times
from cluster_store.core import wire
from cluster_store.core.causality import Leaf
from cluster_store.core.effects import PROTOCOL, Ack, CaughtUp, Hello, Message, Records
from cluster_store.core.errors import LinkError
from cluster_store.core.records import Envelope, Record, decode, encode, machine_id, record_id, seal_record
from cluster_store.core.types import Epoch, HybridTime, MachineId
from cluster_store.ports import PeerAddress
from tests.core.builders import following, incoming, write
from tests.end_to_end.machines import PATIENCE_S, Machine, converged, fleet
from tests.hostile.contents import kind_for
from tests.hostile.streams import CHANNEL, LOGIN
from tests.waiting import wait_until, wait_until_async

#: What the daemon may grow by, however it is attacked, megabytes. It is some 60 MB large itself.
GROWTH_MB = 120


class Site:
    """Anna's daemon under attack, Cleo's beside it; Bert's daemon is stopped, and his keys are in the test's hands."""

    def __init__(self, anna: Machine, bert: Machine, cleo: Machine) -> None:
        self.anna, self.bert, self.cleo = anna, bert, cleo
        self.port = int(anna.status()["ssh_port"])
        self.keys = Keys.load(bert.store / "keys")
        self.me = machine_id(self.keys.identity_public)
        with bootstrap.read(anna.store) as store, store.snapshot():
            self.cluster_id = store.cluster_id
        self.peer = PeerAddress(
            machine_id(Keys.load(anna.store / "keys").identity_public),
            anna.address,
            self.port,
            Keys.load(anna.store / "keys").host_key_line,
        )
        self.rss = self.size()

    def size(self) -> int:
        """How many megabytes of memory Anna's daemon has."""
        assert self.anna.daemon is not None
        status = Path(f"/proc/{self.anna.daemon.pid}/status").read_text(encoding="utf-8")
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) // 1024

    def log(self) -> str:
        """What Anna's daemon has written for its operator."""
        return self.anna.output.read_text(encoding="utf-8")

    def blames_bert(self, since: int) -> bool:
        """Whether the log speaks of Bert behind so many characters."""
        return self.me in self.log()[since:]

    def newest(self) -> Record:
        """Bert's newest record in Anna's store."""
        return max(self._records(self.me), key=lambda record: record.envelope.seq)

    def _records(self, machine: MachineId) -> list[Record]:
        import sqlite3  # noqa: PLC0415 - only to look at what is stored

        with sqlite3.connect(f"file:{self.anna.store / 'cluster.db'}?mode=ro", uri=True) as store:
            rows = store.execute("SELECT CAST(envelope AS BLOB), CAST(seal AS BLOB) FROM records").fetchall()
        records = [decode(data, seal or b"") for data, seal in rows]
        return [record for record in records if record.envelope.machine == machine]

    async def link(self) -> SshLink:
        """Log in as Bert."""
        return await ssh_client.dial(self.peer, self.keys, Times())

    def hello(self, vector: list[Leaf] | None = None) -> Hello:
        """Say an honest hello."""
        return Hello(
            protocol=PROTOCOL,
            cluster=self.cluster_id,
            machine=self.me,
            instance="f" * 16,
            epoch=Epoch(""),
            version="",
            time=0,
            vector=vector or [],
            detached=[],
        )

    def sealed(self, envelope: Envelope) -> Record:
        """Seal a record with Bert's identity."""
        data = encode(envelope)
        return seal_record(Record(envelope, data, b"", record_id(data, b"")), self.keys.sign)

    def still_serves(self) -> None:
        """The daemon takes a change, Cleo's daemon gets it, and it has not grown beyond its bound."""
        self.number = getattr(self, "number", 0) + 1
        self.anna.set("still.alive", str(self.number))
        wait_until(lambda: self.cleo.get("still.alive") == self.number, PATIENCE_S, what="Cleo to hear of it")
        assert self.size() < self.rss + GROWTH_MB
        assert "Traceback" not in self.log()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three machines in one cluster; the second one is hostile from now on."""
    with fleet(tmp_path_factory.mktemp("hostile")) as machines:
        anna, bert, cleo = machines.cluster("mx1", "mx2", "mx3")
        bert.stop()
        yield Site(anna, bert, cleo)


async def say(link: SshLink, *messages: Message) -> None:
    """Say messages on a link."""
    for message in messages:
        await link.send(wire.encode(message))


async def rest(link: SshLink) -> list[bytes]:
    """Return what comes until the link ends, which it must."""
    frames = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while (frame := await link.receive()) is not None:
                frames.append(frame)
    except LinkError:
        pass
    finally:
        await link.close()
    return frames


# --- before the login ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", LOGIN)
async def test_bytes_before_the_login_do_nothing(site: Site, what: str) -> None:
    """Whoever does not speak the protocol is cut off; the daemon says nothing to it but its version, and goes on."""
    for stream in LOGIN[what]:
        reader, writer = await asyncio.open_connection(site.anna.address, site.port)
        answer = b""
        try:
            async with asyncio.timeout(PATIENCE_S):
                writer.write(stream)
                writer.write_eof()
                answer = await reader.read()
        except OSError:
            # It was cut off while it was still talking.
            pass
        finally:
            writer.close()
        assert answer[:4] in (b"", b"SSH-")
    await asyncio.to_thread(site.still_serves)


async def test_connections_that_dribble_keep_nobody_out(site: Site) -> None:
    """A hundred of them, each of which sends a byte now and then, and a member is let in at once all the same."""
    pairs = [await asyncio.open_connection(site.anna.address, site.port) for _ in range(100)]
    try:
        for byte in b"SSH-":
            for _, writer in pairs:
                writer.write(bytes([byte]))
        link = await site.link()
        await link.close()
    finally:
        for _, writer in pairs:
            writer.transport.abort()
    await asyncio.to_thread(site.still_serves)


# --- as a member ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", CHANNEL)
async def test_bytes_in_the_channel_end_the_link(site: Site, what: str) -> None:
    """Of a member too; the operator finds the reason in the daemon's log, unless it was the member that ended it."""
    for stream in CHANNEL[what]:
        before = len(site.log())
        link = await site.link()
        link.stream._channel.write(stream)
        if "cut short" in what:
            link.stream.abort()
        else:
            await rest(link)
            await wait_until_async(partial(site.blames_bert, before), PATIENCE_S, what="the reason in the log")
    await asyncio.to_thread(site.still_serves)


async def test_messages_that_do_not_belong_are_answered_with_a_reason(site: Site) -> None:
    """The hostile member is told why, and nothing of its batch is kept."""
    state = site.anna.state()
    newest = await asyncio.to_thread(site.newest)
    forged = following(newest, hybrid=HybridTime(newest.envelope.hybrid + 1), comment="forged")
    stranger = seal_record(Record(forged, encode(forged), b"", newest.id), Keys.generate().sign)
    for said, why in (
        ([Ack(1)], b"before it said hello"),
        ([site.hello(), site.hello()], b"hello twice"),
        ([site.hello(), Records([incoming(stranger)])], b"whose seal is not its machine's"),
    ):
        link = await site.link()
        await say(link, *said)
        assert any(why in frame for frame in await rest(link))
    assert site.anna.state() == state
    assert "whose seal is not its machine's" in site.log()
    await asyncio.to_thread(site.still_serves)


async def test_a_void_record_stops_nobody(site: Site) -> None:
    """What follows it, and what depends on it, arrives on every machine."""
    newest = await asyncio.to_thread(site.newest)
    void = site.sealed(following(newest, kind="CoupAttempted", writes=(write("cluster/name", '"mine"'),)))
    behind = site.sealed(following(void, writes=(write("setting/cluster/behind", '"it"'),)))
    link = await site.link()
    await say(link, site.hello(), Records([incoming(void), incoming(behind)]), CaughtUp())
    await wait_until_async(lambda: site.newest().id == behind.id, PATIENCE_S, what="the record behind it")
    await link.close()
    await asyncio.to_thread(converged, site.anna, site.cleo)
    assert site.cleo.get("behind") == "it"
    assert site.anna.status()["cluster"] == "americas"
    await asyncio.to_thread(site.still_serves)


async def test_a_member_that_does_not_read_is_not_waited_for(site: Site) -> None:
    """It says hello from an empty store, and takes nothing of what it is sent; others hear of changes at once."""
    link = await site.link()
    link.stream.pause_reading()
    await say(link, site.hello())
    for _ in range(3):
        await asyncio.to_thread(site.still_serves)
    await link.close()


async def test_a_member_that_asks_without_end_and_takes_no_answer_is_dropped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is owed an acknowledgement; they are not kept for one who does not read them."""
    monkeypatch.setattr(ssh_client, "WINDOW_BYTES", 4096)
    newest = await asyncio.to_thread(site.newest)
    frame = wire.encode(Records([incoming(newest)]))
    link = await site.link()
    link.stream.pause_reading()
    await say(link, site.hello())

    async def ask_without_end() -> None:
        async with asyncio.timeout(3 * PATIENCE_S):
            while True:
                await link.send(frame)

    with pytest.raises(LinkError):
        await ask_without_end()
    await link.close()
    await asyncio.to_thread(site.still_serves)


async def test_many_links_of_one_member_leave_room_for_others(site: Site) -> None:
    """The oldest go: a machine needs one."""
    links = [await site.link() for _ in range(12)]
    gone = [asyncio.create_task(rest(link)) for link in links[:-4]]
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*gone)
    for link in links[-4:]:
        await link.close()
    await asyncio.to_thread(site.still_serves)


#: What operators look at their cluster with.
READING = (
    *(("status",), ("status", "--json"), ("clusterconfig", "list"), ("clusterconfig", "list", "--json")),
    *(("clusterconfig", "connstatus"), ("clustercheck",), ("clustercheck", "--json"), ("showconfig",)),
    *(("showconfig", "--json"), ("list",), ("list", "--json"), ("log",), ("log", "--json"), ("log", "--graph")),
    *(
        ("explain", "banner"),
        ("explain", "banner", "--json"),
        ("get", "banner"),
        ("get", "new"),
        ("clusterconfig", "clustercheck"),
    ),
)


async def test_what_is_scribbled_into_any_register_can_be_read(site: Site) -> None:
    """No command of an operator fails over it, on the machine that got it and on the one that it was passed on to."""
    newest = await asyncio.to_thread(site.newest)
    mine, other = site.peer.machine, site.me
    records = []
    for number, (path, value) in enumerate((path, value) for path in _registers(mine, other) for value in _SCRIBBLES):
        hybrid = HybridTime(newest.envelope.hybrid + 1)
        newest = site.sealed(following(newest, kind=kind_for(path), hybrid=hybrid, writes=(write(path, value),)))
        records.append(newest)
        assert number < 1400
    link = await site.link()
    for start in range(0, len(records), 200):
        await say(link, *([site.hello()] * (start == 0)), Records([incoming(r) for r in records[start : start + 200]]))
    await wait_until_async(lambda: site.newest().id == newest.id, 3 * PATIENCE_S, what="the scribbles to arrive")
    await link.close()
    for machine in (site.anna, site.cleo):
        for words in READING:
            outcome = await asyncio.to_thread(machine.run, *words)
            assert "this is a bug" not in outcome.err, f"{machine.name}: {words}: {outcome.err}"
    assert "Traceback" not in site.log()


_SCRIBBLES = (
    "17",
    '"x"',
    "null",
    "[]",
    "{}",
    '"\\u001b[2J"',
    "1e999",
    "-0",
    '{"a":1,"a":2}',
    "1" * 4500,
    '["a",1]',
    '"a\\u0000b"',
)


def _registers(mine: MachineId, other: MachineId) -> Iterator[str]:
    yield from ("cluster/by", "group/main_group/name", "group/main_group/deleted", "group/x/created", "user/eve")
    yield from ("kind/banner", "kind/new", "setting/cluster/banner", "element/cluster/new/1", "setting/group/gone/k")
    yield from ("announced/x", "setting/group/main_group/banner", "element/group/main_group/banner/%22a%22")
    about = ("hostname", "serial", "group", "interfaces", "version", "listen", "address", "detached", "removal")
    # Where Anna listens is for any member to say; a daemon that cannot listen there says so and does not start.
    spared = (f"machine/{mine}/listen", f"machine/{mine}/interfaces")
    paths = (f"machine/{machine}/{name}" for machine in (mine, other) for name in about)
    yield from (path for path in paths if path not in spared)
    yield from (f"machine/{other}/{name}" for name in ("ssh_port", "ccs_port", "host_key", "client_key", "epoch:x"))


def test_the_log_still_proves_itself(site: Site) -> None:
    """After all of this, on the machine that it happened to; and its daemon starts again with it."""
    site.anna.verify()
    site.anna.stop()
    site.anna.serve()
    converged(site.anna, site.cleo)
