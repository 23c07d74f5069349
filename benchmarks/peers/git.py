"""git by pygit2: the settings as files of a bare repository, and a commit for every change.

It is as durable as libgit2 can be made: with ``enable_fsync_gitdir`` every object and every reference is synced, and
the folder that it is in, before the commit returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

import pygit2

NAME = "git (pygit2)"

_BRANCH = "refs/heads/main"


def commit(start: Mapping[str, str], writes: Sequence[tuple[str, str]], folder: Path) -> tuple[float, dict[str, str]]:
    """Write one after the other; return the seconds that it took, and what the last commit holds."""
    repository = pygit2.init_repository(str(folder / "git"), bare=True)
    index = pygit2.Index()
    for key, value in start.items():
        _put(repository, index, key, value)
    head = _commit(repository, index.write_tree(repository), "configuration", [])
    pygit2.settings.enable_fsync_gitdir(True)
    try:
        begun = perf_counter()
        for number, (key, value) in enumerate(writes):
            tree = _with(repository, repository[head].tree, key.split("/"), value)
            head = _commit(repository, tree, f"ticket {number}", [head])
        seconds = perf_counter() - begun
    finally:
        pygit2.settings.enable_fsync_gitdir(False)
    return seconds, dict(_files(repository[head].tree))


def _put(repository: pygit2.Repository, index: pygit2.Index, key: str, value: str) -> None:
    index.add(pygit2.IndexEntry(key, repository.create_blob(value.encode()), pygit2.enums.FileMode.BLOB))


def _with(repository: pygit2.Repository, tree: pygit2.Tree | None, names: Sequence[str], value: str) -> pygit2.Oid:
    """Return a folder with one file of it changed: only the folders on the way to it are written anew."""
    builder = repository.TreeBuilder(tree) if tree is not None else repository.TreeBuilder()
    name, *inside = names
    if inside:
        below = tree[name] if tree is not None and name in tree else None
        builder.insert(name, _with(repository, below, inside, value), pygit2.enums.FileMode.TREE)
    else:
        builder.insert(name, repository.create_blob(value.encode()), pygit2.enums.FileMode.BLOB)
    return builder.write()


def _commit(repository: pygit2.Repository, tree: pygit2.Oid, comment: str, parents: list[pygit2.Oid]) -> pygit2.Oid:
    # A fixed time: the same run makes the same commits.
    who = pygit2.Signature("root", "root@mx01.example.com", 1_700_000_000, 0)
    return repository.create_commit(_BRANCH, who, who, comment, tree, parents)


def _files(tree: pygit2.Tree, inside: str = "") -> list[tuple[str, str]]:
    found = []
    for entry in tree:
        if isinstance(entry, pygit2.Tree):
            found += _files(entry, f"{inside}{entry.name}/")
        else:
            found.append((f"{inside}{entry.name}", entry.data.decode()))
    return found
