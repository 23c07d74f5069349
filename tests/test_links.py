"""Several machines with links in memory: forming a cluster, relaying, detaching, who may come in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from cluster_store import dialers, dialing, joining
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.memory_log import MemoryLog
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.core import commands
from cluster_store.core.errors import LinkError, Refused
from cluster_store.core.registers import CLUSTER, setting_path
from cluster_store.dialing import address_of
from cluster_store.gatekeeper import Doorkeeper
from cluster_store.leaving import departure_of
from cluster_store.peer_status import PeerStatus
from cluster_store.ports import Link, PeerAddress
from tests.sites import PASSWORD, SALT, Site, plain_verify
from tests.waiting import wait_until_async


async def accept(_fingerprint: str) -> bool:
    """Trust the host key that is shown."""
    return True


async def join(site: Site, member: Site, password: str = PASSWORD) -> None:
    """Make a machine a member, as the daemon does."""
    invitation = joining.Invitation(member.name, 22, "admin", password, "")
    admission = await joining.ask(invitation, site.card(), site.transport, accept)
    log = MemoryLog(admission.cluster)
    address = PeerAddress(admission.member, member.name, 22, admission.host_key)
    await joining.fetch(address, site.id, site.keys.sign, site.transport, log, lambda: next(site.clock), print)
    await site.end()
    site.log = log
    await site.open()
    await site.listen()


class Trio:
    """Three members of one cluster."""

    def __init__(self, sites: list[Site]) -> None:
        """Name them."""
        self.a, self.b, self.c = self.sites = sites

    def equal(self) -> bool:
        """Say whether all have the same records."""
        return len({frozenset(added.record.id for added in site.log.records) for site in self.sites}) == 1

    def linked(self) -> bool:
        """Say whether each has a link to every other."""
        return all(one.links.linked(other.id) for one in self.sites for other in self.sites if one is not other)


@pytest_asyncio.fixture
async def trio() -> AsyncIterator[Trio]:
    """Give three machines that have formed a cluster."""
    network = MemoryNetwork()
    sites = [Site(network, name) for name in ("a", "b", "c")]
    for site in sites:
        await site.begin()
    await sites[0].command(commands.CreateCluster(name="americas", by="hostname", salt=SALT))
    for site in sites[1:]:
        await join(site, sites[0])
    trio = Trio(sites)
    await wait_until_async(trio.linked)
    await wait_until_async(trio.equal)
    yield trio
    for site in sites:
        await site.end()


async def test_a_change_anywhere_is_readable_everywhere(trio: Trio) -> None:
    """Every member writes, every member reads."""
    for number, site in enumerate(trio.sites):
        await site.set(f"from.{site.name}", str(number))
    for site in trio.sites:
        for number, other in enumerate(trio.sites):
            await site.has(f"from.{other.name}", str(number))


async def test_a_member_that_was_away_catches_up_and_brings_what_it_did(trio: Trio) -> None:
    """Stopping and coming back needs nobody's help, each way."""
    await trio.b.end()
    await trio.a.set("while.away", "1")
    await trio.b.open()
    await trio.b.set("offline", "2")
    await trio.b.listen()
    await trio.b.has("while.away", "1")
    await trio.c.has("offline", "2")
    await wait_until_async(trio.equal)


async def test_a_linked_machine_hears_of_its_removal_and_loses_its_links(trio: Trio) -> None:
    """From whoever removed it, in its own log; the rest goes on without it."""
    await trio.c.set("from.c", "1")
    await trio.a.has("from.c", "1")
    await trio.a.command(commands.RemoveMachines(machines=("c",)))
    await wait_until_async(lambda: departure_of(trio.c.node))
    await wait_until_async(lambda: trio.c.id not in {*trio.a.links.open_peers, *trio.b.links.open_peers})
    assert trio.a.links.status[trio.c.id].state == "removed"
    await trio.b.set("after", "1")
    await trio.a.has("after", "1")
    await trio.a.has("from.c", "1")
    assert trio.c.get("after") is None
    (row,) = [row for row in trio.c.service.connstatus()["machines"] if row["hostname"] == "c"]
    assert row["state"] == "removed"
    assert row["reason"].startswith("this machine was removed from the cluster by os:root on a at ")
    with pytest.raises(Refused, match="this machine was removed"):
        await trio.c.set("after", "2")


