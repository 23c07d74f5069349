"""The questions, in the order in which they are asked. A new one is a file, and takes its place here."""

from __future__ import annotations

from benchmarks import (
    bootstrap,
    branchy,
    callers,
    cold_get,
    commit,
    disk,
    equal,
    hot_key,
    memory,
    merge,
    past,
    reach,
    simulator,
    start,
    verify,
    wide,
)

QUESTIONS = {
    module.QUESTION.name: module.QUESTION
    for module in (
        *(commit, callers, merge, branchy, bootstrap, equal, start, cold_get, reach, past, verify, memory),
        *(disk, hot_key, wide, simulator),
    )
}
