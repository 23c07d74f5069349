"""OpenSSH public key lines, the same for a name in every run."""

from __future__ import annotations

import base64
from hashlib import sha256


def blob(*parts: bytes) -> str:
    """Return parts, each behind its length, as a line has them."""
    return base64.b64encode(b"".join(len(part).to_bytes(4) + part for part in parts)).decode()


def key_line(name: str, comment: str = "") -> str:
    """Return the line of an ed25519 key."""
    return " ".join(filter(None, ("ssh-ed25519", blob(b"ssh-ed25519", sha256(name.encode()).digest()), comment)))