async def test_a_machine_that_was_away_is_told_of_its_removal_and_nothing_else(trio: Trio) -> None:
    """Its key is still known, but opens no more than the reason; whether to leave is for its own operator."""
    await trio.c.end()
    await trio.a.command(commands.RemoveMachines(machines=("c",)))
    await wait_until_async(lambda: trio.c.id in trio.b.node.replica.cluster.removed)
    await trio.c.open()
    await trio.c.set("c.offline", "1")
    held = len(trio.c.log.records)
    await trio.c.listen()

    def told_by_both() -> bool:
        heard = [trio.c.links.status.get(peer.id) for peer in (trio.a, trio.b)]
        return all(status is not None and status.state == "removed" for status in heard)

    await wait_until_async(told_by_both)
    assert len(trio.c.log.records) == held
    for peer in (trio.a, trio.b):
        assert peer.get("c.offline") is None
        assert trio.c.id not in peer.links.open_peers
    told = trio.c.service.status()["removed"]
    assert told.startswith("c was removed from the cluster by os:root on a at ")
    assert told.endswith("'clusterconfig removemachine c' here makes it stand alone, with the settings that it has")
    rows = {row["hostname"]: row for row in trio.c.service.connstatus()["machines"]}
    assert [rows[name]["state"] for name in ("a", "b", "c")] == ["removed"] * 3
    # By whom and when is said once.
    assert rows["c"]["reason"] == told
    assert [rows[name]["reason"] for name in ("a", "b")] == ["this machine was removed"] * 2
    assert departure_of(trio.c.node) is None
    await trio.c.command(commands.RemoveMachines(machines=("c",)))
    assert departure_of(trio.c.node) is not None


