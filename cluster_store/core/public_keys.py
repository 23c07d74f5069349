"""OpenSSH public keys, by which people log in: what is one, and how it is known to people.

Only the shape is looked at. Whether a signature is right is found out by whoever checks one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator

import msgspec

from cluster_store.core.errors import InvalidValue

#: Kinds that can log in, and the parts that such a key has behind its name, with their lengths where these are fixed.
_KINDS: dict[str, tuple[int | None, ...]] = {
    "ssh-ed25519": (32,),
    "ecdsa-sha2-nistp256": (8, 65),
    "ecdsa-sha2-nistp384": (8, 97),
    "ecdsa-sha2-nistp521": (8, 133),
    # In hardware, which wants to be touched at each login; the last part says for what it was made, as a rule ``ssh:``.
    "sk-ssh-ed25519@openssh.com": (32, None),
    "sk-ecdsa-sha2-nistp256@openssh.com": (8, 65, None),
    "ssh-rsa": (None, None),
}
#: Shorter RSA keys can be broken; longer ones take a server's time.
_RSA_BITS_MIN, _RSA_BITS_MAX = 2048, 16384
_LENGTH_BYTES = 4
_COMMENT_CHARS_MAX = 200


class PublicKey(msgspec.Struct, frozen=True):
    """One public key, as a line of an ``authorized_keys`` file without options has it."""

    kind: str
    #: Base64, as written in the line.
    data: str
    #: Whose it is, in the words of its owner.
    comment: str = ""

    @property
    def line(self) -> str:
        """The whole line."""
        return " ".join(filter(None, (self.kind, self.data, self.comment)))

    @property
    def fingerprint(self) -> str:
        """``SHA256:…``, as ``ssh-keygen -l`` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.data)).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")

    def same(self, other: PublicKey) -> bool:
        """Say whether it is the same key, whatever the comments are."""
        return (self.kind, self.data) == (other.kind, other.data)


def parse(line: str) -> PublicKey:
    """Return the key of a line. Raises InvalidValue for anything but a public key that can log in, without options."""
    if "PRIVATE KEY" in line:
        raise InvalidValue(
            "that is a private key, which nobody else should ever see", "give the file that ends in .pub"
        )
    kind, _, rest = line.strip().partition(" ")
    data, _, comment = rest.strip().partition(" ")
    if kind not in _KINDS:
        raise InvalidValue(
            f"not a public key that can log in: {line[:60]!r}",
            f"it should be one line without options, of one of the kinds {', '.join(_KINDS)}",
        )
    comment = comment.strip()
    if not comment.isprintable() or len(comment) > _COMMENT_CHARS_MAX:
        raise InvalidValue(f"the comment of an {kind} key is no short line of text", "shorten it")
    wrong = _wrong(kind, data)
    if wrong:
        raise InvalidValue(f"the {kind} key {data[:24]!r}… {wrong}", "copy the line of its .pub file as it is")
    return PublicKey(kind, data, comment)


def of_lines(lines: tuple[str, ...]) -> list[PublicKey]:
    """Return the keys among lines that a member may have written; what is none counts for nothing."""
    found = []
    for line in lines:
        try:
            found.append(parse(line))
        except InvalidValue:
            continue
    return found


def _wrong(kind: str, data: str) -> str:
    """Return what is wrong with a key's data, or ``""``."""
    try:
        blob = base64.b64decode(data, validate=True)
        name, *parts = _parts(blob)
    except (ValueError, binascii.Error):
        return "is cut off or damaged"
    if base64.b64encode(blob).decode("ascii") != data:
        return "is not written as it should be"
    lengths = _KINDS[kind]
    if name != kind.encode() or len(parts) != len(lengths):
        return "is of another kind than its line says"
    if any(length is not None and len(part) != length for part, length in zip(parts, lengths, strict=True)):
        return "has a wrong length"
    if kind == "ssh-rsa" and not _RSA_BITS_MIN <= int.from_bytes(parts[1]).bit_length() <= _RSA_BITS_MAX:
        return f"must have from {_RSA_BITS_MIN} to {_RSA_BITS_MAX} bits"
    return ""


def _parts(blob: bytes) -> Iterator[bytes]:
    """Yield the strings, each behind its length, that a key is made of. Raises ValueError."""
    while blob:
        size = int.from_bytes(blob[:_LENGTH_BYTES])
        part, blob = blob[_LENGTH_BYTES : _LENGTH_BYTES + size], blob[_LENGTH_BYTES + size :]
        if len(part) != size:
            raise ValueError("cut off")
        yield part
