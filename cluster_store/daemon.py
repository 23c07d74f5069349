"""A machine's life on real adapters: making its store, serving it, joining a cluster with it.

Together with ``bootstrap`` the only module that knows which adapters are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from cluster_store import joining
from cluster_store.adapters import local_socket, passwords
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.store_folder import StoreFolder, sync_folder
from cluster_store.core.cluster import ADMIN, Machine
from cluster_store.core.commands import Card, ChangeMachine, ChangePassword, InitialiseMachine
from cluster_store.core.errors import ClusterStoreError, InvalidValue, Refused, StoreError, StoreMissing
from cluster_store.core.records import machine_id
from cluster_store.core.types import MachineId
from cluster_store.gatekeeper import Doorkeeper
from cluster_store.links import Links
from cluster_store.node import Node, open_node
from cluster_store.ports import Listener, PeerAddress, Transport
from cluster_store.service import Progress, Service, command_of

logger = logging.getLogger("cluster_store")

#: Between two rounds of housekeeping, seconds.
_HOUSEKEEPING_S = 3600.0


def now() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _stamp() -> str:
    """Return the time for the name of something that is kept."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")


# --- making a store ----------------------------------------------------------------------------------


def initialise(folder: StoreFolder, describe: Callable[[dict[str, str]], Card], password: str) -> dict[str, Any]:
    """Make a store for this machine, alone and in no cluster.

    The keys come first and the database last, by one rename: wherever this is cut short there is no store,
    and the next ``init`` begins anew.

    Args:
        folder: where; made if need be.
        describe: given the machine's public keys (``key``, ``host_key``, ``client_key``) and ``serial`` (the
            default one, from its id), returns what it says of itself.
        password: of ``admin``, or empty for none yet.

    Returns:
        ``machine``, ``hostname``, ``serial``, ``ssh_port``, ``ccs_port``.

    Raises:
        Refused: there is a store already, or something about the machine is not acceptable.
    """
    # Before anything is touched, and before the lock, which a daemon of that store may hold.
    _refuse_second(folder)
    try:
        folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.root.chmod(0o700)
    except OSError as error:
        raise StoreError(f"{folder.root} cannot be made: {error.strerror}", "choose another folder") from error
    with folder.lock("cluster-store init"):
        _refuse_second(folder)
        if folder.keys.exists():
            # Most likely an init that was cut short; but if the database was lost, the identity must not be too.
            folder.keys.rename(folder.root / f"keys.former-{_stamp()}-{os.getpid()}")
        for leftover in folder.root.glob("*.new*"):
            leftover.unlink()
        return asyncio.run(_initialise(folder, describe, password))


def _refuse_second(folder: StoreFolder) -> None:
    if folder.database.exists():
        raise Refused(f"there is already a store in {folder.root}", "use it, or choose another folder with --store")


async def _initialise(folder: StoreFolder, describe: Callable[[dict[str, str]], Card], password: str) -> dict[str, Any]:
    keys = Keys.create(folder.keys)
    me = machine_id(keys.identity_public)
    card = describe(
        {
            "key": keys.identity_public.hex(),
            "host_key": keys.host_key_line,
            "client_key": keys.client_key_line,
            "serial": me[:12].upper(),
        }
    )
    fresh = folder.root / "cluster.db.new"
    node = await open_node(await SqliteLog.create(fresh, me), me, keys.sign, now, reason="created")
    try:
        await node.start()
        hashed = passwords.hash_password(password) if password else ""
        await node.submit(
            InitialiseMachine(card=card, password=hashed, salt=os.urandom(16)), local_socket.os_user(None)
        )
    finally:
        await node.close()
    fresh.rename(folder.database)
    sync_folder(folder.root)
    return {
        "machine": me,
        "hostname": card.hostname,
        "serial": card.serial,
        "ssh_port": card.ssh_port,
        "ccs_port": card.ccs_port,
    }


# --- opening one ---------------------------------------------------------------------------------------


async def _open(folder: StoreFolder, keys: Keys) -> Node:
    me = machine_id(keys.identity_public)
    node = await open_node(await SqliteLog.open(folder.database), me, keys.sign, now)
    await node.start()
    return node


def _load_keys(folder: StoreFolder) -> Keys:
    if not folder.database.exists():
        raise StoreMissing(f"there is no store in {folder.root}", "make one with 'cluster-store init --hostname NAME'")
    return Keys.load(folder.keys)


async def perform_once(
    folder: StoreFolder, operation: str, arguments: Mapping[str, Any], user: str, progress: Progress
) -> dict[str, Any]:
    """Do one operation without a daemon. The caller holds the store's lock."""
    keys = _load_keys(folder)
    host = Host(folder, keys, await _open(folder, keys))
    try:
        return await host.answer(operation, arguments, user, progress)
    finally:
        await host.node.close()


