"""What one run of the program works on, and how it speaks: the store, JSON or words, its two streams.

Light to import: ``get`` answers with nothing else loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cluster_store import bootstrap

if TYPE_CHECKING:
    from cluster_store.adapters.drafts import Draft
    from cluster_store.adapters.sqlite_reader import StoreReader
    from cluster_store.core.commands import Command
    from cluster_store.core.roles import Caller
    from cluster_store.core.types import Level

_Aimed = TypeVar("_Aimed", bound="Command")

#: Names the store's folder where --store does not.
STORE_VARIABLE = "CLUSTER_STORE"
#: Shown in place of a secret, as JSON text.
SECRET = '"(secret)"'  # noqa: S105 - says that there is one


class Session:
    """One run of the program."""

    def __init__(self, store: str | None = None, *, as_json: bool = False) -> None:
        """Begin a run.

        Args:
            store: the folder given with --store, if it was.
            as_json: whether to print a JSON document instead of words.
        """
        self.store = store
        self.as_json = as_json
        #: The level that commands are about which name none, in a shell session.
        self.mode: Level | None = None

    def again(self) -> Session:
        """Return a session for another command of the same run."""
        session = Session(self.store)
        session.mode = self.mode
        return session

    @property
    def root(self) -> Path:
        """The store's folder: --store, else $CLUSTER_STORE, else where the platform keeps a user's data."""
        given = self.store or os.environ.get(STORE_VARIABLE)
        if given:
            return Path(given)
        import platformdirs

        return platformdirs.user_data_path("cluster-store", appauthor=False)

    @property
    def login(self) -> Caller | None:
        """Who has logged in and is served here; None where it is the owner of the store's files.

        Raises:
            Refused: the login has ended.
        """
        return bootstrap.whoami(self.root) if bootstrap.is_login() else None

    @property
    def user(self) -> str:
        """Who is served, as the log names them."""
        from cluster_store.adapters.local_socket import os_user

        login = self.login
        return login.user if login is not None else os_user(None)

    @property
    def sees_secrets(self) -> bool:
        """Whether the values of secrets are shown to whoever is served."""
        login = self.login
        if login is None:
            return True
        from cluster_store.core.roles import sees_secrets

        return sees_secrets(login.role)

    def read(self) -> StoreReader:
        """Open the store for reading. Raises StoreError and its kin."""
        return bootstrap.read(self.root, secrets=self.sees_secrets)

    def submit(self, command: Command) -> dict[str, Any]:
        """Have a command carried out; return its result once it is durable. Raises ClusterStoreError."""
        return _warned(bootstrap.submit(self.root, self.aimed(command)))

    def change(self, command: Command, comment: str | None) -> dict[str, Any]:
        """Have a command carried out with a comment, or staged where there is none. Raises ClusterStoreError."""
        if comment is None:
            return _warned(bootstrap.stage(self.root, self.aimed(command)))
        import msgspec

        return self.submit(msgspec.structs.replace(command, comment=comment))

    def commit(self, command: Command, revision: str) -> dict[str, Any]:
        """Have a draft committed as it was looked at. Raises ClusterStoreError."""
        return _warned(bootstrap.commit(self.root, command, revision))

    def draft(self) -> Draft:
        """Return what whoever is served has staged. Raises StoreError and its kin."""
        return bootstrap.draft(self.root, self.user)

    @property
    def staged(self) -> int:
        """How many changes whoever is served has staged; none where what is left of a draft was just set aside."""
        from cluster_store.core.errors import StoreCorrupt

        try:
            return len(self.draft().staged)
        except StoreCorrupt as error:
            note(error.describe())
            return 0

    def aimed(self, command: _Aimed) -> _Aimed:
        """Return a command that is about a level at the session's mode, where it names none and there is a mode.

        Raises:
            Refused: the owner of that level is gone.
        """
        if self.mode is None or getattr(command, "level", "") is not None:
            return command
        import msgspec

        from .modes import refuse_gone

        with self.read() as store:
            cluster = store.cluster()
        refuse_gone(self.mode, cluster)
        return msgspec.structs.replace(command, level=cluster.address(self.mode))

    def execute(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Have an operation done; somebody at a terminal is told how it goes on. Raises ClusterStoreError."""
        progress = note if sys.stderr.isatty() else bootstrap.silent
        return bootstrap.execute(self.root, operation, arguments, progress)

    @contextmanager
    def damage_explained(self) -> Iterator[None]:
        """Tell of the store's damage in the place of what failed over it, which nobody foresaw.

        The bytes of a damaged store may come to anything; where it is whole, the failure is the program's own.
        """
        try:
            yield
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            damage = bootstrap.damage(self.root)
            if damage is None:
                raise
            raise damage from error

    def show(self, document: Any, words: Callable[[], None] | None = None) -> None:
        """Print one JSON document, or call ``words`` to tell people the same.

        ``msgspec.Raw`` in the document stands for JSON text that is printed exactly as it is.
        """
        if self.as_json:
            print_json(document)
        elif words is not None:
            words()

    def report(
        self,
        result: Mapping[str, Any],
        done: str,
        unchanged: str = "nothing to change",
        staged: str = "staged",
        **more: Any,
    ) -> None:
        """Say what a command came to: to people on standard error, and its result as JSON where that is asked for.

        Args:
            result: what ``submit`` returned.
            done: said where it became an event, which is named.
            unchanged: said where all was so already.
            staged: said where it waits in the draft now.
            more: shown beside the result.
        """
        from cluster_store.core.naming import SHORT_ID_DIGITS

        if result.get("staged"):
            note(f"{staged}; 'commit' makes it live, 'diff' shows it")
        else:
            note(f"{done}, event {result['event'][:SHORT_ID_DIGITS]}" if result["changed"] else unchanged)
        self.show({**result, **more})


def _warned(result: dict[str, Any]) -> dict[str, Any]:
    """Tell whoever changed something if this machine's changes reach nobody."""
    if result.get("dismissed"):
        note(result["dismissed"])
    return result


def print_json(document: Any) -> None:
    """Print a document as one line of JSON."""
    import msgspec

    print_bytes(msgspec.json.encode(document) + b"\n")


def print_bytes(data: bytes) -> None:
    """Print what is UTF-8 whatever the terminal is, because a file or a program may be at the other end."""
    sys.stdout.flush()
    left = memoryview(data)
    while left:
        # Where Python was told not to buffer, this writes a part only if whoever reads goes away meanwhile.
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """Print a line of the answer: on standard output."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Tell people something that is not the answer: on standard error."""
    # Where both go to one place, what was said before stands before it.
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
