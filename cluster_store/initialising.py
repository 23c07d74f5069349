"""Making a machine's store: its keys, and a log that begins with what the machine says of itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from cluster_store.adapters import local_socket, passwords
from cluster_store.adapters.clock import now
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.sqlite_log import SqliteLog
from cluster_store.adapters.store_folder import StoreFolder, stamp, sync_folder
from cluster_store.core.commands import Card, InitialiseMachine
from cluster_store.core.errors import Refused, StoreError
from cluster_store.core.records import machine_id
from cluster_store.node import open_node


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
            folder.keys.rename(folder.root / f"keys.former-{stamp()}-{os.getpid()}")
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
