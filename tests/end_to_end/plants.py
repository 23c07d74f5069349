"""What a process of the tests may do otherwise than the program: each change by name, made before the program runs.

Everything here brings about what would take too long, has not happened yet, or must be found out. Nothing changes how
that is dealt with.
"""

from __future__ import annotations

import sqlite3
from functools import partial

from cluster_store import dialers, documents
from cluster_store.adapters import sqlite_audit, sqlite_file, sqlite_migration, sqlite_schema, ssh
from cluster_store.adapters.ssh_link import Times


def impatient() -> None:
    """Find out a silent peer in 4 seconds, not 60; dial one that does not answer every 2 seconds, not 10."""
    vars(ssh)["Times"] = partial(Times, connect=3.0, keepalive=1.0)
    vars(dialers)["_BACKOFF_MAX_S"] = 2.0


def eager_to_save() -> None:
    """Save a document whenever something was appended that it has a part in."""
    vars(documents)["_GATHERED_MAX"] = 1
    vars(documents)["DOCUMENT_TAIL_BYTES"] = -1


def careless() -> None:
    """Answer before what is answered is on the disk. What looks for that must find it."""
    settings = tuple(setting for setting in sqlite_file._WRITING if not setting.startswith("synchronous"))
    vars(sqlite_file)["_WRITING"] = (*settings, "synchronous = OFF")


def of_the_next_version() -> None:
    """Be a version whose stores have a table more than they have now."""
    version = sqlite_schema.SCHEMA_VERSION + 1
    for module in (sqlite_schema, sqlite_file, sqlite_migration, sqlite_audit):
        assert hasattr(module, "SCHEMA_VERSION"), module
        vars(module)["SCHEMA_VERSION"] = version
    vars(sqlite_audit)["definitions"] = _definitions
    vars(sqlite_migration)["STEPS"] = (*sqlite_migration.STEPS, _add_table)


_COLOURS = "CREATE TABLE colours (name TEXT NOT NULL)"


def _add_table(connection: sqlite3.Connection) -> None:
    connection.execute(_COLOURS)


def _definitions() -> dict[str, str | None]:
    return {**sqlite_schema.definitions(), "colours": _COLOURS}


PLANTS = {plant.__name__: plant for plant in (impatient, eager_to_save, careless, of_the_next_version)}
