"""What a bad input is: a name, how it is drawn, how it is sent, and what may come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.stage import Stage, play

#: The link is ended; a Bye tells the peer why where it still understands one.
DROPPED, REFUSED = "dropped", "refused with a reason"
#: Not stored, named to the operator, acknowledged.
WAITS = "waits"
#: Stored, numbered and named, and writes nothing.
VOID = "void"
#: An honest record, or one that only looks odd, is stored and counts.
TAKEN = "taken"
#: Nothing is stored and nothing ends.
IGNORED = "no effect"

FRAME, MESSAGE, RECORD = "frame", "message", "record"


@dataclass(frozen=True)
class Kind:
    """One kind of bad input.

    Attributes:
        level: where it is wrong: in the frame, in the message, in a record.
        name: in words, for the table.
        draw: what Hypothesis draws for one input.
        attack: sends it.
        outcomes: what may come of it.
        greeted: whether the hostile member says an honest hello before it.
    """

    level: str
    name: str
    draw: st.SearchStrategy[Any]
    attack: Callable[[Stage, Any], None]
    outcomes: frozenset[str]
    greeted: bool = True


def run(kind: Kind, count: int | None = None) -> Counter[str]:
    """Try a kind; return how often each outcome came of it. Any other outcome, or a broken promise, fails."""
    seen: Counter[str] = Counter()

    def one(drawn: Any) -> None:
        words = play(kind.attack, drawn, greeted=kind.greeted).words
        assert words <= kind.outcomes, f"{kind.name}: {sorted(words)}"
        seen.update(words)
        seen["tried"] += 1

    # What Hypothesis draws by default is a hundred: enough for one property, too many for fifty of them.
    wanted = count or max(settings().max_examples * 2 // 5, 1)
    profile = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, max_examples=wanted)
    profile(given(kind.draw)(one))()
    return seen
