"""A store's file read without trusting it: every row as it is, and each table against what it should hold.

``sqlite_reader`` gives the commands what they rely on; this gives ``verify`` what is really there. So nothing is
decoded on the way but text, and that even where it is no UTF-8.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path as FilePath
from types import TracebackType
from typing import Any, Self

import msgspec

from cluster_store.adapters.sqlite_errors import missing, translated
from cluster_store.adapters.sqlite_projection import changes_of
from cluster_store.adapters.sqlite_rows import lane_row, line_row
from cluster_store.core.causality import Removals
from cluster_store.core.chain import Fault, Row
from cluster_store.core.document import Change
from cluster_store.core.errors import StoreCorrupt
from cluster_store.core.records import secret_hash
from cluster_store.core.registers import Secret, scope_of
from cluster_store.core.state import State
from cluster_store.core.types import MachineId, Path, RecordId
from cluster_store.verify import Meta

#: Complaints about the file's pages that SQLite is asked for.
_COMPLAINTS_MAX = 100
_BUSY_TIMEOUT_MS = 5000

_removals = msgspec.msgpack.Decoder(Removals)
