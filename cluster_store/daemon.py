"""A machine's life on real adapters: opening its store, serving it, joining a cluster with it.

Together with ``bootstrap`` the only module that knows which adapters are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import msgspec

from cluster_store import joining, leaving, previewing, timekeeping
from cluster_store.adapters import heap, local_socket, login_process, passwords, store_swap
from cluster_store.adapters.clock import boot, now
from cluster_store.adapters.drafts import Drafts
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.resolver import SystemResolver
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.background import Background
from cluster_store.core import roles
from cluster_store.core.cluster import Machine, Removed
from cluster_store.core.commands import Card, ChangeCommunication, ChangeMachine, RemoveMachines
from cluster_store.core.errors import ClusterStoreError, InvalidValue, Refused, StoreError, StoreMissing
from cluster_store.core.records import machine_id
from cluster_store.core.roles import Caller
from cluster_store.core.types import MachineId
from cluster_store.drafting import Drafting
from cluster_store.gatekeeper import Doorkeeper
from cluster_store.links import Links
from cluster_store.listening import CCS, SSH, Listeners, places_of
from cluster_store.logins import Logins
from cluster_store.lookups import check_hostnames
from cluster_store.node import Node, open_node
from cluster_store.ports import PeerAddress, Resolver, Transport
from cluster_store.service import Progress, Service, command_of

logger = logging.getLogger("cluster_store")

#: How long a machine that leaves may take to tell whoever is linked, before it leaves anyway, seconds.
_FAREWELL_S = 10.0
#: Before it tries again what did not work, seconds.
_AGAIN_S = 5.0
#: How long whoever removes this machine is kept waiting until it stands alone, seconds.
_LEAVING_S = 60.0
#: Operations that are about the cluster which whoever asks has before their eyes.
_WRITING = ("submit", "stage", "commit")
#: So many new records leave enough memory behind to be worth giving back. Between two looks at that, seconds.
_MANY_RECORDS, _BETWEEN_LOOKS_S = 1000, 1.0
#: Between two rounds of housekeeping, seconds.
_HOUSEKEEPING_S = 3600.0


# --- opening a store -----------------------------------------------------------------------------------


async def _open(folder: StoreFolder, keys: Keys) -> Node:
    me = machine_id(keys.identity_public)
    node = await open_node(await SqliteLog.open(folder.database, me), me, keys.sign, now, boot=boot)
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
    former = store_swap.complete(folder)
    keys = _load_keys(folder)
    host = Host(folder, keys, await _open(folder, keys))
    try:
        left = await host.leave()
        if (left or former) and operation in _WRITING:
            raise Refused(
                f"{left.told if left else 'this machine left its cluster'}: it stands alone now, with the settings "
                "that it had",
                f"give the command again if it is still wanted; what the store was is kept in "
                f"{left.former if left else former}",
            )
        if operation in _WRITING:
            await timekeeping.carry_out(host.node)
        return await host.answer(operation, arguments, Caller(user), progress)
    finally:
        await host.node.close()


async def serve(folder: StoreFolder, ready: Callable[[dict[str, Any]], None]) -> None:
    """Run the daemon until it is told to stop. The caller holds the store's lock."""
    heap.keep_small()
    store_swap.complete(folder)
    keys = _load_keys(folder)
    host = Host(folder, keys, await _open(folder, keys))
    stop = asyncio.Event()
    host.node.on_failure = stop.set
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        with contextlib.suppress(ClusterStoreError):
            # What cannot be written yet is tried again while it serves.
            await timekeeping.carry_out(host.node)
        await host.go_online()
        housekeeping = Background("housekeeping")
        housekeeping.spawn(host.keep_house())
        housekeeping.spawn(host.keep_small())
        server = await local_socket.listen(folder.socket, host.answer, host.recognise)
        try:
            ready(host.about())
            await stop.wait()
            if host.node.failure is not None:
                raise host.node.failure
        finally:
            await asyncio.gather(*housekeeping.stop(), return_exceptions=True)
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
        #: Looks up hostnames, where the cluster names its machines by them.
        self.resolver: Resolver = SystemResolver()
        self.service = Service(node, resolver=self.resolver)
        self._drafting = Drafting(Drafts(folder.drafts))
        self._listeners: Listeners | None = None
        self._joining = asyncio.Lock()
        self._relocating = asyncio.Lock()
        #: Waits until this machine leaves its cluster, while it serves.
        self._following: asyncio.Task[None] | None = None
        #: Waits until a peer shows that this machine was removed.
        self._dismissing: asyncio.Task[None] | None = None
        #: Waits until another machine has changed where this one is to listen.
        self._moving: asyncio.Task[None] | None = None
        #: Takes back in time what was changed for a while.
        self._timing: asyncio.Task[None] | None = None
        #: Who is at the command line over SSH, and what ends that where they may go on no more.
        self.logins: Logins | None = None
        self._watching: asyncio.Task[None] | None = None
        self._departure: leaving.Departure | None = None

    @cached_property
    def transport(self) -> Transport:
        """How this machine talks to others."""
        from cluster_store.adapters.ssh import SshTransport  # noqa: PLC0415 - a command that talks to nobody is spared it

        return SshTransport(self.keys)

    # --- serving ---------------------------------------------------------------------------------------

    async def go_online(self) -> None:
        """Listen, and begin to dial the other members. Raises StoreError where the port cannot be had."""
        self._timing = asyncio.create_task(timekeeping.keep(self.node))
        links = Links(self.node, self.transport, self.node.replica.state.me)
        self.service = Service(self.node, links, self.resolver)
        self.logins = Logins(self.node, partial(login_process.serve, self.folder.root))
        door = Doorkeeper(self.node, links, passwords.verify, self.service.answer_person, self.logins.serve)
        listeners = Listeners(self.transport, door)
        await listeners.open(self.service.me)
        self._listeners = listeners
        self.service.deaf = listeners.deaf
        links.start()
        self._following = asyncio.create_task(self._follow_departure(links))
        self._dismissing = asyncio.create_task(self._warn_of_dismissal())
        self._moving = asyncio.create_task(self._follow_places(listeners))
        self._watching = asyncio.create_task(self.logins.watch())

    async def _follow_places(self, listeners: Listeners) -> None:
        """Listen where this machine's record says, whoever has changed it."""
        node = self.node
        followed = places_of(self.service.me)

        def changed() -> bool:
            return places_of(self.service.me) != followed

        while True:
            await node.wait_for(changed)
            async with self._relocating:
                followed = places_of(self.service.me)
                await listeners.follow(self.service.me)

    async def go_offline(self) -> None:
        """Close the listeners and every link."""
        while self._following not in (None, asyncio.current_task()):
            following, self._following = self._following, None
            assert following is not None
            # Cut short while this machine leaves its cluster, it first goes on with whatever store is there.
            following.cancel()
            await asyncio.wait({following})
        for task in (self._dismissing, self._moving, self._timing, self._watching):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self._following = self._dismissing = self._moving = self._timing = self._watching = None
        if self._listeners is not None:
            await self._listeners.close()
        self._listeners = None
        if self.service.links is not None:
            await self.service.links.stop()

    def about(self) -> dict[str, Any]:
        """Return what ``serve`` says when it is ready, and ``status`` asks of a running daemon."""
        me, listeners = self.service.me, self._listeners
        return {
            **self.service.status(),
            "machine": me.id,
            "hostname": me.hostname,
            "cluster": self.node.replica.cluster.name,
            "listen": listeners.places[SSH][0] if listeners else "",
            "ssh_port": (listeners.port(SSH) if listeners else None) or me.ssh_port,
            # None where it listens for people and not for CCS: its port could not be had.
            "ccs_port": listeners.port(CCS) if listeners else me.ccs_port,
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

    async def keep_small(self) -> None:
        """Give back the memory that taking in many records has left free."""
        heap.give_back()
        last = self.node.replica.state.position
        while True:
            await asyncio.sleep(_BETWEEN_LOOKS_S)
            position = self.node.replica.state.position
            # Where this machine has joined or left a cluster, it is another store's.
            if abs(position - last) >= _MANY_RECORDS:
                heap.give_back()
                last = position

    # --- operations ------------------------------------------------------------------------------------

    def recognise(self, token: str) -> Caller:
        """Return who a login's token is of. Raises Refused."""
        if self.logins is None:
            raise Refused("nobody is logged in here", "log in again")
        return self.logins.recognise(token)

    async def answer(
        self, operation: str, arguments: Mapping[str, Any], caller: Caller, progress: Progress
    ) -> dict[str, Any]:
        """Do an operation that somebody on this machine asks for. Raises ClusterStoreError."""
        roles.check_operation(operation, caller)
        if operation in _WRITING:
            result = await self._write(operation, arguments, caller)
            # Where somebody removed this machine while it was away, whoever changes something must not think it known.
            told = self.service.dismissed()
            return result | ({"dismissed": told} if told else {})
        if operation == "unstage":
            return await self._drafting.clear(arguments, caller)
        if operation == "whoami":
            return {"user": caller.user, "role": caller.role, "auth": caller.auth}
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
        raise InvalidValue(f"there is no operation '{operation}'", "is the daemon of the same version as this program?")

    async def _write(self, operation: str, arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        if operation == "stage":
            return await self._drafting.stage(self.node, arguments, caller)
        if operation == "commit":
            return await self._drafting.commit(self.service, arguments, caller)
        with self.logins.answering(caller) if self.logins else contextlib.nullcontext():
            return await self._submit(arguments, caller)

    async def _submit(self, arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Carry out a command; one that moves this machine is refused where its new place cannot be had."""
        command = command_of(arguments)
        if isinstance(command, RemoveMachines):
            return await self._remove(arguments, caller)
        if self._listeners is None or not isinstance(command, ChangeMachine | ChangeCommunication):
            return await self.service.submit(arguments, caller)
        async with self._relocating:
            await self._listeners.move(self.service.me, self.service.rehearsed(command, caller.user))
            try:
                return await self.service.submit(arguments, caller)
            finally:
                # Where it was refused all the same, this goes back to where the record says.
                await self._listeners.follow(self.service.me)
                if self.service.links is not None:
                    self.service.links.close_outgrown()

    async def _remove(self, arguments: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Remove machines; where this one is among them, return when it stands alone."""
        result = await self.service.submit(arguments, caller)
        if leaving.departure_of(self.node) is None:
            return result
        following = self._following
        if following is not None:
            await asyncio.wait({following}, timeout=_LEAVING_S)
            left = self._departure
        else:
            left = await self.leave()
        return result | (left.result() if left else {})

    async def _join(self, arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
        replica = self.node.replica
        cluster = replica.cluster
        if cluster.name and len(cluster.machines) > 1:
            raise Refused(
                f"this machine is already in the cluster {cluster.name}",
                "a machine is in one cluster at a time; 'clusterconfig removemachine' takes it out of that one",
            )
        if cluster.name:
            raise Refused(
                f"this machine is already in the cluster {cluster.name}, of which it is the only member",
                "join from a machine that is in no cluster; 'clusterconfig removemachine' of this one dissolves it",
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
        by_name = [admission.hostname] if admission.by == "hostname" else []
        warnings = [*admission.warnings, *await check_hostnames(self.resolver, by_name, me.hostname)]
        if dry_run:
            told = await previewing.preview(self.node, admission.offer)
            return {**joining.summary(admission), "warnings": warnings, "differences": told}
        progress(f"let in to the cluster {admission.name} by {admission.hostname}")
        log = await self._fresh_log(replica.state.me, admission.cluster)
        member = PeerAddress(admission.member, invitation.host, invitation.port, admission.host_key)
        await joining.fetch(member, replica.state.me, self.keys.sign, self.transport, log, now, progress)
        return {**joining.summary(admission), "warnings": warnings, **await self._take_over()}

    async def _fresh_log(self, me: MachineId, cluster: str) -> SqliteLog:
        for leftover in self.folder.root.glob("joining.db*"):
            leftover.unlink()
        return await SqliteLog.create(self.folder.joining, me, cluster)

    async def _take_over(self) -> dict[str, Any]:
        """Put the joined cluster's log in the place of this machine's former one; return where that is kept.

        It is kept beside it, and its settings once more as a file that 'loadconfig' reads.
        """
        former = store_swap.former_database(self.folder, store_swap.free_stamp(self.folder))
        saved = former.with_suffix(".json")
        left_out = await previewing.save_settings(self.node, saved)
        try:
            await self._change_store(lambda: store_swap.replace_database(self.folder, self.folder.joining, former))
        except BaseException:
            saved.unlink(missing_ok=True)
            raise
        return {"former": str(former), "saved": str(saved), "left_out": left_out}

    async def _change_store(self, change: Callable[[], None]) -> None:
        """Let a store's files be changed while nobody has them open; go on with what is there then."""
        online = self._listeners is not None
        await self.go_offline()
        await self.node.close()
        try:
            await asyncio.to_thread(change)
        finally:
            self.keys = Keys.load(self.folder.keys)
            self.__dict__.pop("transport", None)
            stop, self.node = self.node.on_failure, await _open(self.folder, self.keys)
            self.node.on_failure = stop
            self.service = Service(self.node, resolver=self.resolver)
            if online:
                await self.go_online()

    async def _warn_of_dismissal(self) -> None:
        """Say once in the log that this machine was removed, as soon as a peer has shown it."""
        service = self.service
        await self.node.wait_for(lambda: service.dismissed() is not None)
        logger.warning("%s", service.dismissed())

    # --- leaving a cluster -------------------------------------------------------------------------------

    async def _follow_departure(self, links: Links) -> None:
        """Leave the cluster once this machine's own log says that it is no member any more."""
        node = self.node
        while self.node is node:
            await node.wait_for(lambda: leaving.departure_of(node) is not None)
            with contextlib.suppress(TimeoutError):
                # A link closes when the other side has the record.
                async with asyncio.timeout(_FAREWELL_S):
                    await node.wait_for(lambda: not links.open_peers)
            try:
                left = await self.leave()
                if left is not None:
                    logger.warning("%s: it stands alone now; what its store was is kept in %s", left.told, left.former)
            except ClusterStoreError as error:
                logger.error("this machine cannot leave its cluster yet: %s", error.message)
                await asyncio.sleep(_AGAIN_S)

    async def leave(self) -> leaving.Departure | None:
        """Make this machine stand alone if its own log says that it is no member any more.

        Raises:
            ClusterStoreError: it cannot be done now; nothing was changed.
        """
        async with self._joining:
            left = leaving.departure_of(self.node)
            if left is None:
                return None
            fresh, when = store_swap.gather(self.folder), store_swap.free_stamp(self.folder)
            lost = await self._furnish(StoreFolder(fresh), left)
            await self._change_store(lambda: store_swap.exchange(self.folder, fresh, when))
            former = str(store_swap.former_database(self.folder, when))
            self._departure = leaving.Departure(leaving.sentence(left), former, lost)
        return self._departure

    async def _furnish(self, fresh: StoreFolder, left: Removed) -> list[str]:
        """Fill a folder with new keys and a log of what this machine was."""
        keys = await asyncio.to_thread(Keys.create, fresh.keys)
        me = machine_id(keys.identity_public)
        card = msgspec.structs.replace(
            _card_of(left, keys), host_key=keys.host_key_line, client_key=keys.client_key_line
        )
        node = await open_node(await SqliteLog.create(fresh.database, me), me, keys.sign, now, reason="created")
        try:
            await node.start()
            return await leaving.furnish(node, self.node, left, card)
        finally:
            await node.close()


def _card_of(machine: Machine, keys: Keys) -> Card:
    values = {name: getattr(machine, name) for name in Card.__struct_fields__ if hasattr(machine, name)}
    return msgspec.convert({**values, "key": keys.identity_public.hex()}, Card)
