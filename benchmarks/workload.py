"""Changes as a fleet makes them, the same on every run, and what they must come to, worked out without the product."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from string import ascii_lowercase, digits
from typing import Any, NamedTuple

#: Settings that a mail gateway has, about.
KEYS = tuple(f"{area}.{number:03}" for area in ("smtp", "tls", "dns", "relay", "quota") for number in range(200))
#: All that any question needs, and those of an ordinary cluster.
CROWD = tuple(f"mx{number:02}.example.com" for number in range(1, 43))
MACHINES = CROWD[:20]

_LETTERS = ascii_lowercase + digits + " .-"


class Change(NamedTuple):
    """One setting, as an operator writes it."""

    level: str
    key: str
    #: JSON text of 20 to 60 bytes.
    value: str
    comment: str


def configuration() -> dict[str, str]:
    """Return what the cluster's level begins with: a value for every key."""
    dice = random.Random("configuration")
    return {key: _value(dice) for key in KEYS}


def changes(machine: str, count: int) -> list[Change]:
    """Return what is changed on a machine, in order.

    Four in ten at the cluster's level, three at the group's, three at a machine's, of which four in five are the
    machine's own.
    """
    dice = random.Random(f"changes on {machine}")
    return [
        Change(_level(dice, machine), dice.choice(KEYS), _value(dice), f"ticket {number}") for number in range(count)
    ]


def main_cf(count: int) -> tuple[bytes, dict[str, str]]:
    """Return a file as Postfix reads it, with so many parameters, and what they are: name -> JSON text.

    Each has a comment before it, and one in four goes on on a second line.
    """
    dice = random.Random("main.cf")
    lines, parameters = [], {}
    for number in range(count):
        name, value = f"parameter_{number:04}_restrictions", json.loads(_value(dice)).strip() or "yes"
        rest = "    permit_mynetworks" if number % 4 == 0 else ""
        lines += [f"# What parameter {number} is about.", f"{name} = {value}", *filter(None, [rest])]
        parameters[name] = json.dumps(value + rest)
    return "\n".join(lines).encode() + b"\n", parameters


def plain(paths: Mapping[str, str], some: Iterable[Change]) -> list[tuple[str, str]]:
    """Return changes as paths and values, for those who know no levels; ``paths`` as for ``outcome``."""
    return [(paths[change.level] + change.key, change.value) for change in some]


def _level(dice: random.Random, machine: str) -> str:
    chance = dice.random()
    if chance < 0.4:
        return "cluster"
    if chance < 0.7:
        return "group:Main_Group"
    return f"machine:{machine if dice.random() < 0.8 else dice.choice(MACHINES)}"


def _value(dice: random.Random) -> str:
    return json.dumps("".join(dice.choices(_LETTERS, k=dice.randint(18, 58))))


# --- what it must come to ---

#: Path of a register -> the JSON texts that stand in it.
Standing = Mapping[str, Iterable[str]]


def outcome(paths: Mapping[str, str], *sides: Sequence[Change]) -> dict[str, list[str]]:
    """Return what stands when sides that changed the same configuration apart from each other have met.

    Args:
        paths: level as an operator writes it -> what the paths of its settings begin with.
        sides: changes in order. Of each side the last value of a key stands.
    """
    standing = {paths["cluster"] + key: [value] for key, value in configuration().items()}
    finals = [{paths[change.level] + change.key: change.value for change in side} for side in sides]
    for path in dict.fromkeys(path for final in finals for path in final):
        standing[path] = [final[path] for final in finals if path in final]
    return standing


def answer(standing: Standing) -> str:
    """Return the hash of what stands in the settings' registers."""
    lines = sorted((path, sorted(values)) for path, values in standing.items() if path.startswith("setting/"))
    return sha256(json.dumps(lines).encode()).hexdigest()


def fold(records: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Return what stands after records, envelope and seal: what each wrote, without what a later one replaced."""
    lanes: dict[tuple[str, str], Any] = {}
    for envelope, seal in records:
        record = sha256(envelope + seal).hexdigest()
        for path, value, replaced in json.loads(envelope)["writes"]:
            lanes[path, record] = value
            for other in replaced:
                lanes.pop((path, other), None)
    standing: dict[str, list[str]] = {}
    for (path, _), value in lanes.items():
        standing.setdefault(path, []).append(value)
    return standing
