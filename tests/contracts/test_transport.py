"""What every transport promises: one suite, run in memory and over SSH on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from cluster_store.adapters.keys import Keys
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.adapters.ssh import SshTransport
from cluster_store.adapters.ssh_link import PIECE_BYTES, Times
from cluster_store.core import limits
from cluster_store.core.errors import LinkError, OverLimit, Refused
from cluster_store.core.types import MachineId
from cluster_store.ports import Conversation, Link, Listener, PeerAddress, Transport
from tests.waiting import wait_until_async

PASSWORD = "correct horse battery staple"
MX1, MX2 = MachineId("1" * 32), MachineId("2" * 32)


class _Node:
    """A gatekeeper that knows one machine and one person, and keeps the links that were opened to it."""

    def __init__(self, known: dict[str, MachineId]) -> None:
        self.known = known
        self.announced: dict[str, str] = {}
        self.strangers: list[str] = []
        self.both = False
        self.links: asyncio.Queue[Link] = asyncio.Queue()
        self.asked: list[tuple[str, ...]] = []
        self.requests: list[tuple[str, Mapping[str, Any]]] = []
        self.finished = asyncio.Event()

    def machine_for_key(self, client_key: str) -> MachineId | None:
        return self.known.get(client_key)

    def announced_for_key(self, client_key: str) -> str | None:
        return self.announced.get(client_key)

    def on_stranger(self, client_key: str, source: str) -> None:
        self.strangers.append(client_key)

    async def check_password(self, user: str, password: str, source: str) -> bool:
        self.asked.append((user, password, source))
        return password == PASSWORD

    def person(self, user: str) -> object:
        return user

    def has_key(self, user: str, key: str) -> bool:
        return False

    def needs_both(self, user: str) -> bool:
        return self.both

    async def on_conversation(self, conversation: Conversation) -> None:
        raise AssertionError("no test here begins one")

    async def on_link(self, link: Link) -> None:
        self.links.put_nowait(link)
        await self.finished.wait()

    async def on_request(self, user: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.requests.append((user, request))
        return {"answer": request["question"], "machines": ["mx1", "mx2"]}


class _Pair:
    """mx1 listens, mx2 dials; mx1 knows mx2's key."""

    def __init__(self, kind: str) -> None:
        network = MemoryNetwork()
        self.kind = kind
        self.keys = {"mx1": Keys.generate(), "mx2": Keys.generate(), "stranger": Keys.generate()}
        self.transports: dict[str, Transport] = {
            name: MemoryTransport(network, f"{name}.example", keys)
            if kind == "memory"
            else SshTransport(keys, Times(close=0.5))
            for name, keys in self.keys.items()
        }
        self.host = "mx1.example" if kind == "memory" else "127.0.0.1"
        self.node = _Node({self.keys["mx2"].client_key_line: MX2})
        self.listener: Listener

    async def start(self) -> None:
        self.listener = await self.transports["mx1"].listen(self.host, 0, self.node)

    async def stop(self) -> None:
        self.node.finished.set()
        await self.listener.close()

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(MX1, self.host, self.listener.port, self.keys["mx1"].host_key_line)

    async def dial(self, caller: str = "mx2") -> Link:
        return await self.transports[caller].dial(self.address)

    async def link(self) -> tuple[Link, Link]:
        """Return both ends of a link: the one that dialled, the one that was dialled."""
        return await self.dial(), await asyncio.wait_for(self.node.links.get(), 10)

    async def ask(self, user: str = "admin", password: str = PASSWORD, *, accept: bool = True) -> Mapping[str, Any]:
        async def accept_key(fingerprint: str) -> bool:
            self.node.asked.append(("key", fingerprint))
            return accept

        return await self.transports["stranger"].ask(
            self.host, self.listener.port, user, password, accept_key, {"question": ["é", 1.5, None]}
        )


