"""Command lines and all that comes of them, as files: what was asked, what was answered, what was told, how it ended.

In ``golden/*.txt`` a line that begins with ``$ `` is a command. Behind it stand its standard output, each line behind
``| ``, its standard error behind ``! ``, and its exit status where that is not 0. What differs from run to run stands
as ``ID``, ``SERIAL`` and ``TIME``. ``CLUSTER_STORE_REWRITE=1`` writes what comes of them now into the files.

The machine is mx1.example.com, in the cluster americas with the groups Main_Group and paris. It has let in
mx2.example.com, into Main_Group, and mx3.example.com, into paris, which have not been heard of.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from cluster_store import bootstrap
from cluster_store.core import commands
from tests.cli.stores import Store
from tests.core.builders import identity

FILES = sorted((Path(__file__).parent / "golden").glob("*.txt"))
REWRITE = os.environ.get("CLUSTER_STORE_REWRITE") == "1"
#: What differs from run to run -> what stands for it.
_PASSING = {
    r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|(?<=event )[0-9a-f]{10})\b": "ID",
    r"\b[0-9A-F]{12}\b": "SERIAL",
    r"\b\d{4}-\d\d-\d\dT[\d:.]+Z": "TIME",
}


def admit(store: Store, name: str, group: str) -> None:
    """Let a machine in."""
    machine = store.ask("machine", "show")
    card = commands.Card(
        key=identity(name).key.hex(),
        hostname=f"{name}.example.com",
        serial=f"SERIAL-{name}",
        interfaces={"Management": "192.0.2.7"},
        version=machine["platform_version"],
        ssh_port=22,
        ccs_port=2222,
        listen="",
        host_key=f"ssh-ed25519 host-{name}",
        client_key=f"ssh-ed25519 client-{name}",
    )
    bootstrap.submit(store.root, commands.AdmitMachine(card=card, group=group))


def play(text: str, store: Store) -> str:
    """Run a file's commands; return the file as it is to be."""
    told = []
    for line in text.splitlines():
        if line.startswith("$ "):
            outcome = store.run(*shlex.split(line.removeprefix("$ ")))
            told.append(line)
            told += [f"| {shown}".rstrip() for shown in outcome.out.splitlines()]
            told += [f"! {shown}".rstrip() for shown in outcome.err.splitlines()]
            told += [f"exit status {outcome.status}"] * bool(outcome.status)
        elif not line or line.startswith("#"):
            told.append(line)
    shown = "\n".join(told) + "\n"
    for pattern, name in _PASSING.items():
        shown = re.sub(pattern, name, shown)
    return shown


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_commands_come_to_what_they_came_to_before(file: Path, member: Store) -> None:
    """Every answer, refusal and status is as recorded."""
    admit(member, "mx2", "Main_Group")
    admit(member, "mx3", "paris")
    recorded = file.read_text(encoding="utf-8")
    told = play(recorded, member)
    if REWRITE:
        file.write_text(told, encoding="utf-8")
    else:
        assert told == recorded


def test_there_are_some() -> None:
    """And each begins with a sentence."""
    assert FILES
    assert all(file.read_text(encoding="utf-8").startswith("# ") for file in FILES)
