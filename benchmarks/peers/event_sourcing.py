"""The eventsourcing library with its SQLite recorder: an aggregate of settings, saved after every event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

NAME = "eventsourcing"


class Settings(Aggregate):
    """A machine's settings."""

    @event("Started")
    def __init__(self, values: dict[str, str]) -> None:
        """Begin with a configuration."""
        self.values = values

    @event("Changed")
    def change(self, key: str, value: str, comment: str) -> None:  # noqa: ARG002 - it is kept in the event
        """Give a key another value."""
        self.values[key] = value


def commit(start: Mapping[str, str], writes: Sequence[tuple[str, str]], folder: Path) -> tuple[float, dict[str, str]]:
    """Write one after the other; return the seconds that it took, and what is read from the events then.

    The library's own settings are as durable as the others': WAL, and SQLite's default of a full sync at every commit.
    """
    where = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "events.db")}
    application: Application = Application(env=where)
    settings = Settings(dict(start))
    application.save(settings)
    begun = perf_counter()
    for number, (key, value) in enumerate(writes):
        settings.change(key, value, f"ticket {number}")
        application.save(settings)
    seconds = perf_counter() - begun
    kept: Settings = application.repository.get(settings.id)
    application.close()
    return seconds, kept.values
