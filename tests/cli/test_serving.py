"""``serve`` without typer: what goes that way, and what does not."""

from __future__ import annotations

import pytest
from cluster_store_cli import serving

from cluster_store.adapters.local_client import LOGIN_VARIABLE


def test_a_plain_serve_goes_the_short_way() -> None:
    """With the options that are everywhere it is understood without typer; anything else is left to that."""
    for words in (["serve"], ["--store", "x", "serve"], ["--store", "x", "--json", "serve"], ["serve", "--json"]):
        session = serving.quick(words)
        assert session is not None
        assert session.store == ("x" if "x" in words else None)
        assert session.as_json == ("--json" in words)
    for other in (["get", "serve"], ["serve", "serve"], ["serve", "--help"], ["serve", "--store", "x"], ["--store"]):
        assert serving.quick(other) is None


def test_whoever_logged_in_does_not_go_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused where every command that is not theirs is."""
    monkeypatch.setenv(LOGIN_VARIABLE, "token")
    assert serving.quick(["serve"]) is None
