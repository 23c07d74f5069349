"""The smallest run that still fails: fewer faults, then fewer commands, then fewer faults again.

Every kind of fault throws its own dice, so leaving one out leaves the others as they were, and fewer commands are the
beginning of more. Neither makes a failure certain to stay, so each candidate is run; how many are, is bounded. Faults
come first: while there are many commands, a failure that comes a little later comes all the same.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cluster_store.simulation.options import Options

#: Runs that are tried; a failure that needs many commands and many faults takes about thirty.
RUNS_MAX = 40


class Shrinking:
    """The search for a smaller run."""

    def __init__(self, options: Options, fails: Callable[[Options], bool], runs_max: int = RUNS_MAX) -> None:
        """Begin with a run that is known to fail.

        Args:
            options: of that run.
            fails: runs others, and says whether they fail too.
            runs_max: how often it is asked.
        """
        self.smallest = options
        self.runs = 0
        self._fails = fails
        self._runs_max = runs_max

    def search(self) -> Options:
        """Return the options of the smallest run that was found."""
        self._fewer_faults()
        self._fewer_events()
        self._fewer_faults()
        return self.smallest

    def _fewer_events(self) -> None:
        """Halve the distance between what fails and what does not, as if there were one place where that changes."""
        passing, failing = -1, self.smallest.events
        while failing - passing > 1:
            middle = (passing + failing) // 2
            if self._try(msgspec.structs.replace(self.smallest, events=middle)):
                failing = middle
            else:
                passing = middle

    def _fewer_faults(self) -> None:
        """Leave out all faults, else each half of them, else each one."""
        names = list(self.smallest.faults)
        size = len(names)
        while size > 0:
            for start in range(0, len(names), size):
                left_out = names[start : start + size]
                kept = {name: mean for name, mean in self.smallest.faults.items() if name not in left_out}
                if len(kept) < len(self.smallest.faults):
                    self._try(msgspec.structs.replace(self.smallest, faults=kept))
            size //= 2

    def _try(self, options: Options) -> bool:
        if self.runs >= self._runs_max:
            return False
        self.runs += 1
        failed = self._fails(options)
        if failed:
            self.smallest = options
        return failed
