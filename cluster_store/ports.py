"""What the shell needs from the outside world, as protocols; each has one contract suite in tests/contracts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from cluster_store.core.document import Change
from cluster_store.core.effects import LogRow
from cluster_store.core.state import Draft, Facts, Needs, Stored
from cluster_store.core.types import MachineId

#: The user name by which machines log in with their keys; no person can have it.
MACHINE_USER = "machine"


class SavedDocument(msgspec.Struct, frozen=True):
    """A document as it was last saved, and the changes since, in the order they were appended."""

    saved: bytes | None
    tail: list[Change]


class StoredLog(Protocol):
    """A store that is read beside whoever writes to it."""

    @property
    def me(self) -> MachineId:
        """The machine whose store it is."""

    @property
    def cluster_id(self) -> str:
        """Id of the first record."""

    @property
    def count(self) -> int:
        """How many records there are."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Let everything inside see one state."""


class EventLog(Protocol):
    """The append-only log, its projection and the saved documents. Raises StoreError and its kin."""

    async def load(self) -> Stored:
        """Return what a replica's state is restored from."""

    async def lookup(self, needs: Needs) -> Facts:
        """Look up what a step needs. Everything asked for is answered; records that are not here with None."""

    async def append(self, draft: Draft) -> None:
        """Make a draft durable, all or nothing: records, lanes, lines, tips, changes, secrets, own line."""

    async def first_missing(self, covered: Mapping[int, int]) -> int:
        """Return the position after which to read for a peer that has lines up to these numbers (absent: nothing)."""

    async def read(self, after: int, records: int, size: int) -> list[LogRow]:
        """Return rows behind a position, in order, about so many or so many bytes, ending with a sealed one."""

    async def load_document(self, document: str) -> SavedDocument:
        """Return a document's saved form and the changes that came after it."""

    async def save_documents(self, documents: Mapping[str, bytes]) -> None:
        """Keep documents as they are after everything that is appended, and drop their tails."""

    async def erase_secrets(self, before: int) -> int:
        """Erase the values of secrets that were replaced here before a time (milliseconds); return how many."""

    async def close(self) -> None:
        """Release the store; may be called twice."""


class Resolver(Protocol):
    """Looks up names as this host does. Never raises: what is not known leads nowhere."""

    async def addresses(self, hostname: str) -> list[str]:
        """Return the addresses of a name, none where it leads nowhere."""

    async def hostname(self, address: str) -> str:
        """Return the name of an address, ``""`` where it has none."""


class Link(Protocol):
    """An ordered, authenticated, bidirectional stream of frames to one peer machine."""

    @property
    def peer(self) -> MachineId:
        """The machine that the connection is authenticated as (by its key, in either direction)."""

    @property
    def where(self) -> str:
        """Where the peer is, for people: ``host:port``."""

    async def send(self, frame: bytes) -> None:
        """Send one frame, waiting while the peer is slow; when it returns, the frame is under way, not received.

        Raises LinkError when the link is gone, OverLimit for a frame over ``FRAME_BYTES_MAX`` (nothing is sent).
        """

    async def receive(self) -> bytes | None:
        """Return the next frame, None once either side has closed the link. One task receives at a time.

        Raises Malformed, and closes, for a frame over ``FRAME_BYTES_MAX``; LinkError when the link broke instead of
        being closed. A cancelled call loses nothing: the next one returns the frame.
        """

    async def close(self) -> None:
        """Close the link; never raises, may be called twice. What the peer has not read yet may be lost."""


def announced_user(hostname: str) -> str:
    """Return the name under which an announced machine asks for something; no person can have it."""
    return f"{MACHINE_USER}:{hostname}"


def host_port(host: str, port: int) -> str:
    """Write ``host:port`` for people, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where and as whom to dial a peer. ``host_key`` is its pinned OpenSSH public key line (``ssh-ed25519 AAAA…``)."""

    machine: MachineId
    host: str
    port: int
    host_key: str


