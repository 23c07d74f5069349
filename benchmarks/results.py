"""A run's result: where, when and with what it was made, and what came out."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from benchmarks import servers
from benchmarks.harness import Answered, Size

#: The product's, and the peers'.
_LIBRARIES = (
    *("aiosqlite", "asyncssh", "automerge", "cluster-store", "cryptography", "msgspec", "orjson", "PyNaCl", "typer"),
    *("zstandard", "eventsourcing", "grpcio", "loro", "nats-py", "pycrdt", "pycrdt-store", "pygit2"),
)
_ROOT = Path(__file__).parents[1]


class Result(msgspec.Struct, frozen=True):
    """What ``--json`` writes."""

    #: Of the source, with ``+`` where files differ from it; empty outside a repository.
    commit: str
    #: ISO 8601.
    at: str
    size: Size
    #: Python, SQLite, libraries and servers, as far as they are here.
    versions: dict[str, str]
    system: str
    processor: str
    cores: int
    #: Processes that wanted to run, on average in the minute before: other people's work shows in the figures.
    load_before: float
    questions: list[Answered]


def result_of(size: Size, load_before: float, questions: list[Answered]) -> Result:
    """Return a result made here and now."""
    return Result(
        commit=_commit(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        size=size,
        versions={
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            **{library: version(library) for library in _LIBRARIES if _is_here(library)},
            **servers.versions(),
        },
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        load_before=load_before,
        questions=questions,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _is_here(library: str) -> bool:
    try:
        version(library)
    except PackageNotFoundError:
        return False
    return True


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()


def write(result: Result, path: Path) -> None:
    """Write a result as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")


def read(path: Path) -> Result:
    """Read what ``write`` wrote. Raises msgspec.DecodeError and its kin."""
    return msgspec.json.decode(path.read_bytes(), type=Result)
