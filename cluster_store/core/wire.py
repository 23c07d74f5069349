"""Messages as frames: one byte that says whether the rest is compressed, then MessagePack."""

from __future__ import annotations

import msgspec
import zstandard

from cluster_store.core.effects import AnyMessage, Message
from cluster_store.core.errors import Malformed
from cluster_store.core.limits import FRAME_BYTES_MAX

#: Below this size compression costs more than it saves.
_COMPRESS_FROM = 512
_PLAIN, _ZSTD = b"\0", b"\1"

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """Return a message's frame."""
    body = _encoder.encode(message)
    if len(body) < _COMPRESS_FROM:
        return _PLAIN + body
    return _ZSTD + zstandard.ZstdCompressor(level=1).compress(body)


def decode(frame: bytes) -> AnyMessage:
    """Return a frame's message. Raises Malformed; a small frame that unpacks to a huge one is refused unopened."""
    kind, body = frame[:1], frame[1:]
    try:
        if kind == _ZSTD:
            size = zstandard.get_frame_parameters(body).content_size
            if not 0 < size <= FRAME_BYTES_MAX:
                raise Malformed(f"a frame that would unpack to {size} bytes")
            # Without a bound of ours, a frame may ask for 128 MB to be unpacked in, however little is in it.
            body = zstandard.ZstdDecompressor(max_window_size=FRAME_BYTES_MAX).decompress(body)
        elif kind != _PLAIN:
            raise Malformed("a frame of an unknown kind")
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, zstandard.ZstdError, RecursionError) as error:
        raise Malformed(f"a frame that is no message: {error}") from error