async def test_a_machine_that_does_not_take_its_removal_loses_the_link_all_the_same(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stolen machine cannot keep a link by saying nothing."""
    monkeypatch.setattr(dialers, "_PARTING_S", 0.05)
    stuck = asyncio.Event()

    async def never(_link: int, _message: object) -> None:
        await stuck.wait()

    monkeypatch.setattr(trio.c.node, "receive", never)
    await trio.a.command(commands.RemoveMachines(machines=("c",)))
    await wait_until_async(lambda: trio.c.id not in {*trio.a.links.open_peers, *trio.b.links.open_peers})
    stuck.set()
    assert departure_of(trio.c.node) is None


async def test_records_take_the_way_round(trio: Trio) -> None:
    """With a and c unable to reach each other, b relays."""
    for one, other in ((trio.a, trio.c), (trio.c, trio.a)):
        real = one.transport.dial

        async def blocked(peer: PeerAddress, *, far: Site = other, real=real):  # type: ignore[no-untyped-def]  # noqa: ANN202, ANN001
            if peer.machine == far.id:
                raise LinkError("unreachable", "blocked", "")
            return await real(peer)

        one.transport.dial = blocked  # type: ignore[method-assign]
    opened = trio.a.links.by_peer[trio.c.id]
    await opened.link.close()
    await wait_until_async(lambda: not trio.a.links.linked(trio.c.id))
    await trio.a.set("round", '"about"')
    await trio.c.has("round", '"about"')
    assert not trio.a.links.linked(trio.c.id)


@pytest.mark.parametrize("where", ["a", "c"])
async def test_a_detachment_ends_by_a_reconnect_on_either_side(trio: Trio, where: str) -> None:
    """Both sides change things meanwhile, and all of it is everywhere afterwards."""
    await trio.a.command(commands.DetachMachines(machines=("c",)))
    await wait_until_async(lambda: trio.c.node.replica.cluster.machines[trio.c.id].detached)
    await wait_until_async(lambda: not trio.c.links.linked(trio.a.id) and not trio.c.links.linked(trio.b.id))
    await trio.a.set("side", '"a"')
    await trio.c.set("side", '"c"')
    await trio.b.has("side", '"a"')
    assert trio.c.get("side") == '"c"'
    site = trio.a if where == "a" else trio.c
    await site.command(commands.ReconnectMachines(machines=("c",)))
    await wait_until_async(trio.equal, what="all have all records")
    lanes = [site.node.replica.state.lanes[setting_path(CLUSTER, "side")] for site in trio.sites]
    assert all(len(standing) == 2 for standing in lanes)
    assert len({trio.a.get("side"), trio.b.get("side"), trio.c.get("side")}) == 1


async def test_a_wrong_password_lets_nobody_in(trio: Trio) -> None:
    """A machine without the cluster's password stays as it was."""
    stranger = Site(trio.a.network, "stranger")
    await stranger.begin()
    with pytest.raises(LinkError, match="does not let admin in"):
        await join(stranger, trio.a, "a guess")
    assert stranger.name not in [machine.hostname for machine in trio.a.node.replica.cluster.machines.values()]
    assert not stranger.node.replica.cluster.name
    await stranger.end()


async def test_a_taken_hostname_is_refused_at_the_join(trio: Trio) -> None:
    """Two machines with one name would be told apart by nobody."""
    twin = Site(trio.a.network, "b2")
    twin.name = "b"
    before = len(trio.a.log.records)
    invitation = joining.Invitation("a", 22, "admin", PASSWORD, "")
    with pytest.raises(Refused, match="hostname"):
        await joining.ask(invitation, twin.card(), twin.transport, accept)
    assert len(trio.a.log.records) == before


async def test_a_stranger_with_a_key_of_its_own_is_not_served(trio: Trio) -> None:
    """A machine that no record let in gets no link."""
    stranger = Site(trio.a.network, "stranger")
    cluster = trio.a.node.replica.cluster
    with pytest.raises(LinkError) as refused:
        await stranger.transport.dial(address_of(cluster.machines[trio.a.id], cluster))
    assert refused.value.state == "authentication failed"


async def test_connstatus_tells_the_truth(trio: Trio) -> None:
    """Each machine has a state, and a machine that is down is not called connected."""
    await wait_until_async(lambda: all(trio.a.links.linked(site.id) for site in (trio.b, trio.c)))
    await trio.b.end()

    def states() -> dict[str, str]:
        return {row["hostname"]: row["state"] for row in trio.a.service.connstatus()["machines"]}

    await wait_until_async(lambda: states() == {"a": "connected", "b": "unreachable", "c": "connected"}, what="states")
    for value in ("1", "2"):
        await trio.a.set("meanwhile", value)

    def row() -> dict[str, object]:
        return next(row for row in trio.a.service.connstatus()["machines"] if row["hostname"] == "b")

    # It has what the other one wrote before, and was told of it; that goes into the check of a store against its peers.
    own = trio.a.service.status()["heard"][trio.b.id]
    (said,) = own["own"].values()
    assert own["behind"] == 0
    assert said == max(line.seq for line in trio.a.node.replica.state.lines.values() if line.machine == trio.a.id) - 2
    # What is known of it is of the last contact: all that was written since is ahead of it.
    assert (row()["behind"], row()["ahead"]) == (0, 2)
    assert row()["as_of"] == row()["last_contact"] is not None
    await trio.b.open()
    await trio.b.listen()
    await wait_until_async(lambda: states()["b"] == "connected")
    await wait_until_async(lambda: (row()["ahead"], row()["as_of"]) == (0, None))


async def test_an_attempt_that_fails_as_the_one_before_does_not_begin_anew(trio: Trio) -> None:
    """It is told since when a link is down, not when it was tried last; another reason is news."""
    held, status = trio.a.links, PeerStatus("version differs", "9 there", since=1)
    held.status[trio.b.id] = status
    for state, reason in (("connecting", ""), ("version differs", "9 there")):
        held.status.note(trio.b.id, state, reason)
    assert (status.state, status.reason, status.since) == ("version differs", "9 there", 1)
    for state, reason in (("connecting", ""), ("version differs", "8 there")):
        held.status.note(trio.b.id, state, reason)
    assert (status.state, status.reason) == ("version differs", "8 there")
    assert status.since > 1


async def test_a_dial_that_fails_late_does_not_hide_the_link_that_came_in(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that dialled this one while this one tried in vain to reach it is connected, and is called so."""
    dialling, given_up = asyncio.Event(), asyncio.Event()

    async def dial(_peer: PeerAddress) -> None:
        dialling.set()
        await given_up.wait()
        given_up.clear()
        raise LinkError("unreachable", "no answer within 10 s")

    def state() -> str:
        return next(str(row["state"]) for row in trio.a.service.connstatus()["machines"] if row["hostname"] == "b")

    monkeypatch.setattr(trio.a.transport, "dial", dial)
    await trio.b.end()
    await dialling.wait()
    await trio.b.open()
    await trio.b.listen()
    await wait_until_async(lambda: state() == "connected")
    given_up.set()
    await wait_until_async(lambda: not given_up.is_set())
    await trio.a.set("after", "1")
    await trio.b.has("after", "1")
    assert state() == "connected"


class Trouble:
    """A transport's dial that goes wrong once, in one of several ways, and otherwise works."""

    def __init__(self, dial: Callable[[PeerAddress], Awaitable[Link]], how: str) -> None:
        """Wrap a transport's own one."""
        self._dial = dial
        self._how = how
        #: How often the trouble came.
        self.times = 0
        #: Set when what hangs is to go on.
        self.over = asyncio.Event()

    async def dial(self, peer: PeerAddress) -> Link:
        """See ``Transport``."""
        if self._how == "close hangs":
            return HangingUp(await self._dial(peer), self)
        self.times += 1
        if self.times == 1 and self._how == "dial hangs":
            while not self.over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await self.over.wait()
        elif self.times == 1 and self._how == "dial is cancelled":
            raise asyncio.CancelledError
        elif self.times == 1:
            raise RuntimeError(self._how)
        return await self._dial(peer)


class HangingUp:
    """A link that cannot be closed while there is trouble."""

    def __init__(self, link: Link, trouble: Trouble) -> None:
        """Wrap a link that works."""
        self.peer, self.where, self.send, self.receive = link.peer, link.where, link.send, link.receive
        self._link = link
        self._trouble = trouble

    async def close(self) -> None:
        """Hang, and close then."""
        self._trouble.times += 1
        await self._trouble.over.wait()
        await self._link.close()


@pytest.mark.parametrize("how", ["dial hangs", "dial is cancelled", "a fault of the program", "close hangs"])
async def test_nothing_that_goes_wrong_with_one_link_keeps_a_machine_from_dialling_again(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Where only one of two machines can dial, all depends on its going on, whatever becomes of a dial or a link."""
    monkeypatch.setattr(dialing, "_DIAL_S", 0.1)
    trouble = Trouble(trio.a.transport.dial, how)

    async def refuse(_peer: PeerAddress) -> Link:
        raise LinkError("unreachable", "this machine cannot dial")

    monkeypatch.setattr(trio.a.transport, "dial", trouble.dial)
    monkeypatch.setattr(trio.b.transport, "dial", refuse)
    try:
        for _ in range(2):
            await trio.b.end()
            await wait_until_async(lambda: not trio.a.links.linked(trio.b.id))
            await trio.b.open()
            await trio.b.listen()
            await wait_until_async(lambda: trio.a.links.linked(trio.b.id), 30.0)
        assert trouble.times
    finally:
        trouble.over.set()


@pytest.mark.parametrize("over", ["ssh", "ccs"])
async def test_a_machine_that_was_away_while_the_ports_changed_finds_its_way_back(trio: Trio, over: str) -> None:
    """It listens and dials where all did before; the others look for it there too."""
    away, *others = trio.c, trio.a, trio.b
    await away.end()
    await trio.a.command(commands.ChangeCommunication(over=over, port=2023))
    await wait_until_async(lambda: trio.b.node.replica.cluster.over == over)
    await trio.b.command(commands.ChangeCommunication(over=over, port=2024))
    await trio.a.set("meanwhile", "1")
    await wait_until_async(lambda: trio.b.get("meanwhile") == "1")
    for site in others:
        assert site.listener is not None
        await site.listener.close()
        site.listener = await site.transport.listen(
            site.name, 2024, Doorkeeper(site.node, site.links, plain_verify, site.service.answer_person)
        )
    await away.open()
    await away.listen()
    await away.has("meanwhile", "1")
    assert away.node.replica.cluster.over == over
    await wait_until_async(trio.equal)


async def test_whoever_is_removed_by_a_machine_it_removed_is_told_so(trio: Trio) -> None:
    """A stolen machine strikes back through a member that had not heard: it must be removed there too."""
    a, b, c = trio.sites
    await b.end()
    await c.end()
    assert a.service.dismissed() is None
    await a.command(commands.RemoveMachines(machines=("c",)))
    await a.end()
    for site in (b, c):
        await site.open()
        await site.listen()
    await c.command(commands.RemoveMachines(machines=("a",)))
    await wait_until_async(lambda: a.id in b.node.replica.cluster.removed, what="b to hear of it")
    await a.open()
    await a.listen()
    await wait_until_async(lambda: a.service.dismissed() is not None, what="a to be told")
    told = str(a.service.dismissed())
    assert told.startswith("a was removed from the cluster by os:root on c at ")
    assert ", by a record of c, a machine that was itself removed here (c was removed from the cluster by os:ro" in told
    assert "give 'clusterconfig removemachine c' on another member too; 'clusterconfig removemachine a' here" in told
    assert told.endswith("; until then, what is changed here reaches no member that knows of it")


async def test_connstatus_says_at_which_step_a_dial_ends(trio: Trio) -> None:
    """A name that leads nowhere, somebody else's host key, and a member that does not know this machine's key."""
    a, b, c = trio.sites

    def state_of_c() -> tuple[str, str]:
        (row,) = [row for row in a.service.connstatus()["machines"] if row["hostname"] == "c"]
        return row["state"], row["reason"]

    await c.end()
    await a.command(commands.ChangeCommunication(machine="c", address="nowhere"))
    await wait_until_async(lambda: state_of_c()[0] == "no such name", 30.0)
    assert state_of_c()[1].startswith("cannot look up the name in nowhere:22")
    await a.command(commands.ChangeCommunication(machine="c", address="b"))
    await wait_until_async(lambda: state_of_c()[0] == "host key changed", 30.0)
    told = state_of_c()[1]
    assert Keys.fingerprint(b.keys.host_key_line) in told
    assert Keys.fingerprint(c.keys.host_key_line) in told
    await a.command(commands.ChangeCommunication(machine="c", address="c"))
    # It comes back with keys that nobody knows, as from an older copy of its store.
    c.transport = MemoryTransport(c.network, "c", Keys.generate())
    await c.open()
    await c.listen()

    def states_there() -> set[str]:
        return {row["state"] for row in c.service.connstatus()["machines"] if row["hostname"] != "c"}

    await wait_until_async(lambda: states_there() == {"authentication failed"}, 30.0)


async def test_strangers_are_told_of_in_the_log_and_cannot_fill_it(
    trio: Trio, caplog: pytest.LogCaptureFixture
) -> None:
    """Who announced a machine with another one's key finds both keys there."""
    keys = [Keys.generate() for _ in range(3)]
    site = trio.a
    announced = commands.AnnounceMachine(hostname="new", serial="S", key=keys[0].client_key_line)
    await site.command(announced)
    door = Doorkeeper(site.node, site.links, plain_verify, site.service.answer_person)
    door.on_stranger(keys[1].client_key_line, "192.0.2.1:4711")
    (told,) = caplog.messages
    prints = [Keys.fingerprint(one.client_key_line) for one in keys]
    assert told == (
        f"a machine at 192.0.2.1:4711 was not let in over CCS: its key {prints[1]} is no member's that is known "
        f"here, and not announced; announced: new with {prints[0]}"
    )
    for _ in range(100):
        door.on_stranger(keys[2].client_key_line, "192.0.2.2:4711")
    assert len(caplog.messages) < 30


async def test_a_machine_that_changes_its_version_is_held_back_by_the_others(trio: Trio) -> None:
    """Its links end when it says so, not only when they break; the others go on, and it is back when they follow."""
    await trio.a.command(commands.ChangeMachine(version="9.1"))
    trio.a.links.close_outgrown()

    def states(site: Site) -> dict[str, str]:
        return {row["hostname"]: row["state"] for row in site.service.connstatus()["machines"]}

    held = {"a": "version differs", "b": "connected", "c": "connected"}
    await wait_until_async(lambda: states(trio.b) == states(trio.c) == held, what="states")
    await trio.a.set("by.a", "1")
    await trio.b.set("by.b", "1")
    await trio.c.has("by.b", "1")
    assert trio.c.get("by.a") is None
    for site in (trio.b, trio.c):
        await site.command(commands.ChangeMachine(version="9.1"))
    await trio.c.has("by.a", "1", seconds=30.0)
    await trio.a.has("by.b", "1", seconds=30.0)
