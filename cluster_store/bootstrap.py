"""The one place that picks real adapters: SQLite, SSH, argon2, the system's clock and sockets.

The doors for the command line: ``initialise`` makes a store, ``serve`` runs its daemon, ``execute`` has an
operation done by the daemon where one runs and in this process where none does, ``read`` looks into the store
beside whoever writes. Importing this is cheap: a command loads what is behind the door that it goes through.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster_store.adapters import local_client
from cluster_store.adapters.local_client import NoDaemon
from cluster_store.adapters.store_folder import StoreFolder
from cluster_store.core.errors import Refused, StoreError, StoreLocked

if TYPE_CHECKING:
    from cluster_store.adapters.drafts import Draft
    from cluster_store.adapters.sqlite_audit import SqliteAudit
    from cluster_store.adapters.sqlite_reader import StoreReader
    from cluster_store.backup import Manifest, Restored
    from cluster_store.core.cluster import Removed
    from cluster_store.core.commands import Card, Command
    from cluster_store.core.roles import Caller
    from cluster_store.mending import Member, Outcome

#: Called with a sentence while a long operation goes on.
Progress = Callable[[str], None]

#: How long a command waits for whoever holds the store, seconds.
_PATIENCE_S = 5.0


def silent(_: str) -> None:
    """Tell nobody."""


def execute(root: Path, operation: str, arguments: Mapping[str, Any], progress: Progress = silent) -> dict[str, Any]:
    """Have an operation done: by the daemon if it answers, else here, under the store's lock.

    Both are tried until one works or ``_PATIENCE_S`` are over: a daemon that is just starting holds the lock
    before it answers.

    Raises:
        ClusterStoreError: whatever refused the operation; StoreLocked says who holds the store.
    """
    folder = _existing(root)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return local_client.call(folder.socket, operation, arguments, progress)
        except NoDaemon:
            # A login's process must not do by itself what the daemon would have refused.
            if local_client.login() is not None:
                raise _daemon_gone() from None
        try:
            return _alone(folder, operation, arguments, progress)
        except StoreLocked:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _existing(root: Path) -> StoreFolder:
    """Return the folder of a store that is there: nothing is to be written, not even a lock, to any other folder.

    Raises:
        StoreMissing: there is none.
        StoreError: the folder cannot be read.
    """
    folder = StoreFolder(root)
    try:
        folder.database.stat()
    except (FileNotFoundError, NotADirectoryError):
        from cluster_store.adapters.sqlite_errors import missing

        raise missing(folder.database) from None
    except OSError as error:
        raise StoreError(
            f"{root} cannot be read: {error.strerror}", "run this as the user that the store belongs to"
        ) from error
    return folder


def last_departure(root: Path) -> Removed | None:
    """Return how this machine left the cluster that it was in last, as the log kept of that tells.

    None where it left none, or where that log is not there any more or cannot be read.
    """
    kept = sorted(root.glob("former-*.db"))
    if not kept:
        return None
    from cluster_store.adapters.sqlite_reader import StoreReader

    try:
        with StoreReader(kept[-1]) as former:
            return former.cluster().departure(former.me)
    except StoreError:
        return None


def submit(root: Path, command: Command) -> dict[str, Any]:
    """Have a command carried out; return its result once it is durable."""
    import msgspec

    return execute(root, "submit", msgspec.to_builtins(command))


def stage(root: Path, command: Command) -> dict[str, Any]:
    """Have a command put into the draft of whoever asks; return what it would tell once that is durable."""
    import msgspec

    return execute(root, "stage", msgspec.to_builtins(command))


def commit(root: Path, command: Command, revision: str) -> dict[str, Any]:
    """Have a draft committed as it was looked at; return the result once the event is durable."""
    import msgspec

    return execute(root, "commit", {"command": msgspec.to_builtins(command), "revision": revision})


def draft(root: Path, user: str) -> Draft:
    """Return what somebody has staged; see ``Drafts.load``."""
    from cluster_store.adapters.drafts import Drafts

    return Drafts(StoreFolder(root).drafts).load(user)


def _alone(folder: StoreFolder, operation: str, arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    import asyncio

    from cluster_store import daemon
    from cluster_store.adapters.local_socket import os_user

    with folder.lock(f"cluster-store {operation}"):
        return asyncio.run(daemon.perform_once(folder, operation, arguments, os_user(None), progress))


def initialise(root: Path, describe: Callable[[dict[str, str]], Card], password: str) -> dict[str, Any]:
    """Make a store for this machine; see ``initialising.initialise``."""
    from cluster_store import initialising

    return initialising.initialise(StoreFolder(root), describe, password)


def serve(root: Path, ready: Callable[[dict[str, Any]], None]) -> None:
    """Run the daemon until SIGTERM or SIGINT. ``ready`` is called with its status once it accepts connections."""
    import asyncio

    from cluster_store import daemon

    folder = _existing(root)
    with _held(folder, "serve"):
        asyncio.run(daemon.serve(folder, ready))


@contextmanager
def _held(folder: StoreFolder, what: str) -> Iterator[None]:
    """Hold a store for writing, waiting for a command that is at work; a daemon is not waited for.

    Raises StoreLocked, which says who holds it.
    """
    if local_client.login() is not None:
        raise Refused(f"'{what}' works on the login host only", "run it there, as the owner of the store")
    deadline = time.monotonic() + _PATIENCE_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(folder.lock(f"cluster-store {what}"))
                break
            except StoreLocked:
                if time.monotonic() > deadline or ask_daemon(folder.root, "status") is not None:
                    raise
            time.sleep(0.05)
        yield


def read(root: Path, *, secrets: bool = True) -> StoreReader:
    """Open a store for reading, beside whoever writes to it, with the values of secrets or without.

    Raises StoreError and its kin.
    """
    from cluster_store.adapters.sqlite_reader import StoreReader

    return StoreReader(StoreFolder(root).database, secrets=secrets)


def is_login() -> bool:
    """Say whether this process serves somebody who logged in, and not the owner of the store's files."""
    return local_client.login() is not None


