"""``backup`` and ``restore``: a machine's store and keys in one file, and a store made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_store import bootstrap

from .progress import progress_line
from .session import note, say

if TYPE_CHECKING:
    from cluster_store.backup import Manifest

File = Annotated[str, typer.Argument(metavar="FILE", help="Where it is; - for standard input or output.")]


def backup(
    context: typer.Context,
    file: File,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
) -> None:
    """Save this machine's store and keys to a file, also while it serves.

    The file is the store as it was at one moment, checked as 'verify' does. It holds private keys and secrets:
    only its owner can read it, and it is to be kept as safe as the machine itself.
    """
    target = None if file == "-" else Path(file)
    with progress_line() as progress:
        manifest = bootstrap.backup(context.obj.root, target, force=force, progress=progress)
    note("it holds this machine's private keys and secrets: keep it as safe as the machine")
    if target is None:
        return
    told = {**_facts(manifest), "file": str(target), "bytes": target.stat().st_size}
    context.obj.show(told, lambda: say(f"{file}: {_words(manifest)}"))


def restore(
    context: typer.Context,
    file: File,
    force: Annotated[bool, typer.Option("--force", help="Put a store that is there aside, and keep it.")] = False,
) -> None:
    """Make a store of a backup.

    Its hashes, keys and log are checked before anything takes effect. It may be on another host than the backup
    was made on; but only one of the two may ever run. With its first change it begins a new epoch, and the other
    members bring back what this machine wrote after the backup.
    """
    source = None if file == "-" else Path(file)
    with progress_line() as progress:
        restored = bootstrap.restore(context.obj.root, source, force=force, progress=progress)
    manifest = restored.manifest
    told = {**_facts(manifest), "store": str(context.obj.root), "former": restored.former or None}

    def words() -> None:
        say(f"restored to {context.obj.root}: {_words(manifest)}")
        if restored.former:
            say(f"the store that was there is kept in {restored.former}")

    context.obj.show(told, words)
    if manifest.cluster_name:
        note("'cluster-store serve' takes back what it wrote after that from the other machines, in a new epoch")
        note("see that the machine that the backup was made on never runs again beside this one")


def _facts(manifest: Manifest) -> dict[str, Any]:
    return {
        "machine": manifest.machine,
        "hostname": manifest.hostname,
        "cluster": manifest.cluster_name or None,
        "cluster_id": manifest.cluster,
        "records": manifest.records,
        "log_hash": manifest.log_hash,
        "taken": manifest.taken,
    }


def _words(manifest: Manifest) -> str:
    where = f"of the cluster {manifest.cluster_name}" if manifest.cluster_name else "which is in no cluster"
    return f"{manifest.hostname}, {where}, {manifest.records} records, as of {manifest.taken}"