async def serve(folder: StoreFolder, ready: Callable[[dict[str, Any]], None]) -> None:
    """Run the daemon until it is told to stop. The caller holds the store's lock."""
    keys = _load_keys(folder)
    host = Host(folder, keys, await _open(folder, keys))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await host.go_online()
        housekeeping = asyncio.create_task(host.keep_house())
        server = await local_socket.listen(folder.socket, host.answer)
        try:
            ready(host.about())
            await stop.wait()
        finally:
            housekeeping.cancel()
            server.close()
            folder.socket.unlink(missing_ok=True)
    finally:
        await host.go_offline()
        await host.node.close()


class Host:
    """A machine's node with its store and, when it serves, its listener and links."""

    def __init__(self, folder: StoreFolder, keys: Keys, node: Node) -> None:
        """Take over an open node."""
        self.folder = folder
        self.keys = keys
        self.node = node
        self.service = Service(node)
        self._listener: Listener | None = None
        self._listening_at: tuple[str, int] | None = None
        self._joining = asyncio.Lock()

    @cached_property
    def transport(self) -> Transport:
        """How this machine talks to others."""
        from cluster_store.adapters.ssh import SshTransport  # noqa: PLC0415 - a command that talks to nobody is spared it

        return SshTransport(self.keys)

    # --- serving ---------------------------------------------------------------------------------------

    async def go_online(self) -> None:
        """Listen, and begin to dial the other members. Raises StoreError where the port cannot be had."""
        links = Links(self.node, self.transport, self.node.replica.state.me)
        self.service = Service(self.node, links)
        place = _place_of(self.node.replica.cluster.machines[self.node.replica.state.me])
        self._listener, self._listening_at = await self._listen(place), place
        links.start()

    async def _listen(self, place: tuple[str, int]) -> Listener:
        assert self.service.links is not None
        door = Doorkeeper(self.node, self.service.links, passwords.verify, self.service.answer_person)
        return await self.transport.listen(*place, door)

    async def _move(self, place: tuple[str, int]) -> None:
        """Listen at another place. Raises Refused where it cannot be had; then all stays as it was."""
        assert self._listener is not None
        assert self._listening_at is not None
        # First, because of two places with one port one may contain the other.
        await self._listener.close()
        try:
            self._listener = await self._listen(place)
        except Refused:
            self._listener = await self._listen(self._listening_at)
            raise
        self._listening_at = place

    async def go_offline(self) -> None:
        """Close the listener and every link."""
        if self._listener is not None:
            await self._listener.close()
        self._listener = self._listening_at = None
        if self.service.links is not None:
            await self.service.links.stop()

    def about(self) -> dict[str, Any]:
        """Return what ``serve`` says when it is ready, and ``status`` asks of a running daemon."""
        me = self.node.replica.cluster.machines[self.node.replica.state.me]
        return {
            **self.service.status(),
            "machine": me.id,
            "hostname": me.hostname,
            "cluster": self.node.replica.cluster.name,
            "listen": self._listening_at[0] if self._listening_at else "",
            "ssh_port": self._listener.port if self._listener else me.ssh_port,
            "ccs_port": me.ccs_port,
            "fingerprint": Keys.fingerprint(self.keys.host_key_line),
            "process": os.getpid(),
        }

    async def keep_house(self) -> None:
        """Do now and then what nobody asks for."""
        while True:
            try:
                await self.node.erase_secrets()
            except StoreError as error:
                logger.warning("housekeeping was put off: %s", error.message)
            await asyncio.sleep(_HOUSEKEEPING_S)

    # --- operations ------------------------------------------------------------------------------------

    async def answer(
        self, operation: str, arguments: Mapping[str, Any], user: str, progress: Progress
    ) -> dict[str, Any]:
        """Do an operation that somebody on this machine asks for. Raises ClusterStoreError."""
        if operation == "submit":
            return await self._submit(arguments, user)
        if operation == "connstatus":
            return self.service.connstatus()
        if operation == "status":
            return self.about()
        if operation == "join":
            if self._joining.locked():
                raise Refused(
                    "this machine is joining a cluster just now", "'clusterconfig list' shows it when it is in"
                )
            async with self._joining:
                return await self._join(arguments, progress)
        if operation == "passwd":
            return await self._change_password(arguments, user)
        raise InvalidValue(f"there is no operation '{operation}'", "is the daemon of the same version as this program?")

    async def _submit(self, arguments: Mapping[str, Any], user: str) -> dict[str, Any]:
        """Carry out a command; one that moves this machine is refused where its new place cannot be had.

        Only what is asked for here moves it: if the record of its place came from a twin, both would want one place.
        """
        command, before = command_of(arguments), self._listening_at
        if before is None or not isinstance(command, ChangeMachine):
            return await self.service.submit(arguments, user)
        me = self.node.replica.cluster.machines[self.node.replica.state.me]
        asked = {name: value for name in _PLACE if (value := getattr(command, name)) is not None}
        place = _place_of(msgspec.structs.replace(me, **asked)) if asked else before
        if place != before:
            await self._move(place)
        try:
            return await self.service.submit(arguments, user)
        except ClusterStoreError:
            if place != before:
                await self._move(before)
            raise

    async def _change_password(self, arguments: Mapping[str, Any], user: str) -> dict[str, Any]:
        name = str(arguments.get("user") or ADMIN)
        password = str(arguments.get("password") or "")
        if not password:
            raise Refused("an empty password is no password", "give one of some length")
        hashed = await asyncio.to_thread(passwords.hash_password, password)
        return await self.node.submit(ChangePassword(user=name, password=hashed, salt=os.urandom(16)), user)

    async def _join(self, arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        replica = self.node.replica
        cluster = replica.cluster
        if cluster.name and len(cluster.machines) > 1:
            raise Refused(
                f"this machine is already in the cluster {cluster.name}",
                "a machine is in one cluster at a time: make another store with --store DIR",
            )
        if cluster.name:
            raise Refused(
                f"this machine is already in the cluster {cluster.name}, of which it is the only member",
                "join from a machine that is in no cluster",
            )
        try:
            invitation = joining.Invitation(**arguments["invitation"])
            fingerprint = arguments["fingerprint"]
            dry_run = bool(arguments.get("dry_run"))
        except (KeyError, TypeError) as error:
            raise InvalidValue("the request to join lacks something", "is the daemon of the same version?") from error

        async def accept(shown: str) -> bool:
            return bool(shown == fingerprint)

        me = cluster.machines[replica.state.me]
        progress(f"asking {invitation.host}:{invitation.port} to be let in")
        admission = await joining.ask(invitation, _card_of(me, self.keys), self.transport, accept, dry_run=dry_run)
        if dry_run:
            return joining.summary(admission)
        progress(f"let in to the cluster {admission.name} by {admission.hostname}")
        log = await self._fresh_log(replica.state.me, admission.cluster)
        member = PeerAddress(admission.member, invitation.host, invitation.port, admission.host_key)
        await joining.fetch(member, replica.state.me, self.keys.sign, self.transport, log, now, progress)
        former = await self._take_over()
        return {**joining.summary(admission), "former": str(former)}

    async def _fresh_log(self, me: MachineId, cluster: str) -> SqliteLog:
        for leftover in self.folder.root.glob("joining.db*"):
            leftover.unlink()
        return await SqliteLog.create(self.folder.joining, me, cluster)

    async def _take_over(self) -> Path:
        """Put the joined cluster's log in the place of this machine's former one, which is kept beside it."""
        online = self._listener is not None
        await self.go_offline()
        await self.node.close()
        former = self.folder.root / f"former-{_stamp()}.db"
        try:
            await asyncio.to_thread(_swap, self.folder, former)
        finally:
            self.node = await _open(self.folder, self.keys)
            self.service = Service(self.node)
            if online:
                await self.go_online()
        return former


#: What of a machine decides where it listens.
_PLACE = ("listen", "interfaces", "ssh_port")


def _place_of(machine: Machine) -> tuple[str, int]:
    """Return the address and port where a machine listens."""
    address = machine.listen or next(iter(machine.interfaces.values()), "")
    return address or "0.0.0.0", machine.ssh_port  # noqa: S104 - all, where none is named


def _swap(folder: StoreFolder, former: Path) -> None:
    """Replace the database by the joined one, atomically; the former one keeps a name of its own."""
    with contextlib.closing(sqlite3.connect(folder.database, timeout=10.0)) as connection:
        # A write-ahead log that stayed behind would be replayed into the database that comes next.
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError("the store is being read and cannot be replaced", "join again in a moment")
    os.link(folder.database, former)
    for beside in ("-wal", "-shm"):
        # A reader that still has the former database open keeps these two as well; the new one gets its own.
        folder.database.with_name(folder.database.name + beside).unlink(missing_ok=True)
    folder.joining.replace(folder.database)
    sync_folder(folder.root)


def _card_of(machine: Machine, keys: Keys) -> Card:
    values = {name: getattr(machine, name) for name in Card.__struct_fields__ if hasattr(machine, name)}
    return msgspec.convert({**values, "key": keys.identity_public.hex()}, Card)
