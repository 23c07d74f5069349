"""A real mail server's configuration: loaded, shared, and written back as that server reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.machines import Fleet, converged

POSTCONF = shutil.which("postconf") or shutil.which("postconf", path="/usr/sbin:/usr/local/sbin")

pytestmark = [
    pytest.mark.postfix,
    pytest.mark.skipif(POSTCONF is None, reason="postconf is not installed"),
]


def postconf(*arguments: str) -> str:
    """Return what postconf prints."""
    assert POSTCONF is not None
    done = subprocess.run([POSTCONF, *arguments], capture_output=True, check=True, timeout=30)
    return done.stdout.decode()


def test_postfix_parameters_are_one_event_and_come_back_as_they_were(machines: Fleet) -> None:
    """All of ``postconf -d`` is loaded as one event, reaches another machine, and is the same to Postfix there."""
    mx1, mx2 = machines.cluster("mx1", "mx2")
    before = mx1.status()["records"]
    defaults = machines.folder / "defaults.cf"
    defaults.write_text(postconf("-d"))
    mx1.do("loadconfig", str(defaults), "--level", "cluster", "-m", "Debian's own")
    assert mx1.status()["records"] == before + 1
    event = mx1.events()[-1]
    assert event["comment"] == "Debian's own"
    assert len(event["writes"]) > 900
    converged(mx1, mx2)

    folder = machines.folder / "postfix"
    folder.mkdir()
    (folder / "main.cf").write_text(mx2.do("showconfig", "--format", "cf"))
    shutil.copy(Path(postconf("-d", "-h", "config_directory").strip()) / "master.cf", folder)
    names = [line.partition(" =")[0] for line in defaults.read_text().splitlines()]
    # What differs from one run of postconf to the next: where it was told to look, and its process.
    names = [name for name in names if name not in {"config_directory", "process_id"}]
    assert postconf("-c", str(folder), *names) == postconf("-d", *names)
    mx1.verify()
