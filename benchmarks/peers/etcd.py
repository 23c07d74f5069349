"""etcd by its own protocol: gRPC, with the four messages that are needed written out here.

Its JSON gateway takes a quarter longer for one put, and serves half as many of 16 callers: that would not be fair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import grpc
import grpc.aio

from benchmarks import servers

NAME = "etcd"

_PUT, _RANGE, _WATCH = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch"
#: Everything that etcd holds is asked for at once.
_OPTIONS = (("grpc.max_receive_message_length", -1),)
_LENGTH_DELIMITED = 2


def commit(start: Mapping[str, str], writes: Sequence[tuple[str, str]], folder: Path) -> tuple[float, dict[str, str]]:
    """Write one after the other; return the seconds that it took, and what etcd holds then."""
    with servers.etcd(folder) as address, grpc.insecure_channel(address, options=_OPTIONS) as channel:
        put = channel.unary_unary(_PUT)
        for key, value in start.items():
            put(put_request(key, value))
        begun = perf_counter()
        for key, value in writes:
            put(put_request(key, value))
        seconds = perf_counter() - begun
        return seconds, _all(channel)


def commit_together(
    callers: int, start: Mapping[str, str], writes: Sequence[tuple[str, str]], folder: Path
) -> tuple[float, dict[str, str]]:
    """Write by so many callers at once; return the seconds that it took, and what etcd holds then."""
    with servers.etcd(folder) as address, grpc.insecure_channel(address, options=_OPTIONS) as channel:
        seconds = asyncio.run(_put_together(address, callers, start, writes))
        return seconds, _all(channel)


async def _put_together(
    address: str, callers: int, start: Mapping[str, str], writes: Sequence[tuple[str, str]]
) -> float:
    async with grpc.aio.insecure_channel(address) as channel:
        put = channel.unary_unary(_PUT)
        for key, value in start.items():
            await put(put_request(key, value))
        # A key has one caller, so that its last value is the last one written.
        shares: list[list[tuple[str, str]]] = [[] for _ in range(callers)]
        places = {key: number % callers for number, key in enumerate(dict(writes))}
        for key, value in writes:
            shares[places[key]].append((key, value))

        async def caller(share: Iterable[tuple[str, str]]) -> None:
            for key, value in share:
                await put(put_request(key, value))

        begun = perf_counter()
        await asyncio.gather(*map(caller, shares))
        return perf_counter() - begun


@contextmanager
def watched(address: str) -> Iterator[tuple[grpc.UnaryUnaryMultiCallable, Iterator[bytes]]]:
    """Watch everything in an etcd; yields how to put, and what the watch says."""
    with grpc.insecure_channel(address) as channel, grpc.insecure_channel(address) as other:
        asked = _field(1, _field(1, b"\0") + _field(2, b"\0"))
        said = other.stream_stream(_WATCH)(iter((asked,)))
        next(said)  # It watches.
        try:
            yield channel.unary_unary(_PUT), said
        finally:
            said.cancel()


def put_request(key: str, value: str) -> bytes:
    """Return the message that asks for a put."""
    return _field(1, key.encode()) + _field(2, value.encode())


def _all(channel: grpc.Channel) -> dict[str, str]:
    answer = channel.unary_unary(_RANGE)(_field(1, b"\0") + _field(2, b"\0"))
    pairs = [dict(_fields(content)) for number, content in _fields(answer) if number == 2]
    return {pair[1].decode(): pair[5].decode() for pair in pairs}


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    if number < 128:
        return bytes((number,))
    return bytes((number & 127 | 128,)) + _varint(number >> 7)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield a message's fields: its number, and its content where it is text or a message, else nothing."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        size, at = _read_varint(message, at)
        if tag & 7 == _LENGTH_DELIMITED:
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            yield tag >> 3, b""


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    number, shift = 0, 0
    while True:
        byte = message[at]
        number, at, shift = number | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return number, at
