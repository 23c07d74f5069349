"""A group of records is there whole or not at all, wherever its append ends, and whoever asked learns which."""

from __future__ import annotations

import msgspec
import pytest

from cluster_store.core.commands import SetSetting
from cluster_store.simulation.clock import Pause
from cluster_store.simulation.disk_log import Trouble
from cluster_store.simulation.options import draw
from cluster_store.simulation.process import Asked
from cluster_store.simulation.run import Run

#: Records in the group.
GROUP = 5


class Interrupted(Run):
    """Two machines; the first one's append of a group ends when so many of its records are written."""

    def __init__(self, written: int, *, power_lost: bool) -> None:
        options = draw(1, machines=2, events=0, faults=[])
        super().__init__(1, msgspec.structs.replace(options, founders=2, check_every=1))
        self.written = written
        self.power_lost = power_lost
        self.asked: list[Asked] = []
        self.before = 0

    def _live(self) -> None:
        self._converge()
        self._finish(self._interrupt(), 10_000)

    async def _interrupt(self) -> None:
        host = self.fleet.hosts[0]
        clock = self.fleet.clock
        self.before = len(host.log.disk.records)
        share = (self.written + 0.5) / (GROUP + 1)
        trouble = host.log.trouble = Trouble(clock, share, power_lost=self.power_lost)
        assert host.process is not None
        salt = b"s" * 16
        for number in range(GROUP):
            key = f"group.{number}"
            self.asked.append(host.process.submit(SetSetting(key=key, value="1", level="cluster", salt=salt)))
        assert await clock.until(lambda: trouble.struck.is_set, 5000)
        assert len(host.log.disk.uncommitted) == (self.written if self.power_lost else 0)
        if self.power_lost:
            self.fleet.crash(host, power_lost=True)
            self.fleet.start(host)
        await Pause(1000)


@pytest.mark.parametrize("end", ["an error", "a power failure"])
@pytest.mark.parametrize("written", range(GROUP + 1))
def test_an_append_that_ends_anywhere_leaves_nothing(written: int, end: str) -> None:
    """Told of an error, everybody who asked is refused; after a power failure nobody was answered; both can go on."""
    power_lost = end == "a power failure"
    run = Interrupted(written, power_lost=power_lost)
    verdict = run.play()
    assert verdict.passed, "\n".join([verdict.failure, *verdict.trace[-30:]])
    replies = [asked.reply for asked in run.asked]
    if power_lost:
        assert replies == [None] * GROUP
    else:
        told = f"the virtual disk failed after {written} of {GROUP} records"
        assert [reply.error.message for reply in replies if reply and reply.error] == [told] * GROUP
    for host in run.fleet.hosts:
        assert not [path for path in host.log.disk.registers if "group." in path]
    # Each machine's last change, and nothing of the group.
    assert len(run.fleet.hosts[0].log.disk.records) == run.before + 2