@pytest.fixture(params=["memory", "ssh"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[_Pair]:
    """A listening and a dialling machine on the transport under test."""
    made = _Pair(request.param)
    await made.start()
    yield made
    await made.stop()


def _frames_of_many_sizes() -> list[bytes]:
    """Frames around every size at which a transport might cut, and a few megabytes."""
    dice = random.Random(7)
    sizes = [0, 1, 2, 3, 4, 5, 100, 65_535, 65_536, PIECE_BYTES - 4, PIECE_BYTES, PIECE_BYTES + 1, 3_000_001, 1]
    return [dice.randbytes(size) for size in sizes]


async def _collect(link: Link, count: int) -> list[bytes | None]:
    return [await link.receive() for _ in range(count)]


# --- frames ---


async def test_frames_of_any_size_arrive_whole_and_in_order_both_ways_at_once(pair: _Pair) -> None:
    """Empty, one-byte and multi-megabyte frames come out as they went in, while as many go the other way."""
    dialled, accepted = await pair.link()
    frames = _frames_of_many_sizes()
    sending = asyncio.gather(_send_all(dialled, frames), _send_all(accepted, frames[::-1]))
    there, back = await asyncio.gather(_collect(accepted, len(frames)), _collect(dialled, len(frames)))
    await sending
    assert there == frames
    assert back == frames[::-1]


async def _send_all(link: Link, frames: list[bytes]) -> None:
    for frame in frames:
        await link.send(frame)


async def test_the_largest_allowed_frame_passes_and_a_larger_one_is_refused_before_it_is_sent(pair: _Pair) -> None:
    """The limit is inclusive; a sender that goes over it is told so, and the link is as good as before."""
    dialled, accepted = await pair.link()
    with pytest.raises(OverLimit):
        await dialled.send(bytes(limits.FRAME_BYTES_MAX + 1))
    largest = bytes(limits.FRAME_BYTES_MAX)
    received, _ = await asyncio.gather(accepted.receive(), dialled.send(largest))
    assert received == largest


async def test_frames_sent_by_several_tasks_at_once_are_not_mixed(pair: _Pair) -> None:
    """Each frame arrives in one piece, whoever else is sending."""
    dialled, accepted = await pair.link()
    frames = [bytes([number]) * (200_000 + number) for number in range(12)]
    sending = asyncio.gather(*(dialled.send(frame) for frame in frames))
    received = await _collect(accepted, len(frames))
    await sending
    assert sorted(frame or b"" for frame in received) == frames


async def test_a_cancelled_receive_loses_nothing(pair: _Pair) -> None:
    """Giving up waiting, even in the middle of a frame, leaves the frame for the next call."""
    dialled, accepted = await pair.link()
    frame = bytes(5_000_000)
    sending = asyncio.create_task(dialled.send(frame))
    for _ in range(20):
        receiving = asyncio.create_task(accepted.receive())
        await asyncio.sleep(0)
        receiving.cancel()
        result = (await asyncio.gather(receiving, return_exceptions=True))[0]
        if isinstance(result, bytes):
            break
    else:
        result = await accepted.receive()
    await sending
    assert result == frame


async def test_both_ends_know_whom_they_talk_to(pair: _Pair) -> None:
    """The dialling end names the machine it dialled, the other end the machine whose key logged in."""
    dialled, accepted = await pair.link()
    assert (dialled.peer, accepted.peer) == (MX1, MX2)
    assert dialled.where == f"{pair.host}:{pair.listener.port}"
    assert ":" in accepted.where


async def test_a_receiver_that_does_not_read_makes_the_sender_wait(pair: _Pair) -> None:
    """A sender gets rid of at most a few megabytes that nobody reads, and goes on when somebody does."""
    dialled, accepted = await pair.link()
    count, size = 200, 100_000
    accepted_bytes = 0

    async def flood() -> None:
        nonlocal accepted_bytes
        for number in range(count):
            await dialled.send(number.to_bytes(2) * (size // 2))
            accepted_bytes += size

    sending = asyncio.create_task(flood())
    await wait_until_async(_still(lambda: accepted_bytes), what="the sender to come to a stop")
    assert 0 < accepted_bytes <= 4_000_000
    assert not sending.done()
    received = await _collect(accepted, count)
    await sending
    assert [(frame or b"")[:2] for frame in received] == [number.to_bytes(2) for number in range(count)]


def _still(value: Any) -> Any:
    """Return a condition that holds once a value that has left zero was the same for twelve looks in a row."""
    seen: list[int] = []

    def condition() -> bool:
        seen.append(value())
        return seen[-1] > 0 and len(seen) >= 12 and len(set(seen[-12:])) == 1

    return condition


# --- endings ---


@pytest.mark.parametrize("closer", ["dialled", "accepted"])
async def test_closing_gives_the_other_end_what_was_sent_and_then_the_end(pair: _Pair, closer: str) -> None:
    """After a close by either end, frames under way are received, then None, for as often as one asks."""
    dialled, accepted = await pair.link()
    mine, theirs = (dialled, accepted) if closer == "dialled" else (accepted, dialled)
    await _send_all(mine, [b"one", b"two"])
    await mine.close()
    assert await _collect(theirs, 4) == [b"one", b"two", None, None]


async def test_closing_waits_for_a_peer_that_is_reading(pair: _Pair) -> None:
    """The end of a large frame that is still waiting for room is not cut off."""
    dialled, accepted = await pair.link()
    frame = bytes(3 * 512 * 1024 + 40_000)
    receiving = asyncio.create_task(_collect(accepted, 2))
    await dialled.send(frame)
    await dialled.close()
    assert await receiving == [frame, None]


async def test_a_closed_link_can_be_closed_again_and_neither_sends_nor_receives(pair: _Pair) -> None:
    """close() never raises, receive() says None, send() says that the link is gone, on both ends."""
    dialled, accepted = await pair.link()
    await dialled.close()
    await dialled.close()
    assert await dialled.receive() is None
    assert await accepted.receive() is None
    for link in (dialled, accepted):
        with pytest.raises(LinkError) as caught:
            await link.send(b"too late")
        assert caught.value.state == "dropped"
    await accepted.close()
    await accepted.close()


async def test_closing_ends_a_receive_and_a_send_that_are_waiting(pair: _Pair) -> None:
    """Whoever waits on a link that the same end closes is let go."""
    dialled, _accepted = await pair.link()
    receiving = asyncio.create_task(dialled.receive())
    sending = asyncio.create_task(_send_all(dialled, [bytes(1_000_000)] * 20))
    await asyncio.wait([sending], timeout=0.05)
    await dialled.close()
    assert await asyncio.wait_for(receiving, 10) is None
    with pytest.raises(LinkError):
        await asyncio.wait_for(sending, 10)


async def test_a_link_ends_when_the_node_has_served_it(pair: _Pair) -> None:
    """When on_link returns, the machine that dialled sees the end of the stream."""
    dialled, _accepted = await pair.link()
    pair.node.finished.set()
    assert await asyncio.wait_for(dialled.receive(), 10) is None


async def test_closing_a_listener_drops_its_links_and_refuses_new_ones(pair: _Pair) -> None:
    """The machine that dialled hears that the link was dropped; the next dial finds nobody there."""
    dialled, accepted = await pair.link()
    await asyncio.gather(pair.listener.close(), _let_go(accepted, pair.node))
    with pytest.raises(LinkError) as caught:
        await dialled.receive()
    assert caught.value.state == "dropped"
    with pytest.raises(LinkError) as caught:
        await pair.dial()
    assert caught.value.state == "unreachable"
    await pair.listener.close()


async def _let_go(link: Link, node: _Node) -> None:
    """Do what a node does when a link ends: stop serving it."""
    assert await link.receive() is None
    node.finished.set()


# --- who is let in ---


async def test_a_machine_whose_key_is_not_on_record_is_refused(pair: _Pair) -> None:
    """It hears `authentication failed`, and the node never sees a link."""
    with pytest.raises(LinkError) as caught:
        await pair.dial("stranger")
    assert caught.value.state == "authentication failed"
    assert pair.address.host in caught.value.message
    assert pair.node.links.empty()


async def test_a_machine_is_looked_up_by_its_key_at_every_dial(pair: _Pair) -> None:
    """A key that the node forgets is refused from then on."""
    await pair.link()
    pair.node.known.clear()
    with pytest.raises(LinkError) as caught:
        await pair.dial()
    assert caught.value.state == "authentication failed"


async def test_another_host_key_than_the_pinned_one_is_refused_with_both_fingerprints(pair: _Pair) -> None:
    """A machine in the place of the one on record gets no link, and the operator can compare the keys."""
    wrong = pair.keys["stranger"].host_key_line
    right = pair.keys["mx1"].host_key_line
    with pytest.raises(LinkError) as caught:
        await pair.transports["mx2"].dial(PeerAddress(MX1, pair.host, pair.listener.port, wrong))
    assert caught.value.state == "host key changed"
    assert Keys.fingerprint(wrong) in caught.value.message
    assert Keys.fingerprint(right) in caught.value.message
    assert pair.node.links.empty()


async def test_a_place_where_nobody_listens_is_unreachable(pair: _Pair) -> None:
    """The refusal names the host, the port and the reason."""
    address = pair.address
    await pair.listener.close()
    with pytest.raises(LinkError) as caught:
        await pair.transports["mx2"].dial(address)
    assert caught.value.state == "unreachable"
    assert f"{address.host}:{address.port}" in caught.value.message
    assert "refused" in caught.value.message
    assert caught.value.hint


async def test_a_name_that_cannot_be_looked_up_is_called_so(pair: _Pair) -> None:
    """`no such name` is told apart from a machine that does not answer."""
    with pytest.raises(LinkError) as caught:
        await pair.transports["mx2"].dial(PeerAddress(MX1, "no such name", 22, pair.address.host_key))
    assert caught.value.state == "no such name"
    assert "no such name:22" in caught.value.message


async def test_a_port_that_is_taken_is_refused(pair: _Pair) -> None:
    """Two listeners cannot share an address and a port; the second is told which it was."""
    with pytest.raises(Refused) as caught:
        await pair.transports["mx2"].listen(pair.host, pair.listener.port, pair.node)
    assert f"{pair.host}:{pair.listener.port}" in caught.value.message


# --- a person's request ---


async def test_a_person_who_logs_in_gets_the_answer_to_one_request(pair: _Pair) -> None:
    """The node is told who asks and from where; request and answer pass as JSON."""
    assert await pair.ask() == {"answer": ["é", 1.5, None], "machines": ["mx1", "mx2"]}
    assert pair.node.requests == [("admin", {"question": ["é", 1.5, None]})]
    (_, fingerprint), (user, password, source) = pair.node.asked
    assert fingerprint == Keys.fingerprint(pair.keys["mx1"].host_key_line)
    assert (user, password) == ("admin", PASSWORD)
    assert source in {"stranger.example", "127.0.0.1"}


async def test_a_wrong_password_is_refused_and_not_repeated(pair: _Pair) -> None:
    """The error names user and machine, never the password; the node sees no request."""
    with pytest.raises(LinkError) as caught:
        await pair.ask(password="hunter2 hunter2")
    assert caught.value.state == "authentication failed"
    assert "admin" in caught.value.message
    assert "hunter2" not in repr(caught.value) + caught.value.describe()
    assert pair.node.requests == []


async def test_a_password_alone_is_refused_where_a_key_is_needed_too(pair: _Pair) -> None:
    """The right password is not enough for a person who has to prove a key as well."""
    pair.node.both = True
    with pytest.raises(LinkError) as caught:
        await pair.ask()
    assert caught.value.state == "authentication failed"
    assert pair.node.requests == []


async def test_no_password_is_sent_to_a_host_key_that_was_not_accepted(pair: _Pair) -> None:
    """Refusing the fingerprint ends it: nobody is asked about a password."""
    with pytest.raises(LinkError) as caught:
        await pair.ask(accept=False)
    assert caught.value.state == "host key refused"
    assert [entry[0] for entry in pair.node.asked] == ["key"]


async def test_a_person_is_not_a_machine(pair: _Pair) -> None:
    """The user name of machines has no password, not even the right one of somebody else."""
    with pytest.raises(LinkError) as caught:
        await pair.ask(user="machine")
    assert caught.value.state == "authentication failed"


# --- where only machines are let in ---


async def _ask_by_key(pair: _Pair, port: int, caller: str, *, accept: bool = True) -> Mapping[str, Any]:
    async def accept_key(_fingerprint: str) -> bool:
        return accept

    return await pair.transports[caller].ask_by_key(pair.host, port, accept_key, {"question": caller})


async def test_an_announced_machine_asks_with_its_key(pair: _Pair) -> None:
    """It needs no password, and the node is told under which name it was announced; a member is told by its id."""
    pair.node.announced[pair.keys["stranger"].client_key_line] = "mx9"
    doors = await pair.transports["mx1"].listen(pair.host, 0, pair.node, machines_only=True)
    for caller, user in (("stranger", "machine:mx9"), ("mx2", f"machine:{MX2}")):
        answer = await _ask_by_key(pair, doors.port, caller)
        assert answer["answer"] == caller
        assert pair.node.requests.pop() == (user, {"question": caller})
    link = await pair.transports["mx2"].dial(PeerAddress(MX1, pair.host, doors.port, pair.address.host_key))
    assert (await asyncio.wait_for(pair.node.links.get(), 10)).peer == MX2
    await link.close()
    pair.node.finished.set()
    await doors.close()


async def test_nobody_else_gets_in_where_only_machines_do(pair: _Pair) -> None:
    """No password opens it, nor does a key that nobody announced; and a key opens no other door."""
    doors = await pair.transports["mx1"].listen(pair.host, 0, pair.node, machines_only=True)

    async def accept_key(_fingerprint: str) -> bool:
        return True

    with pytest.raises(LinkError, match="does not let admin in: that is the CCS port of a cluster-store, not its SSH"):
        await pair.transports["stranger"].ask(pair.host, doors.port, "admin", PASSWORD, accept_key, {})
    with pytest.raises(LinkError, match=r"does not let this machine in$"):
        await _ask_by_key(pair, doors.port, "stranger")
    assert set(pair.node.strangers) == {pair.keys["stranger"].client_key_line}
    pair.node.announced[pair.keys["stranger"].client_key_line] = "mx9"
    with pytest.raises(LinkError, match="does not let this machine in: that is the SSH port of a cluster-store, not"):
        await _ask_by_key(pair, pair.listener.port, "stranger")
    with pytest.raises(LinkError) as caught:
        await _ask_by_key(pair, doors.port, "stranger", accept=False)
    assert caught.value.state == "host key refused"
    address = PeerAddress(MX1, pair.host, doors.port, pair.address.host_key)
    with contextlib.suppress(LinkError):
        link = await pair.transports["stranger"].dial(address)
        assert await link.receive() is None
    assert pair.node.links.empty()
    assert pair.node.requests == []
    assert pair.node.asked == []
    await doors.close()
