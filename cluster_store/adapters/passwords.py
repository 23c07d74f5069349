"""Passwords, by argon2id at the parameters that OWASP recommends for it: 19 MiB, two passes, one lane."""

from __future__ import annotations

import asyncio
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
#: One at a time: a flood of logins must not take a flood of memory.
_gate = asyncio.Semaphore(1)


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password."""
    return _hasher.hash(_spelt(password))


async def verify(stored: str, password: str) -> bool:
    """Say whether a password is the one that was hashed; never for an empty hash. Takes its time either way."""
    async with _gate:
        matches = await asyncio.to_thread(_matches, stored or _nobody(), password)
    return matches and bool(stored)


@cache
def _nobody() -> str:
    """Return what is verified where a user has no password, so that names cannot be told apart by time."""
    return _hasher.hash("")


def _spelt(password: str) -> str:
    # SSH brings passwords in this form, whichever way a keyboard composed their letters.
    return unicodedata.normalize("NFKC", password)


def _matches(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, _spelt(password))
    except (VerificationError, InvalidHashError):
        return False