@dataclass(frozen=True, slots=True)
class Terminal:
    """What somebody sits at."""

    #: As ``TERM`` says it: ``xterm-256color``.
    kind: str
    columns: int
    rows: int


class Conversation(Protocol):
    """What a person who has logged in types and reads, until one side has enough."""

    #: As they typed it.
    user: str
    #: How it is known who they are: ``password``, ``key``, ``key+password``.
    auth: str
    #: One command line, None for a prompt that takes several.
    command: str | None
    #: None where the input is no terminal's.
    terminal: Terminal | None
    #: Set once the person is gone, or wants whatever goes on to end.
    gone: asyncio.Event

    def on_resize(self, tell: Callable[[Terminal], None]) -> None:
        """Let somebody know whenever the terminal has another size."""

    async def read(self) -> bytes:
        """Return what was typed next, nothing at the end."""

    async def write(self, data: bytes, *, error: bool = False) -> None:
        """Show something, waiting while the person's side is slow. Raises LinkError when they are gone."""

    def finish(self, status: int, notice: str = "") -> None:
        """End with an exit status, as of a command, and a sentence why where there is something to explain."""


class Gatekeeper(Protocol):
    """What a listener asks the node about whoever connects."""

    def machine_for_key(self, client_key: str) -> MachineId | None:
        """Return the machine whose record pins this OpenSSH public key line, or None."""

    def announced_for_key(self, client_key: str) -> str | None:
        """Return the hostname of the machine that was announced with this OpenSSH public key line, or None."""

    def on_stranger(self, client_key: str, source: str) -> None:
        """Hear that a machine was not let in where only machines are: this OpenSSH public key line is not known.

        It is neither pinned nor announced. ``source`` is the peer's address.
        """

    async def check_password(self, user: str, password: str, source: str) -> bool:
        """Say whether a person may log in. ``source`` is the peer's address; failures are slowed down by the node."""

    def person(self, user: str) -> object:
        """Return who has a name now, None for nobody; equal for as long as nothing about them changes."""

    def has_key(self, user: str, key: str) -> bool:
        """Say whether a person may log in with this OpenSSH public key line, once it is proven to be theirs."""

    def needs_both(self, user: str) -> bool:
        """Say whether a person must log in with a key and the password; otherwise either is enough."""

    async def on_conversation(self, conversation: Conversation) -> None:
        """Serve a person at the command line, until it ends."""

    async def on_link(self, link: Link) -> None:
        """Serve a link that a member machine opened, until it ends."""

    async def on_request(self, user: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer one request of a logged-in person (a join, for example). Errors are returned, not raised.

        An announced machine asks as the user that ``announced_user`` returns.
        """


class Listener(Protocol):
    """A listening socket."""

    port: int

    async def close(self) -> None:
        """Stop listening and drop every connection it accepted."""


class Transport(Protocol):
    """Connections between machines. Raises LinkError with one of connstatus's words."""

    async def listen(self, address: str, port: int, gatekeeper: Gatekeeper, *, machines_only: bool = False) -> Listener:
        """Listen on one address; port 0 takes a free one. Raises Refused when the address or port cannot be had.

        Where only machines are let in, no person can log in, and announced machines may ask for something.
        """

    async def dial(self, peer: PeerAddress) -> Link:
        """Connect to a member with this machine's client key, accepting only the pinned host key."""

    async def ask(
        self,
        host: str,
        port: int,
        user: str,
        password: str,
        accept_key: Callable[[str], Awaitable[bool]],
        request: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Log in to any member as a person, send one request, return the reply.

        ``accept_key`` is asked with the host key's fingerprint (``SHA256:…``) before the password is sent.
        """

    async def ask_by_key(
        self, host: str, port: int, accept_key: Callable[[str], Awaitable[bool]], request: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Log in where only machines are let in, as the machine that was announced with this one's client key.

        Sends one request and returns the reply; ``accept_key`` as for ``ask``.
        """
