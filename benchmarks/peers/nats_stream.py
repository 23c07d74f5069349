"""NATS JetStream: a stream of settings on the disk, by nats-py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import nats
from nats.js.api import StreamConfig

from benchmarks import servers

NAME = "NATS JetStream"


def commit_together(
    callers: int, start: Mapping[str, str], writes: Sequence[tuple[str, str]], folder: Path
) -> tuple[float, dict[str, str]]:
    """Write by so many callers at once; return the seconds that it took, and what the stream says then."""
    with servers.nats(folder) as address:
        return asyncio.run(_publish(address, callers, start, writes))


async def _publish(
    address: str, callers: int, start: Mapping[str, str], writes: Sequence[tuple[str, str]]
) -> tuple[float, dict[str, str]]:
    client = await nats.connect(address)
    stream = client.jetstream()
    await stream.add_stream(StreamConfig(name="settings", subjects=["settings"]))
    for key, value in start.items():
        await stream.publish("settings", f"{key}\n{value}".encode())
    shares: list[list[tuple[str, str]]] = [[] for _ in range(callers)]
    # A key has one caller, so that its last value is the last one written.
    places = {key: number % callers for number, key in enumerate(dict(writes))}
    for key, value in writes:
        shares[places[key]].append((key, value))

    async def caller(share: Sequence[tuple[str, str]]) -> None:
        for key, value in share:
            await stream.publish("settings", f"{key}\n{value}".encode())

    begun = perf_counter()
    await asyncio.gather(*map(caller, shares))
    seconds = perf_counter() - begun
    subscription = await stream.subscribe("settings", ordered_consumer=True)
    standing = {}
    for _ in range(len(start) + len(writes)):
        key, _, value = (await subscription.next_msg(timeout=30)).data.decode().partition("\n")
        standing[key] = value
    await client.close()
    return seconds, standing