def whoami(root: Path) -> Caller:
    """Return whose login this process serves.

    Raises:
        Refused: the login has ended.
    """
    from cluster_store.core.roles import Caller

    told = ask_daemon(root, "whoami")
    if told is None:
        raise _daemon_gone()
    return Caller(told["user"], told["role"], told["auth"])


def _daemon_gone() -> StoreError:
    return StoreError("the daemon that this login went through is gone", "log in again once it runs")


def audit(root: Path) -> AbstractContextManager[SqliteAudit]:
    """Open a store for verification, whatever is in it. Raises StoreError and its kin."""
    from cluster_store.adapters.sqlite_audit import SqliteAudit

    return SqliteAudit.open(StoreFolder(root).database)


def backup(root: Path, target: Path | None, *, force: bool, progress: Progress) -> Manifest:
    """Write a backup to a file, or to standard output; see ``backup.save``."""
    import sys

    from cluster_store import backup

    return backup.save(_existing(root), target or sys.stdout.buffer, force=force, progress=progress)


def restore(root: Path, source: Path | None, *, force: bool, progress: Progress) -> Restored:
    """Make a store of a backup from a file, or from standard input; see ``backup.restore``."""
    import sys

    from cluster_store import backup

    folder = StoreFolder(root)
    backup.prepare(folder)
    with _held(folder, "restore"):
        return backup.restore(folder, source or sys.stdin.buffer, force=force, progress=progress)


def repair(root: Path, *, from_peers: bool, accept_loss: bool, member: Member | None, progress: Progress) -> Outcome:
    """Examine a store and mend it where that can be done; see ``repair.repair``."""
    from cluster_store import repair
    from cluster_store.adapters import ssh_client
    from cluster_store.adapters.clock import now
    from cluster_store.adapters.ssh import SshTransport

    folder = StoreFolder(root)
    repair.refuse_no_store(folder)
    with _held(folder, "repair"):
        return repair.repair(
            folder,
            from_peers=from_peers,
            accept_loss=accept_loss,
            member=member,
            transport=SshTransport,
            host_key=ssh_client.host_key,
            clock=now,
            progress=progress,
        )


def damage(root: Path) -> StoreError | None:
    """Return what is wrong with a store where something is; see ``repair.damage``."""
    from cluster_store import repair

    return repair.damage(StoreFolder(root))


def ask_daemon(root: Path, operation: str) -> dict[str, Any] | None:
    """Return the daemon's answer to an operation without arguments, None where no daemon runs."""
    try:
        return local_client.call(StoreFolder(root).socket, operation, {}, silent)
    except NoDaemon:
        return None


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password, which is all that is ever kept of one."""
    from cluster_store.adapters import passwords

    return passwords.hash_password(password)


def host_fingerprint(host: str, port: int) -> str:
    """Return the fingerprint of the host key that a machine shows; nothing is sent to it. Raises LinkError."""
    import asyncio

    from cluster_store.adapters import ssh_client

    return asyncio.run(ssh_client.fingerprint(host, port))


def fingerprint(host_key: str) -> str:
    """Return the fingerprint, ``SHA256:…``, of an OpenSSH public key line. Raises InvalidValue."""
    from cluster_store.adapters.keys import Keys

    return Keys.fingerprint(host_key)
