"""The product's daemon as a process of its own, and asking it as the command line does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from benchmarks.harness import WrongAnswer
from benchmarks.servers import end
from benchmarks.workload import Change
from cluster_store.adapters import local_client
from cluster_store.adapters.sqlite_reader import StoreReader
from cluster_store.adapters.store_folder import StoreFolder

#: How long a daemon may take to start or to end on a busy host, seconds.
_PATIENCE_S = 120.0
_SALT = "AAAAAAAAAAAAAAAAAAAAAA=="


class DaemonFailed(WrongAnswer):
    """A daemon ended by itself."""


@contextlib.contextmanager
def serving(store: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon of a store until the end of the block; it answers from the beginning of the block on.

    Raises DaemonFailed.
    """
    with launched(store) as process:
        assert process.stdout is not None
        # Its status, which it prints when it is ready.
        if not process.stdout.readline():
            raise DaemonFailed(f"the daemon of {store} ended: {log_of(store)[-500:]}")
        yield process


@contextlib.contextmanager
def launched(store: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon of a store until the end of the block, without waiting until it is ready."""
    words = [sys.executable, "-m", "cluster_store_cli", "--store", str(store), "serve"]
    with (store / "serve.log").open("ab") as errors:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield process
    finally:
        end(process)
        if process.stdout is not None:
            process.stdout.close()


def log_of(store: Path) -> str:
    """Return what a store's daemons have written to standard error."""
    return (store / "serve.log").read_text(encoding="utf-8", errors="replace")


def first_answer(store: Path) -> Mapping[str, Any]:
    """Ask a daemon that is starting for its status until it answers; return that. Raises DaemonFailed."""
    deadline = monotonic() + _PATIENCE_S
    while monotonic() < deadline:
        with contextlib.suppress(local_client.NoDaemon):
            return local_client.call(StoreFolder(store).socket, "status", {}, lambda _: None)
        sleep(0.001)
    raise DaemonFailed(f"the daemon of {store} does not answer: {log_of(store)[-500:]}")


def commit(store: Path, change: Change) -> None:
    """Have a daemon commit one change."""
    local_client.call(StoreFolder(store).socket, "submit", _command(change), lambda _: None)


def request(change: Change) -> bytes:
    """Return the line that asks a daemon for a change."""
    return json.dumps({"operation": "submit", "arguments": _command(change)}).encode() + b"\n"


def wait_until_equal(one: Path, other: Path) -> None:
    """Wait until two daemons' stores have the same records. Raises DaemonFailed."""
    deadline = monotonic() + _PATIENCE_S
    while monotonic() < deadline:
        vectors = [_vector(store) for store in (one, other)]
        if vectors[0] == vectors[1]:
            return
        sleep(0.05)
    raise DaemonFailed(f"the daemons do not agree: {log_of(one)[-300:]} {log_of(other)[-300:]}")


def _vector(store: Path) -> set[tuple[str, int, str]]:
    with StoreReader(StoreFolder(store).database) as reader:
        return {(line.machine, line.seq, line.head) for line in reader.lines()}


async def commit_together(store: Path, callers: int, changes: Sequence[Change]) -> None:
    """Have a daemon commit changes for so many callers at once, each with a connection that it keeps."""
    shares: list[list[bytes]] = [[] for _ in range(callers)]
    # A key has one caller, so that its last value is the last one written.
    places = {place: number % callers for number, place in enumerate({(one.level, one.key): None for one in changes})}
    for change in changes:
        shares[places[change.level, change.key]].append(request(change))
    with local_client.short_path(StoreFolder(store).socket) as address:
        await asyncio.gather(*(_ask(address, share) for share in shares))


async def _ask(address: str, requests: Sequence[bytes]) -> None:
    reader, writer = await asyncio.open_unix_connection(address)
    for request in requests:
        writer.write(request)
        answer = await reader.readline()
        if b'"error"' in answer:
            raise DaemonFailed(f"a change was refused: {answer.decode()}")
    writer.close()


def _command(change: Change) -> dict[str, str]:
    told = {"type": "SetSetting", "level": change.level, "key": change.key, "value": change.value, "salt": _SALT}
    return {**told, "comment": change.comment}
