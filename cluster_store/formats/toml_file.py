"""TOML, by the standard library, which tells no places: messages name the key instead."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import Any

from cluster_store.core import limits
from cluster_store.core.errors import InvalidValue


def read(text: str, name: str) -> dict[str, Any]:
    """Return a TOML document as a tree. Raises InvalidValue where it is not TOML.

    Dates, times and floats that would not come back are left in it as what they are (``Decimal`` for the latter), for
    whoever knows their keys to refuse.
    """
    try:
        return tomllib.loads(text, parse_float=_to_float)
    except ValueError as error:
        # Not only what is no TOML: Python also refuses to convert an integer of more than 4,300 digits.
        raise InvalidValue(f"{name}: {error}", "mend the file, or write the value as a string") from error
    except RecursionError as error:
        raise InvalidValue(f"{name}: nested more than {limits.JSON_DEPTH_MAX} deep") from error


def _to_float(word: str) -> float | Decimal:
    digits = word.replace("_", "")
    value = float(digits)
    return value if repr(value) == digits else Decimal(digits)
