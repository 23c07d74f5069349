"""A change on one machine until it can be read on another: two daemons over SSH, durable on both."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from types import ModuleType

from benchmarks import daemons, peers, servers, stores
from benchmarks.harness import Contestant, Part, Place, Question, Ratio, Role, Size, Stage, Trial, Unit
from benchmarks.machines import paths_of_settings, standing_in
from benchmarks.stores import SIDES
from benchmarks.workload import Change, answer, changes, outcome
from cluster_store.adapters import local_client
from cluster_store.adapters.store_folder import StoreFolder

_P99 = "99th percentile"
#: How long the reader lets the daemons have the processor before it looks again, seconds.
_LOOK_S = 0.0001
#: How long a change may take on a busy host, seconds.
_PATIENCE_S = 60.0
#: About what a commit adds to a log.
_BLOCK = bytes(600)


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    ratios: list[Ratio] = []
    apart = stores.pair(place.shelf, 10, 1)
    invited, missing = peers.invite("etcd")
    if "etcd" in invited and (why := servers.etcd_missing()):
        del invited["etcd"]
        missing.append(why)
    parts = (Part(_P99, Unit.SECONDS),)
    for scale in scales:
        work = [change._replace(level="cluster") for change in changes("one on which all is new", scale)]
        both = [changes(hostname, 10) for hostname in SIDES]
        paths = paths_of_settings()
        standing = outcome(paths, *both) | {paths[one.level] + one.key: [one.value] for one in work}
        reach = Contestant(
            "commit here to readable there", scale, 1, answer(standing), partial(_reach, apart, work), parts=parts
        )
        run = partial(_sync, scale)
        disk = Contestant("fsync alone", scale, 1, f"{scale} blocks", run, Role.FLOOR, parts=parts)
        contestants += [reach, disk]
        for peer in invited.values():
            told = f"{scale} changes told"
            run = partial(_watch, peer, [(paths[one.level] + one.key, one.value) for one in work])
            other = Contestant("etcd, put to watch", scale, 1, told, run, Role.PEER, parts=parts)
            contestants.append(other)
            ratios.append(Ratio(reach, other, at_most=1.6))
            ratios.append(Ratio(reach.part(_P99), other.part(_P99), at_most=2.5))
        ratios.append(Ratio(reach.part(_P99), disk.part(_P99)))
    return Stage(contestants, ratios, missing=missing)


def _trial(seconds: Sequence[float], said: str) -> Trial:
    ordered = sorted(seconds)
    return Trial(ordered[len(ordered) // 2], said, {_P99: ordered[len(ordered) * 99 // 100]})


def _reach(apart: Path, work: Sequence[Change], folder: Path) -> Trial:
    shutil.copytree(apart, folder, dirs_exist_ok=True)
    here, there = (folder / hostname for hostname in SIDES)
    with daemons.serving(here), daemons.serving(there):
        daemons.wait_until_equal(here, there)
        with _asking(here) as ask, closing(_reader(there)) as reader:
            seconds = [_until_readable(ask, reader, change) for change in work]
        daemons.wait_until_equal(here, there)
    answers = {answer(standing_in(one)) for one in (here, there)}
    return _trial(seconds, " or ".join(sorted(answers)))


@contextmanager
def _asking(store: Path) -> Iterator[Callable[[Change], Callable[[], bytes]]]:
    """Yield what sends a change to a daemon; that returns what waits for the answer."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        local_client.short_path(StoreFolder(store).socket) as address,
    ):
        connection.connect(address)
        lines = connection.makefile("rb")

        def ask(change: Change) -> Callable[[], bytes]:
            connection.sendall(daemons.request(change))
            return lines.readline

        yield ask
        lines.close()


def _reader(store: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{StoreFolder(store).database}?mode=ro", uri=True, isolation_level=None)


def _until_readable(ask: Callable[[Change], Callable[[], bytes]], reader: sqlite3.Connection, change: Change) -> float:
    """Commit a change on one machine; return the seconds until a reader of the other one's store sees its record."""
    ((before,),) = reader.execute("SELECT max(position) FROM records").fetchall()
    begun = perf_counter()
    answered = ask(change)
    while reader.execute("SELECT max(position) FROM records").fetchall() == [(before,)]:
        if perf_counter() - begun > _PATIENCE_S:
            raise daemons.DaemonFailed(f"a change did not arrive: {answered().decode()}")
        sleep(_LOOK_S)
    seconds = perf_counter() - begun
    told = json.loads(answered())
    assert "result" in told, told
    return seconds


def _watch(peer: ModuleType, writes: Sequence[tuple[str, str]], folder: Path) -> Trial:
    seconds, heard = [], 0
    with servers.etcd(folder) as address, peer.watched(address) as (put, said):
        for key, value in writes:
            begun = perf_counter()
            done = put.future(peer.put_request(key, value))
            heard += value.encode() in next(said)
            seconds.append(perf_counter() - begun)
            done.result()
    return _trial(seconds, f"{heard} changes told")


def _sync(count: int, folder: Path) -> Trial:
    seconds = []
    descriptor = os.open(folder / "blocks", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(count):
            begun = perf_counter()
            os.write(descriptor, _BLOCK)
            os.fsync(descriptor)
            seconds.append(perf_counter() - begun)
    finally:
        os.close(descriptor)
    return _trial(seconds, f"{(folder / 'blocks').stat().st_size // len(_BLOCK)} blocks")


QUESTION = Question(
    name="reach",
    title="A change on one machine until it can be read on another, over SSH",
    operation="change",
    scale="changes",
    rounds={Size.SMOKE: 1, Size.REAL: 3},
    scales={Size.SMOKE: (20,), Size.REAL: (1_000,)},
    prepare=_prepare,
    daemons=True,
)
