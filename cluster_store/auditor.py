"""Check an export of a cluster-store log.

    python3 verify.py [--cluster ID] [--expect ID]... [FOLDER]

It needs Python 3.9 or later and the library `cryptography`, and nothing of cluster-store: this file is copied into
every export. What it checks is written down in docs/format.md, "Record format 1":

* every event's id is the hash of its envelope and seal, and the index has them all, in an order in which each comes
  after all that it followed;
* each event names the one before it of its machine, numbers have no gap, and none is of another cluster;
* every event is covered by a seal: a signature with the key of the machine that wrote it. That key is in the event
  that let the machine in, and the machine's id is the hash of the key.

Whoever makes an export can leave the newest events out, and all that follows from them, without a trace in the export
itself. Ask a second machine for the ids of its newest events, and give them with --expect. The cluster's id, which
everything hangs on, is to be known from elsewhere too: give it with --cluster.

Exit status: 0 all is as it was written, 1 it is not, 2 the export cannot be read.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FIRST_KINDS = ("MachineInitialised", "EpochBegun")
SEAL_CONTEXT = b"cluster-store/record/1"
#: A machine's public key, as an event tells it.
HEX = re.compile("[0-9a-f]{64}")


class Tampered(Exception):  # noqa: N818 - says what was found
    """An event is not what was written, or not there."""


class Unreadable(Exception):  # noqa: N818 - says what is the matter
    """The export itself cannot be read."""


def main() -> int:
    """Check the export that this file is in, or the one that is named."""
    parser = argparse.ArgumentParser(description="Check an export of a cluster-store log.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--cluster", metavar="ID", help="the cluster's id, as you know it from elsewhere")
    parser.add_argument("--expect", metavar="ID", action="append", default=[], help="an event that must be there")
    given = parser.parse_args()
    try:
        audit = Audit(given.folder)
        audit.check()
        if given.cluster and given.cluster != audit.cluster:
            raise Tampered(f"this is the cluster {audit.cluster}, not {given.cluster}")
        for event in given.expect:
            if event not in audit.events:
                raise Tampered(f"the event {event} is not there")
    except Tampered as found:
        sys.stdout.write(f"NOT as it was written: {found}\n")
        return 1
    except (Unreadable, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"all {len(audit.events)} events are as they were written, in the cluster {audit.cluster}\n")
    if not audit.complete:
        sys.stdout.write("the export is of a part of the log only\n")
    for machine, event in sorted(audit.newest.values()):
        sys.stdout.write(f"newest of {machine}: {event}\n")
    return 0


class Audit:
    """One export."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = _json((folder / "index.json").read_bytes(), "index.json")
        try:
            self.cluster: str = str(index["cluster"])
            self.complete = bool(index["complete"])
            self.ids = [str(event) for event in index["events"]]
        except (KeyError, TypeError) as error:
            raise Unreadable("index.json is not that of an export") from error
        #: Event -> (machine, epoch, number).
        self.events: dict[str, tuple[str, str, int]] = {}
        #: (machine, epoch) -> its name and newest event.
        self.newest: dict[tuple[str, str], tuple[str, str]] = {}
        self._names: dict[str, str] = {}
        self._keys: dict[str, bytes] = {}
        self._before: dict[str, str] = {}
        #: Events that no seal vouches for yet -> what they are called.
        self._unsealed: dict[str, str] = {}

    def check(self) -> None:
        """Raise Tampered at the first event that is not what was written."""
        present = {path.name for path in (self.folder / "events").iterdir()}
        for position, event in enumerate(self.ids, 1):
            name = f"{position:08}-{event[:10]}.event"
            if name not in present:
                raise Tampered(f"the event {event}, number {position} of the export, is missing: there is no {name}")
            present.remove(name)
            self._check_event(event, name, (self.folder / "events" / name).read_bytes())
        if self._unsealed:
            raise Tampered(f"{next(iter(self._unsealed.values()))}: no seal vouches for it")
        if present:
            raise Tampered(f"{min(present)} is not in the index")

    def _check_event(self, event: str, name: str, content: bytes) -> None:
        data, _, rest = content.partition(b"\n")
        try:
            seal = bytes.fromhex(rest.decode().strip())
        except ValueError:
            raise Tampered(f"{name}: its seal is none") from None
        if sha256(data + seal).hexdigest() != event:
            raise Tampered(f"{name}: it is not what was written, for its hash is another")
        if event in self.events:
            raise Tampered(f"{name}: it is there twice")
        try:
            envelope = _json(data, name)
            self._check_envelope(event, name, envelope, data, seal)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Tampered(f"{name}: it is no event of this format: {error!r}") from error

    def _check_envelope(self, event: str, name: str, envelope: dict[str, Any], data: bytes, seal: bytes) -> None:
        self._learn(envelope)
        machine, epoch, number, before = (envelope[part] for part in ("machine", "epoch", "seq", "prev"))
        told = f"{self._names.get(machine, machine)}#{number} ({event[:10]}), {name}"
        if envelope["v"] != 1:
            raise Unreadable(f"{told}: a format that this program does not know")
        if (envelope["cluster"] or event) != self.cluster:
            raise Tampered(f"{told}: it is of another cluster")
        if before:
            if self.events.get(before) != (machine, epoch, number - 1):
                raise Tampered(f"{told}: the event before it of its machine, {before}, is not there")
        elif number != 1 or envelope["kind"] not in FIRST_KINDS:
            raise Tampered(f"{told}: it does not begin at a beginning")
        for seen in (*envelope["after"], *(one for write in envelope["writes"] for one in write[2])):
            if seen not in self.events:
                raise Tampered(f"{told}: an event that it came after, {seen}, is not there")
        self.events[event] = (machine, epoch, number)
        self._before[event] = before
        self._unsealed[event] = told
        self.newest[machine, epoch] = (f"{self._names.get(machine, machine)}#{number}", event)
        if seal:
            self._check_seal(told, envelope, data, seal)
            while event in self._unsealed:
                del self._unsealed[event]
                event = self._before[event]

    def _learn(self, envelope: dict[str, Any]) -> None:
        """Take the keys and names that an event tells of machines."""
        for path, value, _ in envelope["writes"]:
            parts = str(path).split("/")
            if len(parts) != 3 or parts[0] != "machine":  # noqa: PLR2004 - machine/ID/WHAT
                continue
            machine, attribute, text = parts[1], parts[2], _text(value)
            if attribute == "hostname" and text.isprintable():
                self._names[machine] = text
            if attribute == "key" and envelope["kind"] in ("MachineInitialised", "MachineAdmitted"):
                key = bytes.fromhex(text) if HEX.fullmatch(text) else b""
                if sha256(key).hexdigest()[:32] == machine:
                    self._keys[machine] = key

    def _check_seal(self, told: str, envelope: dict[str, Any], data: bytes, seal: bytes) -> None:
        key = self._keys.get(envelope["machine"])
        if key is None:
            raise Tampered(f"{told}: nobody let its machine in")
        message = SEAL_CONTEXT + b"\0" + envelope["cluster"].encode() + b"\0" + sha256(data).digest()
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(seal, message)
        except InvalidSignature:
            raise Tampered(f"{told}: its seal is not its machine's") from None


def _text(value: Any) -> str:
    """Return the text that a write holds, "" where it holds anything else, as an event that counts for nothing may."""
    try:
        found = json.loads(value)
    except (TypeError, ValueError):
        return ""
    return found if isinstance(found, str) else ""


def _json(data: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(data, object_pairs_hook=_members)
    except ValueError as error:
        raise Unreadable(f"{name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Unreadable(f"{name} is no JSON object")
    return found


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


if __name__ == "__main__":
    sys.exit(main())
