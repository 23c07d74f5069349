"""Stores that several questions need, made once a run: full ones, and pairs that have been apart for long."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.machines import (
    FOUNDING_RECORDS,
    Machine,
    commit_in_bursts,
    configure,
    found_cluster,
    identity_of,
    machine,
)
from benchmarks.wires import meet, side
from benchmarks.workload import CROWD, MACHINES, changes
from cluster_store.adapters.keys import CLIENT_FILE, HOST_FILE, IDENTITY_FILE
from cluster_store.adapters.memory_transport import MemoryNetwork, MemoryTransport
from cluster_store.adapters.passwords import hash_password
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.joining import fetch
from cluster_store.node import Node

#: The two machines of a pair; the first one has the full stores too.
SIDES = MACHINES[:2]
#: Of ``admin``.
PASSWORD = "korrektes Pferd"  # noqa: S105 - guards nothing


def full(shelf: Path, records: int, burst: int = 16) -> Path:
    """Return the store of the first machine with so many records, as many under each seal as one burst brings.

    It is shared: whoever writes to it takes a copy.
    """
    folder = shelf / f"full-{records}-{burst}"
    if not folder.exists():
        _make(folder, lambda fresh: _fill(fresh, records, burst))
    return folder


def pair(shelf: Path, scale: int, burst: int) -> Path:
    """Return a folder with the stores of two machines that committed so many changes each since they last met.

    It is shared: whoever lets them meet takes a copy.
    """
    folder = shelf / f"pair-{scale}-{burst}"
    if not folder.exists():
        _make(folder, lambda fresh: _part(fresh, scale, burst))
    return folder


def circle(shelf: Path, feeds: int) -> Path:
    """Return a folder with the stores of two machines, equal, of a cluster in which so many have written."""
    folder = shelf / f"circle-{feeds}"
    if not folder.exists():
        _make(folder, lambda fresh: _gather(fresh, feeds))
    return folder


def free_port(host: str) -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as free:
        free.bind((host, 0))
        return int(free.getsockname()[1])


def _make(folder: Path, fill: Callable[[Path], Coroutine[None, None, None]]) -> None:
    # What was cut short has another name, and is made anew.
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    asyncio.run(fill(fresh))
    fresh.rename(folder)


async def _fill(folder: Path, records: int, burst: int) -> None:
    author = with_port(SIDES[0])
    node = await found_cluster(author, folder, password=hash_password(PASSWORD))
    await commit_in_bursts(node, changes(author.hostname, records - FOUNDING_RECORDS), burst)
    await node.close()
    keep_keys(author, folder)


async def _part(folder: Path, scale: int, burst: int) -> None:
    """One founds the cluster, the other joins it, then each goes its own way."""
    one, other = map(with_port, SIDES)
    for each in (one, other):
        (folder / each.hostname).mkdir(mode=0o700)
        keep_keys(each, folder / each.hostname)
    node = await found_cluster(one, folder / one.hostname, other, password=hash_password(PASSWORD))
    await _join(node, one, other, folder / other.hostname)
    await commit_in_bursts(node, changes(one.hostname, scale), burst)
    await node.close()
    node = await other.open(folder / other.hostname)
    await commit_in_bursts(node, changes(other.hostname, scale), burst)
    await node.close()


async def _gather(folder: Path, feeds: int) -> None:
    """One founds the cluster, all others join it, and the second hears of them all."""
    one, *others = map(machine, CROWD[:feeds])
    for each in (one, *others):
        (folder / each.hostname).mkdir()
    # Without the configuration they join in a tenth of the time.
    node = await found_cluster(one, folder / one.hostname, *others, configured=False)
    for other in others:
        await _join(node, one, other, folder / other.hostname)
    await configure(node)
    second = await others[0].open(folder / others[0].hostname)
    await meet(side(one, node), side(others[0], second))
    await node.close()
    await second.close()


async def _join(node: Node, one: Machine, other: Machine, folder: Path) -> None:
    """Let a machine that was let in fetch a member's log."""
    network = MemoryNetwork()
    async with one.online(node, network):
        log = await other.create(folder, node.replica.state.cluster)
        transport = MemoryTransport(network, other.host, other.keys)
        await fetch(one.address, other.id, other.keys.sign, transport, log, other.clock, lambda _: None)


def with_port(hostname: str) -> Machine:
    """Return a machine that a daemon can run for."""
    return machine(hostname, free_port(machine(hostname).host))


def keep_keys(author: Machine, folder: Path) -> None:
    """Put a machine's keys where its daemon looks for them."""
    keys = StoreFolder(folder).keys
    keys.mkdir(mode=0o700)
    for name, content in (
        (IDENTITY_FILE, _pem(identity_of(author.hostname))),
        (HOST_FILE, author.keys.host_private),
        (CLIENT_FILE, author.keys.client_private),
    ):
        (keys / name).touch(mode=0o600)
        (keys / name).write_bytes(content)


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
