"""The words of the domain as types. See docs/ARCHITECTURE.md, "Words"."""

from __future__ import annotations

from typing import NewType

#: First 16 bytes of SHA-256 of the machine's raw ed25519 identity key, 32 hex digits.
MachineId = NewType("MachineId", str)
#: SHA-256 of a record's envelope and seal, 64 hex digits.
RecordId = NewType("RecordId", str)
#: The case-folded, NFC-normalised name a group was created with, percent-encoded, ``~N`` when reused.
GroupId = NewType("GroupId", str)
#: A register's address: plain text, parts percent-encoded, joined by ``/``.
Path = NewType("Path", str)
#: Milliseconds since 1970 shifted left by 12 bits, plus a logical counter in the low bits.
HybridTime = NewType("HybridTime", int)
#: 8 random bytes as 16 hex digits: one uninterrupted life of a machine's store.
Epoch = NewType("Epoch", str)
#: A level as its path prefix: ``cluster``, ``group/<gid>`` or ``machine/<mid>``.
Level = NewType("Level", str)

HYBRID_LOGICAL_BITS = 12
