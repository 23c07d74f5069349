"""What a daemon keeps in memory: after logins, at the peak of a long merge, and after it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic, sleep

from benchmarks import daemons, stores
from benchmarks.harness import Contestant, Goal, Part, Place, Question, Size, Stage, Trial, Unit
from benchmarks.machines import paths_of_settings, standing_in
from benchmarks.stores import PASSWORD, SIDES
from benchmarks.workload import answer, changes, outcome
from cluster_store.adapters.keys import Keys
from cluster_store.adapters.ssh import SshTransport

_PEAK, _AFTER = "at the peak of the merge", "after the merge"
_MIB = 1024 * 1024
#: People who log in at once.
_LOGINS = 3
#: How long a daemon may take to give memory back, seconds, and how long it is to stay the same until that is it.
_SETTLES_S, _SETTLED_S = 20.0, 2.0


def _prepare(place: Place, scales: Sequence[int]) -> Stage:
    contestants: list[Contestant] = []
    goals: list[Goal] = []
    for scale in scales:
        apart = stores.pair(place.shelf, scale, 16)
        expected = answer(outcome(paths_of_settings(), *(changes(hostname, scale) for hostname in SIDES)))
        parts = (Part(_PEAK, Unit.BYTES), Part(_AFTER, Unit.BYTES))
        run = partial(_live, apart)
        daemon = Contestant("daemon", scale, 1, expected, run, unit=Unit.BYTES, parts=parts)
        contestants.append(daemon)
        goals += [
            Goal(daemon, at_most=80 * _MIB),
            Goal(daemon.part(_PEAK), at_most=160 * _MIB),
            Goal(daemon.part(_AFTER), at_most=90 * _MIB),
        ]
    return Stage(contestants, goals=goals)


def _live(apart: Path, folder: Path) -> Trial:
    shutil.copytree(apart, folder, dirs_exist_ok=True)
    here, there = (folder / hostname for hostname in SIDES)
    with daemons.serving(here) as process:
        where = daemons.first_answer(here)
        asyncio.run(_log_in(str(where["listen"]), int(where["ssh_port"])))
        steady = _settled(process.pid)
        # From here on the system counts the peak anew.
        Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")
        with daemons.serving(there):
            daemons.wait_until_equal(here, there)
            peak, after = _resident(process.pid, "VmHWM"), _settled(process.pid)
    answers = {answer(standing_in(one)) for one in (here, there)}
    return Trial(steady, " or ".join(sorted(answers)), {_PEAK: peak, _AFTER: after})


async def _log_in(host: str, port: int) -> None:
    """Log in as several people at once, each with the password."""
    transport = SshTransport(Keys.generate())

    async def accept(_: str) -> bool:
        return True

    request = {"operation": "nothing"}
    await asyncio.gather(*(transport.ask(host, port, "admin", PASSWORD, accept, request) for _ in range(_LOGINS)))


def _settled(process: int) -> float:
    """Return what a process keeps once that has stopped to shrink."""
    least, since = _resident(process, "VmRSS"), monotonic()
    deadline = since + _SETTLES_S
    while monotonic() < deadline and monotonic() - since < _SETTLED_S:
        sleep(0.1)
        now = _resident(process, "VmRSS")
        if now < least:
            least, since = now, monotonic()
    return least


def _resident(process: int, name: str) -> float:
    """Return what the system says of a process's memory, bytes: ``VmRSS`` or ``VmHWM``."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise daemons.DaemonFailed(f"the process {process} is gone")


QUESTION = Question(
    name="memory",
    title="A daemon's memory, 20 machines, logins included, with as many events on each of two machines",
    operation="daemon",
    scale="events",
    rounds={Size.SMOKE: 1, Size.REAL: 1},
    scales={Size.SMOKE: (20,), Size.REAL: (50_000,)},
    prepare=_prepare,
    daemons=True,
)
