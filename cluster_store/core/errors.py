"""Every error that cluster-store raises on purpose, as one tree.

    ClusterStoreError          whose fault, what to do next, whether a retry may help
    ├── Refused                the caller asked for something that cannot be done; nothing changed
    │   ├── NotFound           a name, key, event or file that is not there
    │   ├── InvalidValue       a value, name or file that cannot be kept exactly as written
    │   └── OverLimit          a size beyond a bound of ``limits.py``
    ├── StoreError             this machine's own store
    │   ├── StoreMissing       no store where one was expected
    │   ├── StoreLocked        another process is writing
    │   ├── StoreCorrupt       bytes on disk that cannot be what was written
    │   ├── StoreTooNew        written by a later version of cluster-store
    │   └── StoreFull          no room, or a disk that fails
    ├── PeerError              another machine sent or did something that cannot be accepted
    │   ├── Malformed          bytes that are not what they claim to be
    │   └── LinkError          no connection, with its ``state`` for ``connstatus``
    └── EngineError            the merge engine failed; the document is rebuilt from the log

Messages are sentences an operator can act on: what was refused and why, then ``hint``: what to do.
"""

from __future__ import annotations

from typing import ClassVar


class ClusterStoreError(Exception):
    """Base of the tree.

    Attributes:
        whose: who can mend it: ``caller``, ``store``, ``peer`` or ``engine``.
        hint: what to do next, one sentence, or ``""``.
        retry: whether the same call may succeed later without anybody changing anything.
    """

    whose: ClassVar[str] = "caller"
    retry: ClassVar[bool] = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def describe(self) -> str:
        """Return the one or two lines shown to an operator."""
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class Refused(ClusterStoreError):
    """The request cannot be carried out; nothing was changed."""


class NotFound(Refused):
    """Something that was named does not exist."""


class InvalidValue(Refused):
    """A value, name or file that cannot be kept exactly as it was written."""


class OverLimit(Refused):
    """A size beyond one of the bounds in ``limits.py``."""


class StoreError(ClusterStoreError):
    """This machine's own store cannot be used as asked."""

    whose: ClassVar[str] = "store"


class StoreMissing(StoreError):
    """There is no store in the folder."""


class StoreLocked(StoreError):
    """Another process holds the store for writing."""

    retry: ClassVar[bool] = True


class StoreCorrupt(StoreError):
    """The store's bytes are not what was written."""


class StoreTooNew(StoreError):
    """The store has a schema that this version does not know."""


class StoreFull(StoreError):
    """The disk has no room or fails; what was acknowledged is safe."""

    retry: ClassVar[bool] = True


class PeerError(ClusterStoreError):
    """Another machine is to blame."""

    whose: ClassVar[str] = "peer"


class Malformed(PeerError):
    """Bytes from outside that are not what they claim to be."""


class LinkError(PeerError):
    """There is no usable connection to a peer.

    Attributes:
        state: the word that ``connstatus`` shows, for example ``unreachable``.
    """

    retry: ClassVar[bool] = True

    def __init__(self, state: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.state = state


class EngineError(ClusterStoreError):
    """The merge engine raised or panicked."""

    whose: ClassVar[str] = "engine"
