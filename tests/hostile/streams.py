"""Bytes that are sent to a daemon's port: before anybody has logged in, and in the channel of a member."""

from __future__ import annotations

from random import Random

_VERSION = b"SSH-2.0-x\r\n"


def _noise(seed: int, size: int) -> bytes:
    return Random(seed).randbytes(size)


def _packet(payload: bytes) -> bytes:
    """Return a packet as SSH has it before any key is known."""
    padding = 8 - (len(payload) + 5) % 8 + 4
    padding += -(5 + len(payload) + padding) % 8
    return (1 + len(payload) + padding).to_bytes(4) + bytes([padding]) + payload + bytes(padding)


#: What a stranger sends before the login.
LOGIN: dict[str, list[bytes]] = {
    "nothing, and an end": [b""],
    "a web browser's words": [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "random bytes": [_noise(seed, 20_000) for seed in range(20)],
    "a line without end": [b"x" * 1_000_000],
    "lines without end": [b"hello\r\n" * 100_000],
    "a version and random bytes": [_VERSION + _noise(seed, 5_000) for seed in range(20)],
    "a packet of four gigabytes": [_VERSION + b"\xff\xff\xff\xff" + bytes(100_000)],
    "packets of nothing": [_VERSION + bytes(100_000)],
    "packets of every type, with random contents": [
        _VERSION + _packet(bytes([kind]) + _noise(kind, 200)) for kind in range(0, 256, 5)
    ],
    "exchanges of keys with random contents": [
        _VERSION + _packet(b"\x14" + _noise(seed, 400)) * 3 for seed in range(20)
    ],
    "logins before any key is known": [
        _VERSION + _packet(b"\x32\0\0\0\x05admin\0\0\0\x0essh-connection\0\0\0\x04none")
    ],
    "a version of another age": [b"SSH-1.5-x\r\n"],
    "zeros": [bytes(200_000)],
}

#: What a member sends in its channel, beside frames or in their place.
CHANNEL: dict[str, list[bytes]] = {
    "random bytes": [_noise(seed, 5000) for seed in range(5)],
    "a frame of four gigabytes": [b"\xff\xff\xff\xff" + bytes(1000)],
    "frames of nothing": [bytes(4000)],
    "a frame of an unknown kind": [b"\0\0\0\x05\x07abcd"],
    "a frame that unpacks to gigabytes": [
        b"\0\0\0\x16\1\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little") * 2,
    ],
    "a frame that is cut short": [b"\0\0\1\0" + bytes(100)],
}
