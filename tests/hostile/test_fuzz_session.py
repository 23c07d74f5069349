"""The fuzz target itself works; the fuzzer is tried where it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile.fuzz_session import one_input, pack, seeds
from tests.hostile.stage import watch_encoder


@pytest.fixture(autouse=True)
def _watched(monkeypatch: pytest.MonkeyPatch) -> None:
    watch_encoder(monkeypatch)


@pytest.mark.parametrize("seed", range(2))
def test_an_honest_conversation_is_an_input(seed: int) -> None:
    """What the fuzzer begins with reaches the store."""
    one_input(seeds()[seed])


@given(st.integers(0, 1), st.integers(0, 5000), st.binary(max_size=3))
def test_whatever_becomes_of_it_is_one_too(seed: int, at: int, put: bytes) -> None:
    """Bytes changed anywhere, lengths among them."""
    data = seeds()[seed]
    at %= len(data)
    one_input(data[:at] + put + data[at + len(put) :])
    one_input(pack(bool(seed), put))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: pip install atheris")
def test_the_fuzzer_finds_nothing_at_once(tmp_path: Path) -> None:
    """A few thousand inputs, from honest seeds."""
    for number, seed in enumerate(seeds()):
        (tmp_path / str(number)).write_bytes(seed)
    command = [sys.executable, "-m", "tests.hostile.fuzz_session", "-runs=3000", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
