"""The one place that picks real adapters: SQLite, SSH, argon2, the system's clock and sockets.

Three doors for the command line: ``initialise`` makes a store, ``serve`` runs its daemon, ``execute`` has an
operation done by the daemon where one runs and in this process where none does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster_store.adapters import local_client
from cluster_store.adapters.local_client import NoDaemon
from cluster_store.adapters.local_socket import os_user
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.core.commands import Card, Command
from cluster_store.core.errors import StoreLocked
from cluster_store.service import Progress, silent, to_message

#: How long a command waits for whoever holds the store, seconds.
_PATIENCE_S = 5.0


def execute(root: Path, operation: str, arguments: Mapping[str, Any], progress: Progress = silent) -> dict[str, Any]:
    """Have an operation done: by the daemon if it answers, else here, under the store's lock.

    Both are tried until one works or ``_PATIENCE_S`` are over: a daemon that is just starting holds the lock
    before it answers.

    Raises:
        ClusterStoreError: whatever refused the operation; StoreLocked says who holds the store.
    """
    folder = StoreFolder(root)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return local_client.call(folder.socket, operation, arguments, progress)
        except NoDaemon:
            pass
        try:
            return _alone(folder, operation, arguments, progress)
        except StoreLocked:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def submit(root: Path, command: Command) -> dict[str, Any]:
    """Have a command carried out; return its result once it is durable."""
    return execute(root, "submit", to_message(command))


def _alone(folder: StoreFolder, operation: str, arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    from cluster_store import daemon  # heavy: only where no daemon did the work

    with folder.lock(f"cluster-store {operation}"):
        return asyncio.run(daemon.perform_once(folder, operation, arguments, os_user(None), progress))


def initialise(root: Path, describe: Callable[[dict[str, str]], Card], password: str) -> dict[str, Any]:
    """Make a store for this machine; see ``daemon.initialise``."""
    from cluster_store import daemon

    return daemon.initialise(StoreFolder(root), describe, password)


def serve(root: Path, ready: Callable[[dict[str, Any]], None]) -> None:
    """Run the daemon until SIGTERM or SIGINT. ``ready`` is called with its status once it accepts connections."""
    from cluster_store import daemon

    folder = StoreFolder(root)
    with folder.lock("cluster-store serve"):
        asyncio.run(daemon.serve(folder, ready))
