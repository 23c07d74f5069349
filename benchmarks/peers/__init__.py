"""What somebody could use in the place of cluster-store, one file each. Those that are not installed are named."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def invite(*names: str) -> tuple[dict[str, Any], list[str]]:
    """Return the peers' modules that can be imported, by name, and of the others what is missing."""
    here, missing = {}, []
    for name in names:
        try:
            here[name] = import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            missing.append(f"{name}: {error.name} is not installed (pip install 'cluster-store[bench]')")
    return here, missing
