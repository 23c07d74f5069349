"""What tests of configuration files read them with."""

from __future__ import annotations

from typing import Any, Final

import yaml

from cluster_store.core.values import to_python
from cluster_store.formats import read_config, yaml_file

#: YAML's parser in C, where there is one, and the one in Python.
LOADERS: Final = [yaml_file.LOADER, yaml.SafeLoader]


def load(text: str, kind: str) -> dict[str, str]:
    """Return the settings of a text that gives no cause for warnings."""
    loaded = read_config(text.encode(), f"main.{kind}")
    assert loaded.warnings == []
    return loaded.settings


def values(text: str, kind: str) -> dict[str, Any]:
    """Return the settings of a text as Python values."""
    return {key: to_python(value) for key, value in load(text, kind).items()}
