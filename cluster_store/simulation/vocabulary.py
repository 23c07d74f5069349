"""The names and values that people use in a run: few, so that they meet."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_VALUES = ('"a"', '"b"', "25", "[1,2]", "null", "true")


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """What commands are made of. Values and elements are JSON text."""

    plain_keys: tuple[str, ...] = ("smtp.banner", "smtp.port", "relay.host", "timezone")
    set_keys: tuple[str, ...] = ("relay.domains", "allow.networks")
    #: Used as a secret mostly, as a plain value now and then.
    secret_key: str = "relay.password"  # noqa: S105 - the name of a setting
    #: Plain key -> what it is set to; any other key takes the usual values.
    values: Mapping[str, tuple[str, ...]] = {}
    elements: tuple[str, ...] = ('"x.org"', '"y.org"', '"z.org"', "7")
    #: A group that is there from the beginning, and others that may be there or not.
    home: str = "Main_Group"
    groups: tuple[str, ...] = ("Paris", "Berlin", "paris", "Lyon")

    def values_of(self, key: str) -> tuple[str, ...]:
        """Return what a key may be set to."""
        return self.values.get(key, _VALUES)
